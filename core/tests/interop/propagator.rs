//! What the propagator does with the contexts of OpenTelemetry's API and SDK.

use std::collections::{BTreeMap, BTreeSet};

use http::{HeaderMap, HeaderValue};
use opentelemetry::baggage::{Baggage as OtelBaggage, BaggageExt};
use opentelemetry::propagation::{TextMapCompositePropagator, TextMapPropagator};
use opentelemetry::trace::{
    SpanContext as OtelSpanContext, TraceContextExt, TraceState as OtelTraceState, Tracer, TracerProvider,
};
use opentelemetry::{Context, KeyValue};
use opentelemetry_sdk::propagation::{BaggagePropagator, TraceContextPropagator};
use opentelemetry_sdk::trace::SdkTracerProvider;
use tracebaton::interop::opentelemetry::TracebatonContextExt;
use tracebaton::policy::InboundMode;
use tracebaton::rule::{Rule, RuleSet};
use tracebaton::{Outbound, Policy, SpanId, TraceFlags, TraceId, TracebatonPropagator, extract, inject};

use crate::{Lines, TRACE, TRACEPARENT, extracted, injected, lines, quiet};

#[test]
fn five_services_on_the_sdk_leave_foreign_bytes_alone() {
    // Keys that their TraceState refuses, white space, an empty member; escapes in lower case, properties, a name
    // that stands twice.
    let tracestate = "v@@x=1 ,\ta= 2,,z*/-_@9=~!\"#$";
    let foreign = "z=%c3%A4;p=%2C;q , y=1,z=+%2B;r = s,\tempty=";
    let tracer = SdkTracerProvider::builder().build().tracer("test");
    let mut carrier = lines(&[("Traceparent", TRACEPARENT), ("Tracestate", tracestate), ("Baggage", foreign)]);
    for hop in 1..=5 {
        let propagator = TracebatonPropagator::new().with_source(format!("service-{hop}"));
        let propagator = propagator.with_session(format!("session {hop}")).unwrap();
        let cx = propagator.extract_with_context(&Context::new(), &carrier);
        assert!(cx.dropped().is_empty());
        let span = tracer.start_with_context("handle", &cx);
        let cx = cx.with_span(span);
        let headers = injected(&propagator, &cx);
        let span_id = cx.span().span_context().span_id();
        assert_eq!(headers["traceparent"], format!("00-{TRACE}-{span_id}-03"));
        assert_eq!(headers["tracestate"], tracestate);
        // The first service's session holds for all.
        assert_eq!(headers["baggage"], format!("session_id=session%201,source=service-{hop},{foreign}"));
        carrier = Lines(headers.into_iter().collect());
    }
}

#[test]
fn five_services_with_the_sdks_propagators_between() {
    let sdk = TextMapCompositePropagator::new(vec![
        Box::new(TraceContextPropagator::new()),
        Box::new(BaggagePropagator::new()),
    ]);
    let tracer = SdkTracerProvider::builder().build().tracer("test");
    let mut carrier =
        lines(&[("traceparent", TRACEPARENT), ("tracestate", "a=1,b=2"), ("baggage", "k=%C3%A4;p=1;q,l=2")]);
    for hop in 1..=5 {
        let headers = match hop {
            // Core alone, the propagator of the SDK, and ours.
            1 => {
                let inbound = extract(&carrier.0, &Policy::default());
                let span = inbound.span.unwrap().child(SpanId::random([1; 8]), true);
                let mut headers = BTreeMap::<String, String>::new();
                let out = Outbound {
                    span: Some(&span),
                    session: Some("s 1"),
                    source: Some("one"),
                    inbound: Some(&inbound.baggage),
                    ..Outbound::default()
                };
                inject(&mut headers, &out);
                headers.into_iter().collect()
            }
            2 | 4 => {
                let cx = sdk.extract_with_context(&Context::new(), &carrier);
                let span = tracer.start_with_context("hop", &cx);
                injected(&sdk, &cx.with_span(span))
            }
            _ => {
                let ours = TracebatonPropagator::new().with_source("ours");
                let cx = ours.extract_with_context(&Context::new(), &carrier);
                assert_eq!(cx.session(), Some("s 1"));
                let span = tracer.start_with_context("hop", &cx);
                injected(&ours, &cx.with_span(span))
            }
        };
        // Their flags lose the random bit at the second service, and their baggage loses its order.
        let flags = if hop == 1 { "03" } else { "01" };
        assert!(headers["traceparent"].starts_with(&format!("00-{TRACE}-")));
        assert!(headers["traceparent"].ends_with(flags), "{hop}");
        assert_eq!(headers["tracestate"], "a=1,b=2");
        let source = if hop < 3 { "source=one" } else { "source=ours" };
        let members: BTreeSet<_> = headers["baggage"].split(',').collect();
        assert_eq!(members, BTreeSet::from(["session_id=s%201", source, "k=%C3%A4;p=1;q", "l=2"]), "{hop}");
        carrier = Lines(headers.into_iter().collect());
    }
}

#[test]
fn what_is_not_sampled_stays_random() {
    // A span that the SDK drops has no flags at all.
    let propagator = quiet();
    let not_sampled = TRACEPARENT.replace("-03", "-02");
    let cx = extracted(&propagator, &[("traceparent", &not_sampled), ("tracestate", "a@b=1")]);
    let span = SdkTracerProvider::builder().build().tracer("test").start_with_context("dropped", &cx);
    let headers = injected(&propagator, &cx.with_span(span));
    assert!(headers["traceparent"].ends_with("-02"));
    assert_eq!(headers["tracestate"], "a@b=1");
}

#[test]
fn another_trace_takes_nothing_over() {
    let propagator = quiet();
    let cx = extracted(&propagator, &[("traceparent", TRACEPARENT), ("tracestate", "a=1"), ("baggage", "k=v")]);
    let (trace_id, span_id) = (TraceId::random([7; 16]), SpanId::random([7; 8]));
    let other = OtelSpanContext::new(
        trace_id.into(),
        span_id.into(),
        TraceFlags::SAMPLED.into(),
        false,
        OtelTraceState::default(),
    );
    let headers = injected(&propagator, &cx.with_remote_span_context(other));
    assert_eq!(headers["traceparent"], format!("00-{trace_id}-{span_id}-01"));
    assert_eq!(headers["tracestate"], "");
    assert_eq!(headers["baggage"], "k=v");
}

#[test]
fn changes_to_tracestate_stand_in_front() {
    let propagator = quiet();
    let cx = extracted(&propagator, &[("traceparent", TRACEPARENT), ("tracestate", "v@@x=1 , a=1,b=2,c=3")]);
    let remote = cx.span().span_context().clone();
    assert_eq!(remote.trace_state().header(), "a=1,b=2,c=3");
    let state = remote.trace_state().insert("b", "new").unwrap().insert("n", "1").unwrap().delete("c").unwrap();
    let changed = OtelSpanContext::new(remote.trace_id(), remote.span_id(), remote.trace_flags(), false, state);
    let headers = injected(&propagator, &cx.with_remote_span_context(changed));
    assert_eq!(headers["tracestate"], "n=1,b=new,v@@x=1,a=1");
}

#[test]
fn a_span_that_a_framework_has_begun_stays_the_parent() {
    let tracer = SdkTracerProvider::builder().build().tracer("test");
    let headers = [("traceparent", TRACEPARENT), ("tracestate", "v@@x=1,a=2"), ("baggage", "session_id=s,k=v")];
    // The SDK's propagator discards a tracestate with a key that it does not know.
    let theirs = TraceContextPropagator::new().extract_with_context(&Context::new(), &lines(&headers));
    assert!(theirs.span().span_context().trace_state().header().is_empty());
    let span = tracer.start_with_context("framework", &theirs);
    let local = theirs.with_span(span);
    let cx = quiet().extract_with_context(&local, &lines(&headers));
    assert_eq!(cx.span().span_context(), local.span().span_context());
    assert_eq!(cx.session(), Some("s"));
    let sent = injected(&quiet(), &cx);
    assert_eq!(sent["tracestate"], "v@@x=1,a=2");
    assert!(sent["traceparent"].ends_with("-03"));
    // Keys that stand twice, which their TraceState shows as they are.
    let headers = [headers[0], ("tracestate", "b=1,a=1 , b=2"), headers[2]];
    let theirs = TraceContextPropagator::new().extract_with_context(&Context::new(), &lines(&headers));
    let local = theirs.with_span(tracer.start_with_context("framework", &theirs));
    let cx = quiet().extract_with_context(&local, &lines(&headers));
    assert_eq!(injected(&quiet(), &cx)["tracestate"], "b=1,a=1 , b=2");
    // A local span of another trace gives way to the caller's.
    let other = Context::new().with_span(tracer.start("other"));
    let cx = quiet().extract_with_context(&other, &lines(&headers));
    assert!(cx.span().span_context().is_remote());
}

#[test]
fn the_api_shows_baggage_and_its_changes_count() {
    let propagator = quiet();
    let cx = extracted(&propagator, &[("baggage", "a=%41;p=1;q , b=2,c=%c3%a4,a=%42;r")]);
    let baggage = cx.baggage();
    let (value, metadata) = baggage.get_with_metadata("a").unwrap();
    assert_eq!((value.as_str(), metadata.as_str()), ("B", "r"));
    assert_eq!(baggage.get("c").unwrap().as_str(), "ä");
    let with = |change: &dyn Fn(&mut OtelBaggage)| {
        let mut baggage = OtelBaggage::from_iter(
            cx.baggage().iter().map(|(key, (value, metadata))| (key.clone(), (value.clone(), metadata.clone()))),
        );
        change(&mut baggage);
        injected(&propagator, &cx.with_baggage(baggage)).remove("baggage")
    };
    let untouched = "a=%41;p=1;q , b=2,c=%c3%a4,a=%42;r";
    assert_eq!(with(&|_| {}).unwrap(), untouched);
    let changed = with(&|baggage| {
        baggage.insert("b", "new value");
        baggage.insert_with_metadata("n", "1", "once");
        baggage.remove("c");
    });
    assert_eq!(changed.unwrap(), "b=new%20value,n=1;once,a=%41;p=1;q,a=%42;r");
    // The same value without its properties is a change.
    assert_eq!(with(&|baggage| drop(baggage.insert("a", "B"))).unwrap(), "a=B,b=2,c=%c3%a4");
    assert_eq!(injected(&propagator, &cx.with_cleared_baggage()).get("baggage"), None);
}

#[test]
fn members_that_their_type_has_no_room_for_are_passed_on() {
    let propagator = quiet();
    let many: Vec<_> = (0..180).map(|at| format!("k{at}={at}")).collect();
    let text = many.join(",");
    let cx = extracted(&propagator, &[("baggage", &text)]);
    assert_eq!(cx.baggage().len(), 64);
    assert_eq!(injected(&propagator, &cx)["baggage"], text);
    // What is set under the name of a hidden one takes its place, and clearing all clears these too.
    let set = injected(&propagator, &cx.with_baggage([KeyValue::new("k0", "0"), KeyValue::new("k100", "new")]));
    assert!(set["baggage"].starts_with("k100=new,k0=0,k64=64,"));
    assert!(!set["baggage"].contains("k100=100") && set["baggage"].ends_with(",k179=179"));
    assert_eq!(injected(&propagator, &cx.with_cleared_baggage()).get("baggage"), None);
}

#[test]
fn restart_begins_a_new_trace_after_somebody_has_read_the_headers() {
    let headers = [("traceparent", TRACEPARENT), ("baggage", "session_id=s")];
    let theirs = TraceContextPropagator::new().extract_with_context(&Context::new(), &lines(&headers));
    assert!(theirs.span().span_context().is_remote());
    let restart = quiet().with_policy(Policy { inbound: InboundMode::Restart, ..Policy::default() });
    let cx = restart.extract_with_context(&theirs, &lines(&headers));
    assert!(!cx.span().span_context().is_valid());
    assert_eq!(cx.caller().map(|span| span.trace_id.to_string()).as_deref(), Some(TRACE));
    assert_eq!(cx.session(), Some("s"));
    let span = SdkTracerProvider::builder().build().tracer("test").start_with_context("root", &cx);
    let cx = cx.with_span(span);
    assert_ne!(cx.span().span_context().trace_id().to_string(), TRACE);
    // A local span stays.
    let again = restart.extract_with_context(&cx, &lines(&headers));
    assert_eq!(again.span().span_context(), cx.span().span_context());
}

#[test]
fn headers_that_are_shared_between_hosts() {
    let propagator = quiet().with_session("own").unwrap();
    let cx = extracted(&propagator, &[("baggage", "user=alice , k=1;p")]);
    let changed = cx.with_baggage([KeyValue::new("user", "bob"), KeyValue::new("plan", "gold")]);
    let mut shared = vec![(String::from("baggage"), String::from("mine=1"))];
    propagator.inject_into(&cx, &mut shared, Some("http://agent/"));
    assert_eq!(shared[0].1, "session_id=own,mine=1,user=alice , k=1;p");
    // What the application has deleted or changed since goes, too.
    propagator.inject_into(&changed, &mut shared, Some("https://api.example.com/"));
    assert_eq!(shared[0].1, "mine=1");
}

#[test]
fn what_the_application_set_before_stays() {
    let before = Context::new().with_baggage([KeyValue::new("app", "1"), KeyValue::new("k", "old")]);
    let cx = quiet().extract_with_context(&before, &lines(&[("baggage", "k=v;p")]));
    assert_eq!(cx.baggage().get("k").unwrap().as_str(), "v");
    assert_eq!(injected(&quiet(), &cx)["baggage"], "app=1,k=v;p");
    // Without headers of ours the context stays as it is.
    let same = quiet().extract_with_context(&before, &lines(&[("host", "x")]));
    assert_eq!(same.baggage().get("k").unwrap().as_str(), "old");
}

#[test]
fn the_innermost_session_is_sent() {
    let propagator = TracebatonPropagator::new().with_session("own").unwrap().with_project("mine");
    assert_eq!(injected(&propagator, &Context::new())["baggage"], "session_id=own,project=mine,source=dev");
    let cx = extracted(&propagator, &[("baggage", "honeyhive.session_id=caller,project=theirs")]);
    assert_eq!((cx.session(), cx.project()), (Some("caller"), Some("theirs")));
    assert_eq!(injected(&propagator, &cx)["baggage"], "session_id=caller,project=theirs,source=dev");
    let inner = cx.with_session("inner").unwrap();
    assert_eq!(injected(&propagator, &inner)["baggage"], "session_id=inner,project=theirs,source=dev");
    assert!(cx.with_session("").is_err() && TracebatonPropagator::new().with_session("").is_err());
    // Nothing of it in a log.
    assert!(!format!("{propagator:?}").contains("own"));
}

#[test]
fn the_policy_holds() {
    let headers = [("traceparent", TRACEPARENT), ("baggage", "session_id=s,k=v")];
    let with = |policy| quiet().with_policy(policy);
    let restart = extracted(&with(Policy { inbound: InboundMode::Restart, ..Policy::default() }), &headers);
    assert!(!restart.span().span_context().is_valid());
    assert_eq!(restart.caller().unwrap().trace_id.to_string(), TRACE);
    assert_eq!(restart.session(), Some("s"));
    let ignore = extracted(&with(Policy { inbound: InboundMode::Ignore, ..Policy::default() }), &headers);
    assert!(!ignore.span().span_context().is_valid() && ignore.baggage().is_empty());
    assert_eq!(ignore.dropped(), RuleSet::from(Rule::PolicyIgnored));
    let stranger = with(Policy { accept_session: false, ..Policy::default() });
    let cx = extracted(&stranger, &headers);
    assert_eq!((cx.session(), cx.baggage().len()), (None, 1));
    assert_eq!(injected(&stranger, &cx)["baggage"], "k=v");
}

#[test]
fn a_destination_is_asked_for_and_a_carrier_is_merged() {
    let propagator = TracebatonPropagator::new().with_session("s").unwrap();
    let cx = propagator.extract_from(&Context::new(), &[("traceparent", TRACEPARENT), ("baggage", "k=v")]);
    let start = || {
        let mut headers = HeaderMap::new();
        headers.insert("baggage", HeaderValue::from_static("mine=1"));
        headers.insert("tracestate", HeaderValue::from_static("stale=1"));
        headers
    };
    let mut local = start();
    propagator.inject_into(&cx, &mut local, Some("http://agent:8000/"));
    assert_eq!(local["baggage"], "session_id=s,source=dev,mine=1,k=v");
    assert_eq!((&local["traceparent"], local.get("tracestate")), (&HeaderValue::from_static(TRACEPARENT), None));
    let mut outside = start();
    propagator.inject_into(&cx, &mut outside, Some("https://api.example.com/"));
    // What the application itself wrote for this destination stays.
    assert_eq!((&outside["traceparent"], &outside["baggage"]), (&local["traceparent"], &start()["baggage"]));
    let mut unknown = start();
    propagator.inject_into(&cx, &mut unknown, None);
    assert_eq!(unknown, local);
}

#[test]
fn fields_are_the_three_headers() {
    assert_eq!(quiet().fields().collect::<Vec<_>>(), ["traceparent", "tracestate", "baggage"]);
}

//! The types of other crates: `http`, `opentelemetry`, `serde_json`, `uuid`.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]
#![allow(clippy::print_stdout, reason = "what a test prints is shown if it fails")]

use std::collections::{BTreeMap, BTreeSet, HashMap};

use http::{HeaderMap, HeaderValue};
use opentelemetry::baggage::{Baggage as OtelBaggage, BaggageExt};
use opentelemetry::propagation::{Extractor as OtelExtractor, TextMapCompositePropagator, TextMapPropagator};
use opentelemetry::trace::{
    SpanContext as OtelSpanContext, TraceContextExt, TraceState as OtelTraceState, Tracer, TracerProvider,
};
use opentelemetry::{Context, KeyValue};
use opentelemetry_sdk::propagation::{BaggagePropagator, TraceContextPropagator};
use opentelemetry_sdk::trace::SdkTracerProvider;
use proptest::prelude::{Strategy, prop_assert_eq, proptest};
use serde_json::{Value as Json, json};
use tracebaton::interop::opentelemetry::{InvalidSpanContext, TracebatonContextExt};
use tracebaton::policy::InboundMode;
use tracebaton::rule::{Rule, RuleSet};
use tracebaton::{
    Baggage, Extractor, Injector, Outbound, Policy, SpanContext, SpanId, TraceFlags, TraceId, TraceState,
    TracebatonPropagator, Value, extract, inject,
};

const TRACEPARENT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-03";
const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";

/// A carrier of OpenTelemetry that keeps names and lines as they are and finds names in any case, as servers' do.
struct Lines(Vec<(String, String)>);

impl OtelExtractor for Lines {
    fn get(&self, key: &str) -> Option<&str> {
        self.get_all(key)?.first().copied()
    }

    fn keys(&self) -> Vec<&str> {
        self.0.iter().map(|(name, _)| name.as_str()).collect()
    }

    fn get_all(&self, key: &str) -> Option<Vec<&str>> {
        let found = self.0.iter().filter(|(name, _)| name.eq_ignore_ascii_case(key));
        let values: Vec<_> = found.map(|(_, value)| value.as_str()).collect();
        (!values.is_empty()).then_some(values)
    }
}

fn lines(headers: &[(&str, &str)]) -> Lines {
    Lines(headers.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect())
}

fn extracted(propagator: &TracebatonPropagator, headers: &[(&str, &str)]) -> Context {
    propagator.extract_with_context(&Context::new(), &lines(headers))
}

fn injected(propagator: &dyn TextMapPropagator, cx: &Context) -> HashMap<String, String> {
    let mut headers = HashMap::new();
    propagator.inject_context(cx, &mut headers);
    headers
}

/// Without source, so that only what came in and what was set is sent.
fn quiet() -> TracebatonPropagator {
    TracebatonPropagator::new().with_source("")
}

mod opentelemetry_propagator {
    use super::*;

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
        assert_eq!(headers.get("tracestate"), None);
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

    /// What these cases are about their types do not have, or the propagator does more than the function that they
    /// describe: it takes the session and the project of a caller over.
    const NOT_THROUGH_THE_API: [&str; 9] = [
        // A carrier that finds a name in any case does not tell its other spellings apart.
        "one traceparent under two spellings",
        "two traceparents under two spellings",
        "WSGI environ with the process environment",
        // The caller's are written in front.
        "empty values of ours are not written",
        "what we do not write is passed on",
        "rejected session",
        "aliases of the project go",
        // The API never shows a rejected session.
        "API shows a rejected session",
        // Their baggage has no room for it.
        "the application spends the budget first",
    ];

    #[test]
    fn vectors_of_extraction() {
        let ran = run("extract.json", |input, expected| {
            let propagator = quiet().with_policy(policy(&input["policy"]));
            let cx = propagator.extract_with_context(&Context::new(), &Lines(pairs(&input["carrier"])));
            let span = cx.span();
            let text = |field: &str| expected["span"][field].as_str().map(str::to_owned);
            let sent = injected(&propagator, &cx);
            if expected["span"].is_null() {
                assert!(!span.span_context().is_valid());
                assert_eq!(sent.get("traceparent"), None);
            } else {
                assert!(span.span_context().is_remote());
                let flags = expected["span"]["flags"].as_u64().unwrap();
                let traceparent = format!("00-{}-{}-{flags:02x}", text("trace_id").unwrap(), text("span_id").unwrap());
                assert_eq!(sent["traceparent"], traceparent);
                assert_eq!(sent.get("tracestate").cloned(), text("tracestate").filter(|state| !state.is_empty()));
            }
            assert_eq!(cx.caller().map(|link| json!(link.trace_id.to_string())), link_id(expected));
            let kept = parse(expected["baggage"].as_str().unwrap());
            assert_eq!(cx.baggage().len(), kept.entries().count());
            for member in kept.entries() {
                let (value, metadata) = cx.baggage().get_with_metadata(member.name()).unwrap();
                assert_eq!(value.as_str(), member.value());
                assert_eq!(metadata.as_str(), member.properties_raw().unwrap_or_default());
            }
            assert_eq!(json!(cx.session()), expected["session"]);
            assert_eq!(json!(cx.project()), expected["project"]);
            let dropped = expected["dropped"].as_array().unwrap().iter();
            assert_eq!(cx.dropped(), dropped.map(|id| Rule::from_id(id.as_str().unwrap()).unwrap()).collect());
        });
        assert!(ran > 60, "{ran}");
    }

    #[test]
    fn vectors_of_injection() {
        let ran = run("inject.json", |input, expected| {
            // This is no browser.
            if input["origin"].is_string() {
                return;
            }
            let propagator = TracebatonPropagator::new()
                .with_source(input["source"].as_str().unwrap_or_default())
                .with_project(input["project"].as_str().unwrap_or_default())
                .with_policy(policy(&input["policy"]));
            let mut cx = Context::new();
            let span = &input["span"];
            let mut headers = Vec::new();
            if span.is_object() {
                let flags = span["flags"].as_u64().unwrap();
                let (trace_id, span_id) = (span["trace_id"].as_str().unwrap(), span["span_id"].as_str().unwrap());
                headers.push(("traceparent".to_owned(), format!("00-{trace_id}-{span_id}-{flags:02x}")));
                headers.push(("tracestate".to_owned(), span["tracestate"].as_str().unwrap().to_owned()));
            }
            headers.extend(input["inbound"].as_str().map(|text| ("baggage".to_owned(), text.to_owned())));
            cx = propagator.extract_with_context(&cx, &Lines(headers));
            if let Some(session) = input["session"].as_str() {
                cx = cx.with_session(session).unwrap();
            }
            // The application's entries beside what the API shows, or all that it shows from now on.
            let mut view = OtelBaggage::new();
            if input["api"].is_null() {
                cx.baggage().iter().for_each(|(key, (value, metadata))| {
                    view.insert_with_metadata(key.clone(), value.clone(), metadata.clone());
                });
            }
            for entry in [&input["api"], &input["application"]].into_iter().filter_map(Json::as_array).flatten() {
                let (name, value) = (entry[0].as_str().unwrap(), entry[1].as_str().unwrap());
                // Who leaves a value leaves its metadata.
                let shown = cx.baggage().get_with_metadata(name).filter(|(shown, _)| shown.as_str() == value);
                let metadata = entry[2].as_str().or_else(|| shown.map(|(_, metadata)| metadata.as_str()));
                view.insert_with_metadata(name.to_owned(), value.to_owned(), metadata.unwrap_or_default());
            }
            let mut carrier = pairs(&input["carrier"]);
            let cx = cx.with_baggage(view);
            let to = input["to"].as_array().cloned().unwrap_or_else(|| vec![input["to"].clone()]);
            to.iter().for_each(|to| propagator.inject_into(&cx, &mut carrier, to.as_str()));
            carrier.sort();
            let mut wanted = pairs(&expected["carrier"]);
            wanted.sort();
            assert_eq!(carrier, wanted);
        });
        assert!(ran > 40, "{ran}");
    }

    fn link_id(expected: &Json) -> Option<Json> {
        expected["link"].get("trace_id").cloned()
    }

    fn parse(text: &str) -> Baggage {
        Baggage::parse(&[text.as_bytes()], usize::MAX, usize::MAX, &mut RuleSet::default())
    }

    fn run(file: &str, check: impl Fn(&Json, &Json)) -> usize {
        let path = format!("{}/../tests/vectors/{file}", env!("CARGO_MANIFEST_DIR"));
        let file: Json = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
        let mut ran = 0;
        for case in file["cases"].as_array().unwrap().iter().cloned().map(expand) {
            let name = case["name"].as_str().unwrap();
            if !NOT_THROUGH_THE_API.contains(&name) {
                println!("{name}");
                check(&case["input"], &case["expected"]);
                ran += 1;
            }
        }
        ran
    }

    /// A value with its `$text` and `$join` written out.
    fn expand(value: Json) -> Json {
        match value {
            Json::Array(items) => items.into_iter().map(expand).collect(),
            Json::Object(fields) => {
                if let Some([text, times]) = fields.get("$text").and_then(Json::as_array).map(Vec::as_slice) {
                    return text.as_str().unwrap().repeat(usize::try_from(times.as_u64().unwrap()).unwrap()).into();
                }
                if let Some(parts) = fields.get("$join").and_then(Json::as_array) {
                    let parts = parts.iter().map(|part| expand(part.clone()).as_str().unwrap().to_owned());
                    return parts.collect::<String>().into();
                }
                if let Some([item, times]) = fields.get("$list").and_then(Json::as_array).map(Vec::as_slice) {
                    return vec![expand(item.clone()); usize::try_from(times.as_u64().unwrap()).unwrap()].into();
                }
                fields.into_iter().map(|(key, value)| (key, expand(value))).collect::<serde_json::Map<_, _>>().into()
            }
            other => other,
        }
    }

    fn pairs(carrier: &Json) -> Vec<(String, String)> {
        let text = |value: &Json| value.as_str().unwrap().to_owned();
        carrier.as_array().into_iter().flatten().map(|pair| (text(&pair[0]), text(&pair[1]))).collect()
    }

    fn policy(value: &Json) -> Policy {
        let mut policy = Policy::default();
        for (key, value) in value.as_object().into_iter().flatten() {
            match key.as_str() {
                "inbound" => policy.inbound = value.as_str().unwrap().parse().unwrap(),
                "accept_session" => policy.accept_session = value.as_bool().unwrap(),
                "accept_project" => policy.accept_project = value.as_bool().unwrap(),
                "max_members" => policy.max_members = usize::try_from(value.as_u64().unwrap()).unwrap(),
                "max_bytes" => policy.max_bytes = usize::try_from(value.as_u64().unwrap()).unwrap(),
                "propagate_to" => policy.propagate_to = serde_json::from_value(value.clone()).unwrap(),
                other => panic!("{other}"),
            }
        }
        policy
    }
}

fn tracestate() -> impl Strategy<Value = String> {
    let member = ("[a-z0-9][a-z0-9_*/@-]{0,20}", "[ -+--<>-~]{0,9}[!-+--<>-~]");
    proptest::collection::btree_map(member.0, member.1, 0..=32)
        .prop_map(|members| members.iter().map(|(key, value)| format!("{key}={value}")).collect::<Vec<_>>().join(","))
}

fn baggage() -> impl Strategy<Value = String> {
    // The names are none of ours.
    let member = "[a-d]{1,3}=[!#-+\\--:<-\\[\\]-~]{0,6}(;[a-z]{1,3}(=[a-z%]{0,3})?){0,2}";
    proptest::collection::vec(member, 0..=180).prop_map(|members| members.join(","))
}

proptest! {
    #[test]
    fn what_nobody_touches_goes_through_the_api_byte_for_byte(state in tracestate(), baggage in baggage()) {
        let headers = [("traceparent", TRACEPARENT), ("tracestate", &*state), ("baggage", &*baggage)];
        let cx = extracted(&quiet(), &headers);
        prop_assert_eq!(cx.dropped(), RuleSet::EMPTY);
        let sent = injected(&quiet(), &cx);
        prop_assert_eq!(sent.get("traceparent").map(String::as_str), Some(TRACEPARENT));
        prop_assert_eq!(sent.get("tracestate").map_or("", String::as_str), state);
        prop_assert_eq!(sent.get("baggage").map_or("", String::as_str), baggage);
    }

    #[test]
    fn changes_through_the_api_change_what_they_name(state in tracestate(), at in 0..32usize) {
        let ours = TraceState::parse(state.as_bytes()).unwrap();
        let cx = extracted(&quiet(), &[("traceparent", TRACEPARENT), ("tracestate", &state)]);
        let span = cx.span().span_context().clone();
        let key = span.trace_state().into_iter().nth(at).map_or("new", |(key, _)| key).to_owned();
        let send = |state| {
            let context = OtelSpanContext::new(span.trace_id(), span.span_id(), span.trace_flags(), false, state);
            injected(&quiet(), &cx.with_remote_span_context(context)).remove("tracestate").unwrap_or_default()
        };
        let deleted = send(span.trace_state().delete(key.as_str()).unwrap());
        prop_assert_eq!(deleted, ours.delete(&key).as_str().to_owned());
        let inserted = send(span.trace_state().insert(key.as_str(), "changed").unwrap());
        prop_assert_eq!(inserted, ours.insert(&key, "changed").unwrap().as_str().to_owned());
    }
}

#[test]
fn span_contexts_convert_both_ways() {
    let ours = SpanContext {
        trace_id: TraceId::random([1; 16]),
        span_id: SpanId::random([2; 8]),
        flags: TraceFlags::SAMPLED | TraceFlags::RANDOM,
        trace_state: TraceState::parse(b"a=1,b=2").unwrap(),
        is_remote: true,
    };
    let theirs = OtelSpanContext::from(&ours);
    assert_eq!(theirs.trace_id().to_string(), ours.trace_id.to_string());
    assert_eq!(theirs.span_id().to_string(), ours.span_id.to_string());
    assert_eq!((theirs.trace_flags().to_u8(), theirs.is_remote()), (3, true));
    assert_eq!(SpanContext::try_from(&theirs).unwrap(), ours);
    assert_eq!(SpanContext::try_from(&OtelSpanContext::empty_context()), Err(InvalidSpanContext));
}

#[test]
fn baggage_converts_both_ways() {
    let ours = Baggage::parse(&[b"b=%C3%A4;p=1;q,a=1,b=2;r"], usize::MAX, usize::MAX, &mut RuleSet::default());
    let theirs = OtelBaggage::from(&ours);
    assert_eq!(theirs.len(), 2);
    assert_eq!(Baggage::from(&theirs).as_str(), "a=1,b=2;r");
    let mut bad = OtelBaggage::new();
    bad.insert_with_metadata("k", "v", "p,session_id=evil");
    bad.insert("l", "a b");
    assert_eq!(Baggage::from(&bad).as_str(), "l=a%20b");
}

#[test]
fn header_maps_are_carriers() {
    let mut headers = HeaderMap::new();
    headers.insert("traceparent", HeaderValue::from_static(TRACEPARENT));
    headers.append("Baggage", HeaderValue::from_static("a=1"));
    headers.append("baggage", HeaderValue::from_bytes(b"b=\xff,c=3").unwrap());
    let inbound = extract(&headers, &Policy::default());
    assert_eq!(inbound.span.unwrap().trace_id.to_string(), TRACE);
    assert_eq!((inbound.baggage.as_str(), inbound.dropped), ("a=1,c=3", RuleSet::from(Rule::BaggageValue)));

    inject(&mut headers, &Outbound { session: Some("s"), ..Outbound::default() });
    assert_eq!(headers.get_all("baggage").iter().collect::<Vec<_>>(), ["session_id=s,a=1,c=3"]);
    // A header that cannot be is none.
    headers.set("baggage", "a\nb");
    headers.set("no name", "x");
    assert_eq!(headers.keys().map(|name| name.as_str()).collect::<Vec<_>>(), ["traceparent"]);
    let mut any = false;
    headers.each("no name", &mut |_| any = true);
    assert!(!any);
}

#[test]
fn a_second_traceparent_is_seen_in_a_header_map() {
    let mut headers = HeaderMap::new();
    headers.append("traceparent", HeaderValue::from_static(TRACEPARENT));
    headers.append("traceparent", HeaderValue::from_static(TRACEPARENT));
    assert_eq!(extract(&headers, &Policy::default()).dropped, RuleSet::from(Rule::TraceparentDuplicate));
    headers.unset("traceparent");
    assert!(headers.is_empty());
}

#[test]
fn json_goes_both_ways() {
    let json = json!({
        "text": "ü\n", "bool": true, "null": null, "int": i64::MIN, "double": 0.1, "whole": 1.0,
        "nested": [{ "k": [1, "x"] }, [], {}],
    });
    assert_eq!(Json::from(Value::from(&json)), json);
    assert_eq!(Value::from(json.clone()), Value::from(&json));
    assert_eq!(Value::from(json!(1.0)), Value::Double(1.0));
    assert_eq!(Value::from(json!(i64::MAX)), Value::Int(i64::MAX));
    // What 64 bits with a sign do not hold stays the same number as text.
    assert_eq!(Value::from(json!(u64::MAX)), Value::from("18446744073709551615"));
}

#[test]
fn what_json_does_not_have_is_text() {
    let values = Value::Array(vec![
        f64::NAN.into(),
        f64::INFINITY.into(),
        f64::NEG_INFINITY.into(),
        Value::Bytes(b"plain \"text\""[..].into()),
        Value::Bytes(b"\xff\xfe\x00"[..].into()),
        Value::Map(vec![("k".into(), 1_i64.into()), ("k".into(), 2_i64.into())]),
    ]);
    let expected = json!(["NaN", "Infinity", "-Infinity", "plain \"text\"", "//4A", { "k": 2 }]);
    assert_eq!(Json::from(&values), expected);
    assert_eq!(Json::from(values), expected);
}

#[test]
fn uuids_are_sessions_that_honeyhive_takes() {
    use tracebaton::interop::uuid::{session_id_v4, session_id_v7};
    use tracebaton::session::honeyhive_session_id;
    for id in [session_id_v4([0; 16]), session_id_v7(1_764_040_000_000, [0xab; 10])] {
        assert_eq!(honeyhive_session_id(&id), id);
    }
    assert!(session_id_v7(1_764_040_000_000, [0xff; 10]) < session_id_v7(1_764_040_000_001, [0; 10]));
}

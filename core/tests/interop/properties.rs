//! Any headers, through OpenTelemetry's API.

use opentelemetry::trace::{SpanContext as OtelSpanContext, TraceContextExt};
use proptest::prelude::{Strategy, prop_assert_eq, proptest};
use tracebaton::TraceState;
use tracebaton::interop::opentelemetry::TracebatonContextExt;
use tracebaton::rule::RuleSet;

use crate::{TRACEPARENT, extracted, injected, quiet};

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

//! Values of other crates from and to ours.

use opentelemetry::baggage::Baggage as OtelBaggage;
use opentelemetry::trace::SpanContext as OtelSpanContext;
use serde_json::{Value as Json, json};
use tracebaton::interop::opentelemetry::InvalidSpanContext;
use tracebaton::rule::RuleSet;
use tracebaton::{Baggage, SpanContext, SpanId, TraceFlags, TraceId, TraceState, Value};

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

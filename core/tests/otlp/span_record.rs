//! What `SpanRecord` encodes, as the official crate reads it.

use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue, any_value};
use opentelemetry_proto::tonic::trace::v1::{ScopeSpans, Span};
use prost::Message;
use tracebaton::flatten::{self, flatten};
use tracebaton::id::{SpanId, TraceFlags, TraceId};
use tracebaton::limits::Limits;
use tracebaton::record::{Recording, SpanRecord};
use tracebaton::routing::{Routing, RoutingValues};
use tracebaton::span::StatusCode;
use tracebaton::value::Value;
use tracebaton::{SpanContext, TraceState};

use crate::random::Random;
use crate::to_any_value;

fn decode(span: &SpanRecord, routing: &Routing) -> Span {
    let mut out = Vec::new();
    span.encode(&mut out, routing);
    ScopeSpans::decode(&out[..]).unwrap().spans.remove(0)
}

fn context(is_remote: bool, flags: u8) -> SpanContext {
    SpanContext {
        trace_id: TraceId::random([3; 16]),
        span_id: SpanId::random([4; 8]),
        flags: TraceFlags::from_bits(flags),
        trace_state: TraceState::parse(b"vendor=1").unwrap(),
        is_remote,
    }
}

/// Keys of which many are the same, and a few route the span.
fn key(random: &mut Random) -> String {
    const OWN: [&str; 4] = ["honeyhive_event_type", "honeyhive.session_id", "session.id", "gen_ai.operation.name"];
    match random.below(12) {
        0 => OWN[random.below(4) as usize].to_owned(),
        1 => String::new(),
        2 => "a.0".to_owned(),
        3 => format!("app.key.of.more.than.thirty-two.bytes.{}", random.below(9)),
        4..=6 => format!("app.key.{}", random.below(30)),
        _ => ["a", "b", "a.b", "c"][random.below(4) as usize].to_owned(),
    }
}

fn value(random: &mut Random, depth: u32) -> Value<'static> {
    match random.below(if depth == 0 { 5 } else { 8 }) {
        0 => Value::Null,
        1 => Value::Int(random.number() as i64),
        2 => "x".repeat(random.below(200) as usize).into(),
        3 => Value::Bytes(random.bytes(9).into()),
        4 => Value::Double(f64::from(random.number() as i32) / 8.0),
        5 => Value::Array((0..random.below(4)).map(|_| value(random, depth - 1)).collect()),
        _ => Value::Map((0..random.below(25)).map(|_| (key(random).into(), value(random, depth - 1))).collect()),
    }
}

/// Sets a key where it stands, or behind the others.
fn set(entries: &mut Vec<(String, Value<'static>)>, key: &str, value: &Value<'static>) {
    match entries.iter_mut().find(|(other, _)| other == key) {
        Some((_, old)) => *old = value.clone(),
        None => entries.push((key.to_owned(), value.clone())),
    }
}

fn assert_no_key_twice(entries: &[KeyValue]) {
    for (at, entry) in entries.iter().enumerate() {
        assert!(entries[..at].iter().all(|other| other.key != entry.key), "{}", entry.key);
        entry.value.iter().for_each(assert_no_key_twice_in);
    }
}

fn assert_no_key_twice_in(value: &AnyValue) {
    match &value.value {
        Some(any_value::Value::ArrayValue(list)) => list.values.iter().for_each(assert_no_key_twice_in),
        Some(any_value::Value::KvlistValue(map)) => assert_no_key_twice(&map.values),
        _ => {}
    }
}

/// A value as it is sent: in maps each key once.
fn sent(value: &Value<'static>) -> Value<'static> {
    match value {
        Value::Array(items) => Value::Array(items.iter().map(sent).collect()),
        Value::Map(entries) => {
            let mut once = Vec::new();
            for (key, value) in entries {
                set(&mut once, key, &sent(value));
            }
            Value::Map(once.into_iter().map(|(key, value)| (key.into(), value)).collect())
        }
        other => other.clone(),
    }
}

fn key_values(entries: &[(String, Value<'static>)]) -> Vec<KeyValue> {
    let one = |(key, value): &(String, Value<'static>)| KeyValue {
        key: key.clone(),
        value: Some(to_any_value(sent(value))),
        key_strindex: 0,
    };
    entries.iter().map(one).collect()
}

/// OTLP forbids a key that comes twice, anywhere. Of values with one key the last is sent, where the first was set.
#[test]
fn no_key_is_sent_twice() {
    let mut random = Random(11);
    let values = RoutingValues { session: Some("s"), otel_session: Some("s"), ..RoutingValues::default() };
    let routing = Routing::new(&values);
    for _ in 0..600 {
        let mut span = SpanRecord::start("s", None, &Recording::default(), ([1; 16], [2; 8]), 10);
        let (mut attributes, mut dropped) = (Vec::new(), 0);
        // Up to more than an index has place for without growing.
        for _ in 0..random.below(60) {
            let (key, value) = (key(&mut random), value(&mut random, 2));
            span.set_attribute(&key, value.clone());
            if key.is_empty() {
                dropped += 1;
            } else if key == "honeyhive_event_type" && !matches!(&value, Value::Str(text) if !text.is_empty()) {
                dropped += 1;
                attributes.retain(|(other, _)| *other != key);
            } else {
                set(&mut attributes, &key, &value);
            }
        }
        let listed: Vec<(String, Value<'static>)> =
            (0..random.below(40)).map(|_| (key(&mut random), value(&mut random, 2))).collect();
        let list = || listed.iter().map(|(key, value)| (key.as_str(), value.clone()));
        span.add_event(11, "e", list());
        span.add_link(&context(true, 1), list());
        let nested = value(&mut random, 3);
        let mut flat = Vec::new();
        flatten("honeyhive_inputs", &nested, &flatten::Options::default(), &mut |key, value| {
            flat.push(KeyValue { key: key.to_owned(), value: Some(to_any_value(value)), key_strindex: 0 });
        });
        span.end(20);

        let read = decode(&span, &routing);
        for entries in [&read.attributes, &read.events[0].attributes, &read.links[0].attributes, &flat] {
            assert_no_key_twice(entries);
        }
        assert_eq!(read.attributes[..attributes.len()], key_values(&attributes));
        assert_eq!(read.dropped_attributes_count, dropped);
        let mut expected = Vec::new();
        listed.iter().filter(|(key, _)| !key.is_empty()).for_each(|(key, value)| set(&mut expected, key, value));
        let expected = key_values(&expected);
        assert_eq!((&read.events[0].attributes, &read.links[0].attributes), (&expected, &expected));
        let empty = listed.iter().filter(|(key, _)| key.is_empty()).count() as u32;
        assert_eq!(read.events[0].dropped_attributes_count, empty);
        assert_eq!(read.links[0].dropped_attributes_count, empty);
        // What the application says of routing and event type holds; what it does not say is added.
        for key in ["honeyhive.session_id", "session.id", "honeyhive.session_auto_create", "honeyhive_event_type"] {
            assert_eq!(read.attributes.iter().filter(|entry| entry.key == key).count(), 1, "{key}");
        }
    }
}

#[test]
fn limits_of_events_and_links_are_theirs() {
    let limits = Limits { attributes_per_event: 1, attributes_per_link: 2, ..Limits::default() };
    let recording = Recording { limits, ..Recording::default() };
    let mut span = SpanRecord::start("s", None, &recording, ([1; 16], [2; 8]), 10);
    let attributes = || ["a", "b", "a", "c"].map(|key| (key, Value::from(1)));
    span.add_event(11, "e", attributes());
    span.add_link(&context(false, 0), attributes());
    span.end(20);
    let read = decode(&span, &Routing::default());
    assert_eq!((read.events[0].attributes.len(), read.events[0].dropped_attributes_count), (1, 2));
    assert_eq!((read.links[0].attributes.len(), read.links[0].dropped_attributes_count), (2, 1));
}

#[test]
fn a_span_is_what_was_recorded() {
    for is_remote in [false, true] {
        let remote = if is_remote { 0x200 } else { 0 };
        let parent = context(is_remote, 3);
        let mut span = SpanRecord::start("s", Some(&parent), &Recording::default(), ([1; 16], [2; 8]), 10);
        span.add_event(11, "first", [("k", true.into())]);
        span.add_event(12, "second", []);
        span.add_link(&context(!is_remote, 1), [("k", true.into())]);
        span.set_attribute("k", "v");
        span.set_status(StatusCode::Error, "broken");
        span.end(20);
        let read = decode(&span, &Routing::default());
        assert_eq!(read.flags, 0x103 | remote);
        assert_eq!((&read.trace_id[..], &read.parent_span_id[..]), (&[3; 16][..], &[4; 8][..]));
        assert_eq!((read.trace_state.as_str(), read.name.as_str(), read.kind), ("vendor=1", "s", 1));
        assert_eq!((read.start_time_unix_nano, read.end_time_unix_nano), (10, 20));
        let events: Vec<_> = read.events.iter().map(|event| (event.name.as_str(), event.time_unix_nano)).collect();
        assert_eq!(events, [("first", 11), ("second", 12)]);
        assert_eq!(read.links[0].flags, 0x101 | (0x200 - remote));
        assert_eq!((read.links[0].trace_state.as_str(), read.links[0].attributes.len()), ("vendor=1", 1));
        let status = read.status.unwrap();
        assert_eq!((status.code, status.message.as_str()), (2, "broken"));
    }
}

#[test]
fn times_of_zero_are_zero() {
    let mut span = SpanRecord::start("", None, &Recording::default(), ([1; 16], [2; 8]), 0);
    span.end(0);
    let read = decode(&span, &Routing::default());
    assert_eq!((read.start_time_unix_nano, read.end_time_unix_nano, read.name.as_str()), (0, 0, ""));
}

#[test]
fn values_are_cut_but_for_what_routes_the_span() {
    const LONG: &str = "0af76519-16cd-43dd-8448-eb211c80319c";
    let recording = Recording { limits: Limits { value_length: Some(8), ..Limits::default() }, ..Recording::default() };
    let mut span = SpanRecord::start("s", None, &recording, ([1; 16], [2; 8]), 10);
    let own = ["honeyhive.session_id", "session.id", "honeyhive.project", "honeyhive.source", "honeyhive_event_type"];
    // A value that takes another's place is not cut either.
    for text in ["short", LONG] {
        for key in ["a"].iter().chain(&own) {
            span.set_attribute(key, text);
        }
    }
    span.set_attribute("bytes", Value::Bytes(LONG.as_bytes().into()));
    span.add_event(11, "e", [("a", LONG.into())]);
    let cut = &LONG[..8];
    let mut expected = vec![("a", Value::from(cut))];
    expected.extend(own.map(|key| (key, LONG.into())));
    expected.push(("bytes", Value::Bytes(cut.as_bytes().into())));
    let found: Vec<_> = span.attributes().map(|(key, value)| (key.into_owned(), value)).collect();
    assert_eq!(found, expected.iter().map(|(key, value)| ((*key).to_owned(), value.clone())).collect::<Vec<_>>());
    span.end(5);
    let read = decode(&span, &Routing::default());
    assert_eq!((read.start_time_unix_nano, read.end_time_unix_nano), (10, 10));
    assert_eq!(read.attributes.len(), expected.len());
    assert_eq!(read.events[0].attributes[0].value, Some(to_any_value(cut.into())));
}

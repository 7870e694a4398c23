//! What `SpanWriter` writes, as the official crate reads it.

use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue, any_value};
use opentelemetry_proto::tonic::trace::v1::{ScopeSpans, Span, Status};
use prost::Message;
use tracebaton::id::{SpanId, TraceFlags, TraceId};
use tracebaton::limits::Limits;
use tracebaton::otlp::envelope::{self, ScopeRun};
use tracebaton::otlp::reader::{Attributes, SpanView};
use tracebaton::routing::{Routing, RoutingValues};
use tracebaton::span::{Kind, LinkHead, SpanHead, SpanWriter, StatusCode};
use tracebaton::value::Value;

use crate::random::Random;

const TRACE_ID: [u8; 16] = [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16];

fn head() -> SpanHead<'static> {
    SpanHead {
        trace_id: TraceId::random(TRACE_ID),
        span_id: SpanId::random([1; 8]),
        parent: Some(SpanId::random([2; 8])),
        parent_is_remote: true,
        flags: TraceFlags::SAMPLED,
        trace_state: "vendor=1",
        name: "call",
        kind: Kind::Client,
        start_ns: 1_732_500_000_000_000_001,
        end_ns: 1_732_500_000_000_000_002,
    }
}

/// The spans in a run of entries, as the official crate reads them.
fn decode(entries: &[u8]) -> Vec<Span> {
    ScopeSpans::decode(entries).unwrap().spans
}

fn text(key: &str, text: &str) -> KeyValue {
    let value = Some(AnyValue { value: Some(any_value::Value::StringValue(text.to_owned())) });
    KeyValue { key: key.to_owned(), value, key_strindex: 0 }
}

fn entries(attributes: Attributes<'_>) -> Vec<(String, Value<'_>)> {
    attributes
        .map(|entry| {
            let (key, value) = entry.unwrap();
            (key.to_str().into_owned(), value.into_value().unwrap())
        })
        // An attribute without a key is no attribute: the writer drops and counts it.
        .filter(|(key, _)| !key.is_empty())
        .collect()
}

/// Leaves the last value of each key in the maps within an attribute, where the first one stands.
fn once_in_maps(entry: &mut KeyValue) {
    fn within(value: &mut AnyValue) {
        match &mut value.value {
            Some(any_value::Value::ArrayValue(list)) => list.values.iter_mut().for_each(within),
            Some(any_value::Value::KvlistValue(map)) => {
                let mut once: Vec<KeyValue> = Vec::new();
                for mut entry in map.values.drain(..) {
                    once_in_maps(&mut entry);
                    match once.iter_mut().find(|other| other.key == entry.key) {
                        Some(other) => *other = entry,
                        None => once.push(entry),
                    }
                }
                map.values = once;
            }
            _ => {}
        }
    }
    entry.value.as_mut().into_iter().for_each(within);
}

/// Spans of the official crate, read by us, written by us and read by the official crate are what they were.
#[test]
fn spans_written_again_are_the_same() {
    let mut random = Random(7);
    let limits = Limits { attributes: 4, ..Limits::default() };
    let mut out = Vec::new();
    let mut expected = Vec::new();
    for _ in 0..1_000 {
        let mut span = random.span();
        // What the writer insists on.
        span.trace_id = TRACE_ID.to_vec();
        span.span_id = vec![3; 8];
        span.end_time_unix_nano = span.end_time_unix_nano.max(span.start_time_unix_nano);
        span.kind = 1 + random.below(5) as i32;
        let remote = if span.parent_span_id.is_empty() { 0 } else { random.below(2) as u32 * 0x200 };
        span.flags = 0x101 | remote;
        for link in &mut span.links {
            link.flags = 0x100 | random.below(4) as u32 | (random.below(2) as u32 * 0x200);
            link.dropped_attributes_count = 0;
            link.trace_id.resize(16, 0);
            link.span_id.resize(8, 0);
        }
        for event in &mut span.events {
            event.dropped_attributes_count = 0;
        }
        span.dropped_attributes_count %= 1 << 20;
        for status in span.status.iter_mut().filter(|status| status.code != 2) {
            status.message.clear();
        }
        span.status = span.status.filter(|status| (1..=2).contains(&status.code));

        let bytes = span.encode_to_vec();
        let view = SpanView::parse(&bytes).unwrap();
        let head = SpanHead {
            trace_id: view.trace_id().unwrap(),
            span_id: view.span_id().unwrap(),
            parent: view.parent_span_id(),
            parent_is_remote: view.flags & 0x200 != 0,
            flags: TraceFlags::from_bits(view.flags as u8),
            trace_state: &span.trace_state,
            name: &span.name,
            kind: Kind::from_api(view.kind as u8 - 1),
            start_ns: view.start_ns,
            end_ns: view.end_ns,
        };
        let mut writer = SpanWriter::begin(&mut out, &head, &limits);
        for (key, value) in entries(view.attributes()) {
            writer.attribute(&key, &value);
        }
        for event in view.events() {
            let event = event.unwrap();
            writer.event(event.time_ns, &event.name.to_str(), |attributes| {
                for (key, value) in entries(event.attributes()) {
                    attributes.put(&key, &value);
                }
            });
        }
        for link in view.links() {
            let link = link.unwrap();
            let head = LinkHead {
                trace_id: link.trace_id().map_or([0; 16], TraceId::to_bytes),
                span_id: link.span_id().map_or([0; 8], SpanId::to_bytes),
                flags: TraceFlags::from_bits(link.flags as u8),
                is_remote: link.flags & 0x200 != 0,
                trace_state: &link.trace_state.to_str(),
            };
            writer.link(&head, |attributes| {
                for (key, value) in entries(link.attributes()) {
                    attributes.put(&key, &value);
                }
            });
        }
        writer.count_dropped(view.dropped_attributes, view.dropped_events, view.dropped_links);
        let (code, message) = view.status.map_or((0, "".into()), |status| (status.code, status.message.to_str()));
        writer.finish(StatusCode::from_number(code as u8), &message, &Routing::default());

        let has_key = |entry: &KeyValue| !entry.key.is_empty();
        span.attributes.iter_mut().for_each(once_in_maps);
        span.events.iter_mut().flat_map(|event| &mut event.attributes).for_each(once_in_maps);
        span.links.iter_mut().flat_map(|link| &mut link.attributes).for_each(once_in_maps);
        span.attributes.retain(has_key);
        span.attributes.push(text("honeyhive_event_type", "tool"));
        span.events.iter_mut().for_each(|event| event.attributes.retain(has_key));
        span.links.iter_mut().for_each(|link| link.attributes.retain(has_key));
        expected.push(span);
    }
    let spans = decode(&out);
    assert_eq!(spans.len(), expected.len());
    for (span, expected) in spans.iter().zip(&expected) {
        assert_eq!(span, expected);
    }
}

#[test]
fn limits_are_counted_and_routing_is_not_limited() {
    let limits = Limits { attributes: 2, events: 1, links: 0, attributes_per_event: 1, ..Limits::default() };
    let values = RoutingValues { session: Some("s-1"), source: Some("dev"), ..RoutingValues::default() };
    let mut out = Vec::new();
    let mut writer = SpanWriter::begin(&mut out, &head(), &limits);
    for key in ["a", "b", "c", "", "honeyhive.source"] {
        writer.attribute(key, &Value::from("x"));
    }
    for name in ["first", "second"] {
        writer.event(5, name, |attributes| {
            attributes.put("a", &Value::from(1));
            attributes.put("b", &Value::from(2));
        });
    }
    let link =
        LinkHead { trace_id: TRACE_ID, span_id: [1; 8], flags: TraceFlags::SAMPLED, is_remote: false, trace_state: "" };
    writer.link(&link, |_| {});
    writer.finish(StatusCode::Error, "bad", &Routing::new(&values));

    let spans = decode(&out);
    let [span] = &spans[..] else { panic!("{} spans", spans.len()) };
    assert_eq!(
        (&span.trace_id[..], &span.span_id[..], &span.parent_span_id[..]),
        (&TRACE_ID[..], &[1; 8][..], &[2; 8][..])
    );
    assert_eq!((span.name.as_str(), span.kind, span.trace_state.as_str()), ("call", 3, "vendor=1"));
    assert_eq!((span.start_time_unix_nano, span.end_time_unix_nano), (head().start_ns, head().end_ns));
    assert_eq!(span.flags, 0x301);
    let keys: Vec<_> = span.attributes.iter().map(|entry| entry.key.as_str()).collect();
    // The application's own value of a routing attribute holds.
    assert_eq!(
        keys,
        ["a", "b", "honeyhive.source", "honeyhive.session_id", "honeyhive.session_auto_create", "honeyhive_event_type"]
    );
    assert!(span.attributes.contains(&text("honeyhive.source", "x")));
    assert_eq!((span.dropped_attributes_count, span.dropped_events_count, span.dropped_links_count), (2, 1, 1));
    assert_eq!((span.events.len(), span.events[0].dropped_attributes_count), (1, 1));
    assert_eq!(span.status, Some(Status { message: "bad".into(), code: 2 }));
}

#[test]
fn a_local_or_missing_parent_is_not_remote() {
    for (parent, parent_is_remote) in [(None, true), (None, false), (head().parent, false)] {
        let head = SpanHead { parent, parent_is_remote, ..head() };
        let mut out = Vec::new();
        let limits = Limits::default();
        SpanWriter::begin(&mut out, &head, &limits).finish(StatusCode::Unset, "ignored", &Routing::default());
        let span = decode(&out).remove(0);
        assert_eq!(span.flags, 0x101);
        assert_eq!(span.parent_span_id.is_empty(), parent.is_none());
        assert_eq!(span.status, None);
    }
}

#[test]
fn every_span_and_link_says_whether_its_parent_is_remote() {
    for (is_remote, bits) in [(false, 0x100), (true, 0x300)] {
        let mut out = Vec::new();
        let limits = Limits::default();
        let head = SpanHead { parent_is_remote: is_remote, flags: TraceFlags::from_bits(3), ..head() };
        let mut writer = SpanWriter::begin(&mut out, &head, &limits);
        for flags in 0..4 {
            let link = LinkHead {
                trace_id: TRACE_ID,
                span_id: [1; 8],
                flags: TraceFlags::from_bits(flags),
                is_remote,
                trace_state: "",
            };
            writer.link(&link, |_| {});
        }
        writer.finish(StatusCode::Unset, "", &Routing::default());
        let span = decode(&out).remove(0);
        assert_eq!(span.flags, bits | 3);
        let flags: Vec<_> = span.links.iter().map(|link| link.flags).collect();
        assert_eq!(flags, [bits, bits | 1, bits | 2, bits | 3]);
    }
}

#[test]
fn attributes_of_links_and_events_are_limited_and_counted() {
    let limits = Limits { attributes_per_event: 1, attributes_per_link: 2, ..Limits::default() };
    let mut out = Vec::new();
    let mut writer = SpanWriter::begin(&mut out, &head(), &limits);
    let put = |attributes: &mut tracebaton::span::Attributes<'_>| {
        for key in ["a", "", "b", "c", "d"] {
            attributes.put(key, &Value::Null);
        }
        attributes.count_dropped(10);
    };
    writer.event(5, "e", put);
    let link =
        LinkHead { trace_id: TRACE_ID, span_id: [1; 8], flags: TraceFlags::SAMPLED, is_remote: false, trace_state: "" };
    writer.link(&link, put);
    writer.finish(StatusCode::Unset, "", &Routing::default());
    let span = decode(&out).remove(0);
    let keys = |attributes: &[KeyValue]| attributes.iter().map(|entry| entry.key.clone()).collect::<Vec<_>>();
    assert_eq!((keys(&span.events[0].attributes), span.events[0].dropped_attributes_count), (vec!["a".into()], 14));
    assert_eq!(
        (keys(&span.links[0].attributes), span.links[0].dropped_attributes_count),
        (vec!["a".into(), "b".into()], 13)
    );
    assert_eq!(span.dropped_attributes_count, 0);
}

/// The official crate refuses a message that nests too deeply, and with it the whole request: what we write it reads,
/// however deep the value and the limit are.
#[test]
fn a_value_of_any_depth_is_read_by_the_official_crate() {
    for map in [false, true] {
        for levels in [1, 19, 20, 21, 22, 60, 500] {
            let value = (0..levels).fold(Value::Int(7), |value, _| match map {
                false => Value::Array(vec![value]),
                true => Value::Map(vec![("k".into(), value)]),
            });
            let limits = Limits { value_depth: 1_000, ..Limits::default() };
            let mut out = Vec::new();
            let mut writer = SpanWriter::begin(&mut out, &head(), &limits);
            writer.attribute("a", &value);
            writer.event(5, "e", |attributes| attributes.put("a", &value));
            writer.finish(StatusCode::Unset, "", &Routing::default());
            // As they come over the wire, within a request.
            let mut request = Vec::new();
            let run = ScopeRun { scope: b"", schema_url: "", spans: &out };
            envelope::protobuf(b"", &[run], &mut request);
            let request = ExportTraceServiceRequest::decode(&request[..]).unwrap_or_else(|error| {
                panic!("{levels} levels: {error}");
            });
            let span = &request.resource_spans[0].scope_spans[0].spans[0];
            let (mut value, mut depth) = (span.attributes[0].value.clone().unwrap(), 0);
            let leaf = loop {
                value = match value.value.unwrap() {
                    any_value::Value::ArrayValue(mut list) => list.values.remove(0),
                    any_value::Value::KvlistValue(mut map) => map.values.remove(0).value.unwrap(),
                    leaf => break leaf,
                };
                depth += 1;
            };
            assert_eq!(depth, levels.min(20));
            if levels <= 20 {
                assert_eq!(leaf, any_value::Value::IntValue(7));
            } else {
                // The rest is there as JSON.
                let any_value::Value::StringValue(json) = leaf else { panic!("{leaf:?}") };
                assert!(json.starts_with(if map { "{\"k\":" } else { "[" }), "{json}");
            }
            assert_eq!(span.events[0].attributes[0], span.attributes[0]);
        }
    }
}

#[test]
fn an_event_type_that_is_no_text_is_dropped_and_counted() {
    for (value, dropped) in [(Value::from(5), 1), (Value::from(""), 1), (Value::Null, 1), (Value::from("own"), 0)] {
        let mut out = Vec::new();
        let limits = Limits { attributes: 1, ..Limits::default() };
        let mut writer = SpanWriter::begin(&mut out, &head(), &limits);
        writer.attribute("honeyhive_event_type", &value);
        writer.attribute("gen_ai.operation.name", &Value::from("chat"));
        writer.finish(StatusCode::Unset, "", &Routing::default());
        let span = decode(&out).remove(0);
        assert_eq!((span.attributes.len(), span.dropped_attributes_count), (2, dropped));
        assert!(span.attributes.contains(&text("honeyhive_event_type", if dropped == 0 { "own" } else { "model" })));
    }
}

/// Of event types that are set one after the other the last one counts, and none is sent twice.
#[test]
fn an_event_type_takes_back_the_one_before() {
    for (values, expected, dropped) in [
        (&[Value::from("chain"), Value::from("session")][..], "session", 0),
        (&["chain".into(), "own".into(), 5.into()], "model", 1),
        (&["own".into(), "".into(), Value::Null, "chain".into()], "chain", 2),
        (&[5.into(), "own".into()], "own", 1),
    ] {
        let mut out = Vec::new();
        let limits = Limits::default();
        let mut writer = SpanWriter::begin(&mut out, &head(), &limits);
        writer.attribute("gen_ai.operation.name", &Value::from("chat"));
        for value in values {
            writer.attribute("honeyhive_event_type", value);
            writer.event(5, "e", |_| {});
            writer.attribute("a", &Value::from("x"));
        }
        writer.finish(StatusCode::Unset, "", &Routing::default());
        let span = decode(&out).remove(0);
        let types: Vec<_> = span.attributes.iter().filter(|entry| entry.key == "honeyhive_event_type").collect();
        assert_eq!(types, [&text("honeyhive_event_type", expected)], "{values:?}");
        assert_eq!(span.attributes.iter().filter(|entry| **entry == text("a", "x")).count(), values.len());
        assert_eq!((span.attributes[0].key.as_str(), span.events.len()), ("gen_ai.operation.name", values.len()));
        assert_eq!(span.dropped_attributes_count, dropped);
    }
}

#[test]
fn what_routes_a_span_is_never_cut() {
    const LONG: &str = "0af76519-16cd-43dd-8448-eb211c80319c";
    let limits = Limits { value_length: Some(8), ..Limits::default() };
    let mut out = Vec::new();
    let mut writer = SpanWriter::begin(&mut out, &head(), &limits);
    let keys = [
        "honeyhive.session_id",
        "honeyhive.session_name",
        "honeyhive.session_auto_create",
        "honeyhive.project",
        "honeyhive.source",
        "session.id",
        "honeyhive_event_type",
    ];
    for key in ["a"].iter().chain(&keys) {
        writer.attribute(key, &Value::from(LONG));
    }
    // On an event it routes nothing.
    writer.event(5, "e", |attributes| attributes.put("session.id", &Value::from(LONG)));
    writer.finish(StatusCode::Unset, "", &Routing::default());
    let span = decode(&out).remove(0);
    assert_eq!(span.attributes[0], text("a", &LONG[..8]));
    assert_eq!(span.attributes[1..], keys.map(|key| text(key, LONG)));
    assert_eq!(span.events[0].attributes, [text("session.id", &LONG[..8])]);
}

#[test]
fn no_span_ends_before_it_starts() {
    for (end_ns, expected) in [(head().start_ns - 1, head().start_ns), (0, head().start_ns), (u64::MAX, u64::MAX)] {
        let mut out = Vec::new();
        let limits = Limits::default();
        let head = SpanHead { end_ns, ..head() };
        SpanWriter::begin(&mut out, &head, &limits).finish(StatusCode::Unset, "", &Routing::default());
        let span = decode(&out).remove(0);
        assert_eq!((span.start_time_unix_nano, span.end_time_unix_nano), (head.start_ns, expected));
    }
}

//! What `SpanWriter` writes, as the official crate reads it.

use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue, any_value};
use opentelemetry_proto::tonic::trace::v1::{ScopeSpans, Span, Status};
use prost::Message;
use tracebaton::id::{SpanId, TraceFlags, TraceId};
use tracebaton::limits::Limits;
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

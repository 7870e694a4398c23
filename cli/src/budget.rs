//! Bodies within the cap that would still take gigabytes once decoded: two bytes of protobuf can be a span, seven of
//! JSON an object. They are counted before anything is made of them.

use axum::http::StatusCode;

use crate::body::Refusal;

/// The most messages (spans, attributes, values, events, links, …) in one request: what a full body of ordinary spans
/// holds, some three million, and room above it.
const MAX_MESSAGES: usize = 8_000_000;
/// The most objects in JSON, which take more room on the wire and much more in memory.
const MAX_OBJECTS: usize = 3_000_000;
/// The most elements and members in JSON: numbers and empty lists are not objects, but take room too.
const MAX_ITEMS: usize = 12_000_000;
/// The most spans in one request: exporters send some hundreds.
const MAX_SPANS: usize = 500_000;
/// How deep messages may nest, as in the decoder.
const MAX_DEPTH: usize = 100;

fn too_many(what: &str) -> Refusal {
    Refusal(StatusCode::PAYLOAD_TOO_LARGE, format!("the body holds too many {what}: send it in parts"))
}

/// 413 for too many spans.
pub(crate) fn check_spans(count: usize) -> Result<(), Refusal> {
    if count > MAX_SPANS { Err(too_many("spans")) } else { Ok(()) }
}

/// 413 for JSON of too many objects or items. What is not JSON is for the parser to say.
pub(crate) fn check_json(bytes: &[u8]) -> Result<(), Refusal> {
    check_json_within(bytes, MAX_OBJECTS, MAX_ITEMS)
}

fn check_json_within(bytes: &[u8], max_objects: usize, max_items: usize) -> Result<(), Refusal> {
    let (mut objects, mut items) = (0_usize, 0_usize);
    let mut in_string = false;
    let mut escaped = false;
    for byte in bytes {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = in_string,
            b'"' => in_string = !in_string,
            b'{' if !in_string => objects += 1,
            b',' if !in_string => items += 1,
            _ => {}
        }
    }
    if objects > max_objects || items > max_items { Err(too_many("objects")) } else { Ok(()) }
}

/// A message of OTLP: the numbers of those of its fields that are messages, and which ones.
struct Message(&'static [(u64, &'static Message)]);

static REQUEST: Message = Message(&[(1, &RESOURCE_SPANS)]);
static RESOURCE_SPANS: Message = Message(&[(1, &RESOURCE), (2, &SCOPE_SPANS)]);
static RESOURCE: Message = Message(&[(1, &KEY_VALUE), (3, &LEAF)]);
static SCOPE_SPANS: Message = Message(&[(1, &SCOPE), (2, &SPAN)]);
static SCOPE: Message = Message(&[(3, &KEY_VALUE)]);
static SPAN: Message = Message(&[(9, &KEY_VALUE), (11, &EVENT), (13, &LINK), (15, &LEAF)]);
static EVENT: Message = Message(&[(3, &KEY_VALUE)]);
static LINK: Message = Message(&[(4, &KEY_VALUE)]);
static KEY_VALUE: Message = Message(&[(2, &ANY_VALUE)]);
static ANY_VALUE: Message = Message(&[(5, &ARRAY), (6, &KEY_VALUE_LIST)]);
static ARRAY: Message = Message(&[(1, &ANY_VALUE)]);
static KEY_VALUE_LIST: Message = Message(&[(1, &KEY_VALUE)]);
static LEAF: Message = Message(&[]);

/// 413 for an `ExportTraceServiceRequest` of too many messages, 400 for what is not protobuf.
pub(crate) fn check_protobuf(bytes: &[u8]) -> Result<(), Refusal> {
    check_protobuf_within(bytes, MAX_MESSAGES)
}

fn check_protobuf_within(bytes: &[u8], max_parts: usize) -> Result<(), Refusal> {
    let mut parts = 0_usize;
    // What is left of each message that is being read, the outermost first.
    let mut open: Vec<(&[u8], &Message)> = vec![(bytes, &REQUEST)];
    while let Some((rest, message)) = open.last_mut() {
        if rest.is_empty() {
            open.pop();
            continue;
        }
        let Some((number, content, after)) = field(rest) else {
            return Err(Refusal::bad("the body is not an ExportTraceServiceRequest in protobuf"));
        };
        *rest = after;
        let inner = message.0.iter().find(|(known, _)| *known == number).map(|(_, inner)| *inner);
        if let (Some(inner), Some(content)) = (inner, content) {
            parts += 1;
            if parts > max_parts {
                return Err(too_many("parts"));
            }
            if open.len() > MAX_DEPTH {
                return Err(Refusal::bad("the body nests too deeply"));
            }
            open.push((content, inner));
        }
    }
    Ok(())
}

/// A field's number, its content if it has a length, and what comes after it.
type Field<'a> = (u64, Option<&'a [u8]>, &'a [u8]);

/// The first field; none for what no OTLP message holds (groups included) or what is cut off.
fn field(bytes: &[u8]) -> Option<Field<'_>> {
    let (key, rest) = varint(bytes)?;
    let number = key >> 3;
    match key & 7 {
        0 => varint(rest).map(|(_, rest)| (number, None, rest)),
        1 => rest.get(8..).map(|rest| (number, None, rest)),
        2 => {
            let (length, rest) = varint(rest)?;
            let (content, rest) = rest.split_at_checked(usize::try_from(length).ok()?)?;
            Some((number, Some(content), rest))
        }
        5 => rest.get(4..).map(|rest| (number, None, rest)),
        _ => None,
    }
}

fn varint(bytes: &[u8]) -> Option<(u64, &[u8])> {
    let mut value = 0_u64;
    for (at, byte) in bytes.iter().enumerate().take(10) {
        value |= u64::from(byte & 0x7f) << (7 * at);
        if byte & 0x80 == 0 {
            return Some((value, bytes.get(at + 1..)?));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
    use opentelemetry_proto::tonic::common::v1::{AnyValue, ArrayValue, InstrumentationScope, KeyValue, any_value};
    use opentelemetry_proto::tonic::resource::v1::Resource;
    use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span, Status, span};
    use prost::Message as _;

    use super::*;

    fn status(result: Result<(), Refusal>) -> u16 {
        result.map_or_else(|refusal| refusal.0.as_u16(), |()| 200)
    }

    fn pair() -> KeyValue {
        let text = |text: &str| AnyValue { value: Some(any_value::Value::StringValue(text.into())) };
        let array = any_value::Value::ArrayValue(ArrayValue { values: vec![text("a"), text("b")] });
        KeyValue { key: "k".into(), value: Some(AnyValue { value: Some(array) }), ..KeyValue::default() }
    }

    #[test]
    fn every_message_counts_once() {
        // The attribute is five messages: pair, value, array, two values in it.
        let request = ExportTraceServiceRequest {
            resource_spans: vec![ResourceSpans {
                resource: Some(Resource { attributes: vec![pair()], ..Resource::default() }),
                scope_spans: vec![ScopeSpans {
                    scope: Some(InstrumentationScope { attributes: vec![pair()], ..InstrumentationScope::default() }),
                    spans: vec![Span {
                        trace_id: vec![1; 16],
                        start_time_unix_nano: 1,
                        flags: 1,
                        kind: 2,
                        attributes: vec![pair()],
                        events: vec![span::Event { attributes: vec![pair()], ..span::Event::default() }],
                        links: vec![span::Link { attributes: vec![pair()], ..span::Link::default() }],
                        status: Some(Status { code: 1, message: "m".into() }),
                        ..Span::default()
                    }],
                    ..ScopeSpans::default()
                }],
                ..ResourceSpans::default()
            }],
        };
        let count = 5 * 5 + 8;
        let bytes = request.encode_to_vec();
        assert_eq!(status(check_protobuf_within(&bytes, count)), 200);
        assert_eq!(status(check_protobuf_within(&bytes, count - 1)), 413);
        // Cut off anywhere but between two fields of the outermost message, it is not protobuf.
        for length in 1..bytes.len() {
            assert_eq!(status(check_protobuf_within(&bytes[..length], count)), 400, "{length}");
        }
    }

    #[test]
    fn what_protobuf_has_and_otlp_has_not_hides_nothing() {
        assert_eq!(status(check_protobuf_within(&[], 0)), 200);
        // A group, a field number that is unknown, a varint without an end, a length beyond the end.
        assert_eq!(status(check_protobuf_within(&[0x0b, 0x0c], 9)), 400);
        assert_eq!(status(check_protobuf_within(&[0x52, 0x01, 0x00], 0)), 200);
        assert_eq!(status(check_protobuf_within(&[0xff; 12], 9)), 400);
        assert_eq!(status(check_protobuf_within(&[0x0a, 0x7f], 9)), 400);
    }

    #[test]
    fn objects_and_items_of_json_count_outside_of_strings() {
        let json = br#"{"a": [{}, {"b{,": "\"{,{,\\"}], "c": 1}"#;
        assert_eq!(status(check_json_within(json, 3, 2)), 200);
        assert_eq!(status(check_json_within(json, 2, 2)), 413);
        assert_eq!(status(check_json_within(json, 3, 1)), 413);
    }
}

//! Our reading, transcoding and wrapping of OTLP against the official crate: spans that `prost` encodes are read and
//! transcoded by us and read back by `opentelemetry-proto`.

#![allow(clippy::unwrap_used, reason = "test code outside of test functions")]

mod random;
mod span_record;
mod span_writer;

use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTracePartialSuccess, ExportTraceServiceRequest, ExportTraceServiceResponse,
};
use opentelemetry_proto::tonic::common::v1::{
    AnyValue, ArrayValue, InstrumentationScope, KeyValue, KeyValueList, any_value,
};
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::{
    ResourceSpans, ScopeSpans, Span, Status,
    span::{Event, Link},
};
use prost::Message;
use random::Random;
use tracebaton::otlp::envelope::{self, ResourceRuns, ScopeRun};
use tracebaton::otlp::json::{self, Enums};
use tracebaton::otlp::protobuf;
use tracebaton::otlp::reader::{self, Attributes, MAX_DEPTH, Malformed, PartialSuccess, SpanView, Text, ValueView};
use tracebaton::value::Value;

fn to_json(bytes: &[u8], enums: Enums) -> Result<Vec<u8>, Malformed> {
    let mut out = b"before".to_vec();
    let result = json::span(bytes, enums, &mut out);
    let json = out.strip_prefix(b"before").unwrap().to_vec();
    // What fails leaves nothing behind.
    assert!(result.is_ok() || json.is_empty());
    result.map(|()| json)
}

/// The span that a view shows, as the official crate's type.
fn to_official(bytes: &[u8]) -> Result<Span, Malformed> {
    let text = |text: Text<'_>| text.to_str().into_owned();
    let attributes = |attributes: Attributes<'_>| {
        attributes
            .map(|entry| {
                let (key, value) = entry?;
                Ok(KeyValue { key: text(key), value: Some(to_any_value(value.into_value()?)), key_strindex: 0 })
            })
            .collect::<Result<Vec<_>, Malformed>>()
    };
    let view = SpanView::parse(bytes)?;
    Ok(Span {
        trace_id: view.trace_id().map(|id| id.to_bytes().to_vec()).unwrap_or_default(),
        span_id: view.span_id().map(|id| id.to_bytes().to_vec()).unwrap_or_default(),
        trace_state: text(view.trace_state),
        parent_span_id: view.parent_span_id().map(|id| id.to_bytes().to_vec()).unwrap_or_default(),
        flags: view.flags,
        name: text(view.name),
        kind: view.kind,
        start_time_unix_nano: view.start_ns,
        end_time_unix_nano: view.end_ns,
        attributes: attributes(view.attributes())?,
        dropped_attributes_count: view.dropped_attributes,
        events: view
            .events()
            .map(|event| {
                let event = event?;
                Ok(Event {
                    time_unix_nano: event.time_ns,
                    name: text(event.name),
                    attributes: attributes(event.attributes())?,
                    dropped_attributes_count: event.dropped_attributes,
                })
            })
            .collect::<Result<_, Malformed>>()?,
        dropped_events_count: view.dropped_events,
        links: view
            .links()
            .map(|link| {
                let link = link?;
                Ok(Link {
                    trace_id: link.trace_id().map(|id| id.to_bytes().to_vec()).unwrap_or_default(),
                    span_id: link.span_id().map(|id| id.to_bytes().to_vec()).unwrap_or_default(),
                    trace_state: text(link.trace_state),
                    attributes: attributes(link.attributes())?,
                    dropped_attributes_count: link.dropped_attributes,
                    flags: link.flags,
                })
            })
            .collect::<Result<_, Malformed>>()?,
        dropped_links_count: view.dropped_links,
        status: view.status.map(|status| Status { message: text(status.message), code: status.code }),
    })
}

fn to_any_value(value: Value<'_>) -> AnyValue {
    use any_value::Value as V;
    AnyValue {
        value: match value {
            Value::Null => None,
            Value::Bool(value) => Some(V::BoolValue(value)),
            Value::Int(value) => Some(V::IntValue(value)),
            Value::Double(value) => Some(V::DoubleValue(value)),
            Value::Str(text) => Some(V::StringValue(text.into_owned())),
            Value::Bytes(bytes) => Some(V::BytesValue(bytes.into_owned())),
            Value::Array(values) => {
                Some(V::ArrayValue(ArrayValue { values: values.into_iter().map(to_any_value).collect() }))
            }
            Value::Map(entries) => Some(V::KvlistValue(KeyValueList {
                values: entries
                    .into_iter()
                    .map(|(key, value)| KeyValue {
                        key: key.into_owned(),
                        value: Some(to_any_value(value)),
                        key_strindex: 0,
                    })
                    .collect(),
            })),
        },
    }
}

/// A span with one attribute, `k`, whose `AnyValue` has these bytes.
fn with_value(any_value: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    protobuf::message(&mut out, 9, |out| {
        protobuf::put_bytes(out, 1, b"k");
        protobuf::put_bytes_always(out, 2, any_value);
    });
    out
}

fn value_json(any_value: &[u8], enums: Enums) -> String {
    let json = String::from_utf8(to_json(&with_value(any_value), enums).unwrap()).unwrap();
    let json = json.strip_prefix(r#"{"attributes":[{"key":"k","value":"#).unwrap();
    let end = json.find("}]").unwrap();
    json[..end].to_owned()
}

#[test]
fn spans_read_as_the_official_crate_reads_them() {
    let mut random = Random(1);
    for _ in 0..1_500 {
        let span = random.span();
        let bytes = random.scatter(&span.encode_to_vec());
        assert_eq!(Span::decode(&bytes[..]).unwrap(), span, "the test's own scattering");
        assert_eq!(to_official(&bytes).unwrap(), span);
    }
}

#[test]
fn the_official_crate_reads_our_json() {
    let mut random = Random(2);
    for _ in 0..1_500 {
        let span = random.span();
        let json = to_json(&random.scatter(&span.encode_to_vec()), Enums::Numbers).unwrap();
        let read: Span = serde_json::from_slice(&json).unwrap_or_else(|error| {
            panic!("{error}: {}", String::from_utf8_lossy(&json));
        });
        assert_eq!(read, span, "{}", String::from_utf8_lossy(&json));
    }
}

#[test]
fn a_span_cut_off_anywhere_is_an_error_or_the_span_so_far() {
    let mut random = Random(3);
    for _ in 0..60 {
        let bytes = random.span().encode_to_vec();
        for length in 0..bytes.len() {
            let cut = &bytes[..length];
            // Where the official crate sees a message we see the same one.
            match Span::decode(cut) {
                Ok(span) => {
                    assert_eq!(to_official(cut).unwrap(), span);
                    let json = to_json(cut, Enums::Numbers).unwrap();
                    assert_eq!(serde_json::from_slice::<Span>(&json).unwrap(), span);
                }
                Err(_) => {
                    assert_eq!(to_official(cut), Err(Malformed::Truncated));
                    assert_eq!(to_json(cut, Enums::Names), Err(Malformed::Truncated));
                }
            }
        }
    }
}

#[test]
fn whatever_the_bytes_the_json_is_json() {
    let mut random = Random(4);
    let mut outcomes = [0, 0];
    for _ in 0..6_000 {
        let mut bytes = random.span().encode_to_vec();
        for _ in 0..=random.below(4) {
            if !bytes.is_empty() {
                let at = random.below(bytes.len() as u64) as usize;
                bytes[at] = random.next() as u8;
            }
        }
        let enums = [Enums::Numbers, Enums::Names][random.below(2) as usize];
        let official = to_official(&bytes);
        match to_json(&bytes, enums) {
            Ok(json) => {
                assert!(official.is_ok());
                serde_json::from_slice::<serde_json::Value>(&json).unwrap();
                outcomes[0] += 1;
            }
            Err(error) => {
                assert_eq!(official, Err(error));
                outcomes[1] += 1;
            }
        }
    }
    assert!(outcomes.iter().all(|count| *count > 500), "{outcomes:?}");
}

#[test]
fn every_kind_of_malformed_field_has_its_error() {
    for (bytes, error) in [
        (&[0x08][..], Malformed::Truncated),
        (&[0x80], Malformed::Truncated),
        (&[0x0a, 5, 1], Malformed::Truncated),
        (&[0x39, 1, 2, 3], Malformed::Truncated),
        (&[0x0a, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1], Malformed::Truncated),
        (&[0x30, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2], Malformed::Varint),
        (&[0x30, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0], Malformed::Varint),
        (&[0x00, 0], Malformed::FieldNumber),
        (&[0x80, 0x80, 0x80, 0x80, 0x10, 0], Malformed::FieldNumber),
        (&[0x0b], Malformed::WireType),
        (&[0x0c], Malformed::WireType),
        (&[0x0f], Malformed::WireType),
    ] {
        assert_eq!(to_json(bytes, Enums::Numbers), Err(error), "{bytes:?}");
        // The same within an attribute's value, where it is met later.
        assert_eq!(to_json(&with_value(bytes), Enums::Numbers), Err(error), "{bytes:?}");
        assert_eq!(to_official(&with_value(bytes)), Err(error), "{bytes:?}");
        assert!(Span::decode(bytes).is_err());
    }
    // A varint longer than it need be is legal, and so is a known number with another wire type.
    let span = SpanView::parse(&[0x30, 0x83, 0x80, 0x00, 0x3d, 1, 2, 3, 4]).unwrap();
    assert_eq!((span.kind, span.start_ns), (3, 0));
}

#[test]
fn the_last_value_of_a_singular_field_counts() {
    let mut bytes = Vec::new();
    for name in ["first", "last"] {
        protobuf::put_bytes(&mut bytes, 5, name.as_bytes());
    }
    assert_eq!(SpanView::parse(&bytes).unwrap().name.to_str(), "last");
    let mut any_value = Vec::new();
    protobuf::put_bytes(&mut any_value, 1, b"text");
    protobuf::put_uint_always(&mut any_value, 3, 5);
    assert_eq!(value_json(&any_value, Enums::Numbers), r#"{"intValue":"5"}"#);
}

#[test]
fn ids_that_are_none_stay_visible_in_json_only() {
    let span = Span { trace_id: vec![0; 16], span_id: vec![1, 2, 3], ..Span::default() };
    let bytes = span.encode_to_vec();
    let view = SpanView::parse(&bytes).unwrap();
    assert_eq!((view.trace_id(), view.span_id(), view.parent_span_id()), (None, None, None));
    let json = to_json(&bytes, Enums::Numbers).unwrap();
    assert_eq!(json, br#"{"traceId":"00000000000000000000000000000000","spanId":"010203"}"#);
}

#[test]
fn doubles_read_back_bit_by_bit() {
    let mut random = Random(5);
    let special = [0.0, -0.0, 1.0, -1.0, 0.1, 1e15, 1e16, 1e21, 1e22, 1e-5, 1e-7, f64::MAX, f64::MIN_POSITIVE, 5e-324];
    let any = (0..20_000).map(|_| f64::from_bits(random.next())).filter(|value| value.is_finite());
    for value in special.into_iter().chain(any.collect::<Vec<_>>()) {
        let mut any_value = Vec::new();
        protobuf::put_double_always(&mut any_value, 4, value);
        let json = value_json(&any_value, Enums::Numbers);
        let number = json.strip_prefix(r#"{"doubleValue":"#).and_then(|json| json.strip_suffix('}')).unwrap();
        assert_eq!(number.parse::<f64>().unwrap().to_bits(), value.to_bits(), "{number}");
        // A number to JSON, and not an integer.
        assert!(serde_json::from_str::<serde_json::Value>(number).unwrap().is_f64(), "{number}");
    }
}

#[test]
fn numbers_that_are_not_finite_are_strings() {
    for (value, text) in [(f64::NAN, "NaN"), (f64::INFINITY, "Infinity"), (f64::NEG_INFINITY, "-Infinity")] {
        let mut any_value = Vec::new();
        protobuf::put_double_always(&mut any_value, 4, value);
        assert_eq!(value_json(&any_value, Enums::Numbers), format!(r#"{{"doubleValue":"{text}"}}"#));
        assert_eq!(value_json(&any_value, Enums::Names), format!(r#"{{"stringValue":"{text}"}}"#));
    }
}

#[test]
fn text_that_is_not_utf_8_is_replaced() {
    for text in [&b"a\xffb"[..], b"\xe2\x82", b"\xed\xa0\x80", b"\xf0\x9f\xa6\"", b"ok"] {
        let mut any_value = Vec::new();
        protobuf::put_bytes_always(&mut any_value, 1, text);
        let json = value_json(&any_value, Enums::Numbers);
        let json: serde_json::Value = serde_json::from_str(&json).unwrap();
        assert_eq!(json["stringValue"], String::from_utf8_lossy(text).as_ref());
    }
}

#[test]
fn nesting_ends_at_its_bound() {
    for map in [false, true] {
        let mut any_value = Vec::new();
        protobuf::put_uint_always(&mut any_value, 3, 1);
        let nest = |inner: &[u8]| {
            let mut outer = Vec::new();
            protobuf::message(&mut outer, if map { 6 } else { 5 }, |out| {
                if map {
                    protobuf::message(out, 1, |out| protobuf::put_bytes_always(out, 2, inner));
                } else {
                    protobuf::put_bytes_always(out, 1, inner);
                }
            });
            outer
        };
        for depth in 1..=3_000 {
            any_value = nest(&any_value);
            if [MAX_DEPTH, MAX_DEPTH + 1, 3_000].contains(&depth) {
                let json = String::from_utf8(to_json(&with_value(&any_value), Enums::Numbers).unwrap()).unwrap();
                assert_eq!(json.matches("\"values\"").count(), MAX_DEPTH as usize);
                assert_eq!(json.contains("intValue"), depth == MAX_DEPTH);
                let mut value = ValueView::parse(&any_value).unwrap().into_value().unwrap();
                let mut levels = 0;
                while let Value::Array(_) | Value::Map(_) = value {
                    value = match value {
                        Value::Array(mut values) => values.remove(0),
                        Value::Map(mut entries) => entries.remove(0).1,
                        other => other,
                    };
                    levels += 1;
                }
                assert_eq!(levels, MAX_DEPTH);
                assert_eq!(value, if depth == MAX_DEPTH { Value::Int(1) } else { Value::Null });
            }
        }
    }
}

#[test]
fn envelopes_hold_their_spans() {
    let mut random = Random(6);
    for _ in 0..300 {
        let mut expected = ExportTraceServiceRequest::default();
        let mut encoded = Vec::new();
        for _ in 0..random.below(3) {
            let resource = Resource { attributes: random.attributes(2), ..Resource::default() };
            let mut scopes = Vec::new();
            let mut runs = Vec::new();
            for _ in 0..random.below(4) {
                let scope = InstrumentationScope {
                    name: random.text(),
                    version: random.text(),
                    attributes: random.attributes(1),
                    dropped_attributes_count: random.number() as u32,
                };
                let spans: Vec<_> = (0..random.below(4)).map(|_| random.span()).collect();
                let mut entries = Vec::new();
                for span in &spans {
                    protobuf::put_bytes_always(&mut entries, 2, &span.encode_to_vec());
                }
                let schema_url = random.text();
                runs.push((scope.encode_to_vec(), schema_url.clone(), entries));
                if !spans.is_empty() {
                    scopes.push(ScopeSpans { scope: Some(scope), spans, schema_url });
                }
            }
            encoded.push((resource.encode_to_vec(), runs));
            if !scopes.is_empty() {
                expected.resource_spans.push(ResourceSpans {
                    resource: Some(resource),
                    scope_spans: scopes,
                    ..ResourceSpans::default()
                });
            }
        }
        let runs: Vec<Vec<ScopeRun<'_>>> = encoded
            .iter()
            .map(|(_, runs)| {
                runs.iter().map(|(scope, schema_url, spans)| ScopeRun { scope, schema_url, spans }).collect()
            })
            .collect();
        let resources: Vec<ResourceRuns<'_>> = encoded
            .iter()
            .zip(&runs)
            .map(|((resource, _), runs)| ResourceRuns { resource: resource.as_slice(), runs })
            .collect();

        let mut out = Vec::new();
        for one in &resources {
            envelope::protobuf(one.resource, one.runs, &mut out);
        }
        assert!(out == expected.encode_to_vec(), "as short as the official encoder's");
        let mut out = Vec::new();
        envelope::json_many(&resources, Enums::Numbers, &mut out).unwrap();
        assert_eq!(serde_json::from_slice::<ExportTraceServiceRequest>(&out).unwrap(), expected);
        if let [one] = resources[..] {
            let mut single = Vec::new();
            envelope::json(one.resource, one.runs, Enums::Numbers, &mut single).unwrap();
            assert_eq!(single, out);
        }
    }
}

#[test]
fn envelopes_without_spans_are_empty() {
    let run = ScopeRun { scope: b"", schema_url: "https://schema.example", spans: b"" };
    let mut out = Vec::new();
    envelope::protobuf(b"", &[run], &mut out);
    assert!(out.is_empty());
    envelope::json(b"", &[run], Enums::Numbers, &mut out).unwrap();
    assert_eq!(out, br#"{"resourceSpans":[]}"#);
    // What fails leaves nothing behind.
    let broken = ScopeRun { scope: b"", schema_url: "", spans: &[0x12, 0, 0x12, 9] };
    let mut out = b"before".to_vec();
    assert_eq!(envelope::json(b"", &[broken], Enums::Numbers, &mut out), Err(Malformed::Truncated));
    assert_eq!(out, b"before");
}

#[test]
fn answers_of_servers_are_read() {
    let encode = |partial_success| ExportTraceServiceResponse { partial_success }.encode_to_vec();
    assert_eq!(reader::response(b""), Ok(None));
    assert_eq!(reader::response(&encode(None)), Ok(None));
    assert_eq!(reader::response(&encode(Some(ExportTracePartialSuccess::default()))), Ok(None));
    for (rejected_spans, error_message) in [(3, ""), (0, "deprecated"), (i64::MAX, "too many"), (-1, "é")] {
        let error_message = error_message.to_owned();
        let theirs = ExportTracePartialSuccess { rejected_spans, error_message: error_message.clone() };
        let bytes = encode(Some(theirs));
        assert_eq!(reader::response(&bytes), Ok(Some(PartialSuccess { rejected_spans, error_message })));
        assert_eq!(reader::response(&bytes[..bytes.len() - 1]), Err(Malformed::Truncated));
    }
    // An answer that is no protobuf: a web page, say.
    assert!(reader::response(b"<html>").is_err());
}

/// `tests/vectors/otlp_json.json`: spans as protobuf in hex, and the JSON that they become.
#[test]
fn vectors() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/vectors/otlp_json.json");
    let file: serde_json::Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    let cases = file["cases"].as_array().unwrap();
    assert!(cases.len() > 60);
    for case in cases {
        let name = case["name"].as_str().unwrap();
        let hex = case["input"]["span"].as_str().unwrap();
        let bytes: Vec<u8> =
            (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap()).collect();
        let expected = &case["expected"];
        assert!(expected["error"] == true || expected.get("json").is_some(), "{name} expects nothing");
        for (enums, key) in [(Enums::Numbers, "json"), (Enums::Names, "names")] {
            let result = to_json(&bytes, enums);
            if expected["error"] == true {
                assert!(result.is_err(), "{name}");
            } else if let Some(expected) = expected.get(key) {
                let json: serde_json::Value = serde_json::from_slice(&result.unwrap()).unwrap();
                assert_eq!(&json, expected, "{name}: {key}");
            }
        }
    }
}

//! OTLP/JSON as it is sent, brought into the one form that the schema crate decodes.
//!
//! The specification wants enums as numbers, ids in hex and 64-bit integers as strings; real senders also write enum
//! names, `null` for what is unset, numbers for strings and strings for numbers, and they add fields of later versions.
//! What is known is brought into form, what is null or unknown is left out, and what cannot be understood is an error
//! that names its field.

use std::fmt;

use serde_json::{Map, Number, Value};

/// What a field holds.
#[derive(Clone, Copy)]
enum Shape {
    Text,
    /// Bytes in hexadecimal digits.
    Hex,
    /// An unsigned integer of 32 bits, out as a number.
    Small,
    /// An unsigned integer of 64 bits, out as a string.
    Large,
    /// An enum by number or by name; an unknown one is 0, the unspecified value.
    Enum(&'static [&'static str]),
    Message(&'static [Field]),
    List(&'static [Field]),
    /// A list that must be there, if only empty.
    Values(&'static [Field]),
    AnyValue,
}

type Field = (&'static str, Shape);

const KINDS: &[&str] = &[
    "SPAN_KIND_UNSPECIFIED",
    "SPAN_KIND_INTERNAL",
    "SPAN_KIND_SERVER",
    "SPAN_KIND_CLIENT",
    "SPAN_KIND_PRODUCER",
    "SPAN_KIND_CONSUMER",
];
const CODES: &[&str] = &["STATUS_CODE_UNSET", "STATUS_CODE_OK", "STATUS_CODE_ERROR"];

static REQUEST: &[Field] = &[("resourceSpans", Shape::List(RESOURCE_SPANS))];
static RESOURCE_SPANS: &[Field] =
    &[("resource", Shape::Message(RESOURCE)), ("scopeSpans", Shape::List(SCOPE_SPANS)), ("schemaUrl", Shape::Text)];
static RESOURCE: &[Field] = &[("attributes", Shape::List(KEY_VALUE)), ("droppedAttributesCount", Shape::Small)];
static SCOPE_SPANS: &[Field] =
    &[("scope", Shape::Message(SCOPE)), ("spans", Shape::List(SPAN)), ("schemaUrl", Shape::Text)];
static SCOPE: &[Field] = &[
    ("name", Shape::Text),
    ("version", Shape::Text),
    ("attributes", Shape::List(KEY_VALUE)),
    ("droppedAttributesCount", Shape::Small),
];
static SPAN: &[Field] = &[
    ("traceId", Shape::Hex),
    ("spanId", Shape::Hex),
    ("traceState", Shape::Text),
    ("parentSpanId", Shape::Hex),
    ("flags", Shape::Small),
    ("name", Shape::Text),
    ("kind", Shape::Enum(KINDS)),
    ("startTimeUnixNano", Shape::Large),
    ("endTimeUnixNano", Shape::Large),
    ("attributes", Shape::List(KEY_VALUE)),
    ("droppedAttributesCount", Shape::Small),
    ("events", Shape::List(EVENT)),
    ("droppedEventsCount", Shape::Small),
    ("links", Shape::List(LINK)),
    ("droppedLinksCount", Shape::Small),
    ("status", Shape::Message(STATUS)),
];
static EVENT: &[Field] = &[
    ("timeUnixNano", Shape::Large),
    ("name", Shape::Text),
    ("attributes", Shape::List(KEY_VALUE)),
    ("droppedAttributesCount", Shape::Small),
];
static LINK: &[Field] = &[
    ("traceId", Shape::Hex),
    ("spanId", Shape::Hex),
    ("traceState", Shape::Text),
    ("attributes", Shape::List(KEY_VALUE)),
    ("droppedAttributesCount", Shape::Small),
    ("flags", Shape::Small),
];
static STATUS: &[Field] = &[("message", Shape::Text), ("code", Shape::Enum(CODES))];
static KEY_VALUE: &[Field] = &[("key", Shape::Text), ("value", Shape::AnyValue)];
static KEY_VALUE_LIST: &[Field] = &[("values", Shape::Values(KEY_VALUE))];

/// What is wrong with a document, and where: `spans.kind: not an enum`.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Malformed {
    path: Vec<&'static str>,
    what: &'static str,
}

impl Malformed {
    fn new(what: &'static str) -> Self {
        Self { path: Vec::new(), what }
    }

    fn within(mut self, field: &'static str) -> Self {
        self.path.push(field);
        self
    }
}

impl fmt::Display for Malformed {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path: Vec<&str> = self.path.iter().rev().copied().collect();
        match path.as_slice() {
            [] => formatter.write_str(self.what),
            path => write!(formatter, "{}: {}", path.join("."), self.what),
        }
    }
}

/// Brings an `ExportTraceServiceRequest` into form.
pub(crate) fn normalise(request: Value) -> Result<Value, Malformed> {
    message(request, REQUEST)
}

fn message(value: Value, fields: &'static [Field]) -> Result<Value, Malformed> {
    let Value::Object(mut object) = value else {
        return Err(Malformed::new("not an object"));
    };
    let mut out = Map::new();
    for (name, kind) in fields {
        match object.remove(*name).unwrap_or(Value::Null) {
            // The schema crate has no default for these two.
            Value::Null if matches!(kind, Shape::Values(_)) => {
                out.insert((*name).to_owned(), Value::Array(Vec::new()));
            }
            Value::Null if *name == "key" => {
                out.insert((*name).to_owned(), Value::String(String::new()));
            }
            Value::Null => {}
            value => {
                let value = shaped(value, *kind).map_err(|error| error.within(name))?;
                out.insert((*name).to_owned(), value);
            }
        }
    }
    Ok(Value::Object(out))
}

fn shaped(value: Value, shape: Shape) -> Result<Value, Malformed> {
    match shape {
        Shape::Text => match value {
            Value::String(_) => Ok(value),
            _ => Err(Malformed::new("not a string")),
        },
        Shape::Hex => match value {
            Value::String(text)
                if text.len().is_multiple_of(2) && text.bytes().all(|byte| byte.is_ascii_hexdigit()) =>
            {
                Ok(Value::String(text))
            }
            _ => Err(Malformed::new("not hexadecimal")),
        },
        Shape::Small => unsigned(&value)
            .and_then(|number| u32::try_from(number).ok())
            .map(Value::from)
            .ok_or(Malformed::new("not an unsigned integer of 32 bits")),
        Shape::Large => unsigned(&value)
            .map(|number| Value::String(number.to_string()))
            .ok_or(Malformed::new("not an unsigned integer of 64 bits")),
        Shape::Enum(names) => enumerated(&value, names),
        Shape::Message(fields) => message(value, fields),
        Shape::List(fields) | Shape::Values(fields) => match value {
            Value::Array(items) => {
                let items = items.into_iter().filter(|item| !item.is_null());
                items.map(|item| message(item, fields)).collect::<Result<Vec<_>, _>>().map(Value::Array)
            }
            _ => Err(Malformed::new("not an array")),
        },
        Shape::AnyValue => any_value(value),
    }
}

fn unsigned(value: &Value) -> Option<u64> {
    match value {
        Value::Number(number) => number.as_u64(),
        Value::String(text) => text.parse().ok(),
        _ => None,
    }
}

fn enumerated(value: &Value, names: &[&str]) -> Result<Value, Malformed> {
    let number = match value {
        Value::Number(number) => number.as_u64(),
        Value::String(text) => match text.parse() {
            Ok(number) => Some(number),
            Err(_) => names.iter().position(|name| name == text).map(|at| at as u64),
        },
        _ => return Err(Malformed::new("neither a number nor a name")),
    };
    let known = number.filter(|&number| number < names.len() as u64);
    Ok(Value::from(known.unwrap_or(0)))
}

/// The first variant of an `AnyValue` that is there and not null; an empty one if there is none.
fn any_value(value: Value) -> Result<Value, Malformed> {
    let Value::Object(object) = value else {
        return Err(Malformed::new("not an object"));
    };
    for (name, value) in object {
        if value.is_null() {
            continue;
        }
        let (name, value) = match name.as_str() {
            "stringValue" => ("stringValue", shaped(value, Shape::Text)),
            "boolValue" => (
                "boolValue",
                match value {
                    Value::Bool(_) => Ok(value),
                    _ => Err(Malformed::new("not a boolean")),
                },
            ),
            "intValue" => ("intValue", integer(&value)),
            "doubleValue" => match double(value) {
                // JSON has no number for these: their names stay, as text.
                Ok(Value::String(name)) => ("stringValue", Ok(Value::String(name))),
                other => ("doubleValue", other),
            },
            "arrayValue" => ("arrayValue", array(value)),
            "kvlistValue" => ("kvlistValue", message(value, KEY_VALUE_LIST)),
            "bytesValue" => ("bytesValue", base64(value)),
            _ => continue,
        };
        let value = value.map_err(|error| error.within(name))?;
        return Ok(Value::Object(Map::from_iter([(name.to_owned(), value)])));
    }
    Ok(Value::Object(Map::new()))
}

fn integer(value: &Value) -> Result<Value, Malformed> {
    let number = match value {
        Value::Number(number) => number.as_i64(),
        Value::String(text) => text.parse::<i64>().ok(),
        _ => None,
    };
    number.map(|number| Value::String(number.to_string())).ok_or(Malformed::new("not an integer of 64 bits"))
}

fn double(value: Value) -> Result<Value, Malformed> {
    match value {
        Value::Number(number) => Ok(Value::Number(number)),
        Value::String(text) if matches!(text.as_str(), "NaN" | "Infinity" | "-Infinity") => Ok(Value::String(text)),
        Value::String(text) => {
            text.parse().ok().and_then(Number::from_f64).map(Value::Number).ok_or(Malformed::new("not a number"))
        }
        _ => Err(Malformed::new("not a number")),
    }
}

fn array(value: Value) -> Result<Value, Malformed> {
    let Value::Object(mut object) = value else {
        return Err(Malformed::new("not an object"));
    };
    let items = match object.remove("values").unwrap_or(Value::Null) {
        Value::Null => Vec::new(),
        Value::Array(items) => items,
        _ => return Err(Malformed::new("not an array").within("values")),
    };
    let items = items
        .into_iter()
        .map(|item| if item.is_null() { Ok(Value::Object(Map::new())) } else { any_value(item) })
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| error.within("values"))?;
    Ok(Value::Object(Map::from_iter([("values".to_owned(), Value::Array(items))])))
}

/// Base64 in either alphabet, padded or not, to the standard padded one.
fn base64(value: Value) -> Result<Value, Malformed> {
    let Value::String(text) = value else {
        return Err(Malformed::new("not base64"));
    };
    let mut text: String = text
        .trim_end_matches('=')
        .chars()
        .map(|letter| match letter {
            '-' => '+',
            '_' => '/',
            other => other,
        })
        .collect();
    while !text.len().is_multiple_of(4) {
        text.push('=');
    }
    Ok(Value::String(text))
}

#[cfg(test)]
mod tests {
    use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
    use opentelemetry_proto::tonic::common::v1::any_value::Value as Any;
    use opentelemetry_proto::tonic::trace::v1::Span;
    use serde_json::json;

    use super::*;

    fn decode(request: Value) -> Result<ExportTraceServiceRequest, String> {
        let request = normalise(request).map_err(|error| error.to_string())?;
        serde_json::from_value(request).map_err(|error| error.to_string())
    }

    fn decode_span(span: Value) -> Result<Span, String> {
        let request = decode(json!({"resourceSpans": [{"scopeSpans": [{"spans": [span]}]}]}))?;
        Ok(request.resource_spans[0].scope_spans[0].spans[0].clone())
    }

    fn decode_value(value: Value) -> Result<Option<Any>, String> {
        let span = decode_span(json!({"attributes": [{"key": "k", "value": value}]}))?;
        Ok(span.attributes[0].value.clone().and_then(|value| value.value))
    }

    #[test]
    fn the_form_of_the_specification_stays_as_it_is() {
        let span = decode_span(json!({
            "traceId": "5B8EFFF798038103D269B633813FC60C", "spanId": "EEE19B7EC3C1B174",
            "parentSpanId": "eee19b7ec3c1b173", "name": "n", "kind": 2, "flags": 257,
            "startTimeUnixNano": "1544712660000000000", "endTimeUnixNano": "18446744073709551615",
            "attributes": [{"key": "a", "value": {"intValue": "-9223372036854775808"}}],
            "droppedAttributesCount": 3,
            "events": [{"timeUnixNano": "5", "name": "e"}],
            "links": [{"traceId": "5b8efff798038103d269b633813fc60c", "spanId": "eee19b7ec3c1b174", "flags": 1}],
            "status": {"code": 2, "message": "boom"},
        }))
        .unwrap();
        assert_eq!(span.trace_id[..2], [0x5B, 0x8E]);
        assert_eq!(span.parent_span_id.len(), 8);
        assert_eq!((span.kind, span.flags, span.dropped_attributes_count), (2, 257, 3));
        assert_eq!((span.start_time_unix_nano, span.end_time_unix_nano), (1_544_712_660_000_000_000, u64::MAX));
        assert_eq!(span.events[0].time_unix_nano, 5);
        assert_eq!(span.links[0].flags, 1);
        let status = span.status.unwrap();
        assert_eq!((status.code, status.message.as_str()), (2, "boom"));
        assert_eq!(span.attributes[0].value.clone().unwrap().value, Some(Any::IntValue(i64::MIN)));
    }

    #[test]
    fn enums_come_as_numbers_names_and_digits() {
        for (kind, number) in [
            (json!("SPAN_KIND_SERVER"), 2),
            (json!(3), 3),
            (json!("4"), 4),
            (json!(null), 0),
            (json!("SPAN_KIND_LATER"), 0),
            (json!(99), 0),
            (json!(-1), 0),
        ] {
            assert_eq!(decode_span(json!({ "kind": kind })).unwrap().kind, number, "{kind}");
        }
        let status = decode_span(json!({"status": {"code": "STATUS_CODE_ERROR"}})).unwrap().status.unwrap();
        assert_eq!(status.code, 2);
        assert!(decode_span(json!({"kind": {}})).is_err());
    }

    #[test]
    fn what_is_null_or_unknown_is_left_out() {
        let span = decode_span(json!({
            "traceId": null, "spanId": null, "parentSpanId": null, "name": null, "attributes": null, "events": null,
            "links": null, "status": null, "startTimeUnixNano": null, "fieldOfTomorrow": {"deep": [1]},
        }))
        .unwrap();
        assert_eq!(span, Span::default());
        assert_eq!(decode(json!({})).unwrap(), ExportTraceServiceRequest::default());
        let request = decode(json!({"resourceSpans": [null, {"resource": null, "scopeSpans": null}]})).unwrap();
        assert_eq!(request.resource_spans.len(), 1);
    }

    #[test]
    fn values_of_every_kind() {
        for (value, expected) in [
            (json!({"stringValue": "s"}), Some(Any::StringValue("s".into()))),
            (json!({"boolValue": false}), Some(Any::BoolValue(false))),
            (json!({"intValue": 7}), Some(Any::IntValue(7))),
            (json!({"intValue": "-7"}), Some(Any::IntValue(-7))),
            (json!({"doubleValue": 1}), Some(Any::DoubleValue(1.0))),
            (json!({"doubleValue": "2.5"}), Some(Any::DoubleValue(2.5))),
            (json!({"doubleValue": "NaN"}), Some(Any::StringValue("NaN".into()))),
            (json!({"bytesValue": "AP_-"}), Some(Any::BytesValue(vec![0, 255, 254]))),
            (json!({"bytesValue": "AA"}), Some(Any::BytesValue(vec![0]))),
            (json!({"stringValue": null, "intValue": "1"}), Some(Any::IntValue(1))),
            (json!({}), None),
            (json!(null), None),
            (json!({"laterValue": 1}), None),
        ] {
            assert_eq!(decode_value(value.clone()).unwrap(), expected, "{value}");
        }
        let Some(Any::ArrayValue(array)) =
            decode_value(json!({"arrayValue": {"values": [null, {"arrayValue": {}}, {"kvlistValue": {}}]}})).unwrap()
        else {
            panic!("not an array");
        };
        assert_eq!(array.values.len(), 3);
        assert_eq!(array.values[0].value, None);
        assert!(decode_value(json!({"kvlistValue": {"values": [{"value": {"stringValue": "no key"}}]}})).is_ok());
    }

    #[test]
    fn what_cannot_be_understood_is_an_error_with_its_place() {
        for request in [
            json!([]),
            json!("text"),
            json!({"resourceSpans": {}}),
            json!({"resourceSpans": [1]}),
            json!({"resourceSpans": [{"scopeSpans": [{"spans": "x"}]}]}),
        ] {
            assert!(decode(request.clone()).is_err(), "{request}");
        }
        for span in [
            json!({"traceId": "0x12"}),
            json!({"traceId": "123"}),
            json!({"traceId": 5}),
            json!({"startTimeUnixNano": -1}),
            json!({"startTimeUnixNano": 1.5}),
            json!({"startTimeUnixNano": "soon"}),
            json!({"droppedEventsCount": 4_294_967_296_u64}),
            json!({"attributes": [{"key": "k", "value": {"intValue": "9223372036854775808"}}]}),
            json!({"attributes": [{"key": "k", "value": {"bytesValue": "*"}}]}),
            json!({"attributes": [{"key": "k", "value": "bare"}]}),
        ] {
            assert!(decode_span(span.clone()).is_err(), "{span}");
        }
        let error = decode_span(json!({"status": {"message": 1}})).unwrap_err();
        assert_eq!(error, "resourceSpans.scopeSpans.spans.status.message: not a string");
    }
}

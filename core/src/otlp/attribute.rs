//! Writing attributes: a `KeyValue` with its `AnyValue`, whatever message they belong to.

use alloc::vec::Vec;

use super::protobuf::{
    FIXED64, LEN, VARINT, message, put_bytes, put_bytes_always, put_double_always, put_packed, put_uint_always,
};
use crate::flatten::json_text;
use crate::limits::truncate_characters;
use crate::value::{Value, ValueRef, each_once};

/// Lists and maps inside a value, one in the other, that are written as such; what lies deeper is written as JSON text.
/// Receivers refuse a whole request for one value that nests too deeply: the official Rust crate beyond 29 levels.
const MAX_NESTING: usize = 20;
/// The bytes of such a JSON text.
const MAX_JSON: usize = 64 * 1024;

/// Writes a `KeyValue` field. Texts in the value are cut after `length` characters and bytes after `length` bytes (rule
/// SPAN-limits); lists and maps that lie deeper than `depth` levels are written as JSON text.
#[inline]
pub(crate) fn put_attribute(
    out: &mut Vec<u8>,
    field: u32,
    key: &str,
    value: &ValueRef<'_>,
    length: Option<usize>,
    depth: usize,
) {
    if !put_short_attribute(out, field, key, value, length) {
        put_long_attribute(out, field, key, value, length, depth);
    }
}

fn put_long_attribute(
    out: &mut Vec<u8>,
    field: u32,
    key: &str,
    value: &ValueRef<'_>,
    length: Option<usize>,
    depth: usize,
) {
    message(out, field, |out| {
        put_bytes(out, 1, key.as_bytes());
        message(out, 2, |out| put_any_value(out, value, length, depth.min(MAX_NESTING)));
    });
}

/// Writes a `KeyValue` field of which all lengths fit into one byte, as those of most attributes do: with few copies,
/// most of them of a length that the compiler knows. The bytes are those of [`put_long_attribute`].
#[inline]
fn put_short_attribute(out: &mut Vec<u8>, field: u32, key: &str, value: &ValueRef<'_>, length: Option<usize>) -> bool {
    // A tag in `AnyValue`, then a number of so many bytes, the lowest first, and a text.
    let (tag, (number, number_len), text): (u8, (u128, usize), &[u8]) = match *value {
        ValueRef::Str(text) => {
            if text.len() >= 0x80 || length.is_some_and(|length| text.len() > length) {
                return false;
            }
            (STRING_VALUE, (text.len() as u128, 1), text.as_bytes())
        }
        ValueRef::Bool(value) => (BOOL_VALUE, (u128::from(value), 1), &[]),
        // An int64 is the varint of its two's complement.
        ValueRef::Int(value) => (INT_VALUE, varint(value as u64), &[]),
        ValueRef::Double(value) => (DOUBLE_VALUE, (u128::from(value.to_bits()), 8), &[]),
        ValueRef::Other(_) => return false,
    };
    if key.is_empty() || key.len() >= 0x80 || field >= 0x10 {
        return false;
    }
    // Nothing wraps here: all are below 0x80.
    let any_value = number_len.wrapping_add(text.len()).wrapping_add(1);
    let entry = key.len().wrapping_add(any_value).wrapping_add(4);
    if entry >= 0x80 {
        return false;
    }
    let between = number << 24 | u128::from(tag) << 16 | (any_value as u128) << 8 | u128::from(ANY_VALUE);
    out.reserve(entry.wrapping_add(16));
    out.extend_from_slice(&[(field << 3 | LEN) as u8, entry as u8, KEY, key.len() as u8]);
    out.extend_from_slice(key.as_bytes());
    put_packed(out, between, number_len.wrapping_add(3));
    out.extend_from_slice(text);
    true
}

/// A varint as a number with its first byte lowest, and its length in bytes.
#[inline]
fn varint(value: u64) -> (u128, usize) {
    if value < 0x80 {
        return (u128::from(value), 1);
    }
    if value < 0x4000 {
        return (u128::from(value & 0x7f | 0x80 | value >> 7 << 8), 2);
    }
    let (mut bytes, mut len) = (0, 0_usize);
    for shift in 0..10_u32 {
        let bits = value.checked_shr(shift.saturating_mul(7)).unwrap_or_default();
        let more = if bits < 0x80 { 0 } else { 0x80 };
        bytes |= u128::from(bits & 0x7f | more) << shift.saturating_mul(8);
        len = len.saturating_add(1);
        if more == 0 {
            break;
        }
    }
    (bytes, len)
}

/// Tags in `KeyValue` and `AnyValue`: field number and wire type.
const KEY: u8 = 1 << 3 | LEN as u8;
const ANY_VALUE: u8 = 2 << 3 | LEN as u8;
const STRING_VALUE: u8 = 1 << 3 | LEN as u8;
const BOOL_VALUE: u8 = 2 << 3 | VARINT as u8;
const INT_VALUE: u8 = 3 << 3 | VARINT as u8;
const DOUBLE_VALUE: u8 = 4 << 3 | FIXED64 as u8;

/// Writes the content of an `AnyValue`.
fn put_any_value(out: &mut Vec<u8>, value: &ValueRef<'_>, length: Option<usize>, depth: usize) {
    let value = match *value {
        ValueRef::Str(text) => {
            let text = length.map_or(text, |length| truncate_characters(text, length));
            return put_bytes_always(out, 1, text.as_bytes());
        }
        ValueRef::Bool(value) => return put_uint_always(out, 2, u64::from(value)),
        ValueRef::Int(value) => return put_uint_always(out, 3, value as u64),
        ValueRef::Double(value) => return put_double_always(out, 4, value),
        ValueRef::Other(value) => value,
    };
    let deeper = depth.saturating_sub(1);
    match value {
        Value::Bytes(bytes) => {
            let cut = length.and_then(|length| bytes.get(..length)).unwrap_or(bytes);
            put_bytes_always(out, 7, cut);
        }
        Value::Array(_) | Value::Map(_) if depth == 0 => {
            let text = json_text(value, MAX_JSON);
            put_any_value(out, &ValueRef::Str(&text), length, 0);
        }
        Value::Array(values) => message(out, 5, |out| {
            for value in values {
                message(out, 1, |out| put_any_value(out, &value.into(), length, deeper));
            }
        }),
        Value::Map(entries) => message(out, 6, |out| {
            each_once(entries, |key, value| put_attribute(out, 1, key, &value.into(), length, deeper));
        }),
        // Null, as nothing else is left.
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event_type::{EVENT_TYPE, EventType};
    use crate::otlp::reader;
    use crate::span::{SPAN_ATTRIBUTES, derived_attribute};
    use alloc::vec;

    fn long(key: &str, value: &ValueRef<'_>) -> Vec<u8> {
        let mut out = Vec::new();
        put_long_attribute(&mut out, SPAN_ATTRIBUTES, key, value, None, 1);
        out
    }

    /// The value as it is read after it was written.
    fn written(value: &Value<'_>, length: Option<usize>, depth: usize) -> Value<'static> {
        let mut out = Vec::new();
        put_attribute(&mut out, 1, "k", &value.into(), length, depth);
        let (_, value) = reader::Attributes::of(&out, 1).next().unwrap().unwrap();
        value.into_value().unwrap().into_owned()
    }

    /// Rule SPAN-limits: OpenTelemetry, common specification, "Attribute limits".
    #[test]
    fn texts_are_cut_by_characters_and_bytes_by_bytes_however_deep() {
        let bytes = |bytes: &'static [u8]| Value::Bytes(bytes.into());
        let list = |values: &[Value<'static>]| Value::Array(values.to_vec());
        for (value, length, cut) in [
            (Value::from("h\u{e4}\u{df}lich"), 3, Value::from("h\u{e4}\u{df}")),
            (bytes(b"h\xc3\xa4\xff"), 3, bytes(b"h\xc3\xa4")),
            (bytes(b"h\xc3\xa4\xff"), 2, bytes(b"h\xc3")),
            (bytes(b"abc"), 0, bytes(b"")),
            (bytes(b"abc"), 4, bytes(b"abc")),
            (
                list(&[bytes(b"abcd"), "abcd".into(), 12_345.into(), list(&[bytes(b"xyz")])]),
                2,
                list(&[bytes(b"ab"), "ab".into(), 12_345.into(), list(&[bytes(b"xy")])]),
            ),
            // Keys are not cut.
            (Value::Map(vec![("long".into(), bytes(b"abcd"))]), 2, Value::Map(vec![("long".into(), bytes(b"ab"))])),
        ] {
            assert_eq!(written(&value, Some(length), 20), cut, "{length}");
            assert_eq!(written(&value, None, 20), value);
        }
        // What is written as JSON is text.
        assert_eq!(written(&list(&[bytes(b"abcd")]), Some(4), 0), "[\"ab".into());
    }

    /// Values are made by hand here: no reader gives one that nests so deeply.
    #[test]
    fn a_value_of_any_depth_is_written_on_a_small_stack() {
        let mut value = (0..100_000).fold(Value::Int(7), |value, _| Value::Array(vec![value]));
        let text = written(&value, None, usize::MAX);
        assert!(matches!(text, Value::Array(_)));
        while let Value::Array(mut items) = value {
            value = items.remove(0);
        }
    }

    #[test]
    fn the_short_way_writes_what_the_long_way_does() {
        let text = "x".repeat(130);
        let values = [0, 1, 0x7f, 0x80, 0x3fff, 0x4000, i64::from(i32::MAX), i64::MAX, -1, i64::MIN].map(ValueRef::Int);
        let values = values.into_iter().chain([ValueRef::Bool(false), ValueRef::Bool(true), ValueRef::Double(-0.1)]);
        let texts = (0..=text.len()).map(|end| ValueRef::Str(text.get(..end).unwrap_or_default()));
        for value in values.chain(texts) {
            for key in ["k", "gen_ai.operation.name", &text] {
                let expected = long(key, &value);
                let mut out = Vec::new();
                let short = put_short_attribute(&mut out, SPAN_ATTRIBUTES, key, &value, None);
                assert_eq!(short, expected[1] < 0x80, "{key} {value:?}");
                assert_eq!(out, if short { expected } else { Vec::new() }, "{key} {value:?}");
            }
        }
    }

    #[test]
    fn derived_event_types_are_attributes() {
        for event_type in [EventType::Model, EventType::Tool, EventType::Chain, EventType::Session] {
            assert_eq!(derived_attribute(event_type), long(EVENT_TYPE, &ValueRef::Str(event_type.as_str())));
        }
    }
}

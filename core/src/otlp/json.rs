//! OTLP/JSON, transcoded from protobuf bytes by whatever encoder: OTLP specification, "JSON Protobuf Encoding", and
//! where that is silent, protobuf's own mapping to JSON. Text is written straight into the output.
//!
//! | rule | what |
//! | --- | --- |
//! | OJ1 | Keys are in lowerCamelCase. Fields that are not set are left out. |
//! | OJ2 | Trace and span ids are in lower-case hex, whatever their length. |
//! | OJ3 | Other bytes are in base64: the standard alphabet, padded. |
//! | OJ4 | Integers of 64 bits are decimal, in strings; those of 32 bits are numbers. |
//! | OJ5 | Doubles have the shortest digits that read back the same; integral ones keep their `.0`. NaN, `Infinity` and `-Infinity` are strings. |
//! | OJ6 | Enums are numbers; in HoneyHive's dialect names ([`Enums`]). A number without a name stays a number. |
//! | OJ7 | An `AnyValue` with nothing set is `{}`. An attribute always has key and value, a list or map always `values`. |
//! | OJ8 | Quotes, backslashes and control characters are escaped. What is not UTF-8 becomes U+FFFD, since JSON has no other bytes. |
//! | OJ9 | Fields come in any order, entries of a list between others. The last value of a singular field counts. What is unknown is skipped. |
//! | OJ10 | Malformed bytes are an error, and nothing is written. |
//! | OJ11 | Arrays and maps within [`MAX_DEPTH`] others are written as `{}`. |

use alloc::vec::Vec;

use super::reader::{
    Attributes, EventView, Fields, LinkView, MAX_DEPTH, Malformed, SpanView, StatusView, Text, ValueView, Wire,
};
use crate::escape;
use crate::id::encode_hex;
use crate::number;

/// The dialect of OTLP/JSON: above all how enums are written.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Enums {
    /// As numbers: the specification's form.
    #[default]
    Numbers,
    /// As names, `SPAN_KIND_SERVER`: HoneyHive's form. As in everything its backend is known to take, a span then has
    /// `events` and a `status` even if there is nothing in them, and a number that is not finite is a `stringValue`.
    Names,
}

/// Appends the JSON object of the `Span` with these bytes.
///
/// # Errors
///
/// How the bytes are malformed; `out` is then as it was (rule OJ10).
pub fn span(bytes: &[u8], enums: Enums, out: &mut Vec<u8>) -> Result<(), Malformed> {
    all_or_nothing(out, |out| write_span(&SpanView::parse(bytes)?, enums, out))
}

/// Appends the JSON object of the `Resource` with these bytes.
///
/// # Errors
///
/// How the bytes are malformed; `out` is then as it was (rule OJ10).
pub fn resource(bytes: &[u8], enums: Enums, out: &mut Vec<u8>) -> Result<(), Malformed> {
    all_or_nothing(out, |out| {
        let mut dropped = 0;
        for field in Fields::of(bytes) {
            if let (2, Wire::Varint(count)) = field? {
                dropped = count as u32;
            }
        }
        let mut object = Object::open(out);
        object.attributes(Attributes::of(bytes, 1), enums)?;
        object.uint32("droppedAttributesCount", dropped);
        object.close();
        Ok(())
    })
}

/// Appends the JSON object of the `InstrumentationScope` with these bytes.
///
/// # Errors
///
/// How the bytes are malformed; `out` is then as it was (rule OJ10).
pub fn scope(bytes: &[u8], enums: Enums, out: &mut Vec<u8>) -> Result<(), Malformed> {
    all_or_nothing(out, |out| {
        let (mut name, mut version, mut dropped) = (Text::default(), Text::default(), 0);
        for field in Fields::of(bytes) {
            match field? {
                (1, Wire::Bytes(text)) => name = Text::of(text),
                (2, Wire::Bytes(text)) => version = Text::of(text),
                (4, Wire::Varint(count)) => dropped = count as u32,
                _ => {}
            }
        }
        let mut object = Object::open(out);
        object.text("name", name);
        object.text("version", version);
        object.attributes(Attributes::of(bytes, 3), enums)?;
        object.uint32("droppedAttributesCount", dropped);
        object.close();
        Ok(())
    })
}

/// Appends a text as a JSON string.
pub(super) fn text(text: &str, out: &mut Vec<u8>) {
    write_text(Text::of(text.as_bytes()), out);
}

/// Runs `write` and takes back what it has written if it fails (rule OJ10).
pub(super) fn all_or_nothing(
    out: &mut Vec<u8>,
    write: impl FnOnce(&mut Vec<u8>) -> Result<(), Malformed>,
) -> Result<(), Malformed> {
    let start = out.len();
    let result = write(out);
    if result.is_err() {
        out.truncate(start);
    }
    result
}

fn write_span(span: &SpanView<'_>, enums: Enums, out: &mut Vec<u8>) -> Result<(), Malformed> {
    let mut object = Object::open(out);
    object.id("traceId", span.trace_id);
    object.id("spanId", span.span_id);
    object.text("traceState", span.trace_state);
    object.id("parentSpanId", span.parent_span_id);
    object.text("name", span.name);
    object.enumeration("kind", span.kind, enums, &KINDS);
    object.uint64("startTimeUnixNano", span.start_ns);
    object.uint64("endTimeUnixNano", span.end_ns);
    object.attributes(span.attributes(), enums)?;
    object.uint32("droppedAttributesCount", span.dropped_attributes);
    object.list("events", span.events(), enums == Enums::Names, |event, out| write_event(&event?, enums, out))?;
    object.uint32("droppedEventsCount", span.dropped_events);
    object.list("links", span.links(), false, |link, out| write_link(&link?, enums, out))?;
    object.uint32("droppedLinksCount", span.dropped_links);
    match span.status {
        Some(status) => write_status(status, enums, object.key("status")),
        None if enums == Enums::Names => write_status(StatusView::default(), enums, object.key("status")),
        None => {}
    }
    object.uint32("flags", span.flags);
    object.close();
    Ok(())
}

fn write_event(event: &EventView<'_>, enums: Enums, out: &mut Vec<u8>) -> Result<(), Malformed> {
    let mut object = Object::open(out);
    object.uint64("timeUnixNano", event.time_ns);
    object.text("name", event.name);
    object.attributes(event.attributes(), enums)?;
    object.uint32("droppedAttributesCount", event.dropped_attributes);
    object.close();
    Ok(())
}

fn write_link(link: &LinkView<'_>, enums: Enums, out: &mut Vec<u8>) -> Result<(), Malformed> {
    let mut object = Object::open(out);
    object.id("traceId", link.trace_id);
    object.id("spanId", link.span_id);
    object.text("traceState", link.trace_state);
    object.attributes(link.attributes(), enums)?;
    object.uint32("droppedAttributesCount", link.dropped_attributes);
    object.uint32("flags", link.flags);
    object.close();
    Ok(())
}

fn write_status(status: StatusView<'_>, enums: Enums, out: &mut Vec<u8>) {
    let mut object = Object::open(out);
    object.text("message", status.message);
    if status.code != 0 || enums == Enums::Names {
        write_enum(status.code, enums, &STATUS_CODES, object.key("code"));
    }
    object.close();
}

/// The names of `SpanKind`, by number.
const KINDS: [&str; 6] = [
    "SPAN_KIND_UNSPECIFIED",
    "SPAN_KIND_INTERNAL",
    "SPAN_KIND_SERVER",
    "SPAN_KIND_CLIENT",
    "SPAN_KIND_PRODUCER",
    "SPAN_KIND_CONSUMER",
];

/// The names of `StatusCode`, by number.
const STATUS_CODES: [&str; 3] = ["STATUS_CODE_UNSET", "STATUS_CODE_OK", "STATUS_CODE_ERROR"];

/// An object that is being written: knows whether a comma is due.
struct Object<'o> {
    out: &'o mut Vec<u8>,
    empty: bool,
}

impl<'o> Object<'o> {
    fn open(out: &'o mut Vec<u8>) -> Self {
        out.push(b'{');
        Self { out, empty: true }
    }

    fn close(self) {
        self.out.push(b'}');
    }

    /// Writes a key, which needs no escapes; the value is to follow.
    fn key(&mut self, key: &str) -> &mut Vec<u8> {
        if !self.empty {
            self.out.push(b',');
        }
        self.empty = false;
        self.out.push(b'"');
        self.out.extend_from_slice(key.as_bytes());
        self.out.extend_from_slice(b"\":");
        self.out
    }

    /// Rule OJ2.
    fn id(&mut self, key: &str, id: &[u8]) {
        if !id.is_empty() {
            let out = self.key(key);
            out.push(b'"');
            let start = out.len();
            out.resize(start.saturating_add(id.len().saturating_mul(2)), b'0');
            encode_hex(id, out.get_mut(start..).unwrap_or_default());
            out.push(b'"');
        }
    }

    fn text(&mut self, key: &str, text: Text<'_>) {
        if !text.is_empty() {
            write_text(text, self.key(key));
        }
    }

    fn enumeration(&mut self, key: &str, number: i32, enums: Enums, names: &[&str]) {
        if number != 0 {
            write_enum(number, enums, names, self.key(key));
        }
    }

    /// Rule OJ4.
    fn uint64(&mut self, key: &str, value: u64) {
        if value != 0 {
            let out = self.key(key);
            out.push(b'"');
            number::unsigned(value, &mut |piece| put(piece, out));
            out.push(b'"');
        }
    }

    /// Rule OJ4.
    fn uint32(&mut self, key: &str, value: u32) {
        if value != 0 {
            let out = self.key(key);
            number::unsigned(value.into(), &mut |piece| put(piece, out));
        }
    }

    fn attributes(&mut self, attributes: Attributes<'_>, enums: Enums) -> Result<(), Malformed> {
        self.list("attributes", attributes, false, |entry, out| write_key_value(entry, enums, MAX_DEPTH, out))
    }

    /// Writes a list unless it is empty and need not be there.
    fn list<T>(
        &mut self,
        key: &str,
        items: impl Iterator<Item = T>,
        always: bool,
        write: impl FnMut(T, &mut Vec<u8>) -> Result<(), Malformed>,
    ) -> Result<(), Malformed> {
        let mut items = items.peekable();
        if always || items.peek().is_some() {
            write_list(items, self.key(key), write)?;
        }
        Ok(())
    }
}

fn write_list<T>(
    items: impl Iterator<Item = T>,
    out: &mut Vec<u8>,
    mut write: impl FnMut(T, &mut Vec<u8>) -> Result<(), Malformed>,
) -> Result<(), Malformed> {
    out.push(b'[');
    for (i, item) in items.enumerate() {
        if i > 0 {
            out.push(b',');
        }
        write(item, out)?;
    }
    out.push(b']');
    Ok(())
}

/// Key and value are always there, since readers exist that insist on both (rule OJ7).
fn write_key_value(
    entry: Result<(Text<'_>, ValueView<'_>), Malformed>,
    enums: Enums,
    depth: u32,
    out: &mut Vec<u8>,
) -> Result<(), Malformed> {
    let (key, value) = entry?;
    let mut object = Object::open(out);
    write_text(key, object.key("key"));
    write_value(value, enums, depth, object.key("value"))?;
    object.close();
    Ok(())
}

/// Writes an `AnyValue` (rule OJ7). Where `depth` is used up, arrays and maps are empty values (rule OJ11).
fn write_value(value: ValueView<'_>, enums: Enums, depth: u32, out: &mut Vec<u8>) -> Result<(), Malformed> {
    let deeper = depth.saturating_sub(1);
    let mut object = Object::open(out);
    match value {
        ValueView::Null => {}
        ValueView::Bool(value) => put(if value { "true" } else { "false" }, object.key("boolValue")),
        ValueView::Int(value) => {
            let out = object.key("intValue");
            out.push(b'"');
            number::integer(value, &mut |piece| put(piece, out));
            out.push(b'"');
        }
        // Rule OJ5.
        ValueView::Double(value) if value.is_finite() => {
            let out = object.key("doubleValue");
            number::double(value, &mut |piece| put(piece, out));
        }
        ValueView::Double(value) => {
            let out = object.key(if enums == Enums::Names { "stringValue" } else { "doubleValue" });
            out.extend_from_slice(match value {
                f64::INFINITY => b"\"Infinity\"",
                f64::NEG_INFINITY => b"\"-Infinity\"",
                _ => b"\"NaN\"",
            });
        }
        ValueView::Str(text) => write_text(text, object.key("stringValue")),
        ValueView::Bytes(bytes) => write_base64(bytes, object.key("bytesValue")),
        ValueView::Array(_) | ValueView::Map(_) if depth == 0 => {}
        ValueView::Array(values) => {
            let mut list = Object::open(object.key("arrayValue"));
            write_list(values, list.key("values"), |value, out| write_value(value?, enums, deeper, out))?;
            list.close();
        }
        ValueView::Map(entries) => {
            let mut list = Object::open(object.key("kvlistValue"));
            write_list(entries, list.key("values"), |entry, out| write_key_value(entry, enums, deeper, out))?;
            list.close();
        }
    }
    object.close();
    Ok(())
}

/// A number that has no name stays a number (rule OJ6).
fn write_enum(number: i32, enums: Enums, names: &[&str], out: &mut Vec<u8>) {
    let name = usize::try_from(number).ok().and_then(|number| names.get(number));
    match name {
        Some(name) if enums == Enums::Names => {
            out.push(b'"');
            put(name, out);
            out.push(b'"');
        }
        _ => number::integer(number.into(), &mut |piece| put(piece, out)),
    }
}

fn put(text: &str, out: &mut Vec<u8>) {
    out.extend_from_slice(text.as_bytes());
}

/// Rule OJ8.
fn write_text(text: Text<'_>, out: &mut Vec<u8>) {
    let bytes = text.as_bytes();
    out.push(b'"');
    let put = &mut |piece: &str| out.extend_from_slice(piece.as_bytes());
    // Nearly all text is valid, which is faster to find out for the whole.
    match core::str::from_utf8(bytes) {
        Ok(text) => escape::json(text, put),
        Err(_) => {
            for chunk in bytes.utf8_chunks() {
                escape::json(chunk.valid(), put);
                if !chunk.invalid().is_empty() {
                    put("\u{fffd}");
                }
            }
        }
    }
    out.push(b'"');
}

/// Rule OJ3.
fn write_base64(bytes: &[u8], out: &mut Vec<u8>) {
    out.push(b'"');
    escape::base64(bytes, &mut |piece: &str| out.extend_from_slice(piece.as_bytes()));
    out.push(b'"');
}

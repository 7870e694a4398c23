//! Writing a span that has ended as OTLP: one protobuf entry, in one pass, straight into the batch it travels in.
//!
//! A [`SpanWriter`] is begun with the span's head, given attributes, events and links as they come, and finished with
//! what the writer itself adds: the routing attributes, the derived event type, the status and the dropped counts.

use alloc::vec::Vec;

use crate::event_type::{Derivation, EVENT_TYPE};
use crate::flatten::json_text;
use crate::id::{SpanId, TraceFlags, TraceId};
use crate::limits::{Limits, truncate_characters};
use crate::otlp::protobuf::{
    FIXED64, LEN, Open, VARINT, close, message, open, put_bytes, put_bytes_always, put_double_always, put_fixed32,
    put_fixed64, put_uint, put_uint_always, put_varint, varint_len,
};
use crate::routing::{Routing, RoutingKey};
use crate::value::Value;

/// What a span does in its trace: the numbers of OTLP.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[repr(u8)]
pub enum Kind {
    /// Work inside a service.
    #[default]
    Internal = 1,
    /// The handling of a request.
    Server = 2,
    /// A request to another service.
    Client = 3,
    /// The sending of a message.
    Producer = 4,
    /// The handling of a message.
    Consumer = 5,
}

impl Kind {
    /// From the numbering of OpenTelemetry's APIs (0 internal, 1 server, … 4 consumer); unknown ones are internal.
    pub const fn from_api(number: u8) -> Self {
        match number {
            1 => Self::Server,
            2 => Self::Client,
            3 => Self::Producer,
            4 => Self::Consumer,
            _ => Self::Internal,
        }
    }
}

/// Whether a span succeeded: the numbers of OTLP and of OpenTelemetry's APIs.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[repr(u8)]
pub enum StatusCode {
    /// Nobody said.
    #[default]
    Unset = 0,
    /// The application says that it succeeded.
    Ok = 1,
    /// It failed.
    Error = 2,
}

impl StatusCode {
    /// From its number; unknown ones are unset.
    pub const fn from_number(number: u8) -> Self {
        match number {
            1 => Self::Ok,
            2 => Self::Error,
            _ => Self::Unset,
        }
    }

    /// Whether a status set to `next` replaces this one: `Ok` is final, and unset never replaces (OpenTelemetry trace
    /// API, "Set Status": `Ok` > `Error` > `Unset`).
    pub const fn gives_way_to(self, next: Self) -> bool {
        !matches!(self, Self::Ok) && !matches!(next, Self::Unset)
    }
}

/// The fixed part of a span.
#[derive(Clone, Debug)]
pub struct SpanHead<'a> {
    /// The trace it belongs to.
    pub trace_id: TraceId,
    /// Its own id.
    pub span_id: SpanId,
    /// The span above it, if there is one.
    pub parent: Option<SpanId>,
    /// Whether the parent lives in another process.
    pub parent_is_remote: bool,
    /// The trace flags of the span's own context.
    pub flags: TraceFlags,
    /// The `tracestate` of the span's own context, empty if there is none.
    pub trace_state: &'a str,
    /// What it is called.
    pub name: &'a str,
    /// What it does.
    pub kind: Kind,
    /// When it began, in nanoseconds since 1970.
    pub start_ns: u64,
    /// When it ended, in nanoseconds since 1970.
    pub end_ns: u64,
}

/// A span that another span points at.
#[derive(Clone, Debug)]
pub struct LinkHead<'a> {
    /// The trace of the other span, or zeros.
    pub trace_id: [u8; 16],
    /// The other span, or zeros.
    pub span_id: [u8; 8],
    /// The trace flags of its context.
    pub flags: TraceFlags,
    /// Whether that context came from another process.
    pub is_remote: bool,
    /// Its `tracestate`, empty if there is none.
    pub trace_state: &'a str,
}

/// Bit 8 of OTLP's span flags: the next bit is meaningful.
const HAS_IS_REMOTE: u32 = 0x100;
/// Bit 9 of OTLP's span flags: the parent (or the linked span) lives in another process.
const IS_REMOTE: u32 = 0x200;

fn otlp_flags(flags: TraceFlags, is_remote: bool) -> u32 {
    u32::from(flags.bits()) | HAS_IS_REMOTE | if is_remote { IS_REMOTE } else { 0 }
}

/// The field of `Span` that attributes go into.
pub(crate) const SPAN_ATTRIBUTES: u32 = field::ATTRIBUTES;

/// Field numbers of `ScopeSpans`, `Span`, `Span.Event`, `Span.Link` and `Status`.
mod field {
    pub(super) const SCOPE_SPANS_SPANS: u32 = 2;

    pub(super) const TRACE_ID: u32 = 1;
    pub(super) const SPAN_ID: u32 = 2;
    pub(super) const TRACE_STATE: u32 = 3;
    pub(super) const PARENT_SPAN_ID: u32 = 4;
    pub(super) const NAME: u32 = 5;
    pub(super) const KIND: u32 = 6;
    pub(super) const START: u32 = 7;
    pub(super) const END: u32 = 8;
    pub(super) const ATTRIBUTES: u32 = 9;
    pub(super) const DROPPED_ATTRIBUTES: u32 = 10;
    pub(super) const EVENTS: u32 = 11;
    pub(super) const DROPPED_EVENTS: u32 = 12;
    pub(super) const LINKS: u32 = 13;
    pub(super) const DROPPED_LINKS: u32 = 14;
    pub(super) const STATUS: u32 = 15;
    pub(super) const FLAGS: u32 = 16;

    pub(super) const EVENT_TIME: u32 = 1;
    pub(super) const EVENT_NAME: u32 = 2;
    pub(super) const EVENT_ATTRIBUTES: u32 = 3;
    pub(super) const EVENT_DROPPED: u32 = 4;

    pub(super) const LINK_ATTRIBUTES: u32 = 4;
    pub(super) const LINK_DROPPED: u32 = 5;
    pub(super) const LINK_FLAGS: u32 = 6;

    pub(super) const STATUS_MESSAGE: u32 = 2;
    pub(super) const STATUS_CODE: u32 = 3;
}

/// Writes attributes into one collection, up to its limit; what comes after it is counted.
///
/// Keys must not repeat within a collection: whoever collects them sees to that.
#[derive(Debug)]
pub struct Attributes<'o> {
    out: &'o mut Vec<u8>,
    field: u32,
    limits: &'o Limits,
    room: usize,
    dropped: u32,
}

impl Attributes<'_> {
    /// Writes an attribute. One with an empty key, which OpenTelemetry does not allow, is dropped and counted.
    pub fn put(&mut self, key: &str, value: &Value<'_>) {
        if self.room == 0 || key.is_empty() {
            self.dropped = self.dropped.saturating_add(1);
            return;
        }
        self.room = self.room.saturating_sub(1);
        put_attribute(self.out, self.field, key, value, self.limits.value_length, self.limits.value_depth);
    }

    /// Counts attributes that were dropped before they came here.
    pub fn count_dropped(&mut self, count: u32) {
        self.dropped = self.dropped.saturating_add(count);
    }
}

/// Writes one `Span` as an entry of `ScopeSpans.spans`.
#[derive(Debug)]
#[must_use = "a span that is not finished is no valid entry"]
pub struct SpanWriter<'o> {
    out: &'o mut Vec<u8>,
    entry: Open,
    limits: &'o Limits,
    /// Attributes, events and links for which there is room.
    room: [usize; 3],
    dropped: [u32; 3],
    /// Bit by [`RoutingKey`]: what the application set itself, which then holds.
    overridden: u8,
    event_type: Derivation,
}

/// Indices of `SpanWriter::room` and `SpanWriter::dropped`.
const ATTRIBUTE: usize = 0;
const EVENT: usize = 1;
const LINK: usize = 2;

impl<'o> SpanWriter<'o> {
    /// Begins an entry at the end of `out`. A span that is abandoned has to be cut off by the caller.
    pub fn begin(out: &'o mut Vec<u8>, head: &SpanHead<'_>, limits: &'o Limits) -> Self {
        let entry = open(out, field::SCOPE_SPANS_SPANS);
        put_bytes(out, field::TRACE_ID, &head.trace_id.to_bytes());
        put_bytes(out, field::SPAN_ID, &head.span_id.to_bytes());
        put_bytes(out, field::TRACE_STATE, head.trace_state.as_bytes());
        if let Some(parent) = head.parent {
            put_bytes(out, field::PARENT_SPAN_ID, &parent.to_bytes());
        }
        put_bytes(out, field::NAME, head.name.as_bytes());
        put_uint(out, field::KIND, head.kind as u64);
        put_fixed64(out, field::START, head.start_ns);
        put_fixed64(out, field::END, head.end_ns);
        put_fixed32(out, field::FLAGS, otlp_flags(head.flags, head.parent.is_some() && head.parent_is_remote));
        Self {
            out,
            entry,
            limits,
            room: [limits.attributes, limits.events, limits.links],
            dropped: [0; 3],
            overridden: 0,
            event_type: Derivation::default(),
        }
    }

    /// Writes an attribute of the span: see [`Attributes::put`]. One that names a routing attribute replaces ours.
    #[inline]
    pub fn attribute(&mut self, key: &str, value: &Value<'_>) {
        let routing = RoutingKey::of(key);
        let is_event_type = key == EVENT_TYPE;
        // Routing attributes and the event type are not subject to the limit, whoever sets them.
        let counts = routing.is_none() && !is_event_type;
        if key.is_empty() || (counts && !self.take(ATTRIBUTE)) {
            self.count(ATTRIBUTE, 1);
            return;
        }
        if let Some(routing) = routing {
            self.overridden |= routing.bit();
        }
        self.event_type.see(key, value);
        if is_event_type && !self.event_type.is_explicit() {
            // It names nothing: the derived one takes its place.
            return;
        }
        put_attribute(self.out, field::ATTRIBUTES, key, value, self.limits.value_length, self.limits.value_depth);
    }

    /// Writes an event. `time_ns` is in nanoseconds since 1970.
    pub fn event(&mut self, time_ns: u64, name: &str, attributes: impl FnOnce(&mut Attributes<'_>)) {
        if !self.take(EVENT) {
            return self.count(EVENT, 1);
        }
        let event = open(self.out, field::EVENTS);
        put_fixed64(self.out, field::EVENT_TIME, time_ns);
        put_bytes(self.out, field::EVENT_NAME, name.as_bytes());
        let dropped = self.collection(field::EVENT_ATTRIBUTES, self.limits.attributes_per_event, attributes);
        put_uint(self.out, field::EVENT_DROPPED, u64::from(dropped));
        close(self.out, event);
    }

    /// Writes a link. One without valid ids is worth keeping if it says something else (OpenTelemetry trace API,
    /// "Add Link"); the caller knows.
    pub fn link(&mut self, head: &LinkHead<'_>, attributes: impl FnOnce(&mut Attributes<'_>)) {
        if !self.take(LINK) {
            return self.count(LINK, 1);
        }
        let link = open(self.out, field::LINKS);
        put_bytes(self.out, field::TRACE_ID, &head.trace_id);
        put_bytes(self.out, field::SPAN_ID, &head.span_id);
        put_bytes(self.out, field::TRACE_STATE, head.trace_state.as_bytes());
        let dropped = self.collection(field::LINK_ATTRIBUTES, self.limits.attributes_per_link, attributes);
        put_uint(self.out, field::LINK_DROPPED, u64::from(dropped));
        put_fixed32(self.out, field::LINK_FLAGS, otlp_flags(head.flags, head.is_remote));
        close(self.out, link);
    }

    /// Counts attributes, events and links that were dropped before they came here.
    pub fn count_dropped(&mut self, attributes: u32, events: u32, links: u32) {
        for (kind, count) in [(ATTRIBUTE, attributes), (EVENT, events), (LINK, links)] {
            self.count(kind, count);
        }
    }

    /// Ends the entry. The description is written with an error only, as OpenTelemetry has it.
    pub fn finish(self, status: StatusCode, description: &str, routing: &Routing) {
        let Self { out, entry, dropped, overridden, event_type, .. } = self;
        routing.write(out, overridden);
        if !event_type.is_explicit() {
            let value = Value::from(event_type.result().as_str());
            put_attribute(out, field::ATTRIBUTES, EVENT_TYPE, &value, None, 1);
        }
        for (number, count) in
            [field::DROPPED_ATTRIBUTES, field::DROPPED_EVENTS, field::DROPPED_LINKS].into_iter().zip(dropped)
        {
            put_uint(out, number, u64::from(count));
        }
        if status != StatusCode::Unset {
            message(out, field::STATUS, |out| {
                if status == StatusCode::Error {
                    put_bytes(out, field::STATUS_MESSAGE, description.as_bytes());
                }
                put_uint(out, field::STATUS_CODE, status as u64);
            });
        }
        close(out, entry);
    }

    fn collection(&mut self, field: u32, room: usize, write: impl FnOnce(&mut Attributes<'_>)) -> u32 {
        let mut attributes = Attributes { out: &mut *self.out, field, limits: self.limits, room, dropped: 0 };
        write(&mut attributes);
        attributes.dropped
    }

    /// Takes a place in one of the three collections, if there is one.
    fn take(&mut self, kind: usize) -> bool {
        self.room.get_mut(kind).is_some_and(|room| {
            let there = *room > 0;
            *room = room.saturating_sub(1);
            there
        })
    }

    fn count(&mut self, kind: usize, count: u32) {
        if let Some(dropped) = self.dropped.get_mut(kind) {
            *dropped = dropped.saturating_add(count);
        }
    }
}

/// Lists and maps inside a value, one in the other, that are written as such; what lies deeper is written as JSON text.
/// Receivers refuse a whole request for one value that nests too deeply: the official Rust crate beyond 29 levels.
const MAX_NESTING: usize = 20;
/// The bytes of such a JSON text.
const MAX_JSON: usize = 64 * 1024;

/// Writes a `KeyValue` field. Texts in the value are cut after `length` characters; lists and maps that lie deeper than
/// `depth` levels are written as JSON text.
pub(crate) fn put_attribute(
    out: &mut Vec<u8>,
    field: u32,
    key: &str,
    value: &Value<'_>,
    length: Option<usize>,
    depth: usize,
) {
    if put_short_attribute(out, field, key, value, length) {
        return;
    }
    message(out, field, |out| {
        put_bytes(out, 1, key.as_bytes());
        message(out, 2, |out| put_any_value(out, value, length, depth.min(MAX_NESTING)));
    });
}

/// Writes a `KeyValue` field of which all lengths fit into one byte, as those of most attributes do: with few copies.
/// The bytes are those of [`put_attribute`].
#[inline]
fn put_short_attribute(out: &mut Vec<u8>, field: u32, key: &str, value: &Value<'_>, length: Option<usize>) -> bool {
    // The tag of the value in `AnyValue` and what stands behind it: a number or a length, and a text.
    let bits;
    let (tag, number, text): (u8, Option<u64>, &[u8]) = match value {
        Value::Str(text) if text.len() < 0x80 && length.is_none_or(|length| text.len() <= length) => {
            (STRING_VALUE, Some(text.len() as u64), text.as_bytes())
        }
        Value::Bool(value) => (BOOL_VALUE, Some(u64::from(*value)), &[]),
        // An int64 is the varint of its two's complement.
        Value::Int(value) => (INT_VALUE, Some(*value as u64), &[]),
        Value::Double(value) => {
            bits = value.to_le_bytes();
            (DOUBLE_VALUE, None, &bits)
        }
        _ => return false,
    };
    let number_len = match number {
        None => 0,
        Some(0..0x80) => 1,
        Some(number) => varint_len(number),
    };
    let any_value = text.len().saturating_add(number_len).saturating_add(1);
    let entry = key.len().saturating_add(any_value).saturating_add(4);
    if key.is_empty() || entry >= 0x80 || field >= 0x10 {
        return false;
    }
    out.reserve(entry.saturating_add(2));
    out.extend_from_slice(&[(field << 3 | LEN) as u8, entry as u8, KEY, key.len() as u8]);
    out.extend_from_slice(key.as_bytes());
    out.extend_from_slice(&[ANY_VALUE, any_value as u8, tag]);
    if let Some(number) = number {
        put_varint(out, number);
    }
    out.extend_from_slice(text);
    true
}

/// Tags in `KeyValue` and `AnyValue`: field number and wire type.
const KEY: u8 = 1 << 3 | LEN as u8;
const ANY_VALUE: u8 = 2 << 3 | LEN as u8;
const STRING_VALUE: u8 = 1 << 3 | LEN as u8;
const BOOL_VALUE: u8 = 2 << 3 | VARINT as u8;
const INT_VALUE: u8 = 3 << 3 | VARINT as u8;
const DOUBLE_VALUE: u8 = 4 << 3 | FIXED64 as u8;

/// Writes the content of an `AnyValue`.
fn put_any_value(out: &mut Vec<u8>, value: &Value<'_>, length: Option<usize>, depth: usize) {
    match value {
        Value::Null => {}
        Value::Str(text) => {
            let text = length.map_or(&**text, |length| truncate_characters(text, length));
            put_bytes_always(out, 1, text.as_bytes());
        }
        Value::Bool(value) => put_uint_always(out, 2, u64::from(*value)),
        // An int64 is the varint of its two's complement.
        Value::Int(value) => put_uint_always(out, 3, *value as u64),
        Value::Double(value) => put_double_always(out, 4, *value),
        Value::Bytes(bytes) => put_bytes_always(out, 7, bytes),
        Value::Array(_) | Value::Map(_) if depth == 0 => {
            let text = json_text(value, MAX_JSON);
            let text = length.map_or(&*text, |length| truncate_characters(&text, length));
            put_bytes_always(out, 1, text.as_bytes());
        }
        Value::Array(values) => message(out, 5, |out| {
            for value in values {
                message(out, 1, |out| put_any_value(out, value, length, depth.saturating_sub(1)));
            }
        }),
        Value::Map(entries) => message(out, 6, |out| {
            for (key, value) in entries {
                put_attribute(out, 1, key, value, length, depth.saturating_sub(1));
            }
        }),
    }
}

/// An OTLP `InstrumentationScope` message: the library that makes spans.
pub fn instrumentation_scope<'a>(
    name: &str,
    version: &str,
    attributes: impl IntoIterator<Item = (&'a str, Value<'a>)>,
) -> Vec<u8> {
    let mut out = Vec::new();
    put_bytes(&mut out, 1, name.as_bytes());
    put_bytes(&mut out, 2, version.as_bytes());
    let limits = Limits::default();
    for (key, value) in attributes {
        put_attribute(&mut out, 3, key, &value, limits.value_length, limits.value_depth);
    }
    out
}

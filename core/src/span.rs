//! Writing a span that has ended as OTLP: one protobuf entry, in one pass, straight into the batch it travels in.
//!
//! A [`SpanWriter`] is begun with the span's head, given attributes, events and links as they come, and finished with
//! what the writer itself adds: the routing attributes, the derived event type, the status and the dropped counts.
//!
//! Rules (ids as in `tests/vectors/span.json`):
//!
//! * SPAN-flags: bits 0 to 7 of OTLP's flags are the trace flags, bit 8 is always set, bit 9 where the parent, or the
//!   linked context, is remote.
//! * SPAN-status: `Ok` is final, `Error` above `Unset`; a description goes with an error only.
//! * SPAN-limits: what is beyond a limit is dropped and counted, and values that are too long are cut; what routes a
//!   span to its session, and the event type, take no place and are never cut: half a session id is another session.
//! * SPAN-once: in a collection and in a map each key is sent once, with its last value, where it was first set: by
//!   [`SpanRecord`](crate::record::SpanRecord), [`resource`], [`instrumentation_scope`] and
//!   [`flatten`](crate::flatten::flatten). A writer's callers see to it themselves for attributes, as their dictionaries
//!   do; in maps, and for the event type, the writer does.
//! * SPAN-times: a span that ends before it starts, by a clock that was set back, ends when it starts.

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::ops::Range;

use crate::event_type::{Derivation, EVENT_TYPE, EventType};
use crate::id::{SpanId, TraceFlags, TraceId};
use crate::keyed::put_all;
use crate::limits::Limits;
use crate::otlp::attribute::put_attribute;
use crate::otlp::protobuf::{
    FIXED32, FIXED64, LEN, Open, VARINT, close, message, open_long, put_bytes, put_fixed32, put_fixed64, put_packed,
    put_uint,
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

    /// Rule SPAN-status: whether a status set to `next` replaces this one. `Ok` is final, and unset never replaces (OpenTelemetry trace
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
    /// When it ended, in nanoseconds since 1970; before the start counts as the start (rule SPAN-times).
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

/// An exception, or an error of a language that has none: OpenTelemetry semantic conventions, "Exceptions on spans".
#[derive(Clone, Copy, Debug, Default)]
pub struct Exception<'a> {
    /// Its type, such as `OSError` or `std::io::Error`.
    pub kind: &'a str,
    /// What it says.
    pub message: &'a str,
    /// The stack trace, in the form of the language.
    pub stacktrace: &'a str,
}

impl<'a> Exception<'a> {
    /// The name of the event that describes it.
    pub const EVENT: &'static str = "exception";

    /// The attributes of that event; what is empty is left out.
    pub fn attributes(&self) -> impl Iterator<Item = (&'a str, Value<'a>)> + use<'a> {
        let all = [
            ("exception.type", self.kind),
            ("exception.message", self.message),
            ("exception.stacktrace", self.stacktrace),
        ];
        all.into_iter().filter(|(_, text)| !text.is_empty()).map(|(key, text)| (key, Value::from(text)))
    }
}

/// Bit 8 of OTLP's span flags: the next bit is meaningful.
const HAS_IS_REMOTE: u32 = 0x100;
/// Bit 9 of OTLP's span flags: the parent (or the linked span) lives in another process.
pub(crate) const IS_REMOTE: u32 = 0x200;

/// Rule SPAN-flags.
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
        put_attribute(self.out, self.field, key, &value.into(), self.limits.value_length, self.limits.value_depth);
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
    /// Where in `out` the application's own event type stands; empty if there is none.
    own_event_type: Range<usize>,
}

/// Indices of `SpanWriter::room` and `SpanWriter::dropped`.
const ATTRIBUTE: usize = 0;
const EVENT: usize = 1;
const LINK: usize = 2;

impl<'o> SpanWriter<'o> {
    /// Begins an entry at the end of `out`. A span that is abandoned has to be cut off by the caller.
    pub fn begin(out: &'o mut Vec<u8>, head: &SpanHead<'_>, limits: &'o Limits) -> Self {
        // What the fixed fields, the writer's own attributes and the status of most spans take.
        out.reserve(head.name.len().saturating_add(head.trace_state.len()).saturating_add(256));
        let entry = open_long(out, field::SCOPE_SPANS_SPANS);
        put_bytes(out, field::TRACE_ID, &head.trace_id.to_bytes());
        put_span_id(out, field::SPAN_ID, head.span_id);
        put_bytes(out, field::TRACE_STATE, head.trace_state.as_bytes());
        if let Some(parent) = head.parent {
            put_span_id(out, field::PARENT_SPAN_ID, parent);
        }
        put_bytes(out, field::NAME, head.name.as_bytes());
        // These are never left out, even if they are zero: one copy of a known length each.
        let kind = u128::from(tag(field::KIND, VARINT)) | u128::from(head.kind as u8) << 8;
        let start = u128::from(tag(field::START, FIXED64)) | u128::from(head.start_ns) << 8;
        put_packed(out, kind | start << 16, 11);
        let end = u128::from(tag(field::END, FIXED64)) | u128::from(head.end_ns.max(head.start_ns)) << 8;
        let flags = otlp_flags(head.flags, head.parent.is_some() && head.parent_is_remote);
        put_packed(out, end | u128::from(FLAGS_TAG) << 72 | u128::from(flags) << 88, 15);
        Self {
            out,
            entry,
            limits,
            room: [limits.attributes, limits.events, limits.links],
            dropped: [0; 3],
            overridden: 0,
            event_type: Derivation::default(),
            own_event_type: 0..0,
        }
    }

    /// Writes an attribute of the span: see [`Attributes::put`]. One that names a routing attribute replaces ours. An
    /// event type takes back one that was written before; one that is not text, or empty, is dropped and counted, and
    /// the derived one takes its place.
    #[inline]
    pub fn attribute(&mut self, key: &str, value: &Value<'_>) {
        if key == EVENT_TYPE {
            return self.own_event_type(value);
        }
        let routing = RoutingKey::of(key);
        // Rule SPAN-limits.
        if key.is_empty() || (routing.is_none() && !self.take(ATTRIBUTE)) {
            self.count(ATTRIBUTE, 1);
            return;
        }
        let mut length = self.limits.value_length;
        if let Some(routing) = routing {
            self.overridden |= routing.bit();
            length = None;
        }
        self.event_type.see(key, value.as_str());
        put_attribute(self.out, field::ATTRIBUTES, key, &value.into(), length, self.limits.value_depth);
    }

    fn own_event_type(&mut self, value: &Value<'_>) {
        self.out.drain(core::mem::take(&mut self.own_event_type));
        self.event_type.see(EVENT_TYPE, value.as_str());
        if !self.event_type.is_explicit() {
            // Rule HH-event-type-no-text.
            return self.count(ATTRIBUTE, 1);
        }
        let start = self.out.len();
        put_attribute(self.out, field::ATTRIBUTES, EVENT_TYPE, &value.into(), None, 0);
        self.own_event_type = start..self.out.len();
    }

    /// Writes an event. `time_ns` is in nanoseconds since 1970.
    pub fn event(&mut self, time_ns: u64, name: &str, attributes: impl FnOnce(&mut Attributes<'_>)) {
        if !self.take(EVENT) {
            return self.count(EVENT, 1);
        }
        let (limits, room) = (self.limits, self.limits.attributes_per_event);
        put_event(self.out, time_ns, name, |out, field| collection(out, field, limits, room, attributes));
    }

    /// Writes a link. One without valid ids is worth keeping if it says something else (OpenTelemetry trace API,
    /// "Add Link"); the caller knows.
    pub fn link(&mut self, head: &LinkHead<'_>, attributes: impl FnOnce(&mut Attributes<'_>)) {
        if !self.take(LINK) {
            return self.count(LINK, 1);
        }
        let (limits, room) = (self.limits, self.limits.attributes_per_link);
        put_link(self.out, head, |out, field| collection(out, field, limits, room, attributes));
    }

    /// Appends attributes, events and links that are encoded already, as fields of `Span`; with the routing attributes
    /// among them, bit by [`RoutingKey`], and what they say about the event type. Limits were someone else's business.
    pub(crate) fn encoded(&mut self, parts: &[&[u8]], overridden: u8, event_type: Derivation) {
        for part in parts {
            self.out.extend_from_slice(part);
        }
        self.overridden |= overridden;
        self.event_type = event_type;
    }

    /// Counts attributes, events and links that were dropped before they came here.
    pub fn count_dropped(&mut self, attributes: u32, events: u32, links: u32) {
        for (kind, count) in [(ATTRIBUTE, attributes), (EVENT, events), (LINK, links)] {
            self.count(kind, count);
        }
    }

    /// Ends the entry. The description is written with an error only, as OpenTelemetry has it.
    pub fn finish(self, status: StatusCode, description: &str, routing: &Routing) {
        routing.write(self.out, self.overridden);
        if !self.event_type.is_explicit() {
            self.out.extend_from_slice(derived_attribute(self.event_type.result()));
        }
        self.finish_as_it_is(status, description);
    }

    /// Ends the entry of a span that goes on, to be recorded as one that begins ([`Delivery::start`]): as
    /// [`finish`](Self::finish), but without the routing attributes, which it returns, if none was replaced.
    ///
    /// [`Delivery::start`]: crate::delivery::Delivery::start
    pub fn finish_start<'r>(
        self,
        status: StatusCode,
        description: &str,
        routing: &'r Routing,
    ) -> Option<&'r Arc<[u8]>> {
        let common = (self.overridden == 0).then(|| routing.encoded());
        if common.is_none() {
            routing.write(self.out, self.overridden);
        }
        if !self.event_type.is_explicit() {
            self.out.extend_from_slice(derived_attribute(self.event_type.result()));
        }
        self.finish_as_it_is(status, description);
        common
    }

    /// Ends the entry of a span that another SDK made: as [`finish`](Self::finish), but neither routing attributes nor
    /// an event type are added to what it says.
    pub fn finish_as_it_is(self, status: StatusCode, description: &str) {
        let Self { out, entry, dropped, .. } = self;
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

/// A tag of one byte.
const fn tag(field: u32, wire_type: u32) -> u8 {
    (field << 3 | wire_type) as u8
}

/// The tag of `Span.flags`, of two bytes: a varint, the lowest seven bits first.
const FLAGS_TAG: u16 = ((field::FLAGS << 3 | FIXED32) & 0x7f | 0x80 | (field::FLAGS << 3 >> 7) << 8) as u16;

fn put_span_id(out: &mut Vec<u8>, field: u32, id: SpanId) {
    let head = u128::from(tag(field, LEN)) | 8 << 8;
    put_packed(out, head | u128::from(u64::from_le_bytes(id.to_bytes())) << 16, 10);
}

/// The attribute with the derived event type, as a field of `Span`.
pub(crate) const fn derived_attribute(event_type: EventType) -> &'static [u8] {
    match event_type {
        EventType::Model => b"\x4a\x1f\x0a\x14honeyhive_event_type\x12\x07\x0a\x05model",
        EventType::Tool => b"\x4a\x1e\x0a\x14honeyhive_event_type\x12\x06\x0a\x04tool",
        EventType::Chain => b"\x4a\x1f\x0a\x14honeyhive_event_type\x12\x07\x0a\x05chain",
        EventType::Session => b"\x4a\x21\x0a\x14honeyhive_event_type\x12\x09\x0a\x07session",
    }
}

/// Writes an event as a field of `Span`. `attributes` gets the number of their field, and returns how many it dropped.
pub(crate) fn put_event(
    out: &mut Vec<u8>,
    time_ns: u64,
    name: &str,
    attributes: impl FnOnce(&mut Vec<u8>, u32) -> u32,
) {
    message(out, field::EVENTS, |out| {
        put_fixed64(out, field::EVENT_TIME, time_ns);
        put_bytes(out, field::EVENT_NAME, name.as_bytes());
        let dropped = attributes(out, field::EVENT_ATTRIBUTES);
        put_uint(out, field::EVENT_DROPPED, u64::from(dropped));
    });
}

/// Writes a link as a field of `Span`: see [`put_event`].
pub(crate) fn put_link(out: &mut Vec<u8>, head: &LinkHead<'_>, attributes: impl FnOnce(&mut Vec<u8>, u32) -> u32) {
    message(out, field::LINKS, |out| {
        put_bytes(out, field::TRACE_ID, &head.trace_id);
        put_bytes(out, field::SPAN_ID, &head.span_id);
        put_bytes(out, field::TRACE_STATE, head.trace_state.as_bytes());
        let dropped = attributes(out, field::LINK_ATTRIBUTES);
        put_uint(out, field::LINK_DROPPED, u64::from(dropped));
        put_fixed32(out, field::LINK_FLAGS, otlp_flags(head.flags, head.is_remote));
    });
}

fn collection(
    out: &mut Vec<u8>,
    field: u32,
    limits: &Limits,
    room: usize,
    write: impl FnOnce(&mut Attributes<'_>),
) -> u32 {
    let mut attributes = Attributes { out, field, limits, room, dropped: 0 };
    write(&mut attributes);
    attributes.dropped
}

/// An OTLP `InstrumentationScope` message: the library that makes spans. Of attributes with one key the last value
/// counts (rule SPAN-once); those with an empty key are left out.
pub fn instrumentation_scope<'a>(
    name: &str,
    version: &str,
    attributes: impl IntoIterator<Item = (&'a str, Value<'a>)>,
) -> Vec<u8> {
    let mut out = Vec::new();
    put_bytes(&mut out, 1, name.as_bytes());
    put_bytes(&mut out, 2, version.as_bytes());
    put_all(&mut out, 3, attributes, usize::MAX, &Limits::default());
    out
}

/// An OTLP `Resource` message: who sends the spans. Of attributes with one key the last value counts (rule SPAN-once);
/// those with an empty key are left out.
pub fn resource<'a>(attributes: impl IntoIterator<Item = (&'a str, Value<'a>)>) -> Vec<u8> {
    let mut out = Vec::new();
    put_all(&mut out, 1, attributes, usize::MAX, &Limits::default());
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::otlp::reader;
    use alloc::string::String;

    #[test]
    fn a_span_of_another_sdk_is_finished_as_it_is() -> Result<(), reader::Malformed> {
        let head = SpanHead {
            trace_id: TraceId::random([1; 16]),
            span_id: SpanId::random([2; 8]),
            parent: None,
            parent_is_remote: false,
            flags: TraceFlags::SAMPLED,
            trace_state: "",
            name: "s",
            kind: Kind::Internal,
            start_ns: 1,
            end_ns: 2,
        };
        // Rule SPAN-status: a description goes with an error only.
        let cases = [(StatusCode::Error, Some((2, "why"))), (StatusCode::Ok, Some((1, ""))), (StatusCode::Unset, None)];
        for (status, expected) in cases {
            let (mut out, limits) = (Vec::new(), Limits::default());
            let mut writer = SpanWriter::begin(&mut out, &head, &limits);
            writer.attribute("gen_ai.operation.name", &Value::from("chat"));
            writer.finish_as_it_is(status, "why");
            let entries = reader::Repeated::of(&out, 2).collect::<Result<Vec<_>, _>>()?;
            assert_eq!(entries.len(), 1);
            for entry in entries {
                let span = reader::SpanView::parse(entry)?;
                assert_eq!(keys(span.attributes())?, ["gen_ai.operation.name"]);
                let expected = expected.map(|(code, text)| (code, text.into()));
                assert_eq!(span.status.map(|status| (status.code, status.message.to_str())), expected);
            }
        }
        Ok(())
    }

    fn keys(attributes: reader::Attributes<'_>) -> Result<Vec<String>, reader::Malformed> {
        attributes.map(|entry| entry.map(|(key, _)| key.to_str().into_owned())).collect()
    }

    #[test]
    fn resource_and_scope_have_each_key_once_and_none_that_is_empty() -> Result<(), reader::Malformed> {
        let mut attributes: Vec<_> = (0..40).map(|n| (alloc::format!("k{n}"), Value::Int(n))).collect();
        for (key, value) in [("a", 1), ("", 2), ("b", 3), ("a", 4), ("k7", 5)] {
            attributes.push((key.into(), value.into()));
        }
        let list = || attributes.iter().map(|(key, value)| (key.as_str(), value.clone()));
        let (scope, resource) = (instrumentation_scope("library", "1", list()), resource(list()));
        for read in [reader::Attributes::of(&resource, 1), reader::Attributes::of(&scope, 3)] {
            let pairs = read.collect::<Result<Vec<_>, _>>()?;
            assert_eq!(pairs.len(), 42);
            let find = |name: &str| pairs.iter().position(|(key, _)| key.to_str() == name);
            for (key, at, value) in [("k7", 7, 5), ("k8", 8, 8), ("a", 40, 4), ("b", 41, 3)] {
                assert_eq!(find(key), Some(at));
                assert!(matches!(pairs[at].1, reader::ValueView::Int(found) if found == value), "{key}");
            }
        }
        assert!(scope.starts_with(b"\x0a\x07library\x12\x011\x1a"));
        Ok(())
    }
}

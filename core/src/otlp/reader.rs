//! Reading OTLP's protobuf without copying: the fields of a message, a span as views into its bytes, and the answer
//! of an OTLP server.
//!
//! Input is not trusted: whatever it holds, reading gives values or [`Malformed`], and no input makes it recurse
//! without bound. Unknown fields, and known ones of another wire type, are skipped, as protobuf has it. A singular
//! field that comes more than once has its last value count, an embedded message included (protobuf would merge
//! those; no encoder of OTLP writes them so).

use alloc::borrow::Cow;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

use super::protobuf::{FIXED32, FIXED64, LEN, VARINT};
use crate::id::{SpanId, TraceId};
use crate::value::Value;

/// How many arrays and maps may lie within one another, as many as OpenTelemetry's `AttributeValueDepthLimit` allows
/// by default. Deeper ones are read as [`Value::Null`].
pub const MAX_DEPTH: u32 = 64;

/// Why bytes are not the protobuf message that they should be.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[non_exhaustive]
pub enum Malformed {
    /// The bytes end within a field.
    Truncated,
    /// A varint that does not fit into 64 bits.
    Varint,
    /// A field number that is zero or too large.
    FieldNumber,
    /// A wire type that protobuf does not define, or a group, which OTLP never had.
    WireType,
}

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Truncated => "malformed protobuf: the message is cut off",
            Self::Varint => "malformed protobuf: a varint is longer than 64 bits",
            Self::FieldNumber => "malformed protobuf: a field number is out of range",
            Self::WireType => "malformed protobuf: an unknown wire type",
        })
    }
}

impl core::error::Error for Malformed {}

/// What a field holds, by its wire type.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Wire<'a> {
    /// A varint: integers, booleans and enums.
    Varint(u64),
    /// Eight bytes, little-endian: `fixed64` and `double`.
    Fixed64(u64),
    /// Bytes behind their length: strings, bytes and messages.
    Bytes(&'a [u8]),
    /// Four bytes, little-endian: `fixed32`.
    Fixed32(u32),
}

/// The fields of a message in the order in which they stand: their numbers and contents. After an error it ends.
#[derive(Clone, Debug, Default)]
pub struct Fields<'a> {
    rest: &'a [u8],
}

impl<'a> Fields<'a> {
    /// The fields of the message with these bytes.
    pub const fn of(message: &'a [u8]) -> Self {
        Self { rest: message }
    }

    /// What was not read yet.
    pub(crate) const fn rest(&self) -> &'a [u8] {
        self.rest
    }

    fn field(&mut self) -> Result<(u32, Wire<'a>), Malformed> {
        let tag = u32::try_from(self.varint()?).map_err(|_| Malformed::FieldNumber)?;
        let number = tag >> 3;
        if number == 0 {
            return Err(Malformed::FieldNumber);
        }
        let wire = match tag & 7 {
            VARINT => Wire::Varint(self.varint()?),
            FIXED64 => Wire::Fixed64(u64::from_le_bytes(self.array()?)),
            LEN => {
                let length = usize::try_from(self.varint()?).map_err(|_| Malformed::Truncated)?;
                let (bytes, rest) = self.rest.split_at_checked(length).ok_or(Malformed::Truncated)?;
                self.rest = rest;
                Wire::Bytes(bytes)
            }
            FIXED32 => Wire::Fixed32(u32::from_le_bytes(self.array()?)),
            _ => return Err(Malformed::WireType),
        };
        Ok((number, wire))
    }

    #[inline]
    fn varint(&mut self) -> Result<u64, Malformed> {
        // Nearly all tags and lengths take one byte.
        match self.rest.split_first() {
            Some((&byte, rest)) if byte < 0x80 => {
                self.rest = rest;
                Ok(u64::from(byte))
            }
            _ => self.long_varint(),
        }
    }

    fn long_varint(&mut self) -> Result<u64, Malformed> {
        let mut value = 0;
        let mut shift = 0_u32;
        while let Some((&byte, rest)) = self.rest.split_first() {
            self.rest = rest;
            let bits = u64::from(byte & 0x7f);
            // The tenth byte has room for one bit only.
            if shift > 63 || (shift == 63 && bits > 1) {
                return Err(Malformed::Varint);
            }
            value |= bits << shift;
            if byte < 0x80 {
                return Ok(value);
            }
            shift = shift.saturating_add(7);
        }
        Err(Malformed::Truncated)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Malformed> {
        let (bytes, rest) = self.rest.split_first_chunk().ok_or(Malformed::Truncated)?;
        self.rest = rest;
        Ok(*bytes)
    }
}

impl<'a> Iterator for Fields<'a> {
    type Item = Result<(u32, Wire<'a>), Malformed>;

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        let field = self.field();
        if field.is_err() {
            self.rest = &[];
        }
        Some(field)
    }
}

/// The contents of one repeated field of messages, wherever in the message around it its entries stand.
#[derive(Clone, Debug, Default)]
pub struct Repeated<'a> {
    number: u32,
    fields: Fields<'a>,
}

impl<'a> Repeated<'a> {
    /// The entries of field `number` in the message with these bytes.
    pub const fn of(message: &'a [u8], number: u32) -> Self {
        Self { number, fields: Fields::of(message) }
    }
}

impl<'a> Iterator for Repeated<'a> {
    type Item = Result<&'a [u8], Malformed>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            match self.fields.next()? {
                Ok((number, Wire::Bytes(bytes))) if number == self.number => return Some(Ok(bytes)),
                Ok(_) => {}
                Err(error) => return Some(Err(error)),
            }
        }
    }
}

/// A `string` field: UTF-8, if whoever encoded it kept to the rules.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Text<'a>(&'a [u8]);

impl<'a> Text<'a> {
    pub(crate) const fn of(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    /// The text; what is not UTF-8 becomes U+FFFD.
    pub fn to_str(self) -> Cow<'a, str> {
        String::from_utf8_lossy(self.0)
    }

    /// The bytes as they came.
    pub const fn as_bytes(self) -> &'a [u8] {
        self.0
    }

    /// Whether there is no text.
    pub const fn is_empty(self) -> bool {
        self.0.is_empty()
    }
}

/// An `AnyValue`; arrays and maps are read as one goes through them.
#[derive(Clone, Debug)]
pub enum ValueView<'a> {
    /// Nothing is set, or something that traces do not use.
    Null,
    /// A boolean.
    Bool(bool),
    /// A signed integer.
    Int(i64),
    /// A floating-point number.
    Double(f64),
    /// Text.
    Str(Text<'a>),
    /// Bytes.
    Bytes(&'a [u8]),
    /// A list of values.
    Array(Values<'a>),
    /// A map in its order.
    Map(Attributes<'a>),
}

impl<'a> ValueView<'a> {
    /// Reads the fields of an `AnyValue`, not those of the values within it.
    ///
    /// # Errors
    ///
    /// How these are malformed; what lies within a list or map is read later.
    pub fn parse(message: &'a [u8]) -> Result<Self, Malformed> {
        let mut value = Self::Null;
        for field in Fields::of(message) {
            value = match field? {
                (1, Wire::Bytes(text)) => Self::Str(Text(text)),
                (2, Wire::Varint(bits)) => Self::Bool(bits != 0),
                // int64 is the two's complement as a varint.
                (3, Wire::Varint(bits)) => Self::Int(bits as i64),
                (4, Wire::Fixed64(bits)) => Self::Double(f64::from_bits(bits)),
                (5, Wire::Bytes(list)) => Self::Array(Values(Repeated::of(list, 1))),
                (6, Wire::Bytes(list)) => Self::Map(Attributes(Repeated::of(list, 1))),
                (7, Wire::Bytes(bytes)) => Self::Bytes(bytes),
                _ => continue,
            };
        }
        Ok(value)
    }

    /// The value with everything in it read; texts and bytes stay borrowed. What lies deeper than [`MAX_DEPTH`] is
    /// [`Value::Null`].
    ///
    /// # Errors
    ///
    /// How something within it is malformed.
    pub fn into_value(self) -> Result<Value<'a>, Malformed> {
        self.into_value_within(MAX_DEPTH)
    }

    fn into_value_within(self, depth: u32) -> Result<Value<'a>, Malformed> {
        let deeper = depth.saturating_sub(1);
        Ok(match self {
            Self::Null => Value::Null,
            Self::Bool(value) => Value::Bool(value),
            Self::Int(value) => Value::Int(value),
            Self::Double(value) => Value::Double(value),
            Self::Str(text) => Value::Str(text.to_str()),
            Self::Bytes(bytes) => Value::Bytes(Cow::Borrowed(bytes)),
            Self::Array(_) | Self::Map(_) if depth == 0 => Value::Null,
            Self::Array(values) => {
                let values: Result<Vec<_>, _> = values.map(|value| value?.into_value_within(deeper)).collect();
                Value::Array(values?)
            }
            Self::Map(entries) => {
                let entries: Result<Vec<_>, _> = entries
                    .map(|entry| {
                        let (key, value) = entry?;
                        Ok((key.to_str(), value.into_value_within(deeper)?))
                    })
                    .collect();
                Value::Map(entries?)
            }
        })
    }
}

/// The values of an array, in order.
#[derive(Clone, Debug, Default)]
pub struct Values<'a>(Repeated<'a>);

impl<'a> Iterator for Values<'a> {
    type Item = Result<ValueView<'a>, Malformed>;

    fn next(&mut self) -> Option<Self::Item> {
        Some(self.0.next()?.and_then(ValueView::parse))
    }
}

/// Attributes, or the entries of a map, in order: keys and values.
#[derive(Clone, Debug, Default)]
pub struct Attributes<'a>(Repeated<'a>);

impl<'a> Attributes<'a> {
    /// The `KeyValue` entries of field `number` in the message with these bytes.
    pub const fn of(message: &'a [u8], number: u32) -> Self {
        Self(Repeated::of(message, number))
    }
}

impl<'a> Iterator for Attributes<'a> {
    type Item = Result<(Text<'a>, ValueView<'a>), Malformed>;

    fn next(&mut self) -> Option<Self::Item> {
        Some(self.0.next()?.and_then(key_value))
    }
}

fn key_value(message: &[u8]) -> Result<(Text<'_>, ValueView<'_>), Malformed> {
    let (mut key, mut value) = (Text::default(), &[][..]);
    for field in Fields::of(message) {
        match field? {
            (1, Wire::Bytes(bytes)) => key = Text(bytes),
            (2, Wire::Bytes(bytes)) => value = bytes,
            _ => {}
        }
    }
    Ok((key, ValueView::parse(value)?))
}

/// A `Span`.
///
/// What its own fields hold is read by [`SpanView::parse`]; attributes, events and links are read as one goes through
/// them. Ids are the bytes as they came: [`SpanView::trace_id`] and [`SpanView::span_id`] check them.
#[derive(Clone, Debug, Default)]
pub struct SpanView<'a> {
    pub(crate) message: &'a [u8],
    pub(crate) trace_id: &'a [u8],
    pub(crate) span_id: &'a [u8],
    pub(crate) parent_span_id: &'a [u8],
    /// The `tracestate` of the span's own context.
    pub trace_state: Text<'a>,
    /// What it is called.
    pub name: Text<'a>,
    /// The number of OTLP's `SpanKind`: 0 unspecified, 1 internal, 2 server, 3 client, 4 producer, 5 consumer.
    pub kind: i32,
    /// When it began, in nanoseconds since 1970.
    pub start_ns: u64,
    /// When it ended, in nanoseconds since 1970.
    pub end_ns: u64,
    /// OTLP's flags: bits 0 to 7 are the trace flags, bit 8 says that bit 9 is meaningful, bit 9 that the parent is
    /// in another process.
    pub flags: u32,
    /// How many attributes were dropped.
    pub dropped_attributes: u32,
    /// How many events were dropped.
    pub dropped_events: u32,
    /// How many links were dropped.
    pub dropped_links: u32,
    /// Its status, if one was written.
    pub status: Option<StatusView<'a>>,
}

impl<'a> SpanView<'a> {
    /// Reads the fields of a `Span`.
    ///
    /// # Errors
    ///
    /// How these are malformed, and those of its status; attributes, events and links are read later.
    pub fn parse(message: &'a [u8]) -> Result<Self, Malformed> {
        let mut span = Self { message, ..Self::default() };
        for field in Fields::of(message) {
            match field? {
                (1, Wire::Bytes(id)) => span.trace_id = id,
                (2, Wire::Bytes(id)) => span.span_id = id,
                (3, Wire::Bytes(text)) => span.trace_state = Text(text),
                (4, Wire::Bytes(id)) => span.parent_span_id = id,
                (5, Wire::Bytes(text)) => span.name = Text(text),
                (6, Wire::Varint(number)) => span.kind = number as i32,
                (7, Wire::Fixed64(time)) => span.start_ns = time,
                (8, Wire::Fixed64(time)) => span.end_ns = time,
                (10, Wire::Varint(count)) => span.dropped_attributes = count as u32,
                (12, Wire::Varint(count)) => span.dropped_events = count as u32,
                (14, Wire::Varint(count)) => span.dropped_links = count as u32,
                (15, Wire::Bytes(status)) => span.status = Some(StatusView::parse(status)?),
                (16, Wire::Fixed32(flags)) => span.flags = flags,
                _ => {}
            }
        }
        Ok(span)
    }

    /// The trace; `None` if it is not 16 bytes or all zero.
    pub fn trace_id(&self) -> Option<TraceId> {
        TraceId::from_bytes(self.trace_id.try_into().ok()?)
    }

    /// The span's id; `None` if it is not 8 bytes or all zero.
    pub fn span_id(&self) -> Option<SpanId> {
        SpanId::from_bytes(self.span_id.try_into().ok()?)
    }

    /// The span above it; `None` for a root.
    pub fn parent_span_id(&self) -> Option<SpanId> {
        SpanId::from_bytes(self.parent_span_id.try_into().ok()?)
    }

    /// Its attributes.
    pub const fn attributes(&self) -> Attributes<'a> {
        Attributes::of(self.message, 9)
    }

    /// Its events.
    pub fn events(&self) -> impl Iterator<Item = Result<EventView<'a>, Malformed>> + use<'a> {
        Repeated::of(self.message, 11).map(|event| EventView::parse(event?))
    }

    /// Its links.
    pub fn links(&self) -> impl Iterator<Item = Result<LinkView<'a>, Malformed>> + use<'a> {
        Repeated::of(self.message, 13).map(|link| LinkView::parse(link?))
    }
}

/// An event of a span.
#[derive(Clone, Debug, Default)]
pub struct EventView<'a> {
    message: &'a [u8],
    /// When it happened, in nanoseconds since 1970.
    pub time_ns: u64,
    /// What it is called.
    pub name: Text<'a>,
    /// How many attributes were dropped.
    pub dropped_attributes: u32,
}

impl<'a> EventView<'a> {
    /// Reads the fields of an `Event`.
    ///
    /// # Errors
    ///
    /// How these are malformed; attributes are read later.
    pub fn parse(message: &'a [u8]) -> Result<Self, Malformed> {
        let mut event = Self { message, ..Self::default() };
        for field in Fields::of(message) {
            match field? {
                (1, Wire::Fixed64(time)) => event.time_ns = time,
                (2, Wire::Bytes(text)) => event.name = Text(text),
                (4, Wire::Varint(count)) => event.dropped_attributes = count as u32,
                _ => {}
            }
        }
        Ok(event)
    }

    /// Its attributes.
    pub const fn attributes(&self) -> Attributes<'a> {
        Attributes::of(self.message, 3)
    }
}

/// A link of a span to another one.
#[derive(Clone, Debug, Default)]
pub struct LinkView<'a> {
    message: &'a [u8],
    pub(crate) trace_id: &'a [u8],
    pub(crate) span_id: &'a [u8],
    /// The `tracestate` of the other span's context.
    pub trace_state: Text<'a>,
    /// How many attributes were dropped.
    pub dropped_attributes: u32,
    /// As [`SpanView::flags`], of the other span's context.
    pub flags: u32,
}

impl<'a> LinkView<'a> {
    /// Reads the fields of a `Link`.
    ///
    /// # Errors
    ///
    /// How these are malformed; attributes are read later.
    pub fn parse(message: &'a [u8]) -> Result<Self, Malformed> {
        let mut link = Self { message, ..Self::default() };
        for field in Fields::of(message) {
            match field? {
                (1, Wire::Bytes(id)) => link.trace_id = id,
                (2, Wire::Bytes(id)) => link.span_id = id,
                (3, Wire::Bytes(text)) => link.trace_state = Text(text),
                (5, Wire::Varint(count)) => link.dropped_attributes = count as u32,
                (6, Wire::Fixed32(flags)) => link.flags = flags,
                _ => {}
            }
        }
        Ok(link)
    }

    /// The trace of the other span; `None` if it is not 16 bytes or all zero.
    pub fn trace_id(&self) -> Option<TraceId> {
        TraceId::from_bytes(self.trace_id.try_into().ok()?)
    }

    /// The other span; `None` if it is not 8 bytes or all zero.
    pub fn span_id(&self) -> Option<SpanId> {
        SpanId::from_bytes(self.span_id.try_into().ok()?)
    }

    /// Its attributes.
    pub const fn attributes(&self) -> Attributes<'a> {
        Attributes::of(self.message, 4)
    }
}

/// The status of a span.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct StatusView<'a> {
    /// What went wrong.
    pub message: Text<'a>,
    /// The number of OTLP's `StatusCode`: 0 unset, 1 ok, 2 error.
    pub code: i32,
}

impl<'a> StatusView<'a> {
    /// Reads the fields of a `Status`.
    ///
    /// # Errors
    ///
    /// How these are malformed.
    pub fn parse(message: &'a [u8]) -> Result<Self, Malformed> {
        let mut status = Self::default();
        for field in Fields::of(message) {
            match field? {
                (2, Wire::Bytes(text)) => status.message = Text(text),
                (3, Wire::Varint(number)) => status.code = number as i32,
                _ => {}
            }
        }
        Ok(status)
    }
}

/// What a server did not take of a request that it otherwise accepted. The request is not to be sent again.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct PartialSuccess {
    /// How many spans it rejected. Zero makes the message a warning.
    pub rejected_spans: i64,
    /// Why, in the server's words.
    pub error_message: String,
}

/// Reads an `ExportTraceServiceResponse`: `None` if everything was accepted and there is nothing to say, which a
/// server may also express by an empty `partial_success`.
///
/// # Errors
///
/// How it is malformed, as that of a server that speaks no OTLP is.
pub fn response(message: &[u8]) -> Result<Option<PartialSuccess>, Malformed> {
    let mut partial = PartialSuccess::default();
    for entry in Repeated::of(message, 1) {
        for field in Fields::of(entry?) {
            match field? {
                (1, Wire::Varint(count)) => partial.rejected_spans = count as i64,
                (2, Wire::Bytes(text)) => partial.error_message = Text(text).to_str().into_owned(),
                _ => {}
            }
        }
    }
    Ok((partial != PartialSuccess::default()).then_some(partial))
}

//! Spans that have ended, as another language wrote them down: from records to [`SpanRecord`]s.
//!
//! Limits, flattening, redaction and the event type are applied here, so that they are the same in every language.

use alloc::borrow::Cow;
use alloc::string::String;
use alloc::vec::Vec;

use super::wire::Reader;
use super::{
    ENTRY_ATTRIBUTE, ENTRY_BUCKET, ENTRY_DROPPED, ENTRY_ERROR, ENTRY_EVENT, ENTRY_LINK, Error, SPAN_DESCRIPTION,
    SPAN_NOT_TO_HONEYHIVE, SPAN_PARENT, SPAN_PARENT_REMOTE, SPAN_SCOPE, SPAN_STATE, bucket, tree,
};
use crate::context::SpanContext;
use crate::flatten::flatten;
use crate::id::{SpanId, TraceFlags, TraceId, decode_hex};
use crate::record::SpanRecord;
use crate::scope::SessionScope;
use crate::span::{Kind, LinkHead, StatusCode};
use crate::tracer::Tracer;
use crate::tracestate::TraceState;
use crate::value::Value;

/// The attribute that says what went wrong.
const ERROR: &str = "honeyhive_error";

/// The records of a chunk, in their order. A length that reaches past the end is an error, and the last item.
#[derive(Clone, Debug)]
pub struct Records<'a> {
    chunk: &'a [u8],
    reader: Reader<'a>,
}

impl<'a> Records<'a> {
    /// Reads a chunk.
    pub const fn of(chunk: &'a [u8]) -> Self {
        Self { chunk, reader: Reader::new(chunk) }
    }
}

impl<'a> Iterator for Records<'a> {
    type Item = Result<Record<'a>, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.reader.is_empty() {
            return None;
        }
        let record = (|| {
            let length = self.reader.word()?;
            let mut rest = Reader::new(self.reader.bytes(length)?);
            let [tracer, instrumentation] = rest.words()?;
            Ok(Record { tracer, instrumentation, rest, chunk: self.chunk })
        })();
        if record.is_err() {
            self.reader = Reader::new(&[]);
        }
        Some(record)
    }
}

/// A record of which only the beginning was read.
#[derive(Clone, Copy, Debug)]
pub struct Record<'a> {
    /// The handle of the tracer.
    pub tracer: u32,
    /// What made the span: the id that `Instrumentation` gave.
    pub instrumentation: u32,
    rest: Reader<'a>,
    chunk: &'a [u8],
}

/// A record whose fixed part was read.
#[derive(Debug)]
pub struct Head<'a> {
    context: SpanContext,
    parent: Option<SpanId>,
    bits: u32,
    start_ns: u64,
    end_ns: u64,
    name: Cow<'a, str>,
    blob: &'a [u8],
    description: Cow<'a, str>,
    rest: Reader<'a>,
    chunk: &'a [u8],
}

impl<'a> Record<'a> {
    /// Reads the fixed part.
    ///
    /// # Errors
    ///
    /// If it is malformed.
    pub fn head(self) -> Result<Head<'a>, Error> {
        let (mut reader, chunk) = (self.rest, self.chunk);
        let bits = reader.word()?;
        let (start_ns, end_ns) = (reader.time_ns()?, reader.time_ns()?);
        let trace_id = TraceId::from_hex(reader.bytes(32)?).ok_or(Error::Malformed)?;
        let span_id = SpanId::from_hex(reader.bytes(16)?).ok_or(Error::Malformed)?;
        let parent = match bits & SPAN_PARENT {
            0 => None,
            _ => Some(SpanId::from_hex(reader.bytes(16)?).ok_or(Error::Malformed)?),
        };
        let name = String::from_utf8_lossy(reader.shared(chunk)?);
        let mut trace_state = TraceState::EMPTY;
        if bits & SPAN_STATE != 0 {
            // A bad one is discarded whole (rule TS10).
            trace_state = TraceState::parse(reader.shared(chunk)?).unwrap_or_default();
        }
        let blob = if bits & SPAN_SCOPE != 0 { reader.shared(chunk)? } else { &[] };
        let description = if bits & SPAN_DESCRIPTION != 0 { reader.text()? } else { Cow::Borrowed("") };
        let flags = TraceFlags::from_bits((bits >> 8) as u8);
        let context = SpanContext { trace_id, span_id, flags, trace_state, is_remote: false };
        Ok(Head { context, parent, bits, start_ns, end_ns, name, blob, description, rest: reader, chunk })
    }
}

impl<'a> Head<'a> {
    /// The scope that the span is in, as a blob.
    pub const fn blob(&self) -> &'a [u8] {
        self.blob
    }

    /// What the span is called.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Whether it goes to every exporter but HoneyHive's.
    pub const fn is_not_for_honeyhive(&self) -> bool {
        self.bits & SPAN_NOT_TO_HONEYHIVE != 0
    }

    /// Reads the rest, under the limits of the span's tracer. A new trace is linked to the caller's where its policy says
    /// so (rule TP16).
    ///
    /// # Errors
    ///
    /// If an entry is malformed.
    pub fn span(self, tracer: &Tracer, scope: &SessionScope) -> Result<SpanRecord, Error> {
        let Self { context, parent, bits, start_ns, end_ns, name, description, rest: mut reader, chunk, .. } = self;
        let mut span = SpanRecord::taken_over(context, name.into_owned().into(), start_ns, tracer.settings().limits);
        span.parent = parent;
        span.parent_is_remote = bits & SPAN_PARENT_REMOTE != 0;
        span.kind = Kind::from_api((bits >> 16) as u8);
        if parent.is_none() {
            if let Some(link) = scope.link(tracer.id(), tracer.policy()) {
                span.add_link(link, []);
            }
        }
        while !reader.is_empty() {
            entry(&mut span, &mut reader, chunk, tracer)?;
        }
        span.set_status(StatusCode::from_number((bits >> 24) as u8), &description);
        span.end(end_ns);
        Ok(span)
    }
}

fn entry<'a>(span: &mut SpanRecord, reader: &mut Reader<'a>, chunk: &'a [u8], tracer: &Tracer) -> Result<(), Error> {
    match u32::from(reader.byte()?) {
        ENTRY_ATTRIBUTE => {
            let key = key(reader, chunk)?;
            // Null is no value.
            match tree::read(reader)? {
                Value::Null => {}
                value => span.set_attribute(&key, value),
            }
        }
        ENTRY_EVENT => {
            let time_ns = reader.time_ns()?;
            let name = key(reader, chunk)?;
            let (dropped, keys, values) = collection(reader, chunk)?;
            span.add_event_with(time_ns, &name, keys.iter().map(|key| &**key).zip(values), dropped);
        }
        ENTRY_LINK => {
            let (mut trace_id, mut span_id) = ([0; 16], [0; 8]);
            if !(decode_hex(reader.bytes(32)?, &mut trace_id) && decode_hex(reader.bytes(16)?, &mut span_id)) {
                return Err(Error::Malformed);
            }
            let flags = TraceFlags::from_bits(reader.byte()?);
            let is_remote = reader.byte()? != 0;
            let state = TraceState::parse(reader.shared(chunk)?).unwrap_or_default();
            let head = LinkHead { trace_id, span_id, flags, is_remote, trace_state: state.as_str() };
            let (dropped, keys, values) = collection(reader, chunk)?;
            span.add_link_with(&head, keys.iter().map(|key| &**key).zip(values), dropped);
        }
        ENTRY_BUCKET => {
            let bucket = bucket(reader.byte()?.into())?;
            let value = tree::read(reader)?;
            flatten(bucket.prefix(), &value, tracer.flatten(), &mut |key, value| span.set_attribute(key, value));
        }
        ENTRY_ERROR => span.set_attribute(ERROR, Value::Str(reader.text()?)),
        ENTRY_DROPPED => {
            let [attributes, events, links] = reader.words()?;
            span.count_dropped(attributes, events, links);
        }
        _ => return Err(Error::Malformed),
    }
    Ok(())
}

fn key<'a>(reader: &mut Reader<'a>, chunk: &'a [u8]) -> Result<Cow<'a, str>, Error> {
    reader.shared(chunk).map(String::from_utf8_lossy)
}

type Collection<'a> = (u32, Vec<Cow<'a, str>>, Vec<Value<'a>>);

/// The attributes of an event or link, and how many had no place.
fn collection<'a>(reader: &mut Reader<'a>, chunk: &'a [u8]) -> Result<Collection<'a>, Error> {
    let [dropped, count] = reader.words()?;
    let (mut keys, mut values) = (Vec::new(), Vec::new());
    for _ in 0..count {
        let (key, value) = (key(reader, chunk)?, tree::read(reader)?);
        if value != Value::Null {
            keys.push(key);
            values.push(value);
        }
    }
    Ok((dropped, keys, values))
}

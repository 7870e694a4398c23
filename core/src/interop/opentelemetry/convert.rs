//! Conversions between this crate's types and those of the OpenTelemetry API.

use alloc::borrow::ToOwned;
use alloc::vec::Vec;
use core::fmt;

use ::opentelemetry as otel;
use otel::baggage::Baggage as OtelBaggage;
use otel::trace::{SpanContext as OtelSpanContext, TraceState as OtelTraceState};

use crate::baggage::{Baggage, Entry};
use crate::context::SpanContext;
use crate::id::{SpanId, TraceFlags, TraceId};
use crate::tracestate::TraceState;

/// A span context of OpenTelemetry with an id that is all zero: it names no span.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct InvalidSpanContext;

impl fmt::Display for InvalidSpanContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a span context has a trace id and a span id that are not all zero")
    }
}

impl core::error::Error for InvalidSpanContext {}

impl From<TraceId> for otel::TraceId {
    fn from(id: TraceId) -> Self {
        Self::from_bytes(id.to_bytes())
    }
}

impl From<SpanId> for otel::SpanId {
    fn from(id: SpanId) -> Self {
        Self::from_bytes(id.to_bytes())
    }
}

impl From<TraceFlags> for otel::TraceFlags {
    fn from(flags: TraceFlags) -> Self {
        Self::new(flags.bits())
    }
}

impl From<&SpanContext> for OtelSpanContext {
    /// Loses what their `TraceState` does not take.
    fn from(context: &SpanContext) -> Self {
        let trace_state = OtelTraceState::from(&context.trace_state);
        let (trace_id, span_id) = (context.trace_id.into(), context.span_id.into());
        Self::new(trace_id, span_id, context.flags.into(), context.is_remote, trace_state)
    }
}

impl TryFrom<&OtelSpanContext> for SpanContext {
    type Error = InvalidSpanContext;

    /// Leaves out of `tracestate` what the W3C's grammar does not allow.
    fn try_from(context: &OtelSpanContext) -> Result<Self, InvalidSpanContext> {
        Ok(Self {
            trace_id: TraceId::from_bytes(context.trace_id().to_bytes()).ok_or(InvalidSpanContext)?,
            span_id: SpanId::from_bytes(context.span_id().to_bytes()).ok_or(InvalidSpanContext)?,
            flags: TraceFlags::from_bits(context.trace_flags().to_u8()),
            trace_state: TraceState::from(context.trace_state()),
            is_remote: context.is_remote(),
        })
    }
}

impl From<&TraceState> for OtelTraceState {
    /// The members that their type takes, in their order. It has the grammar of level 1 for keys with an `@`, of which
    /// level 2 allows several, anywhere but in front.
    fn from(state: &TraceState) -> Self {
        let taken = state.iter().filter(|member| Self::from_key_value([*member]).is_ok());
        Self::from_key_value(taken).unwrap_or_default()
    }
}

impl From<&OtelTraceState> for TraceState {
    /// The legal members, in their order.
    fn from(state: &OtelTraceState) -> Self {
        let members: Vec<_> = state.into_iter().collect();
        // What is inserted goes to the front (rule TS8).
        let insert = |state: Self, &(key, value): &(&str, &str)| state.insert(key, value).unwrap_or(state);
        members.iter().rev().fold(Self::EMPTY, insert)
    }
}

/// What came in with the changes that were made to what was shown of it: deleted members go, new and changed ones stand
/// in front (rule TS8), the rest keeps its bytes.
pub(super) fn merged_trace_state(came_in: &TraceState, shown: &OtelTraceState, now: &OtelTraceState) -> TraceState {
    let mut merged = came_in.clone();
    for (key, _) in shown.into_iter().filter(|(key, _)| now.get(key).is_none()) {
        merged = merged.delete(key);
    }
    // Of members with one key the first counts (rule TS6), which is what `get` finds.
    let changed = now.into_iter().filter(|&(key, value)| now.get(key) == Some(value) && shown.get(key) != Some(value));
    for (key, value) in changed.collect::<Vec<_>>().into_iter().rev() {
        // What the grammar does not allow is left out.
        merged = merged.insert(key, value).unwrap_or(merged);
    }
    merged
}

impl From<&Baggage> for OtelBaggage {
    /// One entry for each name, the last (rule B9), with its value decoded and its properties as they are. Their type
    /// has room for 64 entries and 8,192 bytes; what does not fit is left out.
    fn from(baggage: &Baggage) -> Self {
        let mut theirs = Self::new();
        for member in baggage.entries() {
            let properties = member.properties_raw().unwrap_or_default();
            theirs.insert_with_metadata(member.name().to_owned(), member.value().into_owned(), properties);
        }
        theirs
    }
}

impl From<&OtelBaggage> for Baggage {
    /// The entries by name, their type having no order. One whose metadata are no legal properties is left out
    /// (rule B7).
    fn from(baggage: &OtelBaggage) -> Self {
        let insert = |baggage: Self, entry: Entry<'_>| {
            baggage.insert(entry.name, entry.value, entry.properties).unwrap_or(baggage)
        };
        entries(baggage).into_iter().fold(Self::EMPTY, insert)
    }
}

/// Their entries by name.
pub(super) fn entries(baggage: &OtelBaggage) -> Vec<Entry<'_>> {
    let mut entries = Vec::with_capacity(baggage.len());
    for (key, (value, metadata)) in baggage {
        // Their metadata are never absent, only empty.
        entries.push(Entry { name: key.as_str(), value: value.as_str(), properties: Some(metadata.as_str()) });
    }
    entries.sort_unstable_by(|one, other| one.name.cmp(other.name));
    entries
}

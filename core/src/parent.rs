//! Which span is the parent in a request that a caller's headers came with.
//!
//! A framework's instrumentor may have read the same headers before and started a span of its own: then the caller's
//! span must not be put in front of that one, or the request would be in the trace twice.

use crate::context::SpanContext;
use crate::extract::Inbound;
use crate::id::TraceId;

/// The current span when headers are read, as far as the choice of a parent asks.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Current {
    /// Its trace.
    pub trace_id: TraceId,
    /// Whether it is a caller's span that was read from headers, and no span of this process.
    pub is_remote: bool,
}

impl From<&SpanContext> for Current {
    fn from(span: &SpanContext) -> Self {
        Self { trace_id: span.trace_id, is_remote: span.is_remote }
    }
}

/// What becomes the parent of the spans of a request.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Parent {
    /// The current span stays it; without one there is none.
    Current,
    /// The caller's span: [`Inbound::span`].
    Caller,
    /// None, in place of the current span: a new trace begins.
    None,
}

impl Parent {
    /// Chooses the parent:
    ///
    /// - where the caller's trace goes on, the caller's span, unless the current span is a local one of the same trace:
    ///   somebody has read the headers before, and that span is the caller's child;
    /// - where the policy starts a new trace (rule TP16), none if the current span is the caller's, which somebody has
    ///   read before. A local span stays: its trace is this service's, whoever decided to go on with it;
    /// - where no span came in, or the policy takes nothing, the current span.
    pub fn of(inbound: &Inbound, current: Option<Current>) -> Self {
        match (&inbound.span, &inbound.link, current) {
            (Some(span), _, Some(Current { trace_id, is_remote: false })) if trace_id == span.trace_id => Self::Current,
            (Some(_), _, _) => Self::Caller,
            (None, Some(link), Some(Current { trace_id, is_remote: true })) if trace_id == link.trace_id => Self::None,
            (None, _, _) => Self::Current,
        }
    }
}

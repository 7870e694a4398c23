//! The context of a span: what of it crosses process boundaries.

use crate::id::{SpanId, TraceFlags, TraceId};
use crate::traceparent::Traceparent;
use crate::tracestate::TraceState;

/// Where a span stands in its trace. It is always valid: ids that are all zero cannot be made.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SpanContext {
    /// The trace.
    pub trace_id: TraceId,
    /// The span.
    pub span_id: SpanId,
    /// Whether the trace is sampled, and whether its id is random.
    pub flags: TraceFlags,
    /// What vendors say about the trace, in their order and byte for byte as received.
    pub trace_state: TraceState,
    /// Whether the span lives in another process.
    pub is_remote: bool,
}

impl SpanContext {
    /// The context of a new span below this one: same trace, its own span id (rule TP14), the random flag as it is
    /// (rule TP10), local.
    #[must_use]
    pub fn child(&self, span_id: SpanId, sampled: bool) -> Self {
        Self { span_id, flags: self.flags.with_sampled(sampled), is_remote: false, ..self.clone() }
    }

    /// The `traceparent` that names this span as the parent.
    pub const fn traceparent(&self) -> Traceparent {
        Traceparent { trace_id: self.trace_id, span_id: self.span_id, flags: self.flags }
    }
}

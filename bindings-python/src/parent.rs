//! The parent of a new span: whatever is current, unless that is a span of another tracer of ours.

use pyo3::prelude::*;
use tracebaton::context::SpanContext;
use tracebaton::id::{SpanId, TraceId};
use tracebaton::scope::TracerId;
use tracebaton::tracestate::TraceState;

use crate::clock::Anchor;
use crate::remote::RemoteBase;
use crate::scope::Scope;
use crate::span::SpanBase;
use crate::span_context::Parts;

pub(crate) enum Parent<'py> {
    /// The new span is a root.
    None,
    /// A span of the same tracer.
    Own(Bound<'py, SpanBase>),
    /// A span of another process, or of another SDK.
    Other(SpanContext),
}

impl<'py> Parent<'py> {
    /// What `current`, the current span of a context, is to a new span of the tracer. Spans of other tracers of ours
    /// report to other places, and those of a disabled tracer nowhere: the new span's parent is what was current before
    /// them.
    pub(crate) fn of(current: &Bound<'py, PyAny>, tracer: TracerId) -> PyResult<Self> {
        let mut current = unwrapped(current);
        loop {
            let outer = match current.cast::<SpanBase>() {
                Ok(span) if span.get().core.get().tracer.id() == tracer && !span.get().is_no_op() => {
                    return Ok(Self::Own(span.clone()));
                }
                Ok(span) => span.get().outer.as_ref().map(|outer| outer.bind(current.py()).clone()),
                Err(_) => return other(&current).map(|context| context.map_or(Self::None, Self::Other)),
            };
            match outer {
                Some(outer) => current = unwrapped(&outer),
                None => return Ok(Self::None),
            }
        }
    }

    pub(crate) fn context(&self) -> Option<&SpanContext> {
        match self {
            Self::None => None,
            Self::Own(span) => Some(&span.get().context),
            Self::Other(context) => Some(context),
        }
    }

    /// The context that goes on the wire for this parent's tracer.
    pub(crate) fn into_context(self) -> Option<SpanContext> {
        match self {
            Self::None => None,
            Self::Own(span) => Some(span.get().context.clone()),
            Self::Other(context) => Some(context),
        }
    }

    pub(crate) fn trace_id(&self) -> Option<TraceId> {
        self.context().map(|context| context.trace_id)
    }

    pub(crate) fn span_id(&self) -> Option<SpanId> {
        self.context().map(|context| context.span_id)
    }

    pub(crate) fn is_remote(&self) -> bool {
        self.context().is_some_and(|context| context.is_remote)
    }

    pub(crate) fn trace_state(&self) -> TraceState {
        self.context().map(|context| context.trace_state.clone()).unwrap_or_default()
    }

    pub(crate) fn anchor(&self) -> Option<Anchor> {
        match self {
            Self::Own(span) => Some(span.get().anchor),
            _ => None,
        }
    }

    pub(crate) fn scope(&self, py: Python<'_>) -> Option<Py<Scope>> {
        match self {
            Self::Own(span) => span.get().scope.as_ref().map(|scope| scope.clone_ref(py)),
            _ => None,
        }
    }
}

/// The context of a span that is none of ours, or came from another process; none if it is not valid.
fn other(span: &Bound<'_, PyAny>) -> PyResult<Option<SpanContext>> {
    if let Ok(remote) = span.cast::<RemoteBase>() {
        return Ok(Some(remote.get().context.clone()));
    }
    let context = span.call_method0(pyo3::intern!(span.py(), "get_span_context"))?;
    Ok(if context.is_none() { None } else { Parts::of(&context)?.span_context() })
}

/// The span itself, where an instrumentor made a proxy of it the current span.
pub(crate) fn unwrapped<'py>(span: &Bound<'py, PyAny>) -> Bound<'py, PyAny> {
    if span.is_instance_of::<SpanBase>() || span.is_instance_of::<RemoteBase>() {
        return span.clone();
    }
    match span.getattr_opt(pyo3::intern!(span.py(), "__wrapped__")) {
        Ok(Some(inner)) => inner,
        _ => span.clone(),
    }
}

/// The context of any span object, for the wire; none if it is not valid.
pub(crate) fn context_of(span: &Bound<'_, PyAny>) -> PyResult<Option<SpanContext>> {
    let mut span = unwrapped(span);
    loop {
        let outer = match span.cast::<SpanBase>() {
            Ok(span) if !span.get().is_no_op() => return Ok(Some(span.get().context.clone())),
            // What was current before it goes on.
            Ok(span) => span.get().outer.as_ref().map(|outer| outer.bind(span.py()).clone()),
            Err(_) => return other(&span),
        };
        match outer {
            Some(outer) => span = unwrapped(&outer),
            None => return Ok(None),
        }
    }
}

//! The native base of the Python class `RemoteSpan`: the span of another process, as a parent.

use std::cell::Cell;

use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use tracebaton::context::SpanContext;

use crate::scope::Scope;
use crate::{span_context, types};

thread_local! {
    /// A span on its way into a [`RemoteBase`]: Python's classes are made by calling them, and an argument would be an
    /// object of its own.
    static SEED: Cell<Option<(SpanContext, Scope)>> = const { Cell::new(None) };
}

/// The span of another process, and the scope that came with it: one object is made faster than two. Its Python context
/// is made when somebody asks for it.
#[pyclass(extends = Scope, subclass, frozen, module = "tracebaton._native")]
pub(crate) struct RemoteBase {
    pub(crate) context: SpanContext,
    object: PyOnceLock<Py<PyAny>>,
}

#[pymethods]
impl RemoteBase {
    #[new]
    fn new() -> PyResult<PyClassInitializer<Self>> {
        let (context, scope) =
            SEED.take().ok_or_else(|| PyTypeError::new_err("remote spans are made by extracting"))?;
        Ok(PyClassInitializer::from(scope).add_subclass(Self { context, object: PyOnceLock::new() }))
    }

    /// The span's context, as OpenTelemetry's API has it.
    fn get_span_context(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        span_context::cached(py, &self.object, &self.context)
    }
}

/// Gives a caller's context that another propagator read after ours, as OpenTelemetry's own do, the `tracestate` that
/// came in, which says the same: theirs is written anew (rule TP17).
pub(crate) fn restore(context: &mut SpanContext, scope: &Bound<'_, Scope>) {
    let Ok(caller) = scope.cast::<RemoteBase>() else { return };
    let caller = &caller.get().context;
    let is_same = (context.trace_id, context.span_id) == (caller.trace_id, caller.span_id) && context.is_remote;
    if is_same && context.trace_state != caller.trace_state && context.trace_state.iter().eq(caller.trace_state.iter())
    {
        context.trace_state = caller.trace_state.clone();
    }
}

/// A `RemoteSpan` with this context, which is its scope too.
pub(crate) fn remote_span<'py>(py: Python<'py>, context: SpanContext, scope: Scope) -> PyResult<Bound<'py, PyAny>> {
    SEED.set(Some((context, scope)));
    types::get(py)?.remote_span.bind(py).call0()
}

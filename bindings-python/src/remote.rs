//! The native base of the Python class `RemoteSpan`: the span of another process, as a parent.

use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use tracebaton::context::SpanContext;

use crate::{span_context, types};

/// A span context on its way into a [`RemoteBase`].
#[pyclass(frozen, module = "tracebaton._native")]
pub(crate) struct Seed(SpanContext);

/// The span of another process. Its Python context is made when somebody asks for it.
#[pyclass(subclass, frozen, module = "tracebaton._native")]
pub(crate) struct RemoteBase {
    pub(crate) context: SpanContext,
    object: PyOnceLock<Py<PyAny>>,
}

#[pymethods]
impl RemoteBase {
    #[new]
    fn new(seed: &Seed) -> Self {
        Self { context: seed.0.clone(), object: PyOnceLock::new() }
    }

    /// The span's context, as OpenTelemetry's API has it.
    fn get_span_context(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        span_context::cached(py, &self.object, &self.context)
    }
}

/// A `RemoteSpan` with this context.
pub(crate) fn remote_span<'py>(py: Python<'py>, context: SpanContext) -> PyResult<Bound<'py, PyAny>> {
    types::get(py)?.remote_span.bind(py).call1((Py::new(py, Seed(context))?,))
}

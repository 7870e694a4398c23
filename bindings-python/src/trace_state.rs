//! The native base of the Python class `TraceState`.

use std::cell::Cell;

use pyo3::prelude::*;
use pyo3::types::PyType;
use tracebaton::tracestate::TraceState;

use crate::types;

thread_local! {
    /// A tracestate on its way into a [`TraceStateBase`].
    static SEED: Cell<TraceState> = const { Cell::new(TraceState::EMPTY) };
}

/// A tracestate that keeps its text.
#[pyclass(subclass, frozen, module = "tracebaton._native")]
pub(crate) struct TraceStateBase {
    pub(crate) inner: TraceState,
}

#[pymethods]
impl TraceStateBase {
    #[new]
    fn new() -> Self {
        Self { inner: SEED.take() }
    }

    /// The text for the header.
    fn to_header(&self) -> &str {
        self.inner.as_str()
    }

    /// The members, as pairs, the first of each key.
    fn _members(&self) -> Vec<(String, String)> {
        self.inner.iter().map(|(key, value)| (key.to_owned(), value.to_owned())).collect()
    }

    /// With this member in front; `None` if key or value is not legal.
    fn _insert<'py>(slf: &Bound<'py, Self>, key: &str, value: &str) -> PyResult<Option<Bound<'py, PyAny>>> {
        slf.get().inner.insert(key, value).ok().map(|inner| to_python(slf.py(), inner)).transpose()
    }

    /// Without the members of this key.
    fn _delete<'py>(slf: &Bound<'py, Self>, key: &str) -> PyResult<Bound<'py, PyAny>> {
        to_python(slf.py(), slf.get().inner.delete(key))
    }

    /// The tracestate with this text; without members if a rule forbids it.
    #[classmethod]
    fn from_raw<'py>(cls: &Bound<'py, PyType>, text: &str) -> PyResult<Bound<'py, PyAny>> {
        to_python(cls.py(), TraceState::parse(text.as_bytes()).unwrap_or_default())
    }
}

/// The package's `TraceState`.
pub(crate) fn to_python(py: Python<'_>, state: TraceState) -> PyResult<Bound<'_, PyAny>> {
    SEED.set(state);
    types::get(py)?.trace_state.bind(py).call0()
}

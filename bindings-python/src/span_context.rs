//! Span contexts between core and OpenTelemetry's API.

use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyInt, PyString};
use tracebaton::context::SpanContext;
use tracebaton::id::{SpanId, TraceFlags, TraceId};
use tracebaton::tracestate::TraceState;

use crate::value::string;
use crate::{trace_state, types};

/// The API's `SpanContext`. It is a tuple, and made as one: its class would only look whether the ids are valid.
pub(crate) fn to_python(py: Python<'_>, context: &SpanContext) -> PyResult<Py<PyAny>> {
    let types = types::get(py)?;
    let trace_state = if context.trace_state.is_empty() {
        types.default_trace_state.clone_ref(py)
    } else {
        trace_state::to_python(py, context.trace_state.clone())?.unbind()
    };
    let flags = types.trace_flags.get(usize::from(context.flags.bits())).map(|flags| flags.clone_ref(py));
    let trace_id = u128::from_be_bytes(context.trace_id.to_bytes());
    let span_id = u64::from_be_bytes(context.span_id.to_bytes());
    let class = types.span_context.bind(py);
    let made = match &types.new_tuple {
        Some(new) => new.bind(py).call1((class, (trace_id, span_id, context.is_remote, flags, trace_state, true)))?,
        None => class.call1((trace_id, span_id, context.is_remote, flags, trace_state))?,
    };
    Ok(made.unbind())
}

/// The API's `SpanContext` of these parts, valid or not.
pub(crate) fn of_parts(
    py: Python<'_>,
    trace_id: u128,
    span_id: u64,
    is_remote: bool,
    flags: TraceFlags,
    trace_state: &str,
) -> PyResult<Py<PyAny>> {
    let types = types::get(py)?;
    let trace_state = if trace_state.is_empty() {
        types.default_trace_state.clone_ref(py)
    } else {
        types.trace_state.bind(py).call_method1("from_raw", (trace_state,))?.unbind()
    };
    let flags = types.trace_flags.get(usize::from(flags.bits())).map(|flags| flags.clone_ref(py));
    let arguments = (trace_id, span_id, is_remote, flags, trace_state);
    Ok(types.span_context.bind(py).call1(arguments)?.unbind())
}

/// The same, made once. Making it runs Python code, during which the process may be forked: nobody waits for another
/// thread to be done with it, which a child would do for ever.
pub(crate) fn cached(py: Python<'_>, cache: &PyOnceLock<Py<PyAny>>, context: &SpanContext) -> PyResult<Py<PyAny>> {
    if let Some(object) = cache.get(py) {
        return Ok(object.clone_ref(py));
    }
    let object = to_python(py, context)?;
    let _ = cache.set(py, object.clone_ref(py));
    Ok(object)
}

/// The header text of an API's `TraceState`; empty for none.
pub(crate) fn trace_state_text(trace_state: &Bound<'_, PyAny>) -> PyResult<String> {
    if !trace_state.is_truthy()? {
        return Ok(String::new());
    }
    let text = trace_state.call_method0(pyo3::intern!(trace_state.py(), "to_header"))?;
    Ok(text.cast::<PyString>().map_or_else(|_| String::new(), |text| string(text).into_owned()))
}

/// What an API's `SpanContext` says, valid or not.
pub(crate) struct Parts {
    pub(crate) trace_id: [u8; 16],
    pub(crate) span_id: [u8; 8],
    pub(crate) flags: TraceFlags,
    pub(crate) is_remote: bool,
    pub(crate) trace_state: String,
}

impl Parts {
    pub(crate) fn of(context: &Bound<'_, PyAny>) -> PyResult<Self> {
        let py = context.py();
        let trace_id = context.getattr(pyo3::intern!(py, "trace_id"))?.extract::<u128>()?.to_be_bytes();
        let span_id = context.getattr(pyo3::intern!(py, "span_id"))?.extract::<u64>()?.to_be_bytes();
        let flags = context.getattr(pyo3::intern!(py, "trace_flags"))?;
        let flags = flags.cast::<PyInt>().map_or(Ok(0), |flags| flags.extract::<u64>())?;
        let trace_state = trace_state_text(&context.getattr(pyo3::intern!(py, "trace_state"))?)?;
        Ok(Self {
            trace_id,
            span_id,
            flags: TraceFlags::from_bits(flags as u8),
            is_remote: context.getattr(pyo3::intern!(py, "is_remote"))?.is_truthy()?,
            trace_state,
        })
    }

    pub(crate) fn is_valid(&self) -> bool {
        TraceId::from_bytes(self.trace_id).is_some() && SpanId::from_bytes(self.span_id).is_some()
    }

    /// None if an id is zero.
    pub(crate) fn span_context(&self) -> Option<SpanContext> {
        Some(SpanContext {
            trace_id: TraceId::from_bytes(self.trace_id)?,
            span_id: SpanId::from_bytes(self.span_id)?,
            flags: self.flags,
            // Another SDK's text is judged by the rules as any other.
            trace_state: TraceState::parse(self.trace_state.as_bytes()).unwrap_or_default(),
            is_remote: self.is_remote,
        })
    }
}

//! Python objects that the native side uses again and again, looked up once.

use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyDict, PyString, PyTuple, PyType};
use tracebaton::flatten::Bucket;

pub(crate) struct Types {
    /// The key of the current span in an OpenTelemetry context.
    pub(crate) span_key: Py<PyString>,
    /// The key of the baggage.
    pub(crate) baggage_key: Py<PyString>,
    /// The key of the [`Scope`](crate::scope::Scope).
    pub(crate) scope_key: Py<PyString>,
    /// The key of the innermost block.
    pub(crate) block_key: Py<PyString>,
    pub(crate) context: Py<PyType>,
    pub(crate) span_context: Py<PyType>,
    /// `tuple.__new__`, where a span context is the tuple that is known: the API may change it.
    pub(crate) new_tuple: Option<Py<PyAny>>,
    /// `TraceFlags` of 0 to 3.
    pub(crate) trace_flags: [Py<PyAny>; 4],
    pub(crate) default_trace_state: Py<PyAny>,
    /// The package's own classes and functions.
    pub(crate) trace_state: Py<PyType>,
    pub(crate) remote_span: Py<PyType>,
    pub(crate) tracer: Py<PyType>,
    /// The current context.
    pub(crate) current: Py<PyAny>,
    pub(crate) set_current: Py<PyAny>,
    /// Coroutines of blocks.
    pub(crate) entered: Py<PyAny>,
    pub(crate) left: Py<PyAny>,
    /// A context with another session.
    pub(crate) with_session: Py<PyAny>,
    /// A policy as it may be given.
    pub(crate) as_policy: Py<PyAny>,
    pub(crate) invalid_span: Py<PyAny>,
    pub(crate) invalid_context: Py<PyAny>,
    /// By bucket: the keys of attributes by the keys of values ([`crate::span::enrich`]).
    pub(crate) joined: [Py<PyDict>; Bucket::ALL.len()],
    /// The tracer that an argument means.
    pub(crate) choose: Py<PyAny>,
    pub(crate) open: Py<PyAny>,
    pub(crate) describe: Py<PyAny>,
    pub(crate) mapping: Py<PyAny>,
    pub(crate) event: Py<PyAny>,
    pub(crate) link: Py<PyAny>,
}

static TYPES: PyOnceLock<Types> = PyOnceLock::new();

pub(crate) fn get(py: Python<'_>) -> PyResult<&Types> {
    TYPES.get(py).ok_or_else(|| PyRuntimeError::new_err("the package tracebaton is not imported"))
}

/// Looks them up. The package calls it when it is imported, not whoever needs them first: a process that is forked just
/// then would have a child that waits for a thread which it does not have.
#[pyfunction]
pub(crate) fn set_up(py: Python<'_>) -> PyResult<()> {
    if TYPES.get(py).is_none() {
        let _ = TYPES.set(py, load(py)?);
    }
    Ok(())
}

fn load(py: Python<'_>) -> PyResult<Types> {
    let key = |module: &str, name: &str| -> PyResult<Py<PyString>> {
        Ok(py.import(module)?.getattr(name)?.cast_into::<PyString>()?.unbind())
    };
    let class = |module: &str, name: &str| -> PyResult<Py<PyType>> {
        Ok(py.import(module)?.getattr(name)?.cast_into::<PyType>()?.unbind())
    };
    let any = |module: &str, name: &str| -> PyResult<Py<PyAny>> { Ok(py.import(module)?.getattr(name)?.unbind()) };
    let flags = class("opentelemetry.trace", "TraceFlags")?;
    let flag = |bits: u8| -> PyResult<Py<PyAny>> { Ok(flags.bind(py).call1((bits,))?.unbind()) };
    let context = class("opentelemetry.trace", "SpanContext")?;
    let state = any("opentelemetry.trace.span", "DEFAULT_TRACE_STATE")?;
    Ok(Types {
        span_key: key("opentelemetry.trace.propagation", "_SPAN_KEY")?,
        baggage_key: key("opentelemetry.baggage", "_BAGGAGE_KEY")?,
        scope_key: key("tracebaton._context", "SCOPE_KEY")?,
        block_key: key("tracebaton._context", "BLOCK_KEY")?,
        context: class("opentelemetry.context.context", "Context")?,
        new_tuple: new_tuple(py, &context, &flag(1)?, &state)?,
        span_context: context,
        trace_flags: [flag(0)?, flag(1)?, flag(2)?, flag(3)?],
        default_trace_state: state,
        trace_state: class("tracebaton._trace_state", "TraceState")?,
        remote_span: class("tracebaton._span", "RemoteSpan")?,
        tracer: class("tracebaton._tracer", "Tracer")?,
        current: any("tracebaton._context", "current")?,
        set_current: any("tracebaton._context", "set_current")?,
        entered: any("tracebaton._context", "entered")?,
        left: any("tracebaton._context", "left")?,
        with_session: any("tracebaton._tracer", "with_session")?,
        as_policy: any("tracebaton._propagation", "as_policy")?,
        invalid_span: any("opentelemetry.trace", "INVALID_SPAN")?,
        invalid_context: any("opentelemetry.trace", "INVALID_SPAN_CONTEXT")?,
        joined: Bucket::ALL.map(|_| PyDict::new(py).unbind()),
        choose: any("tracebaton._registry", "choose")?,
        open: any("tracebaton._values", "open_object")?,
        describe: any("tracebaton._values", "describe")?,
        mapping: any("collections.abc", "Mapping")?,
        event: any("tracebaton._span", "Event")?,
        link: any("opentelemetry.trace", "Link")?,
    })
}

/// `tuple.__new__`, if it makes the same of a span context's parts as their class does.
fn new_tuple(py: Python<'_>, class: &Py<PyType>, flags: &Py<PyAny>, state: &Py<PyAny>) -> PyResult<Option<Py<PyAny>>> {
    let new = py.get_type::<PyTuple>().getattr("__new__")?;
    let class = class.bind(py);
    let made = class.call1((1, 2, true, flags, state))?;
    let tuple = new.call1((class, (1, 2, true, flags, state, true)));
    Ok(tuple.is_ok_and(|tuple| tuple.eq(made).unwrap_or(false)).then(|| new.unbind()))
}

//! Blocks of code with a context of their own that are entered for every request and every traced call:
//! `with_distributed_trace_context`, `enrich_span_context` and `@trace`. They are what `Block` and `SpanBlock` are in
//! Python, and stand in a context beside those.

use std::mem;
use std::sync::{Mutex, MutexGuard, PoisonError};

use pyo3::prelude::*;
use pyo3::types::{PyDict, PyString, PyTuple, PyType};
use pyo3::{PyTraverseError, PyVisit};
use tracebaton::flatten::Bucket;

use crate::carrier::swallow;
use crate::core::{Core, Instrumentation};
use crate::policy::Policy;
use crate::span::{SpanBase, enrich};
use crate::types::{self, Types};
use crate::{propagation, report};

/// What a tracer's blocks need of it, in one place. The tracer holds it: a `Core` that did would never go.
#[pyclass(frozen, module = "tracebaton._native")]
pub(crate) struct Starter {
    instrumentation: Py<Instrumentation>,
    span_class: Py<PyType>,
    /// Whether arguments and results are captured where a function says nothing of it.
    pub(crate) captures: bool,
}

#[pymethods]
impl Starter {
    #[new]
    fn new(instrumentation: Py<Instrumentation>, span_class: Py<PyType>, captures: bool) -> Self {
        Self { instrumentation, span_class, captures }
    }
}

/// Those of a tracer.
pub(crate) fn starter_of<'py>(tracer: &Bound<'py, PyAny>) -> PyResult<Bound<'py, Starter>> {
    Ok(tracer.getattr(pyo3::intern!(tracer.py(), "_starter"))?.cast_into::<Starter>()?)
}

/// The current context.
pub(crate) fn current<'py>(py: Python<'py>, types: &Types) -> PyResult<Bound<'py, PyDict>> {
    Ok(types.current.bind(py).call0()?.cast_into::<PyDict>()?)
}

/// A copy of a context, which nobody else has yet.
pub(crate) fn copied<'py>(types: &Types, base: &Bound<'py, PyDict>) -> PyResult<Bound<'py, PyDict>> {
    // A dict that is made empty is made faster.
    let context = types.context.bind(base.py()).call0()?.cast_into::<PyDict>()?;
    if !base.is_empty() {
        context.update(base.as_mapping())?;
    }
    Ok(context)
}

/// The tracer that an argument means; where it is `None`, the one that is meant in this context.
pub(crate) fn choose<'py>(
    types: &Types,
    tracer: Option<&Bound<'py, PyAny>>,
    context: &Bound<'py, PyDict>,
) -> PyResult<Option<Bound<'py, PyAny>>> {
    let py = context.py();
    match tracer {
        Some(tracer) if tracer.is_exact_instance(types.tracer.bind(py)) => return Ok(Some(tracer.clone())),
        None => {
            // The block whose span is current is the rule; all else is the registry's matter.
            if let Some(block) = context.get_item(&types.block_key)? {
                let span = context.get_item(&types.span_key)?;
                let (of_block, tracer) = (block.getattr(pyo3::intern!(py, "span"))?, pyo3::intern!(py, "tracer"));
                if span.map_or(of_block.is_none(), |span| span.is(&of_block)) {
                    let tracer = block.getattr(tracer)?;
                    if !tracer.is_none() {
                        return Ok(Some(tracer));
                    }
                }
            }
        }
        Some(_) => {}
    }
    Ok(Some(types.choose.bind(py).call1((tracer, context))?).filter(|chosen| !chosen.is_none()))
}

/// What an entered block changed, and has to undo.
#[derive(Default)]
struct Place(Mutex<Option<Entered>>);

struct Entered {
    context: Py<PyDict>,
    previous: Py<PyDict>,
    outer: Option<Py<PyAny>>,
    span: Option<Py<PyAny>>,
}

impl Place {
    /// Nobody runs code of Python's, and nothing is dropped, while it is locked.
    fn lock(&self) -> MutexGuard<'_, Option<Entered>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn set(&self, entered: Entered) {
        let before = self.lock().replace(entered);
        drop(before);
    }

    /// Makes `context`, which is nobody else's, the current one of a block, with this span.
    fn enter<'py>(
        &self,
        block: &Bound<'py, PyAny>,
        context: &Bound<'py, PyDict>,
        previous: Bound<'py, PyDict>,
        span: Option<Bound<'py, PyAny>>,
    ) -> PyResult<()> {
        let types = types::get(block.py())?;
        let outer = previous.get_item(&types.block_key)?.map(Bound::unbind);
        context.set_item(&types.block_key, block)?;
        let entered = Entered {
            context: context.clone().unbind(),
            previous: previous.unbind(),
            outer,
            span: span.map(Bound::unbind),
        };
        self.set(entered);
        types.set_current.bind(block.py()).call1((context,)).map(|_| ())
    }

    /// As `Block._leave` in Python: restores the context from before, and undoes what was left attached inside. In
    /// another task than the one that entered, the current context stays.
    fn leave(&self, block: &Bound<'_, PyAny>) -> PyResult<()> {
        let py = block.py();
        let types = types::get(py)?;
        let both = self.lock().as_ref().map(|it| (it.context.clone_ref(py), it.previous.clone_ref(py)));
        let Some((context, previous)) = both else { return Ok(()) };
        let now = current(py, types)?;
        if !now.is(&context) {
            let mut inner = now.get_item(&types.block_key)?;
            while !inner.as_ref().is_some_and(|inner| inner.is(block)) {
                let Some(it) = inner else { return Ok(()) };
                inner = Some(it.getattr(pyo3::intern!(py, "outer"))?).filter(|outer| !outer.is_none());
            }
        }
        types.set_current.bind(py).call1((&previous,))?;
        // The context knows this block: both would be garbage that only the collector of cycles frees.
        let held = self.lock().as_mut().map(|it| mem::replace(&mut it.context, previous));
        drop(held);
        Ok(())
    }

    fn span(&self, py: Python<'_>) -> Option<Py<PyAny>> {
        self.lock().as_ref().and_then(|it| it.span.as_ref().map(|span| span.clone_ref(py)))
    }

    fn outer(&self, py: Python<'_>) -> Option<Py<PyAny>> {
        self.lock().as_ref().and_then(|it| it.outer.as_ref().map(|outer| outer.clone_ref(py)))
    }

    fn traverse(&self, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
        let Ok(entered) = self.0.try_lock() else { return Ok(()) };
        entered.as_ref().map_or(Ok(()), |it| {
            visit.call(&it.context)?;
            visit.call(&it.previous)?;
            visit.call(&it.outer)?;
            visit.call(&it.span)
        })
    }

    fn clear(&self) {
        let entered = self.lock().take();
        drop(entered);
    }
}

/// A block with a span that has HoneyHive's fields.
#[pyclass(frozen, module = "tracebaton._native")]
pub(crate) struct EnrichedBlock {
    #[pyo3(get)]
    tracer: Py<PyAny>,
    name: Py<PyString>,
    fields: Py<PyDict>,
    session_id: Option<Py<PyString>>,
    place: Place,
}

#[pymethods]
impl EnrichedBlock {
    #[new]
    #[pyo3(signature = (tracer, name, fields, session_id=None))]
    fn new(tracer: Py<PyAny>, name: Py<PyString>, fields: Py<PyDict>, session_id: Option<Py<PyString>>) -> Self {
        Self { tracer, name, fields, session_id, place: Place::default() }
    }

    #[getter]
    fn span(&self, py: Python<'_>) -> Option<Py<PyAny>> {
        self.place.span(py)
    }

    #[getter]
    fn outer(&self, py: Python<'_>) -> Option<Py<PyAny>> {
        self.place.outer(py)
    }

    fn __enter__<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
        Self::enter(slf, current(slf.py(), types::get(slf.py())?)?, None)
    }

    fn __exit__(
        slf: &Bound<'_, Self>,
        _exc_type: &Bound<'_, PyAny>,
        exc_val: &Bound<'_, PyAny>,
        _exc_tb: &Bound<'_, PyAny>,
    ) -> PyResult<()> {
        Self::exit(slf, Some(exc_val).filter(|exc_val| !exc_val.is_none()))
    }

    fn __aenter__<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
        types::get(slf.py())?.entered.bind(slf.py()).call1((slf,))
    }

    fn __aexit__<'py>(
        slf: &Bound<'py, Self>,
        exc_type: &Bound<'py, PyAny>,
        exc_val: &Bound<'py, PyAny>,
        exc_tb: &Bound<'py, PyAny>,
    ) -> PyResult<Bound<'py, PyAny>> {
        types::get(slf.py())?.left.bind(slf.py()).call1((slf, exc_type, exc_val, exc_tb))
    }

    /// Leaves the block, whose span goes on.
    fn _leave(slf: &Bound<'_, Self>) -> PyResult<()> {
        slf.get().place.leave(slf.as_any())
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.fields)?;
        self.place.traverse(&visit)
    }

    fn __clear__(&self) {
        self.place.clear();
    }
}

impl EnrichedBlock {
    /// Starts the span, with its fields and these inputs, and makes it current. Nothing but Ctrl-C comes out of it.
    fn enter<'py>(
        slf: &Bound<'py, Self>,
        previous: Bound<'py, PyDict>,
        inputs: Option<Inputs<'_, 'py>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let py = slf.py();
        let Some(object) = swallow(py, Self::start(slf, &previous))? else {
            report::warn("a span could not be started");
            // The block begins although there is no span for it.
            let span = types::get(py)?.invalid_span.bind(py);
            let entered = Entered {
                context: previous.clone().unbind(),
                previous: previous.unbind(),
                outer: None,
                span: Some(span.clone().unbind()),
            };
            slf.get().place.set(entered);
            return Ok(span.clone());
        };
        let span = object.cast::<SpanBase>()?.get();
        let put_inputs = inputs.as_ref().map(|inputs| |span: &SpanBase| inputs.put(span));
        let put_inputs = put_inputs.as_ref().map(|put| put as enrich::PutInputs<'_>);
        let put = enrich::put_fields(span, slf.get().fields.bind(py), put_inputs);
        // What a value's own code raises is not the request's trouble.
        if swallow(py, put)?.is_none() {
            report::warn("a field of a span could not be captured");
        }
        // It is recorded once, with the inputs.
        span.record_start(py);
        Ok(object)
    }

    fn start<'py>(slf: &Bound<'py, Self>, previous: &Bound<'py, PyDict>) -> PyResult<Bound<'py, PyAny>> {
        let py = slf.py();
        let (types, this) = (types::get(py)?, slf.get());
        let tracer = this.tracer.bind(py);
        let starter = starter_of(tracer)?;
        let starter = starter.get();
        let base = match &this.session_id {
            Some(session_id) => types.with_session.bind(py).call1((previous, tracer, session_id))?.cast_into()?,
            None => previous.clone(),
        };
        // As `OtelTracer.start_span` does, for a span with nothing but its name.
        let none = py.None();
        let arguments = (&starter.instrumentation, &this.name, &base, 0, &none, &none, &none, false);
        let span = starter.span_class.bind(py).call1(arguments)?;
        if let Some(processor) = starter.instrumentation.get().processor(py)
            && span.cast::<SpanBase>()?.get().is_recording()
        {
            processor.bind(py).call_method1(pyo3::intern!(py, "on_start"), (&span, &base))?;
        }
        let context = copied(types, &base)?;
        context.set_item(&types.span_key, &span)?;
        this.place.enter(slf.as_any(), &context, previous.clone(), Some(span.clone()))?;
        Ok(span)
    }

    /// Leaves the block and ends its span. What goes wrong here is ours: the block's own exception, or none, is what its
    /// user gets to see.
    fn exit(slf: &Bound<'_, Self>, error: Option<&Bound<'_, PyAny>>) -> PyResult<()> {
        let py = slf.py();
        let place = &slf.get().place;
        place.leave(slf.as_any())?;
        let Some(object) = place.span(py) else { return Ok(()) };
        let Ok(span) = object.bind(py).cast::<SpanBase>() else { return Ok(()) };
        if let Some(error) = error
            && swallow(py, span.call_method1(pyo3::intern!(py, "fail"), (error,)))?.is_none()
        {
            report::warn("an exception could not be recorded");
        }
        if swallow(py, SpanBase::end(span, None))?.is_none() {
            report::warn("a span could not be ended");
        }
        Ok(())
    }
}

/// The arguments of a call, to be captured.
enum Inputs<'a, 'py> {
    /// As many as there are names.
    Plain(&'a [Py<PyString>], Bound<'py, PyTuple>, usize),
    Named(Bound<'py, PyAny>),
}

impl Inputs<'_, '_> {
    fn put(&self, span: &SpanBase) -> PyResult<bool> {
        match self {
            Self::Plain(names, args, skipped) => {
                let py = args.py();
                let pairs = || {
                    let pairs = names.iter().zip(args.iter()).skip(*skipped);
                    pairs.map(|(name, value)| (name.bind(py).clone().into_any(), value))
                };
                if let Some(put) = enrich::put_plain(span, Bucket::Inputs, pairs())? {
                    return Ok(put);
                }
                let inputs = PyDict::new(py);
                for (name, value) in pairs() {
                    inputs.set_item(name, value)?;
                }
                enrich::put_bucket(span, Bucket::Inputs, inputs.as_any())
            }
            Self::Named(inputs) => enrich::put_bucket(span, Bucket::Inputs, inputs),
        }
    }
}

/// What `@trace` was told about a function.
#[pyclass(frozen, module = "tracebaton._native")]
pub(crate) struct Plan {
    name: Py<PyString>,
    fields: Py<PyDict>,
    tracer: Option<Py<PyAny>>,
    session_id: Option<Py<PyString>>,
    capture: Option<bool>,
    /// The names of the arguments, where all of them may be given by position.
    names: Option<Vec<Py<PyString>>>,
    /// 1 where the first argument is `self` or `cls`.
    skipped: usize,
    /// Called with arguments and keywords: the arguments by name.
    bind: Py<PyAny>,
}

#[pymethods]
impl Plan {
    #[new]
    #[allow(clippy::too_many_arguments, reason = "as many as a decorator has")]
    fn new(
        name: Py<PyString>,
        fields: Py<PyDict>,
        tracer: Option<Py<PyAny>>,
        session_id: Option<Py<PyString>>,
        capture: Option<bool>,
        names: Option<Vec<Py<PyString>>>,
        skipped: usize,
        bind: Py<PyAny>,
    ) -> Self {
        Self { name, fields, tracer, session_id, capture, names, skipped, bind }
    }

    /// Enters the block of a call; none if it is not to be traced.
    fn begin<'py>(
        &self,
        py: Python<'py>,
        args: &Bound<'py, PyTuple>,
        kwargs: &Bound<'py, PyDict>,
    ) -> PyResult<Option<Bound<'py, EnrichedBlock>>> {
        let Some(made) = swallow(py, self.made(py, args, kwargs))? else {
            report::warn("a call could not be traced");
            return Ok(None);
        };
        let Some((block, previous, inputs)) = made else { return Ok(None) };
        EnrichedBlock::enter(&block, previous, inputs)?;
        Ok(Some(block))
    }

    /// Captures the result of a call and leaves its block.
    fn end(&self, block: &Bound<'_, EnrichedBlock>, result: &Bound<'_, PyAny>) -> PyResult<()> {
        let py = block.py();
        if swallow(py, self.capture_result(block, result))?.is_none() {
            report::warn("a result could not be captured");
        }
        EnrichedBlock::exit(block, None)
    }
}

type Made<'a, 'py> = (Bound<'py, EnrichedBlock>, Bound<'py, PyDict>, Option<Inputs<'a, 'py>>);

impl Plan {
    fn made<'a, 'py>(
        &'a self,
        py: Python<'py>,
        args: &Bound<'py, PyTuple>,
        kwargs: &Bound<'py, PyDict>,
    ) -> PyResult<Option<Made<'a, 'py>>> {
        let types = types::get(py)?;
        let previous = current(py, types)?;
        let tracer = match &self.tracer {
            Some(tracer) => tracer.bind(py).clone(),
            None => match choose(types, None, &previous)? {
                Some(tracer) => tracer,
                None => return Ok(None),
            },
        };
        let inputs = if self.captures(&tracer)? { self.inputs(args, kwargs)? } else { None };
        let block = EnrichedBlock {
            tracer: tracer.unbind(),
            name: self.name.clone_ref(py),
            fields: self.fields.clone_ref(py),
            session_id: self.session_id.as_ref().map(|it| it.clone_ref(py)),
            place: Place::default(),
        };
        Ok(Some((Bound::new(py, block)?, previous, inputs)))
    }

    fn inputs<'a, 'py>(
        &'a self,
        args: &Bound<'py, PyTuple>,
        kwargs: &Bound<'py, PyDict>,
    ) -> PyResult<Option<Inputs<'a, 'py>>> {
        if let Some(names) = &self.names
            && kwargs.is_empty()
            && args.len() == names.len()
        {
            return Ok(Some(Inputs::Plain(names, args.clone(), self.skipped)));
        }
        let named = self.bind.bind(args.py()).call1((args, kwargs))?;
        Ok(named.is_truthy()?.then_some(Inputs::Named(named)))
    }

    fn captures(&self, tracer: &Bound<'_, PyAny>) -> PyResult<bool> {
        self.capture.map_or_else(|| Ok(starter_of(tracer)?.get().captures), Ok)
    }

    fn capture_result(&self, block: &Bound<'_, EnrichedBlock>, result: &Bound<'_, PyAny>) -> PyResult<()> {
        let (py, block) = (block.py(), block.get());
        if self.captures(block.tracer.bind(py))?
            && let Some(span) = block.place.span(py)
            && let Ok(span) = span.bind(py).cast::<SpanBase>()
        {
            span.get()._enrich(pyo3::intern!(py, "honeyhive_outputs.result"), result)?;
        }
        Ok(())
    }
}

/// A block in the context that a caller sent: see `with_distributed_trace_context`.
#[pyclass(frozen, module = "tracebaton._native")]
pub(crate) struct DistributedContext {
    carrier: Py<PyAny>,
    tracer: Option<Py<PyAny>>,
    session_id: Option<Py<PyString>>,
    policy: Option<Py<Policy>>,
    place: Place,
}

/// A block, for `with` or `async with`, whose spans go on in the caller's trace and session.
///
/// It yields the context and undoes it at the end, whatever happens inside. `carrier` is whatever a framework has for
/// headers: `dict(request.headers)`, a WSGI environ, an ASGI scope's list, gRPC metadata. `session_id` (1 to 256
/// characters) overrides the caller's session; `policy` overrides the tracer's.
#[pyfunction]
#[pyo3(signature = (carrier, tracer=None, *, session_id=None, policy=None, tracer_instance=None))]
pub(crate) fn with_distributed_trace_context(
    py: Python<'_>,
    carrier: Py<PyAny>,
    tracer: Option<&Bound<'_, PyAny>>,
    session_id: Option<&Bound<'_, PyAny>>,
    policy: Option<&Bound<'_, PyAny>>,
    tracer_instance: Option<&Bound<'_, PyAny>>,
) -> PyResult<DistributedContext> {
    let types = types::get(py)?;
    let tracer = match tracer.or(tracer_instance) {
        Some(tracer) if tracer.is_exact_instance(types.tracer.bind(py)) => Some(tracer.clone()),
        tracer => choose(types, tracer, &current(py, types)?)?,
    };
    // Before the block, so that no request fails half-way.
    let session_id = session_id.map(propagation::session_id).transpose()?.flatten();
    let policy = match policy {
        Some(policy) => Some(types.as_policy.bind(py).call1((policy,))?.cast_into::<Policy>()?.unbind()),
        None => None,
    };
    Ok(DistributedContext { carrier, tracer: tracer.map(Bound::unbind), session_id, policy, place: Place::default() })
}

#[pymethods]
impl DistributedContext {
    #[getter]
    fn tracer(&self, py: Python<'_>) -> Option<Py<PyAny>> {
        self.tracer.as_ref().map(|tracer| tracer.clone_ref(py))
    }

    #[getter]
    fn span(&self, py: Python<'_>) -> Option<Py<PyAny>> {
        self.place.span(py)
    }

    #[getter]
    fn outer(&self, py: Python<'_>) -> Option<Py<PyAny>> {
        self.place.outer(py)
    }

    fn __enter__<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyDict>> {
        let py = slf.py();
        let (types, this) = (types::get(py)?, slf.get());
        let previous = current(py, types)?;
        let tracer = this.tracer.as_ref().map(|tracer| tracer.bind(py));
        let core = tracer.map(|tracer| tracer.getattr(pyo3::intern!(py, "_core"))).transpose()?;
        let core = core.map(|core| core.cast_into::<Core>()).transpose()?;
        let policy = this.policy.as_ref().map(Py::get);
        let mut context = propagation::context_with(&previous, this.carrier.bind(py), core.as_ref(), policy)?;
        if let (Some(session_id), Some(tracer)) = (&this.session_id, tracer) {
            context = types.with_session.bind(py).call1((context, tracer, session_id))?.cast_into()?;
        }
        let span = context.get_item(&types.span_key)?;
        this.place.enter(slf.as_any(), &context, previous, span)?;
        Ok(context)
    }

    fn __exit__(
        slf: &Bound<'_, Self>,
        _exc_type: &Bound<'_, PyAny>,
        _exc_val: &Bound<'_, PyAny>,
        _exc_tb: &Bound<'_, PyAny>,
    ) -> PyResult<()> {
        Self::_leave(slf)
    }

    fn __aenter__<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
        types::get(slf.py())?.entered.bind(slf.py()).call1((slf,))
    }

    fn __aexit__<'py>(
        slf: &Bound<'py, Self>,
        exc_type: &Bound<'py, PyAny>,
        exc_val: &Bound<'py, PyAny>,
        exc_tb: &Bound<'py, PyAny>,
    ) -> PyResult<Bound<'py, PyAny>> {
        types::get(slf.py())?.left.bind(slf.py()).call1((slf, exc_type, exc_val, exc_tb))
    }

    /// Restores the context from before.
    fn _leave(slf: &Bound<'_, Self>) -> PyResult<()> {
        slf.get().place.leave(slf.as_any())
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.carrier)?;
        self.place.traverse(&visit)
    }

    fn __clear__(&self) {
        self.place.clear();
    }
}

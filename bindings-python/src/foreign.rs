//! An exporter of OpenTelemetry's SDK as a destination: an object of the application's, called from a Python thread with
//! spans that are decoded from the bytes in its queue.
//!
//! Here are the queue and the decoding; the thread is `tracebaton._foreign`'s.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use pyo3::prelude::*;
use pyo3::types::{PyDict, PyList, PyTuple};
use tracebaton::delivery::{Answer, Batch, Config, Delivery, Next, Pushed, Reason, Run, Scope, Stats, Ticket};
use tracebaton::id::TraceFlags;
use tracebaton::otlp::reader::{Attributes, Fields, Malformed, Repeated, SpanView, Wire};
use tracebaton::value::Value;
use tracebaton_export::fork;

use crate::clock::monotonic_ns;
use crate::report;
use crate::span_context;
use crate::value::to_python;

/// The bit of OTLP's flags that says that the context is another process's.
const IS_REMOTE: u32 = 0x200;

/// The queue before an exporter: core's delivery.
///
/// Its lock is taken only by who holds the interpreter's, and never while Python code runs: so a forked child never finds
/// it locked.
#[pyclass(frozen, module = "tracebaton._native")]
pub(crate) struct ForeignQueue {
    config: Config,
    state: Mutex<State>,
}

struct State {
    /// The process that it belongs to: a forked child begins anew, and what was queued is the parent's.
    generation: u32,
    delivery: Delivery,
}

impl State {
    fn new(config: &Config) -> Self {
        Self { generation: fork::generation(), delivery: Delivery::new(config.clone(), &[]) }
    }
}

impl ForeignQueue {
    pub(crate) fn new(config: Config) -> Self {
        Self { state: Mutex::new(State::new(&config)), config }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if state.generation != fork::generation() {
            *state = State::new(&self.config);
        }
        state
    }

    /// Queues an entry of `ScopeSpans.spans`.
    pub(crate) fn push(&self, scope: &Scope, entry: &[u8]) -> Pushed {
        self.state().delivery.push(scope, monotonic_ns, |out| out.extend_from_slice(entry))
    }

    pub(crate) fn count_lost(&self, reason: Reason, spans: u64) {
        self.state().delivery.count_lost(reason, spans);
    }

    pub(crate) fn stats(&self) -> Stats {
        self.state().delivery.stats()
    }
}

/// An exporter's queue, and the object of `tracebaton._foreign` that empties it.
pub(crate) struct Foreign {
    queue: Py<ForeignQueue>,
    worker: Py<PyAny>,
}

impl Foreign {
    /// Gives the worker its queue.
    pub(crate) fn new(worker: &Bound<'_, PyAny>, config: Config, resource: &Bound<'_, PyDict>) -> PyResult<Self> {
        let queue = Py::new(worker.py(), ForeignQueue::new(config))?;
        worker.call_method1("attach", (queue.clone_ref(worker.py()), resource))?;
        Ok(Self { queue, worker: worker.clone().unbind() })
    }

    pub(crate) fn queue(&self) -> &ForeignQueue {
        self.queue.get()
    }

    /// Queues an entry of `ScopeSpans.spans`, and wakes the worker if it has to look.
    pub(crate) fn push(&self, py: Python<'_>, scope: &Scope, entry: &[u8]) -> Pushed {
        let pushed = self.queue().push(scope, entry);
        if matches!(pushed, Pushed::Queued { wake: true })
            && self.worker.call_method0(py, pyo3::intern!(py, "wake")).is_err()
        {
            report::warn("the thread of an exporter could not be woken: its spans wait for a flush");
        }
        pushed
    }

    /// Begins a flush or a shutdown, which has this time; [`finish`](Self::finish) waits for it.
    pub(crate) fn begin(&self, py: Python<'_>, shutdown: bool, time: Duration) -> PyResult<Py<PyAny>> {
        self.worker.call_method1(py, "begin", (shutdown, time.as_secs_f64()))
    }

    /// Waits for a flush that was begun: whether all was delivered within this time.
    pub(crate) fn finish(&self, py: Python<'_>, flush: Py<PyAny>, time: Duration) -> PyResult<bool> {
        self.worker.call_method1(py, "finish", (flush, time.as_secs_f64()))?.extract(py)
    }
}

impl Drop for Foreign {
    fn drop(&mut self) {
        // The last reference may go while an exception is on its way, which is none of the worker's business.
        let _ = Python::try_attach(|py| {
            let raised = PyErr::take(py);
            let _ = self.worker.call_method0(py, "close");
            if let Some(raised) = raised {
                raised.restore(py);
            }
        });
    }
}

#[pymethods]
impl ForeignQueue {
    /// What is to be done: a batch to export, or how many seconds to wait for one; neither, if there is none in sight.
    fn poll(&self) -> (Option<ForeignBatch>, Option<f64>) {
        let now = monotonic_ns();
        let mut state = self.state();
        loop {
            return match state.delivery.poll(now) {
                Next::Send(batch) => {
                    let generation = state.generation;
                    (Some(ForeignBatch { generation, batch: Mutex::new(Some(batch)) }), None)
                }
                Next::GaveUp { .. } => continue,
                Next::Wait(at) => (None, Some(Duration::from_nanos(at.saturating_sub(now)).as_secs_f64())),
                Next::Idle => (None, None),
            };
        }
    }

    /// Takes a batch back that was exported, or that was not, for this reason: such a one is dropped and counted, since
    /// exporters do their own retries.
    fn answered(&self, batch: &ForeignBatch, failure: Option<String>) {
        let taken = batch.batch.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some(taken) = taken.filter(|_| batch.generation == fork::generation()) else { return };
        let answer = match failure {
            None => Answer::Accepted { rejected: 0, message: None },
            Some(why) => Answer::Refused { status: None, why: Some(why.into()) },
        };
        self.state().delivery.answered(taken, answer, monotonic_ns(), 0);
    }

    /// Begins a flush, or a shutdown, of all that is queued by now.
    fn begin(&self, shutdown: bool) -> ForeignFlush {
        let mut state = self.state();
        let ticket = if shutdown { state.delivery.shutdown() } else { state.delivery.flush() };
        ForeignFlush { generation: state.generation, shutdown, ticket: Mutex::new(Some(ticket)) }
    }

    /// Whether all that was queued before the flush has been delivered or dropped.
    fn is_over(&self, flush: &ForeignFlush) -> bool {
        let ticket = flush.ticket.lock().unwrap_or_else(PoisonError::into_inner);
        ticket.as_ref().is_none_or(|ticket| {
            flush.generation != fork::generation() || self.state().delivery.flushed(ticket).is_some()
        })
    }

    /// Ends a flush, over or not: whether all of it was delivered. At the end of a shutdown the rest is dropped.
    fn end(&self, flush: &ForeignFlush) -> bool {
        let ticket = flush.ticket.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some(ticket) = ticket.filter(|_| flush.generation == fork::generation()) else { return false };
        let mut state = self.state();
        if flush.shutdown { state.delivery.shutdown_end(ticket).0 } else { state.delivery.flush_end(ticket) }
    }

    /// Takes no more spans; what is queued gets one attempt.
    fn close(&self) {
        self.state().delivery.close_without_retry();
    }

    /// Whether nothing is queued or on its way.
    fn is_empty(&self) -> bool {
        self.state().delivery.is_empty()
    }

    /// Whether no more spans are taken and none are left.
    fn is_finished(&self) -> bool {
        self.state().delivery.is_finished()
    }
}

/// A flush that is waited for.
#[pyclass(frozen, module = "tracebaton._native")]
pub(crate) struct ForeignFlush {
    generation: u32,
    shutdown: bool,
    ticket: Mutex<Option<Ticket>>,
}

/// Spans that are exported together.
#[pyclass(frozen, module = "tracebaton._native")]
pub(crate) struct ForeignBatch {
    generation: u32,
    batch: Mutex<Option<Batch>>,
}

/// A list of spans of one scope: its name, version, schema and attributes, and the spans.
type Scoped<'py> = (Bound<'py, PyTuple>, Bound<'py, PyList>);

#[pymethods]
impl ForeignBatch {
    /// The spans by their scope, as tuples (see `_native.pyi`). Spans that cannot be decoded, which ours can, are left
    /// out.
    fn runs<'py>(&self, py: Python<'py>) -> PyResult<Vec<Scoped<'py>>> {
        // Making objects runs Python code: nothing is locked meanwhile.
        let batch = self.batch.lock().unwrap_or_else(PoisonError::into_inner).take();
        let runs = batch.iter().flat_map(Batch::runs).map(|run| decoded(py, run)).collect();
        *self.batch.lock().unwrap_or_else(PoisonError::into_inner) = batch;
        runs
    }
}

/// What keeps an object from being made of a span.
enum Failure {
    Python(PyErr),
    Malformed,
}

impl From<PyErr> for Failure {
    fn from(error: PyErr) -> Self {
        Self::Python(error)
    }
}

impl From<Malformed> for Failure {
    fn from(_: Malformed) -> Self {
        Self::Malformed
    }
}

fn decoded<'py>(py: Python<'py>, run: &Run) -> PyResult<Scoped<'py>> {
    let scope = match scope_of(py, run.scope()) {
        Err(Failure::Python(error)) => return Err(error),
        Err(Failure::Malformed) => PyTuple::empty(py),
        Ok(scope) => scope,
    };
    let spans = PyList::empty(py);
    for entry in Repeated::of(run.spans(), 2) {
        match entry.map_err(Failure::from).and_then(|entry| span_of(py, entry)) {
            Ok(span) => spans.append(span)?,
            Err(Failure::Python(error)) => return Err(error),
            Err(Failure::Malformed) => {}
        }
    }
    Ok((scope, spans))
}

fn scope_of<'py>(py: Python<'py>, scope: &Scope) -> Result<Bound<'py, PyTuple>, Failure> {
    let (mut name, mut version) = (&[][..], &[][..]);
    for field in Fields::of(scope.as_bytes()) {
        match field? {
            (1, Wire::Bytes(text)) => name = text,
            (2, Wire::Bytes(text)) => version = text,
            _ => {}
        }
    }
    let attributes = dict(py, Attributes::of(scope.as_bytes(), 3))?;
    let (name, version) = (String::from_utf8_lossy(name), String::from_utf8_lossy(version));
    Ok((name, version, scope.schema_url(), attributes).into_pyobject(py)?)
}

fn span_of<'py>(py: Python<'py>, message: &[u8]) -> Result<Bound<'py, PyTuple>, Failure> {
    let span = SpanView::parse(message)?;
    let (flags, trace_state) = (span.flags, span.trace_state.to_str());
    let trace_id = span.trace_id().map_or(0, |id| u128::from_be_bytes(id.to_bytes()));
    let span_id = span.span_id().map_or(0, |id| u64::from_be_bytes(id.to_bytes()));
    let context = |span_id: u64, is_remote: bool| {
        let flags = TraceFlags::from_bits(flags as u8);
        span_context::of_parts(py, trace_id, span_id, is_remote, flags, &trace_state)
    };
    let parent = span.parent_span_id().map(|id| context(u64::from_be_bytes(id.to_bytes()), flags & IS_REMOTE != 0));
    let events = PyList::empty(py);
    for event in span.events() {
        let event = event?;
        let attributes = dict(py, event.attributes())?;
        events.append((event.name.to_str(), event.time_ns, attributes, event.dropped_attributes))?;
    }
    let links = PyList::empty(py);
    for link in span.links() {
        let link = link?;
        let context = span_context::of_parts(
            py,
            link.trace_id().map_or(0, |id| u128::from_be_bytes(id.to_bytes())),
            link.span_id().map_or(0, |id| u64::from_be_bytes(id.to_bytes())),
            link.flags & IS_REMOTE != 0,
            TraceFlags::from_bits(link.flags as u8),
            &link.trace_state.to_str(),
        )?;
        links.append((context, dict(py, link.attributes())?, link.dropped_attributes))?;
    }
    let status = span.status.unwrap_or_default();
    let fixed = (
        span.name.to_str(),
        context(span_id, false)?,
        parent.transpose()?,
        // OpenTelemetry's API counts from internal, OTLP from unspecified.
        span.kind.saturating_sub(1).clamp(0, 4),
        span.start_ns,
        span.end_ns,
    );
    let contents = (dict(py, span.attributes())?, events, links);
    let dropped = (span.dropped_attributes, span.dropped_events, span.dropped_links);
    Ok((fixed, contents, (status.code.clamp(0, 2), status.message.to_str()), dropped).into_pyobject(py)?)
}

fn dict<'py>(py: Python<'py>, attributes: Attributes<'_>) -> Result<Bound<'py, PyDict>, Failure> {
    let out = PyDict::new(py);
    for attribute in attributes {
        let (key, value) = attribute?;
        out.set_item(key.to_str(), to_python(py, &without_bytes(value.into_value()?))?)?;
    }
    Ok(out)
}

/// The SDK's spans hold no bytes: it makes text of them, and its exporters fail where they meet some.
fn without_bytes(value: Value<'_>) -> Value<'_> {
    match value {
        Value::Bytes(bytes) => Value::from(String::from_utf8_lossy(&bytes).into_owned()),
        Value::Array(values) => Value::Array(values.into_iter().map(without_bytes).collect()),
        Value::Map(entries) => {
            Value::Map(entries.into_iter().map(|(key, value)| (key, without_bytes(value))).collect())
        }
        value => value,
    }
}

//! The native base of the Python class `Span`: fixed fields here, attributes in a Python dict until the span ends, then
//! one pass that encodes it all.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyDict, PyMappingProxy, PyString, PyTuple};
use tracebaton::context::SpanContext;
use tracebaton::id::SpanId;
use tracebaton::span::{Exception, Kind, StatusCode};
use tracebaton::tracer::Routings;
use tracebaton_export::{Started, fork};

use crate::attributes::each_attribute;
use crate::carrier::swallow;
use crate::clock::{Anchor, given_ns};
use crate::core::{Core, Instrumentation};
use crate::parent::Parent;
use crate::remote::restore;
use crate::report;
use crate::scope::Scope;
use crate::sink::Style;
use crate::span_context;
use crate::value::{string, text_of, to_python};
use crate::{ids, types};

mod encode;
pub(crate) mod enrich;
mod put;
pub(crate) mod readable;
mod sampling;

use put::Put;

const NO_LINK: &str = "a link names no span context: it is left out";

/// A span that is being recorded, or that could be: one that is not sampled has its context and nothing else.
#[pyclass(subclass, frozen, module = "tracebaton._native")]
pub(crate) struct SpanBase {
    pub(crate) core: Py<Core>,
    instrumentation: Py<Instrumentation>,
    pub(crate) context: SpanContext,
    context_object: PyOnceLock<Py<PyAny>>,
    parent: Option<SpanId>,
    parent_is_remote: bool,
    /// The span that was current when this one began, whoever made it: spans of other tracers look through this one.
    pub(crate) outer: Option<Py<PyAny>>,
    kind: Kind,
    start_ns: u64,
    pub(crate) anchor: Anchor,
    /// The process in which it began.
    generation: u32,
    recording: AtomicBool,
    attributes: Py<PyDict>,
    /// Where it is in session and baggage.
    pub(crate) scope: Option<Py<Scope>>,
    pub(crate) routings: Arc<Routings>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// Who encodes the span holds on to it while the state is not locked.
    name: Arc<str>,
    status: StatusCode,
    description: String,
    events: Vec<Event>,
    links: Vec<Link>,
    dropped_attributes: u32,
    dropped_events: u32,
    dropped_links: u32,
    end_ns: Option<u64>,
    started: Starts,
}

/// The beginning of a span in the spools.
#[derive(Default)]
enum Starts {
    /// It is in none.
    #[default]
    Nowhere,
    /// Of a tracer with one sink.
    One(Started),
    /// By the number of the sink.
    Several(Vec<Option<Started>>),
}

struct Event {
    name: String,
    time_ns: u64,
    attributes: Option<Py<PyDict>>,
    dropped: u32,
}

struct Link {
    context: Py<PyAny>,
    trace_id: [u8; 16],
    span_id: [u8; 8],
    flags: tracebaton::id::TraceFlags,
    is_remote: bool,
    trace_state: String,
    attributes: Option<Py<PyDict>>,
    dropped: u32,
}

#[pymethods]
impl SpanBase {
    #[new]
    #[pyo3(signature = (instrumentation, name, from, kind, attributes, links, start_time, records_start=true, /))]
    #[allow(clippy::too_many_arguments, reason = "one call starts a span: it is the hot path")]
    fn new(
        py: Python<'_>,
        instrumentation: &Bound<'_, Instrumentation>,
        name: &Bound<'_, PyAny>,
        from: &Bound<'_, PyDict>,
        kind: u8,
        attributes: &Bound<'_, PyAny>,
        links: &Bound<'_, PyAny>,
        start_time: &Bound<'_, PyAny>,
        records_start: bool,
    ) -> PyResult<Self> {
        let instrument = instrumentation.get();
        let core = instrument.core.get();
        let types = types::get(py)?;
        let outer = from.get_item(types.span_key.bind(py))?;
        let mut parent = match &outer {
            Some(outer) => Parent::of(outer, core.tracer.id())?,
            None => Parent::None,
        };
        let scope = match from.get_item(types.scope_key.bind(py))? {
            Some(scope) => scope.cast_into::<Scope>().ok().map(Bound::unbind),
            // A context made by hand from a span alone: what the span knows holds.
            None => parent.scope(py),
        };
        if let (Parent::Other(caller), Some(scope)) = (&mut parent, &scope) {
            restore(caller, scope.bind(py));
        }
        let trace_id = parent.trace_id().unwrap_or_else(ids::trace_id);
        let decision = match core.foreign_sampler(py) {
            Some(sampler) => {
                let question = sampling::Question { context: from, trace_id, name, kind, attributes, links };
                sampling::ask(sampler.bind(py), &question)?
            }
            None => None,
        };
        let (flags, recorded) = match &decision {
            Some(decision) => (core.flags_of(&parent, decision.samples), decision.records),
            None => core.sample(trace_id, &parent),
        };
        let (more, trace_state) = decision.map_or((None, None), |it| (it.attributes, it.trace_state));
        let context = SpanContext {
            trace_id,
            span_id: ids::span_id(),
            flags,
            trace_state: trace_state.unwrap_or_else(|| parent.trace_state()),
            is_remote: false,
        };
        let routings = match &scope {
            Some(scope) => scope.get().routings(core),
            None => core.own_routings(),
        };
        let anchor = parent.anchor().unwrap_or_else(Anchor::now);
        let context_object = PyOnceLock::new();
        let context = match parent.context() {
            _ if core.enabled() => context,
            // As the no-op tracer of OpenTelemetry's API: the parent's context goes on, or there is none.
            Some(parent) => parent.clone(),
            None => {
                let _ = context_object.set(py, types.invalid_context.clone_ref(py));
                context
            }
        };
        let mut span = Self {
            core: instrument.core.clone_ref(py),
            instrumentation: instrumentation.clone().unbind(),
            parent: parent.span_id().filter(|_| core.enabled()),
            parent_is_remote: parent.is_remote(),
            outer: outer.map(Bound::unbind),
            kind: Kind::from_api(kind),
            start_ns: given_ns(Some(start_time)).unwrap_or_else(|| anchor.time_ns()),
            anchor,
            generation: fork::generation(),
            recording: AtomicBool::new(recorded),
            attributes: PyDict::new(py).unbind(),
            state: Mutex::new(State { name: shared_name_of(name), ..State::default() }),
            context_object,
            context,
            scope,
            routings,
        };
        if recorded {
            core.use_session(span.scope.as_ref().map(|scope| scope.get()), &span.routings);
            span.take_baggage(py, from)?;
            if !attributes.is_none() {
                span.set_attributes(py, attributes)?;
            }
            if let Some(more) = &more {
                span.set_attributes(py, more.bind(py))?;
            }
            if !links.is_none() {
                for link in links.try_iter()? {
                    let link = link?;
                    let parts = link.getattr("context").and_then(|it| Ok((it, link.getattr("attributes")?)));
                    match swallow(py, parts)? {
                        Some((context, attributes)) => span.add_link(py, &context, Some(&attributes))?,
                        None => report::warn(NO_LINK),
                    }
                }
            }
            if span.parent.is_none()
                && let Some(link) = span.scope.as_ref().and_then(|scope| scope.get().link(core).cloned())
            {
                span.add_link(py, span_context::to_python(py, &link)?.bind(py), None)?;
            }
            if records_start && core.records_starts {
                let started = span.begin(py);
                span.state.get_mut().unwrap_or_else(PoisonError::into_inner).started = started;
            }
        } else {
            core.count_unsampled(py);
        }
        Ok(span)
    }

    /// Whether attributes and events are still taken.
    pub(crate) fn is_recording(&self) -> bool {
        self.recording.load(Ordering::Relaxed)
    }

    /// The span's context, as OpenTelemetry's API has it.
    fn get_span_context(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        span_context::cached(py, &self.context_object, &self.context)
    }

    #[getter]
    fn context(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        self.get_span_context(py)
    }

    /// Sets an attribute. `None` is not kept; a key that is no text is counted as dropped.
    fn set_attribute(&self, py: Python<'_>, key: &Bound<'_, PyAny>, value: &Bound<'_, PyAny>) -> PyResult<()> {
        self._set(py, key, value).map(|_| ())
    }

    /// Sets an attribute; whether it is there now.
    fn _set(&self, py: Python<'_>, key: &Bound<'_, PyAny>, value: &Bound<'_, PyAny>) -> PyResult<bool> {
        if !self.is_recording() {
            return Ok(false);
        }
        let put =
            self.put(self.attributes.bind(py), self.core.get().tracer.settings().limits.attributes, key, value)?;
        if put == Put::Dropped {
            self.state().dropped_attributes += 1;
        }
        Ok(put == Put::There)
    }

    /// Sets several attributes, given as a mapping.
    fn set_attributes(&self, py: Python<'_>, attributes: &Bound<'_, PyAny>) -> PyResult<()> {
        each_attribute(attributes, |key, value| self.set_attribute(py, key, value))
    }

    /// Adds an event. The time is in nanoseconds since 1970; now unless given.
    #[pyo3(signature = (name, attributes=None, timestamp=None))]
    fn add_event(
        &self,
        py: Python<'_>,
        name: &Bound<'_, PyAny>,
        attributes: Option<&Bound<'_, PyAny>>,
        timestamp: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<()> {
        if !self.is_recording() {
            return Ok(());
        }
        let limits = &self.core.get().tracer.settings().limits;
        let (attributes, dropped) = self.collection(py, attributes, limits.attributes_per_event)?;
        let time_ns = given_ns(timestamp).unwrap_or_else(|| self.anchor.time_ns());
        let mut state = self.state();
        if state.events.len() < limits.events {
            state.events.push(Event { name: name_of(name), time_ns, attributes, dropped });
        } else {
            state.dropped_events += 1;
        }
        Ok(())
    }

    /// Adds an event that describes an exception; attributes that are given come before what it says itself.
    #[allow(clippy::too_many_arguments, reason = "as many as an exception has parts")]
    fn _add_exception(
        &self,
        py: Python<'_>,
        kind: &Bound<'_, PyString>,
        message: &Bound<'_, PyString>,
        stacktrace: &Bound<'_, PyString>,
        escaped: bool,
        attributes: Option<&Bound<'_, PyAny>>,
        timestamp: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<()> {
        let described = PyDict::new(py);
        let (kind, message, stacktrace) = (string(kind), string(message), string(stacktrace));
        for (key, value) in (Exception { kind: &kind, message: &message, stacktrace: &stacktrace }).attributes() {
            described.set_item(key, to_python(py, &value)?)?;
        }
        // As in OpenTelemetry's own SDK, a text.
        described.set_item("exception.escaped", if escaped { "True" } else { "False" })?;
        if let Some(attributes) = attributes {
            each_attribute(attributes, |key, value| described.set_item(key, value))?;
        }
        self.add_event(py, PyString::new(py, Exception::EVENT).as_any(), Some(described.as_any()), timestamp)
    }

    /// Adds a link to another span. One that names no span and says nothing else is left out.
    #[pyo3(signature = (context, attributes=None))]
    fn add_link(
        &self,
        py: Python<'_>,
        context: &Bound<'_, PyAny>,
        attributes: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<()> {
        if !self.is_recording() {
            return Ok(());
        }
        let limits = &self.core.get().tracer.settings().limits;
        let (attributes, dropped) = self.collection(py, attributes, limits.attributes_per_link)?;
        let Some(parts) = swallow(py, span_context::Parts::of(context))? else {
            report::warn(NO_LINK);
            return Ok(());
        };
        if !parts.is_valid() && attributes.is_none() && parts.trace_state.is_empty() {
            return Ok(());
        }
        let link = Link {
            context: context.clone().unbind(),
            trace_id: parts.trace_id,
            span_id: parts.span_id,
            flags: parts.flags,
            is_remote: parts.is_remote,
            trace_state: parts.trace_state,
            attributes,
            dropped,
        };
        let mut state = self.state();
        if state.links.len() < limits.links {
            state.links.push(link);
        } else {
            state.dropped_links += 1;
        }
        Ok(())
    }

    /// Renames the span.
    fn update_name(&self, name: &Bound<'_, PyAny>) {
        if self.is_recording() {
            let name = shared_name_of(name);
            self.state().name = name;
        }
    }

    /// Sets the status by its number; `Ok` is final and unset is ignored, as the specification has it.
    fn _set_status(&self, code: u8, description: Option<&Bound<'_, PyAny>>) {
        let code = StatusCode::from_number(code);
        let description = description.filter(|it| !it.is_none() && code == StatusCode::Error).map(text_of);
        if !self.is_recording() {
            return;
        }
        let mut state = self.state();
        if state.status.gives_way_to(code) {
            state.status = code;
            state.description = description.unwrap_or_default();
        }
    }

    /// The status: its number, and the description or `None`.
    fn _status_parts(&self) -> (u8, Option<String>) {
        let state = self.state();
        (state.status as u8, Some(state.description.clone()).filter(|text| !text.is_empty()))
    }

    /// Ends the span and hands it to its exporters. A second call changes nothing, nor does one in another process than
    /// the span began in.
    #[pyo3(signature = (end_time=None))]
    pub(crate) fn end(slf: &Bound<'_, Self>, end_time: Option<&Bound<'_, PyAny>>) -> PyResult<()> {
        Self::finish(slf, given_ns(end_time), |_| true)
    }

    /// Ends the span when it began, for all exporters but HoneyHive's; whether it was recorded. This is what is merged
    /// into a session where there is no request for that.
    fn _end_elsewhere(slf: &Bound<'_, Self>) -> PyResult<bool> {
        let recorded = slf.get().is_recording();
        Self::finish(slf, Some(slf.get().start_ns), |style| style != Style::HoneyHive)?;
        Ok(recorded)
    }
    #[getter]
    fn name(&self) -> String {
        self.state().name.to_string()
    }

    /// The number of the kind, as OpenTelemetry's API counts.
    #[getter]
    fn _kind_number(&self) -> u8 {
        (self.kind as u8).saturating_sub(1)
    }

    /// Nanoseconds since 1970.
    #[getter]
    fn start_time(&self) -> u64 {
        self.start_ns
    }

    /// Nanoseconds since 1970; `None` while the span goes on.
    #[getter]
    fn end_time(&self) -> Option<u64> {
        self.state().end_ns
    }

    /// The attributes as they are kept: processors and instrumentors change them.
    #[getter]
    fn _attribute_dict(&self, py: Python<'_>) -> Py<PyDict> {
        self.attributes.clone_ref(py)
    }

    /// A copy of the attributes with those that the encoder adds: routing and event type.
    fn _all_attributes(&self, py: Python<'_>) -> PyResult<Py<PyDict>> {
        let all = self.attributes.bind(py).copy()?;
        for (key, value) in self.routings.of(Style::Raw).iter() {
            if !all.contains(key.as_str())? {
                all.set_item(key.as_str(), to_python(py, value)?)?;
            }
        }
        Ok(all.unbind())
    }

    /// The events.
    #[getter]
    fn events<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyTuple>> {
        let event = types::get(py)?.event.bind(py);
        let state = self.state();
        let events: Vec<_> = state
            .events
            .iter()
            .map(|it| (it.name.clone(), read_only(py, it.attributes.as_ref()), it.time_ns, it.dropped))
            .collect();
        // The constructor is Python code: it may look at this span.
        drop(state);
        PyTuple::new(py, events.into_iter().map(|parts| event.call1(parts)).collect::<PyResult<Vec<_>>>()?)
    }

    /// The links.
    #[getter]
    fn links<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyTuple>> {
        let link = types::get(py)?.link.bind(py);
        let state = self.state();
        let links: Vec<_> =
            state.links.iter().map(|it| (it.context.clone_ref(py), read_only(py, it.attributes.as_ref()))).collect();
        drop(state);
        PyTuple::new(py, links.into_iter().map(|parts| link.call1(parts)).collect::<PyResult<Vec<_>>>()?)
    }

    #[getter]
    fn dropped_attributes(&self) -> u32 {
        self.state().dropped_attributes
    }

    #[getter]
    fn dropped_events(&self) -> u32 {
        self.state().dropped_events
    }

    #[getter]
    fn dropped_links(&self) -> u32 {
        self.state().dropped_links
    }

    /// The span that was current when this one began.
    #[getter]
    fn _outer(&self, py: Python<'_>) -> Option<Py<PyAny>> {
        self.outer.as_ref().map(|outer| outer.clone_ref(py))
    }

    /// The parent's context; `None` for a root.
    #[getter]
    fn parent(&self, py: Python<'_>) -> PyResult<Option<Py<PyAny>>> {
        let Some(span_id) = self.parent else { return Ok(None) };
        let parent = SpanContext { span_id, is_remote: self.parent_is_remote, ..self.context.clone() };
        span_context::to_python(py, &parent).map(Some)
    }

    #[getter]
    fn _core(&self, py: Python<'_>) -> Py<Core> {
        self.core.clone_ref(py)
    }

    #[getter]
    fn _scope(&self, py: Python<'_>) -> Option<Py<Scope>> {
        self.scope.as_ref().map(|scope| scope.clone_ref(py))
    }

    #[getter]
    fn _instrumentation(&self, py: Python<'_>) -> Py<Instrumentation> {
        self.instrumentation.clone_ref(py)
    }

    /// Records in the spools that the span has begun, with what is known by now, for one that was made without.
    fn _record_start(&self, py: Python<'_>) {
        self.record_start(py);
    }

    /// Puts a captured value under a key: `key.path` for nested ones, secrets replaced. Whether anything was put.
    pub(crate) fn _enrich(&self, key: &Bound<'_, PyString>, value: &Bound<'_, PyAny>) -> PyResult<bool> {
        enrich::put_value(self, key, value)
    }
}

impl SpanBase {
    /// Ends the span, unless it has ended, and hands it to the exporters of these styles.
    #[inline]
    fn finish(slf: &Bound<'_, Self>, end_time: Option<u64>, to: impl Fn(Style) -> bool) -> PyResult<()> {
        let span = slf.get();
        if !span.stop(end_time) {
            return Ok(());
        }
        let core = span.core.get();
        let here = span.generation == fork::generation();
        // What a processor raises is reported where it is called; Ctrl-C goes on, but costs no span.
        let mut told = Ok(());
        if here && core.has_processor() && span.is_recording() {
            told = core.on_ending(slf.as_any());
        }
        if !span.recording.swap(false, Ordering::Relaxed) {
            return Ok(());
        }
        if !here {
            core.count_forked();
            return Ok(());
        }
        if core.has_processor() {
            told = told.and(core.on_end(slf.as_any()));
        }
        // Recorded but not sampled: for processors only, where a sampler of the SDK's says so.
        if span.context.flags.is_sampled() {
            let admitted = core.admits(|| span.state().name.clone());
            span.deliver(slf.py(), |style| admitted && to(style));
        }
        told
    }

    /// Sets the time of the end; whether this call is the one that ends the span: the first one is. `end_time` is in
    /// nanoseconds since 1970.
    fn stop(&self, end_time: Option<u64>) -> bool {
        let mut state = self.state();
        if state.end_ns.is_some() {
            return false;
        }
        // Both are on the anchor's clock; times that the application gave are its own.
        state.end_ns = Some(end_time.unwrap_or_else(|| self.anchor.time_ns()).max(self.start_ns));
        true
    }

    pub(crate) fn record_start(&self, py: Python<'_>) {
        if self.core.get().records_starts && self.is_recording() && matches!(self.state().started, Starts::Nowhere) {
            let started = self.begin(py);
            self.state().started = started;
        }
    }

    /// Whether its tracer is disabled: it is no span, but stands for its parent.
    pub(crate) fn is_no_op(&self) -> bool {
        !self.core.get().enabled()
    }

    /// A poisoned state is still a state: nothing that is done to it can be half done.
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sets the attributes that the policy makes of baggage.
    fn take_baggage(&self, py: Python<'_>, from: &Bound<'_, PyDict>) -> PyResult<()> {
        let keys = &self.core.get().tracer.policy().baggage_attributes;
        if keys.is_empty() {
            return Ok(());
        }
        let Some(baggage) = from.get_item(&types::get(py)?.baggage_key)? else { return Ok(()) };
        let Ok(baggage) = baggage.cast_into::<PyDict>() else { return Ok(()) };
        for key in keys {
            if let Some(value) = baggage.get_item(key)? {
                self.set_attribute(py, &PyString::new(py, key), &value)?;
            }
        }
        Ok(())
    }
}

/// Attributes for those who read them.
fn read_only<'py>(py: Python<'py>, attributes: Option<&Py<PyDict>>) -> Option<Bound<'py, PyMappingProxy>> {
    attributes.map(|it| PyMappingProxy::new(py, it.bind(py).as_mapping()))
}

/// A name is text; anything else is taken as text.
fn name_of(name: &Bound<'_, PyAny>) -> String {
    text_of(name)
}

/// The same for the name of a span.
fn shared_name_of(name: &Bound<'_, PyAny>) -> Arc<str> {
    match name.cast::<PyString>() {
        Ok(name) => Arc::from(&*string(name)),
        Err(_) => Arc::from(name_of(name)),
    }
}

//! What one tracer is: its settings, its session, its exporters.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyDict, PyString};
use tracebaton::SessionScope;
use tracebaton::delivery;
use tracebaton::id::{TraceFlags, TraceId};
use tracebaton::name_filter::NameFilters;
use tracebaton::policy::InboundMode;
use tracebaton::redact::Redaction;
use tracebaton::registration::Start;
use tracebaton::rule::{RuleCounts, RuleSet};
use tracebaton::sampler::flags_of_new_span;
use tracebaton::scope::TracerId;
use tracebaton::settings::{self, Settings};
use tracebaton::span::instrumentation_scope;
use tracebaton::tracer::{Parts, Routings, Tracer, UNSAMPLED_WARNING, delivery_config};
use tracebaton_export::{self as export, Exporter, Sessions, spool::Spool};

use crate::arguments::Given;
use crate::foreign::Foreign;
use crate::ids;
use crate::parent::Parent;
use crate::policy::Policy;
use crate::report;
use crate::scope::Scope;
use crate::sdk::Outlet;
use crate::sink::{self, Sink, Style};
use crate::stats;
use crate::value::{attribute, captured, string};
use crate::wait::{self, Wait};

/// A tracer's native side.
#[pyclass(frozen, module = "tracebaton._native")]
pub(crate) struct Core {
    /// What it is, exporters aside.
    pub(crate) tracer: Tracer,
    pub(crate) sinks: Vec<Sink>,
    /// Whether spans are recorded when they begin, too.
    pub(crate) records_starts: bool,
    spool: Option<Spool>,
    pub(crate) sessions: Option<Sessions>,
    /// What was to be sent and was left out.
    pub(crate) outbound_dropped: RuleCounts,
    processor: PyOnceLock<Py<PyAny>>,
    has_processor: AtomicBool,
    foreign_sampler: PyOnceLock<Py<PyAny>>,
    owner: PyOnceLock<Py<PyAny>>,
    name_filters: OnceLock<NameFilters>,
    /// Queues for spans of OpenTelemetry's SDK. Locked for moments only, with the interpreter's lock held.
    outlets: Mutex<Vec<Arc<Outlet>>>,
}

static NEXT_ID: AtomicU64 = AtomicU64::new(1);

#[pymethods]
impl Core {
    #[new]
    #[pyo3(signature = (
        arguments, environment, *, policy, redact, register=true, inputs=None, foreign=None, spool_dir=None,
        spool_bytes=None
    ))]
    #[allow(clippy::too_many_arguments, reason = "they are keywords")]
    fn new(
        arguments: &Bound<'_, PyDict>,
        environment: &Bound<'_, PyDict>,
        policy: &Policy,
        redact: bool,
        register: bool,
        inputs: Option<&Bound<'_, PyAny>>,
        foreign: Option<Vec<Bound<'_, PyAny>>>,
        spool_dir: Option<PathBuf>,
        spool_bytes: Option<u64>,
    ) -> PyResult<Self> {
        let given = Given::of(arguments)?;
        let look_up = |name: &str| -> Option<String> {
            let value = environment.get_item(name).ok()??;
            value.cast::<PyString>().ok().map(|text| string(text).into_owned())
        };
        let settings = settings::resolve(&given.arguments(&given.exporter(), &given.headers()), &look_up)
            .map_err(|error| PyValueError::new_err(error.to_string()))?;
        let spool = sink::spool(spool_dir, spool_bytes, look_up)?;
        let common = sink::common(&settings, &settings.resource.encoded, spool.as_ref());
        let mut sinks: Vec<_> = sink::own_sinks(&common)?.into_iter().map(Sink::Own).collect();
        for worker in foreign.iter().flatten() {
            let resource = resource_dict(worker.py(), &settings)?;
            sinks.push(Sink::Foreign(Foreign::new(worker, delivery_config(&settings, Style::Raw), &resource)?));
        }
        let sessions = Sessions::of(&common).map_err(sink::invalid)?;
        for warning in &settings.warnings {
            report::warn(warning);
        }
        let parts = Parts {
            policy: policy.inner.clone(),
            redaction: if redact { Redaction::Default } else { Redaction::Off },
            session: ids::uuid4(),
            registers: register,
            inputs: inputs.map(captured),
            // They are set later.
            name_filters: None,
        };
        Ok(Self {
            records_starts: sinks.iter().any(Sink::records_starts),
            tracer: Tracer::new(TracerId(NEXT_ID.fetch_add(1, Ordering::Relaxed)), settings, parts),
            spool,
            sinks,
            sessions,
            outbound_dropped: RuleCounts::new(),
            processor: PyOnceLock::new(),
            has_processor: AtomicBool::new(false),
            foreign_sampler: PyOnceLock::new(),
            owner: PyOnceLock::new(),
            name_filters: OnceLock::new(),
            outlets: Mutex::default(),
        })
    }

    /// Whether spans are recorded when they begin, too.
    #[getter(records_starts)]
    fn get_records_starts(&self) -> bool {
        self.records_starts
    }

    /// Whether the tracer does anything.
    #[getter]
    pub(crate) fn enabled(&self) -> bool {
        self.tracer.settings().enabled
    }

    /// Whether spans go anywhere else than to HoneyHive.
    #[getter]
    fn elsewhere(&self) -> bool {
        self.sinks.iter().any(|sink| sink.style() != Style::HoneyHive)
    }

    /// Whether spans go to an exporter of OpenTelemetry's SDK.
    #[getter]
    fn foreign(&self) -> bool {
        self.sinks.iter().any(|sink| sink.foreign().is_some())
    }

    #[getter]
    fn session_id(&self) -> &str {
        self.tracer.session()
    }

    #[getter]
    fn session_name(&self) -> Option<&str> {
        self.tracer.settings().session_name.as_deref()
    }

    #[getter]
    fn project(&self) -> Option<&str> {
        self.tracer.settings().project.as_deref()
    }

    #[getter]
    fn source(&self) -> &str {
        &self.tracer.settings().source
    }

    #[getter]
    fn verbose(&self) -> bool {
        self.tracer.settings().verbose
    }

    #[getter]
    fn test_mode(&self) -> bool {
        self.tracer.settings().test_mode
    }

    /// What decides which traces are recorded, in words.
    #[getter]
    fn sampler(&self) -> String {
        format!("{:?}", self.tracer.settings().sampler)
    }

    /// The policy, if it does not go on with callers' traces. A propagator follows it.
    #[getter]
    fn inbound_policy(&self) -> Option<Policy> {
        let policy = self.tracer.policy();
        (policy.inbound != InboundMode::Continue).then(|| Policy { inner: policy.clone() })
    }

    /// The sampler of OpenTelemetry's SDK that was set.
    #[getter(foreign_sampler)]
    fn get_foreign_sampler(&self, py: Python<'_>) -> Option<Py<PyAny>> {
        self.foreign_sampler.get(py).map(|sampler| sampler.clone_ref(py))
    }

    /// Has a sampler of OpenTelemetry's SDK decide of every new span.
    fn set_sampler(&self, py: Python<'_>, sampler: Py<PyAny>) {
        let _ = self.foreign_sampler.set(py, sampler);
    }

    /// The attributes of the resource.
    #[getter]
    fn resource<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        resource_dict(py, self.tracer.settings())
    }

    /// The handle with which a library's spans are made.
    fn instrumentation(
        slf: &Bound<'_, Self>,
        name: &str,
        version: Option<&str>,
        schema_url: Option<&str>,
        attributes: Option<&Bound<'_, PyDict>>,
    ) -> PyResult<Instrumentation> {
        let pairs: Vec<_> = attributes.into_iter().flat_map(|it| it.iter()).collect();
        let pairs = pairs
            .iter()
            .filter_map(|(key, value)| Some((key.cast::<PyString>().ok()?.to_str().ok()?, attribute(value))));
        Ok(Instrumentation {
            core: slf.clone().unbind(),
            scope: delivery::Scope::new(&instrumentation_scope(name, version.unwrap_or_default(), pairs))
                .with_schema_url(schema_url.unwrap_or_default()),
            name: name.to_owned(),
            version: version.map(str::to_owned),
            schema_url: schema_url.map(str::to_owned),
            attributes: attributes.map(|it| it.copy().map(Bound::unbind)).transpose()?,
        })
    }

    /// Has this object's `on_start` and `on_end` called for every span.
    fn set_processor(&self, py: Python<'_>, processor: Py<PyAny>) {
        let _ = self.processor.set(py, processor);
        self.has_processor.store(true, Ordering::Release);
    }

    /// A weak reference to the tracer that this belongs to.
    #[getter]
    fn owner(&self, py: Python<'_>) -> Option<Py<PyAny>> {
        self.owner.get(py).map(|owner| owner.clone_ref(py))
    }

    /// Exports only spans whose names have one of the prefixes in `include`, if there is any, and none in `exclude`.
    fn set_name_filters(&self, include: Vec<String>, exclude: Vec<String>) {
        let _ = self.name_filters.set(NameFilters::new(include, exclude));
    }

    fn set_owner(&self, py: Python<'_>, owner: Py<PyAny>) {
        let _ = self.owner.set(py, owner);
    }

    /// Delivers what has ended: True only if all of it was delivered within the time.
    fn flush(&self, py: Python<'_>, timeout_millis: u64) -> PyResult<bool> {
        self.wait(py, timeout_millis, Wait::Flush)
    }

    /// Delivers what has ended, and takes no more.
    fn shutdown(&self, py: Python<'_>, timeout_millis: u64) -> PyResult<bool> {
        self.wait(py, timeout_millis, Wait::Shutdown)
    }

    /// The spans that an exporter `memory` holds, each as OTLP/JSON.
    fn memory(&self) -> Vec<Vec<u8>> {
        self.sinks.iter().filter_map(Sink::own).flat_map(export::Sink::memory).collect()
    }

    /// What became of the spans so far: a dict.
    fn stats<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        stats::dict(self, py)
    }
}

impl Core {
    pub(crate) fn own_routings(&self) -> Arc<Routings> {
        Arc::clone(self.tracer.own_routings())
    }

    /// The session that holds where no other does.
    pub(crate) fn own_session(&self) -> &str {
        self.tracer.session()
    }

    pub(crate) fn own_project(&self) -> Option<&str> {
        self.tracer.settings().project.as_deref()
    }

    pub(crate) fn own_source(&self) -> &str {
        &self.tracer.settings().source
    }

    /// Registers the session that holds in a scope with HoneyHive, if that is to be done and was not yet (REG1).
    #[inline]
    pub(crate) fn use_session(&self, scope: Option<&Scope>, routings: &Routings) {
        if routings.is_to_be_registered() {
            self.register(scope, Start::default());
        }
    }

    /// Registers the session that holds in a scope with HoneyHive, with what `start` says of it. Whether it was not yet.
    #[cold]
    pub(crate) fn register(&self, scope: Option<&Scope>, start: Start<'_>) -> bool {
        let Some(sessions) = &self.sessions else { return false };
        let scope = scope.map_or(&SessionScope::EMPTY, Scope::inner);
        sessions.register(&self.tracer.start_of(scope, start), self.tracer.flatten())
    }

    /// The flags of a new span's context, and whether it is recorded.
    pub(crate) fn sample(&self, trace_id: TraceId, parent: &Parent<'_>) -> (TraceFlags, bool) {
        self.tracer.sample(trace_id, parent.context().map(|it| (it.flags, it.is_remote)))
    }

    /// The flags of a new span's context.
    pub(crate) fn flags_of(&self, parent: &Parent<'_>, sampled: bool) -> TraceFlags {
        flags_of_new_span(parent.context().map(|it| it.flags), self.tracer.settings().random_flag, sampled)
    }

    /// The sampler of OpenTelemetry's SDK that decides, if one does.
    pub(crate) fn foreign_sampler(&self, py: Python<'_>) -> Option<&Py<PyAny>> {
        self.foreign_sampler.get(py).filter(|_| self.tracer.settings().enabled)
    }

    /// Whether a span of this name is exported. The name is asked for only if that matters.
    #[inline]
    pub(crate) fn admits<N: AsRef<str>>(&self, name: impl FnOnce() -> N) -> bool {
        self.name_filters.get().is_none_or(|filters| filters.admits(name().as_ref()))
    }

    pub(crate) fn count_unsampled(&self, py: Python<'_>) {
        if self.tracer.count_unsampled(1) && self.foreign_sampler.get(py).is_none() {
            report::warn(UNSAMPLED_WARNING);
        }
    }

    pub(crate) fn count_inbound(&self, dropped: RuleSet) {
        self.tracer.count_inbound(dropped);
    }

    pub(crate) fn count_outbound(&self, dropped: RuleSet) {
        self.outbound_dropped.count(dropped);
    }

    pub(crate) fn has_processor(&self) -> bool {
        self.has_processor.load(Ordering::Acquire)
    }

    /// Tells the processors of a span that has its end's time, but still takes attributes.
    pub(crate) fn on_ending(&self, span: &Bound<'_, PyAny>) -> PyResult<()> {
        self.tell(pyo3::intern!(span.py(), "_on_ending"), span)
    }

    /// Tells the processors of a span that has ended.
    pub(crate) fn on_end(&self, span: &Bound<'_, PyAny>) -> PyResult<()> {
        self.tell(pyo3::intern!(span.py(), "on_end"), span)
    }

    fn tell(&self, what: &Bound<'_, PyString>, span: &Bound<'_, PyAny>) -> PyResult<()> {
        match self.processor.get(span.py()) {
            Some(processor) => processor.bind(span.py()).call_method1(what, (span,)).map(|_| ()),
            None => Ok(()),
        }
    }

    fn wait(&self, py: Python<'_>, millis: u64, what: Wait) -> PyResult<bool> {
        wait::for_cores(what, py, &[self], Duration::from_millis(millis))
    }

    pub(crate) fn outlets(&self) -> Vec<Arc<Outlet>> {
        self.outlets.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(crate) fn add_outlet(&self, outlet: Arc<Outlet>) {
        self.outlets.lock().unwrap_or_else(PoisonError::into_inner).push(outlet);
    }

    /// Exporters like those of the sinks, for spans of another resource.
    pub(crate) fn exporters_for(&self, resource: &[u8]) -> PyResult<Vec<Exporter>> {
        let common = sink::common(self.tracer.settings(), resource, self.spool.as_ref());
        Ok(sink::own_sinks(&common)?.iter().filter_map(|sink| sink.exporter().cloned()).collect())
    }

    /// Counts a span that ended in another process than it began in.
    pub(crate) fn count_forked(&self) {
        self.sinks.iter().for_each(|sink| sink.count_lost(delivery::Reason::Forked, 1));
    }
}

/// The attributes of the resource, as a dict.
fn resource_dict<'py>(py: Python<'py>, settings: &Settings) -> PyResult<Bound<'py, PyDict>> {
    let out = PyDict::new(py);
    for (key, value) in &settings.resource.attributes {
        out.set_item(key, value)?;
    }
    Ok(out)
}

/// A library that makes spans, and the tracer that they are made for.
#[pyclass(frozen, module = "tracebaton._native")]
pub(crate) struct Instrumentation {
    pub(crate) core: Py<Core>,
    pub(crate) scope: delivery::Scope,
    #[pyo3(get)]
    name: String,
    #[pyo3(get)]
    version: Option<String>,
    #[pyo3(get)]
    schema_url: Option<String>,
    #[pyo3(get)]
    attributes: Option<Py<PyDict>>,
}

#[pymethods]
impl Instrumentation {
    /// What is called at the start and end of spans, if anything is.
    #[getter]
    pub(crate) fn processor(&self, py: Python<'_>) -> Option<Py<PyAny>> {
        let core = self.core.get();
        if core.has_processor() { core.processor.get(py).map(|it| it.clone_ref(py)) } else { None }
    }

    #[getter]
    fn core(&self, py: Python<'_>) -> Py<Core> {
        self.core.clone_ref(py)
    }
}

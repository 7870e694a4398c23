//! What one tracer is: its settings, its session, its exporters.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyDict, PyString};
use tracebaton::delivery;
use tracebaton::flatten;
use tracebaton::id::{TraceFlags, TraceId};
use tracebaton::limits::Limits;
use tracebaton::name_filter::NameFilters;
use tracebaton::policy::InboundMode;
use tracebaton::redact::Redaction;
use tracebaton::registration::Start;
use tracebaton::routing::{Routing, RoutingValues};
use tracebaton::rule::RuleSet;
use tracebaton::sampler::{Sampler, flags_of_new_span};
use tracebaton::scope::TracerId;
use tracebaton::session::honeyhive_session_id;
use tracebaton::settings::{self, Settings};
use tracebaton::span::instrumentation_scope;
use tracebaton::value::Value;
use tracebaton_export::{Exporter, Sessions, spool::Spool};

use crate::arguments::Given;
use crate::foreign::Foreign;
use crate::ids;
use crate::parent::Parent;
use crate::policy::Policy;
use crate::report;
use crate::scope::Scope;
use crate::sdk::Outlet;
use crate::session;
use crate::sink::{self, Sink, Style, delivery_config};
use crate::stats;
use crate::value::{attribute, captured, string};
use crate::wait::{self, Wait};

/// The routing attributes of a session, for each kind of destination.
pub(crate) struct Routings {
    raw: Routing,
    /// None unless a destination wants it and it differs.
    honeyhive: Option<Routing>,
    /// Whether the session is still to be registered (REG1), which no caller's is.
    unregistered: AtomicBool,
}

impl Routings {
    /// Whether the session is to be registered now: the first time that it is asked, if at all.
    pub(crate) fn is_to_be_registered(&self) -> bool {
        self.unregistered.load(Ordering::Relaxed) && self.unregistered.swap(false, Ordering::Relaxed)
    }

    pub(crate) fn of(&self, style: Style) -> &Routing {
        match (style, &self.honeyhive) {
            (Style::HoneyHive, Some(routing)) => routing,
            _ => &self.raw,
        }
    }

    /// As those who read a span see it.
    pub(crate) fn plain(&self) -> &Routing {
        &self.raw
    }
}

/// A tracer's native side.
#[pyclass(frozen, module = "tracebaton._native")]
pub(crate) struct Core {
    pub(crate) id: TracerId,
    pub(crate) sinks: Vec<Sink>,
    /// Whether spans are recorded when they begin, too.
    pub(crate) records_starts: bool,
    spool: Option<Spool>,
    pub(crate) limits: Limits,
    pub(crate) flatten: flatten::Options,
    pub(crate) policy: tracebaton::policy::Policy,
    settings: Settings,
    session: String,
    own: Arc<Routings>,
    pub(crate) sessions: Option<Sessions>,
    /// Whether the first use of a session registers it.
    registers: bool,
    /// What the tracer's own session begins with.
    inputs: Option<Value<'static>>,
    pub(crate) unsampled: AtomicU64,
    /// By the number of the rule.
    pub(crate) inbound_dropped: [AtomicU64; 64],
    pub(crate) outbound_dropped: [AtomicU64; 64],
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
        let resource = &settings.resource.encoded;
        let spool = sink::spool(spool_dir, spool_bytes, look_up)?;
        let sinks = settings.exporters.iter().map(|exporter| Sink::of(exporter, &settings, resource, spool.as_ref()));
        let mut sinks = sinks.collect::<PyResult<Vec<_>>>()?;
        for worker in foreign.iter().flatten() {
            let resource = resource_dict(worker.py(), &settings)?;
            sinks.push(Sink::Foreign(Foreign::new(worker, delivery_config(&settings, Style::Raw), &resource)?));
        }
        let session = settings.session_id.clone().unwrap_or_else(ids::uuid4);
        let wants_uuid = sinks.iter().any(|sink| sink.style() == Style::HoneyHive);
        let sessions = session::sessions(&settings)?;
        let registers = register && sessions.is_some();
        let own = Arc::new(routings(
            &session,
            settings.session_name.as_deref(),
            settings.project.as_deref(),
            &settings.source,
            wants_uuid,
            registers,
        ));
        let redaction = if redact { Redaction::Default } else { Redaction::Off };
        for warning in &settings.warnings {
            report::warn(warning);
        }
        Ok(Self {
            id: TracerId(NEXT_ID.fetch_add(1, Ordering::Relaxed)),
            records_starts: sinks.iter().any(Sink::records_starts),
            spool,
            sinks,
            limits: settings.limits,
            flatten: flatten::Options::new(&settings.limits, redaction),
            policy: policy.inner.clone(),
            session,
            own,
            sessions,
            registers,
            inputs: inputs.map(captured),
            unsampled: AtomicU64::new(0),
            inbound_dropped: [const { AtomicU64::new(0) }; 64],
            outbound_dropped: [const { AtomicU64::new(0) }; 64],
            processor: PyOnceLock::new(),
            has_processor: AtomicBool::new(false),
            foreign_sampler: PyOnceLock::new(),
            owner: PyOnceLock::new(),
            name_filters: OnceLock::new(),
            outlets: Mutex::default(),
            settings,
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
        self.settings.enabled
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
        &self.session
    }

    #[getter]
    fn session_name(&self) -> Option<&str> {
        self.settings.session_name.as_deref()
    }

    #[getter]
    fn project(&self) -> Option<&str> {
        self.settings.project.as_deref()
    }

    #[getter]
    fn source(&self) -> &str {
        &self.settings.source
    }

    #[getter]
    fn verbose(&self) -> bool {
        self.settings.verbose
    }

    #[getter]
    fn test_mode(&self) -> bool {
        self.settings.test_mode
    }

    /// What decides which traces are recorded, in words.
    #[getter]
    fn sampler(&self) -> String {
        format!("{:?}", self.settings.sampler)
    }

    /// The policy, if it does not go on with callers' traces. A propagator follows it.
    #[getter]
    fn inbound_policy(&self) -> Option<Policy> {
        (self.policy.inbound != InboundMode::Continue).then(|| Policy { inner: self.policy.clone() })
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
        resource_dict(py, &self.settings)
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
        let lists = self.sinks.iter().filter_map(|sink| match sink {
            Sink::Memory(spans) => Some(spans.lock().unwrap_or_else(PoisonError::into_inner).clone()),
            _ => None,
        });
        lists.flatten().collect()
    }

    /// What became of the spans so far: a dict.
    fn stats<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        stats::dict(self, py)
    }
}

impl Core {
    pub(crate) fn own_routings(&self) -> Arc<Routings> {
        Arc::clone(&self.own)
    }

    /// The session that holds where no other does.
    pub(crate) fn own_session(&self) -> &str {
        &self.session
    }

    pub(crate) fn own_project(&self) -> Option<&str> {
        self.settings.project.as_deref()
    }

    pub(crate) fn own_source(&self) -> &str {
        &self.settings.source
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
        let given = scope.and_then(|scope| scope.inner().session_for(self.id, &self.policy));
        let name = scope.and_then(|scope| scope.inner().session_name_for(self.id, &self.policy));
        let project = scope.and_then(|scope| scope.inner().project_for(self.id, &self.policy));
        let start = Start {
            session_id: given.unwrap_or(&self.session),
            session_name: name.or(self.settings.session_name.as_deref()),
            source: start.source.or(Some(&self.settings.source)),
            project: project.or(self.settings.project.as_deref()),
            inputs: start.inputs.or_else(|| if given.is_none() { self.inputs.clone() } else { None }),
            ..start
        };
        sessions.register(&start, &self.flatten)
    }

    /// The routing attributes of a scope: `None` where the tracer's own holds. `foreign` says that a caller sent the
    /// session, who then is the one to name it.
    pub(crate) fn routings_for(
        &self,
        session: Option<&str>,
        name: Option<&str>,
        project: Option<&str>,
        foreign: bool,
    ) -> Arc<Routings> {
        if session.is_none() && project.is_none() {
            return self.own_routings();
        }
        let name = name.or_else(|| self.settings.session_name.as_deref().filter(|_| !foreign));
        Arc::new(routings(
            session.unwrap_or(&self.session),
            name,
            project.or(self.settings.project.as_deref()),
            &self.settings.source,
            self.own.honeyhive.is_some() || self.sinks.iter().any(|sink| sink.style() == Style::HoneyHive),
            self.registers && !foreign,
        ))
    }

    /// The flags of a new span's context, and whether it is recorded.
    pub(crate) fn sample(&self, trace_id: TraceId, parent: &Parent<'_>) -> (TraceFlags, bool) {
        let context = parent.context();
        let decided = self.settings.sampler.decide(trace_id, context.map(|it| (it.flags, it.is_remote)));
        let sampled = self.settings.enabled && decided.is_sampled();
        (self.flags_of(parent, sampled), sampled)
    }

    /// The flags of a new span's context.
    pub(crate) fn flags_of(&self, parent: &Parent<'_>, sampled: bool) -> TraceFlags {
        flags_of_new_span(parent.context().map(|it| it.flags), self.settings.random_flag, sampled)
    }

    /// The sampler of OpenTelemetry's SDK that decides, if one does.
    pub(crate) fn foreign_sampler(&self, py: Python<'_>) -> Option<&Py<PyAny>> {
        self.foreign_sampler.get(py).filter(|_| self.settings.enabled)
    }

    /// Whether a span of this name is exported. The name is asked for only if that matters.
    #[inline]
    pub(crate) fn admits<N: AsRef<str>>(&self, name: impl FnOnce() -> N) -> bool {
        self.name_filters.get().is_none_or(|filters| filters.admits(name().as_ref()))
    }

    pub(crate) fn count_unsampled(&self, py: Python<'_>) {
        if self.settings.enabled
            && self.unsampled.fetch_add(1, Ordering::Relaxed) == 0
            && self.foreign_sampler.get(py).is_none()
            && matches!(self.settings.sampler, Sampler::ParentBased(_))
        {
            report::warn(
                "a caller sent \"not sampled\", so its spans are left out (sampler=\"always_on\" records them; \
                 stats() counts them)",
            );
        }
    }

    pub(crate) fn count_inbound(&self, dropped: RuleSet) {
        count(&self.inbound_dropped, dropped);
    }

    pub(crate) fn count_outbound(&self, dropped: RuleSet) {
        count(&self.outbound_dropped, dropped);
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
        let sinks = self
            .settings
            .exporters
            .iter()
            .map(|exporter| Sink::of(exporter, &self.settings, resource, self.spool.as_ref()));
        let exporters = sinks.map(|sink| Ok(sink?.exporter().cloned()));
        Ok(exporters.collect::<PyResult<Vec<_>>>()?.into_iter().flatten().collect())
    }

    /// Counts a span that ended in another process than it began in.
    pub(crate) fn count_forked(&self) {
        for sink in &self.sinks {
            match sink {
                Sink::Network(exporter, _) => exporter.count_lost(delivery::Reason::Forked, 1),
                Sink::Foreign(foreign) => foreign.queue().count_lost(delivery::Reason::Forked, 1),
                Sink::Memory(_) | Sink::Console(_) => {}
            }
        }
    }
}

fn count(counts: &[AtomicU64; 64], dropped: RuleSet) {
    if dropped.is_empty() {
        return;
    }
    for rule in dropped.iter() {
        if let Some(count) = counts.get(rule as usize) {
            count.fetch_add(1, Ordering::Relaxed);
        }
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

/// Encodes the routing attributes of a session.
fn routings(
    session: &str,
    name: Option<&str>,
    project: Option<&str>,
    source: &str,
    wants_uuid: bool,
    register: bool,
) -> Routings {
    let values = RoutingValues {
        session: Some(session),
        otel_session: Some(session),
        session_name: name,
        project,
        source: Some(source),
    };
    let uuid = honeyhive_session_id(session);
    let honeyhive =
        (wants_uuid && uuid != session).then(|| Routing::new(&RoutingValues { session: Some(&uuid), ..values }));
    Routings { raw: Routing::new(&values), honeyhive, unregistered: AtomicBool::new(register) }
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

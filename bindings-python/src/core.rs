//! What one tracer is: its settings, its session, its exporters.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyDict, PyString};
use tracebaton::delivery;
use tracebaton::flatten;
use tracebaton::id::{TraceFlags, TraceId};
use tracebaton::limits::Limits;
use tracebaton::redact::Redaction;
use tracebaton::routing::{Routing, RoutingValues};
use tracebaton::rule::{Rule, RuleSet};
use tracebaton::sampler::Sampler;
use tracebaton::scope::TracerId;
use tracebaton::session::honeyhive_session_id;
use tracebaton::settings::{self, Encoding, Settings};
use tracebaton::span::instrumentation_scope;
use tracebaton_export::{Destination, Exporter};

use crate::arguments::Given;
use crate::ids;
use crate::parent::Parent;
use crate::policy::Policy;
use crate::report;
use crate::sink::{Sink, Style};
use crate::value::{attribute, string};
use crate::wait::Wait;

/// The routing attributes of a session, for each kind of destination.
pub(crate) struct Routings {
    raw: Routing,
    /// None unless a destination wants it and it differs.
    honeyhive: Option<Routing>,
}

impl Routings {
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
    pub(crate) limits: Limits,
    pub(crate) flatten: flatten::Options,
    pub(crate) policy: tracebaton::policy::Policy,
    settings: Settings,
    session: String,
    own: Arc<Routings>,
    unsampled: AtomicU64,
    /// By the number of the rule.
    inbound_dropped: [AtomicU64; 64],
    processor: PyOnceLock<Py<PyAny>>,
    has_processor: AtomicBool,
    owner: PyOnceLock<Py<PyAny>>,
}

static NEXT_ID: AtomicU64 = AtomicU64::new(1);

#[pymethods]
impl Core {
    #[new]
    #[pyo3(signature = (arguments, environment, *, policy, redact))]
    fn new(
        arguments: &Bound<'_, PyDict>,
        environment: &Bound<'_, PyDict>,
        policy: &Policy,
        redact: bool,
    ) -> PyResult<Self> {
        let given = Given::of(arguments)?;
        let look_up = |name: &str| -> Option<String> {
            let value = environment.get_item(name).ok()??;
            value.cast::<PyString>().ok().map(|text| string(text).into_owned())
        };
        let settings = settings::resolve(&given.arguments(&given.exporter(), &given.headers()), &look_up)
            .map_err(|error| PyValueError::new_err(error.to_string()))?;
        let sinks =
            settings.exporters.iter().map(|exporter| sink(exporter, &settings)).collect::<PyResult<Vec<_>>>()?;
        let session = settings.session_id.clone().unwrap_or_else(ids::uuid4);
        let wants_uuid = sinks.iter().any(|sink| sink.style() == Style::HoneyHive);
        let own = Arc::new(routings(
            &session,
            settings.session_name.as_deref(),
            settings.project.as_deref(),
            &settings.source,
            wants_uuid,
        ));
        let redaction = if redact { Redaction::Default } else { Redaction::Off };
        for warning in &settings.warnings {
            report::warn(warning);
        }
        Ok(Self {
            id: TracerId(NEXT_ID.fetch_add(1, Ordering::Relaxed)),
            sinks,
            limits: settings.limits,
            flatten: flatten::Options::new(&settings.limits, redaction),
            policy: policy.inner.clone(),
            session,
            own,
            unsampled: AtomicU64::new(0),
            inbound_dropped: [const { AtomicU64::new(0) }; 64],
            processor: PyOnceLock::new(),
            has_processor: AtomicBool::new(false),
            owner: PyOnceLock::new(),
            settings,
        })
    }

    /// Whether the tracer does anything.
    #[getter]
    pub(crate) fn enabled(&self) -> bool {
        self.settings.enabled
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

    /// The attributes of the resource.
    #[getter]
    fn resource<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let out = PyDict::new(py);
        for (key, value) in &self.settings.resource.attributes {
            out.set_item(key, value)?;
        }
        Ok(out)
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
            scope: delivery::Scope::new(&instrumentation_scope(name, version.unwrap_or_default(), pairs)),
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
        let (mut queued, mut sent, mut retried, mut rejected, mut last_error) = (0, 0, 0, 0, None);
        let dropped = PyDict::new(py);
        for stats in self.sinks.iter().filter_map(Sink::stats) {
            queued += stats.queued;
            sent += stats.sent;
            retried += stats.retried;
            last_error = stats.last_error.or(last_error);
            rejected += stats.rejected;
            for (reason, count) in stats.dropped.iter().filter(|(_, count)| *count > 0) {
                let before: u64 = dropped.get_item(reason.as_str())?.map_or(Ok(0), |it| it.extract())?;
                dropped.set_item(reason.as_str(), before + count)?;
            }
        }
        if rejected > 0 {
            dropped.set_item("rejected", rejected)?;
        }
        let inbound_dropped = PyDict::new(py);
        for rule in Rule::ALL {
            match self.inbound_dropped.get(*rule as usize).map_or(0, |count| count.load(Ordering::Relaxed)) {
                0 => {}
                count => inbound_dropped.set_item(rule.id(), count)?,
            }
        }
        let out = PyDict::new(py);
        out.set_item("queued", queued)?;
        out.set_item("sent", sent)?;
        out.set_item("dropped", dropped)?;
        out.set_item("retried", retried)?;
        out.set_item("last_error", last_error)?;
        out.set_item("not_sampled", self.unsampled.load(Ordering::Relaxed))?;
        out.set_item("inbound_dropped", inbound_dropped)?;
        Ok(out)
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

    /// The routing attributes of a scope: `None` where the tracer's own holds. `foreign` says that a caller sent the
    /// session, who then is the one to name it.
    pub(crate) fn routings_for(&self, session: Option<&str>, project: Option<&str>, foreign: bool) -> Arc<Routings> {
        if session.is_none() && project.is_none() {
            return self.own_routings();
        }
        let name = self.settings.session_name.as_deref().filter(|_| !foreign);
        Arc::new(routings(
            session.unwrap_or(&self.session),
            name,
            project.or(self.settings.project.as_deref()),
            &self.settings.source,
            self.own.honeyhive.is_some() || self.sinks.iter().any(|sink| sink.style() == Style::HoneyHive),
        ))
    }

    /// The flags of a new span's context, and whether it is recorded.
    pub(crate) fn sample(&self, trace_id: TraceId, parent: &Parent<'_>) -> (TraceFlags, bool) {
        let context = parent.context();
        let decided = self.settings.sampler.decide(trace_id, context.map(|it| (it.flags, it.is_remote)));
        let sampled = self.settings.enabled && decided.is_sampled();
        // Ids are random from here; a caller's word about its own ids stays as it is (rule TP10).
        let flags = context.map_or(TraceFlags::RANDOM, |it| it.flags);
        (flags.with_sampled(sampled), sampled)
    }

    pub(crate) fn count_unsampled(&self) {
        if self.settings.enabled
            && self.unsampled.fetch_add(1, Ordering::Relaxed) == 0
            && matches!(self.settings.sampler, Sampler::ParentBased(_))
        {
            report::warn(
                "a caller sent \"not sampled\", so its spans are left out (sampler=\"always_on\" records them; \
                 stats() counts them)",
            );
        }
    }

    pub(crate) fn count_inbound(&self, dropped: RuleSet) {
        if !dropped.is_empty() {
            for rule in dropped.iter() {
                if let Some(count) = self.inbound_dropped.get(rule as usize) {
                    count.fetch_add(1, Ordering::Relaxed);
                }
            }
        }
    }

    pub(crate) fn has_processor(&self) -> bool {
        self.has_processor.load(Ordering::Acquire)
    }

    pub(crate) fn on_end(&self, span: &Bound<'_, PyAny>) {
        let py = span.py();
        if let Some(processor) = self.processor.get(py)
            && processor.bind(py).call_method1(pyo3::intern!(py, "on_end"), (span,)).is_err()
        {
            report::warn("a span processor raised in on_end");
        }
    }

    fn wait(&self, py: Python<'_>, millis: u64, what: Wait) -> PyResult<bool> {
        let exporters: Vec<&Exporter> = self.exporters().collect();
        what.for_all(py, &exporters, Duration::from_millis(millis))
    }

    fn exporters(&self) -> impl Iterator<Item = &Exporter> {
        self.sinks.iter().filter_map(Sink::exporter)
    }

    /// Counts a span that ended in another process than it began in.
    pub(crate) fn count_forked(&self) {
        for exporter in self.exporters() {
            exporter.count_lost(delivery::Reason::Forked, 1);
        }
    }
}

/// Flushes, or shuts down, the exporters of several tracers at the same time.
#[pyfunction]
pub(crate) fn deliver_all(py: Python<'_>, cores: Vec<Py<Core>>, timeout_millis: u64, shutdown: bool) -> PyResult<bool> {
    let exporters: Vec<&Exporter> = cores.iter().flat_map(|core| core.get().exporters()).collect();
    let what = if shutdown { Wait::Shutdown } else { Wait::Flush };
    what.for_all(py, &exporters, Duration::from_millis(timeout_millis))
}

/// Encodes the routing attributes of a session.
fn routings(session: &str, name: Option<&str>, project: Option<&str>, source: &str, wants_uuid: bool) -> Routings {
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
    Routings { raw: Routing::new(&values), honeyhive }
}

/// The exporter that settings describe.
fn sink(exporter: &settings::Exporter, settings: &Settings) -> PyResult<Sink> {
    let (otlp, style) = match exporter {
        settings::Exporter::HoneyHive(otlp) => (otlp, Style::HoneyHive),
        settings::Exporter::Otlp(otlp) => (otlp, Style::Raw),
        settings::Exporter::Console => return Ok(Sink::Console),
        settings::Exporter::Memory => return Ok(Sink::Memory(Mutex::default())),
    };
    let version = env!("CARGO_PKG_VERSION");
    let destination = Destination {
        url: otlp.url.clone(),
        headers: otlp.headers.clone(),
        encoding: match otlp.encoding {
            Encoding::Protobuf => tracebaton_export::Encoding::Protobuf,
            Encoding::Json(enums) => tracebaton_export::Encoding::Json(enums),
        },
        gzip: otlp.gzip,
        timeout: Duration::from_nanos(otlp.timeout_ns),
        user_agent: format!("tracebaton/{version} OTel-OTLP-Exporter-Python/{version}"),
        tls: otlp.tls.clone(),
    };
    let defaults = delivery::Config::default();
    let batch = &settings.batch;
    let config = delivery::Config {
        queue_spans: batch.queue_spans,
        batch_spans: batch.batch_spans,
        delay_ns: if batch.disabled { 0 } else { batch.delay_ns.unwrap_or(defaults.delay_ns) },
        give_up_ns: batch.export_timeout_ns.unwrap_or(defaults.give_up_ns),
        ..defaults
    };
    let reporter: tracebaton_export::Reporter = Arc::new(report::warn);
    let exporter = Exporter::new(destination, config, &settings.resource.encoded, Some(reporter))
        .map_err(|error| PyValueError::new_err(error.to_string()))?;
    Ok(Sink::Network(exporter, style))
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
    fn processor(&self, py: Python<'_>) -> Option<Py<PyAny>> {
        let core = self.core.get();
        if core.has_processor() { core.processor.get(py).map(|it| it.clone_ref(py)) } else { None }
    }

    #[getter]
    fn core(&self, py: Python<'_>) -> Py<Core> {
        self.core.clone_ref(py)
    }
}

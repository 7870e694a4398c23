//! Where a tracer's spans go.

use std::path::PathBuf;
use std::sync::Arc;

use pyo3::exceptions::PyValueError;
use pyo3::{PyErr, PyResult, Python};
use tracebaton::delivery::{Pushed, Reason, Scope, Stats};
use tracebaton::settings::Settings;
pub(crate) use tracebaton::tracer::Style;
use tracebaton_export::spool::Spool;
use tracebaton_export::{self as export, Common, Exporter, Invalid, Started};

use crate::foreign::Foreign;
use crate::report;

/// What requests call this package.
const USER_AGENT: &str =
    concat!("tracebaton/", env!("CARGO_PKG_VERSION"), " OTel-OTLP-Exporter-Python/", env!("CARGO_PKG_VERSION"));

/// One place that spans go to.
pub(crate) enum Sink {
    /// A backend, a list for tests, or the standard output.
    Own(export::Sink),
    /// An exporter of OpenTelemetry's SDK.
    Foreign(Foreign),
}

/// What the sinks of a tracer have in common, for spans of a resource (an OTLP `Resource` message).
pub(crate) fn common<'a>(settings: &'a Settings, resource: &'a [u8], spool: Option<&Spool>) -> Common<'a> {
    Common { settings, resource, user_agent: USER_AGENT, reporter: Some(Arc::new(report::warn)), spool: spool.cloned() }
}

/// A destination that no request could be sent to.
pub(crate) fn invalid(error: Invalid) -> PyErr {
    PyValueError::new_err(error.to_string())
}

/// A sink for every exporter in the settings.
pub(crate) fn own_sinks(common: &Common<'_>) -> PyResult<Vec<export::Sink>> {
    let sinks = common.settings.exporters.iter().map(|exporter| export::Sink::of(exporter, common));
    sinks.collect::<Result<_, _>>().map_err(invalid)
}

impl Sink {
    /// The place, if it is no exporter of the SDK's.
    pub(crate) fn own(&self) -> Option<&export::Sink> {
        match self {
            Self::Own(sink) => Some(sink),
            Self::Foreign(_) => None,
        }
    }

    pub(crate) fn foreign(&self) -> Option<&Foreign> {
        match self {
            Self::Own(_) => None,
            Self::Foreign(foreign) => Some(foreign),
        }
    }

    pub(crate) fn exporter(&self) -> Option<&Exporter> {
        self.own().and_then(export::Sink::exporter)
    }

    pub(crate) fn style(&self) -> Style {
        self.own().map_or(Style::Raw, export::Sink::style)
    }

    /// Takes a span that `encode` appends as an entry of `ScopeSpans.spans`; whether it was not dropped. What becomes
    /// of it is in the statistics. `started` is what [`start`](Self::start) gave.
    pub(crate) fn take(
        &self,
        py: Python<'_>,
        scope: &Scope,
        started: Option<Started>,
        encode: impl FnOnce(&mut Vec<u8>),
    ) -> bool {
        match self {
            Self::Own(sink) => sink.take(scope, started, encode),
            Self::Foreign(foreign) => {
                let mut entry = Vec::new();
                encode(&mut entry);
                !matches!(foreign.push(py, scope, &entry), Pushed::Dropped(_))
            }
        }
    }

    /// Whether there is a spool for starts.
    pub(crate) fn records_starts(&self) -> bool {
        self.own().is_some_and(export::Sink::records_starts)
    }

    /// Records in the spool, if there is one, that a span begins.
    #[inline]
    pub(crate) fn start<'a>(
        &self,
        scope: &Scope,
        encode: impl FnOnce(&mut Vec<u8>) -> Option<&'a Arc<[u8]>>,
    ) -> Option<Started> {
        self.own()?.start(scope, encode)
    }

    /// The span will not be taken.
    pub(crate) fn forget(&self, started: Started) {
        if let Some(sink) = self.own() {
            sink.forget(started);
        }
    }

    /// Counts spans that were lost before they came here.
    pub(crate) fn count_lost(&self, reason: Reason, spans: u64) {
        match self {
            Self::Own(sink) => sink.count_lost(reason, spans),
            Self::Foreign(foreign) => foreign.queue().count_lost(reason, spans),
        }
    }

    pub(crate) fn stats(&self) -> Option<Stats> {
        match self {
            Self::Own(sink) => sink.stats(),
            Self::Foreign(foreign) => Some(foreign.queue().stats()),
        }
    }

    /// What statistics call it: an address without path and credentials, or a word.
    pub(crate) fn name(&self) -> String {
        self.own().map_or_else(|| "opentelemetry".to_owned(), export::Sink::name)
    }
}

/// The spool that arguments and environment ask for, if they do.
pub(crate) fn spool(
    dir: Option<PathBuf>,
    bytes: Option<u64>,
    look_up: impl Fn(&str) -> Option<String>,
) -> PyResult<Option<Spool>> {
    let dir =
        dir.or_else(|| look_up("TRACEBATON_SPOOL_DIR").map(PathBuf::from)).filter(|dir| !dir.as_os_str().is_empty());
    let of_environment = dir.as_ref().and_then(|_| look_up("TRACEBATON_SPOOL_BYTES"));
    let bytes = Spool::size(bytes, of_environment.as_deref(), report::warn)
        .map_err(|wanted| PyValueError::new_err(format!("spool_bytes must be {wanted}")))?;
    let Some(dir) = dir else { return Ok(None) };
    let is_off = |text: String| matches!(text.to_ascii_lowercase().as_str(), "false" | "0" | "no" | "off");
    let starts = !look_up("TRACEBATON_SPOOL_STARTS").is_some_and(is_off);
    Ok(Some(Spool { starts, bytes, ..Spool::new(dir, "") }))
}

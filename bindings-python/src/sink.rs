//! Where a tracer's spans go.

use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use pyo3::exceptions::PyValueError;
use pyo3::{PyResult, Python};
use tracebaton::delivery::{self, Pushed, Scope, Stats};
use tracebaton::otlp::json::{self, Enums};
use tracebaton::settings::{self, Encoding, Settings};
use tracebaton_export::spool::Spool;
use tracebaton_export::{Console, Destination, Exporter, Started};

use crate::foreign::Foreign;
use crate::report;

/// Which of a session's two ids a destination knows it by.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Style {
    /// The id as it travels on the wire.
    Raw,
    /// A UUID, which HoneyHive wants.
    HoneyHive,
}

/// One place that spans go to.
pub(crate) enum Sink {
    /// A backend, over the network.
    Network(Exporter, Style),
    /// A list that tests read.
    Memory(Mutex<Vec<Vec<u8>>>),
    /// The process's standard output, a line of JSON for each span.
    Console(Console),
    /// An exporter of OpenTelemetry's SDK.
    Foreign(Foreign),
}

impl Sink {
    /// The exporter that settings describe, for spans of a resource (an OTLP `Resource` message).
    pub(crate) fn of(
        exporter: &settings::Exporter,
        settings: &Settings,
        resource: &[u8],
        spool: Option<&Spool>,
    ) -> PyResult<Self> {
        let (otlp, style) = match exporter {
            settings::Exporter::HoneyHive(otlp) => (otlp, Style::HoneyHive),
            settings::Exporter::Otlp(otlp) => (otlp, Style::Raw),
            settings::Exporter::Console => return Ok(Self::Console(Console::new())),
            settings::Exporter::Memory => return Ok(Self::Memory(Mutex::default())),
        };
        let destination = Destination {
            url: otlp.url.clone(),
            headers: otlp.headers.clone(),
            encoding: match otlp.encoding {
                Encoding::Protobuf => tracebaton_export::Encoding::Protobuf,
                Encoding::Json(enums) => tracebaton_export::Encoding::Json(enums),
            },
            gzip: otlp.gzip,
            timeout: Duration::from_nanos(otlp.timeout_ns),
            user_agent: user_agent(),
            tls: otlp.tls.clone(),
        };
        let reporter: tracebaton_export::Reporter = Arc::new(report::warn);
        let label = if style == Style::HoneyHive { "honeyhive" } else { "otlp" };
        let spool = spool.map(|spool| Spool { label: label.to_owned(), ..spool.clone() });
        let config = delivery_config(settings, style);
        let exporter = Exporter::with_spool(destination, config, resource, Some(reporter), spool)
            .map_err(|error| PyValueError::new_err(error.to_string()))?;
        Ok(Self::Network(exporter, style))
    }

    pub(crate) fn style(&self) -> Style {
        match self {
            Self::Network(_, style) => *style,
            Self::Memory(_) | Self::Console(_) | Self::Foreign(_) => Style::Raw,
        }
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
            Self::Network(exporter, _) => {
                return !matches!(exporter.record_started(scope, started, encode), Pushed::Dropped(_));
            }
            Self::Foreign(foreign) => {
                let mut entry = Vec::new();
                encode(&mut entry);
                return !matches!(foreign.push(py, scope, &entry), Pushed::Dropped(_));
            }
            Self::Memory(spans) => {
                let mut entry = Vec::new();
                encode(&mut entry);
                if let Some(line) = as_json(&entry) {
                    spans.lock().unwrap_or_else(PoisonError::into_inner).push(line);
                }
            }
            Self::Console(console) => {
                let mut entry = Vec::new();
                encode(&mut entry);
                if as_json(&entry).is_some_and(|json| !console.print(json)) {
                    report::warn("the standard output cannot be written: spans are dropped");
                    return false;
                }
            }
        }
        true
    }

    /// Whether there is a spool for starts.
    pub(crate) fn records_starts(&self) -> bool {
        self.exporter().is_some_and(Exporter::records_starts)
    }

    /// Records in the spool, if there is one, that a span begins.
    #[inline]
    pub(crate) fn start<'a>(
        &self,
        scope: &Scope,
        encode: impl FnOnce(&mut Vec<u8>) -> Option<&'a Arc<[u8]>>,
    ) -> Option<Started> {
        self.exporter()?.start(scope, encode)
    }

    /// The span will not be taken.
    pub(crate) fn forget(&self, started: Started) {
        if let Some(exporter) = self.exporter() {
            exporter.forget(started);
        }
    }

    pub(crate) fn exporter(&self) -> Option<&Exporter> {
        match self {
            Self::Network(exporter, _) => Some(exporter),
            Self::Memory(_) | Self::Console(_) | Self::Foreign(_) => None,
        }
    }

    pub(crate) fn foreign(&self) -> Option<&Foreign> {
        match self {
            Self::Foreign(foreign) => Some(foreign),
            _ => None,
        }
    }

    pub(crate) fn stats(&self) -> Option<Stats> {
        match self {
            Self::Network(exporter, _) => Some(exporter.stats()),
            Self::Foreign(foreign) => Some(foreign.queue().stats()),
            Self::Console(console) => Some(console.stats()),
            Self::Memory(_) => None,
        }
    }

    pub(crate) fn console(&self) -> Option<&Console> {
        match self {
            Self::Console(console) => Some(console),
            _ => None,
        }
    }

    /// What statistics call it: an address without path and credentials, or a word.
    pub(crate) fn name(&self) -> String {
        match self {
            Self::Network(exporter, _) => exporter.destination().shown_url(),
            Self::Memory(_) => "memory".to_owned(),
            Self::Console(_) => "console".to_owned(),
            Self::Foreign(_) => "opentelemetry".to_owned(),
        }
    }
}

/// The spool that arguments and environment ask for, if they do.
pub(crate) fn spool(
    dir: Option<PathBuf>,
    bytes: Option<u64>,
    look_up: impl Fn(&str) -> Option<String>,
) -> PyResult<Option<Spool>> {
    const SIZES: RangeInclusive<u64> = Spool::BYTES_LEAST..=Spool::BYTES_MOST;
    if bytes.is_some_and(|bytes| !SIZES.contains(&bytes)) {
        let (least, most) = SIZES.into_inner();
        return Err(PyValueError::new_err(format!("spool_bytes must be a number of bytes from {least} to {most}")));
    }
    let dir = dir.or_else(|| look_up("TRACEBATON_SPOOL_DIR").map(PathBuf::from));
    let Some(dir) = dir.filter(|dir| !dir.as_os_str().is_empty()) else { return Ok(None) };
    let of_environment = || {
        let bytes = look_up("TRACEBATON_SPOOL_BYTES").filter(|text| !text.is_empty())?.parse().ok();
        if bytes.is_none_or(|bytes| !SIZES.contains(&bytes)) {
            report::warn("TRACEBATON_SPOOL_BYTES is no number of bytes that a spool can have: it has 64 MiB");
        }
        bytes.filter(|bytes| SIZES.contains(bytes))
    };
    let is_off = |text: String| matches!(text.to_ascii_lowercase().as_str(), "false" | "0" | "no" | "off");
    Ok(Some(Spool {
        starts: !look_up("TRACEBATON_SPOOL_STARTS").is_some_and(is_off),
        bytes: bytes.or_else(of_environment).unwrap_or(Spool::BYTES),
        ..Spool::new(dir, "")
    }))
}

/// The OTLP/JSON of a span, from its entry: a tag, the length, the span.
fn as_json(entry: &[u8]) -> Option<Vec<u8>> {
    let length = entry.iter().skip(1).take_while(|byte| **byte & 0x80 != 0).count();
    let mut out = Vec::new();
    json::span(entry.get(length + 2..)?, Enums::Numbers, &mut out).ok()?;
    Some(out)
}

/// What requests call this package.
pub(crate) fn user_agent() -> String {
    let version = env!("CARGO_PKG_VERSION");
    format!("tracebaton/{version} OTel-OTLP-Exporter-Python/{version}")
}

/// The bounds and times of a queue.
pub(crate) fn delivery_config(settings: &Settings, style: Style) -> delivery::Config {
    let defaults = delivery::Config::default();
    let batch = &settings.batch;
    delivery::Config {
        queue_spans: batch.queue_spans,
        batch_spans: batch.batch_spans,
        delay_ns: if batch.disabled { 0 } else { batch.delay_ns.unwrap_or(defaults.delay_ns) },
        hold_ns: if style == Style::HoneyHive { delivery::HOLD_NS } else { 0 },
        give_up_ns: batch.export_timeout_ns.unwrap_or(defaults.give_up_ns),
        ..defaults
    }
}

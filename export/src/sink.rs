//! Where a tracer's spans go, as its settings say.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tracebaton::delivery::{Pushed, Reason, Scope, Stats};
use tracebaton::otlp::json;
use tracebaton::settings::{self, Settings};
use tracebaton::tracer::{Style, delivery_config};

use crate::console::Console;
use crate::destination::{Destination, Encoding, Invalid};
use crate::exporter::{Exporter, Started};
use crate::registration::{Api, Sessions};
use crate::report::Reporter;
use crate::spool::Spool;
use crate::{Config, Enums};

/// How long one request about sessions may take, as HoneyHive's own client has it.
const SESSION_TIMEOUT: Duration = Duration::from_secs(5);

/// One place that spans go to.
#[derive(Debug)]
pub enum Sink {
    /// A backend, over the network.
    Network(Exporter, Style),
    /// A list that tests read: each span as OTLP/JSON.
    Memory(Mutex<Vec<Vec<u8>>>),
    /// The process's standard output, a line of JSON for each span.
    Console(Console),
}

/// What all sinks of a tracer have in common.
#[derive(Clone)]
pub struct Common<'a> {
    /// What the tracer was told to do.
    pub settings: &'a Settings,
    /// The resource whose spans they are (an OTLP `Resource` message): as a rule that of the settings.
    pub resource: &'a [u8],
    /// The `User-Agent` of requests.
    pub user_agent: &'a str,
    /// Is told about trouble.
    pub reporter: Option<Reporter>,
    /// Where spans are kept in case the process dies; its label is set here.
    pub spool: Option<Spool>,
}

impl std::fmt::Debug for Common<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Common").field("settings", &self.settings).finish_non_exhaustive()
    }
}

impl Sink {
    /// The sink of an exporter in the settings.
    ///
    /// # Errors
    ///
    /// A destination that no request could be sent to.
    pub fn of(exporter: &settings::Exporter, common: &Common<'_>) -> Result<Self, Invalid> {
        let style = Style::of(exporter);
        let (otlp, label) = match exporter {
            settings::Exporter::HoneyHive(otlp) => (otlp, "honeyhive"),
            settings::Exporter::Otlp(otlp) => (otlp, "otlp"),
            settings::Exporter::Console => return Ok(Self::Console(Console::new(common.reporter.clone()))),
            settings::Exporter::Memory => return Ok(Self::Memory(Mutex::default())),
        };
        let destination = Destination {
            url: otlp.url.clone(),
            headers: otlp.headers.clone(),
            encoding: match otlp.encoding {
                settings::Encoding::Protobuf => Encoding::Protobuf,
                settings::Encoding::Json(enums) => Encoding::Json(enums),
            },
            gzip: otlp.gzip,
            timeout: Duration::from_nanos(otlp.timeout_ns),
            user_agent: common.user_agent.to_owned(),
            tls: otlp.tls.clone(),
        };
        let spool = common.spool.clone().map(|spool| Spool { label: label.to_owned(), ..spool });
        let config: Config = delivery_config(common.settings, style);
        let exporter = Exporter::with_spool(destination, config, common.resource, common.reporter.clone(), spool)?;
        Ok(Self::Network(exporter, style))
    }

    /// How it knows sessions.
    pub const fn style(&self) -> Style {
        match self {
            Self::Network(_, style) => *style,
            Self::Memory(_) | Self::Console(_) => Style::Raw,
        }
    }

    /// Takes a span that `encode` appends as an entry of `ScopeSpans.spans`; whether it was not dropped. What becomes of
    /// it is in the statistics. `started` is what [`start`](Self::start) gave.
    pub fn take(&self, scope: &Scope, started: Option<Started>, encode: impl FnOnce(&mut Vec<u8>)) -> bool {
        if let Self::Network(exporter, _) = self {
            return !matches!(exporter.record_started(scope, started, encode), Pushed::Dropped(_));
        }
        let mut entry = Vec::new();
        encode(&mut entry);
        // Where nothing was appended, there is nothing to drop.
        let Some(line) = as_json(&entry) else { return true };
        match self {
            Self::Console(console) => return console.print(line),
            Self::Memory(spans) => spans.lock().unwrap_or_else(PoisonError::into_inner).push(line),
            Self::Network(..) => {}
        }
        true
    }

    /// Whether there is a spool for starts.
    pub fn records_starts(&self) -> bool {
        self.exporter().is_some_and(Exporter::records_starts)
    }

    /// Records in the spool, if there is one, that a span begins. `encode` returns what it left out because many spans have
    /// it in common: see [`Exporter::start`].
    pub fn start<'a>(
        &self,
        scope: &Scope,
        encode: impl FnOnce(&mut Vec<u8>) -> Option<&'a Arc<[u8]>>,
    ) -> Option<Started> {
        self.exporter()?.start(scope, encode)
    }

    /// The span will not be taken.
    pub fn forget(&self, started: Started) {
        if let Some(exporter) = self.exporter() {
            exporter.forget(started);
        }
    }

    /// The queue to a backend.
    pub const fn exporter(&self) -> Option<&Exporter> {
        match self {
            Self::Network(exporter, _) => Some(exporter),
            Self::Memory(_) | Self::Console(_) => None,
        }
    }

    /// What a list for tests holds: each span as OTLP/JSON.
    pub fn memory(&self) -> Vec<Vec<u8>> {
        match self {
            Self::Memory(spans) => spans.lock().unwrap_or_else(PoisonError::into_inner).clone(),
            Self::Network(..) | Self::Console(_) => Vec::new(),
        }
    }

    /// Whether it printed all spans since this was last asked, if it prints: what a flush waits for has been done.
    pub fn printed(&self) -> bool {
        match self {
            Self::Console(console) => console.flush(),
            Self::Network(..) | Self::Memory(_) => true,
        }
    }

    /// What statistics call it: an address without path and credentials, or a word.
    pub fn name(&self) -> String {
        match self {
            Self::Network(exporter, _) => exporter.destination().shown_url(),
            Self::Memory(_) => "memory".to_owned(),
            Self::Console(_) => "console".to_owned(),
        }
    }

    /// Counts spans that were lost before they came here.
    pub fn count_lost(&self, reason: Reason, spans: u64) {
        if let Some(exporter) = self.exporter() {
            exporter.count_lost(reason, spans);
        }
    }

    /// What became of the spans.
    pub fn stats(&self) -> Option<Stats> {
        match self {
            Self::Network(exporter, _) => Some(exporter.stats()),
            Self::Console(console) => Some(console.stats()),
            Self::Memory(_) => None,
        }
    }
}

impl Sessions {
    /// Requests about sessions, if spans go to HoneyHive.
    ///
    /// # Errors
    ///
    /// A destination that no request could be sent to.
    pub fn of(common: &Common<'_>) -> Result<Option<Self>, Invalid> {
        let Some(honeyhive) = &common.settings.honeyhive else { return Ok(None) };
        let api = Api {
            base_url: honeyhive.base_url.clone(),
            headers: honeyhive.headers.clone(),
            timeout: SESSION_TIMEOUT,
            user_agent: common.user_agent.to_owned(),
        };
        Self::new(api, common.reporter.clone()).map(Some)
    }
}

/// The OTLP/JSON of a span, from its entry: a tag, the length, the span.
fn as_json(entry: &[u8]) -> Option<Vec<u8>> {
    let length = entry.iter().skip(1).take_while(|byte| **byte & 0x80 != 0).count();
    let mut out = Vec::new();
    json::span(entry.get(length + 2..)?, Enums::Numbers, &mut out).ok()?;
    Some(out)
}

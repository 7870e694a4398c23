//! Where a tracer's spans go.

use std::sync::{Mutex, PoisonError};

use tracebaton::delivery::{Scope, Stats};
use tracebaton::otlp::json::{self, Enums};
use tracebaton_export::Exporter;

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
    Console,
}

impl Sink {
    pub(crate) fn style(&self) -> Style {
        match self {
            Self::Network(_, style) => *style,
            Self::Memory(_) | Self::Console => Style::Raw,
        }
    }

    /// Takes a span that `encode` appends as an entry of `ScopeSpans.spans`.
    pub(crate) fn take(&self, scope: &Scope, encode: impl FnOnce(&mut Vec<u8>)) {
        match self {
            Self::Network(exporter, _) => {
                // What becomes of it is in the exporter's statistics.
                let _ = exporter.record(scope, encode);
            }
            Self::Memory(spans) => {
                let mut entry = Vec::new();
                encode(&mut entry);
                if let Some(line) = as_json(&entry) {
                    spans.lock().unwrap_or_else(PoisonError::into_inner).push(line);
                }
            }
            Self::Console => {
                let mut entry = Vec::new();
                encode(&mut entry);
                if let Some(mut line) = as_json(&entry) {
                    line.push(b'\n');
                    // A terminal that is gone is no reason to fail.
                    let _ = std::io::Write::write_all(&mut std::io::stdout().lock(), &line);
                }
            }
        }
    }

    pub(crate) fn exporter(&self) -> Option<&Exporter> {
        match self {
            Self::Network(exporter, _) => Some(exporter),
            Self::Memory(_) | Self::Console => None,
        }
    }

    pub(crate) fn stats(&self) -> Option<Stats> {
        self.exporter().map(Exporter::stats)
    }
}

/// The OTLP/JSON of a span, from its entry: a tag, the length, the span.
fn as_json(entry: &[u8]) -> Option<Vec<u8>> {
    let length = entry.iter().skip(1).take_while(|byte| **byte & 0x80 != 0).count();
    let mut out = Vec::new();
    json::span(entry.get(length + 2..)?, Enums::Numbers, &mut out).ok()?;
    Some(out)
}

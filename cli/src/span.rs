//! A span as the viewer keeps it, and a session's head line: the shapes of the store, the API and the command.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

/// What comes before the trace id in the id of a pseudo session: the spans of one trace that name no session.
pub(crate) const TRACE_PREFIX: &str = "trace:";

/// The status of a span as OTLP has it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Status {
    /// `UNSET`, `OK` or `ERROR`.
    pub(crate) code: String,
    /// The text that came with it, often empty.
    pub(crate) message: String,
}

/// One span. Ids are lower-case hex; times are nanoseconds since 1970 (as strings in JSON, since JavaScript's numbers
/// are too short for them).
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Span {
    pub(crate) trace_id: String,
    pub(crate) span_id: String,
    pub(crate) parent_span_id: Option<String>,
    /// The session that the span itself names.
    pub(crate) session_id: Option<String>,
    pub(crate) name: String,
    /// `INTERNAL`, `SERVER`, `CLIENT`, `PRODUCER`, `CONSUMER` or `UNSPECIFIED`.
    pub(crate) kind: String,
    /// The resource's `service.name`.
    pub(crate) service: Option<String>,
    /// `honeyhive.source`.
    pub(crate) source: Option<String>,
    /// `honeyhive.project`.
    pub(crate) project: Option<String>,
    /// `model`, `tool`, `chain`, `session` or whatever the span says; none for a span that says nothing.
    pub(crate) event_type: Option<String>,
    #[serde(with = "nanos")]
    pub(crate) start_ns: u64,
    #[serde(with = "nanos")]
    pub(crate) end_ns: u64,
    pub(crate) status: Status,
    /// What went wrong, for a span that failed: possibly an empty text.
    pub(crate) error: Option<String>,
    pub(crate) trace_state: String,
    /// A JSON object.
    pub(crate) attributes: Box<RawValue>,
    /// A JSON array of `{name, time_ns, attributes}`.
    pub(crate) events: Box<RawValue>,
    /// A JSON array of `{trace_id, span_id, trace_state, attributes}`.
    pub(crate) links: Box<RawValue>,
    /// Number of the resource and scope that the span comes from, which many spans share: kept beside the spans.
    pub(crate) origin: i64,
}

impl Span {
    /// Nanoseconds from start to end; none if the end lies before the start.
    pub(crate) fn duration_ns(&self) -> Option<u64> {
        self.end_ns.checked_sub(self.start_ns)
    }
}

/// The spans of a session or of a trace.
#[derive(Debug, Deserialize)]
pub(crate) struct Spans {
    #[serde(rename = "session")]
    pub(crate) summary: Summary,
    pub(crate) spans: Vec<Span>,
    /// Resource and scope by number, as JSON objects.
    pub(crate) origins: BTreeMap<i64, Box<RawValue>>,
}

/// What the viewer knows of a session (or of a trace without one) besides its spans.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Summary {
    pub(crate) session_id: String,
    pub(crate) session_name: Option<String>,
    pub(crate) project: Option<String>,
    #[serde(with = "nanos")]
    pub(crate) first_ns: u64,
    #[serde(with = "nanos")]
    pub(crate) last_ns: u64,
    pub(crate) span_count: u64,
    pub(crate) trace_count: u64,
    pub(crate) error_count: u64,
    pub(crate) services: Vec<String>,
    pub(crate) sources: Vec<String>,
    /// What was merged into the session by its enrichments: a JSON object by bucket (`metadata`, `metrics`, …).
    pub(crate) properties: Option<Box<RawValue>>,
}

impl Summary {
    /// Counts what the spans say into a summary that names its session.
    pub(crate) fn count(mut self, spans: &[Span]) -> Self {
        self.first_ns = spans.iter().map(|span| span.start_ns).min().unwrap_or(self.first_ns);
        self.last_ns = spans.iter().map(|span| span.end_ns.max(span.start_ns)).max().unwrap_or(self.last_ns);
        self.span_count = spans.len() as u64;
        self.trace_count = spans.iter().map(|span| &span.trace_id).collect::<HashSet<_>>().len() as u64;
        self.error_count = spans.iter().filter(|span| span.error.is_some()).count() as u64;
        self.services = distinct(spans.iter().filter_map(|span| span.service.as_ref()));
        self.sources = distinct(spans.iter().filter_map(|span| span.source.as_ref()));
        if self.project.is_none() {
            self.project = spans.iter().filter_map(|span| span.project.as_ref()).max().cloned();
        }
        self
    }
}

fn distinct<'a>(values: impl Iterator<Item = &'a String>) -> Vec<String> {
    values.collect::<BTreeSet<_>>().into_iter().cloned().collect()
}

/// Nanoseconds as decimal strings.
mod nanos {
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    pub(super) fn serialize<S: Serializer>(value: &u64, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(value)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
    }
}

//! What the page and the command read: sessions, and the spans of one as a forest.

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::value::RawValue;

use crate::span::{Span, Spans, Summary};
use crate::tree::{self, Place};

/// How many sessions are listed unless the request says otherwise.
pub(crate) const DEFAULT_LIMIT: u32 = 200;

/// `GET /api/sessions`
#[derive(Serialize)]
pub(crate) struct Sessions {
    /// Those whose spans came last come first.
    pub(crate) sessions: Vec<Summary>,
    /// How many there are, listed or not.
    pub(crate) total: u64,
}

/// `GET /api/sessions/{id}` and `GET /api/traces/{trace_id}`
#[derive(Serialize)]
pub(crate) struct Forest<'a> {
    session: &'a Summary,
    /// Depth first, traces and siblings by start: a span is followed by its subtree.
    spans: Vec<PlacedSpan<'a>>,
    origins: &'a BTreeMap<i64, Box<RawValue>>,
}

/// A span and where it stands.
#[derive(Serialize)]
pub(crate) struct PlacedSpan<'a> {
    #[serde(flatten)]
    span: &'a Span,
    depth: usize,
    parent_missing: bool,
    cycle: bool,
    /// How long before its parent the span starts, in nanoseconds, as a string; none if it does not.
    early_ns: Option<String>,
}

impl<'a> PlacedSpan<'a> {
    pub(crate) fn new(span: &'a Span, place: &Place) -> Self {
        Self {
            span,
            depth: place.depth,
            parent_missing: place.parent_missing,
            cycle: place.cycle,
            early_ns: (place.early_ns > 0).then(|| place.early_ns.to_string()),
        }
    }
}

impl<'a> Forest<'a> {
    pub(crate) fn new(spans: &'a Spans) -> Self {
        let placed = tree::build(&spans.spans)
            .iter()
            .filter_map(|place| Some(PlacedSpan::new(spans.spans.get(place.span)?, place)))
            .collect();
        Self { session: &spans.summary, spans: placed, origins: &spans.origins }
    }
}

//! What travels together: spans of one resource, grouped by their instrumentation scope.

use alloc::sync::Arc;
use alloc::vec::Vec;

/// An instrumentation scope, encoded: the bytes of an OTLP `InstrumentationScope` message. Cheap to clone.
///
/// Whoever creates spans keeps the scope and hands it to [`push`](super::Delivery::push) with each of them. A scope
/// belongs to no queue, so it stays valid in a forked child, whose queues are new.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Scope(Arc<[u8]>);

impl Scope {
    /// The scope with this encoding.
    pub fn new(encoded: &[u8]) -> Self {
        Self(Arc::from(encoded))
    }

    /// The encoded `InstrumentationScope` message.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// Equal scopes are mostly the same allocation, which is faster to see than that their bytes are equal.
    fn is(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0) || self.0 == other.0
    }
}

/// The spans of one scope in a batch.
#[derive(Debug)]
pub struct Run {
    scope: Scope,
    spans: Vec<u8>,
}

impl Run {
    /// The scope of these spans.
    pub fn scope(&self) -> &Scope {
        &self.scope
    }

    /// The spans, each as an entry of `ScopeSpans.spans`: tag `0x12`, length, `Span` message.
    pub fn spans(&self) -> &[u8] {
        &self.spans
    }
}

/// Spans that are sent in one request, taken from [`poll`](super::Delivery::poll) and given back to
/// [`answered`](super::Delivery::answered).
#[derive(Debug)]
pub struct Batch {
    pub(super) resource: Arc<[u8]>,
    /// Batches are numbered in the order in which they are sent, from 1.
    pub(super) number: u64,
    pub(super) bytes: usize,
    pub(super) spans: usize,
    /// When the batch is dropped if it has not been delivered; set when its turn comes.
    pub(super) give_up_at_ns: Option<u64>,
    runs: Vec<Run>,
}

impl Batch {
    pub(super) fn new(resource: Arc<[u8]>) -> Self {
        Self { resource, number: 0, bytes: 0, spans: 0, give_up_at_ns: None, runs: Vec::new() }
    }

    /// The encoded `Resource` message that the spans belong to.
    pub fn resource(&self) -> &[u8] {
        &self.resource
    }

    /// The spans by scope; no run is empty.
    pub fn runs(&self) -> impl Iterator<Item = &Run> {
        self.runs.iter().filter(|run| !run.spans.is_empty())
    }

    /// How many spans the batch holds.
    pub fn spans(&self) -> usize {
        self.spans
    }

    /// How many bytes its spans take.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// The buffer that spans of a scope are appended to.
    #[inline]
    pub(super) fn buffer(&mut self, scope: &Scope) -> &mut Vec<u8> {
        // A batch has a handful of scopes: a scan of pointers is faster than a map.
        let found = self.runs.iter().position(|run| run.scope.is(scope));
        let index = found.unwrap_or_else(|| {
            self.runs.push(Run { scope: scope.clone(), spans: Vec::new() });
            self.runs.len().saturating_sub(1)
        });
        #[allow(clippy::indexing_slicing, reason = "the index was found or has just been pushed")]
        &mut self.runs[index].spans
    }

    /// Empties the batch and keeps its buffers, except those of scopes that it had no spans of.
    pub(super) fn recycle(&mut self) {
        self.runs.retain(|run| !run.spans.is_empty());
        for run in &mut self.runs {
            run.spans.clear();
        }
        self.number = 0;
        self.bytes = 0;
        self.spans = 0;
        self.give_up_at_ns = None;
    }
}

//! What travels together: spans of one resource, grouped by their instrumentation scope.

use alloc::sync::Arc;
use alloc::vec::Vec;

use crate::spool::{Mark, state_at};

/// An instrumentation scope, encoded: the bytes of an OTLP `InstrumentationScope` message, and the schema that its spans
/// follow. Cheap to clone.
///
/// Whoever creates spans keeps the scope and hands it to [`push`](super::Delivery::push) with each of them. A scope
/// belongs to no queue, so it stays valid in a forked child, whose queues are new.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Scope {
    encoded: Arc<[u8]>,
    schema_url: Option<Arc<str>>,
}

impl Scope {
    /// The scope with this encoding.
    pub fn new(encoded: &[u8]) -> Self {
        Self { encoded: Arc::from(encoded), schema_url: None }
    }

    /// The scope with a schema, which OTLP has beside it (`ScopeSpans.schema_url`); an empty text is none.
    #[must_use]
    pub fn with_schema_url(self, url: &str) -> Self {
        Self { schema_url: Some(Arc::from(url)).filter(|url: &Arc<str>| !url.is_empty()), ..self }
    }

    /// The encoded `InstrumentationScope` message.
    pub fn as_bytes(&self) -> &[u8] {
        &self.encoded
    }

    /// The schema that the scope's spans follow; empty if it named none.
    pub fn schema_url(&self) -> &str {
        self.schema_url.as_deref().unwrap_or_default()
    }

    /// Equal scopes are mostly the same allocation, which is faster to see than that their bytes are equal.
    #[inline]
    pub(crate) fn is(&self, other: &Self) -> bool {
        (Arc::ptr_eq(&self.encoded, &other.encoded) || self.encoded == other.encoded)
            && self.schema_url == other.schema_url
    }
}

/// The spans of one scope in a batch.
#[derive(Debug)]
pub struct Run {
    pub(super) scope: Scope,
    pub(super) spans: Vec<u8>,
    /// Where each of the spans is in the spool, 0 if it is not; empty if there is no spool.
    pub(super) marks: Vec<Mark>,
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
    /// Its spans are those of a process that is gone, and its marks places in that process's spool.
    pub(super) is_recovered: bool,
    pub(super) runs: Vec<Run>,
}

impl Batch {
    pub(super) fn new(resource: Arc<[u8]>) -> Self {
        Self { resource, number: 0, bytes: 0, spans: 0, give_up_at_ns: None, is_recovered: false, runs: Vec::new() }
    }

    /// An empty batch for spans of a process that is gone.
    pub(crate) fn recovered(resource: Arc<[u8]>) -> Self {
        Self { is_recovered: true, ..Self::new(resource) }
    }

    /// Adds a span that is in a spool.
    pub(crate) fn add(&mut self, scope: &Scope, entry: &[u8], mark: Mark) {
        let run = self.run(scope);
        run.spans.extend_from_slice(entry);
        run.marks.push(mark);
        self.spans = self.spans.saturating_add(1);
        self.bytes = self.bytes.saturating_add(entry.len());
    }

    /// Where the spans are in the spool, those that are.
    pub(crate) fn marks(&self) -> impl Iterator<Item = Mark> {
        self.runs.iter().flat_map(|run| &run.marks).copied().filter(|mark| *mark != 0)
    }

    /// The offsets of the bytes in the spool that are to become [`DONE`](crate::spool::DONE) when the spans are delivered,
    /// or dropped for good; none for those that are in no spool.
    pub fn done_at(&self) -> impl Iterator<Item = u64> {
        self.marks().map(|mark| state_at((mark as usize) << 3) as u64)
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
        &mut self.run(scope).spans
    }

    /// The spans of a scope.
    #[inline]
    pub(super) fn run(&mut self, scope: &Scope) -> &mut Run {
        // A batch has a handful of scopes: a scan of pointers is faster than a map.
        let found = self.runs.iter().position(|run| run.scope.is(scope));
        let index = found.unwrap_or_else(|| {
            self.runs.push(Run { scope: scope.clone(), spans: Vec::new(), marks: Vec::new() });
            self.runs.len().saturating_sub(1)
        });
        #[allow(clippy::indexing_slicing, reason = "the index was found or has just been pushed")]
        &mut self.runs[index]
    }

    /// Empties the batch and keeps its buffers, except those of scopes that it had no spans of.
    pub(super) fn recycle(&mut self) {
        self.runs.retain(|run| !run.spans.is_empty());
        for run in &mut self.runs {
            run.spans.clear();
            run.marks.clear();
        }
        self.number = 0;
        self.bytes = 0;
        self.spans = 0;
        self.give_up_at_ns = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scope_with_another_schema_is_another_one() {
        let scope = Scope::new(b"scope");
        let (one, two) = (scope.clone().with_schema_url("https://one"), scope.clone().with_schema_url("https://two"));
        assert_eq!((scope.schema_url(), one.schema_url()), ("", "https://one"));
        assert_eq!(scope.clone().with_schema_url(""), scope);
        let mut batch = Batch::new(Arc::from(&b"resource"[..]));
        for (of, span) in [(&scope, 1), (&one, 2), (&two, 3), (&one.clone(), 4)] {
            batch.buffer(of).push(span);
        }
        let runs: Vec<_> = batch.runs().map(|run| (run.scope().schema_url(), run.spans())).collect();
        assert_eq!(runs, [("", &[1][..]), ("https://one", &[2, 4]), ("https://two", &[3])]);
    }
}

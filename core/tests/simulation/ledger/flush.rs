//! What has to be said about a flush.

use super::{Fate, Ledger, Span};

/// A flush under way.
#[derive(Debug)]
pub(crate) struct Watch {
    /// The spans that ended before it.
    upto: usize,
    /// The flushes that had ended before it.
    begun: u64,
}

impl Ledger {
    pub(crate) fn flush(&mut self) -> Watch {
        self.hurry();
        Watch { upto: self.spans.len(), begun: self.flush_ends }
    }

    /// What has to be said about a flush: `None` while a span before it is not settled; `false` if one was lost, unless
    /// a flush that ended before this one began has answered for it.
    pub(crate) fn flushed(&self, watch: &Watch) -> Option<bool> {
        let before = &self.spans[..watch.upto];
        if before.iter().any(|span| matches!(span.fate, Fate::Waiting | Fate::InFlight)) {
            return None;
        }
        let lost = |span: &Span| span.fate != Fate::Delivered && span.reported.is_none_or(|end| end > watch.begun);
        Some(!before.iter().any(lost))
    }

    pub(crate) fn flush_end(&mut self, watch: &Watch, delivered: bool) {
        let truth = self.flushed(watch);
        assert_eq!(delivered, truth == Some(true), "a flush said {delivered}, the truth is {truth:?}");
        self.flush_ends += 1;
        for span in &mut self.spans[..watch.upto] {
            if matches!(span.fate, Fate::PerhapsRejected | Fate::Dropped(_) | Fate::Spooled | Fate::Requeued) {
                span.reported.get_or_insert(self.flush_ends);
            }
        }
    }
}

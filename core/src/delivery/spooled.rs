//! Delivery with a spool: what is there besides the queue, and what comes from the spools of processes that are gone.

use super::{Batch, Close, Config, Delivery, Outcome, Pushed, Reason, Scope};
use crate::spool::{Spool, Start};
use alloc::sync::Arc;
use alloc::vec::Vec;

/// What became of the spans of batches that left the queue undelivered.
#[derive(Clone, Copy, Default, Debug)]
pub(super) struct Lost {
    pub(super) dropped: u64,
    pub(super) spooled: u64,
}

impl Lost {
    pub(super) fn outcome(self, reason: Reason) -> Outcome {
        if self.spooled == 0 {
            Outcome::Dropped(reason, self.dropped)
        } else {
            Outcome::Spooled(reason, self.spooled, self.dropped)
        }
    }

    pub(super) fn and(self, other: Self) -> Self {
        Self {
            dropped: self.dropped.saturating_add(other.dropped),
            spooled: self.spooled.saturating_add(other.spooled),
        }
    }
}

impl Delivery {
    /// Gives the queue a spool, which must be for the same resource; only one that has nothing queued takes it.
    pub fn set_spool(&mut self, spool: Spool) {
        if self.spans == 0 {
            self.spool = Some(spool);
        }
    }

    /// There should be a spool, and there can be none: every span that is queued counts as
    /// [unspooled](super::Stats::unspooled).
    pub fn lack_spool(&mut self) {
        self.lacks_spool = true;
    }

    /// Records in the spool that a span begins: an entry as [`push`](Self::push) has it, with what is known by now. If the
    /// process dies before the span ends, the next start delivers it as [interrupted](crate::spool::interrupted).
    /// `None` if there is no spool, or no room in it. `common` are more fields of the span, as [`Spool::start`] has them.
    #[inline]
    pub fn start(&mut self, scope: &Scope, entry: &[u8], common: Option<&Arc<[u8]>>) -> Option<Start> {
        let spool = self.spool.as_mut()?;
        let start = spool.start(scope, entry, common);
        self.stats.unspooled_starts = self.stats.unspooled_starts.saturating_add(u64::from(start.is_none()));
        start
    }

    /// As [`push`](Self::push), for a span whose [start](Self::start) was recorded. Whatever becomes of the span, it is
    /// not open any more.
    #[inline]
    pub fn push_started(
        &mut self,
        start: Start,
        scope: &Scope,
        now: impl FnOnce() -> u64,
        encode: impl FnOnce(&mut Vec<u8>),
    ) -> Pushed {
        let pushed = self.push(scope, now, encode);
        self.forget(start);
        pushed
    }

    /// A span whose [start](Self::start) was recorded will not be pushed, and nobody is to be told about it.
    #[inline]
    pub fn forget(&mut self, start: Start) {
        if let Some(spool) = &mut self.spool {
            spool.close(start);
        }
    }

    /// The spool.
    pub fn spool(&self) -> Option<&Spool> {
        self.spool.as_ref()
    }

    /// Parts with the spool, if nothing is queued that is in it. What it holds stays in its memory.
    pub fn take_spool(&mut self) -> Option<Spool> {
        if self.spans == 0 { self.spool.take() } else { None }
    }

    /// Whether nothing waits to be sent, the last request did not fail, and spans are taken.
    fn is_idle(&self) -> bool {
        self.close == Close::Open && self.in_flight.is_none() && self.ready.is_empty() && self.failures == 0
    }

    /// Queues spans that left the queue and are only in the spool, as many as one batch takes, if this is a good moment:
    /// the destination takes spans again, and the queue is not full. Returns how many.
    pub fn requeue(&mut self) -> u64 {
        let Config { queue_bytes, queue_spans, batch_bytes, batch_spans, .. } = self.config;
        let room = (queue_bytes >> 1).saturating_sub(self.bytes).min(batch_bytes);
        let places = queue_spans.map_or(usize::MAX, |most| (most >> 1).saturating_sub(self.spans));
        let places = places.min(batch_spans.unwrap_or(usize::MAX));
        if !self.is_idle() || room == 0 || places == 0 {
            return 0;
        }
        let Some(spool) = self.spool.as_mut().filter(|spool| spool.has_kept()) else { return 0 };
        let mut batch = Batch::new(Arc::clone(&self.resource));
        spool.take_kept(&mut batch, room, places);
        let spans = batch.spans as u64;
        if spans != 0 {
            self.stats.spooled = self.stats.spooled.saturating_sub(spans);
            self.enqueue(batch);
        }
        spans
    }

    /// Queues a batch as it is.
    pub(super) fn enqueue(&mut self, mut batch: Batch) {
        self.last_number = self.last_number.saturating_add(1);
        batch.number = self.last_number;
        self.bytes = self.bytes.saturating_add(batch.bytes);
        self.spans = self.spans.saturating_add(batch.spans);
        self.ready.push_back(batch);
    }

    /// The queue does not take a span: it is dropped, unless the spool can keep it for later. Without one it is not even
    /// encoded.
    #[cold]
    pub(super) fn refuse(&mut self, reason: Reason, scope: &Scope, encode: impl FnOnce(&mut Vec<u8>)) -> Pushed {
        if let (Some(spool), true) = (&mut self.spool, reason.is_temporary()) {
            let mut span = Vec::new();
            encode(&mut span);
            if span.is_empty() {
                return Pushed::Nothing;
            }
            let fits = span.len() <= self.config.request_bytes;
            if let Some(mark) = if fits { spool.end(scope, &span) } else { None } {
                spool.keep(mark);
                self.stats.spooled = self.stats.spooled.saturating_add(1);
                self.flushes.lost_at_push(1);
                return Pushed::Spooled(reason);
            }
        }
        self.stats.dropped.add(reason, 1);
        if self.config.expendable.as_ref().is_none_or(|expendable| !expendable.is(scope)) {
            self.flushes.lost_at_push(1);
        }
        Pushed::Dropped(reason)
    }

    /// A batch leaves the queue undelivered. What is in a spool stays there, if another try is worth it.
    pub(super) fn drop_batch(&mut self, batch: Batch, reason: Reason) -> Lost {
        self.drop_or_leave(batch, reason, reason.is_temporary())
    }

    /// As [`drop_batch`](Self::drop_batch); `is_kept` says whether another try is worth it.
    pub(super) fn drop_or_leave(&mut self, batch: Batch, reason: Reason, is_kept: bool) -> Lost {
        let spans = batch.spans as u64;
        if is_kept && batch.is_recovered {
            self.recovering.left(spans, reason);
        }
        let spooled = match (is_kept, &self.spool) {
            (true, _) if batch.is_recovered => spans,
            (true, Some(_)) => batch.marks().count() as u64,
            _ => 0,
        };
        if !is_kept {
            self.done(&batch);
        } else if let (Some(spool), false) = (&mut self.spool, batch.is_recovered) {
            batch.marks().for_each(|mark| spool.keep(mark));
        }
        let dropped = spans.saturating_sub(spooled);
        self.stats.dropped.add(reason, dropped);
        self.stats.spooled = self.stats.spooled.saturating_add(spooled);
        if !self.is_expendable(&batch) {
            self.flushes.lost_in_batch(batch.number, spans);
        }
        self.settle(batch, !is_kept);
        Lost { dropped, spooled }
    }

    /// The spans of a batch are delivered, or dropped for good: the spool need not keep them.
    pub(super) fn done(&mut self, batch: &Batch) {
        if let (Some(spool), false) = (&mut self.spool, batch.is_recovered) {
            batch.marks().for_each(|mark| spool.settle(mark));
        }
    }
}

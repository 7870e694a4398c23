//! What other processes have left in their spools: when it is queued, and when again if it could not be delivered.
//!
//! It is looked for at the beginning and then from time to time, since processes die while others go on. What could not
//! be delivered stays where it was and is tried again after a pause, which doubles with every failure; where the time for
//! retries was over, the first answer that accepts something else ends the pause.

use core::mem;

use super::{Batch, Close, Config, Delivery, Reason};

/// Spans from the spool of a process that is gone: see [`push_recovered`](Delivery::push_recovered).
#[derive(Debug, Default)]
enum Recovered {
    /// There are none.
    #[default]
    Nothing,
    /// They are queued or on their way.
    Queued,
    /// They are delivered or dropped for good, or not.
    Over(Batch, bool),
}

#[derive(Debug, Default)]
pub(super) struct Recovering {
    batch: Recovered,
    /// None is queued before this time.
    at_ns: u64,
    /// The last pause, if what was queued last was not delivered; else 0.
    pause_ns: u64,
    /// The destination took nothing: when it does, the pause is over.
    awaits_answer: bool,
    /// Spans that are counted as spooled since they were left where they came from. They come again.
    left: u64,
}

impl Recovering {
    /// The destination has accepted something.
    pub(super) fn answered(&mut self) {
        if mem::take(&mut self.awaits_answer) {
            self.at_ns = 0;
        }
    }

    /// So many spans could not be delivered.
    pub(super) fn left(&mut self, spans: u64, reason: Reason) {
        self.left = self.left.saturating_add(spans);
        self.awaits_answer = reason == Reason::GaveUp;
    }

    /// The batch has left the queue.
    pub(super) fn over(&mut self, batch: Batch, is_done: bool) {
        self.batch = Recovered::Over(batch, is_done);
    }
}

impl Delivery {
    /// From when on, in ns, it is a good moment for [`push_recovered`](Self::push_recovered). `None` while something
    /// waits to be sent, and where no more spans are taken.
    pub fn recovery_at(&self) -> Option<u64> {
        let is_possible = self.close == Close::Open && self.in_flight.is_none() && self.ready.is_empty();
        let is_possible = is_possible && matches!(self.recovering.batch, Recovered::Nothing);
        is_possible.then_some(self.recovering.at_ns)
    }

    /// There is nothing to recover by now: [`recovery_at`](Self::recovery_at) is later.
    pub fn nothing_to_recover(&mut self, now_ns: u64) {
        self.recovering.at_ns = self.recovering.at_ns.max(now_ns.saturating_add(self.config.rescan_ns));
    }

    /// Something may have to be recovered from this time on, in ns; a pause after a failure goes on all the same.
    pub fn recover_by(&mut self, at_ns: u64) {
        if self.recovering.pause_ns == 0 {
            self.recovering.at_ns = self.recovering.at_ns.min(at_ns);
        }
    }

    /// Somebody asks for what other processes have left: no pause is on.
    pub fn recover_now(&mut self) {
        self.recovering.at_ns = 0;
    }

    /// Queues spans of a process that is gone, a batch of its [`Recovery`](crate::spool::Recovery). They are sent like
    /// others. Ask [`take_recovered`](Self::take_recovered) what became of them.
    pub fn push_recovered(&mut self, mut batch: Batch) {
        batch.is_recovered = true;
        let spans = batch.spans as u64;
        let again = spans.min(self.recovering.left);
        self.recovering.left = self.recovering.left.saturating_sub(again);
        self.stats.spooled = self.stats.spooled.saturating_sub(again);
        self.stats.recovered = self.stats.recovered.saturating_add(spans.saturating_sub(again));
        self.recovering.batch = Recovered::Queued;
        self.enqueue(batch);
    }

    /// The batch that [`push_recovered`](Self::push_recovered) queued, once it has left the queue; and whether its spans
    /// are delivered or dropped for good. Else they have to stay where they came from, and a pause begins.
    pub fn take_recovered(&mut self, now_ns: u64) -> Option<(Batch, bool)> {
        let this = &mut self.recovering;
        match mem::take(&mut this.batch) {
            Recovered::Over(batch, is_done) => {
                let rescan_ns = self.config.rescan_ns;
                let most_ns = rescan_ns.saturating_mul(Config::RESCANS);
                this.pause_ns = if is_done { 0 } else { this.pause_ns.saturating_mul(2).clamp(rescan_ns, most_ns) };
                this.at_ns = if is_done { 0 } else { now_ns.saturating_add(this.pause_ns) };
                this.awaits_answer &= !is_done;
                Some((batch, is_done))
            }
            other => {
                this.batch = other;
                None
            }
        }
    }
}

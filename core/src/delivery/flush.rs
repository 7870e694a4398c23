//! The truth about a flush: whether everything pushed before it was delivered.
//!
//! A flush closes the open batch, so that a batch is either wholly before or wholly after it. Batches are settled
//! (delivered or dropped) in order: when the last batch before the flush is settled, what was lost up to then decides.
//! Only the end of a queue drops batches while one before them is on its way: they count when their turn comes.

use alloc::vec::Vec;

/// A flush that was asked for; see [`flush`](super::Delivery::flush).
#[derive(Debug)]
#[must_use = "a flush is watched until `flush_end`"]
pub struct Ticket(u64);

/// Losses, counted where they happen: at the door in the order of pushes, behind it in the order of batches. The two
/// orders cannot be compared, so they are counted apart.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
struct Losses {
    pushed: u64,
    settled: u64,
}

#[derive(Debug)]
struct Pending {
    id: u64,
    /// The last batch before the flush.
    upto: u64,
    /// What was lost when the flush was asked for, as far as it was lost at the door.
    pushed: u64,
    /// What earlier flushes have answered for.
    reported: Losses,
    /// What had been lost behind the door when the last batch was settled.
    settled: Option<u64>,
}

/// These losses, and those of the batches up to this number that were lost before their turn.
fn with_early(lost: u64, early: &[(u64, u64)], upto: u64) -> u64 {
    early.iter().filter(|(number, _)| *number <= upto).fold(lost, |sum, (_, spans)| sum.saturating_add(*spans))
}

/// The flushes under way of one queue.
#[derive(Debug, Default)]
pub(super) struct Flushes {
    pending: Vec<Pending>,
    last_id: u64,
    lost: Losses,
    reported: Losses,
    /// Batches that were lost before their turn, which is not counted in `lost`: their numbers and spans.
    early: Vec<(u64, u64)>,
}

impl Flushes {
    /// Counts a loss at the door: the span got no place in a batch.
    pub(super) fn lost_at_push(&mut self, spans: u64) {
        self.lost.pushed = self.lost.pushed.saturating_add(spans);
    }

    /// Counts a loss of spans of the batch with this number. Call before [`settled`](Self::settled).
    pub(super) fn lost_in_batch(&mut self, number: u64, spans: u64) {
        self.early.push((number, spans));
    }

    /// Every batch up to this number has been delivered or dropped.
    pub(super) fn settled(&mut self, number: u64) {
        let (lost, early) = (self.lost.settled, &self.early);
        for flush in self.pending.iter_mut().filter(|flush| flush.upto <= number) {
            flush.settled.get_or_insert_with(|| with_early(lost, early, flush.upto));
        }
        self.lost.settled = with_early(lost, early, number);
        self.early.retain(|(batch, _)| *batch > number);
    }

    /// Begins to watch for the batches up to `upto`, of which those up to `settled` are settled already.
    pub(super) fn begin(&mut self, upto: u64, settled: u64) -> Ticket {
        self.last_id = self.last_id.wrapping_add(1);
        let done = (upto <= settled).then_some(self.lost.settled);
        self.pending.push(Pending {
            id: self.last_id,
            upto,
            pushed: self.lost.pushed,
            reported: self.reported,
            settled: done,
        });
        Ticket(self.last_id)
    }

    /// Whether everything before the flush was delivered, or `None` while that is open.
    pub(super) fn outcome(&self, ticket: &Ticket) -> Option<bool> {
        let flush = self.pending.iter().find(|flush| flush.id == ticket.0)?;
        Some(Losses { pushed: flush.pushed, settled: flush.settled? } == flush.reported)
    }

    /// The last batch before a flush.
    pub(super) fn upto(&self, ticket: &Ticket) -> u64 {
        self.pending.iter().find(|flush| flush.id == ticket.0).map_or(0, |flush| flush.upto)
    }

    /// Ends a flush. What it has seen lost is reported by its answer, and not by the next flush again. `is_over` says that
    /// what is not settled does not matter.
    pub(super) fn end(&mut self, ticket: Ticket, is_over: bool) -> bool {
        if let (true, Some(flush)) = (is_over, self.pending.iter_mut().find(|flush| flush.id == ticket.0)) {
            flush.settled.get_or_insert_with(|| with_early(self.lost.settled, &self.early, flush.upto));
        }
        let outcome = self.outcome(&ticket).unwrap_or(false);
        if let Some(index) = self.pending.iter().position(|flush| flush.id == ticket.0) {
            let flush = self.pending.swap_remove(index);
            // A flush that ran out of time has answered `false` for what was lost before it until now.
            let settled = flush.settled.unwrap_or_else(|| with_early(self.lost.settled, &self.early, flush.upto));
            self.reported.pushed = self.reported.pushed.max(flush.pushed);
            self.reported.settled = self.reported.settled.max(settled);
        }
        outcome
    }
}

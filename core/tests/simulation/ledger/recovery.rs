//! What a ledger has to do with spools: spans that come from one, and what has to be in its own.

use tracebaton::delivery::{Batch, Config};

use super::{Close, Fate, Ledger, Span};
use crate::run::{Event, Run};
use crate::spans::decode;
use crate::spool::{Expected, Truth};

impl Ledger {
    /// A batch from the spool of a process that is gone: it waits before the open batch.
    pub(crate) fn recovering(&mut self, run: &mut Run, origin: u32, spans: &[Expected]) {
        assert!(self.closed == 0 && self.in_flight.is_empty(), "recovered while something else waits to be sent");
        self.head_since = run.now;
        for expected in spans {
            let index = self.spans.len() as u32;
            self.foreign.insert(expected.number, index);
            self.spans.push(Span {
                origin: (origin, expected.number),
                spooled: true,
                ended: run.now,
                bytes: expected.bytes,
                scope: expected.scope,
                fate: Fate::Waiting,
                order: index,
                beside: true,
                reported: None,
            });
            self.wait_first(index);
        }
        let (until, ..) = self.no_recovery;
        assert!(run.now >= until, "recovered in a pause until {until}");
        let count = spans.len() as u64;
        let again = count.min(self.left);
        self.left -= again;
        self.spooled -= again;
        self.recovered += count - again;
        self.ended += count - again;
        run.counts.add(Event::Recovered, spans.len() as u64);
    }

    /// The batch from another process has left the queue: whether its spans are done with.
    pub(crate) fn recovered_end(&mut self, run: &Run, is_done: bool) {
        let Config { rescan_ns, .. } = self.config;
        self.no_recovery = if is_done {
            (0, 0, false)
        } else {
            let pause = (self.no_recovery.1 * 2).clamp(rescan_ns, rescan_ns * Config::RESCANS);
            (run.now + pause, pause, self.no_recovery.2)
        };

        for index in std::mem::take(&mut self.foreign).into_values() {
            let fate = self.spans[index as usize].fate;
            self.left += u64::from(fate == Fate::Spooled);
            let done = match fate {
                Fate::Delivered | Fate::PerhapsRejected | Fate::Dropped(_) => true,
                Fate::Spooled => false,
                Fate::Waiting | Fate::InFlight | Fate::Requeued => panic!("still in the queue"),
            };
            assert_eq!(done, is_done, "{fate:?}");
        }
        assert_eq!(self.room_beside, (0, 0));
    }

    /// The worker has nothing to do: when it looks for spools of other processes next.
    pub(crate) fn looks_again(&self, run: &Run, at: Option<u64>) {
        let could = self.close == Close::Open && self.closed == 0 && self.in_flight.is_empty();
        assert_eq!(at.is_some(), could, "looks for spools at {at:?}");
        let (until, ..) = self.no_recovery;
        let latest = until.max(run.now + self.config.rescan_ns);
        assert!(at.is_none_or(|at| at > run.now && at <= latest), "looks for spools at {at:?}, not by {latest}");
    }

    /// A span waits in the batch that is sent next.
    fn wait_first(&mut self, index: u32) {
        let Span { bytes, beside, .. } = self.spans[index as usize];
        self.waiting.insert(self.closed, index);
        self.closed += 1;
        self.bytes += bytes;
        if beside {
            self.room_beside.0 += bytes;
            self.room_beside.1 += 1;
        }
    }

    /// Whether nothing waits to be sent, the last request did not fail, and spans are taken.
    pub(super) fn is_idle(&self) -> bool {
        self.close == Close::Open && self.closed == 0 && self.in_flight.is_empty() && self.failures == 0
    }

    /// The bytes and spans that may be given back to the queue: what a batch takes, up to half of the queue.
    pub(super) fn room_to_give_back(&self) -> (usize, usize) {
        let Config { queue_bytes, queue_spans, batch_bytes, batch_spans, .. } = self.config;
        let queued = self.waiting.len() + self.in_flight.len();
        let places = queue_spans.map_or(usize::MAX, |most| (most / 2).saturating_sub(queued));
        ((queue_bytes / 2).saturating_sub(self.bytes).min(batch_bytes), places.min(batch_spans.unwrap_or(usize::MAX)))
    }

    /// Spans that were only in the spool are given back to the queue, as the batch that is sent next: they are as new
    /// ones there, but a flush has still to answer for their loss.
    pub(crate) fn requeued(&mut self, run: &mut Run, batch: &Batch) {
        assert!(self.is_idle(), "given back at a bad moment");
        let (room, places) = self.room_to_give_back();
        let mut given_back = Vec::new();
        for (number, interrupted) in batch.runs().flat_map(|part| decode(part.spans())) {
            assert!(!interrupted, "{number} has ended");
            given_back.push(*self.own.get(&number).unwrap_or_else(|| panic!("span {number} never ended here")));
        }
        given_back.sort_unstable_by_key(|index| self.spans[*index as usize].order);
        let bytes: usize = given_back.iter().map(|index| self.spans[*index as usize].bytes).sum();
        let is_alone = given_back.len() == 1;
        assert!(is_alone || (bytes <= room && given_back.len() <= places), "{bytes} bytes for {room}, {places} places");
        self.head_since = run.now;
        for before in &given_back {
            let index = self.spans.len() as u32;
            let span = &mut self.spans[*before as usize];
            assert_eq!(span.fate, Fate::Spooled, "given back: {span:?}");
            span.fate = Fate::Requeued;
            let origin = span.origin;
            // One that is larger than there is room for is taken all the same: it will never be smaller.
            let beside = is_alone && bytes > room;
            let again = Span { ended: run.now, fate: Fate::Waiting, beside, reported: None, ..*span };
            self.spans.push(again);
            self.own.insert(origin.1, index);
            self.wait_first(index);
        }
        let count = given_back.len() as u64;
        self.spooled -= count;
        self.requeued += count;
        run.counts.add(Event::Requeued, count);
    }

    /// What has to be found in the spool of this queue.
    pub(crate) fn truth(&self) -> Truth {
        let own = self.spans.iter().filter(|span| span.origin.0 == self.name);
        let kept = own.filter(|span| span.spooled && span.is_in_spool(self.name));
        let ended = kept.map(|span| Expected { number: span.origin.1, bytes: span.bytes, scope: span.scope });
        Truth { queue: self.name, resource: self.resource.clone(), scopes: self.scopes.clone(), ended: ended.collect() }
    }

    /// The spans on their way: their queues and numbers.
    pub(crate) fn on_their_way(&self) -> impl Iterator<Item = (u32, u32)> + '_ {
        self.in_flight.iter().map(|index| self.spans[*index as usize].origin)
    }
}

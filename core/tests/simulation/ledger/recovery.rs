//! What a ledger has to do with spools: spans that come from one, and what has to be in its own.

use super::{Fate, Ledger, Span};
use crate::run::{Event, Run};
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
                reported: None,
            });
            self.waiting.insert(self.closed, index);
            self.closed += 1;
            self.bytes += expected.bytes;
            self.foreign_room.0 += expected.bytes;
            self.foreign_room.1 += 1;
        }
        self.recovered += spans.len() as u64;
        run.counts.add(Event::Recovered, spans.len() as u64);
    }

    /// The batch from another process has left the queue: whether its spans are done with.
    pub(crate) fn recovered_end(&mut self, is_done: bool) {
        for index in std::mem::take(&mut self.foreign).into_values() {
            let fate = self.spans[index as usize].fate;
            let done = match fate {
                Fate::Delivered | Fate::PerhapsRejected | Fate::Dropped(_) => true,
                Fate::Spooled => false,
                Fate::Waiting | Fate::InFlight => panic!("still in the queue"),
            };
            assert_eq!(done, is_done, "{fate:?}");
        }
        assert_eq!(self.foreign_room, (0, 0));
    }

    /// What has to be found in the spool of this queue.
    pub(crate) fn truth(&self) -> Truth {
        let own = self.spans.iter().filter(|span| span.origin.0 == self.name);
        let kept =
            own.filter(|span| span.spooled && matches!(span.fate, Fate::Waiting | Fate::InFlight | Fate::Spooled));
        let ended = kept.map(|span| Expected { number: span.origin.1, bytes: span.bytes, scope: span.scope });
        Truth { queue: self.name, resource: self.resource.clone(), scopes: self.scopes.clone(), ended: ended.collect() }
    }

    /// The spans on their way: their queues and numbers.
    pub(crate) fn on_their_way(&self) -> impl Iterator<Item = (u32, u32)> + '_ {
        self.in_flight.iter().map(|index| self.spans[*index as usize].origin)
    }
}

//! Requests: when a batch has to be sent, what has to be in it, and what has to come of an answer.

use tracebaton::delivery::{Batch, Outcome, Reason};

use super::{Again, Close, Fate, Ledger, Span, is_temporary};
use crate::network::{Network, Reply};
use crate::run::{Event, Run};
use crate::spans::decode;

impl Ledger {
    /// The latest time at which a worker has to look at this queue, if nothing else happens.
    pub(crate) fn due(&self) -> Option<u64> {
        let head = &self.spans[*self.waiting.front()? as usize];
        let due = if self.closed != 0 { 0 } else { head.ended.saturating_add(self.config.delay_ns) };
        // A batch that was sent before may be given up in a pause.
        let give_up = self.again.map_or(u64::MAX, |again| again.first_attempt.saturating_add(self.config.give_up_ns));
        Some(due.max(self.pause_until.min(give_up)))
    }

    /// The queue was asked what to do, at a time when the open batch is closed if that waited long enough.
    pub(crate) fn polled(&mut self, run: &Run) {
        if let (0, [], Some(head)) = (self.closed, &self.in_flight[..], self.waiting.front()) {
            if run.now >= self.spans[*head as usize].ended.saturating_add(self.config.delay_ns) {
                self.close_open();
            }
        }
    }

    /// The queue has nothing to do until this time.
    pub(crate) fn waits(&self, run: &Run, until: Option<u64>) {
        if !self.in_flight.is_empty() {
            assert_eq!(until, None, "waits for a time with a batch on its way");
            return;
        }
        let (room, places) = self.room_to_give_back();
        let is_kept = |span: &Span| span.origin.0 == self.name && span.fate == Fate::Spooled;
        let gives_back = room != 0 && places != 0 && self.is_idle() && self.spans.iter().any(is_kept);
        assert!(!gives_back, "sleeps with spans that could be given back to the queue");
        match (until, self.due()) {
            (None, None) => {}
            (Some(until), Some(due)) => {
                assert!(until > run.now, "busy: waits for {until}, which is past");
                assert!(until <= due, "waits until {until} for what is due at {due}");
            }
            (until, due) => panic!("waits until {until:?} for what is due at {due:?}"),
        }
    }

    /// A batch is sent: the queue that its spans were pushed to, and their numbers there.
    pub(crate) fn sending(&mut self, run: &mut Run, batch: &Batch) -> (u32, Vec<u32>) {
        assert!(self.in_flight.is_empty(), "two batches on their way");
        // What came from another process was looked at when it came.
        let is_own = self.foreign.is_empty() || !self.waiting.front().is_some_and(|index| self.is_foreign(*index));
        assert!(!is_own || batch.resource() == self.resource, "resource");
        let mut spans = Vec::new();
        let mut bytes = 0;
        for part in batch.runs() {
            let places = if is_own { &self.own } else { &self.foreign };
            let place = |(number, _): (u32, bool)| {
                *places.get(&number).unwrap_or_else(|| panic!("span {number} never ended here"))
            };
            let found: Vec<u32> = decode(part.spans()).into_iter().map(place).collect();
            assert!(found.is_sorted(), "out of order: {found:?}");
            for span in &found {
                let known = &self.spans[*span as usize];
                assert_eq!(part.scope().as_bytes(), self.scopes[known.scope], "scope of {span}");
                assert_eq!(known.fate, Fate::Waiting, "sent: {span}");
                bytes += known.bytes;
            }
            spans.extend(found);
        }
        spans.sort_unstable();
        let count = spans.len();
        assert_eq!((count, bytes), (batch.spans(), batch.bytes()), "the batch counts wrongly");
        assert!(count != 0, "empty request");
        assert!(self.waiting.iter().take(count).eq(&spans), "not the spans whose turn it is: {spans:?}");
        assert!(count == 1 || bytes <= self.config.batch_bytes, "batch of {bytes} bytes");
        assert!(!is_own || self.config.batch_spans.is_none_or(|most| count <= most.max(1)), "batch of {count} spans");
        assert!(run.now >= self.pause_until, "sent in a pause until {}", self.pause_until);
        assert!(count <= self.closed, "sent before the batch was full, old enough or flushed");
        if let Some(again) = self.again {
            assert_eq!(count, again.spans, "another batch than the one that failed");
        }
        self.waiting.drain(..count);
        self.closed -= count;
        for span in &spans {
            self.spans[*span as usize].fate = Fate::InFlight;
        }
        let first_attempt = self.again.map_or(run.now, |again| again.first_attempt);
        self.again = Some(Again { spans: count, first_attempt });
        self.in_flight.clone_from(&spans);
        let origins = spans.iter().map(|span| self.spans[*span as usize].origin);
        (self.spans[spans[0] as usize].origin.0, origins.map(|(_, number)| number).collect())
    }

    fn is_foreign(&self, index: u32) -> bool {
        self.spans[index as usize].origin.0 != self.name
    }

    /// A batch was dropped in a pause.
    pub(crate) fn gave_up(&mut self, run: &mut Run, dropped: u64, spooled: u64) {
        let spans = (dropped + spooled) as usize;
        assert!(run.now < self.pause_until, "given up though it could be sent");
        assert!(run.now >= self.head_since.saturating_add(self.config.give_up_ns), "given up early");
        assert!(self.again.is_none_or(|again| spans == again.spans), "another batch than the one that failed");
        assert!(spans != 0 && spans <= self.closed, "given up: {spans} of {}", self.closed);
        run.count(Event::GaveUpWaiting);
        if self.waiting.front().is_some_and(|index| self.is_foreign(*index)) {
            self.no_recovery.2 = true;
        }
        assert_eq!(self.drop_waiting(run, spans, Reason::GaveUp), (dropped, spooled), "given up");
    }

    /// An answer came, or none, and the queue has decided.
    pub(crate) fn answered(&mut self, run: &mut Run, network: &Network, reply: Reply, outcome: Outcome) {
        let spans = std::mem::take(&mut self.in_flight);
        let count = spans.len() as u64;
        let again = self.again.take().expect("a batch is on its way");
        let is_foreign = self.is_foreign(spans[0]);
        let lose_or_leave = |this: &mut Self, run: &mut Run, reason, stays| {
            this.head_since = run.now;
            if is_foreign && stays {
                this.no_recovery.2 = reason == Reason::GaveUp;
            }
            this.lose(run, &spans, reason, stays)
        };
        let lose_in_flight =
            |this: &mut Self, run: &mut Run, reason| lose_or_leave(this, run, reason, is_temporary(reason));
        let outcome_of = |reason, (dropped, spooled)| match spooled {
            0 => Outcome::Dropped(reason, dropped),
            _ => Outcome::Spooled(reason, spooled, dropped),
        };
        let (connected, after) = match reply {
            Reply::Status { status: 200..=299, rejected, .. } => {
                assert_eq!(outcome, Outcome::Delivered);
                self.recovered();
                if std::mem::take(&mut self.no_recovery.2) {
                    self.no_recovery.0 = 0;
                }
                let rejected = rejected.min(count);
                self.sent += count - rejected;
                self.rejected += rejected;
                run.counts.add(Event::Delivered, count - rejected);
                run.counts.add(Event::Rejected, rejected);
                let fate = if rejected == 0 { Fate::Delivered } else { Fate::PerhapsRejected };
                for span in &spans {
                    self.settle(*span, fate);
                    let (queue, number) = self.spans[*span as usize].origin;
                    assert!(rejected != 0 || network.has(queue, number).0, "delivered to nobody: {span}");
                }
                self.head_since = run.now;
                return;
            }
            Reply::Status { status: 429 | 502..=504, after_ns, .. } => {
                self.obey = true;
                (true, after_ns)
            }
            Reply::Silence { connected } => {
                self.obey = false;
                (connected, None)
            }
            Reply::Status { status: 413, .. } | Reply::TooLargeToSend => {
                assert_eq!(outcome, Outcome::Dropped(Reason::TooLarge, count));
                self.recovered();
                lose_in_flight(self, run, Reason::TooLarge);
                return;
            }
            Reply::Status { .. } | Reply::Broken => {
                self.recovered();
                // What comes from another process is not lost by a wrong key.
                let stays = is_foreign && !matches!(reply, Reply::Status { status: 400, .. });
                let lost = lose_or_leave(self, run, Reason::Refused, stays);
                assert_eq!(outcome, outcome_of(Reason::Refused, lost));
                return;
            }
        };
        self.failures += 1;
        if self.close == Close::Last || (self.close == Close::Closing && !connected) {
            let first = lose_in_flight(self, run, Reason::Shutdown);
            self.closed(Close::Last);
            let rest = self.drop_waiting(run, self.waiting.len(), Reason::Shutdown);
            assert_eq!(outcome, outcome_of(Reason::Shutdown, (first.0 + rest.0, first.1 + rest.1)));
            return;
        }
        match outcome {
            Outcome::Kept(until) => {
                assert!(run.now < again.first_attempt.saturating_add(self.config.give_up_ns), "tried for too long");
                self.check_pause(run, after, until);
                run.count(Event::Kept);
                self.retried += 1;
                self.pause_until = until;
                self.again = Some(again);
                self.closed += spans.len();
                for span in spans.iter().rev() {
                    self.spans[*span as usize].fate = Fate::Waiting;
                    self.waiting.push_front(*span);
                }
            }
            Outcome::Dropped(Reason::GaveUp, _) | Outcome::Spooled(Reason::GaveUp, ..) => {
                assert!(run.now >= self.head_since.saturating_add(self.config.give_up_ns), "given up early");
                run.count(Event::GaveUpAnswered);
                let lost = lose_in_flight(self, run, Reason::GaveUp);
                assert_eq!(outcome, outcome_of(Reason::GaveUp, lost));
            }
            other => panic!("{other:?} after {reply:?}"),
        }
    }

    /// The pause is what the destination asked for, or doubles with each failure in a row and is at most half random.
    fn check_pause(&self, run: &Run, after: Option<u64>, until: u64) {
        let pause = until - run.now;
        if let Some(after) = after {
            assert_eq!(until, run.now.saturating_add(after.max(self.config.backoff_ns / 2)), "Retry-After: {after}");
            return;
        }
        let doubled = 1_u64 << (self.failures - 1).min(32);
        let most = self.config.backoff_ns.saturating_mul(doubled).min(self.config.backoff_most_ns);
        assert!((most / 2..=most).contains(&pause), "pause {pause} after failure {}, not {most}", self.failures);
    }
}

//! The invariants: what a queue has to do, written down a second time, from outside and per span.
//!
//! A ledger is told everything that is asked of a queue and everything it answers. It knows each span by name, where the
//! queue knows numbers of bytes, and so sees whether every span is in one place, in order, and settled once.

mod recovery;

use std::collections::{BTreeMap, VecDeque};

use tracebaton::delivery::{Batch, Config, Delivery, Outcome, Pushed, Reason};

use crate::network::{Network, Reply};
use crate::run::{Event, Run};
use crate::spans::decode;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Fate {
    Waiting,
    InFlight,
    Delivered,
    /// It was in a batch of which the destination rejected some.
    PerhapsRejected,
    Dropped(Reason),
    /// It left the queue undelivered, and stays in its spool.
    Spooled,
}

#[derive(Debug)]
struct Span {
    /// The queue that it was first pushed to, and its number there.
    origin: (u32, u32),
    /// Whether it is in a spool, until it is settled.
    spooled: bool,
    ended: u64,
    bytes: usize,
    scope: usize,
    fate: Fate,
    /// The end of the flush that was the first to answer for the loss of this span.
    reported: Option<u64>,
}

/// The batch at the head of the queue that has been sent before.
#[derive(Clone, Copy, Debug)]
struct Again {
    spans: usize,
    first_attempt: u64,
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) enum Close {
    Open,
    Closing,
    Last,
}

/// A flush under way.
#[derive(Debug)]
pub(crate) struct Watch {
    /// The spans that ended before it.
    upto: usize,
    /// The flushes that had ended before it.
    begun: u64,
}

pub(crate) struct Ledger {
    pub(crate) name: u32,
    config: Config,
    resource: Vec<u8>,
    scopes: Vec<Vec<u8>>,
    spans: Vec<Span>,
    /// Numbers of spans that began.
    numbers: u32,
    /// Where the spans are in `spans`, by number, and those of the batch that came from another process.
    own: BTreeMap<u32, u32>,
    foreign: BTreeMap<u32, u32>,
    has_spool: bool,
    /// The spans that wait, in the order in which they ended.
    waiting: VecDeque<u32>,
    in_flight: Vec<u32>,
    /// Bytes that wait or are on their way.
    bytes: usize,
    /// So many of `waiting` are in closed batches; the rest is the open batch, with so many bytes.
    closed: usize,
    open_bytes: usize,
    again: Option<Again>,
    /// Since when the head of the queue is the head.
    head_since: u64,
    /// No request before this time, and whether the destination asked for that.
    pause_until: u64,
    obey: bool,
    failures: u32,
    pub(crate) close: Close,
    flush_ends: u64,
    sent: u64,
    rejected: u64,
    retried: u64,
    dropped: [u64; Reason::ALL.len()],
    spooled: u64,
    pub(crate) unspooled: u64,
    recovered: u64,
    /// Bytes and spans of the batch from another process, while it is queued.
    foreign_room: (usize, usize),
}

/// Whether a spool keeps what the queue lets go for this reason.
fn is_temporary(reason: Reason) -> bool {
    matches!(reason, Reason::QueueFull | Reason::GaveUp | Reason::Shutdown)
}

fn event(reason: Reason) -> Event {
    match reason {
        Reason::QueueFull => Event::QueueFull,
        Reason::Refused => Event::Refused,
        Reason::GaveUp => Event::GaveUp,
        Reason::TooLarge => Event::TooLarge,
        Reason::Shutdown => Event::Shutdown,
        Reason::Forked => Event::Forked,
        other => panic!("no event for {other:?}"),
    }
}

impl Ledger {
    pub(crate) fn new(name: u32, config: Config, resource: &[u8], scopes: &[&[u8]], has_spool: bool) -> Self {
        Self {
            name,
            config,
            resource: resource.to_vec(),
            scopes: scopes.iter().map(|scope| scope.to_vec()).collect(),
            spans: Vec::new(),
            numbers: 0,
            own: BTreeMap::new(),
            foreign: BTreeMap::new(),
            has_spool,
            waiting: VecDeque::new(),
            in_flight: Vec::new(),
            bytes: 0,
            closed: 0,
            open_bytes: 0,
            again: None,
            head_since: 0,
            pause_until: 0,
            obey: false,
            failures: 0,
            close: Close::Open,
            flush_ends: 0,
            sent: 0,
            rejected: 0,
            retried: 0,
            dropped: [0; Reason::ALL.len()],
            spooled: 0,
            unspooled: 0,
            recovered: 0,
            foreign_room: (0, 0),
        }
    }

    /// The number of a new span.
    pub(crate) fn number(&mut self) -> u32 {
        self.numbers += 1;
        self.numbers
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.waiting.is_empty() && self.in_flight.is_empty()
    }

    pub(crate) fn is_sending(&self) -> bool {
        !self.in_flight.is_empty()
    }

    /// Where a span that ends now has to go.
    fn place(&self, bytes: usize) -> Pushed {
        let room = self.config.queue_bytes.saturating_sub(self.bytes);
        let places = self.config.queue_spans.map(|most| most.saturating_sub(self.waiting.len() + self.in_flight.len()));
        if self.close != Close::Open {
            Pushed::Dropped(Reason::Shutdown)
        } else if room == 0 || places == Some(0) {
            // A full queue does not look at the span.
            Pushed::Dropped(Reason::QueueFull)
        } else if bytes == 0 {
            Pushed::Nothing
        } else if bytes > self.config.request_bytes {
            Pushed::Dropped(Reason::TooLarge)
        } else if bytes > room {
            Pushed::Dropped(Reason::QueueFull)
        } else {
            Pushed::Queued { wake: false }
        }
    }

    pub(crate) fn pushed(
        &mut self,
        run: &mut Run,
        number: u32,
        scope: usize,
        bytes: usize,
        pushed: Pushed,
        delivery: &Delivery,
    ) {
        // Whether to wake is not prescribed: what matters is that nobody sleeps who has something to do.
        let kind = if let Pushed::Queued { .. } = pushed { Pushed::Queued { wake: false } } else { pushed };
        let expected = match (self.place(bytes), kind) {
            // A spool may keep it, but is bounded.
            (Pushed::Dropped(reason), _) if self.has_spool && is_temporary(reason) && bytes == 0 => Pushed::Nothing,
            (Pushed::Dropped(reason), Pushed::Spooled(_)) if self.has_spool && is_temporary(reason) => {
                assert!(bytes <= self.config.request_bytes, "spooled, but too large");
                Pushed::Spooled(reason)
            }
            (expected, _) => expected,
        };
        assert_eq!(kind, expected, "a span of {bytes} bytes; {} of {:?}", self.bytes, self.config);
        let unspooled = std::mem::replace(&mut self.unspooled, delivery.stats().unspooled) != self.unspooled;
        assert!(!unspooled || self.has_spool);
        let mut span = Span {
            origin: (self.name, number),
            spooled: self.has_spool && !unspooled,
            ended: run.now,
            bytes,
            scope,
            fate: Fate::Waiting,
            reported: None,
        };
        run.counts.add(Event::Unspooled, u64::from(unspooled));
        match pushed {
            Pushed::Nothing => return run.count(Event::Nothing),
            Pushed::Dropped(reason) => {
                span.fate = Fate::Dropped(reason);
                span.spooled = false;
                self.count_drop(run, reason, 1);
            }
            Pushed::Spooled(_) => {
                span.fate = Fate::Spooled;
                self.spooled += 1;
                run.count(Event::SpooledAtPush);
            }
            Pushed::Queued { .. } => {
                if self.is_empty() {
                    self.head_since = run.now;
                }
                if self.open_bytes != 0 && self.open_bytes + bytes > self.config.batch_bytes {
                    self.close_open();
                }
                self.waiting.push_back(self.spans.len() as u32);
                self.bytes += bytes;
                self.open_bytes += bytes;
                let spans = self.waiting.len() - self.closed;
                if self.open_bytes >= self.config.batch_bytes
                    || self.config.batch_spans.is_some_and(|most| spans >= most)
                {
                    self.close_open();
                }
            }
        }
        run.count(Event::Ended);
        self.own.insert(number, self.spans.len() as u32);
        self.spans.push(span);
    }

    /// A span ended in another process than it began in.
    pub(crate) fn forked(&mut self, run: &mut Run) {
        run.count(Event::Ended);
        self.count_drop(run, Reason::Forked, 1);
    }

    fn count_drop(&mut self, run: &mut Run, reason: Reason, spans: u64) {
        run.counts.add(event(reason), spans);
        self.dropped[reason as usize] += spans;
    }

    fn close_open(&mut self) {
        self.closed = self.waiting.len();
        self.open_bytes = 0;
    }

    /// A flush or a close ends a pause, unless the destination asked for it.
    fn hurry(&mut self) {
        self.close_open();
        if !self.obey {
            self.recovered();
        }
    }

    fn recovered(&mut self) {
        self.failures = 0;
        self.pause_until = 0;
        self.obey = false;
    }

    pub(crate) fn closed(&mut self, close: Close) {
        self.hurry();
        self.close = self.close.max(close);
    }

    /// What waits was dropped, at the end of a shutdown.
    pub(crate) fn abandoned(&mut self, run: &mut Run, spans: u64) {
        self.closed(Close::Last);
        let lost = self.drop_waiting(run, self.waiting.len(), Reason::Shutdown);
        assert_eq!(spans, lost.0, "abandoned spans");
    }

    fn drop_waiting(&mut self, run: &mut Run, spans: usize, reason: Reason) -> (u64, u64) {
        let lost = self.waiting.drain(..spans).collect::<Vec<_>>();
        let lost = self.lose(run, &lost, reason);
        self.closed = self.closed.saturating_sub(spans);
        if self.in_flight.is_empty() {
            self.again = None;
            self.head_since = run.now;
        }
        lost
    }

    /// Spans leave the queue undelivered: how many are dropped, and how many stay in a spool.
    fn lose(&mut self, run: &mut Run, spans: &[u32], reason: Reason) -> (u64, u64) {
        let (mut dropped, mut spooled) = (0, 0);
        for index in spans {
            if self.spans[*index as usize].spooled && is_temporary(reason) {
                spooled += 1;
                self.settle(*index, Fate::Spooled);
            } else {
                dropped += 1;
                self.settle(*index, Fate::Dropped(reason));
            }
        }
        self.count_drop(run, reason, dropped);
        run.counts.add(Event::Spooled, spooled);
        self.spooled += spooled;
        (dropped, spooled)
    }

    fn settle(&mut self, span: u32, fate: Fate) {
        let span = &mut self.spans[span as usize];
        assert!(matches!(span.fate, Fate::Waiting | Fate::InFlight), "settled twice: {span:?}");
        span.fate = fate;
        self.bytes -= span.bytes;
        if span.origin.0 != self.name {
            self.foreign_room.0 -= span.bytes;
            self.foreign_room.1 -= 1;
        }
    }

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
        assert_eq!(self.drop_waiting(run, spans, Reason::GaveUp), (dropped, spooled), "given up");
    }

    /// An answer came, or none, and the queue has decided.
    pub(crate) fn answered(&mut self, run: &mut Run, network: &Network, reply: Reply, outcome: Outcome) {
        let spans = std::mem::take(&mut self.in_flight);
        let count = spans.len() as u64;
        let again = self.again.take().expect("a batch is on its way");
        let lose_in_flight = |this: &mut Self, run: &mut Run, reason| {
            this.head_since = run.now;
            this.lose(run, &spans, reason)
        };
        let outcome_of = |reason, (dropped, spooled)| match spooled {
            0 => Outcome::Dropped(reason, dropped),
            _ => Outcome::Spooled(reason, spooled, dropped),
        };
        let (connected, after) = match reply {
            Reply::Status { status: 200..=299, rejected, .. } => {
                assert_eq!(outcome, Outcome::Delivered);
                self.recovered();
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
                assert_eq!(outcome, Outcome::Dropped(Reason::Refused, count));
                self.recovered();
                lose_in_flight(self, run, Reason::Refused);
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
            if matches!(span.fate, Fate::PerhapsRejected | Fate::Dropped(_) | Fate::Spooled) {
                span.reported.get_or_insert(self.flush_ends);
            }
        }
    }

    /// After every step: the queue's numbers are those of the ledger, and within their bounds.
    pub(crate) fn check(&self, delivery: &Delivery) {
        let stats = delivery.stats();
        let queued = (self.waiting.len() + self.in_flight.len()) as u64;
        assert_eq!((stats.queued, stats.queued_bytes), (queued, self.bytes as u64), "queued");
        let (bytes, spans) = (self.bytes - self.foreign_room.0, queued as usize - self.foreign_room.1);
        assert!(bytes <= self.config.queue_bytes, "{bytes} bytes in a queue of {:?}", self.config);
        assert!(self.config.queue_spans.is_none_or(|most| spans <= most), "{queued} spans");
        assert_eq!(
            (stats.spooled, stats.unspooled, stats.recovered),
            (self.spooled, self.unspooled, self.recovered),
            "spooled, unspooled, recovered"
        );
        assert_eq!(
            (stats.sent, stats.rejected, stats.retried),
            (self.sent, self.rejected, self.retried),
            "sent, rejected, retried"
        );
        for (reason, count) in stats.dropped.iter() {
            assert_eq!(count, self.dropped[reason as usize], "dropped: {reason:?}");
        }
        assert_eq!(delivery.is_empty(), self.is_empty(), "is_empty");
        assert_eq!(delivery.is_finished(), self.close != Close::Open && self.is_empty(), "is_finished");
    }

    /// At the end of a process: every span that ended is delivered or counted as dropped.
    pub(crate) fn finish(&self, network: &Network) {
        assert!(self.is_empty(), "left in queue {}: {:?}, {:?}", self.name, self.waiting, self.in_flight);
        let ended = self.spans.len() as u64 + self.dropped[Reason::Forked as usize];
        assert_eq!(
            ended,
            self.sent + self.rejected + self.spooled + self.dropped.iter().sum::<u64>(),
            "ended, and accounted for"
        );
        self.check_receipts(network);
    }

    /// The process died: what it had queued and not spooled is lost, and nothing else.
    pub(crate) fn died(&self, run: &mut Run, network: &Network) {
        let queued = self.waiting.iter().chain(&self.in_flight);
        run.counts.add(Event::Died, queued.filter(|index| !self.spans[**index as usize].spooled).count() as u64);
        self.check_receipts(network);
    }

    /// What the destination has and what the queue says that it has are the same, but for answers that were lost.
    fn check_receipts(&self, network: &Network) {
        for span in &self.spans {
            let (queue, number) = span.origin;
            let (received, said_so) = network.has(queue, number);
            match span.fate {
                Fate::Delivered => assert!(received, "delivered to nobody: {number}"),
                Fate::Dropped(_) => assert!(!received || !said_so, "counted as dropped, but delivered: {number}"),
                // Its request may be on its way.
                Fate::PerhapsRejected | Fate::Waiting | Fate::InFlight | Fate::Spooled => {}
            }
        }
    }
}

//! The invariants: what a queue has to do, written down a second time, from outside and per span.
//!
//! A ledger is told everything that is asked of a queue and everything it answers. It knows each span by name, where the
//! queue knows numbers of bytes, and so sees whether every span is in one place, in order, and settled once.

use std::collections::VecDeque;

use tracebaton::delivery::{Batch, Config, Delivery, Outcome, Pushed, Reason};

use crate::network::{Network, Reply};
use crate::run::{Event, Run};

/// The tag and the length of an entry, at least, and the number in it.
pub(crate) const SPAN_BYTES: usize = 10;

/// Appends the entry of a span: tag, length, a message that begins with the span's number.
pub(crate) fn encode(span: u32, size: usize, out: &mut Vec<u8>) {
    let message = size.max(SPAN_BYTES) - 2;
    out.push(0x12);
    let mut rest = message;
    while rest >= 0x80 {
        out.push(rest as u8 | 0x80);
        rest >>= 7;
    }
    out.push(rest as u8);
    out.extend_from_slice(&u64::from(span).to_le_bytes());
    out.resize(out.len() + message - 8, span as u8);
}

/// The numbers of the spans in a run, each of which must be as it was pushed.
fn decode(mut bytes: &[u8]) -> Vec<u32> {
    let mut spans = Vec::new();
    while let [0x12, rest @ ..] = bytes {
        let digits = rest.iter().position(|byte| *byte < 0x80).expect("a length has an end") + 1;
        let size = rest[..digits].iter().rev().fold(0, |size, byte| size << 7 | usize::from(byte & 0x7f));
        let (message, after) = rest[digits..].split_at(size);
        let (number, filler) = message.split_at(8);
        let span = u64::from_le_bytes(number.try_into().expect("8 bytes")) as u32;
        assert!(filler.iter().all(|byte| *byte == span as u8), "span {span} has foreign bytes");
        spans.push(span);
        bytes = after;
    }
    assert!(bytes.is_empty(), "a run ends within a span");
    spans
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Fate {
    Waiting,
    InFlight,
    Delivered,
    /// It was in a batch of which the destination rejected some.
    PerhapsRejected,
    Dropped(Reason),
}

#[derive(Debug)]
struct Span {
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
    pub(crate) fn new(name: u32, config: Config, resource: &[u8], scopes: &[&[u8]]) -> Self {
        Self {
            name,
            config,
            resource: resource.to_vec(),
            scopes: scopes.iter().map(|scope| scope.to_vec()).collect(),
            spans: Vec::new(),
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
        }
    }

    /// The number of the next span.
    pub(crate) fn next(&self) -> u32 {
        self.spans.len() as u32
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

    pub(crate) fn pushed(&mut self, run: &mut Run, scope: usize, bytes: usize, pushed: Pushed) {
        // Whether to wake is not prescribed: what matters is that nobody sleeps who has something to do.
        let kind = if let Pushed::Queued { .. } = pushed { Pushed::Queued { wake: false } } else { pushed };
        assert_eq!(kind, self.place(bytes), "a span of {bytes} bytes; {} of {:?}", self.bytes, self.config);
        let mut span = Span { ended: run.now, bytes, scope, fate: Fate::Waiting, reported: None };
        match pushed {
            Pushed::Nothing => return run.count(Event::Nothing),
            Pushed::Dropped(reason) => {
                span.fate = Fate::Dropped(reason);
                self.count_drop(run, reason, 1);
            }
            Pushed::Queued { .. } => {
                if self.is_empty() {
                    self.head_since = run.now;
                }
                if self.open_bytes != 0 && self.open_bytes + bytes > self.config.batch_bytes {
                    self.close_open();
                }
                self.waiting.push_back(self.next());
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
        assert_eq!(spans, self.waiting.len() as u64, "abandoned spans");
        self.drop_waiting(run, self.waiting.len(), Reason::Shutdown);
    }

    fn drop_waiting(&mut self, run: &mut Run, spans: usize, reason: Reason) {
        for span in self.waiting.drain(..spans).collect::<Vec<_>>() {
            self.settle(span, Fate::Dropped(reason));
        }
        self.closed = self.closed.saturating_sub(spans);
        if self.in_flight.is_empty() {
            self.again = None;
            self.head_since = run.now;
        }
        self.count_drop(run, reason, spans as u64);
    }

    fn settle(&mut self, span: u32, fate: Fate) {
        let span = &mut self.spans[span as usize];
        assert!(matches!(span.fate, Fate::Waiting | Fate::InFlight), "settled twice: {span:?}");
        span.fate = fate;
        self.bytes -= span.bytes;
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

    /// A batch is sent: the numbers of its spans.
    pub(crate) fn sending(&mut self, run: &mut Run, batch: &Batch) -> Vec<u32> {
        assert!(self.in_flight.is_empty(), "two batches on their way");
        assert_eq!(batch.resource(), self.resource, "resource");
        let mut spans = Vec::new();
        let mut bytes = 0;
        for part in batch.runs() {
            let found = decode(part.spans());
            assert!(found.is_sorted(), "out of order: {found:?}");
            for span in &found {
                let known = self.spans.get(*span as usize).unwrap_or_else(|| panic!("span {span} never ended here"));
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
        assert!(self.config.batch_spans.is_none_or(|most| count <= most.max(1)), "batch of {count} spans");
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
        spans
    }

    /// A batch was dropped in a pause.
    pub(crate) fn gave_up(&mut self, run: &mut Run, spans: u64) {
        let spans = spans as usize;
        assert!(run.now < self.pause_until, "given up though it could be sent");
        assert!(run.now >= self.head_since.saturating_add(self.config.give_up_ns), "given up early");
        assert!(self.again.is_none_or(|again| spans == again.spans), "another batch than the one that failed");
        assert!(spans != 0 && spans <= self.closed, "given up: {spans} of {}", self.closed);
        run.count(Event::GaveUpWaiting);
        self.drop_waiting(run, spans, Reason::GaveUp);
    }

    /// An answer came, or none, and the queue has decided.
    pub(crate) fn answered(&mut self, run: &mut Run, network: &Network, reply: Reply, outcome: Outcome) {
        let spans = std::mem::take(&mut self.in_flight);
        let count = spans.len() as u64;
        let again = self.again.take().expect("a batch is on its way");
        let drop_in_flight = |this: &mut Self, run: &mut Run, reason| {
            spans.iter().for_each(|span| this.settle(*span, Fate::Dropped(reason)));
            this.count_drop(run, reason, count);
            this.head_since = run.now;
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
                    assert!(rejected != 0 || network.has(self.name, *span).0, "delivered to nobody: {span}");
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
                return drop_in_flight(self, run, Reason::TooLarge);
            }
            Reply::Status { .. } | Reply::Broken => {
                assert_eq!(outcome, Outcome::Dropped(Reason::Refused, count));
                self.recovered();
                return drop_in_flight(self, run, Reason::Refused);
            }
        };
        self.failures += 1;
        if self.close == Close::Last || (self.close == Close::Closing && !connected) {
            let all = count + self.waiting.len() as u64;
            assert_eq!(outcome, Outcome::Dropped(Reason::Shutdown, all));
            drop_in_flight(self, run, Reason::Shutdown);
            return self.abandoned(run, all - count);
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
            Outcome::Dropped(Reason::GaveUp, dropped) => {
                assert_eq!(dropped, count);
                assert!(run.now >= self.head_since.saturating_add(self.config.give_up_ns), "given up early");
                run.count(Event::GaveUpAnswered);
                drop_in_flight(self, run, Reason::GaveUp);
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
    pub(crate) fn truth(&self, watch: &Watch) -> Option<bool> {
        let before = &self.spans[..watch.upto];
        if before.iter().any(|span| matches!(span.fate, Fate::Waiting | Fate::InFlight)) {
            return None;
        }
        let lost = |span: &Span| span.fate != Fate::Delivered && span.reported.is_none_or(|end| end > watch.begun);
        Some(!before.iter().any(lost))
    }

    pub(crate) fn flush_end(&mut self, watch: &Watch, delivered: bool) {
        let truth = self.truth(watch);
        assert_eq!(delivered, truth == Some(true), "a flush said {delivered}, the truth is {truth:?}");
        self.flush_ends += 1;
        for span in &mut self.spans[..watch.upto] {
            if matches!(span.fate, Fate::PerhapsRejected | Fate::Dropped(_)) {
                span.reported.get_or_insert(self.flush_ends);
            }
        }
    }

    /// After every step: the queue's numbers are those of the ledger, and within their bounds.
    pub(crate) fn check(&self, delivery: &Delivery) {
        let stats = delivery.stats();
        let queued = (self.waiting.len() + self.in_flight.len()) as u64;
        assert_eq!((stats.queued, stats.queued_bytes), (queued, self.bytes as u64), "queued");
        assert!(self.bytes <= self.config.queue_bytes, "{} bytes in a queue of {:?}", self.bytes, self.config);
        assert!(self.config.queue_spans.is_none_or(|most| queued <= most as u64), "{queued} spans");
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
        assert_eq!(ended, self.sent + self.rejected + self.dropped.iter().sum::<u64>(), "ended, and accounted for");
        self.check_receipts(network);
    }

    /// The process died: what it had queued is lost, and nothing else.
    pub(crate) fn died(&self, run: &mut Run, network: &Network) {
        run.counts.add(Event::Died, (self.waiting.len() + self.in_flight.len()) as u64);
        self.check_receipts(network);
    }

    /// What the destination has and what the queue says that it has are the same, but for answers that were lost.
    fn check_receipts(&self, network: &Network) {
        for (number, span) in (0..).zip(&self.spans) {
            let (received, said_so) = network.has(self.name, number);
            match span.fate {
                Fate::Delivered => assert!(received, "delivered to nobody: {number}"),
                Fate::Dropped(_) => assert!(!received || !said_so, "counted as dropped, but delivered: {number}"),
                // Its request may be on its way.
                Fate::PerhapsRejected | Fate::Waiting | Fate::InFlight => {}
            }
        }
    }
}

//! The invariants: what a queue has to do, written down a second time, from outside and per span.
//!
//! A ledger is told everything that is asked of a queue and everything it answers. It knows each span by name, where the
//! queue knows numbers of bytes, and so sees whether every span is in one place, in order, and settled once.

mod flush;
mod recovery;
mod requests;

use std::collections::{BTreeMap, VecDeque};

use tracebaton::delivery::{Config, Delivery, Pushed, Reason};

use crate::network::Network;
use crate::run::{Event, Run};
pub(crate) use flush::Watch;

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
    /// It was given back to the queue, where it is another one.
    Requeued,
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
    /// Its place among the spans in the order in which they ended first.
    order: u32,
    /// It came into the queue past its bounds.
    beside: bool,
    /// The end of the flush that was the first to answer for the loss of this span.
    reported: Option<u64>,
}

impl Span {
    /// Whether it has to be in the spool of this queue.
    fn is_in_spool(&self, queue: u32) -> bool {
        self.origin.0 == queue && matches!(self.fate, Fate::Waiting | Fate::InFlight | Fate::Spooled)
    }
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
    requeued: u64,
    /// Spans that came here: pushed, lost before that, or recovered.
    ended: u64,
    /// Recovered spans that had to stay where they were, and come again.
    left: u64,
    /// No spans are recovered before this time; the last pause, and whether an answer ends it.
    no_recovery: (u64, u64, bool),
    /// Bytes and spans of the batch that came into the queue past its bounds, while it is queued.
    room_beside: (usize, usize),
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
            requeued: 0,
            ended: 0,
            left: 0,
            no_recovery: (0, 0, false),
            room_beside: (0, 0),
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
            order: self.spans.len() as u32,
            beside: false,
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
        self.ended += 1;
        self.own.insert(number, self.spans.len() as u32);
        self.spans.push(span);
    }

    /// A span ended in another process than it began in.
    pub(crate) fn forked(&mut self, run: &mut Run) {
        run.count(Event::Ended);
        self.ended += 1;
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
        let lost = self.lose(run, &lost, reason, is_temporary(reason));
        self.closed = self.closed.saturating_sub(spans);
        if self.in_flight.is_empty() {
            self.again = None;
            self.head_since = run.now;
        }
        lost
    }

    /// Spans leave the queue undelivered: how many are dropped, and how many stay in a spool.
    fn lose(&mut self, run: &mut Run, spans: &[u32], reason: Reason, stays: bool) -> (u64, u64) {
        let (mut dropped, mut spooled) = (0, 0);
        for index in spans {
            if self.spans[*index as usize].spooled && stays {
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
        if span.beside {
            self.room_beside.0 -= span.bytes;
            self.room_beside.1 -= 1;
        }
    }

    /// After every step: the queue's numbers are those of the ledger, and within their bounds.
    pub(crate) fn check(&self, delivery: &Delivery) {
        let stats = delivery.stats();
        let queued = (self.waiting.len() + self.in_flight.len()) as u64;
        assert_eq!((stats.queued, stats.queued_bytes), (queued, self.bytes as u64), "queued");
        let (bytes, spans) = (self.bytes - self.room_beside.0, queued as usize - self.room_beside.1);
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
        let settled = stats.sent + stats.rejected + stats.spooled + stats.dropped.total();
        assert_eq!(settled + stats.queued, self.ended, "delivered, queued, spooled or dropped: {stats:?}");
        if let Some(spool) = delivery.spool() {
            let kept = self.spans.iter().filter(|span| span.spooled && span.is_in_spool(self.name)).count();
            assert_eq!(spool.ended(), kept as u64, "spans in the spool");
        }
        assert_eq!(delivery.is_empty(), self.is_empty(), "is_empty");
        assert_eq!(delivery.is_finished(), self.close != Close::Open && self.is_empty(), "is_finished");
    }

    /// At the end of a process: every span that ended is delivered or counted as dropped.
    pub(crate) fn finish(&self, network: &Network) {
        assert!(self.is_empty(), "left in queue {}: {:?}, {:?}", self.name, self.waiting, self.in_flight);
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
                Fate::PerhapsRejected | Fate::Waiting | Fate::InFlight | Fate::Spooled | Fate::Requeued => {}
            }
        }
    }
}

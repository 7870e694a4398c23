//! Delivery of one tracer's spans to one destination, as a state machine without I/O, clock or threads.
//!
//! Ended spans are [pushed](Delivery::push) into the open batch. Whoever does the I/O [polls](Delivery::poll): a batch
//! becomes due by its size, by time, or because a [flush](Delivery::flush) was asked for; it is sent, and what came of
//! it is told by [`answered`](Delivery::answered), which decides whether it is delivered, kept to be sent again, or
//! dropped. Nothing is dropped without being counted, by [`Reason`].
//!
//! With a [spool](Delivery::set_spool), a span is there, too, from the moment in which it is pushed to that in which it
//! is delivered or dropped for good. What the queue has to let go of stays there, for the next start.
//!
//! Times are nanoseconds of one monotonic clock of the caller.

mod batch;
mod flush;
mod grouping;
mod recovering;
mod spooled;
mod stats;
#[cfg(test)]
#[allow(clippy::arithmetic_side_effects, reason = "in a test an overflow is a panic")]
mod tests;

use alloc::borrow::Cow;
use alloc::collections::VecDeque;
use alloc::format;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::mem;

pub use batch::{Batch, Run, Scope};
use flush::Flushes;
pub use flush::Ticket;
pub use grouping::HOLD_NS;
use grouping::Held;
pub use stats::{Drops, Reason, Stats};

use crate::spool::Spool;
use recovering::Recovering;
use spooled::Lost;

const SECOND: u64 = 1_000_000_000;
const MIB: usize = 1024 * 1024;

/// Bounds and times of a [`Delivery`].
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Config {
    /// The bytes of spans that may wait or be on their way; a span that does not fit is dropped.
    pub queue_bytes: usize,
    /// The spans that may wait or be on their way, if that is bounded too.
    pub queue_spans: Option<usize>,
    /// The bytes of spans in one batch. Only a single span that is larger makes a larger batch.
    pub batch_bytes: usize,
    /// The spans in one batch, if that is bounded too.
    pub batch_spans: Option<usize>,
    /// How long, in ns, a span waits for others to travel with it; 0 sends every span at once.
    pub delay_ns: u64,
    /// How long, in ns, spans are held back beyond that for the rest of their local trace, so that the trace travels in
    /// one request; 0 for a backend that does not care ([`HOLD_NS`] for one that does).
    pub hold_ns: u64,
    /// How long, in ns, a batch is tried before it is dropped.
    pub give_up_ns: u64,
    /// The first pause before a batch is sent again, in ns; it doubles with every failure.
    pub backoff_ns: u64,
    /// The longest such pause, in ns.
    pub backoff_most_ns: u64,
    /// The bytes of the largest span that is sent (OTLP/HTTP recommends 64 MiB for a request).
    pub request_bytes: usize,
    /// How long, in ns, until the spools of other processes are looked for again. After spans from there could not be
    /// delivered, that doubles with every failure, up to [`RESCANS`](Self::RESCANS) times as long.
    pub rescan_ns: u64,
    /// The scope of what a flush does not answer for, if there is one: its loss is counted, but what it says is said by
    /// something else, too.
    pub expendable: Option<Scope>,
}

impl Config {
    /// The longest pause between two attempts to deliver what other processes have left, counted in
    /// [`rescan_ns`](Self::rescan_ns): with the usual one about an hour.
    pub const RESCANS: u64 = 128;
}

impl Default for Config {
    fn default() -> Self {
        Self {
            queue_bytes: 32 * MIB,
            queue_spans: None,
            batch_bytes: 4 * MIB,
            batch_spans: None,
            delay_ns: SECOND,
            hold_ns: 0,
            give_up_ns: 300 * SECOND,
            backoff_ns: SECOND,
            backoff_most_ns: 30 * SECOND,
            request_bytes: 64 * MIB,
            rescan_ns: 30 * SECOND,
            expendable: None,
        }
    }
}

/// What became of a span that was pushed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Pushed {
    /// It is in a batch. `wake` says that the next [`poll`](Delivery::poll) can answer otherwise than the last one:
    /// whoever does the I/O has to look again.
    Queued {
        /// Whether to poll now.
        wake: bool,
    },
    /// It was dropped, and counted.
    Dropped(Reason),
    /// For this reason the queue does not take it; but it is in the spool, and the next start delivers it.
    Spooled(Reason),
    /// Nothing was appended, so there is no span.
    Nothing,
}

/// What is to be done next.
#[derive(Debug)]
pub enum Next {
    /// Send this batch and tell [`answered`](Delivery::answered) what came of it.
    Send(Batch),
    /// A batch left the queue because the time for retries was over; it is counted. Poll again.
    GaveUp {
        /// The spans that were dropped.
        spans: u64,
        /// The spans that stay in the spool.
        spooled: u64,
    },
    /// Nothing before this time, in ns, unless a push or a flush asks for a wake.
    Wait(u64),
    /// Nothing until a push or a flush asks for a wake.
    Idle,
}

/// What came of a request. The texts are a few words for people; they must not hold addresses, headers or secrets.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Answer {
    /// Any status of 2xx. The destination may have rejected some of the spans (partial success), which must not be
    /// sent again.
    Accepted {
        /// The spans that it rejected.
        rejected: u64,
        /// What it said about them; without rejected spans, a warning.
        message: Option<String>,
    },
    /// The destination is there and asks to try again later: 429, 502, 503 or 504.
    Retry {
        /// The HTTP status.
        status: u16,
        /// The pause that it asked for (`Retry-After`), in ns.
        after_ns: Option<u64>,
    },
    /// There was no answer: no connection, or one that ended or timed out before an answer came.
    Unreachable {
        /// Whether a connection could be made. The spans may then have arrived; they are sent again all the same.
        connected: bool,
        /// Why, in a few words: "connection refused".
        why: Cow<'static, str>,
    },
    /// The destination answered with another status, or with something that is not HTTP: it is not asked again.
    Refused {
        /// The HTTP status, if there was one.
        status: Option<u16>,
        /// Why, if that is known.
        why: Option<Cow<'static, str>>,
    },
    /// The request is larger than may be sent or than the destination takes (413).
    TooLarge,
}

impl Answer {
    /// The meaning of an HTTP status (OTLP/HTTP, "Failures"): any 2xx is success; 429, 502, 503 and 504 ask for another
    /// try, after `after_ns` if the answer has a `Retry-After`; 413 is a request that is too large; everything else,
    /// redirects included, is final.
    pub fn of_status(status: u16, after_ns: Option<u64>) -> Self {
        match status {
            200..=299 => Self::Accepted { rejected: 0, message: None },
            429 | 502 | 503 | 504 => Self::Retry { status, after_ns },
            413 => Self::TooLarge,
            _ => Self::Refused { status: Some(status), why: None },
        }
    }
}

/// What [`answered`](Delivery::answered) did with the batch.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Outcome {
    /// It is delivered.
    Delivered,
    /// It is kept, and due again at this time, in ns.
    Kept(u64),
    /// It was dropped and counted.
    Dropped(Reason, u64),
    /// For this reason it is not sent again by this process, but so many of its spans stay in the spool. The others were
    /// dropped and counted.
    Spooled(Reason, u64, u64),
}

/// How far the end of a queue has come.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Close {
    /// Spans are taken.
    Open,
    /// No more spans; what is queued is delivered while the destination can be reached.
    Closing,
    /// No more retries: what cannot be delivered now is dropped.
    Last,
}

/// One tracer's queue to one destination.
#[derive(Debug)]
pub struct Delivery {
    config: Config,
    resource: Arc<[u8]>,
    open: Batch,
    /// When the first span came into `open`; for spans that are held back, when they were looked at.
    opened_ns: u64,
    held: Held,
    /// Closed batches in the order in which they are sent.
    ready: VecDeque<Batch>,
    /// The number of the batch that is being sent, and whether a flush does not answer for it.
    in_flight: Option<(u64, bool)>,
    last_number: u64,
    /// An empty batch whose buffers are used again.
    spare: Option<Batch>,
    /// Spans and their bytes in `open`, in `ready` and in flight.
    bytes: usize,
    spans: usize,
    /// Failures in a row, across batches: it is the destination that fails.
    failures: u32,
    not_before_ns: u64,
    /// `not_before_ns` was asked for by the destination, so a flush does not override it.
    obey: bool,
    close: Close,
    flushes: Flushes,
    stats: Stats,
    spool: Option<Spool>,
    /// There should be a spool, and is none.
    lacks_spool: bool,
    recovering: Recovering,
}

impl Delivery {
    /// An empty queue for spans of the resource with this encoding (an OTLP `Resource` message).
    pub fn new(config: Config, resource: &[u8]) -> Self {
        let resource: Arc<[u8]> = Arc::from(resource);
        Self {
            config,
            open: Batch::new(Arc::clone(&resource)),
            resource,
            opened_ns: 0,
            held: Held::default(),
            ready: VecDeque::new(),
            in_flight: None,
            last_number: 0,
            spare: None,
            bytes: 0,
            spans: 0,
            failures: 0,
            not_before_ns: 0,
            obey: false,
            close: Close::Open,
            flushes: Flushes::default(),
            stats: Stats::default(),
            spool: None,
            lacks_spool: false,
            recovering: Recovering::default(),
        }
    }

    /// Queues one span. `encode` appends exactly one entry of `ScopeSpans.spans` (tag `0x12`, length, `Span` message) to
    /// the buffer, or nothing. `now` reads the clock, in ns; it is asked only for the first span of a batch.
    ///
    /// A span that does not fit into the queue is dropped and counted: the newest goes, what is queued stays. If there is
    /// room in the spool, it is not dropped but kept there.
    #[inline]
    pub fn push(&mut self, scope: &Scope, now: impl FnOnce() -> u64, encode: impl FnOnce(&mut Vec<u8>)) -> Pushed {
        if self.close != Close::Open {
            return self.refuse(Reason::Shutdown, scope, encode);
        }
        if self.bytes >= self.config.queue_bytes || self.config.queue_spans.is_some_and(|most| self.spans >= most) {
            return self.refuse(Reason::QueueFull, scope, encode);
        }
        let buffer = self.open.buffer(scope);
        let before = buffer.len();
        encode(buffer);
        let size = buffer.len().saturating_sub(before);
        if size == 0 {
            return Pushed::Nothing;
        }
        let bytes = self.bytes.saturating_add(size);
        let reason = if size > self.config.request_bytes {
            Some(Reason::TooLarge)
        } else if bytes > self.config.queue_bytes {
            Some(Reason::QueueFull)
        } else {
            None
        };
        if let Some(reason) = reason {
            let span = buffer.split_off(before);
            return self.refuse(reason, scope, |out| *out = span);
        }
        let spool = self.spool.as_mut();
        let mark = spool.map(|spool| spool.end(scope, buffer.get(before..).unwrap_or_default()));
        // Nobody needs waking for what waits behind a batch that is on its way or will be sent again.
        let idle = self.in_flight.is_none() && self.ready.is_empty();
        let mut news = false;
        if self.open.spans != 0 && self.open.bytes.saturating_add(size) > self.config.batch_bytes {
            // It would make the batch too large: it becomes the first of the next one.
            let span = self.open.buffer(scope).split_off(before);
            self.close_open();
            self.open.buffer(scope).extend_from_slice(&span);
            news = true;
        }
        if let Some(mark) = mark {
            self.open.run(scope).marks.push(mark.unwrap_or(0));
            self.stats.unspooled = self.stats.unspooled.saturating_add(u64::from(mark.is_none()));
        } else if self.lacks_spool {
            self.stats.unspooled = self.stats.unspooled.saturating_add(1);
        }
        if self.open.spans == 0 {
            self.opened_ns = now();
            news = true;
        }
        self.open.bytes = self.open.bytes.saturating_add(size);
        self.open.spans = self.open.spans.saturating_add(1);
        self.bytes = bytes;
        self.spans = self.spans.saturating_add(1);
        if self.open.bytes >= self.config.batch_bytes
            || self.config.batch_spans.is_some_and(|most| self.open.spans >= most)
        {
            self.close_open();
            news = true;
        }
        Pushed::Queued { wake: idle && news }
    }

    /// Counts spans that were lost before they could be pushed, such as one that ended in another process. The next flush
    /// answers for them, unless they were another process's to deliver.
    pub fn count_lost(&mut self, reason: Reason, spans: u64) {
        self.stats.dropped.add(reason, spans);
        if reason != Reason::Forked {
            self.flushes.lost_at_push(spans);
        }
    }

    /// Says what is to be done at this time, in ns. There is never more than one batch on its way, so that a backend
    /// which cannot keep up is not asked to.
    pub fn poll(&mut self, now_ns: u64) -> Next {
        if self.in_flight.is_some() {
            return Next::Idle;
        }
        // While a batch waits to be sent again, the open one goes on filling: a long outage ends with few large
        // requests, not with many small ones.
        if self.ready.is_empty() && self.open.spans != 0 && now_ns >= self.open_until() {
            self.close_due(now_ns);
        }
        let Some(head) = self.ready.front_mut() else {
            return if self.open.spans == 0 { Next::Idle } else { Next::Wait(self.open_until()) };
        };
        let give_up_at = *head.give_up_at_ns.get_or_insert(now_ns.saturating_add(self.config.give_up_ns));
        if now_ns < self.not_before_ns {
            if now_ns < give_up_at {
                return Next::Wait(self.not_before_ns.min(give_up_at));
            }
            let Some(batch) = self.ready.pop_front() else { return Next::Idle };
            let Lost { dropped: spans, spooled } = self.drop_batch(batch, Reason::GaveUp);
            return Next::GaveUp { spans, spooled };
        }
        let Some(batch) = self.ready.pop_front() else { return Next::Idle };
        self.in_flight = Some((batch.number, self.is_expendable(&batch)));
        Next::Send(batch)
    }

    /// Takes a batch back and decides what happens to it. `now_ns` is the time of the answer, `random` any random
    /// number: it spreads the retries of many processes (jitter).
    pub fn answered(&mut self, batch: Batch, answer: Answer, now_ns: u64, random: u64) -> Outcome {
        self.in_flight = None;
        let (connected, after_ns) = match answer {
            Answer::Accepted { rejected, message } => {
                self.recovered();
                self.recovering.answered();
                if let Some(message) = message {
                    self.stats.last_error = Some(message);
                }
                let spans = batch.spans as u64;
                let rejected = rejected.min(spans);
                self.stats.sent = self.stats.sent.saturating_add(spans.saturating_sub(rejected));
                self.stats.rejected = self.stats.rejected.saturating_add(rejected);
                if rejected != 0 {
                    self.flushes.lost_in_batch(batch.number, rejected);
                }
                self.done(&batch);
                self.settle(batch, true);
                return Outcome::Delivered;
            }
            Answer::Refused { status, why } => {
                self.recovered();
                self.stats.last_error = Some(match (status, why) {
                    (Some(status), None) => format!("HTTP {status}"),
                    (Some(status), Some(why)) => format!("HTTP {status}: {why}"),
                    (None, Some(why)) => why.into_owned(),
                    (None, None) => String::from("refused"),
                });
                // What another process has left is none of the request's fault, unless the request itself is bad: a wrong
                // key at one start must not cost spans that the next one could deliver.
                let stays = batch.is_recovered && status != Some(400);
                return self.drop_or_leave(batch, Reason::Refused, stays).outcome(Reason::Refused);
            }
            Answer::TooLarge => {
                self.recovered();
                self.stats.last_error = Some(String::from("request too large"));
                return self.drop_batch(batch, Reason::TooLarge).outcome(Reason::TooLarge);
            }
            Answer::Retry { status, after_ns } => {
                self.stats.last_error = Some(format!("HTTP {status}"));
                self.obey = true;
                (true, after_ns)
            }
            Answer::Unreachable { connected, why } => {
                self.stats.last_error = Some(why.into_owned());
                self.obey = false;
                (connected, None)
            }
        };
        self.failures = self.failures.saturating_add(1);
        // At the end of a program nobody waits for a destination that is not there.
        if self.close == Close::Last || (self.close == Close::Closing && !connected) {
            let lost = self.drop_batch(batch, Reason::Shutdown);
            return lost.and(self.abandon_all()).outcome(Reason::Shutdown);
        }
        if batch.give_up_at_ns.is_some_and(|at| now_ns >= at) {
            return self.drop_batch(batch, Reason::GaveUp).outcome(Reason::GaveUp);
        }
        let pause = match after_ns {
            // "Again at once" from a destination that fails would become a tight loop.
            Some(after) => after.max(self.config.backoff_ns >> 1),
            None => self.backoff(random),
        };
        self.not_before_ns = now_ns.saturating_add(pause);
        self.stats.retried = self.stats.retried.saturating_add(1);
        self.ready.push_front(batch);
        Outcome::Kept(self.not_before_ns)
    }

    /// Asks for everything that is queued to be sent now, past a pause of our own but not past one that the
    /// destination asked for. Poll afterwards, and watch [`flushed`](Self::flushed).
    pub fn flush(&mut self) -> Ticket {
        self.close_open();
        self.hurry();
        self.flushes.begin(self.last_number, self.settled_number())
    }

    /// Whether everything pushed before this flush was delivered: `None` while that is open, `false` if any of it was
    /// dropped or rejected, by now or since the last flush before it.
    pub fn flushed(&self, ticket: &Ticket) -> Option<bool> {
        self.flushes.outcome(ticket)
    }

    /// Ends a flush, and says whether everything pushed before it has been delivered, but for what is
    /// [expendable](Config::expendable).
    pub fn flush_end(&mut self, ticket: Ticket) -> bool {
        let upto = self.flushes.upto(&ticket);
        let mut left = self.ready.iter().filter(|batch| batch.number <= upto);
        let is_over = left.all(|batch| self.is_expendable(batch))
            && self.in_flight.is_none_or(|(number, is_expendable)| is_expendable || number > upto);
        self.flushes.end(ticket, is_over)
    }

    /// Whether a flush does not answer for a batch.
    fn is_expendable(&self, batch: &Batch) -> bool {
        let expendable = self.config.expendable.as_ref();
        expendable.is_some_and(|expendable| batch.runs().all(|run| run.scope.is(expendable)))
    }

    /// Takes no more spans. What is queued is still delivered, with retries, but dropped as soon as no connection to
    /// the destination can be made.
    pub fn close(&mut self) {
        self.close_open();
        self.hurry();
        self.close = self.close.max(Close::Closing);
    }

    /// Begins a shutdown: [`close`](Self::close), with a [`flush`](Self::flush) to watch. End it by
    /// [`shutdown_end`](Self::shutdown_end) when that is over, or the time for it.
    pub fn shutdown(&mut self) -> Ticket {
        self.close();
        self.flush()
    }

    /// Ends a shutdown: what is left is dropped. Says whether everything pushed before has been delivered, and how many
    /// spans were dropped now.
    pub fn shutdown_end(&mut self, ticket: Ticket) -> (bool, u64) {
        let dropped = self.abandon();
        (self.flush_end(ticket), dropped)
    }

    /// Like [`close`](Self::close), but with no retries: every batch gets one attempt, until the first that fails.
    pub fn close_without_retry(&mut self) {
        self.close();
        self.close = Close::Last;
    }

    /// Takes no more spans and drops what is queued; returns how many spans that were, without those that stay in the
    /// spool. A batch on its way gets no further attempt.
    pub fn abandon(&mut self) -> u64 {
        self.abandon_all().dropped
    }

    fn abandon_all(&mut self) -> Lost {
        self.close_without_retry();
        let mut lost = Lost::default();
        while let Some(batch) = self.ready.pop_front() {
            lost = lost.and(self.drop_batch(batch, Reason::Shutdown));
        }
        lost
    }

    /// Whether the queue takes no more spans and has none left.
    pub fn is_finished(&self) -> bool {
        self.close != Close::Open && self.in_flight.is_none() && self.ready.is_empty()
    }

    /// Whether nothing is queued or on its way.
    pub fn is_empty(&self) -> bool {
        self.spans == 0
    }

    /// What became of the spans until now.
    pub fn stats(&self) -> Stats {
        Stats { queued: self.spans as u64, queued_bytes: self.bytes as u64, ..self.stats.clone() }
    }

    /// When the open batch is due by time.
    fn open_until(&self) -> u64 {
        self.opened_ns.saturating_add(self.config.delay_ns)
    }

    /// Closes the open batch, which is due by time, but for the spans that are held back.
    fn close_due(&mut self, now_ns: u64) {
        let Config { queue_bytes, queue_spans, delay_ns, hold_ns, .. } = self.config;
        let is_roomy = self.bytes <= queue_bytes >> 1 && queue_spans.is_none_or(|most| self.spans <= most >> 1);
        if delay_ns == 0 || hold_ns == 0 || !is_roomy {
            return self.close_open();
        }
        let mut later = self.spare.take().unwrap_or_else(|| Batch::new(Arc::clone(&self.resource)));
        let mut held = mem::take(&mut self.held);
        let until_ns = self.open_until().saturating_add(hold_ns);
        let first = held.split(&mut self.open, &mut later, now_ns, until_ns);
        if self.open.spans == 0 {
            mem::swap(&mut self.open, &mut later);
            self.spare = Some(later);
        } else {
            self.spare = Some(later);
            self.close_open();
        }
        self.held = held;
        if let Some(first) = first {
            self.opened_ns = now_ns.min(first.saturating_sub(delay_ns));
        }
    }

    fn close_open(&mut self) {
        if self.open.spans == 0 {
            return;
        }
        self.held.clear();
        let next = self.spare.take().unwrap_or_else(|| Batch::new(Arc::clone(&self.resource)));
        let mut batch = mem::replace(&mut self.open, next);
        self.last_number = self.last_number.saturating_add(1);
        batch.number = self.last_number;
        self.ready.push_back(batch);
    }

    /// The batch is delivered or dropped: its room is free again, and its buffers are kept for the next one.
    fn settle(&mut self, mut batch: Batch, is_done: bool) {
        self.bytes = self.bytes.saturating_sub(batch.bytes);
        self.spans = self.spans.saturating_sub(batch.spans);
        let settled = self.settled_number();
        self.flushes.settled(settled);
        if batch.is_recovered {
            self.recovering.over(batch, is_done);
        } else if self.spare.is_none() {
            batch.recycle();
            self.spare = Some(batch);
        }
    }

    /// Every batch up to this number is settled.
    fn settled_number(&self) -> u64 {
        let in_flight = self.in_flight.map(|(number, _)| number);
        let first = in_flight.or(self.ready.front().map(|batch| batch.number));
        first.map_or(self.last_number, |first| first.saturating_sub(1))
    }

    /// Ends a pause of our own; the pauses after it begin anew with short ones.
    fn hurry(&mut self) {
        if !self.obey {
            self.recovered();
        }
    }

    fn recovered(&mut self) {
        self.failures = 0;
        self.not_before_ns = 0;
        self.obey = false;
    }

    /// The pause after a failure: doubled with each in a row, half of it fixed and half random.
    fn backoff(&self, random: u64) -> u64 {
        let doublings = self.failures.saturating_sub(1).min(32);
        let pause = self.config.backoff_ns.saturating_mul(1_u64 << doublings).min(self.config.backoff_most_ns);
        let half = pause >> 1;
        let jitter = random.checked_rem(half.saturating_add(1)).unwrap_or(0);
        half.saturating_add(jitter)
    }
}

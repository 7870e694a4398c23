//! What all parts of one run share: the time, the randomness, the counts and the log.

use crate::random::Random;

pub(crate) const MS: u64 = 1_000_000;
pub(crate) const SECOND: u64 = 1_000 * MS;

pub(crate) struct Run {
    /// The simulated monotonic clock, in ns.
    pub(crate) now: u64,
    pub(crate) random: Random,
    pub(crate) counts: Counts,
    /// Whether to print every event.
    pub(crate) verbose: bool,
}

impl Run {
    pub(crate) fn new(seed: u64, verbose: bool) -> Self {
        Self { now: 5 * SECOND, random: Random::new(seed), counts: Counts::default(), verbose }
    }

    pub(crate) fn count(&mut self, event: Event) {
        self.counts.add(event, 1);
    }

    pub(crate) fn say(&self, what: impl FnOnce() -> String) {
        if self.verbose {
            println!("{:>18} {}", format!("{:.6} s", self.now as f64 / 1e9), what());
        }
    }

    /// The moments that a thread needs to go on after it was told to.
    pub(crate) fn soon(&mut self) -> u64 {
        let moment = self.random.pick(&[0, 1, 1_000, 50_000]);
        self.now + self.random.below(moment + 1)
    }
}

macro_rules! events {
    ($($event:ident $text:literal)*) => {
        #[derive(Clone, Copy)]
        pub(crate) enum Event { $($event),* }

        /// The events as a report names them.
        const NAMES: &[&str] = &[$($text),*];
    };
}

events! {
    Exporter "exporters made"
    ExporterDropped "exporters dropped without a shutdown"
    Fork "forks"
    ForkInRequest "forks during a request"
    Death "deaths of processes"
    ThreadStart "threads started"
    Ended "spans ended"
    Nothing "spans with an empty encoding"
    Delivered "spans delivered"
    Rejected "spans rejected (partial success)"
    QueueFull "spans dropped: queue full"
    Refused "spans dropped: refused"
    GaveUp "spans dropped: gave up"
    TooLarge "spans dropped: too large"
    Shutdown "spans dropped: shutdown"
    Forked "spans dropped: ended in another process"
    Died "spans lost with their process"
    Started "spans recorded when they began"
    Unspooled "spans that the spool had no room for"
    SpooledAtPush "spans kept in the spool: queue full or closed"
    Spooled "spans kept in the spool: given up, or left at a shutdown"
    Requeued "spans given back from the spool to the queue of the same process"
    Recovered "spans recovered from the spools of other processes"
    Interrupted "spans recovered as interrupted"
    Torn "deaths within a write to a spool"
    LeftSpool "spools left by processes"
    DoneSpool "spools recovered wholly"
    PartSpool "spools that a process recovered in part"
    Twice "spans received again after a lost answer or a death"
    Accepted "requests: accepted"
    Warned "requests: accepted with a warning"
    Partial "requests: partial success"
    AnswerLost "requests: accepted, answer lost"
    ResetBefore "requests: reset before receipt"
    ResetAfter "requests: reset after receipt"
    HungBefore "requests: hung until timeout, not received"
    HungAfter "requests: hung until timeout, received"
    NotConnected "requests: no connection"
    Busy "requests: 429, 502, 503, 504"
    BusyAfter "requests: the same with Retry-After"
    BusyAccepted "requests: 504 for what was received"
    Status400 "requests: 400, 401, 302, 500"
    Status413 "requests: 413"
    NotHttp "requests: answer not HTTP, client failed"
    TooLargeToSend "requests: too large to be sent"
    Kept "batches kept to be sent again"
    GaveUpWaiting "batches given up in a pause"
    GaveUpAnswered "batches given up after a request"
    FlushTrue "flushes: true"
    FlushFalse "flushes: false, something was lost"
    FlushTimeout "flushes: false, out of time"
    FlushInterrupted "flushes: interrupted"
    ShutdownTrue "shutdowns: true"
    ShutdownFalse "shutdowns: false"
    ShutdownDropped "shutdowns that dropped what was left"
}

/// How often each kind of event has happened.
pub(crate) struct Counts([u64; NAMES.len()]);

impl Default for Counts {
    fn default() -> Self {
        Self([0; NAMES.len()])
    }
}

impl Counts {
    pub(crate) fn add(&mut self, event: Event, count: u64) {
        self.0[event as usize] += count;
    }

    pub(crate) fn merge(&mut self, other: &Self) {
        self.0.iter_mut().zip(other.0).for_each(|(sum, count)| *sum += count);
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (&'static str, u64)> + '_ {
        NAMES.iter().copied().zip(self.0)
    }
}

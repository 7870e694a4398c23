//! What became of the spans: counters, and the reasons for which spans are dropped.

use alloc::string::String;

/// Why a span was dropped.
#[non_exhaustive]
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[repr(u8)]
pub enum Reason {
    /// The queue was at its bound when the span ended.
    QueueFull,
    /// The destination refused it with a status that must not be retried, or gave no answer that can be read.
    Refused,
    /// It was retried until the total time for that was over.
    GaveUp,
    /// It, or the request that held it, is larger than a request may be.
    TooLarge,
    /// It ended after the shutdown, or was still queued when the time for the shutdown was over.
    Shutdown,
    /// It ended in another process than the one it began in.
    Forked,
}

impl Reason {
    /// Every reason.
    pub const ALL: &'static [Self] =
        &[Self::QueueFull, Self::Refused, Self::GaveUp, Self::TooLarge, Self::Shutdown, Self::Forked];

    /// Whether the span could be delivered another time, so that a spool keeps it.
    pub(super) const fn is_temporary(self) -> bool {
        matches!(self, Self::QueueFull | Self::GaveUp | Self::Shutdown)
    }

    /// The reason as statistics name it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::QueueFull => "queue_full",
            Self::Refused => "refused",
            Self::GaveUp => "gave_up",
            Self::TooLarge => "too_large",
            Self::Shutdown => "shutdown",
            Self::Forked => "forked",
        }
    }
}

/// How many spans were dropped, by reason.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub struct Drops([u64; Reason::ALL.len()]);

impl Drops {
    /// The number of spans dropped for this reason.
    pub fn get(&self, reason: Reason) -> u64 {
        self.0.get(reason as usize).copied().unwrap_or(0)
    }

    /// The number of spans dropped for any reason.
    pub fn total(&self) -> u64 {
        self.0.iter().fold(0, |sum, count| sum.saturating_add(*count))
    }

    /// Every reason with its number, zeros included.
    pub fn iter(&self) -> impl Iterator<Item = (Reason, u64)> + '_ {
        Reason::ALL.iter().map(|reason| (*reason, self.get(*reason)))
    }

    /// Counts spans that were dropped for this reason.
    pub fn add(&mut self, reason: Reason, spans: u64) {
        if let Some(count) = self.0.get_mut(reason as usize) {
            *count = count.saturating_add(spans);
        }
    }
}

/// What became of the spans of one queue, since it was made.
#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub struct Stats {
    /// Spans that wait or are on their way.
    pub queued: u64,
    /// The bytes that those spans take.
    pub queued_bytes: u64,
    /// Spans that the destination accepted.
    pub sent: u64,
    /// Spans that the destination rejected in an answer that accepted the rest (partial success).
    pub rejected: u64,
    /// Requests that failed and were kept to be sent again.
    pub retried: u64,
    /// Spans that were dropped, by reason.
    pub dropped: Drops,
    /// Spans that left the queue undelivered and are in the spool: they are queued again when the destination takes spans,
    /// or the next start delivers them.
    pub spooled: u64,
    /// Spans that the spool had no room for when they ended, or that are larger than a segment of it; or all of them where
    /// there can be no spool. They were in the queue only.
    pub unspooled: u64,
    /// Spans of which the spool had no room for the beginning: should the process die before they end, nobody hears of
    /// them.
    pub unspooled_starts: u64,
    /// Spans of processes that are gone, taken from their spools into the queue.
    pub recovered: u64,
    /// What went wrong last, in a few words; holds no address, header or secret.
    pub last_error: Option<String>,
}

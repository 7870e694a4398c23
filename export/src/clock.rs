//! The monotonic clock of the queues, and random numbers for their jitter.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

static START: OnceLock<Instant> = OnceLock::new();

fn start() -> Instant {
    *START.get_or_init(Instant::now)
}

/// Nanoseconds of a monotonic clock that began in this process or in one it was forked from.
pub(crate) fn now_ns() -> u64 {
    u64::try_from(start().elapsed().as_nanos()).unwrap_or(u64::MAX)
}

/// How long from now until this time of [`now_ns`]; nothing if it is over.
pub(crate) fn until(at_ns: u64) -> Duration {
    Duration::from_nanos(at_ns.saturating_sub(now_ns()))
}

/// The end of a wait that begins now. A time too long for the clock is a day.
pub(crate) fn deadline(timeout: Duration) -> Instant {
    let now = Instant::now();
    now.checked_add(timeout).or_else(|| now.checked_add(Duration::from_secs(86_400))).unwrap_or(now)
}

/// A random number that is good enough to spread retries: the keys that the standard library's maps are seeded with.
pub(crate) fn random() -> u64 {
    RandomState::new().build_hasher().finish()
}

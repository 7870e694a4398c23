//! The clocks of spans.

use std::sync::OnceLock;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

/// Nanoseconds since 1970 by the system's clock.
pub(crate) fn wall_ns() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}

/// Nanoseconds of a monotonic clock, since some instant of this process.
pub(crate) fn monotonic_ns() -> u64 {
    static ORIGIN: OnceLock<Instant> = OnceLock::new();
    u64::try_from(ORIGIN.get_or_init(Instant::now).elapsed().as_nanos()).unwrap_or(u64::MAX)
}

/// Both clocks at one instant. All spans below one local root share an anchor, so that within a trace their times agree
/// and never run backwards, even where the system's clock is set meanwhile.
#[derive(Clone, Copy)]
pub(crate) struct Anchor {
    wall: u64,
    monotonic: u64,
}

impl Anchor {
    pub(crate) fn now() -> Self {
        Self { wall: wall_ns(), monotonic: monotonic_ns() }
    }

    /// Nanoseconds since 1970 by the monotonic clock from here on.
    pub(crate) fn time_ns(self) -> u64 {
        self.wall.saturating_add(monotonic_ns().saturating_sub(self.monotonic))
    }
}

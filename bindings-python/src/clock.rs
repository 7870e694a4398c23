//! The clocks of spans.

use std::sync::OnceLock;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use pyo3::prelude::*;

use crate::report;
use crate::value::type_name;

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

/// A time that an application gave, in nanoseconds since 1970: an integer, or what can be made one, as a float. None if it
/// gave none, or something else, which is told: a wrong time costs no request its answer.
pub(crate) fn given_ns(time: Option<&Bound<'_, PyAny>>) -> Option<u64> {
    let time = time.filter(|time| !time.is_none())?;
    if let Ok(time) = time.extract::<u64>() {
        return Some(time);
    }
    // More than a float's 2^64 is as far away as can be said.
    if let Some(time) = time.extract::<f64>().ok().filter(|time| time.is_finite() && *time >= 0.0) {
        return Some(time as u64);
    }
    report::warn(&format!(
        "a time must be a number of nanoseconds since 1970 that is not negative; a wrong one ({}) is taken as now",
        type_name(time)
    ));
    None
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

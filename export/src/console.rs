//! Spans as lines of JSON on the process's standard output.

use std::io::Write as _;
use std::sync::atomic::{AtomicU64, Ordering};

use tracebaton::delivery::{Drops, Reason, Stats};

/// A sink that prints. It counts what it could not print, as when the output is a pipe whose reader is gone.
#[derive(Debug, Default)]
pub struct Console {
    printed: AtomicU64,
    lost: AtomicU64,
    /// What flushes have answered for.
    reported: AtomicU64,
}

impl Console {
    /// Nothing was printed yet.
    pub const fn new() -> Self {
        Self { printed: AtomicU64::new(0), lost: AtomicU64::new(0), reported: AtomicU64::new(0) }
    }

    /// Prints a span, given as JSON without line ends; whether it could.
    pub fn print(&self, mut json: Vec<u8>) -> bool {
        json.push(b'\n');
        // The buffer of this output ends with a line.
        let printed = std::io::stdout().lock().write_all(&json).is_ok();
        let count = if printed { &self.printed } else { &self.lost };
        count.fetch_add(1, Ordering::Relaxed);
        printed
    }

    /// Whether all spans since the last flush were printed.
    pub fn flush(&self) -> bool {
        let lost = self.lost.load(Ordering::Relaxed);
        self.reported.swap(lost, Ordering::Relaxed) == lost
    }

    /// What became of the spans: what could not be printed was refused.
    pub fn stats(&self) -> Stats {
        let lost = self.lost.load(Ordering::Relaxed);
        let mut dropped = Drops::default();
        dropped.add(Reason::Refused, lost);
        Stats {
            sent: self.printed.load(Ordering::Relaxed),
            dropped,
            last_error: (lost != 0).then(|| String::from("the standard output cannot be written")),
            ..Stats::default()
        }
    }
}

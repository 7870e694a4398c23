//! Spans as lines of JSON on the process's standard output.

use std::io::Write as _;
use std::sync::atomic::{AtomicU64, Ordering};

use tracebaton::delivery::{Drops, Reason, Stats};

use crate::report::Reporter;

/// A sink that prints. It counts what it could not print, as when the output is a pipe whose reader is gone.
#[derive(Default)]
pub struct Console {
    reporter: Option<Reporter>,
    printed: AtomicU64,
    lost: AtomicU64,
    /// What flushes have answered for.
    reported: AtomicU64,
}

impl std::fmt::Debug for Console {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Console").field("printed", &self.printed).field("lost", &self.lost).finish_non_exhaustive()
    }
}

impl Console {
    /// Nothing was printed yet. `reporter` is told when something cannot be.
    pub fn new(reporter: Option<Reporter>) -> Self {
        Self { reporter, ..Self::default() }
    }

    /// Prints a span, given as JSON without line ends; whether it could.
    pub fn print(&self, mut json: Vec<u8>) -> bool {
        json.push(b'\n');
        // The buffer of this output ends with a line.
        let printed = std::io::stdout().lock().write_all(&json).is_ok();
        let count = if printed { &self.printed } else { &self.lost };
        count.fetch_add(1, Ordering::Relaxed);
        if let Some(reporter) = self.reporter.as_ref().filter(|_| !printed) {
            reporter("the standard output cannot be written: spans are dropped");
        }
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

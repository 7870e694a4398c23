//! Waiting for several exporters at the same time.

use std::cell::Cell;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tracebaton::delivery::Ticket;

use crate::clock;
use crate::exporter::Exporter;
use crate::queue::Queue;
use crate::registration::Sessions;
use crate::worker;

/// What is waited for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Wait {
    /// What is queued is delivered.
    Flush,
    /// The same, and nothing more is taken.
    Shutdown,
}

/// A flush, or a shutdown, that has begun.
pub(crate) struct Begun<'a> {
    what: Wait,
    queue: &'a Arc<Queue>,
    ticket: Ticket,
}

impl Begun<'_> {
    /// Waits for its end, until the deadline: whether all was delivered.
    pub(crate) fn end(self, deadline: Instant, go_on: &mut dyn FnMut() -> bool) -> bool {
        match self.what {
            Wait::Flush => self.queue.end_flush(self.ticket, deadline, go_on),
            Wait::Shutdown => self.queue.end_shutdown(self.ticket, deadline, go_on),
        }
    }
}

impl Wait {
    pub(crate) fn begin(self, queue: &Arc<Queue>) -> Begun<'_> {
        let ticket = match self {
            Self::Flush => queue.begin_flush(),
            Self::Shutdown => queue.begin_shutdown(),
        };
        Begun { what: self, queue, ticket }
    }

    /// Waits for all exporters at the same time, each with all of the time there is. True only if it is true for all.
    /// Requests about sessions get a moment of the time that the spans leave: what was merged into a session counts as what
    /// was recorded. `go_on` is asked every 50 ms whether to go on waiting. It starts no threads: at the end of a process there may be none to be had.
    pub fn for_all(
        self,
        exporters: &[&Exporter],
        sessions: &[&Sessions],
        time: Duration,
        mut go_on: impl FnMut() -> bool,
    ) -> bool {
        let begin = Instant::now();
        let deadline = clock::deadline(time);
        let goes_on = Cell::new(true);
        let mut ask = || {
            goes_on.set(goes_on.get() && go_on());
            goes_on.get()
        };
        // All have begun before the first is waited for. One whose fork was not announced has nothing to begin.
        let begun: Vec<_> = exporters.iter().map(|exporter| exporter.queue().map(|queue| self.begin(queue))).collect();
        let mut done = true;
        for begun in begun {
            let deadline = if goes_on.get() { deadline } else { begin };
            done &= begun.is_some_and(|begun| begun.end(deadline, &mut ask));
        }
        for sessions in sessions {
            let left = if goes_on.get() { time.saturating_sub(begin.elapsed()) } else { Duration::ZERO };
            done &= match self {
                Self::Flush => sessions.flush_while(left, &mut ask),
                Self::Shutdown => sessions.shutdown_while(left, &mut ask),
            };
        }
        done
    }

    /// The same for the queues of exporters that were dropped with spans in them, which get one attempt by themselves.
    pub fn for_dropped(self, time: Duration, mut go_on: impl FnMut() -> bool) -> bool {
        let begin = Instant::now();
        let deadline = clock::deadline(time);
        let workers = worker::table().workers();
        let queues: Vec<_> = workers.iter().flat_map(|worker| worker.retired()).collect();
        // One that is empty by now has nothing to wait for.
        let begun: Vec<_> = queues.iter().filter(|queue| !queue.is_finished()).map(|queue| self.begin(queue)).collect();
        let mut goes_on = true;
        let mut ask = || {
            goes_on = goes_on && go_on();
            goes_on
        };
        let mut done = true;
        for begun in begun {
            let deadline = if ask() { deadline } else { begin };
            done &= begun.end(deadline, &mut ask);
        }
        done
    }
}

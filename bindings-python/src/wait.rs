//! Waiting for delivery from Python.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use pyo3::prelude::*;
use tracebaton_export::{Exporter, Sessions};

use crate::core::Core;
use crate::sink::Sink;

/// What is waited for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wait {
    Flush,
    Shutdown,
}

/// Flushes, or shuts down, the exporters of several tracers at the same time.
#[pyfunction]
pub(crate) fn deliver_all(py: Python<'_>, cores: Vec<Py<Core>>, timeout_millis: u64, shutdown: bool) -> PyResult<bool> {
    let cores: Vec<&Core> = cores.iter().map(|core| core.get()).collect();
    let what = if shutdown { Wait::Shutdown } else { Wait::Flush };
    what.for_cores(py, &cores, Duration::from_millis(timeout_millis))
}

impl Wait {
    /// Waits for all that these tracers export to: their own exporters, those of the SDK's spans, and foreign ones.
    pub(crate) fn for_cores(self, py: Python<'_>, cores: &[&Core], time: Duration) -> PyResult<bool> {
        let deadline = Instant::now() + time;
        let outlets: Vec<_> = cores.iter().flat_map(|core| core.outlets()).collect();
        if self == Self::Shutdown {
            outlets.iter().for_each(|outlet| outlet.close());
        }
        let own = cores.iter().flat_map(|core| core.sinks.iter().filter_map(Sink::exporter));
        let exporters: Vec<&Exporter> = own.chain(outlets.iter().flat_map(|outlet| outlet.exporters())).collect();
        let sessions: Vec<&Sessions> = cores.iter().filter_map(|core| core.sessions.as_ref()).collect();
        let foreign = cores.iter().flat_map(|core| core.sinks.iter().filter_map(Sink::foreign));
        // All of it goes on at the same time: the threads of foreign exporters work while the others are waited for.
        let begun = foreign.map(|foreign| Ok((foreign, foreign.begin(py, self == Self::Shutdown)?)));
        let begun = begun.collect::<PyResult<Vec<_>>>()?;
        let mut done = self.for_all(py, &exporters, &sessions, deadline.saturating_duration_since(Instant::now()));
        for (foreign, flush) in begun {
            // One that Ctrl-C ended is ended for all.
            let left = if done.is_ok() { deadline.saturating_duration_since(Instant::now()) } else { Duration::ZERO };
            let delivered = foreign.finish(py, flush, left);
            done = done.and_then(|done| Ok(done & delivered?));
        }
        done
    }

    fn on(self, exporter: &Exporter, time: Duration, go_on: &mut dyn FnMut() -> bool) -> bool {
        match self {
            Self::Flush => exporter.flush_while(time, go_on),
            Self::Shutdown => exporter.shutdown_while(time, go_on),
        }
    }

    fn on_sessions(self, sessions: &Sessions, time: Duration, go_on: &mut dyn FnMut() -> bool) {
        match self {
            Self::Flush => sessions.flush_while(time, go_on),
            Self::Shutdown => sessions.shutdown_while(time, go_on),
        }
    }

    /// Waits for all exporters at the same time, each with all of the time there is. True only if it is true for all.
    ///
    /// Requests about sessions get a moment of the time that the spans leave; the answer is about spans.
    ///
    /// The interpreter's lock is released meanwhile. A signal's handler runs at once, and ends the wait if it raises, as
    /// Ctrl-C does.
    pub(crate) fn for_all(
        self,
        py: Python<'_>,
        exporters: &[&Exporter],
        sessions: &[&Sessions],
        time: Duration,
    ) -> PyResult<bool> {
        let Some((first, others)) = exporters.split_first() else { return Ok(true) };
        let mut raised = None;
        let interrupted = AtomicBool::new(false);
        let begin = Instant::now();
        let done = py.detach(|| {
            let done = thread::scope(|scope| {
                let others: Vec<_> = others
                    .iter()
                    .map(|other| scope.spawn(|| self.on(other, time, &mut || !interrupted.load(Ordering::Relaxed))))
                    .collect();
                let mut done = self.on(first, time, &mut || {
                    raised = Python::attach(|py| py.check_signals()).err();
                    raised.is_none()
                });
                interrupted.store(raised.is_some(), Ordering::Relaxed);
                for other in others {
                    done &= other.join().unwrap_or(false);
                }
                done
            });
            for sessions in sessions {
                let left = if raised.is_some() { Duration::ZERO } else { time.saturating_sub(begin.elapsed()) };
                self.on_sessions(sessions, left, &mut || {
                    raised = raised.take().or_else(|| Python::attach(|py| py.check_signals()).err());
                    raised.is_none()
                });
            }
            done
        });
        raised.map_or(Ok(done), Err)
    }
}

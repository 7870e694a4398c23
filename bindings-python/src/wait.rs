//! Waiting for delivery from Python.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use pyo3::prelude::*;
use tracebaton_export::Exporter;

/// What is waited for.
#[derive(Clone, Copy)]
pub(crate) enum Wait {
    Flush,
    Shutdown,
}

impl Wait {
    fn on(self, exporter: &Exporter, time: Duration, go_on: &mut dyn FnMut() -> bool) -> bool {
        match self {
            Self::Flush => exporter.flush_while(time, go_on),
            Self::Shutdown => exporter.shutdown_while(time, go_on),
        }
    }

    /// Waits for all exporters at the same time, each with all of the time there is. True only if it is true for all.
    ///
    /// The interpreter's lock is released meanwhile. A signal's handler runs at once, and ends the wait if it raises, as
    /// Ctrl-C does.
    pub(crate) fn for_all(self, py: Python<'_>, exporters: &[&Exporter], time: Duration) -> PyResult<bool> {
        let Some((first, others)) = exporters.split_first() else { return Ok(true) };
        let mut raised = None;
        let interrupted = AtomicBool::new(false);
        let done = py.detach(|| {
            thread::scope(|scope| {
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
            })
        });
        raised.map_or(Ok(done), Err)
    }
}

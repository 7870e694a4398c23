//! Waiting for delivery from Python.

use std::sync::{Mutex, PoisonError, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use pyo3::prelude::*;
use tracebaton_export::Exporter;

/// How often signals are looked at.
const SLICE: Duration = Duration::from_millis(50);
/// What is short enough to be waited for without looking.
const SHORT: Duration = Duration::from_millis(60);

/// Does `what` to every exporter at the same time, each with all of the time there is. True only if it is true for all.
///
/// The interpreter's lock is released meanwhile. A signal's handler runs at once, and ends the wait if it raises, as
/// Ctrl-C does.
pub(crate) fn for_all(
    py: Python<'_>,
    exporters: Vec<Exporter>,
    time: Duration,
    what: fn(&Exporter, Duration) -> bool,
) -> PyResult<bool> {
    if exporters.is_empty() {
        return Ok(true);
    }
    if let [exporter] = exporters.as_slice()
        && time <= SHORT
    {
        return Ok(py.detach(|| what(exporter, time)));
    }
    let deadline = Instant::now() + time;
    let count = exporters.len();
    let (done, outcomes) = mpsc::channel();
    for exporter in exporters {
        let done = done.clone();
        let waiting = thread::Builder::new().name("tracebaton-flush".to_owned()).spawn(move || {
            let _ = done.send(what(&exporter, deadline.saturating_duration_since(Instant::now())));
        });
        if waiting.is_err() {
            return Ok(false);
        }
    }
    drop(done);
    // A receiver belongs to one thread at a time.
    let outcomes = Mutex::new(outcomes);
    let next = || outcomes.lock().unwrap_or_else(PoisonError::into_inner).recv_timeout(SLICE);
    let mut all = true;
    for _ in 0..count {
        let outcome = loop {
            match py.detach(next) {
                Ok(outcome) => break outcome,
                Err(mpsc::RecvTimeoutError::Disconnected) => break false,
                Err(mpsc::RecvTimeoutError::Timeout) => py.check_signals()?,
            }
        };
        all &= outcome;
    }
    Ok(all)
}

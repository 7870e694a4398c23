//! Waiting for delivery from Python.

use std::time::{Duration, Instant};

use pyo3::prelude::*;
pub(crate) use tracebaton_export::Wait;
use tracebaton_export::{Exporter, Sessions};

use crate::core::Core;
use crate::sink::Sink;

/// Flushes, or shuts down, the exporters of several tracers at the same time, and those of tracers that nobody holds any
/// more.
#[pyfunction]
pub(crate) fn deliver_all(py: Python<'_>, cores: Vec<Py<Core>>, timeout_millis: u64, shutdown: bool) -> PyResult<bool> {
    let cores: Vec<&Core> = cores.iter().map(|core| core.get()).collect();
    let what = if shutdown { Wait::Shutdown } else { Wait::Flush };
    let deadline = Instant::now() + Duration::from_millis(timeout_millis);
    let done = for_cores(what, py, &cores, Duration::from_millis(timeout_millis))?;
    let left = deadline.saturating_duration_since(Instant::now());
    Ok(interruptible(py, |go_on| what.for_dropped(left, go_on))? && done)
}

/// Waits with the interpreter's lock released. A signal's handler runs at once, and ends the wait if it raises, as Ctrl-C
/// does.
fn interruptible(py: Python<'_>, wait: impl FnOnce(&mut dyn FnMut() -> bool) -> bool + Send) -> PyResult<bool> {
    let mut raised = None;
    let done = py.detach(|| {
        wait(&mut || {
            raised = Python::attach(|py| py.check_signals()).err();
            raised.is_none()
        })
    });
    raised.map_or(Ok(done), Err)
}

/// Waits for all that these tracers export to: their own exporters, those of the SDK's spans, and foreign ones.
pub(crate) fn for_cores(what: Wait, py: Python<'_>, cores: &[&Core], time: Duration) -> PyResult<bool> {
    let deadline = Instant::now() + time;
    let outlets: Vec<_> = cores.iter().flat_map(|core| core.outlets()).collect();
    if what == Wait::Shutdown {
        outlets.iter().for_each(|outlet| outlet.close());
    }
    let own = cores.iter().flat_map(|core| core.sinks.iter().filter_map(Sink::exporter));
    let exporters: Vec<&Exporter> = own.chain(outlets.iter().flat_map(|outlet| outlet.exporters())).collect();
    let sessions: Vec<&Sessions> = cores.iter().filter_map(|core| core.sessions.as_ref()).collect();
    let foreign = cores.iter().flat_map(|core| core.sinks.iter().filter_map(Sink::foreign));
    // All of it goes on at the same time: the threads of foreign exporters work while the others are waited for.
    let begun = foreign.map(|foreign| Ok((foreign, foreign.begin(py, what == Wait::Shutdown, time)?)));
    let begun = begun.collect::<PyResult<Vec<_>>>()?;
    let mut done = for_all(what, py, &exporters, &sessions, deadline.saturating_duration_since(Instant::now()));
    for (foreign, flush) in begun {
        // One that Ctrl-C ended is ended for all.
        let left = if done.is_ok() { deadline.saturating_duration_since(Instant::now()) } else { Duration::ZERO };
        let delivered = foreign.finish(py, flush, left);
        done = done.and_then(|done| Ok(done & delivered?));
    }
    let printed = cores.iter().flat_map(|core| core.sinks.iter().filter_map(Sink::own));
    let printed = printed.fold(true, |printed, sink| printed & sink.printed());
    done.map(|done| done & printed)
}

/// Waits for all exporters at the same time ([`Wait::for_all`]), as [`interruptible`] does.
pub(crate) fn for_all(
    what: Wait,
    py: Python<'_>,
    exporters: &[&Exporter],
    sessions: &[&Sessions],
    time: Duration,
) -> PyResult<bool> {
    interruptible(py, |go_on| what.for_all(exporters, sessions, time, go_on))
}

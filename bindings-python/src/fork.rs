//! What `os.register_at_fork` calls.

use pyo3::prelude::*;

/// Ends the idle threads.
#[pyfunction]
pub(crate) fn before_fork(py: Python<'_>) {
    // A thread that is about to log something wants the interpreter's lock.
    #[cfg(unix)]
    py.detach(tracebaton_export::fork::before);
    #[cfg(not(unix))]
    let _ = py;
}

/// Lets threads start again.
#[pyfunction]
pub(crate) fn after_fork_in_parent() {
    #[cfg(unix)]
    tracebaton_export::fork::after_in_parent();
}

/// Makes new queues: what was queued is the parent's.
#[pyfunction]
pub(crate) fn after_fork_in_child() {
    #[cfg(unix)]
    tracebaton_export::fork::after_in_child();
}

//! Telling people about trouble: through Python's `logging`, logger `tracebaton`.

use pyo3::prelude::*;
use tracebaton_export::News;

static SAID: News = News::new();

/// Logs a warning. Also called from threads that are not Python's: if the interpreter is on its way out, nobody reads
/// it any more.
pub(crate) fn warn(message: &str) {
    let _ = Python::try_attach(|py| -> PyResult<()> {
        // With the interpreter's lock, so that no process is forked while this one is held.
        if SAID.is(message) {
            let logger = py.import("logging")?.call_method1("getLogger", ("tracebaton",))?;
            logger.call_method1("warning", ("%s", message))?;
        }
        Ok(())
    });
}

/// Logs a warning.
#[pyfunction]
pub(crate) fn report(message: &str) {
    warn(message);
}

/// Forgets what was said, for tests.
#[pyfunction]
pub(crate) fn forget_reports() {
    SAID.forget();
}

//! Telling people about trouble: through Python's `logging`, logger `tracebaton`.

use pyo3::prelude::*;

/// Logs a warning. Also called from threads that are not Python's: if the interpreter is on its way out, nobody reads
/// it any more.
pub(crate) fn warn(message: &str) {
    let _ = Python::try_attach(|py| -> PyResult<()> {
        let logger = py.import("logging")?.call_method1("getLogger", ("tracebaton",))?;
        logger.call_method1("warning", ("%s", message))?;
        Ok(())
    });
}

/// Logs a warning.
#[pyfunction]
pub(crate) fn report(message: &str) {
    warn(message);
}

//! Telling people about trouble: through Python's `logging`, logger `tracebaton`.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use pyo3::prelude::*;

/// The same text is not said again within this time: a program may make a tracer for every request, or inject in a loop.
const QUIET: Duration = Duration::from_secs(60);
/// So many texts are remembered.
const MAX_TEXTS: usize = 200;

static SAID: Mutex<Option<HashMap<String, Instant>>> = Mutex::new(None);

/// Whether a text is new, or was last said long ago.
fn is_news(message: &str) -> bool {
    let now = Instant::now();
    let mut said = SAID.lock().unwrap_or_else(PoisonError::into_inner);
    let said = said.get_or_insert_default();
    said.retain(|_, last| now.duration_since(*last) < QUIET);
    if said.len() >= MAX_TEXTS || said.contains_key(message) {
        return false;
    }
    said.insert(message.to_owned(), now);
    true
}

/// Logs a warning. Also called from threads that are not Python's: if the interpreter is on its way out, nobody reads
/// it any more.
pub(crate) fn warn(message: &str) {
    let _ = Python::try_attach(|py| -> PyResult<()> {
        // With the interpreter's lock, so that no process is forked while this one is held.
        if is_news(message) {
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
    *SAID.lock().unwrap_or_else(PoisonError::into_inner) = None;
}

//! The mutations of tracestate, for the Python class that keeps its text.

use pyo3::prelude::*;
use tracebaton::tracestate::TraceState;

/// The members of a tracestate, as pairs, the first of each key.
#[pyfunction]
pub(crate) fn tracestate_members(text: &str) -> Vec<(String, String)> {
    let state = TraceState::parse(text.as_bytes()).unwrap_or_default();
    let mut seen = std::collections::HashSet::new();
    let firsts = state.iter().filter(|(key, _)| seen.insert(*key));
    firsts.map(|(key, value)| (key.to_owned(), value.to_owned())).collect()
}

/// The tracestate with this member in front; `None` if key or value is not legal.
#[pyfunction]
pub(crate) fn tracestate_insert(text: &str, key: &str, value: &str) -> Option<String> {
    let state = TraceState::parse(text.as_bytes()).unwrap_or_default();
    state.insert(key, value).ok().map(|state| state.as_str().to_owned())
}

/// The tracestate without the members of this key.
#[pyfunction]
pub(crate) fn tracestate_delete(text: &str, key: &str) -> String {
    TraceState::parse(text.as_bytes()).unwrap_or_default().delete(key).as_str().to_owned()
}

//! What processors of OpenTelemetry's SDK do to a span after its end: they assign the private fields of the SDK's
//! `ReadableSpan`, and our exporters deliver what they left there.

use pyo3::prelude::*;
use pyo3::types::PyDict;
use tracebaton::span::StatusCode;

use super::{Event, SpanBase, name_of, shared_name_of};
use crate::attributes::each_attribute;
use crate::clock::{given_ns, wall_ns};
use crate::value::text_of;

/// Replaces the name, also after the end.
#[pyfunction]
pub(crate) fn span_replace_name(span: &Bound<'_, SpanBase>, name: &Bound<'_, PyAny>) {
    let name = shared_name_of(name);
    span.get().state().name = name;
}

/// Replaces the status, given by its number, also after the end; `Ok` is not final here.
#[pyfunction]
pub(crate) fn span_replace_status(span: &Bound<'_, SpanBase>, code: u8, description: Option<&Bound<'_, PyAny>>) {
    let code = StatusCode::from_number(code);
    let description = description.filter(|_| code == StatusCode::Error).map(text_of).unwrap_or_default();
    let mut state = span.get().state();
    state.status = code;
    state.description = description;
}

/// Replaces the attributes by those of a mapping, also after the end. The dict that holds them stays the same one.
#[pyfunction]
pub(crate) fn span_replace_attributes(span: &Bound<'_, SpanBase>, attributes: &Bound<'_, PyAny>) -> PyResult<()> {
    let py = span.py();
    // A copy first: they may be made of those that are replaced.
    let copy = PyDict::new(py);
    if !attributes.is_none() {
        each_attribute(attributes, |key, value| copy.set_item(key, value))?;
    }
    let kept = span.get().attributes.bind(py);
    kept.clear();
    kept.update(copy.as_mapping())
}

/// Replaces the events by others, objects with `name`, `attributes` and `timestamp`, also after the end.
#[pyfunction]
pub(crate) fn span_replace_events(span: &Bound<'_, SpanBase>, events: &Bound<'_, PyAny>) -> PyResult<()> {
    let py = span.py();
    let span = span.get();
    let limits = &span.core.get().tracer.settings().limits;
    let mut kept = Vec::new();
    let mut left_out = 0;
    for event in events.try_iter()? {
        let event = event?;
        if kept.len() >= limits.events {
            left_out += 1;
            continue;
        }
        let attributes = event.getattr(pyo3::intern!(py, "attributes"))?;
        let (attributes, dropped) = span.collection(py, Some(&attributes), limits.attributes_per_event)?;
        kept.push(Event {
            name: name_of(&event.getattr(pyo3::intern!(py, "name"))?),
            time_ns: given_ns(Some(&event.getattr(pyo3::intern!(py, "timestamp"))?)).unwrap_or_else(wall_ns),
            attributes,
            dropped,
        });
    }
    let mut state = span.state();
    state.events = kept;
    state.dropped_events += left_out;
    Ok(())
}

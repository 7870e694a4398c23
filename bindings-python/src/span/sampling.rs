//! Samplers of OpenTelemetry's SDK, given as `sampler=`: one call of theirs for every new span.

use pyo3::prelude::*;
use pyo3::types::PyDict;
use tracebaton::id::TraceId;
use tracebaton::tracestate::TraceState;

use crate::carrier::swallow;
use crate::report;
use crate::span_context::trace_state_text;

/// What a sampler decides of a new span.
pub(super) struct Decision {
    /// Whether processors get to see it.
    pub(super) records: bool,
    /// Whether it is exported, and its context says so.
    pub(super) samples: bool,
    /// What is put on the span besides its own attributes.
    pub(super) attributes: Option<Py<PyAny>>,
    /// None: the parent's.
    pub(super) trace_state: Option<TraceState>,
}

/// What a sampler is asked about: `SpanBase`'s arguments.
pub(super) struct Question<'a, 'py> {
    pub(super) context: &'a Bound<'py, PyDict>,
    pub(super) trace_id: TraceId,
    pub(super) name: &'a Bound<'py, PyAny>,
    pub(super) kind: u8,
    pub(super) attributes: &'a Bound<'py, PyAny>,
    pub(super) links: &'a Bound<'py, PyAny>,
}

/// Asks a sampler. None if it raises, which stays here, or if its answer is no `SamplingResult`.
pub(super) fn ask(sampler: &Bound<'_, PyAny>, question: &Question<'_, '_>) -> PyResult<Option<Decision>> {
    let decision = swallow(sampler.py(), answer(sampler, question))?;
    if decision.is_none() {
        report::warn("a sampler raised: its spans are sampled as if it were not there");
    }
    Ok(decision)
}

fn answer(sampler: &Bound<'_, PyAny>, question: &Question<'_, '_>) -> PyResult<Decision> {
    let py = sampler.py();
    let kind = py.import("opentelemetry.trace")?.getattr("SpanKind")?.call1((question.kind,))?;
    let trace_id = u128::from_be_bytes(question.trace_id.to_bytes());
    let arguments = (question.context, trace_id, question.name, kind, question.attributes, question.links);
    let result = sampler.call_method1(pyo3::intern!(py, "should_sample"), arguments)?;
    let decision = result.getattr(pyo3::intern!(py, "decision"))?;
    let says = |method: &str| decision.call_method0(method)?.is_truthy();
    let trace_state = result.getattr(pyo3::intern!(py, "trace_state"))?;
    let attributes = result.getattr(pyo3::intern!(py, "attributes"))?;
    Ok(Decision {
        records: says("is_recording")?,
        samples: says("is_sampled")?,
        attributes: attributes.is_truthy()?.then(|| attributes.unbind()),
        trace_state: match trace_state.is_none() {
            true => None,
            false => Some(TraceState::parse(trace_state_text(&trace_state)?.as_bytes()).unwrap_or_default()),
        },
    })
}

//! What became of a tracer's spans, and of its requests about sessions: `Tracer.stats()`.

use pyo3::prelude::*;
use pyo3::types::PyDict;
use tracebaton::delivery::Stats;
use tracebaton::tracer::stats;
use tracebaton_export::Sessions;

use crate::core::Core;
use crate::value::to_python;

/// All of it as a dict.
pub(crate) fn dict<'py>(core: &Core, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
    let outlets = core.outlets();
    let exported = outlets
        .iter()
        .flat_map(|outlet| outlet.exporters())
        .map(|exporter| (exporter.destination().shown_url(), exporter.stats()));
    let sinks = core.sinks.iter().filter_map(|sink| Some((sink.name(), sink.stats()?)));
    let sessions: Vec<Stats> = core.sessions.iter().map(Sessions::stats).collect();
    let all = stats::describe(&core.tracer, sinks.chain(exported), &sessions);
    let out = to_python(py, &all)?.cast_into::<PyDict>()?;
    out.set_item("outbound_dropped", to_python(py, &stats::by_rule(&core.outbound_dropped))?)?;
    Ok(out)
}

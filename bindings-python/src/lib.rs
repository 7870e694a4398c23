//! The native module of the Python package `tracebaton`: conversions between Python's objects and core's.

mod arguments;
mod attributes;
mod block;
mod carrier;
mod clock;
mod core;
mod explain;
mod foreign;
mod fork;
mod ids;
mod parent;
mod policy;
mod propagation;
mod remote;
mod report;
mod scope;
mod sdk;
mod session;
mod sink;
mod span;
mod span_context;
mod stats;
mod trace_state;
mod types;
mod value;
mod wait;

/// Native parts of `tracebaton`. Its classes hold their own locks: where Python has none, importing this brings none.
#[pyo3::pymodule(name = "_native", gil_used = false)]
mod native {
    use pyo3::prelude::*;

    #[pymodule_init]
    fn init(module: &Bound<'_, PyModule>) -> PyResult<()> {
        module.add("VERSION", env!("CARGO_PKG_VERSION"))
    }

    #[pymodule_export]
    use super::block::{DistributedContext, EnrichedBlock, Plan, Starter, with_distributed_trace_context};
    #[pymodule_export]
    use super::core::{Core, Instrumentation};
    #[pymodule_export]
    use super::explain::explain;
    #[pymodule_export]
    use super::foreign::{ForeignBatch, ForeignFlush, ForeignQueue};
    #[pymodule_export]
    use super::fork::{after_fork_in_child, after_fork_in_parent, before_fork};
    #[pymodule_export]
    use super::ids::{new_span_id, new_trace_id};
    #[pymodule_export]
    use super::policy::Policy;
    #[pymodule_export]
    use super::propagation::{extract, extract_context_from_carrier, extract_with_getter, inject};
    #[pymodule_export]
    use super::remote::RemoteBase;
    #[pymodule_export]
    use super::report::{forget_reports, report};
    #[pymodule_export]
    use super::scope::{Scope, check_session_id};
    #[pymodule_export]
    use super::sdk::{sdk_ending, sdk_export, sdk_flush, sdk_started};
    #[pymodule_export]
    use super::session::{enrich_session, start_session};
    #[pymodule_export]
    use super::span::SpanBase;
    #[pymodule_export]
    use super::span::enrich::enrich;
    #[pymodule_export]
    use super::span::readable::{span_replace_attributes, span_replace_events, span_replace_name, span_replace_status};
    #[pymodule_export]
    use super::trace_state::TraceStateBase;
    #[pymodule_export]
    use super::types::set_up;
    #[pymodule_export]
    use super::wait::deliver_all;
}

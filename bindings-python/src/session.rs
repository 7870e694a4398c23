//! Sessions at HoneyHive: where they are told about, and what is merged into them.

use pyo3::prelude::*;
use pyo3::types::PyDict;
use tracebaton::SessionScope;
use tracebaton::registration::{Enrichment, Start};

use crate::core::Core;
use crate::scope::Scope;
use crate::value::captured;

/// Registers the session of a scope with what it begins with, unless somebody else does or nobody is to; if it was
/// registered before, that is merged into it. Nothing happens where spans do not go to HoneyHive.
#[pyfunction]
pub(crate) fn start_session(
    core: &Core,
    scope: &Bound<'_, Scope>,
    source: Option<&str>,
    fields: &Bound<'_, PyDict>,
) -> PyResult<()> {
    if !scope.get().routings(core).is_to_be_registered() {
        return Ok(());
    }
    let field =
        |name: &str| -> PyResult<_> { Ok(fields.get_item(name)?.filter(|it| !it.is_none()).map(|it| captured(&it))) };
    let start = Start {
        source,
        inputs: field("inputs")?,
        metadata: field("metadata")?,
        user_properties: field("user_properties")?,
        ..Start::default()
    };
    if !core.register(Some(scope.get()), start) {
        enrich_session(core, Some(scope), false, fields)?;
    }
    Ok(())
}

/// Merges these fields into the session that holds in a scope, at HoneyHive; whether there was anything to merge, and it
/// was queued. The session is registered before, unless it is a caller's or was named by `scope` for this alone.
#[pyfunction]
pub(crate) fn enrich_session(
    core: &Core,
    scope: Option<&Bound<'_, Scope>>,
    register: bool,
    fields: &Bound<'_, PyDict>,
) -> PyResult<bool> {
    let Some(sessions) = &core.sessions else { return Ok(false) };
    let field =
        |name: &str| -> PyResult<_> { Ok(fields.get_item(name)?.filter(|it| !it.is_none()).map(|it| captured(&it))) };
    let enrichment = Enrichment {
        inputs: field("inputs")?,
        outputs: field("outputs")?,
        metadata: field("metadata")?,
        metrics: field("metrics")?,
        feedback: field("feedback")?,
        config: field("config")?,
        user_properties: field("user_properties")?,
    };
    let scope = scope.map(|scope| scope.get());
    if register {
        match scope {
            Some(scope) => core.use_session(Some(scope), &scope.routings(core)),
            None => core.use_session(None, &core.own_routings()),
        }
    }
    let session = core.tracer.session_in(scope.map_or(&SessionScope::EMPTY, Scope::inner));
    Ok(sessions.enrich(session, enrichment, core.tracer.flatten()))
}

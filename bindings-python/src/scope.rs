//! What a context carries for sessions and baggage: core's scope, with what Python needs beside it.

use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyString};
use tracebaton::context::SpanContext;
use tracebaton::extract::Inbound;
use tracebaton::scope::{SessionScope, TracerId};

use tracebaton::tracer::Routings;

use crate::core::Core;
use crate::value::string;

/// The value under the scope key of a context. Immutable: a block sets another one and goes back to this.
#[pyclass(subclass, frozen, module = "tracebaton._native")]
pub(crate) struct Scope {
    inner: OnceLock<SessionScope>,
    /// What `inner` is made of when somebody asks, which not every request does.
    inbound: Option<(Option<TracerId>, Inbound)>,
    /// OpenTelemetry's view of the baggage in here, if it was made for nothing else: as long as the context has this
    /// very object, the application changed nothing.
    pub(crate) view: Option<Py<PyDict>>,
    /// The routing attributes by tracer: every span in this scope has the same.
    routings: Mutex<Vec<(TracerId, Arc<Routings>)>>,
}

impl Scope {
    pub(crate) fn new(inner: SessionScope, view: Option<Py<PyDict>>) -> Self {
        Self { inner: OnceLock::from(inner), inbound: None, view, routings: Mutex::default() }
    }

    /// The scope with what a caller sent to this tracer, or to all of them, where nothing held before.
    pub(crate) fn of_inbound(tracer: Option<TracerId>, inbound: Inbound, view: Option<Py<PyDict>>) -> Self {
        Self { inner: OnceLock::new(), inbound: Some((tracer, inbound)), view, routings: Mutex::default() }
    }

    /// What it says. Nobody waits for another thread to find out: it is done while the interpreter's lock is held.
    pub(crate) fn inner(&self) -> &SessionScope {
        self.inner.get_or_init(|| match &self.inbound {
            Some((tracer, inbound)) => SessionScope::EMPTY.with_inbound(*tracer, inbound),
            None => SessionScope::EMPTY,
        })
    }

    pub(crate) fn routings(&self, core: &Core) -> Arc<Routings> {
        let mut known = self.routings.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, routings)) = known.iter().find(|(id, _)| *id == core.tracer.id()) {
            return Arc::clone(routings);
        }
        let routings = core.tracer.routings(self.inner());
        known.push((core.tracer.id(), Arc::clone(&routings)));
        routings
    }

    pub(crate) fn link(&self, core: &Core) -> Option<&SpanContext> {
        self.inner().link(core.tracer.id(), core.tracer.policy())
    }
}

#[pymethods]
impl Scope {
    /// The scope `base` (or an empty one) with another session for the tracer of `core`: one with a name of its own, or
    /// that is `registered` by somebody else.
    #[staticmethod]
    #[pyo3(signature = (base, core, session_id, name=None, registered=false))]
    fn with_session(
        py: Python<'_>,
        base: Option<&Bound<'_, Self>>,
        core: &Core,
        session_id: &Bound<'_, PyString>,
        name: Option<&Bound<'_, PyString>>,
        registered: bool,
    ) -> PyResult<Self> {
        let inner = base.map(|base| base.get().inner().clone()).unwrap_or_default();
        let inner = inner
            .with_named_session(core.tracer.id(), &string(session_id), name.map(string).as_deref(), registered)
            .map_err(|error| PyValueError::new_err(format!("session_id: {error}")))?;
        Ok(Self::new(inner, base.and_then(|base| base.get().view.as_ref().map(|view| view.clone_ref(py)))))
    }

    /// The session that holds in this scope for the tracer of `core`, unless it is the tracer's own.
    fn session_for(&self, core: &Core) -> Option<&str> {
        self.inner().session_for(core.tracer.id(), core.tracer.policy())
    }
}

/// Raises a `ValueError` unless the text may be a session id.
#[pyfunction]
pub(crate) fn check_session_id(session_id: &Bound<'_, PyString>) -> PyResult<()> {
    tracebaton::session::check(&string(session_id))
        .map_err(|error| PyValueError::new_err(format!("session_id: {error}")))
}

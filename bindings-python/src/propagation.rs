//! Extracting from carriers into contexts, and injecting from contexts into carriers: one call each.

use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyString};
use tracebaton::baggage::{Baggage, Entry, reconcile};
use tracebaton::carrier::{Collected, Header};
use tracebaton::extract::{Inbound, extract_collected};
use tracebaton::inject::{Outbound, compose};
use tracebaton::parent::{Current, Parent};
use tracebaton::policy::{Allowed, Policy as CorePolicy};

use crate::block;
use crate::carrier::{self, Found, entries, swallow};
use crate::core::Core;
use crate::parent::{self, context_of, unwrapped};
use crate::policy::Policy;
use crate::remote::{remote_span, restore};
use crate::report;
use crate::scope::{Scope, check_session_id};
use crate::span::SpanBase;
use crate::types::{self, Types};
use crate::value::{string, type_name};

/// What holds where there is no tracer.
static DEFAULT_POLICY: CorePolicy = CorePolicy::DEFAULT;

/// The context `base` with what the carrier holds. With a `core`, for its tracer alone and under its policy, or the one
/// given. What was left out is in the statistics of `counted`, or of `core`.
#[pyfunction]
#[pyo3(signature = (base, carrier, core, policy, counted=None))]
pub(crate) fn extract(
    base: &Bound<'_, PyDict>,
    carrier: &Bound<'_, PyAny>,
    core: Option<&Bound<'_, Core>>,
    policy: Option<&Policy>,
    counted: Option<&Core>,
) -> PyResult<Py<PyAny>> {
    let found = Found::read(carrier)?;
    into_context(base, &found, core, policy, counted).map(|context| context.into_any().unbind())
}

/// As [`extract`].
pub(crate) fn context_with<'py>(
    base: &Bound<'py, PyDict>,
    carrier: &Bound<'py, PyAny>,
    core: Option<&Bound<'py, Core>>,
    policy: Option<&Policy>,
) -> PyResult<Bound<'py, PyDict>> {
    into_context(base, &Found::read(carrier)?, core, policy, None)
}

/// The session id of an argument; none if it is empty.
///
/// # Errors
///
/// `TypeError` for what is no text, `ValueError` for what can be no session id.
pub(crate) fn session_id(given: &Bound<'_, PyAny>) -> PyResult<Option<Py<PyString>>> {
    let Ok(text) = given.cast::<PyString>() else {
        return Err(PyTypeError::new_err(format!("session_id must be a str, not {}", type_name(given))));
    };
    if text.is_empty()? {
        return Ok(None);
    }
    check_session_id(text)?;
    Ok(Some(text.clone().unbind()))
}

/// The current context with what a carrier holds: the caller's span, session and baggage.
///
/// The carrier is whatever a framework has for headers. What is not valid in it is left out, by the rules of the W3C
/// recommendations, and counted in `stats()`; nothing is raised for it.
#[pyfunction]
#[pyo3(signature = (carrier, tracer=None, *, tracer_instance=None))]
pub(crate) fn extract_context_from_carrier(
    py: Python<'_>,
    carrier: &Bound<'_, PyAny>,
    tracer: Option<&Bound<'_, PyAny>>,
    tracer_instance: Option<&Bound<'_, PyAny>>,
) -> PyResult<Py<PyAny>> {
    let types = types::get(py)?;
    let base = block::current(py, types)?;
    let chosen = block::choose(types, tracer.or(tracer_instance), &base)?;
    let core = chosen.map(|tracer| tracer.getattr(pyo3::intern!(py, "_core"))).transpose()?;
    let core = core.map(|core| core.cast_into::<Core>()).transpose().map_err(PyErr::from)?;
    extract(&base, carrier, core.as_ref(), None, None)
}

/// As `extract`, through an OpenTelemetry `Getter`.
#[pyfunction]
#[pyo3(signature = (base, carrier, getter, core, counted=None))]
pub(crate) fn extract_with_getter(
    py: Python<'_>,
    base: &Bound<'_, PyDict>,
    carrier: &Bound<'_, PyAny>,
    getter: &Bound<'_, PyAny>,
    core: Option<&Bound<'_, Core>>,
    counted: Option<&Core>,
) -> PyResult<Py<PyAny>> {
    let mut found = Found::default();
    for header in Header::ALL {
        let values = getter.call_method1(pyo3::intern!(py, "get"), (carrier, header.name()));
        if let Some(values) = swallow(py, values)? {
            found.take(PyString::new(py, header.name()).as_any(), values);
        }
    }
    into_context(base, &found, core, None, counted).map(|context| context.into_any().unbind())
}

fn into_context<'py>(
    base: &Bound<'py, PyDict>,
    found: &Found<'_>,
    core: Option<&Bound<'_, Core>>,
    policy: Option<&Policy>,
    counted: Option<&Core>,
) -> PyResult<Bound<'py, PyDict>> {
    let py = base.py();
    let types = types::get(py)?;
    let policy = match (policy, core) {
        (Some(policy), _) => &policy.inner,
        (None, Some(core)) => core.get().tracer.policy(),
        (None, None) => &DEFAULT_POLICY,
    };
    let inbound = extract_collected(&found.collected(), policy);
    if let Some(core) = counted.or(core.map(Bound::get)) {
        core.count_inbound(inbound.dropped);
    }
    let context = block::copied(types, base)?;
    if !has_news(&inbound) {
        return Ok(context);
    }
    let parent = Parent::of(&inbound, current(base, types, &inbound)?);
    let before = scope_of(base, types)?;
    let view = match view(py, base, types, &inbound.baggage)? {
        Some((view, is_pure)) => {
            context.set_item(&types.baggage_key, &view)?;
            is_pure.then(|| view.unbind())
        }
        None => before.as_ref().and_then(|scope| scope.get().view.as_ref().map(|view| view.clone_ref(py))),
    };
    let tracer = core.map(|core| core.get().tracer.id());
    let span = inbound.span.clone();
    let scope = match before.as_ref().map(|scope| scope.get().inner()).filter(|before| !before.is_empty()) {
        Some(before) => Scope::new(before.with_inbound(tracer, &inbound), view),
        None => Scope::of_inbound(tracer, inbound, view),
    };
    let scope = match (parent, span) {
        (Parent::Caller, Some(span)) => {
            let span = remote_span(py, span, scope)?;
            context.set_item(&types.span_key, &span)?;
            span
        }
        (parent, _) => {
            if parent == Parent::None {
                context.del_item(&types.span_key)?;
            }
            Bound::new(py, scope)?.into_any()
        }
    };
    context.set_item(&types.scope_key, scope)?;
    Ok(context)
}

fn has_news(inbound: &Inbound) -> bool {
    inbound.span.is_some() || inbound.link.is_some() || !inbound.baggage.is_empty()
}

/// The current span, where it decides what the parent is.
fn current(base: &Bound<'_, PyDict>, types: &Types, inbound: &Inbound) -> PyResult<Option<Current>> {
    if inbound.span.is_none() && inbound.link.is_none() {
        return Ok(None);
    }
    let Some(span) = base.get_item(&types.span_key)? else { return Ok(None) };
    let context = swallow(base.py(), context_of(&span))?.flatten();
    Ok(context.as_ref().map(Current::from))
}

/// OpenTelemetry's view of baggage that came in, and whether it shows nothing else. None if nothing came in.
fn view<'py>(
    py: Python<'py>,
    base: &Bound<'py, PyDict>,
    types: &Types,
    baggage: &Baggage,
) -> PyResult<Option<(Bound<'py, PyDict>, bool)>> {
    if baggage.is_empty() {
        return Ok(None);
    }
    let before = base.get_item(&types.baggage_key)?.and_then(|it| it.cast_into::<PyDict>().ok());
    let before = before.filter(|before| !before.is_empty());
    let pure = before.is_none();
    let view = before.map_or_else(|| Ok(PyDict::new(py)), |before| before.copy())?;
    for member in baggage.iter() {
        view.set_item(name_of(py, member.name()), &*member.value())?;
    }
    Ok(Some((view, pure)))
}

/// The name of a member. Most callers send the same few, whose hashes are known.
fn name_of<'py>(py: Python<'py>, name: &str) -> Bound<'py, PyString> {
    match name {
        "session_id" => pyo3::intern!(py, "session_id").clone(),
        "project" => pyo3::intern!(py, "project").clone(),
        "source" => pyo3::intern!(py, "source").clone(),
        _ => PyString::new(py, name),
    }
}

fn scope_of<'py>(context: &Bound<'py, PyDict>, types: &Types) -> PyResult<Option<Bound<'py, Scope>>> {
    Ok(context.get_item(&types.scope_key)?.and_then(|scope| scope.cast_into::<Scope>().ok()))
}

/// Writes what `context` holds into the carrier. With a `core`, its session, project and source come first. `url`, if
/// there is one, is where it goes: the policy then says what may.
#[pyfunction]
#[pyo3(signature = (context, carrier, core, url, setter))]
pub(crate) fn inject(
    py: Python<'_>,
    context: &Bound<'_, PyDict>,
    carrier: &Bound<'_, PyAny>,
    core: Option<&Bound<'_, Core>>,
    url: Option<&Bound<'_, PyString>>,
    setter: Option<&Bound<'_, PyAny>>,
) -> PyResult<()> {
    let types = types::get(py)?;
    let meant = core.map(Bound::get);
    // A disabled tracer passes on what came in, and says nothing itself.
    let core = meant.filter(|core| core.enabled());
    let policy = meant.map_or(&DEFAULT_POLICY, |core| core.tracer.policy());
    let allowed = url.map_or(Allowed::ALL, |url| policy.destination(&string(url)));

    let current = context.get_item(&types.span_key)?;
    let mut span = match (&current, meant) {
        (Some(span), Some(core)) => {
            swallow(py, parent::Parent::of(span, core.tracer.id()))?.and_then(parent::Parent::into_context)
        }
        (Some(span), None) => swallow(py, context_of(span))?.flatten(),
        _ => None,
    };
    let scope = match scope_of(context, types)? {
        Some(scope) => Some(scope),
        // A context made by hand from a span alone: what the span knows holds.
        None => current.as_ref().and_then(|span| {
            let span = unwrapped(span).cast_into::<SpanBase>().ok()?;
            span.get().scope.as_ref().map(|scope| scope.bind(py).clone())
        }),
    };
    if let (Some(span), Some(scope)) = (&mut span, &scope) {
        restore(span, scope);
    }
    let inner = scope.as_ref().map(|scope| scope.get().inner());
    let id = meant.map(|core| core.tracer.id());
    let session =
        core.map(|core| inner.and_then(|it| it.session_for(id, policy)).unwrap_or_else(|| core.own_session()));
    let project = core.and_then(|core| inner.and_then(|it| it.project_for(id, policy)).or_else(|| core.own_project()));

    let came_in = inner.and_then(|it| it.baggage(id, policy));
    let baggage = context.get_item(&types.baggage_key)?.and_then(|it| it.cast_into::<PyDict>().ok());
    let view = scope.as_ref().and_then(|scope| scope.get().view.as_ref());
    let texts = match (&baggage, view) {
        (Some(baggage), Some(view)) if baggage.is(view) => Vec::new(),
        (Some(baggage), _) => entries(baggage),
        (None, _) => Vec::new(),
    };
    let mut application: Vec<Entry<'_>> =
        texts.iter().map(|(name, value)| Entry { name, value, properties: None }).collect();
    let mut untouched = None;
    // Where no baggage may go, all that came in is what must not stand there.
    if let (true, Some(list), Some(baggage)) = (allowed.baggage, came_in, &baggage)
        && !view.is_some_and(|view| baggage.is(view))
    {
        let reconciled = reconcile(list, application.iter().copied());
        application = reconciled.application;
        untouched = Some(reconciled.inbound);
    }
    let outbound = Outbound {
        span: span.as_ref(),
        session,
        project,
        source: core.map(Core::own_source),
        application: &application,
        inbound: untouched.as_ref().or(came_in),
        policy: Some(policy),
        allowed,
    };

    if let Some(setter) = setter {
        let headers = compose(&outbound, &Collected::default());
        if let Some(core) = meant {
            core.count_outbound(headers.dropped);
        }
        return carrier::each(&headers, |header, value| {
            let Some(value) = value else { return Ok(()) };
            let arguments = (carrier, header.name(), value);
            swallow(py, setter.call_method1(pyo3::intern!(py, "set"), arguments)).map(|_| ())
        });
    }
    let found = Found::read(carrier)?;
    let headers = compose(&outbound, &found.collected());
    if let Some(core) = meant {
        core.count_outbound(headers.dropped);
    }
    if !carrier::write(carrier, &headers)? {
        report::warn("inject: the carrier cannot be written; it stays as it is");
    }
    Ok(())
}

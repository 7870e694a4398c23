//! For programs that stay on OpenTelemetry's SDK: its spans in our queues, and what a processor of its provider adds to
//! them.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyInt, PyMapping, PyString};
use tracebaton::delivery::{Pushed, Scope};
use tracebaton::event_type::{Derivation, EVENT_TYPE};
use tracebaton::id::{SpanId, TraceId};
use tracebaton::limits::Limits;
use tracebaton::routing::{Routing, RoutingKey};
use tracebaton::session::honeyhive_session_id;
use tracebaton::span::{Attributes, Kind, LinkHead, SpanHead, SpanWriter, StatusCode, instrumentation_scope, resource};
use tracebaton::value::Value;
use tracebaton_export::{self as export, Exporter};

use crate::clock::{given_ns, wall_ns};
use crate::core::Core;
use crate::parent::Parent;
use crate::scope::Scope as SessionScope;
use crate::sink::{Sink, Style};
use crate::span_context::{self, Parts};
use crate::types;
use crate::value::{attribute, string, text_of, to_python, type_name};
use crate::wait::{self, Wait};

/// The provider has seen to its limits.
const UNLIMITED: Limits = Limits {
    attributes: usize::MAX,
    events: usize::MAX,
    links: usize::MAX,
    attributes_per_event: usize::MAX,
    attributes_per_link: usize::MAX,
    value_length: None,
    value_depth: 64,
    captured_bytes: usize::MAX,
    leaves: usize::MAX,
};

/// The queues of one resource: a queue of ours has one, and each provider of the SDK its own.
pub(crate) struct Outlet {
    /// The resource as the spans refer to it, which is mostly the same object, and as an OTLP message.
    object: Py<PyAny>,
    encoded: Vec<u8>,
    exporters: Vec<Exporter>,
    closed: AtomicBool,
}

impl Outlet {
    pub(crate) fn exporters(&self) -> &[Exporter] {
        &self.exporters
    }

    /// Has the next span get a new queue, since this one is about to be shut down.
    pub(crate) fn close(&self) {
        self.closed.store(true, Ordering::Relaxed);
    }
}

/// Queues ended spans of OpenTelemetry's SDK: whether there was room for all of them. An object that is no such span is
/// an error, after all others were queued.
#[pyfunction]
pub(crate) fn sdk_export(core: &Core, spans: &Bound<'_, PyAny>) -> PyResult<bool> {
    let py = spans.py();
    let (mut taken, mut failed) = (true, None);
    let mut scopes: Vec<(Bound<'_, PyAny>, Scope)> = Vec::new();
    let mut last: Option<(Bound<'_, PyAny>, Arc<Outlet>)> = None;
    for span in spans.try_iter()? {
        let span = span?;
        let of = span.getattr(pyo3::intern!(py, "resource"))?;
        let outlet = match last.take().filter(|(object, _)| object.is(&of)) {
            Some((_, outlet)) => outlet,
            None => core.outlet(&of)?,
        };
        let from = span.getattr(pyo3::intern!(py, "instrumentation_scope"))?;
        let scope = match scopes.iter().find(|(object, _)| object.is(&from)) {
            Some((_, scope)) => scope.clone(),
            None => {
                let scope = scope_of(&from)?;
                scopes.push((from, scope.clone()));
                scope
            }
        };
        match core.export_one(&span, &scope, &outlet) {
            Ok(queued) => taken &= queued,
            Err(error) => failed = Some(error),
        }
        last = Some((of, outlet));
    }
    failed.map_or(Ok(taken), Err)
}

/// Delivers what was queued of the SDK's spans; with `shutdown`, their next one begins a new queue.
#[pyfunction]
pub(crate) fn sdk_flush(py: Python<'_>, core: &Core, timeout_millis: u64, shutdown: bool) -> PyResult<bool> {
    let outlets = core.outlets();
    if shutdown {
        outlets.iter().for_each(|outlet| outlet.close());
    }
    let exporters: Vec<&Exporter> = outlets.iter().flat_map(|outlet| outlet.exporters()).collect();
    let what = if shutdown { Wait::Shutdown } else { Wait::Flush };
    wait::for_all(what, py, &exporters, &[], Duration::from_millis(timeout_millis))
}

impl Core {
    /// The queues for a resource: those that are there, or new ones.
    fn outlet(&self, object: &Bound<'_, PyAny>) -> PyResult<Arc<Outlet>> {
        let find = |is: &dyn Fn(&Outlet) -> bool| {
            let outlets = self.outlets();
            outlets.into_iter().find(|outlet| !outlet.closed.load(Ordering::Relaxed) && is(outlet))
        };
        if let Some(outlet) = find(&|outlet| outlet.object.is(object)) {
            return Ok(outlet);
        }
        let encoded = resource_of(object)?;
        if let Some(outlet) = find(&|outlet| outlet.encoded == encoded) {
            return Ok(outlet);
        }
        let exporters = self.exporters_for(&encoded)?;
        let outlet = Outlet { object: object.clone().unbind(), encoded, exporters, closed: AtomicBool::new(false) };
        let outlet = Arc::new(outlet);
        self.add_outlet(Arc::clone(&outlet));
        Ok(outlet)
    }

    fn export_one(&self, span: &Bound<'_, PyAny>, scope: &Scope, outlet: &Outlet) -> PyResult<bool> {
        let (mut taken, mut failed) = (true, None);
        let mut exporters = outlet.exporters.iter();
        for sink in &self.sinks {
            let encode = |out: &mut Vec<u8>| {
                let begin = out.len();
                if let Err(error) = self.encode(span, sink.style(), out) {
                    // Half a span is none.
                    out.truncate(begin);
                    failed = Some(error);
                }
            };
            taken &= match sink {
                // They are in the order of the sinks.
                Sink::Own(export::Sink::Network(..)) => exporters
                    .next()
                    .is_none_or(|exporter| !matches!(exporter.record(scope, encode), Pushed::Dropped(_))),
                sink => sink.take(span.py(), scope, None, encode),
            };
        }
        failed.map_or(Ok(taken), Err)
    }

    /// Appends a span as an entry of `ScopeSpans.spans`: as it is, but for HoneyHive, which knows sessions by a UUID and
    /// drops spans without one.
    fn encode<'py>(&self, span: &Bound<'py, PyAny>, style: Style, out: &mut Vec<u8>) -> PyResult<()> {
        let py = span.py();
        let get = |name: &Bound<'py, PyString>| span.getattr(name);
        let context = Parts::of(&span.call_method0(pyo3::intern!(py, "get_span_context"))?)?;
        let (Some(trace_id), Some(span_id)) =
            (TraceId::from_bytes(context.trace_id), SpanId::from_bytes(context.span_id))
        else {
            return Err(PyTypeError::new_err("a span has no valid context"));
        };
        let parent = get(pyo3::intern!(py, "parent"))?;
        let parent = if parent.is_none() { None } else { Some(Parts::of(&parent)?) };
        let name = get(pyo3::intern!(py, "name"))?;
        let name = text_of(&name);
        let kind = get(pyo3::intern!(py, "kind"))?.getattr(pyo3::intern!(py, "value"))?.extract::<u8>()?;
        let head = SpanHead {
            trace_id,
            span_id,
            parent: parent.as_ref().and_then(|parent| SpanId::from_bytes(parent.span_id)),
            parent_is_remote: parent.as_ref().is_some_and(|parent| parent.is_remote),
            flags: context.flags,
            trace_state: &context.trace_state,
            name: &name,
            kind: Kind::from_api(kind),
            start_ns: time(&get(pyo3::intern!(py, "start_time"))?),
            end_ns: time(&get(pyo3::intern!(py, "end_time"))?),
        };
        let mut writer = SpanWriter::begin(out, &head, &UNLIMITED);
        let mut has_session = false;
        each(span, &mut |key, value| {
            let value = attribute(value);
            let is_session = key == RoutingKey::Session.as_str();
            has_session |= is_session;
            match value.as_str() {
                Some(session) if is_session && style == Style::HoneyHive => {
                    writer.attribute(key, &Value::Str(honeyhive_session_id(session)));
                }
                _ => writer.attribute(key, &value),
            }
        })?;
        for event in get(pyo3::intern!(py, "events"))?.try_iter()? {
            let event = event?;
            let name = text_of(&event.getattr(pyo3::intern!(py, "name"))?);
            let at = time(&event.getattr(pyo3::intern!(py, "timestamp"))?);
            let mut result = Ok(());
            writer.event(at, &name, |out| result = put_all(&event, out));
            result?;
        }
        for link in get(pyo3::intern!(py, "links"))?.try_iter()? {
            let link = link?;
            let to = Parts::of(&link.getattr(pyo3::intern!(py, "context"))?)?;
            let head = LinkHead {
                trace_id: to.trace_id,
                span_id: to.span_id,
                flags: to.flags,
                is_remote: to.is_remote,
                trace_state: &to.trace_state,
            };
            let mut result = Ok(());
            writer.link(&head, |out| result = put_all(&link, out));
            result?;
        }
        writer.count_dropped(
            dropped(span, pyo3::intern!(py, "dropped_attributes")),
            dropped(span, pyo3::intern!(py, "dropped_events")),
            dropped(span, pyo3::intern!(py, "dropped_links")),
        );
        let status = get(pyo3::intern!(py, "status"))?;
        let code = status.getattr(pyo3::intern!(py, "status_code"))?.getattr(pyo3::intern!(py, "value"))?;
        let description = status.getattr(pyo3::intern!(py, "description"))?;
        let description = if description.is_none() { String::new() } else { text_of(&description) };
        let code = StatusCode::from_number(code.extract()?);
        match style {
            Style::Raw => writer.finish_as_it_is(code, &description),
            Style::HoneyHive if has_session => writer.finish(code, &description, &Routing::default()),
            Style::HoneyHive => {
                let own = self.own_routings();
                self.use_session(None, &own);
                writer.finish(code, &description, own.of(style));
            }
        }
        Ok(())
    }
}

/// Nanoseconds since 1970; 0 for a time that nobody took. The SDK keeps what it was given.
fn time(value: &Bound<'_, PyAny>) -> u64 {
    if value.is_none() { 0 } else { given_ns(Some(value)).unwrap_or_else(wall_ns) }
}

/// How many were dropped of something.
fn dropped(of: &Bound<'_, PyAny>, name: &Bound<'_, PyString>) -> u32 {
    count(of, name).unwrap_or_default()
}

/// How many attributes of an event or link were dropped: older SDKs say so of the attributes only.
fn dropped_attributes(of: &Bound<'_, PyAny>) -> u32 {
    let py = of.py();
    let of_attributes = || {
        let attributes = of.getattr_opt(pyo3::intern!(py, "attributes")).ok()??;
        count(&attributes, pyo3::intern!(py, "dropped"))
    };
    count(of, pyo3::intern!(py, "dropped_attributes")).or_else(of_attributes).unwrap_or_default()
}

fn count(of: &Bound<'_, PyAny>, name: &Bound<'_, PyString>) -> Option<u32> {
    of.getattr_opt(name).ok()??.cast::<PyInt>().ok()?.extract().ok()
}

/// Calls `f` with the attributes of a span, event, link, scope or resource.
fn each(of: &Bound<'_, PyAny>, f: &mut dyn FnMut(&str, &Bound<'_, PyAny>)) -> PyResult<()> {
    let py = of.py();
    // The SDK's collection keeps a plain dict; its own iterator takes a lock for every value.
    let inner = of.getattr_opt(pyo3::intern!(py, "_attributes"))?;
    let inner = match &inner {
        Some(inner) => inner.getattr_opt(pyo3::intern!(py, "_dict"))?.or_else(|| Some(inner.clone())),
        None => None,
    };
    let inner = match inner {
        Some(inner) => inner,
        None => of.getattr(pyo3::intern!(py, "attributes"))?,
    };
    if inner.is_none() {
        return Ok(());
    }
    let items = match inner.cast::<PyDict>() {
        Ok(attributes) => {
            for (key, value) in attributes.iter() {
                if let Ok(key) = key.cast::<PyString>() {
                    f(&string(key), &value);
                }
            }
            return Ok(());
        }
        Err(_) => inner.cast::<PyMapping>()?.items()?,
    };
    for pair in items.iter() {
        let (key, value) = pair.extract::<(Bound<'_, PyAny>, Bound<'_, PyAny>)>()?;
        if let Ok(key) = key.cast::<PyString>() {
            f(&string(key), &value);
        }
    }
    Ok(())
}

/// Writes the attributes of an event or link.
fn put_all(of: &Bound<'_, PyAny>, out: &mut Attributes<'_>) -> PyResult<()> {
    out.count_dropped(dropped_attributes(of));
    each(of, &mut |key, value| out.put(key, &attribute(value)))
}

fn resource_of(object: &Bound<'_, PyAny>) -> PyResult<Vec<u8>> {
    Ok(resource(owned(object)?.iter().map(|(key, value)| (key.as_str(), value.clone()))))
}

fn scope_of(object: &Bound<'_, PyAny>) -> PyResult<Scope> {
    if object.is_none() {
        return Ok(Scope::new(&[]));
    }
    let py = object.py();
    let text = |name: &Bound<'_, PyString>| -> PyResult<String> {
        let text = object.getattr_opt(name)?.filter(|text| !text.is_none());
        Ok(text.map(|text| text_of(&text)).unwrap_or_default())
    };
    let (name, version) = (text(pyo3::intern!(py, "name"))?, text(pyo3::intern!(py, "version"))?);
    let attributes = if object.hasattr(pyo3::intern!(py, "attributes"))? { owned(object)? } else { Vec::new() };
    let attributes = attributes.iter().map(|(key, value)| (key.as_str(), value.clone()));
    Ok(Scope::new(&instrumentation_scope(&name, &version, attributes))
        .with_schema_url(&text(pyo3::intern!(py, "schema_url"))?))
}

fn owned(object: &Bound<'_, PyAny>) -> PyResult<Vec<(String, Value<'static>)>> {
    let mut out = Vec::new();
    each(object, &mut |key, value| out.push((key.to_owned(), attribute(value).into_owned())))?;
    Ok(out)
}

/// What a span of the SDK gets when it starts in this context: the routing attributes of the session that holds, what the
/// policy makes of baggage, and the link that a restarted trace has to its caller (for a root).
#[pyfunction]
pub(crate) fn sdk_started<'py>(
    core: &Core,
    context: &Bound<'py, PyDict>,
    root: bool,
) -> PyResult<(Bound<'py, PyDict>, Option<Py<PyAny>>)> {
    let py = context.py();
    let types = types::get(py)?;
    let scope = match context.get_item(types.scope_key.bind(py))? {
        Some(scope) => scope.cast_into::<SessionScope>().ok().map(Bound::unbind),
        // As for our own spans: a context made by hand from a span alone.
        None => match context.get_item(types.span_key.bind(py))? {
            Some(current) => Parent::of(&current, core.tracer.id())?.scope(py),
            None => None,
        },
    };
    let scope = scope.as_ref().map(|scope| scope.get());
    let routings = scope.map_or_else(|| core.own_routings(), |scope| scope.routings(core));
    core.use_session(scope, &routings);
    let out = PyDict::new(py);
    for (key, value) in routings.of(Style::Raw).iter() {
        out.set_item(key.as_str(), to_python(py, value)?)?;
    }
    let keys = &core.tracer.policy().baggage_attributes;
    if !keys.is_empty()
        && let Some(baggage) = context.get_item(types.baggage_key.bind(py))?
        && let Ok(baggage) = baggage.cast_into::<PyDict>()
    {
        for key in keys {
            if let Some(value) = baggage.get_item(key)? {
                out.set_item(key, value)?;
            }
        }
    }
    let link = scope.filter(|_| root).and_then(|scope| scope.link(core));
    Ok((out, link.map(|link| span_context::to_python(py, link)).transpose()?))
}

/// What changes about a span's attributes when it ends: secrets are replaced, and the event type is derived unless they
/// name one.
#[pyfunction]
pub(crate) fn sdk_ending<'py>(core: &Core, attributes: &Bound<'py, PyDict>) -> PyResult<Bound<'py, PyDict>> {
    let py = attributes.py();
    let out = PyDict::new(py);
    let redaction = &core.tracer.flatten().redaction;
    let mut event_type = Derivation::default();
    for (key, value) in attributes.iter() {
        let Ok(key) = key.cast::<PyString>() else {
            return Err(PyTypeError::new_err(format!("the key of an attribute is no text but {}", type_name(&key))));
        };
        let (key, value) = (string(key), attribute(&value));
        event_type.see(&key, value.as_str());
        let nested = matches!(value, Value::Array(_) | Value::Map(_));
        if nested || redaction.is_secret_key(&key) {
            let mut changed = value.clone();
            redaction.apply(&key, &mut changed);
            if changed != value {
                out.set_item(key, to_python(py, &changed)?)?;
            }
        }
    }
    if !event_type.is_explicit() {
        out.set_item(EVENT_TYPE, event_type.result().as_str())?;
    }
    Ok(out)
}

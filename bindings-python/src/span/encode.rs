//! Encoding a span, from its fields and its attributes in Python, for every exporter.

use std::mem;

use pyo3::prelude::*;
use pyo3::types::PyString;
use tracebaton::routing::Routing;
use tracebaton::span::{LinkHead, SpanHead, SpanWriter, StatusCode};

use super::{SpanBase, Starts};
use crate::attributes::put_all;
use crate::sink::{Sink, Style};
use crate::value::{attribute, string};

impl SpanBase {
    /// Records in the spools what is known of the span by now.
    pub(super) fn begin(&self, py: Python<'_>) -> Starts {
        if !self.context.flags.is_sampled() {
            return Starts::Nowhere;
        }
        let (core, scope) = (self.core.get(), &self.instrumentation.get().scope);
        let start = |sink: &Sink| {
            sink.start(scope, |out| {
                let (writer, status) = self.write(py, out);
                writer.finish_start(status.0, &status.1, self.routings.of(sink.style()))
            })
        };
        // Most tracers have one, which needs no list.
        match &core.sinks[..] {
            [sink] => start(sink).map_or(Starts::Nowhere, Starts::One),
            sinks => Starts::Several(sinks.iter().map(start).collect()),
        }
    }

    /// Encodes the span into the queue of every exporter of these styles.
    pub(super) fn deliver(&self, py: Python<'_>, to: impl Fn(Style) -> bool) {
        let core = self.core.get();
        let started = if core.records_starts { mem::take(&mut self.state().started) } else { Starts::Nowhere };
        let scope = &self.instrumentation.get().scope;
        for (index, sink) in core.sinks.iter().enumerate() {
            let started = match &started {
                Starts::Nowhere => None,
                Starts::One(started) => Some(*started),
                Starts::Several(started) => started.get(index).copied().flatten(),
            };
            if to(sink.style()) {
                sink.take(py, scope, started, |out| self.encode(py, out, self.routings.of(sink.style())));
            } else if let Some(started) = started {
                sink.forget(started);
            }
        }
    }

    pub(super) fn encode(&self, py: Python<'_>, out: &mut Vec<u8>, routing: &Routing) {
        let (writer, (status, description)) = self.write(py, out);
        writer.finish(status, &description, routing);
    }

    /// Writes everything but the end of the entry, which is left with the status.
    #[inline]
    fn write<'a>(&'a self, py: Python<'_>, out: &'a mut Vec<u8>) -> (SpanWriter<'a>, (StatusCode, String)) {
        let limits = &self.core.get().tracer.settings().limits;
        // Values that a processor put among the attributes may run code of their own, which may look at this span: it is
        // not locked meanwhile.
        let (name, end_ns) = {
            let state = self.state();
            (state.name.clone(), state.end_ns)
        };
        let head = SpanHead {
            trace_id: self.context.trace_id,
            span_id: self.context.span_id,
            parent: self.parent,
            parent_is_remote: self.parent_is_remote,
            flags: self.context.flags,
            trace_state: self.context.trace_state.as_str(),
            name: &name,
            kind: self.kind,
            start_ns: self.start_ns,
            // Open as it is, it is only recorded.
            end_ns: end_ns.unwrap_or(self.start_ns),
        };
        let mut writer = SpanWriter::begin(out, &head, limits);
        for (key, value) in self.attributes.bind(py).iter() {
            if let Ok(key) = key.cast::<PyString>() {
                writer.attribute(&string(key), &attribute(&value));
            } else {
                writer.count_dropped(1, 0, 0);
            }
        }
        // Those of events and links are copies of our own, of basic types only.
        let state = self.state();
        for event in &state.events {
            writer.event(event.time_ns, &event.name, |out| put_all(py, out, event.attributes.as_ref(), event.dropped));
        }
        for link in &state.links {
            let head = LinkHead {
                trace_id: link.trace_id,
                span_id: link.span_id,
                flags: link.flags,
                is_remote: link.is_remote,
                trace_state: &link.trace_state,
            };
            writer.link(&head, |out| put_all(py, out, link.attributes.as_ref(), link.dropped));
        }
        writer.count_dropped(state.dropped_attributes, state.dropped_events, state.dropped_links);
        (writer, (state.status, state.description.clone()))
    }
}

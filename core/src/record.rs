//! A span that is being recorded, in owned data: for programs in Rust. Bindings keep a span's fields where their
//! language is fast and write them with a [`SpanWriter`] of their own.

use alloc::borrow::Cow;
use alloc::string::String;
use alloc::vec::Vec;

use crate::context::SpanContext;
use crate::event_type::EVENT_TYPE;
use crate::id::{SpanId, TraceFlags, TraceId};
use crate::limits::Limits;
use crate::routing::{Routing, RoutingKey};
use crate::sampler::Sampler;
use crate::span::{Attributes, Kind, LinkHead, SpanHead, SpanWriter, StatusCode};
use crate::value::Value;

/// Attributes in the order in which they were first set.
pub type AttributeList = Vec<(Cow<'static, str>, Value<'static>)>;

/// What happened at an instant of a span.
#[derive(Clone, Debug, PartialEq)]
pub struct Event {
    /// When, in nanoseconds since 1970.
    pub time_ns: u64,
    /// What it is called.
    pub name: String,
    /// What belongs to it.
    pub attributes: AttributeList,
}

/// Another span that a span has to do with.
#[derive(Clone, Debug, PartialEq)]
pub struct Link {
    /// Its context.
    pub context: SpanContext,
    /// What belongs to the link.
    pub attributes: AttributeList,
}

/// A span from its start to its end.
///
/// ```
/// use tracebaton::record::SpanRecord;
/// use tracebaton::routing::Routing;
/// use tracebaton::sampler::Sampler;
/// use tracebaton::limits::Limits;
///
/// // Random bytes and times are the caller's: core has neither.
/// let mut span = SpanRecord::start("answer", None, &Sampler::default(), ([7; 16], [9; 8]), 1_000);
/// span.set_attribute("app.count", 3_i64, &Limits::default());
/// span.end(2_000);
/// let mut batch = Vec::new();
/// span.encode(&mut batch, &Limits::default(), &Routing::default());
/// assert_eq!(batch[0], 0x12); // an entry of ScopeSpans.spans
/// ```
#[derive(Clone, Debug)]
pub struct SpanRecord {
    /// Its own context.
    pub context: SpanContext,
    /// The span above it.
    pub parent: Option<SpanId>,
    /// Whether that is in another process.
    pub parent_is_remote: bool,
    /// What it is called.
    pub name: Cow<'static, str>,
    /// What it does.
    pub kind: Kind,
    /// When it began, in nanoseconds since 1970.
    pub start_ns: u64,
    attributes: AttributeList,
    /// The attributes that count towards the limit.
    counted: usize,
    events: Vec<Event>,
    links: Vec<Link>,
    status: StatusCode,
    description: String,
    end_ns: Option<u64>,
    sampled: bool,
    dropped_attributes: u32,
    dropped_events: u32,
    dropped_links: u32,
}

impl SpanRecord {
    /// Starts a span below `parent`, or a new trace. `random` are 24 random bytes: the trace id is made of the first
    /// 16 of them where there is no parent. `start_ns` is in nanoseconds since 1970.
    ///
    /// The random flag is set for new traces (rule TP10) and stays a caller's where a trace goes on.
    pub fn start(
        name: impl Into<Cow<'static, str>>,
        parent: Option<&SpanContext>,
        sampler: &Sampler,
        random: ([u8; 16], [u8; 8]),
        start_ns: u64,
    ) -> Self {
        let trace_id = parent.map_or_else(|| TraceId::random(random.0), |parent| parent.trace_id);
        let sampled = sampler.decide(trace_id, parent.map(|it| (it.flags, it.is_remote))).is_sampled();
        let context = SpanContext {
            trace_id,
            span_id: SpanId::random(random.1),
            flags: parent.map_or(TraceFlags::RANDOM, |parent| parent.flags).with_sampled(sampled),
            trace_state: parent.map(|parent| parent.trace_state.clone()).unwrap_or_default(),
            is_remote: false,
        };
        Self {
            context,
            parent: parent.map(|parent| parent.span_id),
            parent_is_remote: parent.is_some_and(|parent| parent.is_remote),
            name: name.into(),
            kind: Kind::Internal,
            start_ns,
            attributes: Vec::new(),
            counted: 0,
            events: Vec::new(),
            links: Vec::new(),
            status: StatusCode::Unset,
            description: String::new(),
            end_ns: None,
            sampled,
            dropped_attributes: 0,
            dropped_events: 0,
            dropped_links: 0,
        }
    }

    /// Whether anything is taken: the span is sampled and has not ended.
    pub const fn is_recording(&self) -> bool {
        self.sampled && self.end_ns.is_none()
    }

    /// Sets an attribute; one of the same key is replaced. Beyond the limit it is dropped and counted.
    pub fn set_attribute(
        &mut self,
        key: impl Into<Cow<'static, str>>,
        value: impl Into<Value<'static>>,
        limits: &Limits,
    ) {
        if !self.is_recording() {
            return;
        }
        let key = key.into();
        // Routing attributes and the event type are not subject to the limit, as when the span is written.
        let counts = RoutingKey::of(&key).is_none() && key != EVENT_TYPE;
        if let Some((_, old)) = self.attributes.iter_mut().find(|(known, _)| known.len() == key.len() && *known == key)
        {
            *old = value.into();
        } else if key.is_empty() || (counts && self.counted >= limits.attributes) {
            self.dropped_attributes = self.dropped_attributes.saturating_add(1);
        } else {
            if self.attributes.capacity() == 0 {
                // Most spans then grow no more.
                self.attributes.reserve(16);
            }
            self.counted = self.counted.saturating_add(usize::from(counts));
            self.attributes.push((key, value.into()));
        }
    }

    /// Adds an event. Beyond the limit it is dropped and counted.
    pub fn add_event(&mut self, event: Event, limits: &Limits) {
        if !self.is_recording() {
            return;
        }
        if self.events.len() < limits.events {
            self.events.push(event);
        } else {
            self.dropped_events = self.dropped_events.saturating_add(1);
        }
    }

    /// Adds a link. Beyond the limit it is dropped and counted.
    pub fn add_link(&mut self, link: Link, limits: &Limits) {
        if !self.is_recording() {
            return;
        }
        if self.links.len() < limits.links {
            self.links.push(link);
        } else {
            self.dropped_links = self.dropped_links.saturating_add(1);
        }
    }

    /// Sets the status: see [`StatusCode::gives_way_to`]. A description goes with an error only.
    pub fn set_status(&mut self, status: StatusCode, description: &str) {
        if self.is_recording() && self.status.gives_way_to(status) {
            self.status = status;
            self.description = if status == StatusCode::Error { String::from(description) } else { String::new() };
        }
    }

    /// Ends the span; only the first call counts. A time before the start is taken as the start.
    pub fn end(&mut self, end_ns: u64) {
        self.end_ns.get_or_insert(end_ns.max(self.start_ns));
    }

    /// The attributes so far.
    pub fn attributes(&self) -> &[(Cow<'static, str>, Value<'static>)] {
        &self.attributes
    }

    /// Appends the span as an entry of `ScopeSpans.spans`; one that is not sampled, or has not ended, appends nothing.
    pub fn encode(&self, out: &mut Vec<u8>, limits: &Limits, routing: &Routing) {
        let (true, Some(end_ns)) = (self.sampled, self.end_ns) else { return };
        let head = SpanHead {
            trace_id: self.context.trace_id,
            span_id: self.context.span_id,
            parent: self.parent,
            parent_is_remote: self.parent_is_remote,
            flags: self.context.flags,
            trace_state: self.context.trace_state.as_str(),
            name: &self.name,
            kind: self.kind,
            start_ns: self.start_ns,
            end_ns,
        };
        let mut writer = SpanWriter::begin(out, &head, limits);
        for (key, value) in &self.attributes {
            writer.attribute(key, value);
        }
        for event in &self.events {
            writer.event(event.time_ns, &event.name, |out| put_all(out, &event.attributes));
        }
        for link in &self.links {
            let head = LinkHead {
                trace_id: link.context.trace_id.to_bytes(),
                span_id: link.context.span_id.to_bytes(),
                flags: link.context.flags,
                is_remote: link.context.is_remote,
                trace_state: link.context.trace_state.as_str(),
            };
            writer.link(&head, |out| put_all(out, &link.attributes));
        }
        writer.count_dropped(self.dropped_attributes, self.dropped_events, self.dropped_links);
        writer.finish(self.status, &self.description, routing);
    }
}

fn put_all(out: &mut Attributes<'_>, attributes: &[(Cow<'static, str>, Value<'static>)]) {
    for (key, value) in attributes {
        out.put(key, value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::otlp::reader::SpanView;
    use crate::policy::Policy;

    fn start(parent: Option<&SpanContext>) -> SpanRecord {
        SpanRecord::start("s", parent, &Sampler::default(), ([1; 16], [2; 8]), 10)
    }

    fn encoded(span: &SpanRecord, limits: &Limits) -> Vec<u8> {
        let mut out = Vec::new();
        span.encode(&mut out, limits, &Routing::default());
        // Tag and a length of up to two bytes.
        let skip = if out.get(1).is_some_and(|byte| *byte & 0x80 != 0) { 3 } else { 2 };
        out.split_off(skip)
    }

    #[test]
    fn a_child_goes_on_in_the_callers_trace() {
        let caller =
            [("traceparent", "00-0af7651916cd43dd8448eb211c80319c-00f067aa0ba902b7-01"), ("tracestate", "a=b")];
        let parent = crate::extract(&caller, &Policy::default()).span.unwrap();
        let span = start(Some(&parent));
        assert_eq!(span.context.trace_id, parent.trace_id);
        assert_eq!((span.parent, span.parent_is_remote), (Some(parent.span_id), true));
        // The caller did not say that its ids are random (rule TP10).
        assert_eq!(span.context.flags.bits(), 1);
        assert_eq!(span.context.trace_state.as_str(), "a=b");
        assert_eq!(start(None).context.flags.bits(), 3);
    }

    #[test]
    fn what_is_not_sampled_takes_and_writes_nothing() {
        let caller = [("traceparent", "00-0af7651916cd43dd8448eb211c80319c-00f067aa0ba902b7-00")];
        let parent = crate::extract(&caller, &Policy::default()).span.unwrap();
        let mut span = start(Some(&parent));
        span.set_attribute("k", true, &Limits::default());
        span.end(20);
        let mut out = Vec::new();
        span.encode(&mut out, &Limits::default(), &Routing::default());
        assert!(span.attributes().is_empty() && out.is_empty() && !span.is_recording());
    }

    #[test]
    fn limits_count_what_they_leave_out() {
        let limits = Limits { attributes: 2, events: 1, links: 0, ..Limits::default() };
        let mut span = start(None);
        for (key, value) in [("a", 1_i64), ("b", 2), ("c", 3), ("a", 4), ("honeyhive.session_id", 5)] {
            span.set_attribute(key, value, &limits);
        }
        for name in ["first", "second"] {
            let attributes = Vec::from([(Cow::from("k"), Value::from(true))]);
            span.add_event(Event { time_ns: 11, name: String::from(name), attributes }, &limits);
        }
        span.add_link(Link { context: span.context.clone(), attributes: Vec::new() }, &limits);
        span.end(5);
        span.end(50);
        span.set_attribute("late", true, &limits);
        assert_eq!(span.attributes().len(), 3);
        assert_eq!(span.attributes()[0], (Cow::from("a"), Value::Int(4)));
        let bytes = encoded(&span, &limits);
        let view = SpanView::parse(&bytes).unwrap();
        assert_eq!((view.start_ns, view.end_ns), (10, 10));
        assert_eq!((view.dropped_attributes, view.dropped_events, view.dropped_links), (1, 1, 1));
        assert_eq!(view.events().count(), 1);
    }

    #[test]
    fn what_routes_a_span_takes_no_place() {
        let limits = Limits { attributes: 2, ..Limits::default() };
        let mut span = start(None);
        for key in ["", "honeyhive.session_id", "honeyhive_event_type", "a", "b", "c"] {
            span.set_attribute(key, "v", &limits);
        }
        let kept: Vec<_> = span.attributes().iter().map(|(key, _)| &**key).collect();
        assert_eq!(kept, ["honeyhive.session_id", "honeyhive_event_type", "a", "b"]);
        span.end(20);
        let bytes = encoded(&span, &limits);
        let view = SpanView::parse(&bytes).unwrap();
        assert_eq!((view.attributes().count(), view.dropped_attributes), (4, 2));
    }

    #[test]
    fn ok_is_final_and_descriptions_belong_to_errors() {
        let mut span = start(None);
        span.set_status(StatusCode::Error, "broken");
        span.set_status(StatusCode::Unset, "");
        assert_eq!((span.status, span.description.as_str()), (StatusCode::Error, "broken"));
        span.set_status(StatusCode::Ok, "fine");
        span.set_status(StatusCode::Error, "too late");
        assert_eq!((span.status, span.description.as_str()), (StatusCode::Ok, ""));
    }
}

//! A span that is being recorded: for programs in Rust. Attributes, events and links are encoded as they are set, so that
//! nothing but a copy is left to do at the end. Bindings keep a span's fields where their language is fast and write them
//! with a [`SpanWriter`] of their own.

use alloc::borrow::Cow;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;

use crate::context::SpanContext;
use crate::event_type::{Derivation, EVENT_TYPE};
use crate::id::{SpanId, TraceId};
use crate::keyed::{Index, Place, put_all};
use crate::limits::Limits;
use crate::otlp::reader;
use crate::routing::{Routing, RoutingKey};
use crate::sampler::{Sampler, flags_of_new_span};
use crate::span::{Exception, Kind, LinkHead, SPAN_ATTRIBUTES, SpanHead, SpanWriter, StatusCode, put_event, put_link};
use crate::value::{Value, ValueRef};

/// How the spans of a tracer are recorded.
#[derive(Clone, PartialEq, Debug)]
pub struct Recording {
    /// Which of them are.
    pub sampler: Sampler,
    /// How much each may hold.
    pub limits: Limits,
    /// Whether new traces say that their ids are random (rule TP10), which is for whoever makes the ids to know. It
    /// changes nothing where a trace goes on: a caller's flag is passed on in any case.
    pub random_flag: bool,
}

impl Default for Recording {
    /// The default sampler and limits; ids are random.
    fn default() -> Self {
        Self { sampler: Sampler::default(), limits: Limits::default(), random_flag: true }
    }
}

/// A span from its start to its end.
///
/// ```
/// use tracebaton::record::{Recording, SpanRecord};
/// use tracebaton::routing::Routing;
///
/// // Random bytes and times are the caller's: core has neither.
/// let mut span = SpanRecord::start("answer", None, &Recording::default(), ([7; 16], [9; 8]), 1_000);
/// span.set_attribute("app.count", 3);
/// span.add_event(1_500, "retry", [("app.reason", "timeout".into())]);
/// span.end(2_000);
/// let mut batch = Vec::new();
/// span.encode(&mut batch, &Routing::default());
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
    limits: Limits,
    /// Fields of `Span`, as are `events` and `links`.
    attributes: Vec<u8>,
    index: Index,
    /// The attributes that count towards the limit.
    counted: usize,
    /// Bit by [`RoutingKey`]: those among the attributes.
    overridden: u8,
    event_type: Derivation,
    events: Vec<u8>,
    links: Vec<u8>,
    event_count: usize,
    link_count: usize,
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
    pub fn start(
        name: impl Into<Cow<'static, str>>,
        parent: Option<&SpanContext>,
        recording: &Recording,
        random: ([u8; 16], [u8; 8]),
        start_ns: u64,
    ) -> Self {
        Self::start_named(name.into(), parent, recording, random, start_ns)
    }

    fn start_named(
        name: Cow<'static, str>,
        parent: Option<&SpanContext>,
        recording: &Recording,
        random: ([u8; 16], [u8; 8]),
        start_ns: u64,
    ) -> Self {
        let trace_id = parent.map_or_else(|| TraceId::random(random.0), |parent| parent.trace_id);
        let sampled = recording.sampler.decide(trace_id, parent.map(|it| (it.flags, it.is_remote))).is_sampled();
        let context = SpanContext {
            trace_id,
            span_id: SpanId::random(random.1),
            flags: flags_of_new_span(parent.map(|parent| parent.flags), recording.random_flag, sampled),
            trace_state: parent.map(|parent| parent.trace_state.clone()).unwrap_or_default(),
            is_remote: false,
        };
        Self {
            parent: parent.map(|parent| parent.span_id),
            parent_is_remote: parent.is_some_and(|parent| parent.is_remote),
            sampled,
            ..Self::taken_over(context, name, start_ns, recording.limits)
        }
    }

    /// A span of which somebody else decided that it is recorded: a root, until told otherwise.
    pub(crate) fn taken_over(context: SpanContext, name: Cow<'static, str>, start_ns: u64, limits: Limits) -> Self {
        Self {
            context,
            parent: None,
            parent_is_remote: false,
            name,
            kind: Kind::Internal,
            start_ns,
            limits,
            attributes: Vec::new(),
            index: Index::default(),
            counted: 0,
            overridden: 0,
            event_type: Derivation::default(),
            events: Vec::new(),
            links: Vec::new(),
            event_count: 0,
            link_count: 0,
            status: StatusCode::Unset,
            description: String::new(),
            end_ns: None,
            sampled: true,
            dropped_attributes: 0,
            dropped_events: 0,
            dropped_links: 0,
        }
    }

    /// Whether anything is taken: the span is sampled and has not ended.
    pub const fn is_recording(&self) -> bool {
        self.sampled && self.end_ns.is_none()
    }

    /// Sets an attribute; one of the same key is replaced, and stays where it is. Dropped and counted are those beyond
    /// the limit, with an empty key, which OpenTelemetry does not allow, and an event type that is not text, or empty:
    /// it takes back one that was set before.
    #[inline]
    pub fn set_attribute<'v>(&mut self, key: &str, value: impl Into<Value<'v>>) {
        if !self.is_recording() {
            return;
        }
        let value = value.into();
        let plain = match value {
            Value::Bool(value) => ValueRef::Bool(value),
            Value::Int(value) => ValueRef::Int(value),
            Value::Double(value) => ValueRef::Double(value),
            Value::Str(Cow::Borrowed(text)) => ValueRef::Str(text),
            _ => return self.set(key, &(&value).into()),
        };
        // These own nothing. To look whether they do would cost as much as to hash the key.
        core::mem::forget(value);
        self.set(key, &plain);
    }

    fn set(&mut self, key: &str, value: &ValueRef<'_>) {
        let place = self.index.find(&self.attributes, key);
        let routing = RoutingKey::of(key);
        if routing.is_some() || key == EVENT_TYPE {
            return self.set_own(place, key, routing, value);
        }
        let is_new = !place.is_taken();
        // Rule SPAN-limits.
        if key.is_empty() || (is_new && self.counted >= self.limits.attributes) {
            return self.drop_attribute();
        }
        self.reserve();
        if !self.index.put(&mut self.attributes, SPAN_ATTRIBUTES, place, key, value, &self.limits) {
            return self.drop_attribute();
        }
        self.event_type.see(key, value.as_str());
        self.counted = self.counted.saturating_add(usize::from(is_new));
    }

    /// Sets a routing attribute, or the event type: rule SPAN-limits.
    #[cold]
    fn set_own(&mut self, place: Place, key: &str, routing: Option<RoutingKey>, value: &ValueRef<'_>) {
        // Rule HH-event-type-no-text.
        if routing.is_none() && value.as_str().is_none_or(str::is_empty) {
            self.event_type.see(key, value.as_str());
            self.index.remove(&mut self.attributes, place);
            return self.drop_attribute();
        }
        self.reserve();
        let limits = Limits { value_length: None, ..self.limits };
        if !self.index.put(&mut self.attributes, SPAN_ATTRIBUTES, place, key, value, &limits) {
            return self.drop_attribute();
        }
        self.event_type.see(key, value.as_str());
        self.overridden |= routing.map_or(0, RoutingKey::bit);
    }

    #[inline]
    fn reserve(&mut self) {
        if self.attributes.capacity() == 0 {
            // Most spans then grow no more.
            self.attributes = Vec::with_capacity(512);
        }
    }

    #[cold]
    fn drop_attribute(&mut self) {
        self.dropped_attributes = self.dropped_attributes.saturating_add(1);
    }

    /// Adds an event. `time_ns` is in nanoseconds since 1970. Beyond the limit it is dropped and counted. Of attributes
    /// with one key the last value counts.
    pub fn add_event<'v>(
        &mut self,
        time_ns: u64,
        name: &str,
        attributes: impl IntoIterator<Item = (&'v str, Value<'v>)>,
    ) {
        self.add_event_with(time_ns, name, attributes, 0);
    }

    /// The same for an event of which so many attributes were dropped before.
    pub(crate) fn add_event_with<'v>(
        &mut self,
        time_ns: u64,
        name: &str,
        attributes: impl IntoIterator<Item = (&'v str, Value<'v>)>,
        dropped: u32,
    ) {
        if !self.is_recording() {
            return;
        }
        if self.event_count >= self.limits.events {
            self.dropped_events = self.dropped_events.saturating_add(1);
            return;
        }
        self.event_count = self.event_count.saturating_add(1);
        let limits = &self.limits;
        put_event(&mut self.events, time_ns, name, |out, field| {
            put_all(out, field, attributes, limits.attributes_per_event, limits).saturating_add(dropped)
        });
    }

    /// Adds an event that describes an exception or error, as OpenTelemetry's semantic conventions for exceptions have
    /// it. Further attributes come after it; the status stays as it is.
    pub fn record_exception<'v>(
        &mut self,
        time_ns: u64,
        exception: &Exception<'v>,
        attributes: impl IntoIterator<Item = (&'v str, Value<'v>)>,
    ) {
        self.add_event(time_ns, Exception::EVENT, exception.attributes().chain(attributes));
    }

    /// Adds a link to another span. Beyond the limit it is dropped and counted. Of attributes with one key the last
    /// value counts.
    pub fn add_link<'v>(&mut self, context: &SpanContext, attributes: impl IntoIterator<Item = (&'v str, Value<'v>)>) {
        let head = LinkHead {
            trace_id: context.trace_id.to_bytes(),
            span_id: context.span_id.to_bytes(),
            flags: context.flags,
            is_remote: context.is_remote,
            trace_state: context.trace_state.as_str(),
        };
        self.add_link_with(&head, attributes, 0);
    }

    /// The same for a link whose ids may be none, and of which so many attributes were dropped before.
    pub(crate) fn add_link_with<'v>(
        &mut self,
        head: &LinkHead<'_>,
        attributes: impl IntoIterator<Item = (&'v str, Value<'v>)>,
        dropped: u32,
    ) {
        if !self.is_recording() {
            return;
        }
        if self.link_count >= self.limits.links {
            self.dropped_links = self.dropped_links.saturating_add(1);
            return;
        }
        self.link_count = self.link_count.saturating_add(1);
        let limits = &self.limits;
        put_link(&mut self.links, head, |out, field| {
            put_all(out, field, attributes, limits.attributes_per_link, limits).saturating_add(dropped)
        });
    }

    /// Counts what was dropped before it came here.
    #[cfg(feature = "exchange")]
    pub(crate) fn count_dropped(&mut self, attributes: u32, events: u32, links: u32) {
        self.dropped_attributes = self.dropped_attributes.saturating_add(attributes);
        self.dropped_events = self.dropped_events.saturating_add(events);
        self.dropped_links = self.dropped_links.saturating_add(links);
    }

    /// Sets the status: see [`StatusCode::gives_way_to`]. A description goes with an error only.
    pub fn set_status(&mut self, status: StatusCode, description: &str) {
        if self.is_recording() && self.status.gives_way_to(status) {
            self.status = status;
            self.description = if status == StatusCode::Error { String::from(description) } else { String::new() };
        }
    }

    /// Ends the span; only the first call counts. A time before the start is sent as the start (rule SPAN-times).
    pub fn end(&mut self, end_ns: u64) {
        self.end_ns.get_or_insert(end_ns);
    }

    /// The attributes so far, as they will be sent: texts that were too long are cut.
    pub fn attributes(&self) -> impl Iterator<Item = (Cow<'_, str>, Value<'_>)> {
        // They were encoded here: nothing is malformed.
        reader::Attributes::of(&self.attributes, SPAN_ATTRIBUTES).filter_map(|entry| {
            let (key, value) = entry.ok()?;
            Some((key.to_str(), value.into_value().ok()?))
        })
    }

    /// Appends the span as an entry of `ScopeSpans.spans`; one that is not sampled, or has not ended, appends nothing.
    pub fn encode(&self, out: &mut Vec<u8>, routing: &Routing) {
        if let Some(writer) = self.writer(out) {
            writer.finish(self.status, &self.description, routing);
        }
    }

    /// Appends the span as one that begins, without the routing attributes, which it returns where none was replaced: see
    /// [`SpanWriter::finish_start`].
    pub fn encode_start<'r>(&self, out: &mut Vec<u8>, routing: &'r Routing) -> Option<&'r Arc<[u8]>> {
        self.writer(out)?.finish_start(self.status, &self.description, routing)
    }

    fn writer<'o>(&'o self, out: &'o mut Vec<u8>) -> Option<SpanWriter<'o>> {
        let (true, Some(end_ns)) = (self.sampled, self.end_ns) else { return None };
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
        let mut writer = SpanWriter::begin(out, &head, &self.limits);
        writer.encoded(&[&self.attributes, &self.events, &self.links], self.overridden, self.event_type);
        writer.count_dropped(self.dropped_attributes, self.dropped_events, self.dropped_links);
        Some(writer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::otlp::reader::{SpanView, ValueView};
    use crate::policy::Policy;

    fn start_within(parent: Option<&SpanContext>, limits: Limits) -> SpanRecord {
        let recording = Recording { limits, ..Recording::default() };
        SpanRecord::start("s", parent, &recording, ([1; 16], [2; 8]), 10)
    }

    fn start(parent: Option<&SpanContext>) -> SpanRecord {
        start_within(parent, Limits::default())
    }

    fn caller(flags: &str) -> SpanContext {
        let text = std::format!("00-0af7651916cd43dd8448eb211c80319c-00f067aa0ba902b7-{flags}");
        let caller = [("traceparent", text.as_str()), ("tracestate", "a=b")];
        crate::extract(&caller, &Policy::default()).span.unwrap()
    }

    fn encoded(span: &SpanRecord) -> Vec<u8> {
        let mut out = Vec::new();
        span.encode(&mut out, &Routing::default());
        // Tag and a length of up to two bytes.
        let skip = if out.get(1).is_some_and(|byte| *byte & 0x80 != 0) { 3 } else { 2 };
        out.split_off(skip)
    }

    fn kept(span: &SpanRecord) -> Vec<(String, Value<'_>)> {
        span.attributes().map(|(key, value)| (key.into_owned(), value)).collect()
    }

    #[test]
    fn a_child_goes_on_in_the_callers_trace() {
        let parent = caller("01");
        let span = start(Some(&parent));
        assert_eq!(span.context.trace_id, parent.trace_id);
        assert_eq!((span.parent, span.parent_is_remote), (Some(parent.span_id), true));
        assert_eq!(span.context.trace_state.as_str(), "a=b");
        assert!(!start(Some(&span.context)).parent_is_remote);
    }

    #[test]
    fn only_new_traces_ask_whether_ids_are_random() {
        for random_flag in [false, true] {
            let recording = Recording { random_flag, ..Recording::default() };
            let flags = |parent: Option<&SpanContext>| {
                SpanRecord::start("s", parent, &recording, ([1; 16], [2; 8]), 10).context.flags.bits()
            };
            assert_eq!(flags(None), if random_flag { 3 } else { 1 });
            // What the caller says, or does not say, of its ids is passed on (rule TP10).
            assert_eq!((flags(Some(&caller("01"))), flags(Some(&caller("03")))), (1, 3));
        }
    }

    #[test]
    fn what_is_not_sampled_takes_and_writes_nothing() {
        let mut span = start(Some(&caller("00")));
        span.set_attribute("k", true);
        span.add_event(11, "e", []);
        span.add_link(&caller("01"), []);
        span.end(20);
        let mut out = Vec::new();
        span.encode(&mut out, &Routing::default());
        assert!(kept(&span).is_empty() && out.is_empty() && !span.is_recording());
    }

    #[test]
    fn limits_count_what_they_leave_out() {
        let limits = Limits { attributes: 2, events: 1, links: 1, ..Limits::default() };
        let mut span = start_within(None, limits);
        for (key, value) in [("a", 1), ("b", 2), ("c", 3), ("a", 4), ("honeyhive.session_id", 5)] {
            span.set_attribute(key, value);
        }
        for name in ["first", "second"] {
            span.add_event(11, name, [("k", true.into())]);
            span.add_link(&caller("01"), []);
        }
        span.end(5);
        span.end(50);
        span.set_attribute("late", true);
        assert_eq!(kept(&span).len(), 3);
        assert_eq!(kept(&span)[0], ("a".into(), 4.into()));
        let bytes = encoded(&span);
        let view = SpanView::parse(&bytes).unwrap();
        assert_eq!((view.start_ns, view.end_ns), (10, 10));
        assert_eq!((view.dropped_attributes, view.dropped_events, view.dropped_links), (1, 1, 1));
        assert_eq!((view.events().count(), view.links().count()), (1, 1));
    }

    #[test]
    fn what_routes_a_span_takes_no_place() {
        let mut span = start_within(None, Limits { attributes: 2, ..Limits::default() });
        for key in ["", "honeyhive.session_id", "honeyhive_event_type", "a", "b", "c"] {
            span.set_attribute(key, "v");
        }
        let kept: Vec<_> = kept(&span).into_iter().map(|(key, _)| key).collect();
        assert_eq!(kept, ["honeyhive.session_id", "honeyhive_event_type", "a", "b"]);
        span.end(20);
        let bytes = encoded(&span);
        let view = SpanView::parse(&bytes).unwrap();
        assert_eq!((view.attributes().count(), view.dropped_attributes), (4, 2));
    }

    #[test]
    fn a_value_of_any_length_takes_the_place_of_the_one_before() {
        let long = "x".repeat(300);
        let mut span = start(None);
        for key in ["a", "b", "c"] {
            span.set_attribute(key, "old");
        }
        for (key, value) in [("b", "new"), ("a", &long), ("c", ""), ("b", "longer"), ("a", "1"), ("c", &long)] {
            span.set_attribute(key, value);
        }
        let expected = [("a", "1"), ("b", "longer"), ("c", &*long)].map(|(key, value)| (key.into(), value.into()));
        assert_eq!(kept(&span), expected);
    }

    #[test]
    fn many_attributes_stay_apart() {
        let mut span = start_within(None, Limits::honeyhive());
        for value in 0..3_i64 {
            for key in 0..1_100 {
                span.set_attribute(&std::format!("app.attribute.{key}"), value * key);
            }
        }
        let expected: Vec<_> =
            (0..1_024).map(|key| (std::format!("app.attribute.{key}"), Value::Int(2 * key))).collect();
        assert_eq!(kept(&span), expected);
        assert_eq!(span.dropped_attributes, 3 * 76);
    }

    #[test]
    fn an_event_type_that_is_no_text_takes_back_what_was_set() {
        let mut span = start(None);
        span.set_attribute("a", 1);
        span.set_attribute(EVENT_TYPE, "model");
        span.set_attribute("b", 2);
        span.set_attribute(EVENT_TYPE, 5);
        span.set_attribute("b", "longer");
        assert_eq!(kept(&span), [("a".into(), 1.into()), ("b".into(), "longer".into())]);
        span.end(20);
        let bytes = encoded(&span);
        let view = SpanView::parse(&bytes).unwrap();
        assert_eq!(view.dropped_attributes, 1);
        let last = view.attributes().last().unwrap().unwrap();
        assert_eq!(last.0.to_str(), EVENT_TYPE);
        assert!(matches!(last.1, ValueView::Str(text) if text.to_str() == "tool"));
    }

    #[test]
    fn ok_is_final_and_descriptions_belong_to_errors() {
        let mut span = start(None);
        span.set_status(StatusCode::Error, "broken");
        span.set_status(StatusCode::Unset, "");
        assert_eq!((span.status, span.description.as_str()), (StatusCode::Error, "broken"));
        span.set_status(StatusCode::Ok, "fine");
        span.set_status(StatusCode::Error, "too late");
        span.set_status(StatusCode::Unset, "");
        assert_eq!((span.status, span.description.as_str()), (StatusCode::Ok, ""));
        span.end(20);
        let bytes = encoded(&span);
        let status = SpanView::parse(&bytes).unwrap().status.unwrap();
        assert_eq!((status.code, status.message.is_empty()), (1, true));
    }

    #[test]
    fn an_exception_is_an_event() {
        let mut span = start(None);
        let exception = Exception { kind: "io::Error", message: "gone", stacktrace: "" };
        span.record_exception(11, &exception, [("exception.message", "redacted".into())]);
        span.end(20);
        let bytes = encoded(&span);
        let view = SpanView::parse(&bytes).unwrap();
        let event = view.events().next().unwrap().unwrap();
        assert_eq!((event.name.to_str().as_ref(), event.time_ns), ("exception", 11));
        let attributes: Vec<_> = event
            .attributes()
            .map(|entry| entry.map(|(key, value)| (key.to_str(), value.into_value().unwrap())).unwrap())
            .collect();
        assert_eq!(
            attributes,
            [("exception.type".into(), "io::Error".into()), ("exception.message".into(), Value::from("redacted"))]
        );
    }
}

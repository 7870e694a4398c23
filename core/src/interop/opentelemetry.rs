//! A propagator and conversions for services that stay on the OpenTelemetry SDK.
//!
//! [`TracebatonPropagator`] takes the place of the SDK's own propagators: it is strict where they are lenient, carries
//! the session, and passes on what their types cannot hold. Their `TraceState` refuses legal keys, their flags lose
//! the random bit, and their baggage is an unordered map of at most 64 entries. So what came in is kept beside theirs in
//! the `Context`, and compared with theirs when headers are written: what was changed there counts, the rest is sent as
//! it came.
//!
//! ```
//! use opentelemetry::baggage::BaggageExt;
//! use opentelemetry::{Context, global};
//! use std::collections::HashMap;
//! use tracebaton::TracebatonPropagator;
//! use tracebaton::interop::opentelemetry::TracebatonContextExt;
//!
//! global::set_text_map_propagator(TracebatonPropagator::new().with_source("prod"));
//!
//! let incoming = HashMap::from([("baggage".to_string(), "session_id=s,k=%c3%a4;p".to_string())]);
//! let cx = global::get_text_map_propagator(|propagator| propagator.extract_with_context(&Context::new(), &incoming));
//! assert_eq!(cx.session(), Some("s"));
//! assert_eq!(cx.baggage().get("k").map(|value| value.as_str()), Some("ä"));
//!
//! let mut outgoing = HashMap::new();
//! global::get_text_map_propagator(|propagator| propagator.inject_context(&cx, &mut outgoing));
//! assert_eq!(outgoing["baggage"], "session_id=s,source=prod,k=%c3%a4;p");
//! ```

use alloc::borrow::{Cow, ToOwned};
use alloc::collections::BTreeSet;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;
use std::sync::{Arc, LazyLock};

use ::opentelemetry as otel;
use otel::Context;
use otel::baggage::{Baggage as OtelBaggage, BaggageExt};
use otel::propagation::text_map_propagator::FieldIter;
use otel::propagation::{Extractor as OtelExtractor, Injector as OtelInjector, TextMapPropagator};
use otel::trace::{SpanContext as OtelSpanContext, TraceContextExt, TraceState as OtelTraceState};

use crate::baggage::{Baggage, Entry, reconcile};
use crate::carrier::{Collected, Extractor, Header, Injector, Kind, Spelling, header_of};
use crate::context::SpanContext;
use crate::extract::extract_collected;
use crate::id::{TraceFlags, TraceId};
use crate::inject::{Outbound, compose, inject};
use crate::parent::{Current, Parent};
use crate::policy::{Allowed, Policy};
use crate::rule::RuleSet;
use crate::scope::{SessionScope, TracerId};
use crate::session::{self, InvalidSession};

mod convert;

pub use convert::InvalidSpanContext;

use convert::{entries, merged_trace_state};

/// What a service calls its source if it says nothing.
const DEFAULT_SOURCE: &str = "dev";

/// Facts in the `Context` belong to the service as a whole, whichever propagator took them in.
const SERVICE: TracerId = TracerId(0);

/// Writes and reads `traceparent`, `tracestate` and `baggage` by this crate's rules. In `baggage` the session, the
/// project and this service's source come first.
///
/// OpenTelemetry's carriers show less than this crate's:
///
/// - Its `Injector` can only set. [`inject_context`](TextMapPropagator::inject_context) sees neither the destination of
///   a request nor the headers that it has already: baggage that the carrier holds is replaced, not merged, and a header
///   may stay a second time where the carrier keeps another spelling of its name. An empty `tracestate` is set where
///   ours has no member, so that another's does not stay beside our `traceparent` (rule TP12). Where this matters, use
///   [`inject_into`](Self::inject_into).
/// - Its `Extractor` is asked for every name that it lists, in any spelling. A `HashMap` of std, however, lists its keys
///   as they are and looks all names up in lower case: what it holds under `Traceparent` nobody can read through this
///   trait. Keep its keys in lower case, as its `Injector` does, or give its pairs to
///   [`extract_from`](Self::extract_from) in a `Vec`.
#[derive(Clone)]
pub struct TracebatonPropagator {
    session: Option<String>,
    project: Option<String>,
    source: Option<String>,
    policy: Policy,
}

impl TracebatonPropagator {
    /// A propagator with source `dev`, without session or project of its own, under the default policy.
    pub fn new() -> Self {
        Self { session: None, project: None, source: Some(String::from(DEFAULT_SOURCE)), policy: Policy::DEFAULT }
    }

    /// With a session of the service's own: it holds where no caller sent one and none is set in the context.
    ///
    /// # Errors
    ///
    /// If the text is no session id ([`session::check`]).
    pub fn with_session(mut self, session: impl Into<String>) -> Result<Self, InvalidSession> {
        let session = session.into();
        session::check(&session)?;
        self.session = Some(session);
        Ok(self)
    }

    /// With a project of the service's own: it holds where no caller sent one.
    #[must_use]
    pub fn with_project(mut self, project: impl Into<String>) -> Self {
        self.project = Some(project.into());
        self
    }

    /// With this source in place of `dev`; empty, none is written.
    #[must_use]
    pub fn with_source(mut self, source: impl Into<String>) -> Self {
        self.source = Some(source.into());
        self
    }

    /// With this policy.
    #[must_use]
    pub fn with_policy(mut self, policy: Policy) -> Self {
        self.policy = policy;
        self
    }

    /// What [`TextMapPropagator::extract_with_context`] does, from one of this crate's carriers.
    pub fn extract_from<E: Extractor + ?Sized>(&self, cx: &Context, carrier: &E) -> Context {
        self.take_in(cx, &carrier.collect())
    }

    /// What [`TextMapPropagator::inject_context`] does, into one of this crate's carriers, and better: baggage that the
    /// carrier has already is merged, and no header stays a second time under another spelling. With a `url` (or
    /// `host:port`, or host) the policy says what may go there.
    pub fn inject_into<I: Injector + ?Sized>(&self, cx: &Context, carrier: &mut I, url: Option<&str>) {
        let allowed = url.map_or(Allowed::ALL, |url| self.policy.destination(url));
        self.with_outbound(cx, allowed, |out| inject(carrier, out));
    }

    /// The context with what these headers say; what they do not say stays as it is.
    fn take_in(&self, cx: &Context, headers: &Collected<'_>) -> Context {
        if headers.is_empty() {
            return cx.clone();
        }
        let inbound = extract_collected(headers, &self.policy);
        let mut carried = cx.get::<Carried>().cloned().unwrap_or_default();
        carried.dropped = inbound.dropped;
        carried.scope = carried.scope.with_inbound(Some(SERVICE), &inbound);
        let mut next = cx.clone();
        if !inbound.baggage.is_empty() {
            let (view, hidden) = with_inbound_baggage(cx.baggage(), &inbound.baggage);
            carried.hidden = hidden;
            next = next.with_baggage(view);
        }
        let active = cx.span();
        let current = active.span_context();
        // One that is not valid is none.
        let place = TraceId::from_bytes(current.trace_id().to_bytes()).filter(|_| current.is_valid());
        let place = place.map(|trace_id| Current { trace_id, is_remote: current.is_remote() });
        match Parent::of(&inbound, place) {
            Parent::Current if inbound.span.is_some() => carried.shown = current.trace_state().clone(),
            Parent::Current => {}
            Parent::Caller => {
                if let Some(remote) = inbound.span.as_ref().map(OtelSpanContext::from) {
                    carried.shown = remote.trace_state().clone();
                    next = next.with_remote_span_context(remote);
                }
            }
            Parent::None => next = next.with_remote_span_context(OtelSpanContext::NONE),
        }
        if inbound.span.is_some() {
            carried.span = inbound.span;
        }
        next.with_value(carried)
    }

    /// Calls `send` with what is to be sent in this context.
    fn with_outbound<R>(&self, cx: &Context, allowed: Allowed, send: impl FnOnce(&Outbound<'_>) -> R) -> R {
        let carried = cx.get::<Carried>();
        let scope = carried.map(|carried| &carried.scope);
        let span = current_span(cx, carried);
        let came_in = scope.and_then(|scope| scope.baggage(SERVICE, &self.policy));
        let shown = entries(cx.baggage());
        let hidden = came_in.zip(carried).map(|(baggage, carried)| carried.still_hidden(baggage, &shown));
        // Where no baggage may go, all that came in is what must not stand there.
        let reconciled = came_in.filter(|_| allowed.baggage).map(|baggage| {
            let hidden = hidden.iter().flatten().map(|(name, value)| Entry { name, value, properties: None });
            reconcile(baggage, shown.iter().copied().chain(hidden))
        });
        let (application, inbound) = match &reconciled {
            Some(both) => (&both.application, Some(&both.inbound)),
            None => (&shown, came_in),
        };
        send(&Outbound {
            span: span.as_ref(),
            session: scope.and_then(|it| it.session_for(SERVICE, &self.policy)).or(self.session.as_deref()),
            project: scope.and_then(|it| it.project_for(SERVICE, &self.policy)).or(self.project.as_deref()),
            source: self.source.as_deref(),
            application,
            inbound,
            policy: Some(&self.policy),
            allowed,
        })
    }
}

impl Default for TracebatonPropagator {
    fn default() -> Self {
        Self::new()
    }
}

/// Session ids do not belong in logs: this tells whether there is one.
impl fmt::Debug for TracebatonPropagator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TracebatonPropagator")
            .field("session", &self.session.is_some())
            .field("project", &self.project)
            .field("source", &self.source)
            .field("policy", &self.policy)
            .finish()
    }
}

impl TextMapPropagator for TracebatonPropagator {
    fn inject_context(&self, cx: &Context, injector: &mut dyn OtelInjector) {
        let headers = self.with_outbound(cx, Allowed::ALL, |out| compose(out, &Collected::default()));
        headers.each(|header, value| {
            // Their carriers cannot unset. A blank tracestate says as little as none (rule TS2), and takes the place of
            // one that does not belong to our traceparent (rule TP12).
            if let Some(value) = value.or((header == Header::Tracestate).then_some("")) {
                injector.set(header.name(), value.to_owned());
            }
        });
    }

    fn extract_with_context(&self, cx: &Context, extractor: &dyn OtelExtractor) -> Context {
        self.take_in(cx, &collect(extractor))
    }

    fn fields(&self) -> FieldIter<'_> {
        static FIELDS: LazyLock<[String; 3]> = LazyLock::new(|| Header::ALL.map(|header| header.name().to_owned()));
        FieldIter::new(&*FIELDS)
    }
}

/// What this crate knows of a `Context`. Everything is about the service and the request that it handles.
pub trait TracebatonContextExt {
    /// The session that a caller sent or [`with_session`](Self::with_session) set, whichever is the innermost. A
    /// propagator's own session is not in the context.
    fn session(&self) -> Option<&str>;

    /// The project that a caller sent.
    fn project(&self) -> Option<&str>;

    /// The caller's span where the policy starts a new trace: to be linked to (rule TP16).
    fn caller(&self) -> Option<&SpanContext>;

    /// The rules by which the last extraction left something out.
    fn dropped(&self) -> RuleSet;

    /// This context with another session.
    ///
    /// # Errors
    ///
    /// If the text is no session id ([`session::check`]).
    fn with_session(&self, session: &str) -> Result<Context, InvalidSession>;
}

impl TracebatonContextExt for Context {
    fn session(&self) -> Option<&str> {
        self.get::<Carried>()?.scope.session_for(SERVICE, &Policy::DEFAULT)
    }

    fn project(&self) -> Option<&str> {
        self.get::<Carried>()?.scope.project_for(SERVICE, &Policy::DEFAULT)
    }

    fn caller(&self) -> Option<&SpanContext> {
        self.get::<Carried>()?.scope.link(SERVICE, &Policy::DEFAULT)
    }

    fn dropped(&self) -> RuleSet {
        self.get::<Carried>().map(|carried| carried.dropped).unwrap_or_default()
    }

    fn with_session(&self, session: &str) -> Result<Context, InvalidSession> {
        let mut carried = self.get::<Carried>().cloned().unwrap_or_default();
        carried.scope = carried.scope.with_session(SERVICE, session)?;
        Ok(self.with_value(carried))
    }
}

/// What came in, kept in the `Context` under this type as its key.
#[derive(Clone, Default)]
struct Carried {
    /// The caller's span with its whole `tracestate` and all its flags.
    span: Option<SpanContext>,
    /// What their spans showed of that `tracestate`.
    shown: OtelTraceState,
    /// Session, project, link and the baggage byte for byte.
    scope: SessionScope,
    /// The names that their baggage had no room for; none as a rule.
    hidden: Option<Arc<BTreeSet<String>>>,
    /// What the last extraction left out.
    dropped: RuleSet,
}

impl Carried {
    /// Whether this span is in the trace that came in.
    fn is_of(&self, span: &SpanContext) -> bool {
        self.span.as_ref().is_some_and(|came_in| came_in.trace_id == span.trace_id)
    }

    /// The members that their baggage never showed, so that nobody can have deleted them there: name and value. Where
    /// nothing is left of what was shown, all of it was cleared.
    fn still_hidden<'a>(&'a self, inbound: &'a Baggage, shown: &[Entry<'_>]) -> Vec<(&'a str, Cow<'a, str>)> {
        match &self.hidden {
            Some(hidden) if !shown.is_empty() => inbound
                .entries()
                .filter(|member| hidden.contains(member.name()))
                .map(|member| (member.name(), member.value()))
                .collect(),
            _ => Vec::new(),
        }
    }
}

/// Their baggage with what came in added, and the names for which it had no room.
fn with_inbound_baggage(before: &OtelBaggage, inbound: &Baggage) -> (OtelBaggage, Option<Arc<BTreeSet<String>>>) {
    let mut view = OtelBaggage::from(inbound);
    let hidden: BTreeSet<_> = inbound
        .entries()
        .map(|member| member.name())
        .filter(|name| view.get(name).is_none())
        .map(String::from)
        .collect();
    for (key, (value, metadata)) in before {
        if inbound.get(key.as_str()).is_none() {
            view.insert_with_metadata(key.clone(), value.clone(), metadata.clone());
        }
    }
    (view, (!hidden.is_empty()).then(|| Arc::new(hidden)))
}

/// The current span. If it is in the trace that came in, what their types lose comes from there: the random flag, which
/// is the same for a whole trace (rule TP10), and the members of `tracestate` that theirs does not take.
fn current_span(cx: &Context, carried: Option<&Carried>) -> Option<SpanContext> {
    let span = cx.span();
    let theirs = span.span_context();
    let mut ours = SpanContext::try_from(theirs).ok()?;
    if let Some(Carried { span: Some(came_in), shown, .. }) = carried.filter(|it| it.is_of(&ours)) {
        if came_in.flags.is_random() {
            ours.flags = ours.flags | TraceFlags::RANDOM;
        }
        ours.trace_state = merged_trace_state(&came_in.trace_state, shown, theirs.trace_state());
    }
    Some(ours)
}

/// The headers of one of their carriers, under all names that it lists (rule TP1), each line once. A carrier that finds
/// a name in any case gives the lines of all its spellings for one of them; one that does not is asked for each.
fn collect(carrier: &dyn OtelExtractor) -> Collected<'_> {
    let mut seen = BTreeSet::new();
    let mut names = carrier.keys();
    names.retain(|name| Kind::of(name.as_bytes()).is_some() && seen.insert(*name));
    let mut collected = Collected::default();
    for header in Header::ALL {
        let ours = names.iter().copied().filter(|name| header_of(name.as_bytes()) == Some(header));
        // The name that CGI gives it is another name, not another case.
        let (cgi, mut listed): (Vec<_>, Vec<_>) = ours.partition(|name| *name == header.spelled(Spelling::Cgi));
        if listed.len() > 1 && finds_in_any_case(carrier, header, &listed) {
            listed.truncate(1);
        }
        let mut take = |name: &str| {
            let values = carrier.get_all(name).unwrap_or_default();
            values.iter().for_each(|value| collected.push(name.as_bytes(), value.as_bytes()));
            !values.is_empty()
        };
        let mut found = false;
        for name in listed.into_iter().chain(cgi) {
            found |= take(name);
        }
        // Some carriers list no names, or others than they answer to.
        if !found {
            take(header.name());
        }
    }
    // A mark of CGI may be listed without a header.
    for name in names.into_iter().filter(|name| header_of(name.as_bytes()).is_none()) {
        collected.push(name.as_bytes(), &[]);
    }
    collected
}

/// Whether a carrier answers to a spelling that it does not list. Where all that are tried are listed, which nobody
/// honest does, it counts as one that does.
fn finds_in_any_case(carrier: &dyn OtelExtractor, header: Header, listed: &[&str]) -> bool {
    let name = header.name();
    let other = (0..=name.len()).filter_map(|upper| {
        let (head, tail) = name.split_at_checked(upper)?;
        Some([&head.to_ascii_uppercase(), tail].concat())
    });
    let mut unlisted = other.filter(|name| !listed.contains(&name.as_str()));
    unlisted.next().is_none_or(|name| carrier.get(&name).is_some())
}

//! What one tracer is, without its exporters: its settings, its own session, and what follows from them for its spans.

use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use crate::delivery;
use crate::flatten;
use crate::id::{TraceFlags, TraceId};
use crate::name_filter::NameFilters;
use crate::policy::Policy;
use crate::redact::Redaction;
use crate::registration::Start;
use crate::routing::{Routing, RoutingValues};
use crate::rule::{RuleCounts, RuleSet};
use crate::sampler::{Sampler, flags_of_new_span};
use crate::scope::{SessionScope, TracerId};
use crate::session::honeyhive_session_id;
use crate::settings::{Exporter, Settings};
use crate::value::Value;

pub mod stats;

/// By which of a session's two ids a destination knows it.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Style {
    /// As it travels on the wire.
    Raw,
    /// As a UUID, which HoneyHive wants ([`honeyhive_session_id`]).
    HoneyHive,
}

impl Style {
    /// How an exporter knows sessions.
    pub const fn of(exporter: &Exporter) -> Self {
        match exporter {
            Exporter::HoneyHive(_) => Self::HoneyHive,
            Exporter::Otlp(_) | Exporter::Console | Exporter::Memory => Self::Raw,
        }
    }
}

/// The bounds and times of the queue before an exporter.
pub fn delivery_config(settings: &Settings, style: Style) -> delivery::Config {
    let defaults = delivery::Config::default();
    let batch = &settings.batch;
    delivery::Config {
        queue_spans: batch.queue_spans,
        batch_spans: batch.batch_spans,
        delay_ns: if batch.disabled { 0 } else { batch.delay_ns.unwrap_or(defaults.delay_ns) },
        hold_ns: if style == Style::HoneyHive { delivery::HOLD_NS } else { 0 },
        give_up_ns: batch.export_timeout_ns.unwrap_or(defaults.give_up_ns),
        ..defaults
    }
}

/// The routing attributes of a session, for each kind of destination.
#[derive(Debug)]
pub struct Routings {
    raw: Routing,
    /// None unless a destination wants it and it differs.
    honeyhive: Option<Routing>,
    /// Whether the session is still to be registered (rule REG1).
    unregistered: AtomicBool,
}

impl Routings {
    /// Those for destinations of this kind.
    pub fn of(&self, style: Style) -> &Routing {
        match (style, &self.honeyhive) {
            (Style::HoneyHive, Some(routing)) => routing,
            _ => &self.raw,
        }
    }

    /// Whether the session is to be registered now: the first time that this is asked, if at all (rule REG1).
    pub fn is_to_be_registered(&self) -> bool {
        self.unregistered.load(Ordering::Relaxed) && self.unregistered.swap(false, Ordering::Relaxed)
    }
}

/// What a tracer is made of beside its settings.
#[derive(Clone, Debug, Default)]
pub struct Parts {
    /// What is taken from callers, and which hosts are sent what.
    pub policy: Policy,
    /// What is replaced in captured values.
    pub redaction: Redaction,
    /// The tracer's own session, if the settings have none: a new id.
    pub session: String,
    /// Whether sessions are registered at HoneyHive, if spans go there.
    pub registers: bool,
    /// What the tracer's own session begins with.
    pub inputs: Option<Value<'static>>,
    /// Which spans are exported, by their names.
    pub name_filters: Option<NameFilters>,
}

/// A tracer, shared by all threads that make spans.
#[derive(Debug)]
pub struct Tracer {
    id: TracerId,
    settings: Settings,
    policy: Policy,
    flatten: flatten::Options,
    session: String,
    own: Arc<Routings>,
    registers: bool,
    wants_uuid: bool,
    inputs: Option<Value<'static>>,
    name_filters: Option<NameFilters>,
    unsampled: AtomicUsize,
    inbound_dropped: RuleCounts,
}

/// What is said of the first span that is left out because a caller sent "not sampled".
pub const UNSAMPLED_WARNING: &str = "a caller sent \"not sampled\", so its spans are left out (sampler=\"always_on\" \
                                     records them; stats() counts them)";

impl Tracer {
    /// A tracer. Nobody else in this process has its id.
    pub fn new(id: TracerId, settings: Settings, parts: Parts) -> Self {
        let Parts { policy, redaction, session, registers, inputs, name_filters } = parts;
        let session = settings.session_id.clone().unwrap_or(session);
        let wants_uuid = settings.exporters.iter().any(|exporter| Style::of(exporter) == Style::HoneyHive);
        let registers = registers && settings.honeyhive.is_some();
        let (name, project) = (settings.session_name.as_deref(), settings.project.as_deref());
        let own = Arc::new(routings(&session, name, project, &settings.source, wants_uuid, registers));
        Self {
            id,
            policy,
            flatten: flatten::Options::new(&settings.limits, redaction),
            session,
            own,
            registers,
            wants_uuid,
            inputs,
            name_filters,
            unsampled: AtomicUsize::new(0),
            inbound_dropped: RuleCounts::new(),
            settings,
        }
    }

    /// Its id.
    pub const fn id(&self) -> TracerId {
        self.id
    }

    /// What it was told to do.
    pub const fn settings(&self) -> &Settings {
        &self.settings
    }

    /// What it takes from callers, and which hosts are sent what.
    pub const fn policy(&self) -> &Policy {
        &self.policy
    }

    /// How captured values become attributes.
    pub const fn flatten(&self) -> &flatten::Options {
        &self.flatten
    }

    /// The routing attributes of spans where no other session or project holds.
    pub const fn own_routings(&self) -> &Arc<Routings> {
        &self.own
    }

    /// The session that holds where no other does.
    pub fn session(&self) -> &str {
        &self.session
    }

    /// The session that holds in a scope.
    pub fn session_in<'a>(&'a self, scope: &'a SessionScope) -> &'a str {
        scope.session_for(self.id, &self.policy).unwrap_or(&self.session)
    }

    /// The project that holds in a scope.
    pub fn project_in<'a>(&'a self, scope: &'a SessionScope) -> Option<&'a str> {
        scope.project_for(self.id, &self.policy).or(self.settings.project.as_deref())
    }

    /// The routing attributes of spans in a scope. They are encoded here: callers keep them for other spans of the scope.
    pub fn routings(&self, scope: &SessionScope) -> Arc<Routings> {
        let session = scope.session_for(self.id, &self.policy);
        let project = scope.project_for(self.id, &self.policy);
        if session.is_none() && project.is_none() {
            return Arc::clone(&self.own);
        }
        // A caller that sent the session is the one to name and to register it.
        let foreign = scope.session_is_inbound(self.id, &self.policy);
        let own_name = self.settings.session_name.as_deref().filter(|_| !foreign);
        Arc::new(routings(
            session.unwrap_or(&self.session),
            scope.session_name_for(self.id, &self.policy).or(own_name),
            project.or(self.settings.project.as_deref()),
            &self.settings.source,
            self.wants_uuid,
            self.registers && !foreign,
        ))
    }

    /// What HoneyHive is told of the session that holds in a scope: what `start` says of it comes first.
    pub fn start_of<'a>(&'a self, scope: &'a SessionScope, start: Start<'a>) -> Start<'a> {
        let given = scope.session_for(self.id, &self.policy);
        let name = scope.session_name_for(self.id, &self.policy);
        Start {
            session_id: given.unwrap_or(&self.session),
            session_name: name.or(self.settings.session_name.as_deref()),
            source: start.source.or(Some(&self.settings.source)),
            project: self.project_in(scope),
            inputs: start.inputs.or_else(|| if given.is_none() { self.inputs.clone() } else { None }),
            ..start
        }
    }

    /// The flags of a new span's context, and whether the span is recorded. `parent` are the flags of the span above it,
    /// and whether that is another process's.
    pub fn sample(&self, trace_id: TraceId, parent: Option<(TraceFlags, bool)>) -> (TraceFlags, bool) {
        let sampled = self.settings.enabled && self.settings.sampler.decide(trace_id, parent).is_sampled();
        let flags = flags_of_new_span(parent.map(|(flags, _)| flags), self.settings.random_flag, sampled);
        (flags, sampled)
    }

    /// Whether a span of this name is exported.
    pub fn admits(&self, name: &str) -> bool {
        self.name_filters.as_ref().is_none_or(|filters| filters.admits(name))
    }

    /// Counts spans that were not recorded because of the sampler's decision. Whether [`UNSAMPLED_WARNING`] is to be said:
    /// once, and only where callers decide.
    pub fn count_unsampled(&self, spans: usize) -> bool {
        self.settings.enabled
            && spans > 0
            && self.unsampled.fetch_add(spans, Ordering::Relaxed) == 0
            && matches!(self.settings.sampler, Sampler::ParentBased(_))
    }

    /// How many spans were counted so.
    pub fn unsampled(&self) -> usize {
        self.unsampled.load(Ordering::Relaxed)
    }

    /// Counts the rules by which something that came in was left out.
    pub fn count_inbound(&self, dropped: RuleSet) {
        self.inbound_dropped.count(dropped);
    }

    /// How often something that came in was left out, by rule.
    pub const fn inbound_dropped(&self) -> &RuleCounts {
        &self.inbound_dropped
    }

    /// What decides which traces are recorded, in words.
    pub fn sampler_text(&self) -> String {
        let mut text = String::new();
        self.settings.sampler.describe(&mut text);
        text
    }

    /// What the sampler decides without asking for the trace's id: for a root; below a local parent that is sampled, and
    /// one that is not; below a remote one that is, and one that is not. `None` where the id decides.
    pub fn decisions(&self) -> [Option<bool>; 5] {
        let sampled = TraceFlags::SAMPLED;
        let parents = [
            None,
            Some((sampled, false)),
            Some((TraceFlags::default(), false)),
            Some((sampled, true)),
            Some((TraceFlags::default(), true)),
        ];
        // The two ends of what ids can say: a ratio decides by the lowest bits, and takes all below a bound.
        let ids = [TraceId::random([0; 16]), TraceId::random([0xff; 16])];
        parents.map(|parent| {
            let [low, high] = ids.map(|id| self.sample(id, parent).1);
            (low == high).then_some(low)
        })
    }
}

/// Encodes the routing attributes of a session.
fn routings(
    session: &str,
    name: Option<&str>,
    project: Option<&str>,
    source: &str,
    wants_uuid: bool,
    register: bool,
) -> Routings {
    let values = RoutingValues {
        session: Some(session),
        otel_session: Some(session),
        session_name: name,
        project,
        source: Some(source),
    };
    let uuid = honeyhive_session_id(session);
    let honeyhive =
        (wants_uuid && uuid != session).then(|| Routing::new(&RoutingValues { session: Some(&uuid), ..values }));
    Routings { raw: Routing::new(&values), honeyhive, unregistered: AtomicBool::new(register) }
}

/// The names of exporters, as `exporter=` takes them.
pub fn exporter_names(settings: &Settings) -> Vec<&'static str> {
    let name = |exporter: &Exporter| match exporter {
        Exporter::HoneyHive(_) => "honeyhive",
        Exporter::Otlp(_) => "otlp",
        Exporter::Console => "console",
        Exporter::Memory => "memory",
    };
    settings.exporters.iter().map(name).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::extract::extract;
    use crate::rule::Rule;
    use crate::settings::{Arguments, resolve};
    use std::string::ToString;

    fn tracer(exporter: &str, registers: bool) -> Tracer {
        let arguments = Arguments {
            exporter: &[exporter],
            api_key: Some("k"),
            session_name: Some("chat"),
            project: Some("own"),
            ..Arguments::default()
        };
        let settings = resolve(&arguments, &|_| None).unwrap();
        let inputs = Some(Value::from("hello"));
        let parts = Parts { session: "own session".to_string(), registers, inputs, ..Parts::default() };
        Tracer::new(TracerId(1), settings, parts)
    }

    fn session_of(routings: &Routings, style: Style) -> String {
        let session = routings.of(style).iter().next().and_then(|(_, value)| value.as_str().map(ToString::to_string));
        session.unwrap()
    }

    #[test]
    fn a_session_is_registered_once_and_by_who_made_it() {
        let tracer = tracer("honeyhive", true);
        let own = tracer.routings(&SessionScope::EMPTY);
        assert!(own.is_to_be_registered() && !own.is_to_be_registered());
        assert!(!tracer.routings(&SessionScope::EMPTY).is_to_be_registered(), "all spans of it have the same");
        let made = SessionScope::EMPTY.with_session(TracerId(1), "made").unwrap();
        assert!(tracer.routings(&made).is_to_be_registered());
        let start = tracer.start_of(&made, Start::default());
        assert_eq!((start.session_id, start.session_name, start.project), ("made", Some("chat"), Some("own")));
        assert_eq!(start.inputs, None, "these are of the tracer's own session");
        assert!(tracer.start_of(&SessionScope::EMPTY, Start::default()).inputs.is_some());
        let inbound = extract(&[("baggage", "session_id=sent,project=theirs")], tracer.policy());
        let sent = SessionScope::EMPTY.with_inbound(Some(TracerId(1)), &inbound);
        let routings = tracer.routings(&sent);
        assert!(!routings.is_to_be_registered());
        assert_eq!((tracer.session_in(&sent), tracer.project_in(&sent)), ("sent", Some("theirs")));
        // Where spans do not go to HoneyHive, nobody registers anything.
        for tracer in [self::tracer("otlp", true), self::tracer("honeyhive", false)] {
            assert!(!tracer.routings(&SessionScope::EMPTY).is_to_be_registered());
        }
    }

    #[test]
    fn honeyhive_knows_sessions_by_uuids() {
        let own = tracer("honeyhive", false).routings(&SessionScope::EMPTY);
        assert_eq!(session_of(&own, Style::Raw), "own session");
        assert_eq!(session_of(&own, Style::HoneyHive), honeyhive_session_id("own session"));
        let own = tracer("otlp", false).routings(&SessionScope::EMPTY);
        assert_eq!(session_of(&own, Style::HoneyHive), "own session");
    }

    #[test]
    fn what_is_left_out_is_counted_and_warned_of_once() {
        let tracer = tracer("otlp", false);
        assert!(!tracer.count_unsampled(0) && tracer.count_unsampled(2) && !tracer.count_unsampled(1));
        assert_eq!(tracer.unsampled(), 3);
        tracer.count_inbound([Rule::SessionEmpty, Rule::SessionLength].into_iter().collect());
        tracer.count_inbound(Rule::SessionEmpty.into());
        let mut counts: Vec<_> = tracer.inbound_dropped().iter().collect();
        counts.sort_by_key(|(_, count)| *count);
        assert_eq!(counts, [(Rule::SessionLength, 1), (Rule::SessionEmpty, 2)]);
    }
}

//! The interface `propagation`.

use alloc::string::{String, ToString};
use alloc::vec::Vec;

use tracebaton::baggage::reconcile;
use tracebaton::explain::{Verdict, explain_with_text};
use tracebaton::parent::{Current, Parent};
use tracebaton::policy::{Allowed, Policy};
use tracebaton::record::{Recording, SpanRecord};
use tracebaton::rule::Rule;
use tracebaton::sampler::Sampler;
use tracebaton::scope::{SessionScope, TracerId};
use tracebaton::session::{self, InvalidSession};
use tracebaton::{Inbound, Outbound, SpanContext};

use crate::Component;
use crate::bindings::exports::tracebaton::context::propagation as wit;
use crate::bindings::wasi::random::random::get_random_u64;
use crate::convert::{
    baggage, carrier, entry, headers, id, ids, inbound, inbound_to_wit, number, outbound_policy, policy, policy_to_wit,
    span_context, span_context_or_none, span_context_to_wit,
};

impl wit::Guest for Component {
    fn default_policy() -> wit::Policy {
        policy_to_wit(Policy::DEFAULT)
    }

    fn extract(headers: Vec<wit::Header>, given: Option<wit::Policy>) -> wit::Inbound {
        inbound_to_wit(&tracebaton::extract(&carrier(headers), &policy(given)))
    }

    fn inject(given: Vec<wit::Header>, out: wit::Outbound) -> Result<wit::Injected, wit::Error> {
        let span = span_context_or_none(out.span.as_ref())?;
        let has_policy = out.policy.is_some();
        let policy = outbound_policy(out.policy)?;
        let allowed = out.destination.map_or(Allowed::ALL, |to| allowed(&policy, &to, out.origin.as_deref()));
        let (came_in, mut dropped) = baggage(&out.inbound);
        let entries: Vec<_> = out.application.iter().map(entry).collect();
        let reconciled = out.is_api_view.then(|| reconcile(&came_in, entries.iter().copied()));
        let (application, inbound) = match &reconciled {
            // Where baggage may not be sent, all that came in is withdrawn.
            Some(both) if allowed.baggage => (&both.application, &both.inbound),
            Some(both) => (&both.application, &came_in),
            None => (&entries, &came_in),
        };
        let out = Outbound {
            span: span.as_ref(),
            session: out.session.as_deref(),
            project: out.project.as_deref(),
            source: out.source.as_deref(),
            application,
            inbound: Some(inbound),
            policy: has_policy.then_some(&policy),
            allowed,
        };
        let mut carrier = carrier(given);
        dropped |= tracebaton::inject(&mut carrier, &out);
        Ok(wit::Injected { headers: headers(carrier), dropped: ids(dropped) })
    }

    fn new_child(
        parent: Option<wit::SpanContext>,
        options: Option<wit::ChildOptions>,
    ) -> Result<wit::SpanContext, wit::Error> {
        new_child_from(parent, options, get_random_u64)
    }

    fn choose_parent(
        span: Option<wit::SpanContext>,
        link: Option<wit::SpanContext>,
        current: Option<wit::SpanContext>,
    ) -> Result<wit::ParentChoice, wit::Error> {
        let read = |context: Option<wit::SpanContext>| span_context_or_none(context.as_ref());
        let inbound = Inbound { span: read(span)?, link: read(link)?, ..Inbound::default() };
        let current: Option<SpanContext> = read(current)?;
        Ok(match Parent::of(&inbound, current.as_ref().map(Current::from)) {
            Parent::Current => wit::ParentChoice::Current,
            Parent::Caller => wit::ParentChoice::Caller,
            Parent::None => wit::ParentChoice::None,
        })
    }

    fn explain(headers: Vec<wit::Header>, given: Option<wit::Policy>, with_text: bool) -> Vec<wit::Finding> {
        let findings = explain_with_text(&carrier(headers), &policy(given));
        let finding = |it: tracebaton::explain::Finding| wit::Finding {
            header: it.header.name().to_string(),
            position: it.position.map(number),
            verdict: match it.verdict {
                Verdict::Kept => wit::Verdict::Kept,
                Verdict::Dropped => wit::Verdict::Dropped,
                Verdict::Missing => wit::Verdict::Missing,
            },
            rule: it.rule.map(id),
            sentence: it.sentence.to_string(),
            text: it.text.filter(|_| with_text),
        };
        findings.into_iter().map(finding).collect()
    }

    fn destination(given: Option<wit::Policy>, to: String, origin: Option<String>) -> Result<wit::Allowed, wit::Error> {
        let Allowed { trace, baggage } = allowed(&outbound_policy(given)?, &to, origin.as_deref());
        Ok(wit::Allowed { trace, baggage })
    }

    fn is_host_pattern(entry: String) -> bool {
        Policy::is_pattern(&entry)
    }

    fn honeyhive_session(given: String) -> Result<String, wit::Error> {
        session::check(&given).map_err(no_session)?;
        Ok(session::honeyhive_session_id(&given).into_owned())
    }

    fn what_holds(
        steps: Vec<wit::Step>,
        tracer: Option<u64>,
        given: Option<wit::Policy>,
    ) -> Result<wit::Holding, wit::Error> {
        let mut scope = SessionScope::EMPTY;
        for step in steps {
            scope = match step {
                wit::Step::Session((tracer, session)) => {
                    scope.with_session(TracerId(tracer), &session).map_err(no_session)?
                }
                wit::Step::Inbound((tracer, came_in)) => scope.with_inbound(tracer.map(TracerId), &inbound(&came_in)?),
            };
        }
        let (tracer, policy) = (tracer.map(TracerId), policy(given));
        Ok(wit::Holding {
            session: scope.session_for(tracer, &policy).map(ToString::to_string),
            is_inbound: scope.session_is_inbound(tracer, &policy),
            project: scope.project_for(tracer, &policy).map(ToString::to_string),
            baggage: scope.baggage(tracer, &policy).map(|baggage| baggage.as_str().to_string()),
            link: scope.link(tracer, &policy).map(span_context_to_wit),
        })
    }
}

/// `random` is asked for what no argument says.
pub(crate) fn new_child_from(
    parent: Option<wit::SpanContext>,
    options: Option<wit::ChildOptions>,
    mut random: impl FnMut() -> u64,
) -> Result<wit::SpanContext, wit::Error> {
    let parent = span_context_or_none(parent.as_ref())?;
    let mut recording = Recording::default();
    let (mut trace_id, mut span_id) = (None, None);
    if let Some(options) = options {
        recording.random_flag = options.random_flag;
        recording.sampler = sampler(options.sampler);
        (trace_id, span_id) = (options.trace_id, options.span_id);
    }
    // Given ids are judged as those of a span context are; one that is not given is some valid one.
    let given = |trace_id: Option<String>, span_id: Option<String>| {
        let (trace_id, span_id) =
            (trace_id.unwrap_or_else(|| "1".repeat(32)), span_id.unwrap_or_else(|| "1".repeat(16)));
        span_context(&wit::SpanContext {
            trace_id,
            span_id,
            trace_flags: 0,
            trace_state: String::new(),
            is_remote: false,
        })
    };
    let ids = match (&trace_id, &span_id) {
        (None, None) => None,
        _ => Some(given(trace_id.clone(), span_id.clone())?),
    };
    let trace_id = match (ids.as_ref().filter(|_| trace_id.is_some()), &parent) {
        (Some(ids), _) => ids.trace_id.to_bytes(),
        // The trace is the parent's.
        (None, Some(_)) => [0; 16],
        (None, None) => (u128::from(random()) << 64 | u128::from(random())).to_be_bytes(),
    };
    let span_id = match ids.as_ref().filter(|_| span_id.is_some()) {
        Some(ids) => ids.span_id.to_bytes(),
        None => random().to_be_bytes(),
    };
    let span = SpanRecord::start("", parent.as_ref(), &recording, (trace_id, span_id), 0);
    Ok(span_context_to_wit(&span.context))
}

fn sampler(given: wit::Sampler) -> Sampler {
    match given {
        wit::Sampler::AlwaysOn => Sampler::AlwaysOn,
        wit::Sampler::AlwaysOff => Sampler::AlwaysOff,
        wit::Sampler::TraceIdRatio(ratio) => Sampler::TraceIdRatio(ratio),
        wit::Sampler::ParentBasedAlwaysOn => Sampler::parent_based(Sampler::AlwaysOn),
        wit::Sampler::ParentBasedAlwaysOff => Sampler::parent_based(Sampler::AlwaysOff),
        wit::Sampler::ParentBasedRatio(ratio) => Sampler::parent_based(Sampler::TraceIdRatio(ratio)),
    }
}

fn allowed(policy: &Policy, to: &str, origin: Option<&str>) -> Allowed {
    match origin {
        Some(origin) => policy.destination_from_page(to, origin),
        None => policy.destination(to),
    }
}

fn no_session(error: InvalidSession) -> wit::Error {
    wit::Error::Session(id(match error {
        InvalidSession::Empty => Rule::SessionEmpty,
        InvalidSession::TooLong => Rule::SessionLength,
    }))
}

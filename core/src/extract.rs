//! Taking in what a caller sent.
//!
//! Extraction cannot fail: what a rule forbids is left out and the rule is noted (rule TP18). What is left is the
//! caller's span, its baggage byte for byte, and the session and project that the policy accepts.

use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

use crate::baggage::{Baggage, Member};
use crate::carrier::{Collected, Extractor, Header};
use crate::context::SpanContext;
use crate::policy::{InboundMode, Policy};
use crate::rule::{Rule, RuleSet};
use crate::session::{self, InvalidSession, OwnMember};
use crate::traceparent::{Traceparent, trim_ows};
use crate::tracestate::TraceState;

/// What a caller sent and the policy took.
#[derive(Clone, Default)]
pub struct Inbound {
    /// The caller's span, to be the parent of the next one.
    pub span: Option<SpanContext>,
    /// The caller's span where the policy starts a new trace: to be linked to (rule TP16).
    pub link: Option<SpanContext>,
    /// The baggage, byte for byte and in order; without the session or the project if the policy rejected it.
    pub baggage: Baggage,
    /// The caller's session, percent-decoded once: 1 to 256 characters.
    pub session: Option<String>,
    /// The caller's project, percent-decoded once: 1 to 256 characters.
    pub project: Option<String>,
    /// The rules by which something was left out.
    pub dropped: RuleSet,
}

/// Header text does not belong in logs, where `{:?}` ends up (rule B14): this tells whether there is a session.
impl fmt::Debug for Inbound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Inbound")
            .field("span", &self.span)
            .field("link", &self.link)
            .field("baggage", &self.baggage)
            .field("session", &self.session.is_some())
            .field("project", &self.project.is_some())
            .field("dropped", &self.dropped)
            .finish()
    }
}

/// Reads the headers of a carrier under a policy.
pub fn extract<E: Extractor + ?Sized>(carrier: &E, policy: &Policy) -> Inbound {
    extract_collected(&carrier.collect(), policy)
}

/// Reads headers that were collected before.
pub fn extract_collected(headers: &Collected<'_>, policy: &Policy) -> Inbound {
    if headers.is_empty() {
        return Inbound::default();
    }
    if policy.inbound == InboundMode::Ignore {
        // Blank headers say nothing that could be ignored.
        let any = Header::ALL.into_iter().any(|header| has_text(headers, header));
        let dropped = if any { Rule::PolicyIgnored.into() } else { RuleSet::EMPTY };
        return Inbound { dropped, ..Inbound::default() };
    }
    let mut dropped = RuleSet::EMPTY;
    let span = span(headers, &mut dropped);
    let (span, link) = if policy.inbound == InboundMode::Restart { (None, span) } else { (span, None) };
    if headers.values(Header::Baggage).next().is_none() {
        return Inbound { span, link, dropped, ..Inbound::default() };
    }
    let mut any_own = false;
    let mut baggage = baggage(headers, policy, &mut dropped, |member| {
        any_own = any_own || OwnMember::of(member.name()).is_some();
    });
    let (mut session, mut project) = (None, None);
    if any_own {
        let candidates = Candidates::of(&baggage);
        session = candidates.choose(OwnMember::Session, policy, &mut dropped);
        project = candidates.choose(OwnMember::Project, policy, &mut dropped);
        if !policy.accept_session || !policy.accept_project {
            let passed_on = |member: &Member<'_>| OwnMember::of(member.name()).is_none_or(|own| policy.accepts(own));
            baggage = baggage.retain(passed_on);
        }
    }
    Inbound { span, link, baggage, session, project, dropped }
}

/// The caller's span.
#[inline]
fn span(headers: &Collected<'_>, dropped: &mut RuleSet) -> Option<SpanContext> {
    match with_values(headers, Header::Traceparent, Traceparent::parse_all) {
        Ok(Some(Traceparent { trace_id, span_id, flags })) => {
            // Rule TS11 reads tracestate also beside a later version of traceparent, and rule TS9 keeps the span when
            // tracestate is bad.
            let trace_state = trace_state(headers).unwrap_or_else(|rule| {
                dropped.insert(rule);
                TraceState::EMPTY
            });
            Some(SpanContext { trace_id, span_id, flags, trace_state, is_remote: true })
        }
        // Rules TP12 and TP13: without a valid traceparent, tracestate is not looked at.
        Ok(None) => {
            if has_text(headers, Header::Tracestate) {
                dropped.insert(Rule::TracestateAlone);
            }
            None
        }
        Err(rule) => {
            dropped.insert(rule);
            if has_text(headers, Header::Tracestate) {
                dropped.insert(Rule::TracestateOfInvalid);
            }
            None
        }
    }
}

/// All `tracestate` headers as one (rule TS1); a bad one is discarded whole (rule TS10).
pub(crate) fn trace_state(headers: &Collected<'_>) -> Result<TraceState, Rule> {
    if headers.values(Header::Tracestate).next().is_none() {
        return Ok(TraceState::EMPTY);
    }
    if headers.overflowed(Header::Tracestate) {
        return Err(Rule::TracestateMembers);
    }
    with_values(headers, Header::Tracestate, TraceState::parse_all)
}

/// All `baggage` headers as one (rule B11), within the limits of the policy (rule B15).
fn baggage(headers: &Collected<'_>, policy: &Policy, dropped: &mut RuleSet, see: impl FnMut(&Member<'_>)) -> Baggage {
    if headers.overflowed(Header::Baggage) {
        dropped.insert(Rule::BaggageMemberCap);
    }
    with_values(headers, Header::Baggage, |values| {
        Baggage::parse_seeing(values, policy.max_members, policy.max_bytes, dropped, see)
    })
}

/// Whether a header is there and not blank.
pub(crate) fn has_text(headers: &Collected<'_>, header: Header) -> bool {
    headers.values(header).any(|value| !trim_ows(value).is_empty())
}

/// Calls `f` with the values of a header. Nothing is allocated for one value, which is the usual case.
#[inline]
pub(crate) fn with_values<'a, R>(headers: &Collected<'a>, header: Header, f: impl FnOnce(&[&'a [u8]]) -> R) -> R {
    let mut values = headers.values(header);
    match (values.next(), values.next()) {
        (None, _) => f(&[]),
        (Some(value), None) => f(&[value]),
        _ => f(&headers.values(header).collect::<Vec<_>>()),
    }
}

/// The members of a baggage that may be the session or the project, by preference.
pub(crate) struct Candidates<'a> {
    session: [Option<Member<'a>>; 3],
    project: [Option<Member<'a>>; 3],
}

impl<'a> Candidates<'a> {
    pub(crate) fn of(baggage: &'a Baggage) -> Self {
        let mut found = Self { session: [None; 3], project: [None; 3] };
        for member in baggage.iter() {
            let slots = match OwnMember::of(member.name()) {
                Some(OwnMember::Session) => (&mut found.session, OwnMember::Session.aliases()),
                Some(OwnMember::Project) => (&mut found.project, OwnMember::Project.aliases()),
                // Source is always the service's own.
                Some(OwnMember::Source) | None => continue,
            };
            for (slot, alias) in slots.0.iter_mut().zip(slots.1) {
                if alias == member.name() {
                    // Rule B9: the last of one name counts.
                    *slot = Some(member);
                }
            }
        }
        found
    }

    /// The member that counts, if the policy accepts one and one is valid; why others do not goes into `dropped`.
    fn choose(&self, own: OwnMember, policy: &Policy, dropped: &mut RuleSet) -> Option<String> {
        let mut valid = None;
        for member in self.by_preference(own) {
            match judge(own, policy, &member.value()) {
                Ok(()) => valid = valid.or(Some(member)),
                Err(rule) => dropped.insert(rule),
            }
        }
        valid.map(|member| member.value().into_owned())
    }

    pub(crate) fn by_preference(&self, own: OwnMember) -> impl Iterator<Item = Member<'a>> {
        match own {
            OwnMember::Session => self.session,
            OwnMember::Project => self.project,
            OwnMember::Source => [None; 3],
        }
        .into_iter()
        .flatten()
    }
}

/// Whether a caller's session or project is taken over.
pub(crate) fn judge(own: OwnMember, policy: &Policy, value: &str) -> Result<(), Rule> {
    match (own, policy.accepts(own), session::check(value)) {
        (OwnMember::Session, false, _) => Err(Rule::PolicySession),
        (OwnMember::Session, true, Err(InvalidSession::Empty)) => Err(Rule::SessionEmpty),
        (OwnMember::Session, true, Err(InvalidSession::TooLong)) => Err(Rule::SessionLength),
        (_, false, _) => Err(Rule::PolicyProject),
        (_, true, Err(_)) => Err(Rule::ProjectInvalid),
        (_, true, Ok(())) => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::format;

    const TRACEPARENT: (&str, &str) = ("Traceparent", "00-0af7651916cd43dd8448eb211c80319c-00f067aa0ba902b7-01");

    #[test]
    fn a_bad_tracestate_leaves_the_span() {
        let inbound = extract(&[TRACEPARENT, ("tracestate", "a=1,=")], &Policy::default());
        assert!(inbound.span.unwrap().trace_state.is_empty());
        assert!(!inbound.dropped.is_empty());
    }

    #[test]
    fn floods_of_header_lines_are_cut_off() {
        let mut lines: Vec<_> = (0..10_000).map(|number| ("tracestate", format!("k{number}=v"))).collect();
        lines.extend((0..10_000).map(|number| ("baggage", format!("k{number}=v"))));
        lines.push((TRACEPARENT.0, TRACEPARENT.1.into()));
        let inbound = extract(&lines, &Policy::default());
        assert!(inbound.span.unwrap().trace_state.is_empty());
        assert_eq!(inbound.baggage.iter().count(), Baggage::MAX_MEMBERS);
        assert!(inbound.dropped.contains(Rule::TracestateMembers) && inbound.dropped.contains(Rule::BaggageMemberCap));
    }

    #[test]
    fn a_valid_alias_stands_in_for_an_invalid_preferred_one() {
        let long = "x".repeat(257);
        let inbound = extract(
            &[("baggage", format!("session_id=c,honeyhive.session_id={long},honeyhive_session_id="))],
            &Policy::default(),
        );
        assert_eq!(inbound.session.as_deref(), Some("c"));
        assert!(inbound.dropped.contains(Rule::SessionEmpty) && inbound.dropped.contains(Rule::SessionLength));
        assert_eq!(inbound.baggage.iter().count(), 3, "what is not taken over is still passed on");
    }
}

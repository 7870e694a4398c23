//! Taking in what a caller sent.
//!
//! Extraction cannot fail: what a rule forbids is left out and the rule is noted (rule TP18). What is left is the
//! caller's span, its baggage byte for byte, and the session and project that the policy accepts.

use alloc::borrow::Cow;
use alloc::string::String;
use core::fmt;

use crate::baggage::{Baggage, Member};
use crate::carrier::{Collected, Extractor, Header};
use crate::context::SpanContext;
use crate::octets::trim_ows;
use crate::policy::{InboundMode, Policy};
use crate::rule::{Rule, RuleSet};
use crate::session::{self, InvalidSession, OwnMember};
use crate::traceparent::Traceparent;
use crate::tracestate::TraceState;

/// What a caller sent and the policy took.
#[derive(Clone, Default)]
pub struct Inbound {
    /// The caller's span, to be the parent of the next one.
    pub span: Option<SpanContext>,
    /// The caller's span where the policy starts a new trace: to be linked to (rule TP16).
    pub link: Option<SpanContext>,
    /// The baggage, byte for byte and in order; without a session or a project that the policy rejects or that is none
    /// (rules S1 to S3).
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
    let mut headers = Collected::default();
    carrier.collect_into(&mut headers);
    extract_collected(&headers, policy)
}

/// Reads headers that were collected before.
pub fn extract_collected(headers: &Collected<'_>, policy: &Policy) -> Inbound {
    match policy.inbound {
        InboundMode::Continue => take(headers, policy),
        InboundMode::Restart => restart(headers, policy),
        InboundMode::Ignore => ignore(headers),
    }
}

/// Rule TP16: a new trace may begin at a trust boundary, without the caller's tracestate.
fn restart(headers: &Collected<'_>, policy: &Policy) -> Inbound {
    let mut inbound = take(headers, policy);
    inbound.link = inbound.span.take();
    inbound
}

fn ignore(headers: &Collected<'_>) -> Inbound {
    // Blank headers say nothing that could be ignored.
    let any = Header::ALL.into_iter().any(|header| has_text(headers, header));
    Inbound { dropped: if any { Rule::PolicyIgnored.into() } else { RuleSet::EMPTY }, ..Inbound::default() }
}

#[inline(never)]
fn take(headers: &Collected<'_>, policy: &Policy) -> Inbound {
    let parent = Traceparent::parse_all(headers.values(Header::Traceparent));
    let (trace_state, baggage) = (headers.values(Header::Tracestate), headers.values(Header::Baggage));
    if let (Ok(Some(parent)), [], []) = (parent, trace_state, baggage) {
        // The most frequent case, made where it is wanted: what is made in steps is copied.
        return Inbound { span: Some(remote(parent, TraceState::EMPTY)), ..Inbound::default() };
    }
    let mut dropped = RuleSet::EMPTY;
    let span = span(parent, headers, &mut dropped);
    let (baggage, session, project) = match baggage {
        [] => (Baggage::EMPTY, None, None),
        _ => self::baggage(headers, policy, &mut dropped),
    };
    Inbound { span, link: None, baggage, session, project, dropped }
}

fn remote(parent: Traceparent, trace_state: TraceState) -> SpanContext {
    let Traceparent { trace_id, span_id, flags } = parent;
    SpanContext { trace_id, span_id, flags, trace_state, is_remote: true }
}

/// The caller's span.
fn span(
    parent: Result<Option<Traceparent>, Rule>,
    headers: &Collected<'_>,
    dropped: &mut RuleSet,
) -> Option<SpanContext> {
    // Rules TP12 and TP13: without a valid traceparent, tracestate is not looked at.
    let unread = match parent {
        Ok(Some(parent)) => {
            // Rule TS11 reads tracestate also beside a later version of traceparent, and rule TS9 keeps the span when
            // tracestate is bad.
            let trace_state = trace_state(headers).unwrap_or_else(|rule| {
                dropped.insert(rule);
                TraceState::EMPTY
            });
            return Some(remote(parent, trace_state));
        }
        Ok(None) => Rule::TracestateAlone,
        Err(rule) => {
            dropped.insert(rule);
            Rule::TracestateOfInvalid
        }
    };
    if has_text(headers, Header::Tracestate) {
        dropped.insert(unread);
    }
    None
}

/// All `tracestate` headers as one (rule TS1); a bad one is discarded whole (rule TS10).
pub(crate) fn trace_state(headers: &Collected<'_>) -> Result<TraceState, Rule> {
    let values = headers.values(Header::Tracestate);
    if values.is_empty() {
        return Ok(TraceState::EMPTY);
    }
    if headers.overflowed(Header::Tracestate) {
        return Err(Rule::TracestateMembers);
    }
    TraceState::parse_all(values)
}

/// All `baggage` headers as one (rule B11), within the limits of the policy (rule B15), and the session and the project
/// in it.
fn baggage(
    headers: &Collected<'_>,
    policy: &Policy,
    dropped: &mut RuleSet,
) -> (Baggage, Option<String>, Option<String>) {
    if headers.overflowed(Header::Baggage) {
        dropped.insert(Rule::BaggageMemberCap);
    }
    let mut candidates = Candidates::default();
    let values = headers.values(Header::Baggage);
    let baggage =
        Baggage::parse_seeing(values, policy.max_members, policy.max_bytes, dropped, |it| candidates.consider(it));
    let mut refused = RuleSet::EMPTY;
    let session = candidates.choose(OwnMember::Session, policy, &mut refused);
    let project = candidates.choose(OwnMember::Project, policy, &mut refused);
    if refused.is_empty() {
        return (baggage, session, project);
    }
    *dropped |= refused;
    // What is dropped is not passed on either: a service downstream that is less strict would otherwise take a session
    // that this one has not, and one trace would be in two sessions.
    (baggage.retain(|member| !candidates.refuses(member.name(), policy)), session, project)
}

/// Whether a header is there and not blank.
pub(crate) fn has_text(headers: &Collected<'_>, header: Header) -> bool {
    headers.values(header).iter().any(|value| !trim_ows(value).is_empty())
}

/// The members of a baggage that may be the session or the project, by preference.
#[derive(Default)]
pub(crate) struct Candidates<'a> {
    session: [Option<Member<'a>>; 3],
    project: [Option<Member<'a>>; 3],
}

impl<'a> Candidates<'a> {
    pub(crate) fn of(baggage: &'a Baggage) -> Self {
        let mut found = Self::default();
        baggage.iter().for_each(|member| found.consider(member));
        found
    }

    /// Takes note of the next member, in the order in which they stand.
    #[inline]
    fn consider(&mut self, member: Member<'a>) {
        let (slots, aliases) = match OwnMember::of(member.name()) {
            Some(OwnMember::Session) => (&mut self.session, OwnMember::Session.aliases()),
            Some(OwnMember::Project) => (&mut self.project, OwnMember::Project.aliases()),
            // Source is always the service's own.
            Some(OwnMember::Source) | None => return,
        };
        for (slot, alias) in slots.iter_mut().zip(aliases) {
            if alias == member.name() {
                // Rule B9: the last of one name counts.
                *slot = Some(member);
            }
        }
    }

    /// The member that counts, if the policy accepts one and one is valid; why others do not goes into `dropped`.
    fn choose(&self, own: OwnMember, policy: &Policy, dropped: &mut RuleSet) -> Option<String> {
        let mut valid = None;
        for member in self.by_preference(own) {
            let value = member.value();
            match judge(own, policy, &value) {
                Ok(()) => valid = valid.or(Some(value)),
                Err(rule) => dropped.insert(rule),
            }
        }
        valid.map(Cow::into_owned)
    }

    /// Whether no member of this name is taken over: the last one counts (rule B9), and with it those before it go.
    fn refuses(&self, name: &str, policy: &Policy) -> bool {
        OwnMember::of(name).is_some_and(|own| {
            self.by_preference(own).any(|last| last.name() == name && judge(own, policy, &last.value()).is_err())
        })
    }

    pub(crate) fn by_preference(&self, own: OwnMember) -> impl Iterator<Item = Member<'a>> {
        let slots: &[_] = match own {
            OwnMember::Session => &self.session,
            OwnMember::Project => &self.project,
            OwnMember::Source => &[],
        };
        slots.iter().copied().flatten()
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
    use alloc::vec::Vec;

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

    /// Lines that are not kept are not known to be without members, even if those that are kept have none.
    #[test]
    fn what_was_cut_off_is_not_taken_for_nothing() {
        let kept = [("tracestate", ",")].repeat(180);
        let inbound = extract(&[&[TRACEPARENT][..], &kept].concat(), &Policy::default());
        assert!(inbound.span.is_some() && inbound.dropped.is_empty());
        let inbound = extract(&[&[TRACEPARENT][..], &kept, &[("tracestate", "a=1")]].concat(), &Policy::default());
        assert!(inbound.span.unwrap().trace_state.is_empty());
        assert_eq!(inbound.dropped, Rule::TracestateMembers.into());
    }

    #[test]
    fn blank_lines_hide_nothing() {
        let mut lines: Vec<_> = (0..1000).flat_map(|_| [("tracestate", ""), ("baggage", " \t")]).collect();
        lines.extend([TRACEPARENT, ("tracestate", "a=1"), ("baggage", "k=v")]);
        let inbound = extract(&lines, &Policy::default());
        assert_eq!(inbound.span.unwrap().trace_state.as_str(), "a=1");
        assert_eq!((inbound.baggage.as_str(), inbound.dropped), ("k=v", RuleSet::EMPTY));
    }

    #[test]
    fn a_name_that_is_refused_goes_with_all_its_members() {
        let inbound = extract(&[("baggage", "session_id=a,k=v , session_id=")], &Policy::default());
        assert_eq!((inbound.session, inbound.baggage.as_str()), (None, "k=v"));
        assert_eq!(inbound.dropped, Rule::SessionEmpty.into());
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
        assert_eq!(inbound.baggage.as_str(), "session_id=c", "what is dropped is not passed on");
    }
}

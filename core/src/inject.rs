//! Writing the headers of a request.
//!
//! In `baggage`, our own members come first, so that whoever truncates it downstream keeps them; then what the
//! application put there; then what came in, byte for byte and in order.
//!
//! A carrier may be written again for another destination, as a dict of headers that is shared between two requests is.
//! What may not go to the second one must not stand there because of the first: see [`Outbound::allowed`]. Between
//! injections for one destination nothing changes: what was written is there once, byte for byte, as long as nothing had
//! to be left out for want of room. A carrier is for the requests of one incoming request or job all the same: what a
//! caller sent that is not the current one cannot be told from what the application put there.

use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

use crate::baggage::{Baggage, BaggageWriter, Entry, Member, echoes, says_the_same};
use crate::carrier::{Collected, Header, Injector};
use crate::context::SpanContext;
use crate::extract::Candidates;
use crate::id::ascii;
use crate::names::Names;
use crate::octets::has_any;
use crate::policy::{Allowed, Policy};
use crate::rule::{Rule, RuleSet};
use crate::session::{self, InvalidSession, OwnMember, PRIVATE_KEY};
use crate::traceparent::Traceparent;
use crate::tracestate::TraceState;

/// What is to be sent.
#[derive(Clone, Copy, Default)]
pub struct Outbound<'a> {
    /// The current span; without one there is no `traceparent`.
    pub span: Option<&'a SpanContext>,
    /// The session that holds, as plain text: of 1 to 256 characters, or it is not sent (rule S2).
    pub session: Option<&'a str>,
    /// The project that holds, as plain text: of 1 to 256 characters, or it is not sent (rule S3).
    pub project: Option<&'a str>,
    /// This service's own source, as plain text.
    pub source: Option<&'a str>,
    /// What the application set through an API, each name once. Where that API also shows what came in, these are
    /// [`Reconciled::application`](crate::baggage::Reconciled::application), and `inbound` is the rest of it.
    pub application: &'a [Entry<'a>],
    /// What came in. Where baggage may not be sent, all of it, also what the application has changed since.
    pub inbound: Option<&'a Baggage>,
    /// The policy, if one holds: a session or project that it does not accept is not passed on from `inbound`.
    pub policy: Option<&'a Policy>,
    /// What may be sent to the destination ([`Policy::destination`]). What may not is not written, and goes from the
    /// carrier if an injection before this one may have written it there:
    ///
    /// - without baggage, the members under our names and under every name of `application` and `inbound`, whatever
    ///   they say: it is not known which of two texts is the older. Other members are the application's and stay;
    /// - without trace, a `traceparent` of the span's own trace, and the `tracestate` beside it. One of another trace is
    ///   the application's and stays.
    pub allowed: Allowed,
}

/// As for [`Headers`], no text.
impl fmt::Debug for Outbound<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Outbound")
            .field("span", &self.span)
            .field("session", &self.session.is_some())
            .field("project", &self.project.is_some())
            .field("source", &self.source.is_some())
            .field("application", &self.application)
            .field("inbound", &self.inbound)
            .finish_non_exhaustive()
    }
}

impl<'a> Outbound<'a> {
    /// The span that may be sent.
    fn span(&self) -> Option<&'a SpanContext> {
        self.span.filter(|_| self.allowed.trace)
    }

    fn own(&self, member: OwnMember) -> Option<&'a str> {
        match member {
            OwnMember::Session => self.session,
            OwnMember::Project => self.project,
            OwnMember::Source => self.source,
        }
        .filter(|value| !value.is_empty() && (member == OwnMember::Source || session::check(value).is_ok()))
    }

    /// A session or project that nobody downstream would take is not sent either (rules S2, S3).
    fn refused(&self) -> RuleSet {
        let is_long = |value: Option<&str>| value.is_some_and(|it| session::check(it) == Err(InvalidSession::TooLong));
        let session = is_long(self.session).then_some(Rule::SessionLength);
        session.into_iter().chain(is_long(self.project).then_some(Rule::ProjectInvalid)).collect()
    }

    /// About how many bytes of baggage there are to write, before anything is encoded.
    fn bytes(&self, existing: &Baggage, inbound: &Baggage) -> usize {
        // It is an estimate: a sum that is too large to be one may wrap. Members have an equals sign and a comma.
        let mut bytes = existing.as_str().len().wrapping_add(inbound.as_str().len());
        for entry in self.application {
            bytes = bytes.wrapping_add(entry.name.len()).wrapping_add(entry.value.len()).wrapping_add(2);
        }
        for member in OwnMember::ALL {
            if let Some(value) = self.own(member) {
                bytes = bytes.wrapping_add(member.key().len()).wrapping_add(value.len()).wrapping_add(2);
            }
        }
        // The comma between what is in the carrier and what came in.
        if bytes == 0 { 0 } else { bytes.wrapping_add(1) }
    }

    /// Whether others may say something under this name: not under an alias of what we say ourselves, or a stale one
    /// would win downstream, and nothing that means something in one process only.
    fn leaves(&self, name: &str) -> bool {
        name != PRIVATE_KEY && OwnMember::of(name).is_none_or(|own| self.own(own).is_none())
    }
}

/// The header values to send.
#[derive(Clone, Default)]
pub struct Headers {
    /// In ASCII; none without a span.
    pub traceparent: Option<[u8; Traceparent::BYTES]>,
    /// None without a span, or if it is empty (rule TS2). It is sent whole, however long: rule TS7 asks everyone to pass
    /// on 512 bytes at least, and whole is what keeps it byte for byte the same over many hops (rule TP17). What came in
    /// has up to [`TraceState::MAX_BYTES`] and a comma for each further line, white space and empty members included.
    /// Who has less room uses [`TraceState::truncated`].
    pub tracestate: Option<TraceState>,
    /// None if there is nothing to say.
    pub baggage: Option<String>,
    /// Whether the carrier's `traceparent` and `tracestate` go: they are of the span's trace, which may not be sent.
    pub withdraws_trace: bool,
    /// The rules by which something was left out.
    pub dropped: RuleSet,
}

/// What is sent does not belong in logs, where `{:?}` ends up (rule B14): this tells what there is.
impl fmt::Debug for Headers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Headers")
            .field("traceparent", &self.traceparent.as_ref().map(|text| ascii(text)))
            .field("tracestate", &self.tracestate)
            .field("baggage_bytes", &self.baggage.as_ref().map_or(0, String::len))
            .field("withdraws_trace", &self.withdraws_trace)
            .field("dropped", &self.dropped)
            .finish()
    }
}

impl Headers {
    /// Calls `f` with each header to write: with a value to set, in place of every value that the carrier has under any
    /// spelling of the name, or with none where the carrier must not keep a value of its own. A `tracestate` beside a
    /// `traceparent` that it does not belong to is such a one (rule TP12); what an injection before this one wrote, and
    /// may not leave now, is another.
    pub fn each(&self, f: impl FnMut(Header, Option<&str>)) {
        let traceparent = self.traceparent.as_ref().map(|text| ascii(text));
        let tracestate = self.tracestate.as_ref().map(TraceState::as_str);
        each(traceparent, tracestate, self.withdraws_trace, self.baggage.as_deref(), f);
    }
}

fn each(
    traceparent: Option<&str>,
    tracestate: Option<&str>,
    withdraws_trace: bool,
    baggage: Option<&str>,
    mut f: impl FnMut(Header, Option<&str>),
) {
    if traceparent.is_some() || withdraws_trace {
        f(Header::Traceparent, traceparent);
        f(Header::Tracestate, tracestate);
    }
    f(Header::Baggage, baggage);
}

/// The `tracestate` to send, if it is not empty (rule TS2).
fn tracestate<'a>(out: &Outbound<'a>) -> Option<&'a TraceState> {
    out.span().map(|span| &span.trace_state).filter(|state| !state.is_empty())
}

/// Whether the carrier holds a `traceparent` of the span's trace, which may not be sent.
fn withdraws_trace(out: &Outbound<'_>, carrier: &Collected<'_>) -> bool {
    let is_of = |span: &SpanContext, value| Traceparent::parse(value).is_ok_and(|it| it.trace_id == span.trace_id);
    let mut held = carrier.values(Header::Traceparent).iter();
    !out.allowed.trace && out.span.is_some_and(|span| held.any(|value| is_of(span, value)))
}

/// Makes the headers to send. `carrier` is what the carrier holds already: its baggage counts as the application's.
///
/// Members go in this order: `session_id`, `project` and `source`; what the application set through an API; what it
/// put into the carrier; what came in. A name that stands in an earlier one of these is left out of the later ones; an
/// entry of the application that came in just so stays where it came in, and so does a member in the carrier that says
/// the same, as another propagator writes it. The budget of 180 members and 8,192 bytes is
/// spent in that order, in whole members; the first that does not fit ends the list (rules B2, B14a).
pub fn compose(out: &Outbound<'_>, carrier: &Collected<'_>) -> Headers {
    let (baggage, dropped) = baggage(out, carrier);
    Headers {
        traceparent: out.span().map(|span| span.traceparent().to_bytes()),
        tracestate: tracestate(out).cloned(),
        baggage: (!baggage.is_empty()).then_some(baggage),
        withdraws_trace: withdraws_trace(out, carrier),
        dropped,
    }
}

fn baggage(out: &Outbound<'_>, carrier: &Collected<'_>) -> (String, RuleSet) {
    let mut dropped = RuleSet::EMPTY;
    if carrier.overflowed(Header::Baggage) {
        dropped.insert(Rule::BaggageMemberCap);
    }
    let existing = match carrier.values(Header::Baggage) {
        [] => Baggage::EMPTY,
        values => Baggage::parse(values, Baggage::MAX_MEMBERS, Baggage::MAX_BYTES, &mut dropped),
    };
    let inbound = out.inbound.unwrap_or(&Baggage::EMPTY);
    let mut writer = BaggageWriter::new(Baggage::MAX_MEMBERS, Baggage::MAX_BYTES);
    if out.allowed.baggage {
        dropped |= out.refused();
        write_all(out, &existing, inbound, &mut writer);
    } else if !existing.is_empty() {
        write_others(out, &existing, inbound, &mut writer);
    }
    let (text, left_out) = writer.finish();
    (text, dropped | left_out)
}

/// Writes the members to send, the most important first.
// Out of line: without baggage, which is frequent, nothing of it is paid for.
#[inline(never)]
fn write_all(out: &Outbound<'_>, existing: &Baggage, inbound: &Baggage, writer: &mut BaggageWriter) {
    let bytes = out.bytes(existing, inbound);
    if bytes == 0 {
        return;
    }
    writer.reserve(bytes);
    // A session or project that goes on stays as it came, byte for byte: other escapes than ours say the same, and
    // properties belong to it.
    let is_special = || has_any(inbound.as_str(), [b'%', b'+', b';']);
    let any_own = out.session.is_some() || out.project.is_some();
    let came_in = (any_own && is_special()).then(|| Candidates::of(inbound));
    for own in OwnMember::ALL {
        let Some(value) = out.own(own) else { continue };
        match came_in.as_ref().and_then(|it| it.by_preference(own).find(|member| member.value() == value)) {
            Some(member) => writer.raw(own.key(), member.raw_rest()),
            None => writer.plain(own.key(), value),
        }
    }
    // Nobody asks what is taken if nothing comes after.
    let is_last = existing.is_empty() && inbound.is_empty();
    let mut taken = if is_last { Names::default() } else { changed(out.application, inbound.iter()) };
    for entry in out.application {
        if out.leaves(entry.name) && (is_last || taken.has(entry.name)) {
            writer.entry(*entry);
        }
    }
    let is_free = |taken: &Names<'_>, member: &Member<'_>| {
        out.leaves(member.name()) && (taken.is_empty() || !taken.has(member.name()))
    };
    if !existing.is_empty() {
        // What came in goes on byte for byte, also where another propagator wrote it before, less exactly.
        let echoed = if inbound.is_empty() { Names::default() } else { echoes(existing, inbound) };
        let is_others = |member: &Member<'_>| echoed.is_empty() || !echoed.has(member.name());
        writer.members(existing, |member| is_free(&taken, member) && is_others(member));
        if !inbound.is_empty() {
            taken.extend(existing.iter().filter(is_others).map(|member| member.name()));
        }
    }
    writer.members(inbound, |member| {
        let is_accepted = |policy: &Policy| OwnMember::of(member.name()).is_none_or(|own| policy.accepts(own));
        is_free(&taken, member) && out.policy.is_none_or(is_accepted)
    });
}

/// Writes what the carrier holds but for what an injection may have put there.
fn write_others(out: &Outbound<'_>, existing: &Baggage, inbound: &Baggage, writer: &mut BaggageWriter) {
    let application = out.application.iter().map(|entry| entry.name);
    let ours = Names::of(application.chain(inbound.iter().map(|member| member.name())).collect());
    writer.members(existing, |member| {
        let name = member.name();
        name != PRIVATE_KEY && OwnMember::of(name).is_none() && !ours.has(name)
    });
}

/// The names of the entries that do not say what came in under their name anyway. Many entries and a long inbound list
/// are not compared each with each.
fn changed<'a, 'm>(application: &[Entry<'a>], inbound: impl Iterator<Item = Member<'m>>) -> Names<'a> {
    if application.is_empty() {
        return Names::default();
    }
    let names = Names::of(application.iter().map(|entry| entry.name).collect());
    let mut judged: Vec<(&Entry<'a>, bool)> = application.iter().map(|entry| (entry, false)).collect();
    for member in inbound {
        if let Some((entry, same)) = names.last(member.name()).and_then(|at| judged.get_mut(at)) {
            // Rule B9: of several members the last counts.
            *same = says_the_same(&member, entry);
        }
    }
    Names::of(judged.into_iter().filter(|(_, same)| !same).map(|(entry, _)| entry.name).collect())
}

/// Writes the headers into a carrier: see [`compose`]. Baggage that is there already is merged, and no header is left a
/// second time under another spelling of its name. Returns the rules by which something was left out.
pub fn inject<I: Injector + ?Sized>(carrier: &mut I, out: &Outbound<'_>) -> RuleSet {
    let held = carrier.collect();
    // As compose, without a copy of what is only borrowed.
    let traceparent = out.span().map(|span| span.traceparent().to_bytes());
    let traceparent = traceparent.as_ref().map(|text| ascii(text));
    let withdraws_trace = withdraws_trace(out, &held);
    let (baggage, dropped) = baggage(out, &held);
    let baggage = Some(baggage.as_str()).filter(|text| !text.is_empty());
    let tracestate = tracestate(out).map(TraceState::as_str);
    each(traceparent, tracestate, withdraws_trace, baggage, |header, value| match value {
        Some(value) => carrier.set(header.name(), value),
        None => carrier.unset(header.name()),
    });
    dropped
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::carrier::Extractor;
    use crate::extract::extract;
    use alloc::format;
    use alloc::string::ToString;

    fn pairs(headers: &[(&str, &str)]) -> Vec<(String, String)> {
        headers.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect()
    }

    #[test]
    fn a_foreign_tracestate_does_not_stay_beside_our_traceparent() {
        let caller = [("traceparent", "00-0af7651916cd43dd8448eb211c80319c-00f067aa0ba902b7-01")];
        let span = extract(&caller, &Policy::default()).span;
        let mut carrier = pairs(&[("TraceParent", "00-x"), ("Tracestate", "old=1"), ("accept", "*/*")]);
        inject(&mut carrier, &Outbound { span: span.as_ref(), ..Outbound::default() });
        assert_eq!(carrier, pairs(&[("accept", "*/*"), caller[0]]));
    }

    #[test]
    fn without_a_span_trace_headers_stay() {
        let mut carrier = pairs(&[("traceparent", "00-x"), ("tracestate", "old=1")]);
        inject(&mut carrier, &Outbound { session: Some("s 1"), ..Outbound::default() });
        assert_eq!(
            carrier,
            pairs(&[("traceparent", "00-x"), ("tracestate", "old=1"), ("baggage", "session_id=s%201")])
        );
    }

    #[test]
    fn what_may_not_leave_does_not_even_if_it_was_written_before() {
        let caller = [("traceparent", "00-0af7651916cd43dd8448eb211c80319c-00f067aa0ba902b7-01")];
        let span = extract(&caller, &Policy::default()).span;
        let out = Outbound { span: span.as_ref(), session: Some("s"), source: Some("dev"), ..Outbound::default() };
        let mut carrier = pairs(&[("Baggage", "mine=1;p,honeyhive_tracer_id=7")]);
        inject(&mut carrier, &out);
        let public = Allowed { trace: true, baggage: false };
        inject(&mut carrier, &Outbound { allowed: public, ..out });
        assert_eq!(carrier, pairs(&[caller[0], ("baggage", "mine=1;p")]));
        let mut ours_only = pairs(&[("baggage", "session_id=s")]);
        inject(&mut ours_only, &Outbound { allowed: Allowed { trace: false, baggage: false }, ..out });
        assert_eq!(ours_only, []);
    }

    #[test]
    fn injecting_twice_is_injecting_once() {
        let inbound = extract(&[("baggage", "x=1;p , session_id=old,y=2")], &Policy::default());
        let application = [Entry { name: "app", value: "ü", properties: None }];
        let out = Outbound {
            session: Some("s"),
            source: Some("dev"),
            application: &application,
            inbound: Some(&inbound.baggage),
            ..Outbound::default()
        };
        let mut carrier = pairs(&[("Baggage", "mine=1"), ("Baggage", "y=mine")]);
        inject(&mut carrier, &out);
        let once = "session_id=s,source=dev,app=%C3%BC,mine=1,y=mine,x=1;p";
        assert_eq!(carrier, pairs(&[("baggage", once)]));
        inject(&mut carrier, &out);
        assert_eq!(carrier, pairs(&[("baggage", once)]));
    }

    #[test]
    fn what_was_written_for_one_host_does_not_reach_another() {
        let caller = extract(&[("baggage", "user=alice , k=1;p")], &Policy::default());
        let application = [Entry { name: "plan", value: "gold", properties: None }];
        let out = Outbound {
            session: Some("s"),
            application: &application,
            inbound: Some(&caller.baggage),
            ..Outbound::default()
        };
        // The headers of a client that calls several services.
        let mut shared = pairs(&[("baggage", "mine=1")]);
        inject(&mut shared, &out);
        let all = pairs(&[("baggage", "session_id=s,plan=gold,mine=1,user=alice , k=1;p")]);
        assert_eq!(shared, all);
        let public = Outbound { allowed: Allowed { trace: true, baggage: false }, ..out };
        inject(&mut shared, &public);
        assert_eq!(shared, pairs(&[("baggage", "mine=1")]));
        inject(&mut shared, &out);
        assert_eq!(shared, all);
    }

    #[test]
    fn a_trace_that_may_not_be_sent_is_withdrawn() {
        let caller =
            [("traceparent", "00-0af7651916cd43dd8448eb211c80319c-00f067aa0ba902b7-01"), ("tracestate", "a=1")];
        let span = extract(&caller, &Policy::default()).span;
        let out = Outbound { span: span.as_ref(), ..Outbound::default() };
        let elsewhere = Outbound { allowed: Allowed { trace: false, baggage: false }, ..out };
        let mut shared = pairs(&[("accept", "*/*")]);
        inject(&mut shared, &out);
        assert_eq!(shared, pairs(&[("accept", "*/*"), caller[0], caller[1]]));
        assert!(!compose(&out, &shared.collect()).withdraws_trace);
        let headers = compose(&elsewhere, &shared.collect());
        assert!(headers.withdraws_trace && headers.traceparent.is_none());
        inject(&mut shared, &elsewhere);
        assert_eq!(shared, pairs(&[("accept", "*/*")]));
        let others = pairs(&[("traceparent", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01")]);
        let mut theirs = others.clone();
        inject(&mut theirs, &elsewhere);
        assert_eq!(theirs, others);
    }

    #[test]
    fn what_is_left_out_is_told() {
        let application = [Entry { name: "not a token", value: "x", properties: None }];
        let long = "v".repeat(9000);
        let out = Outbound { source: Some(&long), application: &application, ..Outbound::default() };
        let dropped = inject(&mut pairs(&[("baggage", "a b=1")]), &out);
        let expected = [Rule::BaggageName, Rule::BaggageSendBytes].into_iter().collect();
        assert_eq!(dropped, expected, "nothing behind the end of the list is looked at");
        assert!(inject(&mut pairs(&[]), &Outbound::default()).is_empty());
    }

    #[test]
    fn what_is_no_session_is_not_sent() {
        let long = "x".repeat(257);
        let out = Outbound { session: Some(&long), project: Some(&long), source: Some(&long), ..Outbound::default() };
        let headers = compose(&out, &Collected::default());
        assert_eq!(headers.baggage, Some(format!("source={long}")));
        assert_eq!(headers.dropped, [Rule::SessionLength, Rule::ProjectInvalid].into_iter().collect());
        let longest = Outbound { session: long.get(1..), ..Outbound::default() };
        assert_eq!(compose(&longest, &Collected::default()).dropped, RuleSet::EMPTY);
    }

    /// With caps of a policy that are raised, as many entries as the members of a long list.
    #[test]
    fn entries_and_members_are_not_compared_each_with_each() {
        const MANY: usize = 20_000;
        let names: Vec<_> = (0..MANY).map(|number| format!("k{number}")).collect();
        let text = names.iter().map(|name| format!("{name}=1")).collect::<Vec<_>>().join(",");
        let inbound = Baggage::parse(&[text.as_bytes()], usize::MAX, usize::MAX, &mut RuleSet::default());
        let application: Vec<_> = names
            .iter()
            .enumerate()
            .map(|(at, name)| Entry { name, value: if at % 2 == 0 { "1" } else { "2" }, properties: None })
            .collect();
        let mut members = 0;
        let changed = changed(&application, inbound.iter().inspect(|_| members += 1));
        let found = names.iter().filter(|name| changed.has(name)).count();
        assert_eq!((members, found), (MANY, MANY / 2));
        let (mut writer, mut asked) = (BaggageWriter::new(usize::MAX, usize::MAX), 0);
        writer.members(&inbound, |member| {
            asked += 1;
            member.name().len() % 2 == 0
        });
        assert_eq!(asked, MANY);
        // And what cannot be sent is not looked at.
        let (mut writer, mut asked) = (BaggageWriter::new(5, usize::MAX), 0);
        writer.members(&inbound, |member| {
            asked += 1;
            member.name() != "k3"
        });
        assert!(asked < 10 && writer.finish().0 == "k0=1,k1=1,k2=1,k4=1,k5=1", "{asked}");
        let out = Outbound { application: &application, inbound: Some(&inbound), ..Outbound::default() };
        let headers = compose(&out, &Collected::of([("baggage", text.as_str())]));
        assert_eq!(headers.baggage.unwrap().split(',').count(), Baggage::MAX_MEMBERS);
    }

    #[test]
    fn nothing_private_stays_in_the_carrier() {
        let mut carrier = pairs(&[("baggage", "honeyhive_tracer_id=1405")]);
        inject(&mut carrier, &Outbound::default());
        let mut any = false;
        carrier.each("baggage", &mut |_| any = true);
        assert!(!any);
    }
}

//! Writing the headers of a request.
//!
//! In `baggage`, our own members come first, so that whoever truncates it downstream keeps them; then what the
//! application put there; then what came in, byte for byte and in order.

use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

use crate::baggage::{Baggage, BaggageWriter, Entry, Member};
use crate::carrier::{Header, Injector};
use crate::context::SpanContext;
use crate::id::ascii;
use crate::policy::{Allowed, Policy};
use crate::rule::RuleSet;
use crate::session::{OwnMember, PRIVATE_KEY};
use crate::traceparent::Traceparent;
use crate::tracestate::TraceState;

/// What is to be sent.
#[derive(Clone, Copy, Default)]
pub struct Outbound<'a> {
    /// The current span; without one there is no `traceparent`.
    pub span: Option<&'a SpanContext>,
    /// The session that holds, as plain text.
    pub session: Option<&'a str>,
    /// The project that holds, as plain text.
    pub project: Option<&'a str>,
    /// This service's own source, as plain text.
    pub source: Option<&'a str>,
    /// What the application set through an API, each name once. Where that API also shows what came in, these are
    /// [`Reconciled::application`](crate::baggage::Reconciled::application), and `inbound` is the rest of it.
    pub application: &'a [Entry<'a>],
    /// What came in.
    pub inbound: Option<&'a Baggage>,
    /// The policy, if one holds: a session or project that it does not accept is not passed on from `inbound`.
    pub policy: Option<&'a Policy>,
    /// What may be sent to the destination ([`Policy::destination`]). Without baggage, nothing of ours is written, and
    /// what the carrier holds of it under our names goes; the application's own members stay.
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
        .filter(|value| !value.is_empty())
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
    /// on 512 bytes at least, its grammar allows 16,447 at most, and whole is what keeps it byte for byte the same over
    /// many hops (rule TP17). Who has less room uses [`TraceState::truncated`].
    pub tracestate: Option<TraceState>,
    /// None if there is nothing to say.
    pub baggage: Option<String>,
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
            .field("dropped", &self.dropped)
            .finish()
    }
}

impl Headers {
    /// Calls `f` with each header to write: with a value to set, in place of every value that the carrier has under any
    /// spelling of the name, or with none where the carrier must not keep a value of its own. A `tracestate` beside a
    /// `traceparent` that it does not belong to is such a one (rule TP12); baggage that we have taken in and of which
    /// nothing may leave is another.
    pub fn each(&self, f: impl FnMut(Header, Option<&str>)) {
        each(self.traceparent.as_ref(), self.tracestate.as_ref(), self.baggage.as_deref(), f);
    }
}

fn each(
    traceparent: Option<&[u8; Traceparent::BYTES]>,
    tracestate: Option<&TraceState>,
    baggage: Option<&str>,
    mut f: impl FnMut(Header, Option<&str>),
) {
    if let Some(traceparent) = traceparent {
        f(Header::Traceparent, Some(ascii(traceparent)));
        f(Header::Tracestate, tracestate.map(TraceState::as_str));
    }
    f(Header::Baggage, baggage);
}

/// The `tracestate` to send, if it is not empty (rule TS2).
fn tracestate<'a>(out: &Outbound<'a>) -> Option<&'a TraceState> {
    out.span().map(|span| &span.trace_state).filter(|state| !state.is_empty())
}

/// Makes the headers to send. `carrier_baggage` are the `baggage` values that the carrier holds already: they count as
/// the application's.
///
/// Members go in this order: `session_id`, `project` and `source`; what the application set through an API; what it
/// put into the carrier; what came in. A name that stands in an earlier one of these is left out of the later ones; an
/// entry of the application that came in just so stays where it came in. The budget of 180 members and 8,192 bytes is
/// spent in that order, in whole members; the first that does not fit ends the list (rules B2, B14a).
pub fn compose(out: &Outbound<'_>, carrier_baggage: &[&[u8]]) -> Headers {
    let mut dropped = RuleSet::EMPTY;
    let baggage = compose_baggage(out, carrier_baggage, &mut dropped);
    Headers {
        traceparent: out.span().map(|span| span.traceparent().to_bytes()),
        tracestate: tracestate(out).cloned(),
        baggage: (!baggage.is_empty()).then_some(baggage),
        dropped,
    }
}

fn compose_baggage(out: &Outbound<'_>, carrier_baggage: &[&[u8]], dropped: &mut RuleSet) -> String {
    let existing = match carrier_baggage {
        [] => Baggage::EMPTY,
        values => Baggage::parse(values, Baggage::MAX_MEMBERS, Baggage::MAX_BYTES, dropped),
    };
    if !out.allowed.baggage {
        // What an injection before this one wrote for any destination stays here, too.
        let others = |member: &Member<'_>| member.name() != PRIVATE_KEY && OwnMember::of(member.name()).is_none();
        return String::from(existing.retain(others).as_str());
    }
    let inbound = out.inbound.unwrap_or(&Baggage::EMPTY);
    let mut writer = BaggageWriter::new(Baggage::MAX_MEMBERS, Baggage::MAX_BYTES);
    for member in OwnMember::ALL {
        if let Some(value) = out.own(member) {
            writer.entry(Entry { name: member.key(), value, properties: None });
        }
    }
    // The names that are taken, sorted before they are searched.
    let mut taken: Vec<&str> = Vec::new();
    for entry in out.application {
        if out.leaves(entry.name) && !is_untouched(inbound, entry) {
            writer.entry(*entry);
            // Nobody asks if nothing comes after.
            if !(existing.is_empty() && inbound.is_empty()) {
                taken.push(entry.name);
            }
        }
    }
    taken.sort_unstable();
    let free =
        |taken: &[&str], member: &Member<'_>| out.leaves(member.name()) && taken.binary_search(&member.name()).is_err();
    if !existing.is_empty() {
        writer.members(&existing, |member| free(&taken, member));
        taken.extend(existing.iter().map(|member| member.name()));
        taken.sort_unstable();
    }
    let leaves = |member: &Member<'_>| {
        let accepted = match (out.policy, OwnMember::of(member.name())) {
            (Some(policy), Some(own)) => policy.accepts(own),
            _ => true,
        };
        accepted && free(&taken, member)
    };
    if !inbound.is_empty() {
        match inbound.iter().take_while(|member| !leaves(member)).count() {
            0 => writer.members(inbound, leaves),
            leading => writer.members(&behind(inbound, leading), leaves),
        }
    }
    let (text, left_out) = writer.finish();
    *dropped |= left_out;
    text
}

/// The baggage behind its first members. The writer keeps the white space between members only of a list that it writes
/// whole, and the members that the service before us wrote in front are not written again: this keeps the rest byte for
/// byte over many hops.
fn behind(baggage: &Baggage, members: usize) -> Baggage {
    let rest = baggage.as_str().splitn(members.saturating_add(1), ',').nth(members).unwrap_or_default();
    // All of them were read before, so that none is dropped now.
    Baggage::parse(&[rest.as_bytes()], usize::MAX, usize::MAX, &mut RuleSet::default())
}

/// Whether an entry says what came in under its name anyway.
fn is_untouched(inbound: &Baggage, entry: &Entry<'_>) -> bool {
    inbound.get(entry.name).is_some_and(|member| {
        member.value() == entry.value
            && entry.properties.is_none_or(|text| text == member.properties_raw().unwrap_or_default())
    })
}

/// Writes the headers into a carrier: see [`compose`]. Baggage that is there already is merged, and no header is left a
/// second time under another spelling of its name.
pub fn inject<I: Injector + ?Sized>(carrier: &mut I, out: &Outbound<'_>) {
    let mut existing = Vec::new();
    carrier.each(Header::Baggage.name(), &mut |value| existing.push(value));
    // As compose, without a copy of what is only borrowed.
    let traceparent = out.span().map(|span| span.traceparent().to_bytes());
    let baggage = compose_baggage(out, &existing, &mut RuleSet::default());
    let baggage = Some(baggage.as_str()).filter(|text| !text.is_empty());
    each(traceparent.as_ref(), tracestate(out), baggage, |header, value| match value {
        Some(value) => carrier.set(header.name(), value),
        None => carrier.unset(header.name()),
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::carrier::Extractor;
    use crate::extract::extract;
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
    fn nothing_private_stays_in_the_carrier() {
        let mut carrier = pairs(&[("baggage", "honeyhive_tracer_id=1405")]);
        inject(&mut carrier, &Outbound::default());
        let mut any = false;
        carrier.each("baggage", &mut |_| any = true);
        assert!(!any);
    }
}

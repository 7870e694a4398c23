//! The types of the interfaces from and to those of core.

use alloc::borrow::Cow;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use tracebaton::baggage::{Baggage, Entry};
use tracebaton::context::SpanContext;
use tracebaton::policy::{InboundMode, Policy};
use tracebaton::rule::{Rule, RuleSet};
use tracebaton::traceparent::Traceparent;
use tracebaton::tracestate::TraceState;
use tracebaton::{Inbound, TraceFlags};

use crate::bindings::exports::tracebaton::context::propagation as wit;

/// The octets that a text stands for: see `header` in `propagation.wit`.
pub(crate) fn octets(text: &str) -> Cow<'_, [u8]> {
    if text.is_ascii() {
        return Cow::Borrowed(text.as_bytes());
    }
    let mut octets = Vec::with_capacity(text.len());
    for character in text.chars() {
        match u8::try_from(character) {
            Ok(octet) => octets.push(octet),
            Err(_) => octets.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes()),
        }
    }
    Cow::Owned(octets)
}

/// The reverse of [`octets`].
pub(crate) fn characters(octets: &[u8]) -> String {
    octets.iter().copied().map(char::from).collect()
}

/// A header value: its text comes back as it was given.
pub(crate) struct HeaderValue {
    text: String,
    /// Where they differ from the text's own bytes.
    octets: Option<Vec<u8>>,
}

impl AsRef<[u8]> for HeaderValue {
    fn as_ref(&self) -> &[u8] {
        self.octets.as_deref().unwrap_or(self.text.as_bytes())
    }
}

impl From<&str> for HeaderValue {
    fn from(ascii: &str) -> Self {
        Self { text: ascii.into(), octets: None }
    }
}

/// The headers as a carrier of core's.
pub(crate) fn carrier(headers: Vec<wit::Header>) -> Vec<(String, HeaderValue)> {
    let value = |text: String| {
        let octets = match octets(&text) {
            Cow::Borrowed(_) => None,
            Cow::Owned(octets) => Some(octets),
        };
        HeaderValue { text, octets }
    };
    headers.into_iter().map(|(name, text)| (name, value(text))).collect()
}

/// The reverse of [`carrier`].
pub(crate) fn headers(carrier: Vec<(String, HeaderValue)>) -> Vec<wit::Header> {
    carrier.into_iter().map(|(name, value)| (name, value.text)).collect()
}

pub(crate) fn ids(rules: RuleSet) -> Vec<wit::RuleId> {
    rules.iter().map(id).collect()
}

pub(crate) fn id(rule: Rule) -> wit::RuleId {
    rule.id().to_string()
}

/// A policy for what comes in: there every entry of `propagate-to` may stand.
pub(crate) fn policy(given: Option<wit::Policy>) -> Policy {
    let Some(given) = given else { return Policy::DEFAULT };
    Policy {
        inbound: match given.inbound {
            wit::InboundMode::Continue => InboundMode::Continue,
            wit::InboundMode::Restart => InboundMode::Restart,
            wit::InboundMode::Ignore => InboundMode::Ignore,
        },
        accept_session: given.accept_session,
        accept_project: given.accept_project,
        baggage_attributes: given.baggage_attributes,
        max_members: given.max_members as usize,
        max_bytes: given.max_bytes as usize,
        propagate_to: given.propagate_to,
    }
}

/// A policy for what goes out: an entry of `propagate-to` that cannot match is refused.
pub(crate) fn outbound_policy(given: Option<wit::Policy>) -> Result<Policy, wit::Error> {
    let policy = policy(given);
    match policy.propagate_to.iter().position(|entry| !Policy::is_pattern(entry)) {
        Some(at) => Err(wit::Error::PropagateTo(number(at))),
        None => Ok(policy),
    }
}

pub(crate) fn policy_to_wit(policy: Policy) -> wit::Policy {
    wit::Policy {
        inbound: match policy.inbound {
            InboundMode::Continue => wit::InboundMode::Continue,
            InboundMode::Restart => wit::InboundMode::Restart,
            InboundMode::Ignore => wit::InboundMode::Ignore,
        },
        accept_session: policy.accept_session,
        accept_project: policy.accept_project,
        baggage_attributes: policy.baggage_attributes,
        max_members: number(policy.max_members),
        max_bytes: number(policy.max_bytes),
        propagate_to: policy.propagate_to,
    }
}

/// A number that fits wherever this runs.
pub(crate) fn number(of: usize) -> u32 {
    u32::try_from(of).unwrap_or(u32::MAX)
}

pub(crate) fn span_context(given: &wit::SpanContext) -> Result<SpanContext, wit::Error> {
    // As a header, so that the rules for ids are those of headers.
    let mut text = String::new();
    text.extend(["00-", &given.trace_id, "-", &given.span_id, "-00"]);
    let Traceparent { trace_id, span_id, .. } =
        Traceparent::parse(text.as_bytes()).map_err(|rule| wit::Error::SpanContext(id(rule)))?;
    let trace_state =
        TraceState::parse(&octets(&given.trace_state)).map_err(|rule| wit::Error::SpanContext(id(rule)))?;
    let flags = TraceFlags::from_bits(given.trace_flags);
    Ok(SpanContext { trace_id, span_id, flags, trace_state, is_remote: given.is_remote })
}

pub(crate) fn span_context_or_none(given: Option<&wit::SpanContext>) -> Result<Option<SpanContext>, wit::Error> {
    given.map(span_context).transpose()
}

pub(crate) fn span_context_to_wit(context: &SpanContext) -> wit::SpanContext {
    wit::SpanContext {
        trace_id: characters(&context.trace_id.to_hex()),
        span_id: characters(&context.span_id.to_hex()),
        trace_flags: context.flags.bits(),
        trace_state: context.trace_state.as_str().to_string(),
        is_remote: context.is_remote,
    }
}

/// The baggage with this text, read as the header is, and the rules by which something was left out.
pub(crate) fn baggage(text: &str) -> (Baggage, RuleSet) {
    let mut dropped = RuleSet::EMPTY;
    let octets = octets(text);
    (Baggage::parse(&[&octets], Baggage::MAX_MEMBERS, Baggage::MAX_BYTES, &mut dropped), dropped)
}

pub(crate) fn entry(given: &wit::Entry) -> Entry<'_> {
    Entry { name: &given.name, value: &given.value, properties: given.properties.as_deref() }
}

pub(crate) fn entry_to_wit(entry: Entry<'_>) -> wit::Entry {
    wit::Entry {
        name: entry.name.to_string(),
        value: entry.value.to_string(),
        properties: entry.properties.map(ToString::to_string),
    }
}

pub(crate) fn inbound(given: &wit::Inbound) -> Result<Inbound, wit::Error> {
    Ok(Inbound {
        span: span_context_or_none(given.span.as_ref())?,
        link: span_context_or_none(given.link.as_ref())?,
        baggage: baggage(&given.baggage).0,
        session: given.session.clone(),
        project: given.project.clone(),
        dropped: RuleSet::EMPTY,
    })
}

pub(crate) fn inbound_to_wit(inbound: &Inbound) -> wit::Inbound {
    wit::Inbound {
        span: inbound.span.as_ref().map(span_context_to_wit),
        link: inbound.link.as_ref().map(span_context_to_wit),
        baggage: inbound.baggage.as_str().to_string(),
        session: inbound.session.clone(),
        project: inbound.project.clone(),
        dropped: ids(inbound.dropped),
    }
}

//! A whole carrier under a policy: what comes out is legal, within limits, and what the policy rejects is gone.
#![no_main]

mod lines;

use libfuzzer_sys::fuzz_target;
use tracebaton::carrier::Collected;
use tracebaton::extract::extract_collected;
use tracebaton::policy::InboundMode;
use tracebaton::session::{MAX_CHARS, OwnMember};
use tracebaton::{Baggage, Policy, explain, extract};

// Bits of a policy, then lines of `name:value`.
fuzz_target!(|data: &[u8]| {
    let [bits, rest @ ..] = data else { return };
    let policy = Policy {
        inbound: [InboundMode::Continue, InboundMode::Continue, InboundMode::Restart, InboundMode::Ignore]
            [usize::from(bits & 3)],
        accept_session: bits & 4 == 0,
        accept_project: bits & 8 == 0,
        max_members: if bits & 16 == 0 { Baggage::MAX_MEMBERS } else { 3 },
        max_bytes: if bits & 32 == 0 { Baggage::MAX_BYTES } else { 50 },
        ..Policy::default()
    };
    let pairs: Vec<(&[u8], &[u8])> = lines::lines(rest)
        .map(|line| {
            line.iter().position(|octet| *octet == b':').map_or((line, &b""[..]), |at| (&line[..at], &line[at + 1..]))
        })
        .collect();
    let inbound = extract(&pairs, &policy);
    assert_eq!(inbound.dropped, extract_collected(&Collected::of(pairs.iter().map(|(n, v)| (n, v))), &policy).dropped);
    assert!(inbound.span.is_none() || inbound.link.is_none());
    for span in inbound.span.iter().chain(&inbound.link) {
        assert!(span.is_remote && lines::may_be_sent(span.trace_state.as_str()));
    }
    assert!(lines::may_be_sent(inbound.baggage.as_str()) && inbound.baggage.as_str().len() <= policy.max_bytes);
    for (own, value, accepted) in [
        (OwnMember::Session, &inbound.session, policy.accept_session),
        (OwnMember::Project, &inbound.project, policy.accept_project),
    ] {
        assert!(value.as_ref().is_none_or(|text| accepted && (1..=MAX_CHARS).contains(&text.chars().count())));
        assert!(accepted || inbound.baggage.iter().all(|member| OwnMember::of(member.name()) != Some(own)));
    }
    if policy.inbound == InboundMode::Ignore {
        assert!(inbound.span.is_none() && inbound.link.is_none() && inbound.baggage.is_empty());
    }
    // The findings name at least the rules by which something was left out.
    let findings = explain::explain_with_text(&pairs, &policy);
    for rule in inbound.dropped.iter() {
        assert!(findings.iter().any(|finding| finding.rule == Some(rule)), "{rule}");
    }
});

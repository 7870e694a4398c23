//! Properties of what is taken in and sent on, over carriers and contexts of any kind.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeSet;

use proptest::prelude::{Just, ProptestConfig, Strategy, any, prop_assert, prop_assert_eq, prop_oneof, proptest};
use proptest::{collection, option, sample};
use tracebaton::baggage::Entry;
use tracebaton::explain::{Verdict, explain};
use tracebaton::policy::{Allowed, InboundMode};
use tracebaton::rule::{Rule, RuleSet};
use tracebaton::session::{OwnMember, PRIVATE_KEY};
use tracebaton::{Baggage, Extractor, Outbound, Policy, extract, inject};

type Pairs = Vec<(String, String)>;

const TRACEPARENT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-03";
const PUBLIC: Allowed = Allowed { trace: true, baggage: false };

/// Names that meet, so that lists have something in common.
fn name() -> impl Strategy<Value = String> {
    let names = ["a", "b", "k", "user", PRIVATE_KEY];
    let own = OwnMember::ALL.into_iter().flat_map(OwnMember::aliases);
    prop_oneof![sample::select(names.into_iter().chain(own).collect::<Vec<_>>()).prop_map(String::from), "[a-z]{1,3}"]
}

fn space() -> impl Strategy<Value = &'static str> {
    prop_oneof![4 => Just(""), 1 => Just(" "), 1 => Just("\t ")]
}

/// A list of legal members, white space between them included.
fn members() -> impl Strategy<Value = String> {
    let member =
        (space(), name(), "[a-z0-9%]{0,4}", prop_oneof![3 => Just(""), 1 => Just(";p"), 1 => Just(" ; q=1")], space());
    let text = member
        .prop_map(|(before, name, value, properties, after)| format!("{before}{name}={value}{properties}{after}"));
    collection::vec(text, 0..8).prop_map(|members| members.join(","))
}

/// Text of a header that may be anything, but is often nearly right.
fn line() -> impl Strategy<Value = String> {
    prop_oneof![
        members(),
        (members(), "[ ,;=a-z\"%\\\\\u{e9}]{0,6}", members())
            .prop_map(|(one, odd, other)| format!("{one}{odd}{other}")),
        "[ \t,]{0,9}",
        Just("session_id=".into()),
        Just(format!("honeyhive.session_id={}", "x".repeat(257))),
        any::<String>(),
    ]
}

fn carrier() -> impl Strategy<Value = Pairs> {
    let pair = |name: &'static str, value: proptest::strategy::BoxedStrategy<String>| {
        value.prop_map(move |value| (name.to_owned(), value))
    };
    let traceparent = prop_oneof![
        4 => Just(TRACEPARENT.to_owned()),
        1 => "(00|01|ff|cc)-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}(-x)?",
        1 => Just(" ".to_owned()),
        1 => any::<String>()
    ];
    let tracestate = prop_oneof![
        "([a-c]=[0-9]{1,2}[, ]{0,2}){0,3}",
        "[ \t,]{0,5}",
        any::<String>(),
        Just("k=v,".repeat(40)),
        Just(",".repeat(40_000))
    ];
    let header = prop_oneof![
        3 => pair("traceparent", traceparent.boxed()),
        2 => pair("Tracestate", tracestate.boxed()),
        4 => pair("baggage", line().boxed()),
        1 => pair("HTTP_BAGGAGE", line().boxed()),
        1 => pair("BAGGAGE", line().boxed()),
    ];
    prop_oneof![
        20 => collection::vec(header, 0..5),
        1 => line().prop_map(|value| vec![("baggage".to_owned(), value); 200]),
        1 => Just(vec![("tracestate".to_owned(), " ".to_owned()); 200]),
    ]
}

fn policy() -> impl Strategy<Value = Policy> {
    let mode = prop_oneof![
        3 => Just(InboundMode::Continue),
        1 => Just(InboundMode::Restart),
        1 => Just(InboundMode::Ignore)
    ];
    (mode, any::<bool>(), any::<bool>(), prop_oneof![Just(180), 0..4usize], prop_oneof![Just(8192), 0..40usize])
        .prop_map(|(inbound, accept_session, accept_project, max_members, max_bytes)| Policy {
            inbound,
            accept_session,
            accept_project,
            max_members,
            max_bytes,
            ..Policy::default()
        })
}

/// What is to be sent: session, source, the application's entries with a name once, what came in.
type Parts = (Option<String>, Option<String>, Vec<(String, String)>, Baggage);

fn parts() -> impl Strategy<Value = Parts> {
    let entries = collection::btree_map(name(), "[a-z \u{e9}]{0,4}", 0..5);
    let inbound = members().prop_map(|text| extract(&[("baggage", text)], &Policy::default()).baggage);
    (option::of("[a-z ]{1,4}"), option::of("[a-z]{1,3}"), entries, inbound)
        .prop_map(|(session, source, entries, inbound)| (session, source, entries.into_iter().collect(), inbound))
}

fn baggage_of(carrier: &Pairs) -> Baggage {
    let mut values = Vec::new();
    carrier.each("baggage", &mut |value| values.push(value));
    Baggage::parse(&values, Baggage::MAX_MEMBERS, Baggage::MAX_BYTES, &mut RuleSet::default())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    #[test]
    fn explain_says_by_which_rules_extract_drops(carrier in carrier(), policy in policy()) {
        let inbound = extract(&carrier, &policy);
        let findings = explain(&carrier, &policy);
        let dropped = findings.iter().filter(|finding| finding.verdict == Verdict::Dropped);
        prop_assert_eq!(dropped.filter_map(|finding| finding.rule).collect::<RuleSet>(), inbound.dropped);
        for finding in &findings {
            prop_assert!(finding.text.is_none());
            // A rule that only says how something is read drops nothing, and the other way round.
            if let Some(rule) = finding.rule {
                prop_assert_eq!(rule.rejects(), finding.verdict == Verdict::Dropped);
            }
        }
    }

    #[test]
    fn injecting_twice_is_injecting_once(parts in parts(), mine in line(), policy in policy(), public in any::<bool>()) {
        let (session, source, entries, inbound) = &parts;
        let application: Vec<_> =
            entries.iter().map(|(name, value)| Entry { name, value, properties: None }).collect();
        let allowed = if public { PUBLIC } else { Allowed::ALL };
        let out = Outbound {
            session: session.as_deref(),
            source: source.as_deref(),
            application: &application,
            inbound: Some(inbound),
            policy: Some(&policy),
            allowed,
            ..Outbound::default()
        };
        let mut carrier: Pairs = vec![("Baggage".into(), mine)];
        let dropped = inject(&mut carrier, &out);
        let once = carrier.clone();
        // What was left out for want of room leaves no trace in the carrier, and would be tried again.
        if !dropped.contains(Rule::BaggageSendBytes) && !dropped.contains(Rule::BaggageSendMembers) {
            inject(&mut carrier, &out);
            prop_assert_eq!(carrier, once);
        }
    }

    #[test]
    fn a_public_host_gets_nothing_of_what_a_local_one_got(parts in parts(), mine in members()) {
        let (session, source, entries, inbound) = &parts;
        let application: Vec<_> =
            entries.iter().map(|(name, value)| Entry { name, value, properties: None }).collect();
        let out = Outbound {
            session: session.as_deref(),
            source: source.as_deref(),
            application: &application,
            inbound: Some(inbound),
            ..Outbound::default()
        };
        let mut carrier: Pairs = vec![("Baggage".into(), mine)];
        let before = baggage_of(&carrier);
        inject(&mut carrier, &out);
        inject(&mut carrier, &Outbound { allowed: PUBLIC, ..out });
        let after = baggage_of(&carrier);
        let names: BTreeSet<_> =
            entries.iter().map(|(name, _)| name.as_str()).chain(inbound.iter().map(|member| member.name())).collect();
        let is_ours = |name: &str| name == PRIVATE_KEY || OwnMember::of(name).is_some() || names.contains(name);
        let own = |baggage: &Baggage| -> Vec<String> {
            baggage.iter().filter(|member| !is_ours(member.name())).map(|member| member.raw().to_owned()).collect()
        };
        prop_assert!(after.iter().all(|member| !is_ours(member.name())));
        prop_assert_eq!(own(&after), own(&before));
    }
}

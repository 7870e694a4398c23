//! What is kept stands in the input, stays within the limits, can be sent and is read again the same.
#![no_main]

mod lines;

use libfuzzer_sys::fuzz_target;
use tracebaton::Baggage;
use tracebaton::baggage::{Entry, reconcile};
use tracebaton::rule::RuleSet;

// Limits on members and bytes, then the lines of the header.
fuzz_target!(|data: &[u8]| {
    let [members, bytes, rest @ ..] = data else { return };
    let values: Vec<&[u8]> = lines::lines(rest).collect();
    let (max_members, max_bytes) = (usize::from(*members), usize::from(*bytes) * 32);
    let mut dropped = RuleSet::EMPTY;
    let baggage = Baggage::parse(&values, max_members, max_bytes, &mut dropped);
    let seen: RuleSet = Baggage::items(&values, max_members, max_bytes).filter_map(Result::err).collect();
    assert_eq!(seen, dropped);
    assert!(baggage.iter().count() <= max_members && baggage.as_str().len() <= max_bytes);
    assert!(lines::may_be_sent(baggage.as_str()));

    let mut nothing = RuleSet::EMPTY;
    assert_eq!(Baggage::parse(&[baggage.as_str().as_bytes()], max_members, max_bytes, &mut nothing), baggage);
    assert_eq!(nothing, RuleSet::EMPTY);

    for member in baggage.iter() {
        let raw = member.raw().as_bytes();
        assert!(values.iter().any(|value| value.windows(raw.len()).any(|window| window == raw)));
        assert!(member.properties().all(|(key, _)| !key.is_empty()));
    }
    // An API that changed nothing changes nothing.
    let view: Vec<_> = baggage.entries().map(|member| (member.name(), member.value())).collect();
    let api = view.iter().map(|(name, value)| Entry { name, value, properties: None });
    let found = reconcile(&baggage, api);
    assert!(found.application.is_empty());
    assert_eq!(found.inbound, baggage);
    if let Some((name, _)) = view.first() {
        let removed = baggage.remove(name);
        assert!(removed.get(name).is_none());
        assert_eq!(removed.iter().count(), baggage.iter().filter(|member| member.name() != *name).count());
    }
});

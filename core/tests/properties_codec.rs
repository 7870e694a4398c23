//! Properties of the header codecs that hold for every input: nothing panics, what is sent can be read and holds no
//! octet that HTTP forbids, what was not mutated stays, and limits hold.

use proptest::collection::vec;
use proptest::prelude::*;
use tracebaton::baggage::{Baggage, BaggageWriter, Entry, reconcile};
use tracebaton::id::{SpanId, TraceFlags, TraceId};
use tracebaton::rule::{Rule, RuleSet};
use tracebaton::traceparent::Traceparent;
use tracebaton::tracestate::TraceState;

fn read(values: &[&[u8]]) -> Baggage {
    Baggage::parse(values, Baggage::MAX_MEMBERS, Baggage::MAX_BYTES, &mut RuleSet::default())
}

/// Octets that a header's grammar is made of, so that more than noise is tried.
fn header_like() -> impl Strategy<Value = Vec<u8>> {
    let octet = prop_oneof![
        8 => prop::sample::select(&b"abz09-_*/@=,;% \t"[..]),
        1 => any::<u8>(),
    ];
    prop_oneof![3 => vec(octet, 0..200), 1 => vec(any::<u8>(), 0..200), 1 => near_traceparent()]
}

/// A traceparent with a few octets changed.
fn near_traceparent() -> impl Strategy<Value = Vec<u8>> {
    (vec((0..60usize, any::<u8>()), 0..3), 0..60usize).prop_map(|(changes, length)| {
        let mut text = b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-more".to_vec();
        changes.into_iter().for_each(|(at, octet)| text[at.min(59)] = octet);
        text.truncate(if length < 50 { 55 } else { length });
        text
    })
}

/// Names and values of an application: any text, often a token.
fn any_entry() -> impl Strategy<Value = (String, String, Option<String>)> {
    let name = prop_oneof![4 => "[a-c]{1,2}", 1 => any::<String>()];
    let properties =
        prop_oneof![2 => Just(None), 1 => "p(=[a-z%;]{0,4})?".prop_map(Some), 1 => any::<Option<String>>()];
    (name, any::<String>(), properties)
}

/// Visible ASCII, spaces and tabs: what may stand in a header, and no line break.
fn may_be_sent(text: &str) -> bool {
    text.bytes().all(|octet| matches!(octet, b'\t' | b' '..=b'~'))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    #[test]
    fn traceparent_round_trips(trace_id: [u8; 16], span_id: [u8; 8], flags: u8) {
        let sent = Traceparent {
            trace_id: TraceId::random(trace_id),
            span_id: SpanId::random(span_id),
            flags: TraceFlags::from_bits(flags),
        };
        prop_assert_eq!(Traceparent::parse(&sent.to_bytes()), Ok(sent));
    }

    #[test]
    fn traceparent_of_anything(value in header_like()) {
        if let Ok(parsed) = Traceparent::parse(&value) {
            let sent = parsed.to_bytes();
            prop_assert_eq!(Traceparent::parse(&sent), Ok(parsed));
            let trimmed = value.trim_ascii();
            prop_assert_eq!(&trimmed[3..53], &sent[3..53]);
            prop_assert!(trimmed.len() == 55 || &trimmed[..2] != b"00");
        }
    }

    #[test]
    fn tracestate_of_anything(values in vec(header_like(), 0..4), key in "[a-z0-9]{1,3}", value in any::<String>()) {
        let values: Vec<_> = values.iter().map(Vec::as_slice).collect();
        let Ok(state) = TraceState::parse_all(&values) else { return Ok(()) };
        prop_assert!(may_be_sent(state.as_str()));
        let joined: Vec<_> = values.iter().map(|value| String::from_utf8_lossy(value).into_owned()).collect();
        prop_assert!(values.len() != 1 || state.is_empty() || state.as_str() == joined[0].trim_matches([' ', '\t']));
        prop_assert_eq!(TraceState::parse(state.as_str().as_bytes()), Ok(state.clone()));
        // A mutation is legal, or refused by a rule.
        match state.insert(&key, &value) {
            Ok(inserted) => {
                prop_assert_eq!(inserted.iter().next(), Some((&*key, &*value)));
                prop_assert!(!inserted.has_duplicates());
                prop_assert_eq!(TraceState::parse(inserted.as_str().as_bytes()), Ok(inserted.clone()));
                let others: Vec<_> = state.iter().filter(|(other, _)| *other != key).take(31).collect();
                prop_assert_eq!(inserted.iter().skip(1).collect::<Vec<_>>(), others);
                let deleted = inserted.delete(&key);
                prop_assert_eq!(deleted.get(&key), None);
            }
            Err(rule) => prop_assert_eq!(rule, Rule::TracestateValue),
        }
    }

    #[test]
    fn tracestate_truncates_whole_members(lengths in vec(1..200usize, 0..20), max_bytes in 0..600usize) {
        let text: Vec<_> = lengths.iter().enumerate().map(|(at, length)| format!("k{at}={}", "x".repeat(*length))).collect();
        let state = TraceState::parse(text.join(",").as_bytes()).unwrap();
        let mut dropped = RuleSet::EMPTY;
        let sent = state.truncated(max_bytes, &mut dropped);
        prop_assert!(sent.as_str().len() <= max_bytes);
        prop_assert_eq!(dropped.is_empty(), sent.iter().count() == state.iter().count());
        let long = |member: &(&str, &str)| member.0.len() + member.1.len() + 1 > TraceState::LONG_MEMBER_BYTES;
        let (kept, all): (Vec<_>, Vec<_>) = (sent.iter().collect(), state.iter().collect());
        // Of each kind, what is kept is what stands left.
        for kind in [true, false] {
            let kept: Vec<_> = kept.iter().filter(|member| long(member) == kind).collect();
            let all: Vec<_> = all.iter().filter(|member| long(member) == kind).collect();
            prop_assert!(all.starts_with(&kept));
        }
        // A short one goes only after all long ones, and none goes without need.
        let short = |members: &[(&str, &str)]| members.iter().filter(|member| !long(member)).count();
        prop_assert!(short(&kept) == short(&all) || !kept.iter().any(long));
        prop_assert!(state.as_str().len() > max_bytes || sent == state);
    }

    #[test]
    fn baggage_of_anything(values in vec(header_like(), 0..4), max_members in 0..12usize, max_bytes in 0..300usize) {
        let values: Vec<_> = values.iter().map(Vec::as_slice).collect();
        let mut dropped = RuleSet::default();
        let baggage = Baggage::parse(&values, max_members, max_bytes, &mut dropped);
        prop_assert!(may_be_sent(baggage.as_str()));
        prop_assert!(baggage.iter().count() <= max_members && baggage.as_str().len() <= max_bytes);
        // What is kept can be sent, and is read the same.
        let mut nothing = RuleSet::default();
        let again = Baggage::parse(&[baggage.as_str().as_bytes()], max_members, max_bytes, &mut nothing);
        prop_assert_eq!((&again, nothing), (&baggage, RuleSet::default()));
        // Each kept member stands in the input, byte for byte.
        for member in baggage.iter() {
            prop_assert!(values.iter().any(|value| String::from_utf8_lossy(value).contains(member.raw())));
            let _ = (member.value(), member.properties().count());
        }
        let seen: RuleSet = Baggage::items(&values, max_members, max_bytes).filter_map(Result::err).collect();
        prop_assert_eq!(seen, dropped);
    }

    #[test]
    fn baggage_written_is_read(entries in vec(any_entry(), 0..8), max_members in 0..6usize, max_bytes in 0..200usize) {
        let mut writer = BaggageWriter::new(max_members, max_bytes);
        for (name, value, properties) in &entries {
            writer.entry(Entry { name, value, properties: properties.as_deref() });
        }
        let (text, dropped) = writer.finish();
        prop_assert!(text.len() <= max_bytes && text.bytes().all(|octet| matches!(octet, b'\t' | b' '..=b'~')));
        let mut nothing = RuleSet::default();
        let back = Baggage::parse(&[text.as_bytes()], max_members, max_bytes, &mut nothing);
        prop_assert_eq!(nothing, RuleSet::default());
        prop_assert_eq!(back.as_str(), &text);
        // Entries come back as they were, from the left, without those that cannot be sent.
        let mut rest = entries.iter();
        for member in back.iter() {
            prop_assert!(rest.any(|(name, value, _)| name == member.name() && *value == member.value()));
        }
        prop_assert!(!dropped.is_empty() || back.iter().count() == entries.len());
    }

    #[test]
    fn baggage_mutations(value in header_like(), change in any_entry()) {
        let baggage = read(&[&value]);
        let (name, value, properties) = &change;
        match baggage.insert(name, value, properties.as_deref()) {
            Ok(changed) => {
                prop_assert_eq!(changed.get(name).map(|member| member.value().into_owned()), Some(value.clone()));
                prop_assert!(may_be_sent(changed.as_str()));
                let others = |baggage: &Baggage| -> Vec<String> {
                    baggage.iter().filter(|member| member.name() != name).map(|member| member.raw().into()).collect()
                };
                prop_assert_eq!(others(&changed), others(&baggage));
                prop_assert!(changed.remove(name).get(name).is_none());
            }
            Err(rule) => prop_assert!(matches!(rule, Rule::BaggageUnsendable | Rule::BaggageProperty)),
        }
        if baggage.get(name).is_none() {
            prop_assert_eq!(&baggage.remove(name), &baggage);
        }
    }

    #[test]
    fn an_untouched_api_changes_nothing(values in vec(header_like(), 0..3), changed in any::<bool>()) {
        let values: Vec<_> = values.iter().map(Vec::as_slice).collect();
        let baggage = read(&values);
        let view: Vec<_> = baggage.entries().map(|member| (member.name(), member.value().into_owned())).collect();
        let mut api: Vec<_> = view.iter().map(|(name, value)| Entry { name, value, properties: None }).collect();
        let found = reconcile(&baggage, api.iter().copied());
        prop_assert_eq!(&found.inbound, &baggage);
        prop_assert!(found.application.is_empty());
        // One entry changed: it alone is the application's, and all members of that name are gone.
        let Some(first) = api.first_mut() else { return Ok(()) };
        let longer = format!("{}!", first.value);
        if changed {
            first.value = &longer;
            let name = first.name;
            let found = reconcile(&baggage, api.iter().copied());
            prop_assert_eq!(found.application.len(), 1);
            prop_assert_eq!(found.inbound, baggage.remove(name));
        }
    }
}

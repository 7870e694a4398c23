//! Runs the vectors of `traceparent`, `tracestate` and `baggage`: tests/vectors/README.md has their schema.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a malformed vector fails its test; serde_json's index gives null for what is missing"
)]

#[path = "support/vectors.rs"]
mod vectors;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use serde_json::{Map, Value, json};
use tracebaton::baggage::{Baggage, BaggageWriter, Entry, Member, reconcile};
use tracebaton::context::SpanContext;
use tracebaton::id::SpanId;
use tracebaton::rule::{Rule, RuleSet};
use tracebaton::traceparent::Traceparent;
use tracebaton::tracestate::TraceState;
use vectors::expand;

/// The rules of `traceparent`, `tracestate` and `baggage`: so many of each.
const RULES: [(&str, usize); 3] = [("TP", 18), ("TS", 12), ("B", 15)];

#[test]
fn traceparent() {
    run("traceparent.json", |input| match Traceparent::parse_all(&slices(&headers(input))) {
        Ok(Some(read)) => {
            let mut expected = json!({
                "trace_id": read.trace_id.to_string(),
                "span_id": read.span_id.to_string(),
                "flags": read.flags.bits(),
                "text": sent(&read),
                "dropped": [],
            });
            if input["child"].is_object() {
                expected["child"] = child(&read, &input["child"]);
            }
            expected
        }
        Ok(None) => json!({ "text": null, "dropped": [] }),
        Err(rule) => json!({ "text": null, "dropped": [rule.id()] }),
    });
}

fn sent(traceparent: &Traceparent) -> String {
    String::from_utf8(traceparent.to_bytes().into()).unwrap()
}

/// What a new span below the caller's sends, and whether it is in another process.
fn child(caller: &Traceparent, child: &Value) -> Value {
    let &Traceparent { trace_id, span_id, flags } = caller;
    let trace_state = TraceState::parse(b"a=1").unwrap();
    let caller = SpanContext { trace_id, span_id, flags, trace_state, is_remote: true };
    let span_id = SpanId::from_hex(text(&child["span_id"]).as_bytes()).unwrap();
    let child = caller.child(span_id, child["sampled"].as_bool().unwrap());
    assert_eq!(child.trace_state, caller.trace_state, "the tracestate goes with the trace");
    json!({ "text": sent(&child.traceparent()), "remote": child.is_remote })
}

#[test]
fn tracestate() {
    run("tracestate.json", |input| {
        let mut dropped = RuleSet::EMPTY;
        let mut state = TraceState::parse_all(&slices(&headers(input))).unwrap_or_else(|rule| {
            dropped.insert(rule);
            TraceState::EMPTY
        });
        for step in steps(input) {
            let before = state.clone();
            if let Some([key, value]) = step["insert"].as_array().map(Vec::as_slice) {
                match before.insert(text(key), text(value)) {
                    Ok(inserted) => state = inserted,
                    Err(rule) => dropped.insert(rule),
                }
            } else if let Some(key) = step["delete"].as_str() {
                state = before.delete(key);
            } else {
                state = before.truncated(number(&step["truncate"]).unwrap(), &mut dropped);
            }
        }
        let members: Vec<_> = state.iter().collect();
        for (key, value) in &members {
            assert_eq!(state.get(key), Some(*value));
        }
        assert_eq!(state.is_empty(), members.is_empty());
        assert_eq!(TraceState::parse(state.as_str().as_bytes()).as_ref(), Ok(&state), "what is sent can be read");
        json!({ "text": state.as_str(), "members": members, "dropped": ids(dropped) })
    });
}

#[test]
fn baggage() {
    run("baggage.json", |input| {
        let max_members = number(&input["max_members"]).unwrap_or(Baggage::MAX_MEMBERS);
        let max_bytes = number(&input["max_bytes"]).unwrap_or(Baggage::MAX_BYTES);
        let mut dropped = RuleSet::EMPTY;
        if let Some(parts) = input["write"].as_array() {
            let mut writer = BaggageWriter::new(max_members, max_bytes);
            for part in parts {
                if part["entry"].is_object() {
                    writer.entry(entry(&part["entry"]));
                } else {
                    let without: BTreeSet<_> = part["without"].as_array().unwrap().iter().map(text).collect();
                    let read = Baggage::parse(&slices(&headers(part)), usize::MAX, usize::MAX, &mut dropped);
                    writer.members(&read, |member| !without.contains(member.name()));
                }
            }
            let (text, rules) = writer.finish();
            return json!({ "text": text, "dropped": ids(dropped | rules) });
        }
        let mut baggage = Baggage::parse(&slices(&headers(input)), max_members, max_bytes, &mut dropped);
        if let Some(api) = input["api"].as_array() {
            let found = reconcile(&baggage, api.iter().map(entry));
            let application: Vec<_> = found.application.into_iter().map(entry_to_json).collect();
            return json!({ "application": application, "inbound": found.inbound.as_str() });
        }
        for step in steps(input) {
            if step["insert"].is_object() {
                let Entry { name, value, properties } = entry(&step["insert"]);
                match baggage.insert(name, value, properties) {
                    Ok(inserted) => baggage = inserted,
                    Err(rule) => dropped.insert(rule),
                }
            } else {
                baggage = baggage.remove(step["remove"].as_str().unwrap());
            }
        }
        check_views(&baggage);
        let members: Vec<_> = baggage.iter().map(member_to_json).collect();
        json!({ "text": baggage.as_str(), "members": members, "dropped": ids(dropped) })
    });
}

/// The views of one baggage agree with each other.
fn check_views(baggage: &Baggage) {
    let mut last = BTreeMap::new();
    for member in baggage.iter() {
        last.insert(member.name(), member.raw());
    }
    for (name, raw) in &last {
        assert_eq!(baggage.get(name).map(|member| member.raw()), Some(*raw), "the last counts");
        for other in [format!("{name} "), format!("{name}="), name[1..].to_owned()] {
            let exact = |found: &Member<'_>| found.name() == other;
            assert!(baggage.get(&other).is_none_or(|found| exact(&found)), "names are compared exactly");
        }
    }
    assert_eq!(baggage.entries().map(|member| (member.name(), member.raw())).collect::<BTreeMap<_, _>>(), last);
    assert_eq!(baggage.entries().count(), last.len(), "one for each name");
    assert_eq!(baggage.is_empty(), last.is_empty());
    let mut dropped = RuleSet::EMPTY;
    let again = Baggage::parse(&[baggage.as_str().as_bytes()], usize::MAX, usize::MAX, &mut dropped);
    assert_eq!((&again, dropped), (baggage, RuleSet::EMPTY), "what is sent can be read");
    // Rule B14: no text of headers where logs are made.
    let shown = format!("{baggage:?} {:?}", baggage.iter().collect::<Vec<_>>());
    for member in baggage.iter().filter(|member| member.raw_value().len() > 8) {
        assert!(!shown.contains(member.raw_value()) && !shown.contains(&*member.value()), "{shown}");
    }
}

/// Every rule of these headers is shown by a case that keeps what it is about and, if it can reject, by one that does
/// not; and no case names a rule that does not exist.
#[test]
fn every_rule_is_shown() {
    let all: Vec<_> = RULES.iter().flat_map(|(kind, last)| (1..=*last).map(move |n| format!("{kind}{n}"))).collect();
    let is_one = |id: &str| all.iter().any(|rule| rule == id.split(['.', 'a']).next().unwrap());
    let (mut accepted, mut rejected) = (BTreeSet::new(), BTreeSet::new());
    for file in ["traceparent.json", "tracestate.json", "baggage.json", "carrier.json", "extract.json", "inject.json"] {
        for case in cases(file) {
            let dropped: BTreeSet<_> = case["expected"]["dropped"].as_array().into_iter().flatten().map(text).collect();
            let rules: BTreeSet<_> = case["rules"].as_array().unwrap().iter().map(text).collect();
            assert!(!rules.is_empty(), "{file}: {}: rules", case["name"]);
            for id in rules.union(&dropped).filter(|id| id.starts_with(['T', 'B'])) {
                assert!(is_one(id), "{file}: {}: {id}", case["name"]);
                if dropped.contains(id) { &mut rejected } else { &mut accepted }.insert((*id).to_owned());
            }
        }
    }
    for rule in Rule::ALL.iter().filter(|rule| rule.id().starts_with(['T', 'B'])) {
        assert!(is_one(rule.id()), "{rule}");
        assert!(accepted.contains(rule.id()), "{rule}: no case keeps what it is about");
        assert_eq!(rejected.contains(rule.id()), rule.rejects(), "{rule}: rejects");
    }
    for id in all {
        assert!(accepted.contains(&id), "{id}: no case");
    }
}

fn run(file: &str, act: impl Fn(&Value) -> Value) {
    let cases = cases(file);
    assert!(cases.len() >= 40, "{file}: {} cases", cases.len());
    let mut names = BTreeSet::new();
    for case in &cases {
        assert!(names.insert(text(&case["name"])), "{file}: {} twice", case["name"]);
        assert_eq!(act(&case["input"]), case["expected"], "{file}: {}: {}", case["name"], case["reason"]);
    }
}

fn cases(file: &str) -> Vec<Value> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/vectors").join(file);
    let read = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let mut file: Map<String, Value> = serde_json::from_str(&read).unwrap();
    serde_json::from_value(expand(file.remove("cases").unwrap())).unwrap()
}

/// Header values: each code point is one octet.
fn headers(input: &Value) -> Vec<Vec<u8>> {
    let octets = |value| text(value).chars().map(|c| u8::try_from(c).unwrap()).collect();
    input["headers"].as_array().unwrap().iter().map(octets).collect()
}

fn slices(values: &[Vec<u8>]) -> Vec<&[u8]> {
    values.iter().map(Vec::as_slice).collect()
}

fn steps(input: &Value) -> impl Iterator<Item = &Value> {
    input["steps"].as_array().into_iter().flatten()
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap()
}

fn number(value: &Value) -> Option<usize> {
    value.as_u64().map(|number| usize::try_from(number).unwrap())
}

fn ids(rules: RuleSet) -> Vec<&'static str> {
    rules.iter().map(Rule::id).collect()
}

fn entry(value: &Value) -> Entry<'_> {
    Entry { name: text(&value["name"]), value: text(&value["value"]), properties: value["properties"].as_str() }
}

fn entry_to_json(entry: Entry<'_>) -> Value {
    let mut out = json!({ "name": entry.name, "value": entry.value });
    if let Some(properties) = entry.properties {
        out["properties"] = properties.into();
    }
    out
}

fn member_to_json(member: Member<'_>) -> Value {
    json!({
        "name": member.name(),
        "value": member.value(),
        "raw_value": member.raw_value(),
        "properties": member.properties_raw(),
    })
}

//! Runs the vectors of extraction, injection, sessions, policies and carriers; each file says what its cases mean.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

#[path = "support/vectors.rs"]
mod vectors;

use std::collections::BTreeSet;

use serde_json::{Value, json};
use tracebaton::baggage::{Baggage, Entry, reconcile};
use tracebaton::carrier::{Extractor, Header, Injector};
use tracebaton::context::SpanContext;
use tracebaton::explain::{Finding, Verdict, explain};
use tracebaton::extract::extract;
use tracebaton::id::{SpanId, TraceFlags, TraceId};
use tracebaton::inject::{Headers, Outbound, compose, inject};
use tracebaton::parent::{Current, Parent};
use tracebaton::policy::{Allowed, Policy};
use tracebaton::rule::{Rule, RuleSet};
use tracebaton::scope::{SessionScope, TracerId};
use tracebaton::session;
use tracebaton::tracestate::TraceState;
use vectors::expand;

type Pairs = Vec<(Vec<u8>, Vec<u8>)>;

#[test]
fn extraction() {
    run("extract.json", |input| {
        let (carrier, policy) = (pairs(&input["carrier"]), policy(&input["policy"]));
        let inbound = extract(&carrier, &policy);
        // What explain says was dropped is what extract dropped, and it tells no text unasked.
        let findings = explain(&carrier, &policy);
        let dropped = findings.iter().filter(|finding| finding.verdict == Verdict::Dropped);
        assert_eq!(dropped.filter_map(|finding| finding.rule).collect::<RuleSet>(), inbound.dropped);
        assert!(findings.iter().all(|finding| finding.text.is_none()));
        json!({
            "span": inbound.span.as_ref().map_or(Value::Null, span_json),
            "link": inbound.link.as_ref().map_or(Value::Null, span_json),
            "baggage": inbound.baggage.as_str(),
            "session": inbound.session,
            "project": inbound.project,
            "dropped": ids(inbound.dropped),
        })
    });
}

#[test]
fn injection() {
    run("inject.json", |input| {
        let inbound = input["inbound"].as_str().map(|text| {
            Baggage::parse(&[text.as_bytes()], Baggage::MAX_MEMBERS, Baggage::MAX_BYTES, &mut RuleSet::default())
        });
        let policy = input["policy"].is_object().then(|| policy(&input["policy"]));
        let span = input["span"].is_object().then(|| span(&input["span"]));
        let entries: Vec<_> = input["application"].as_array().into_iter().flatten().map(entry).collect();
        let reconciled = input["api"]
            .as_array()
            .map(|api| reconcile(inbound.as_ref().unwrap_or(&Baggage::EMPTY), api.iter().map(entry)));
        let raw = inbound.as_ref();
        let out = Outbound {
            span: span.as_ref(),
            session: input["session"].as_str(),
            project: input["project"].as_str(),
            source: input["source"].as_str(),
            policy: policy.as_ref(),
            ..Outbound::default()
        };
        let mut carrier = pairs(&input["carrier"]);
        let mut dropped = RuleSet::EMPTY;
        // One destination, or one after the other.
        let to = match &input["to"] {
            Value::Array(all) => all.clone(),
            one => vec![one.clone()],
        };
        for to in &to {
            let allowed = allowed(policy.as_ref().unwrap_or(&Policy::DEFAULT), to, &input["origin"]);
            let application = reconciled.as_ref().map_or(&entries, |both| &both.application);
            let rest = reconciled.as_ref().map(|both| &both.inbound).filter(|_| allowed.baggage).or(raw);
            let out = Outbound { application, inbound: rest, allowed, ..out };
            let existing = carrier.clone();
            let composed = compose(&out, &existing.collect());
            dropped = inject(&mut carrier, &out);
            // Both ways to write do the same.
            assert_eq!(dropped, composed.dropped);
            let mut written = existing.clone();
            write(&mut written, &composed);
            assert_eq!(sorted(&written), sorted(&carrier));
            // Once more changes nothing, unless there was no room.
            if !dropped.contains(Rule::BaggageSendBytes) && !dropped.contains(Rule::BaggageSendMembers) {
                inject(&mut written, &out);
                assert_eq!(sorted(&written), sorted(&carrier));
            }
        }
        json!({ "carrier": sorted(&carrier), "dropped": ids(dropped) })
    });
}

#[test]
fn parents() {
    run("parent.json", |input| {
        let inbound = extract(&pairs(&input["carrier"]), &policy(&input["policy"]));
        let trace_id = |current: &Value| TraceId::from_hex(current["trace_id"].as_str().unwrap().as_bytes()).unwrap();
        let current = Some(&input["current"])
            .filter(|current| current.is_object())
            .map(|current| Current { trace_id: trace_id(current), is_remote: current["remote"].as_bool().unwrap() });
        let parent = match (Parent::of(&inbound, current), current) {
            (Parent::Caller, _) => Some("caller"),
            (Parent::Current, Some(_)) => Some("current"),
            (Parent::Current | Parent::None, _) => None,
        };
        json!({ "parent": parent, "link": parent.is_none() && inbound.link.is_some() })
    });
}

#[test]
fn explanations() {
    run("explain.json", |input| {
        let findings = explain(&pairs(&input["carrier"]), &policy(&input["policy"]));
        let finding = |it: &Finding| {
            let place =
                it.position.map_or_else(|| it.header.name().to_owned(), |at| format!("{}[{at}]", it.header.name()));
            json!([place, it.verdict.as_str(), it.rule.map(Rule::id)])
        };
        json!({ "findings": findings.iter().map(finding).collect::<Vec<_>>() })
    });
}

#[test]
fn sessions() {
    run("session.json", |input| {
        if let Some(raw) = input["raw"].as_str() {
            return match session::check(raw) {
                Ok(()) => json!({ "valid": true, "honeyhive": session::honeyhive_session_id(raw) }),
                Err(_) => json!({ "valid": false }),
            };
        }
        let mut scope = SessionScope::EMPTY;
        for step in input["steps"].as_array().unwrap() {
            scope = match step["with_session"].as_array() {
                Some(both) => scope.with_session(tracer(&both[0]).unwrap(), both[1].as_str().unwrap()).unwrap(),
                None => {
                    let inbound = extract(&pairs(&step["carrier"]), &policy(&step["policy"]));
                    scope.with_inbound(tracer(&step["with_inbound"]), &inbound)
                }
            };
        }
        let answer = |ask: &Value| {
            let (tracer, policy) = (tracer(&ask["tracer"]), policy(&ask["policy"]));
            json!({
                "session": scope.session_for(tracer, &policy),
                "inbound": scope.session_is_inbound(tracer, &policy),
                "project": scope.project_for(tracer, &policy),
                "baggage": scope.baggage(tracer, &policy).map(Baggage::as_str),
                "link": scope.link(tracer, &policy).is_some(),
            })
        };
        json!({ "answers": input["asks"].as_array().unwrap().iter().map(answer).collect::<Vec<_>>() })
    });
}

#[test]
fn destinations() {
    run("policy.json", |input| {
        if let Some(pattern) = input["pattern"].as_str() {
            return json!({ "valid": Policy::is_pattern(pattern) });
        }
        let policy = policy(&input["policy"]);
        let allowed = allowed(&policy, &input["to"], &input["origin"]);
        json!({ "trace": allowed.trace, "baggage": allowed.baggage })
    });
}

#[test]
fn carriers() {
    run("carrier.json", |input| {
        let mut carrier = pairs(&input["carrier"]);
        if let Some(set) = input["set"].as_array() {
            carrier.set(set[0].as_str().unwrap(), set[1].as_str().unwrap());
            return json!({ "carrier": sorted(&carrier) });
        }
        Header::ALL
            .into_iter()
            .map(|header| {
                let mut values = Vec::new();
                carrier.each(header.name(), &mut |value| values.push(latin1(value)));
                (header.name().to_string(), json!(values))
            })
            .collect::<serde_json::Map<_, _>>()
            .into()
    });
}

/// Foreign headers stay the same over five services, each with its own session in front.
#[test]
fn five_hops_leave_foreign_bytes_alone() {
    let tracestate = "vendor@x=1 ,\ta= 2,,z*/-_@9=~!\"#$";
    let foreign = "z=%c3%A4;p=%2C;q , y=1,z=+%2B;r = s,\tempty=";
    let policy = Policy::default();
    let mut carrier: Vec<(String, String)> = vec![
        ("Traceparent".into(), "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-03".into()),
        ("Tracestate".into(), tracestate.into()),
        ("Baggage".into(), foreign.into()),
    ];
    for hop in 1..=5_u8 {
        let inbound = extract(&carrier, &policy);
        assert!(inbound.dropped.is_empty());
        let span = inbound.span.as_ref().unwrap().child(SpanId::random([hop; 8]), true);
        let (session, source) = (format!("session {hop}"), format!("service-{hop}"));
        let out = Outbound {
            span: Some(&span),
            session: Some(&session),
            source: Some(&source),
            inbound: Some(&inbound.baggage),
            policy: Some(&policy),
            ..Outbound::default()
        };
        carrier = Vec::new();
        inject(&mut carrier, &out);
        let header = |name| carrier.iter().find(|(header, _)| header == name).map(|(_, value)| value.as_str()).unwrap();
        assert_eq!(header("tracestate"), tracestate);
        assert_eq!(header("traceparent"), format!("00-0af7651916cd43dd8448eb211c80319c-{}-03", span.span_id));
        assert_eq!(header("baggage"), format!("session_id=session%20{hop},source=service-{hop},{foreign}"));
    }
}

fn run(file: &str, of: impl Fn(&Value) -> Value) {
    let path = format!("{}/../tests/vectors/{file}", env!("CARGO_MANIFEST_DIR"));
    let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"));
    let Value::Array(cases) = serde_json::from_str::<Value>(&text).unwrap()["cases"].take() else { panic!("{path}") };
    let mut names = BTreeSet::new();
    let mut failures = Vec::new();
    for case in cases.into_iter().map(expand) {
        let name = case["name"].as_str().unwrap();
        assert!(names.insert(name.to_string()), "{file}: {name} is there twice");
        assert!(
            !case["reason"].as_str().unwrap().is_empty() && !case["rules"].as_array().unwrap().is_empty(),
            "{name}"
        );
        let mut expected = case["expected"].clone();
        if let Some(dropped) = expected.get("dropped") {
            let rules = dropped.as_array().unwrap().iter().map(|id| Rule::from_id(id.as_str().unwrap()).unwrap());
            expected["dropped"] = ids(rules.collect());
        }
        if let Some(carrier) = expected.get("carrier") {
            expected["carrier"] = sorted(&pairs(carrier));
        }
        let found = of(&case["input"]);
        if found != expected {
            failures.push(format!("{name}\n  expected {expected}\n  found    {found}"));
        }
    }
    assert!(failures.is_empty(), "{file}: {} of {}:\n{}", failures.len(), names.len(), failures.join("\n"));
}

fn pairs(carrier: &Value) -> Pairs {
    let octets = |value: &Value| value.as_str().unwrap().chars().map(|c| u8::try_from(c).unwrap()).collect();
    carrier.as_array().into_iter().flatten().map(|pair| (octets(&pair[0]), octets(&pair[1]))).collect()
}

fn latin1(octets: &[u8]) -> String {
    octets.iter().copied().map(char::from).collect()
}

fn sorted(carrier: &Pairs) -> Value {
    let mut pairs: Vec<_> = carrier.iter().map(|(name, value)| [latin1(name), latin1(value)]).collect();
    pairs.sort();
    json!(pairs)
}

fn policy(value: &Value) -> Policy {
    let mut policy = Policy::default();
    for (key, value) in value.as_object().into_iter().flatten() {
        match key.as_str() {
            "inbound" => policy.inbound = value.as_str().unwrap().parse().unwrap(),
            "accept_session" => policy.accept_session = value.as_bool().unwrap(),
            "accept_project" => policy.accept_project = value.as_bool().unwrap(),
            "max_members" => policy.max_members = usize::try_from(value.as_u64().unwrap()).unwrap(),
            "max_bytes" => policy.max_bytes = usize::try_from(value.as_u64().unwrap()).unwrap(),
            "baggage_attributes" => policy.baggage_attributes = serde_json::from_value(value.clone()).unwrap(),
            "propagate_to" => policy.propagate_to = serde_json::from_value(value.clone()).unwrap(),
            other => panic!("{other}"),
        }
    }
    policy
}

/// What may be sent to a destination, if that is known, from a page if there is an origin.
fn allowed(policy: &Policy, to: &Value, origin: &Value) -> Allowed {
    match (to.as_str(), origin.as_str()) {
        (None, _) => Allowed::ALL,
        (Some(to), Some(origin)) => policy.destination_from_page(to, origin),
        (Some(to), None) => policy.destination(to),
    }
}

/// Writes what was composed, as a binding does.
fn write(carrier: &mut Pairs, headers: &Headers) {
    headers.each(|header, value| match value {
        Some(value) => carrier.set(header.name(), value),
        None => carrier.unset(header.name()),
    });
}

fn tracer(value: &Value) -> Option<TracerId> {
    value.as_u64().map(TracerId)
}

fn entry(value: &Value) -> Entry<'_> {
    Entry { name: value[0].as_str().unwrap(), value: value[1].as_str().unwrap(), properties: value[2].as_str() }
}

fn span(value: &Value) -> SpanContext {
    SpanContext {
        trace_id: TraceId::from_hex(value["trace_id"].as_str().unwrap().as_bytes()).unwrap(),
        span_id: SpanId::from_hex(value["span_id"].as_str().unwrap().as_bytes()).unwrap(),
        flags: TraceFlags::from_bits(u8::try_from(value["flags"].as_u64().unwrap()).unwrap()),
        trace_state: TraceState::parse(value["tracestate"].as_str().unwrap().as_bytes()).unwrap(),
        is_remote: false,
    }
}

fn span_json(span: &SpanContext) -> Value {
    assert!(span.is_remote);
    json!({
        "trace_id": span.trace_id.to_string(),
        "span_id": span.span_id.to_string(),
        "flags": span.flags.bits(),
        "tracestate": span.trace_state.as_str(),
    })
}

fn ids(rules: RuleSet) -> Value {
    let mut ids: Vec<_> = rules.iter().map(Rule::id).collect();
    ids.sort_unstable();
    json!(ids)
}

//! The language-neutral cases, through OpenTelemetry's API.

use opentelemetry::Context;
use opentelemetry::baggage::{Baggage as OtelBaggage, BaggageExt};
use opentelemetry::propagation::{Extractor as OtelExtractor, TextMapPropagator};
use opentelemetry::trace::TraceContextExt;
use serde_json::{Value as Json, json};
use tracebaton::interop::opentelemetry::TracebatonContextExt;
use tracebaton::rule::{Rule, RuleSet};
use tracebaton::{Baggage, Policy, TracebatonPropagator};

use crate::reading::expand;
use crate::{CaseSensitive, Lines, injected, quiet};

/// What these cases are about their types do not have, or the propagator does more than the function that they
/// describe: it takes the session and the project of a caller over.
const NOT_THROUGH_THE_API: [&str; 7] = [
    // The caller's are written in front.
    "empty values of ours are not written",
    "what we do not write is passed on",
    "the session that came in, with a plus",
    "rejected session",
    "aliases of the project go",
    // The API never shows a rejected session.
    "API shows a rejected session",
    // It is refused where it is set.
    // Their baggage has no room for it.
    "the application spends the budget first",
];

#[test]
fn vectors_of_extraction() {
    // By a carrier that finds names in any case, and by one that does not.
    extraction(Lines);
    extraction(|lines| CaseSensitive(Lines(lines)));
}

fn extraction<E: OtelExtractor>(carrier: impl Fn(Vec<(String, String)>) -> E) {
    let ran = run("extract.json", |input, expected| {
        let propagator = quiet().with_policy(policy(&input["policy"]));
        let cx = propagator.extract_with_context(&Context::new(), &carrier(pairs(&input["carrier"])));
        let span = cx.span();
        let text = |field: &str| expected["span"][field].as_str().map(str::to_owned);
        let sent = injected(&propagator, &cx);
        if expected["span"].is_null() {
            assert!(!span.span_context().is_valid());
            assert_eq!(sent.get("traceparent"), None);
        } else {
            assert!(span.span_context().is_remote());
            let flags = expected["span"]["flags"].as_u64().unwrap();
            let traceparent = format!("00-{}-{}-{flags:02x}", text("trace_id").unwrap(), text("span_id").unwrap());
            assert_eq!(sent["traceparent"], traceparent);
            assert_eq!(sent.get("tracestate").cloned(), text("tracestate"));
        }
        assert_eq!(cx.caller().map(|link| json!(link.trace_id.to_string())), link_id(expected));
        let kept = parse(expected["baggage"].as_str().unwrap());
        assert_eq!(cx.baggage().len(), kept.entries().count());
        for member in kept.entries() {
            let (value, metadata) = cx.baggage().get_with_metadata(member.name()).unwrap();
            assert_eq!(value.as_str(), member.value());
            assert_eq!(metadata.as_str(), member.properties_raw().unwrap_or_default());
        }
        assert_eq!(json!(cx.session()), expected["session"]);
        assert_eq!(json!(cx.project()), expected["project"]);
        let dropped = expected["dropped"].as_array().unwrap().iter();
        assert_eq!(cx.dropped(), dropped.map(|id| Rule::from_id(id.as_str().unwrap()).unwrap()).collect());
    });
    assert!(ran > 60, "{ran}");
}

#[test]
fn vectors_of_injection() {
    let ran = run("inject.json", |input, expected| {
        // This is no browser.
        if input["origin"].is_string() {
            return;
        }
        let propagator = TracebatonPropagator::new()
            .with_source(input["source"].as_str().unwrap_or_default())
            .with_project(input["project"].as_str().unwrap_or_default())
            .with_policy(policy(&input["policy"]));
        let mut cx = Context::new();
        let span = &input["span"];
        let mut headers = Vec::new();
        if span.is_object() {
            let flags = span["flags"].as_u64().unwrap();
            let (trace_id, span_id) = (span["trace_id"].as_str().unwrap(), span["span_id"].as_str().unwrap());
            headers.push(("traceparent".to_owned(), format!("00-{trace_id}-{span_id}-{flags:02x}")));
            headers.push(("tracestate".to_owned(), span["tracestate"].as_str().unwrap().to_owned()));
        }
        headers.extend(input["inbound"].as_str().map(|text| ("baggage".to_owned(), text.to_owned())));
        cx = propagator.extract_with_context(&cx, &Lines(headers));
        if let Some(session) = input["session"].as_str() {
            cx = cx.with_session(session).unwrap();
        }
        // The application's entries beside what the API shows, or all that it shows from now on.
        let mut view = OtelBaggage::new();
        if input["api"].is_null() {
            cx.baggage().iter().for_each(|(key, (value, metadata))| {
                view.insert_with_metadata(key.clone(), value.clone(), metadata.clone());
            });
        }
        for entry in [&input["api"], &input["application"]].into_iter().filter_map(Json::as_array).flatten() {
            let (name, value) = (entry[0].as_str().unwrap(), entry[1].as_str().unwrap());
            // Who leaves a value leaves its metadata.
            let shown = cx.baggage().get_with_metadata(name).filter(|(shown, _)| shown.as_str() == value);
            let metadata = entry[2].as_str().or_else(|| shown.map(|(_, metadata)| metadata.as_str()));
            view.insert_with_metadata(name.to_owned(), value.to_owned(), metadata.unwrap_or_default());
        }
        let mut carrier = pairs(&input["carrier"]);
        let cx = cx.with_baggage(view);
        let to = input["to"].as_array().cloned().unwrap_or_else(|| vec![input["to"].clone()]);
        to.iter().for_each(|to| propagator.inject_into(&cx, &mut carrier, to.as_str()));
        carrier.sort();
        let mut wanted = pairs(&expected["carrier"]);
        wanted.sort();
        assert_eq!(carrier, wanted);
    });
    assert!(ran > 40, "{ran}");
}

fn link_id(expected: &Json) -> Option<Json> {
    expected["link"].get("trace_id").cloned()
}

fn parse(text: &str) -> Baggage {
    Baggage::parse(&[text.as_bytes()], usize::MAX, usize::MAX, &mut RuleSet::default())
}

fn run(file: &str, check: impl Fn(&Json, &Json)) -> usize {
    let path = format!("{}/../tests/vectors/{file}", env!("CARGO_MANIFEST_DIR"));
    let file: Json = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    let mut ran = 0;
    for case in file["cases"].as_array().unwrap().iter().cloned().map(expand) {
        let name = case["name"].as_str().unwrap();
        if !NOT_THROUGH_THE_API.contains(&name) {
            println!("{name}");
            check(&case["input"], &case["expected"]);
            ran += 1;
        }
    }
    ran
}

fn pairs(carrier: &Json) -> Vec<(String, String)> {
    let text = |value: &Json| value.as_str().unwrap().to_owned();
    carrier.as_array().into_iter().flatten().map(|pair| (text(&pair[0]), text(&pair[1]))).collect()
}

fn policy(value: &Json) -> Policy {
    let mut policy = Policy::default();
    for (key, value) in value.as_object().into_iter().flatten() {
        match key.as_str() {
            "inbound" => policy.inbound = value.as_str().unwrap().parse().unwrap(),
            "accept_session" => policy.accept_session = value.as_bool().unwrap(),
            "accept_project" => policy.accept_project = value.as_bool().unwrap(),
            "max_members" => policy.max_members = usize::try_from(value.as_u64().unwrap()).unwrap(),
            "max_bytes" => policy.max_bytes = usize::try_from(value.as_u64().unwrap()).unwrap(),
            "propagate_to" => policy.propagate_to = serde_json::from_value(value.clone()).unwrap(),
            other => panic!("{other}"),
        }
    }
    policy
}

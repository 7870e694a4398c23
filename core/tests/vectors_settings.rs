//! The vectors of `tests/vectors/settings.json`: what arguments and environment resolve to.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test")]

use std::collections::BTreeSet;

use serde_json::{Value as Json, json};
use tracebaton::otlp::json::Enums;
use tracebaton::sampler::Sampler;
use tracebaton::settings::{Arguments, Encoding, Exporter, Otlp, Settings, resolve};

const FILE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/vectors/settings.json");

#[test]
fn settings_resolve_as_the_vectors_say() {
    let vectors: Json = serde_json::from_str(&std::fs::read_to_string(FILE).unwrap()).unwrap();
    let mut names = BTreeSet::new();
    for case in vectors["cases"].as_array().unwrap() {
        let name = case["name"].as_str().unwrap();
        assert!(names.insert(name), "{name}: twice");
        assert!(!case["rules"].as_array().unwrap().is_empty() && case["reason"].is_string(), "{name}");
        check(name, case);
    }
    assert!(names.len() > 100);
}

fn check(name: &str, case: &Json) {
    let lists = Lists::of(&case["arguments"]);
    let lookup = |variable: &str| case["environment"][variable].as_str().map(str::to_string);
    let settings = match (resolve(&arguments(&case["arguments"], &lists), &lookup), case["error"].as_str()) {
        (Ok(settings), None) => settings,
        (Err(error), Some(argument)) => return assert_eq!(error.argument, argument, "{name}"),
        (Ok(settings), Some(_)) => panic!("{name}: no error but {settings:?}"),
        (Err(error), None) => panic!("{name}: {error}"),
    };
    let actual = as_json(&settings);
    if let Err(place) = compare(&case["expected"], &actual, "expected".into()) {
        panic!("{name}: {place}\nin {actual:#}");
    }
    let begins: Vec<_> = case["warnings"].as_array().unwrap().iter().map(|text| text.as_str().unwrap()).collect();
    let fits = |begin: &&str| {
        settings.warnings.iter().filter(|warning| warning.starts_with(&format!("{begin} "))).count() == 1
    };
    assert!(begins.len() == settings.warnings.len() && begins.iter().all(fits), "{name}: {:?}", settings.warnings);
}

/// The lists among the arguments, which the arguments borrow.
struct Lists<'a> {
    exporter: Vec<&'a str>,
    headers: Vec<(&'a str, &'a str)>,
}

impl<'a> Lists<'a> {
    fn of(given: &'a Json) -> Self {
        let exporter = given["exporter"].as_array().into_iter().flatten().map(|name| name.as_str().unwrap()).collect();
        let headers = given["otlp_headers"].as_object().into_iter().flatten();
        Self { exporter, headers: headers.map(|(name, value)| (name.as_str(), value.as_str().unwrap())).collect() }
    }
}

fn arguments<'a>(given: &'a Json, lists: &'a Lists<'a>) -> Arguments<'a> {
    let mut arguments = Arguments { exporter: &lists.exporter, otlp_headers: &lists.headers, ..Arguments::default() };
    for (name, value) in given.as_object().unwrap() {
        let text = value.as_str();
        let flag = value.as_bool();
        let count = value.as_u64().map(|count| count as usize);
        match name.as_str() {
            "api_key" => arguments.api_key = text,
            "project" => arguments.project = text,
            "source" => arguments.source = text,
            "session_id" => arguments.session_id = text,
            "session_name" => arguments.session_name = text,
            "server_url" => arguments.server_url = text,
            "exporter" | "otlp_headers" => {}
            "otlp_endpoint" => arguments.otlp_endpoint = text,
            "otlp_protocol" => arguments.otlp_protocol = text,
            "otlp_enabled" => arguments.otlp_enabled = flag,
            "service_name" => arguments.service_name = text,
            "sampler" => arguments.sampler = text,
            "sampler_argument" => arguments.sampler_argument = text,
            "random_flag" => arguments.random_flag = flag,
            "disable_batch" => arguments.disable_batch = flag,
            "verbose" => arguments.verbose = flag,
            "test_mode" => arguments.test_mode = flag,
            "disable_tracing" => arguments.disable_tracing = flag,
            "max_attributes" => arguments.max_attributes = count,
            "max_events" => arguments.max_events = count,
            "max_links" => arguments.max_links = count,
            "max_attributes_per_event" => arguments.max_attributes_per_event = count,
            "max_attributes_per_link" => arguments.max_attributes_per_link = count,
            "max_value_length" => arguments.max_value_length = count,
            "batch_size" => arguments.batch_size = count,
            "flush_interval_s" => arguments.flush_interval_s = value.as_f64(),
            "default_session_name" => arguments.default_session_name = text,
            "default_service" => arguments.default_service = text.unwrap(),
            "language" => arguments.language = text.unwrap(),
            "version" => arguments.version = text.unwrap(),
            other => panic!("unknown argument {other}"),
        }
    }
    arguments
}

/// Every field of objects must be there and equal, a null one may be absent; all else must be equal.
fn compare(expected: &Json, actual: &Json, place: String) -> Result<(), String> {
    match (expected, actual) {
        (Json::Object(fields), Json::Object(_)) => {
            fields.iter().try_for_each(|(key, value)| compare(value, &actual[key], format!("{place}.{key}")))
        }
        (Json::Array(items), Json::Array(others)) if items.len() == others.len() => {
            let mut pairs = items.iter().zip(others).enumerate();
            pairs.try_for_each(|(index, (item, other))| compare(item, other, format!("{place}[{index}]")))
        }
        _ if expected == actual => Ok(()),
        _ => Err(format!("{place} is {actual} and not {expected}")),
    }
}

fn as_json(settings: &Settings) -> Json {
    let milliseconds = |ns: Option<u64>| ns.map(|ns| ns / 1_000_000);
    let (limits, batch) = (&settings.limits, &settings.batch);
    json!({
        "enabled": settings.enabled,
        "exporters": settings.exporters.iter().map(exporter).collect::<Vec<_>>(),
        "honeyhive": settings.honeyhive.as_ref().map(|it| json!({ "api_key": it.api_key, "base_url": it.base_url })),
        "project": settings.project,
        "source": settings.source,
        "session_id": settings.session_id,
        "session_name": settings.session_name,
        "resource": pairs(&settings.resource.attributes),
        "sampler": sampler(&settings.sampler),
        "random_flag": settings.random_flag,
        "limits": {
            "attributes": limits.attributes,
            "events": limits.events,
            "links": limits.links,
            "attributes_per_event": limits.attributes_per_event,
            "attributes_per_link": limits.attributes_per_link,
            "value_length": limits.value_length,
        },
        "batch": {
            "disabled": batch.disabled,
            "queue_spans": batch.queue_spans,
            "batch_spans": batch.batch_spans,
            "delay_ms": milliseconds(batch.delay_ns),
            "export_timeout_ms": milliseconds(batch.export_timeout_ns),
        },
        "verbose": settings.verbose,
        "test_mode": settings.test_mode,
    })
}

fn exporter(exporter: &Exporter) -> Json {
    let (kind, Otlp { url, headers, encoding, gzip, timeout_ns, tls }) = match exporter {
        Exporter::HoneyHive(otlp) => ("honeyhive", otlp),
        Exporter::Otlp(otlp) => ("otlp", otlp),
        Exporter::Console => return json!({ "kind": "console" }),
        Exporter::Memory => return json!({ "kind": "memory" }),
    };
    let encoding = match encoding {
        Encoding::Protobuf => "protobuf",
        Encoding::Json(Enums::Numbers) => "json-numbers",
        Encoding::Json(Enums::Names) => "json-names",
    };
    json!({
        "kind": kind,
        "url": url,
        "headers": pairs(headers),
        "encoding": encoding,
        "gzip": gzip,
        "timeout_ms": timeout_ns / 1_000_000,
        "tls": {
            "ca_certificate": tls.ca_certificate,
            "client_certificate": tls.client_certificate,
            "client_key": tls.client_key,
        },
    })
}

/// Pairs as an object; no key may repeat.
fn pairs(pairs: &[(String, String)]) -> Json {
    let object: serde_json::Map<_, _> = pairs.iter().map(|(key, value)| (key.clone(), json!(value))).collect();
    assert_eq!(object.len(), pairs.len(), "{pairs:?}");
    Json::Object(object)
}

/// A sampler as its name and ratio.
fn sampler(sampler: &Sampler) -> String {
    match sampler {
        Sampler::AlwaysOn => "always_on".into(),
        Sampler::AlwaysOff => "always_off".into(),
        Sampler::TraceIdRatio(ratio) => format!("traceidratio {ratio}"),
        Sampler::ParentBased(by) => format!("parentbased_{}", self::sampler(&by.root)),
    }
}

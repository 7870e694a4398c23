//! The vectors of `tests/vectors` that say which spans are recorded, how values become attributes and what a span sends;
//! and JSON texts against a JSON parser.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use serde_json::{Value as Json, json};
use tracebaton::event_type::{Derivation, EVENT_TYPE};
use tracebaton::flatten::{Options, flatten, json_text};
use tracebaton::limits::Limits;
use tracebaton::otlp::reader::{Attributes, Repeated, SpanView, Text, ValueView};
use tracebaton::record::{Recording, SpanRecord};
use tracebaton::redact::Redaction;
use tracebaton::registration::{Enrichment, Start};
use tracebaton::routing::Routing;
use tracebaton::sampler::{Sampler, flags_of_new_span};
use tracebaton::span::StatusCode;
use tracebaton::value::Value;
use tracebaton::{SpanContext, SpanId, TraceFlags, TraceId, TraceState};

/// The cases of a file; each has a name of its own, a reason and at least one rule.
fn cases(file: &str) -> Vec<Json> {
    let path = format!("{}/../tests/vectors/{file}", env!("CARGO_MANIFEST_DIR"));
    let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"));
    let Json::Array(cases) = serde_json::from_str::<Json>(&text).unwrap()["cases"].take() else { panic!("{path}") };
    let mut names: Vec<_> = cases.iter().map(|case| case["name"].as_str().unwrap()).collect();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), cases.len(), "{file}: names repeat");
    for case in &cases {
        assert!(
            !case["reason"].as_str().unwrap().is_empty() && !case["rules"].as_array().unwrap().is_empty(),
            "{case}"
        );
    }
    cases
}

/// A value as the `conventions` of the files have it.
fn value(json: &Json) -> Value<'static> {
    match json {
        Json::Null => Value::Null,
        Json::Bool(value) => (*value).into(),
        Json::Number(number) => match number.as_i64() {
            Some(value) => value.into(),
            None => number.as_f64().unwrap().into(),
        },
        Json::String(text) => text.clone().into(),
        Json::Array(items) => Value::Array(items.iter().map(value).collect()),
        Json::Object(entries) => {
            let Some((key, argument)) = entries.iter().next().filter(|(key, _)| key.starts_with('$')) else {
                return Value::Map(entries.iter().map(|(key, json)| (key.clone().into(), value(json))).collect());
            };
            assert_eq!(entries.len(), 1, "{json}");
            let times = || usize::try_from(argument[1].as_u64().unwrap()).unwrap();
            match key.as_str() {
                "$int" => argument.as_str().unwrap().parse::<i64>().unwrap().into(),
                "$double" => argument.as_str().unwrap().parse::<f64>().unwrap().into(),
                "$bytes" => Value::Bytes(from_base64(argument.as_str().unwrap()).into()),
                "$text" => argument[0].as_str().unwrap().repeat(times()).into(),
                "$join" => argument.as_array().unwrap().iter().map(text).collect::<String>().into(),
                "$list" => Value::Array(vec![value(&argument[0]); times()]),
                "$nested" => (0..times()).fold(value(&argument[0]), |value, _| Value::Array(vec![value])),
                other => panic!("{other}"),
            }
        }
    }
}

fn text(json: &Json) -> String {
    let Value::Str(text) = value(json) else { panic!("{json}") };
    text.into_owned()
}

fn from_base64(text: &str) -> Vec<u8> {
    let alphabet: Vec<u8> = (b'A'..=b'Z').chain(b'a'..=b'z').chain(b'0'..=b'9').chain(*b"+/").collect();
    let digits: Vec<usize> =
        text.bytes().filter_map(|digit| alphabet.iter().position(|other| *other == digit)).collect();
    let bits: Vec<bool> = digits.iter().flat_map(|digit| (0..6).rev().map(move |bit| digit >> bit & 1 == 1)).collect();
    bits.chunks_exact(8).map(|byte| byte.iter().fold(0, |byte, bit| byte << 1 | u8::from(*bit))).collect()
}

/// Equal, and NaN equal to itself.
fn same(left: &Value<'_>, right: &Value<'_>) -> bool {
    match (left, right) {
        (Value::Double(left), Value::Double(right)) => left.to_bits() == right.to_bits(),
        _ => left == right,
    }
}

#[test]
fn registration_vectors() {
    for case in cases("registration.json") {
        let about = if case["start"].is_null() { &case["enrichment"] } else { &case["start"] };
        let known = ["session_id", "session_name", "source", "project"];
        let fields = ["inputs", "outputs", "metadata", "metrics", "feedback", "config", "user_properties"];
        let is_known = |key: &String| known.contains(&key.as_str()) || fields.contains(&key.as_str());
        assert!(about.as_object().unwrap().keys().all(is_known), "{case}");
        let text = |name: &str| about[name].as_str();
        let field = |name: &str| about.get(name).map(value);
        let options = Options::default();
        let body = if case["start"].is_null() {
            let enrichment = Enrichment {
                inputs: field("inputs"),
                outputs: field("outputs"),
                metadata: field("metadata"),
                metrics: field("metrics"),
                feedback: field("feedback"),
                config: field("config"),
                user_properties: field("user_properties"),
            };
            enrichment.body(text("session_id").unwrap(), &options)
        } else {
            let start = Start {
                session_id: text("session_id").unwrap(),
                session_name: text("session_name"),
                source: text("source"),
                project: text("project"),
                inputs: field("inputs"),
                metadata: field("metadata"),
                user_properties: field("user_properties"),
            };
            Some(start.body(&options))
        };
        let found = body.map_or(Json::Null, |body| serde_json::from_str(&body).unwrap());
        assert_eq!(found, case["expected"], "{}", case["name"]);
    }
}

#[test]
fn flatten_vectors() {
    for case in cases("flatten.json") {
        let mut options = Options::default();
        for (name, setting) in case["options"].as_object().into_iter().flatten() {
            let number = setting.as_u64().map(|number| usize::try_from(number).unwrap());
            match name.as_str() {
                "leaves" => options.leaves = number.unwrap(),
                "depth" => options.depth = number.unwrap(),
                "captured_bytes" => options.captured_bytes = number.unwrap(),
                "redaction" if setting == "off" => options.redaction = Redaction::Off,
                other => panic!("{other}"),
            }
        }
        let input = value(&case["value"]);
        let mut found = Vec::new();
        flatten(case["prefix"].as_str().unwrap(), &input, &options, &mut |key, value| {
            found.push((key.to_owned(), value))
        });
        let expected: Vec<_> =
            case["expected"].as_array().unwrap().iter().map(|pair| (text(&pair[0]), value(&pair[1]))).collect();
        let equal = found.len() == expected.len()
            && found
                .iter()
                .zip(&expected)
                .all(|(found, expected)| found.0 == expected.0 && same(&found.1, &expected.1));
        assert!(equal, "{}\n found {found:?}\n expected {expected:?}", case["name"]);
    }
}

#[test]
fn redact_vectors() {
    for case in cases("redact.json") {
        let redaction = match (&case["also"], &case["off"]) {
            (Json::Array(names), _) => Redaction::Also(names.iter().map(text).collect()),
            (_, Json::Bool(true)) => Redaction::Off,
            _ => Redaction::Default,
        };
        let key = case["key"].as_str().unwrap();
        if let Some(secret) = case["secret"].as_bool() {
            assert_eq!(redaction.is_secret_key(key), secret, "{}", case["name"]);
        } else {
            let mut found = value(&case["value"]);
            redaction.apply(key, &mut found);
            assert_eq!(found, value(&case["expected"]), "{}", case["name"]);
        }
    }
}

#[test]
fn event_type_vectors() {
    for case in cases("event_type.json") {
        let mut derivation = Derivation::default();
        // What the explicit attribute says is in the attribute: the derivation only tells that it is there.
        let mut explicit = String::new();
        for pair in case["attributes"].as_array().unwrap() {
            let (key, value) = (text(&pair[0]), value(&pair[1]));
            derivation.see(&key, value.as_str());
            if let (EVENT_TYPE, Value::Str(text)) = (key.as_str(), value) {
                explicit = text.into_owned();
            }
        }
        let found = if derivation.is_explicit() { &explicit } else { derivation.result().as_str() };
        assert_eq!(found, case["expected"].as_str().unwrap(), "{}", case["name"]);
    }
}

/// The flags of a context and whether that is in another process.
fn flags_and_place(json: &Json) -> Option<(TraceFlags, bool)> {
    let flags = u8::try_from(json.get("flags")?.as_u64()?).unwrap();
    Some((TraceFlags::from_bits(flags), json["is_remote"].as_bool().unwrap()))
}

#[test]
fn sampler_vectors() {
    for case in cases("sampler.json") {
        let sampler = Sampler::parse(case["sampler"].as_str().unwrap(), case["argument"].as_str()).unwrap();
        let trace_id = TraceId::from_hex(case["trace_id"].as_str().unwrap().as_bytes()).unwrap();
        let random_flag = case["random_flag"].as_bool().unwrap_or(true);
        let parent = flags_and_place(&case["parent"]);
        let sampled = sampler.decide(trace_id, parent).is_sampled();
        let flags = flags_of_new_span(parent.map(|(flags, _)| flags), random_flag, sampled);
        let found = json!({ "sampled": sampled, "flags": flags.bits() });
        assert_eq!(found, case["expected"], "{}", case["name"]);

        // A span record begins in the same way; its trace is its parent's.
        let parent = parent.map(|(flags, is_remote)| context(trace_id, flags, is_remote));
        let recording = Recording { sampler, random_flag, ..Recording::default() };
        let random = (trace_id.to_bytes(), [7; 8]);
        let span = SpanRecord::start("s", parent.as_ref(), &recording, random, 1);
        let found = json!({ "sampled": span.is_recording(), "flags": span.context.flags.bits() });
        assert_eq!(found, case["expected"], "{}", case["name"]);
    }
}

fn context(trace_id: TraceId, flags: TraceFlags, is_remote: bool) -> SpanContext {
    SpanContext { trace_id, span_id: SpanId::random([9; 8]), flags, trace_state: TraceState::EMPTY, is_remote }
}

fn pairs(attributes: Attributes<'_>) -> Vec<(String, Value<'_>)> {
    let pair = |entry: Result<(Text<'_>, ValueView<'_>), _>| {
        let (key, value) = entry.unwrap();
        (key.to_str().into_owned(), value.clone().into_value().unwrap().into_owned())
    };
    attributes.map(pair).collect()
}

fn expected_pairs(json: &Json) -> Vec<(String, Value<'static>)> {
    json.as_array().unwrap().iter().map(|pair| (text(&pair[0]), value(&pair[1]))).collect()
}

#[test]
fn span_vectors() {
    const STATUSES: [&str; 3] = ["unset", "ok", "error"];
    for case in cases("span.json") {
        let (name, input, expected) = (&case["name"], &case["input"], &case["expected"]);
        let limit = |name: &str, limit: usize| input[name].as_u64().map_or(limit, |it| usize::try_from(it).unwrap());
        let limits = Limits::default();
        let limits = Limits {
            attributes: limit("limit", limits.attributes),
            attributes_per_link: limit("link_limit", limits.attributes_per_link),
            value_length: input["value_limit"].as_u64().map(|it| usize::try_from(it).unwrap()),
            ..limits
        };
        let trace_id = TraceId::random([5; 16]);
        let parent = flags_and_place(&input["parent"]).map(|(flags, remote)| context(trace_id, flags, remote));
        let recording = Recording { sampler: Sampler::AlwaysOn, limits, ..Recording::default() };
        let mut span = SpanRecord::start("s", parent.as_ref(), &recording, ([5; 16], [6; 8]), 1);
        for pair in input["attributes"].as_array().into_iter().flatten() {
            span.set_attribute(pair[0].as_str().unwrap(), value(&pair[1]));
        }
        for link in input["links"].as_array().into_iter().flatten() {
            let (flags, is_remote) = flags_and_place(link).unwrap();
            let attributes = link["attributes"].as_object().into_iter().flatten();
            let attributes = attributes.map(|(key, json)| (key.as_str(), value(json)));
            span.add_link(&context(trace_id, flags, is_remote), attributes);
        }
        for status in input["statuses"].as_array().into_iter().flatten() {
            let number = STATUSES.iter().position(|name| *name == status[0]).unwrap();
            span.set_status(StatusCode::from_number(number as u8), status[1].as_str().unwrap());
        }
        span.end(2);
        let mut out = Vec::new();
        span.encode(&mut out, &Routing::default());
        let view = SpanView::parse(Repeated::of(&out, 2).next().unwrap().unwrap()).unwrap();

        let mut attributes = pairs(view.attributes());
        let at = attributes.iter().position(|(key, _)| key == EVENT_TYPE).unwrap();
        let event_type = attributes.remove(at).1;
        for (field, expected) in expected.as_object().unwrap() {
            let found = match field.as_str() {
                "flags" => json!(view.flags),
                "dropped_attributes" => json!(view.dropped_attributes),
                "event_type" => json!(event_type.as_str().unwrap()),
                "status" => view.status.map_or(Json::Null, |status| {
                    json!([STATUSES[usize::try_from(status.code).unwrap()], status.message.to_str()])
                }),
                "attributes" => {
                    assert_eq!(attributes, expected_pairs(expected), "{name}");
                    continue;
                }
                "links" => {
                    let links: Vec<_> = view.links().map(Result::unwrap).collect();
                    assert_eq!(links.len(), expected.as_array().unwrap().len(), "{name}");
                    for (link, expected) in links.iter().zip(expected.as_array().unwrap()) {
                        assert_eq!(json!(link.flags), expected["flags"], "{name}");
                        assert_eq!(json!(link.dropped_attributes), expected["dropped_attributes"], "{name}");
                        let wanted = expected.get("attributes").map(expected_pairs).unwrap_or_default();
                        assert_eq!(pairs(link.attributes()), wanted, "{name}");
                    }
                    continue;
                }
                other => panic!("{other}"),
            };
            assert_eq!(found, *expected, "{name}: {field}");
        }
    }
}

/// A stream of numbers that is the same in every run.
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % end
    }

    fn value(&mut self, depth: u64) -> Value<'static> {
        match self.below(if depth == 0 { 6 } else { 8 }) {
            0 => Value::Null,
            1 => (self.below(2) == 0).into(),
            2 => (self.0 as i64).into(),
            3 => f64::from_bits(self.0).into(),
            4 => self.text().into(),
            5 => Value::Bytes(self.0.to_le_bytes().to_vec().into()),
            6 => Value::Array((0..self.below(5)).map(|_| self.value(depth - 1)).collect()),
            _ => Value::Map(
                (0..self.below(5)).map(|n| (format!("{n}{}", self.text()).into(), self.value(depth - 1))).collect(),
            ),
        }
    }

    fn text(&mut self) -> String {
        (0..self.below(9)).filter_map(|_| char::from_u32(u32::try_from(self.below(0x180)).unwrap())).collect()
    }
}

/// Whether a parsed JSON text says what the value does.
fn says(json: &Json, value: &Value<'_>) -> bool {
    match value {
        Value::Null => json.is_null(),
        Value::Bool(value) => json == value,
        Value::Int(value) => json.as_i64() == Some(*value),
        // serde_json may be wrong in the last bit unless asked to be slower.
        Value::Double(value) if value.is_finite() => {
            json.as_f64().is_some_and(|found| json.is_f64() && (found - value).abs() <= value.abs() * 1e-15)
        }
        Value::Double(_) | Value::Bytes(_) => json.is_string(),
        Value::Str(text) => json == &**text,
        Value::Array(items) => json.as_array().is_some_and(|found| {
            found.len() == items.len() && found.iter().zip(items).all(|(json, item)| says(json, item))
        }),
        Value::Map(entries) => json.as_object().is_some_and(|found| {
            found.len() == entries.len() && entries.iter().all(|(key, value)| says(&found[&**key], value))
        }),
    }
}

#[test]
fn json_texts_are_json() {
    let mut numbers = Numbers(1);
    for _ in 0..2_000 {
        let value = numbers.value(5);
        let text = json_text(&value, usize::MAX);
        let json: Json = serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"));
        assert!(says(&json, &value), "{text}\n{value:?}");
    }
}

#[test]
fn limits_hold_for_random_values() {
    let mut numbers = Numbers(2);
    for _ in 0..2_000 {
        let value = numbers.value(5);
        let options = Options {
            leaves: usize::try_from(numbers.below(12)).unwrap(),
            depth: usize::try_from(numbers.below(5)).unwrap(),
            captured_bytes: usize::try_from(numbers.below(60)).unwrap(),
            ..Options::default()
        };
        let mut emitted = 0;
        flatten("p", &value, &options, &mut |key, value| {
            emitted += 1;
            assert!(key == "p" || key.starts_with("p."));
            assert!(!matches!(value, Value::Null | Value::Bytes(_) | Value::Array(_) | Value::Map(_)));
            assert!(!matches!(&value, Value::Str(text) if text.len() > options.captured_bytes));
        });
        assert!(emitted <= options.leaves.max(1), "{emitted} {options:?}\n{value:?}");
    }
}

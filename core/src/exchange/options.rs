//! The options of a tracer as a tree, and what a language needs to know of the tracer that is made of them.
//!
//! The request is one map. Its keys are those of [`Arguments`] (`flush_interval` in seconds, `exporter` a text or a list,
//! `otlp_headers` a map), and
//!
//! - `policy`: a map of the fields of [`Policy`];
//! - `redact`: whether captured values are redacted; default yes;
//! - `register`: whether sessions are registered at HoneyHive; default yes;
//! - `inputs`: what the tracer's own session begins with;
//! - `name_filters`: a map of two lists, `include` and `exclude`: prefixes of the names of spans;
//! - `spool_dir`: the directory of the spool; also `TRACEBATON_SPOOL_DIR`;
//! - `spool_bytes`: how large its files are; also `TRACEBATON_SPOOL_BYTES`;
//! - `env`: the environment, a map of texts.
//!
//! What is null, or not there, is not given. Keys that nobody knows are an error: they would be typing mistakes.
//!
//! The answer ([`describe`]) is a map of `session_id`, `session_name`, `project`, `source`, `enabled`, `verbose`,
//! `test_mode`, `sampler`, `random_flag`, `exporters`, `elsewhere` (spans go anywhere but to HoneyHive), `records_starts`,
//! `inbound`, `baggage_attributes`, `warnings`, `resource`, `limits` (`attributes`, `events`, `links`,
//! `attributes_per_event`, `attributes_per_link`, `value_length`, `value_depth`, `captured_bytes`, `leaves`) and
//! `decisions`: a list of five numbers, what the sampler decides of a root, below a local parent that is sampled, below one
//! that is not, below a remote one that is, and below one that is not: 1 recorded, 0 left out, -1 the trace's id decides.

use alloc::borrow::Cow;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use super::{Error, tree};
use crate::delivery::Scope;
use crate::limits::Limits;
use crate::name_filter::NameFilters;
use crate::policy::{InboundMode, Policy};
use crate::redact::Redaction;
use crate::settings::{self, Arguments, Settings};
use crate::span::instrumentation_scope;
use crate::tracer::{Parts, Style, Tracer, exporter_names};
use crate::value::Value;

/// A tracer that is to be made.
#[derive(Debug)]
pub struct Init {
    /// What it is told to do.
    pub settings: Settings,
    /// Its other parts; without a session, which takes random bytes.
    pub parts: Parts,
    /// Its spool, if it has one.
    pub spool: Option<SpoolOptions>,
}

/// A spool, where there are files.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SpoolOptions {
    /// Its directory.
    pub dir: String,
    /// The size of its files in bytes, if it was given. What sizes there are is for whoever makes the files to know.
    pub bytes: Option<usize>,
    /// What the environment says of that size (`TRACEBATON_SPOOL_BYTES`).
    pub bytes_of_environment: Option<String>,
    /// Whether spans are in the spool from their beginning on (`TRACEBATON_SPOOL_STARTS`).
    pub starts: bool,
}

/// Who makes the tracer.
#[derive(Clone, Copy, Debug)]
pub struct Binding {
    /// `telemetry.sdk.language`: `nodejs` or `webjs`.
    pub language: &'static str,
    /// `telemetry.sdk.version`.
    pub version: &'static str,
}

/// The keys that [`Arguments`] has no field for.
const OTHERS: [&str; 8] = ["policy", "redact", "register", "inputs", "name_filters", "spool_dir", "spool_bytes", "env"];

/// Reads the options.
///
/// # Errors
///
/// The first that has a wrong type or value; [`Error`] names it.
pub fn read(options: &Value<'_>, binding: Binding) -> Result<Init, Error> {
    let Value::Map(entries) = options else { return Err(Error::Malformed) };
    let mut arguments = Arguments { language: binding.language, version: binding.version, ..Arguments::default() };
    let (mut exporters, mut headers) = (Vec::new(), Vec::new());
    for (key, value) in entries.iter().filter(|(_, value)| *value != Value::Null) {
        match &**key {
            "exporter" => exporters = texts_or_one(key, value)?,
            "otlp_headers" => headers = text_pairs(key, value)?,
            key if OTHERS.contains(&key) => {}
            key => set(&mut arguments, key, value)?,
        }
    }
    (arguments.exporter, arguments.otlp_headers) = (&exporters, &headers);

    let env = find(entries, "env").map(|value| text_pairs("env", value)).transpose()?.unwrap_or_default();
    let look_up = |name: &str| env.iter().find(|(key, _)| *key == name).map(|(_, value)| String::from(*value));
    let settings =
        settings::resolve(&arguments, &look_up).map_err(|error| Error::value(error.argument, error.reason))?;

    let switch = |name| find(entries, name).map(|value| flag(name, value)).transpose();
    let name_filters = find(entries, "name_filters").map(name_filters).transpose()?;
    let dir = find(entries, "spool_dir").map(|value| text("spool_dir", value).map(String::from)).transpose()?;
    let bytes = find(entries, "spool_bytes").map(|value| count("spool_bytes", value)).transpose()?;
    let dir = dir.or_else(|| look_up("TRACEBATON_SPOOL_DIR")).filter(|dir| !dir.is_empty());
    let is_off = |text: &String| matches!(text.to_ascii_lowercase().as_str(), "false" | "0" | "no" | "off");
    let spool = dir.map(|dir| SpoolOptions {
        dir,
        bytes,
        bytes_of_environment: look_up("TRACEBATON_SPOOL_BYTES").filter(|text| !text.is_empty()),
        starts: !look_up("TRACEBATON_SPOOL_STARTS").as_ref().is_some_and(is_off),
    });
    Ok(Init {
        settings,
        parts: Parts {
            policy: find(entries, "policy").map(|value| policy(value, "policy")).transpose()?.unwrap_or_default(),
            redaction: if switch("redact")?.unwrap_or(true) { Redaction::Default } else { Redaction::Off },
            session: String::new(),
            registers: switch("register")?.unwrap_or(true),
            inputs: find(entries, "inputs").map(|value| value.clone().into_owned()),
            name_filters,
        },
        spool,
    })
}

/// The value of a key, if it is given.
fn find<'v, 'a>(entries: &'v [(Cow<'a, str>, Value<'a>)], key: &str) -> Option<&'v Value<'a>> {
    let found = entries.iter().rev().find(|(name, _)| name == key);
    found.map(|(_, value)| value).filter(|value| **value != Value::Null)
}

fn set<'v>(arguments: &mut Arguments<'v>, key: &str, value: &'v Value<'_>) -> Result<(), Error> {
    let texts: [(&str, &mut Option<&'v str>); 12] = [
        ("api_key", &mut arguments.api_key),
        ("project", &mut arguments.project),
        ("source", &mut arguments.source),
        ("session_id", &mut arguments.session_id),
        ("session_name", &mut arguments.session_name),
        ("server_url", &mut arguments.server_url),
        ("otlp_endpoint", &mut arguments.otlp_endpoint),
        ("otlp_protocol", &mut arguments.otlp_protocol),
        ("service_name", &mut arguments.service_name),
        ("sampler", &mut arguments.sampler),
        ("sampler_argument", &mut arguments.sampler_argument),
        ("default_session_name", &mut arguments.default_session_name),
    ];
    if let Some((_, target)) = texts.into_iter().find(|(name, _)| *name == key) {
        *target = Some(text(key, value)?);
        return Ok(());
    }
    let flags = [
        ("otlp_enabled", &mut arguments.otlp_enabled),
        ("random_flag", &mut arguments.random_flag),
        ("disable_batch", &mut arguments.disable_batch),
        ("verbose", &mut arguments.verbose),
        ("test_mode", &mut arguments.test_mode),
        ("disable_tracing", &mut arguments.disable_tracing),
    ];
    if let Some((_, target)) = flags.into_iter().find(|(name, _)| *name == key) {
        *target = Some(flag(key, value)?);
        return Ok(());
    }
    let numbers = [
        ("max_attributes", &mut arguments.max_attributes),
        ("max_events", &mut arguments.max_events),
        ("max_links", &mut arguments.max_links),
        ("max_attributes_per_event", &mut arguments.max_attributes_per_event),
        ("max_attributes_per_link", &mut arguments.max_attributes_per_link),
        ("max_value_length", &mut arguments.max_value_length),
        ("batch_size", &mut arguments.batch_size),
    ];
    if let Some((_, target)) = numbers.into_iter().find(|(name, _)| *name == key) {
        *target = Some(count(key, value)?);
        return Ok(());
    }
    match key {
        "flush_interval" => {
            arguments.flush_interval_s = Some(match value {
                // The bounds are core's; so large an integer is past them, whatever its last digits are.
                Value::Int(seconds) => *seconds as f64,
                Value::Double(seconds) => *seconds,
                other => return Err(wrong(key, "a number of seconds", other)),
            });
        }
        "default_service" => arguments.default_service = text(key, value)?,
        _ => return Err(Error::value(String::from(key), "one of the options that there are")),
    }
    Ok(())
}

fn name_filters(value: &Value<'_>) -> Result<NameFilters, Error> {
    let Value::Map(entries) = value else {
        return Err(wrong("name_filters", "an object of two lists, include and exclude", value));
    };
    let list = |name: &str| match find(entries, name) {
        Some(list) => texts(&format!("name_filters.{name}"), list),
        None => Ok(Vec::new()),
    };
    let owned = |texts: Vec<&str>| texts.into_iter().map(String::from).collect();
    Ok(NameFilters::new(owned(list("include")?), owned(list("exclude")?)))
}

/// Reads a policy.
///
/// # Errors
///
/// [`Error`] names the field behind the argument's name and a dot.
pub fn policy(value: &Value<'_>, argument: &str) -> Result<Policy, Error> {
    const FIELDS: &str = "an object of inbound, accept_session, accept_project, baggage_attributes, max_members, \
                          max_bytes and propagate_to";
    let Value::Map(entries) = value else { return Err(wrong(argument, FIELDS, value)) };
    let mut policy = Policy::default();
    for (key, value) in entries.iter().filter(|(_, value)| *value != Value::Null) {
        let name = format!("{argument}.{key}");
        let owned = |texts: Vec<&str>| texts.into_iter().map(String::from).collect();
        match &**key {
            "inbound" => {
                let mode = text(&name, value)?.parse::<InboundMode>();
                policy.inbound = mode.map_err(|_| Error::value(name, "\"continue\", \"restart\" or \"ignore\""))?;
            }
            "accept_session" => policy.accept_session = flag(&name, value)?,
            "accept_project" => policy.accept_project = flag(&name, value)?,
            "baggage_attributes" => policy.baggage_attributes = owned(texts(&name, value)?),
            "max_members" => policy.max_members = count(&name, value)?,
            "max_bytes" => policy.max_bytes = count(&name, value)?,
            "propagate_to" => {
                let patterns = texts(&name, value)?;
                if let Some(at) = patterns.iter().position(|pattern| !Policy::is_pattern(pattern)) {
                    // Without its text: a URL that was pasted may hold a password.
                    let grammar = "a host, \"*.\" and a host, an address, a network or \"*\"";
                    return Err(Error::value(format!("{name}[{at}]"), grammar));
                }
                policy.propagate_to = owned(patterns);
            }
            _ => return Err(Error::value(String::from(argument), FIELDS)),
        }
    }
    Ok(policy)
}

fn wrong(argument: &str, wanted: &'static str, value: &Value<'_>) -> Error {
    let given = match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Int(_) | Value::Double(_) => "a number",
        Value::Str(_) => "a string",
        Value::Bytes(_) => "bytes",
        Value::Array(_) => "an array",
        Value::Map(_) => "an object",
    };
    Error::Type { argument: Cow::Owned(String::from(argument)), wanted, given }
}

fn text<'v>(argument: &str, value: &'v Value<'_>) -> Result<&'v str, Error> {
    value.as_str().ok_or_else(|| wrong(argument, "a string", value))
}

fn flag(argument: &str, value: &Value<'_>) -> Result<bool, Error> {
    match value {
        Value::Bool(flag) => Ok(*flag),
        _ => Err(wrong(argument, "a boolean", value)),
    }
}

fn count(argument: &str, value: &Value<'_>) -> Result<usize, Error> {
    const WANTED: &str = "a whole number that is not negative";
    match value {
        Value::Int(number) => usize::try_from(*number).map_err(|_| Error::value(String::from(argument), WANTED)),
        Value::Double(_) => Err(Error::value(String::from(argument), WANTED)),
        _ => Err(wrong(argument, WANTED, value)),
    }
}

fn texts<'v>(argument: &str, value: &'v Value<'_>) -> Result<Vec<&'v str>, Error> {
    const WANTED: &str = "an array of strings";
    let Value::Array(items) = value else { return Err(wrong(argument, WANTED, value)) };
    items.iter().map(|item| item.as_str().ok_or_else(|| wrong(argument, WANTED, value))).collect()
}

fn texts_or_one<'v>(argument: &str, value: &'v Value<'_>) -> Result<Vec<&'v str>, Error> {
    match value {
        Value::Str(text) => Ok(Vec::from([&**text])),
        Value::Array(_) => texts(argument, value),
        _ => Err(wrong(argument, "a string or an array of strings", value)),
    }
}

fn text_pairs<'v>(argument: &str, value: &'v Value<'_>) -> Result<Vec<(&'v str, &'v str)>, Error> {
    const WANTED: &str = "an object of strings";
    let Value::Map(entries) = value else { return Err(wrong(argument, WANTED, value)) };
    let pair = |(key, value): &'v (Cow<'_, str>, Value<'_>)| Some((&**key, value.as_str()?));
    entries.iter().map(|entry| pair(entry).ok_or_else(|| wrong(argument, WANTED, value))).collect()
}

/// What a language needs to know of a tracer. `records_starts` says whether its spool takes spans when they begin.
pub fn describe(tracer: &Tracer, records_starts: bool) -> Value<'_> {
    let settings = tracer.settings();
    let optional = |text: Option<&'_ str>| text.map_or(Value::Null, |text| Value::from(String::from(text)));
    let elsewhere = settings.exporters.iter().any(|exporter| Style::of(exporter) != Style::HoneyHive);
    let resource = settings.resource.attributes.iter();
    let resource = resource.map(|(key, value)| (Cow::Borrowed(key.as_str()), Value::from(value.as_str())));
    let decisions = tracer.decisions().map(|decision| Value::Int(decision.map_or(-1, i64::from)));
    let texts = |texts: &[String]| Value::Array(texts.iter().cloned().map(Value::from).collect());
    tree::map([
        ("session_id", tracer.session().into()),
        ("session_name", optional(settings.session_name.as_deref())),
        ("project", optional(settings.project.as_deref())),
        ("source", settings.source.as_str().into()),
        ("enabled", settings.enabled.into()),
        ("verbose", settings.verbose.into()),
        ("test_mode", settings.test_mode.into()),
        ("sampler", tracer.sampler_text().into()),
        ("random_flag", settings.random_flag.into()),
        ("exporters", exporter_names(settings).into()),
        ("elsewhere", elsewhere.into()),
        ("records_starts", records_starts.into()),
        ("inbound", tracer.policy().inbound.as_str().into()),
        ("baggage_attributes", texts(&tracer.policy().baggage_attributes)),
        ("warnings", texts(&settings.warnings)),
        ("resource", Value::Map(resource.collect())),
        ("limits", limits(&settings.limits)),
        ("decisions", Value::Array(decisions.into())),
    ])
}

/// The instrumentation scope that a map of `name`, `version`, `schema_url` and `attributes` describes.
///
/// # Errors
///
/// If it is no map.
pub fn instrumentation(value: &Value<'_>) -> Result<Scope, Error> {
    let Value::Map(entries) = value else { return Err(Error::Malformed) };
    let text = |name: &str| find(entries, name).and_then(Value::as_str).unwrap_or_default();
    let attributes = match find(entries, "attributes") {
        Some(Value::Map(attributes)) => attributes.as_slice(),
        _ => &[],
    };
    let attributes = attributes.iter().filter(|(_, value)| *value != Value::Null);
    let encoded =
        instrumentation_scope(text("name"), text("version"), attributes.map(|(key, value)| (&**key, value.clone())));
    Ok(Scope::new(&encoded).with_schema_url(text("schema_url")))
}

fn limits(limits: &Limits) -> Value<'static> {
    let number = |number: usize| Value::Int(i64::try_from(number).unwrap_or(i64::MAX));
    tree::map([
        ("attributes", number(limits.attributes)),
        ("events", number(limits.events)),
        ("links", number(limits.links)),
        ("attributes_per_event", number(limits.attributes_per_event)),
        ("attributes_per_link", number(limits.attributes_per_link)),
        ("value_length", limits.value_length.map_or(Value::Null, number)),
        ("value_depth", number(limits.value_depth)),
        ("captured_bytes", number(limits.captured_bytes)),
        ("leaves", number(limits.leaves)),
    ])
}

//! What a tracer is to do: the arguments of `Tracer.init` and the environment, resolved into one plain value that is
//! the same in every language.
//!
//! Nothing here does any I/O; the environment is passed in as a look-up. An argument that was given comes before the
//! environment, and the environment before the default. **An argument that is `None` or blank counts as not given**: a
//! program that passes `api_key=os.environ.get("…")` on gets what it would have got without the argument. (The
//! HoneyHive SDK lets an explicit `None` hide the environment.) Only an empty `session_id` is an error: a caller that
//! passes one means it.
//!
//! The rules, as vectors and code name them:
//!
//! | id | rule |
//! | --- | --- |
//! | SET1 | argument before environment before default; `None`, empty and blank count as not given |
//! | SET2 | a bad value in the environment is ignored with one warning that names the variable and never quotes it |
//! | SET3 | a bad argument is an [`ArgumentError`], which does not quote it either |
//! | SET4 | spans go where `exporter=` says; else to HoneyHive if there is a key; else where `OTEL_TRACES_EXPORTER` says; else to OTLP |
//! | SET5 | HoneyHive gets JSON with names for enums, its own headers, and no gzip |
//! | SET6 | OTLP goes where `OTEL_EXPORTER_OTLP_*` says, variables of traces first; else to [`LOCAL_URL`] |
//! | SET7 | gRPC is not spoken: one warning, protobuf over HTTP, and port 4317 becomes 4318 |
//! | SET8 | `OTEL_SDK_DISABLED` and `HH_DISABLE_TRACING` switch everything off, `HH_OTLP_ENABLED` sending, `HH_TEST_MODE` exporting |
//! | SET9 | the resource: `service.name` by precedence, `telemetry.sdk.*`, `OTEL_RESOURCE_ATTRIBUTES` |
//! | SET10 | the sampler: `OTEL_TRACES_SAMPLER` with its argument; else parent-based, always on |
//! | SET11 | the limits of HoneyHive's `init`, changed by `HH_MAX_*`, then by OpenTelemetry's variables |
//! | SET12 | batches: `HH_BATCH_SIZE`, `HH_FLUSH_INTERVAL`, `HH_DISABLE_BATCH`, `OTEL_BSP_*` |
//! | SET13 | variables without a prefix of their own are not read: `PROJECT` or `SESSION_ID` may mean anything to the program |
//! | SET14 | `OTEL_EXPORTER_OTLP_[TRACES_]CERTIFICATE`, `_CLIENT_CERTIFICATE` and `_CLIENT_KEY` are paths of PEM files for that endpoint, traces first; a key without a certificate has no effect and one warning |
//! | SET15 | new traces carry the random flag (TP10) unless `random_flag` is false: some old receivers refuse a header with it |
//! | SET16 | `NO_PROXY` exempts names with all below them, addresses, networks and ports ([`is_no_proxy`]) |

use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::fmt;

use crate::limits::Limits;
use crate::record::Recording;
use crate::sampler::{Sampler, SamplerError};
use crate::session;

mod destination;
mod environment;
mod proxy;
mod resource;
#[cfg(test)]
mod tests;
mod url;

pub use destination::{Encoding, Exporter, HONEYHIVE_URL, HoneyHive, LOCAL_URL, Otlp, Tls};
pub use proxy::is_no_proxy;
pub use resource::Resource;
pub use url::basic_credentials;

use environment::Environment;

/// What a service calls its source if it says nothing.
const DEFAULT_SOURCE: &str = "dev";

/// The arguments of `Tracer.init`. What is `None`, empty text or an empty list counts as not given. There is no `Debug`
/// form, for the sake of the secrets.
#[derive(Clone, Copy, Default)]
pub struct Arguments<'a> {
    /// HoneyHive's API key. Also `HH_API_KEY`, `HONEYHIVE_API_KEY`.
    pub api_key: Option<&'a str>,
    /// The project at HoneyHive. Also `HH_PROJECT`.
    pub project: Option<&'a str>,
    /// The service's own source, such as `production`. Also `HH_SOURCE`; default `dev`.
    pub source: Option<&'a str>,
    /// The tracer's own session: 1 to 256 characters.
    pub session_id: Option<&'a str>,
    /// What that session is called. Also `HH_SESSION_NAME`.
    pub session_name: Option<&'a str>,
    /// HoneyHive's base URL. Also `HH_API_URL`, `HONEYHIVE_SERVER_URL`, `HH_SERVER_URL`.
    pub server_url: Option<&'a str>,
    /// Where spans go: `honeyhive`, `otlp`, `console`, `memory`, or `none` alone. A binding that was given an exporter
    /// object of its own names `none` here if that is the only one.
    pub exporter: &'a [&'a str],
    /// The OTLP endpoint, taken as it is, or with `/v1/traces` if it has no path. It says where the exporter `otlp`
    /// sends, not that there is one. Also `OTEL_EXPORTER_OTLP_[TRACES_]ENDPOINT`.
    pub otlp_endpoint: Option<&'a str>,
    /// Headers for that endpoint, on top of `OTEL_EXPORTER_OTLP_[TRACES_]HEADERS`.
    pub otlp_headers: &'a [(&'a str, &'a str)],
    /// `http/protobuf` or `http/json`, for every OTLP exporter. Also `HH_OTLP_PROTOCOL` for HoneyHive and
    /// `OTEL_EXPORTER_OTLP_[TRACES_]PROTOCOL` for others.
    pub otlp_protocol: Option<&'a str>,
    /// Whether spans are sent at all (to the console and to memory they go in any case). Also `HH_OTLP_ENABLED`.
    pub otlp_enabled: Option<bool>,
    /// The name of the service. Also `OTEL_SERVICE_NAME`, `HH_SERVICE_NAME`, `OTEL_RESOURCE_ATTRIBUTES`.
    pub service_name: Option<&'a str>,
    /// The sampler, by its name in OpenTelemetry. Also `OTEL_TRACES_SAMPLER`; default `parentbased_always_on`.
    pub sampler: Option<&'a str>,
    /// What belongs to that sampler, such as a ratio. `OTEL_TRACES_SAMPLER_ARG` belongs to `OTEL_TRACES_SAMPLER` only.
    pub sampler_argument: Option<&'a str>,
    /// Whether new traces say that their ids are random, which those of the bindings are; default true.
    pub random_flag: Option<bool>,
    /// Whether each span is sent at once. Also `HH_DISABLE_BATCH`.
    pub disable_batch: Option<bool>,
    /// Whether to say more. Also `HH_VERBOSE`.
    pub verbose: Option<bool>,
    /// Whether spans are recorded but not exported unless `exporter` says where to. Also `HH_TEST_MODE`.
    pub test_mode: Option<bool>,
    /// Whether to do nothing at all. Also `HH_DISABLE_TRACING`, and `OTEL_SDK_DISABLED`, which nothing overrides.
    pub disable_tracing: Option<bool>,
    /// Attributes of a span at most. Also `HH_MAX_ATTRIBUTES`, `OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT`,
    /// `OTEL_ATTRIBUTE_COUNT_LIMIT`; default 1,024.
    pub max_attributes: Option<usize>,
    /// Events of a span at most. Also `HH_MAX_EVENTS`, `OTEL_SPAN_EVENT_COUNT_LIMIT`; default 1,024.
    pub max_events: Option<usize>,
    /// Links of a span at most. Also `HH_MAX_LINKS`, `OTEL_SPAN_LINK_COUNT_LIMIT`; default 128.
    pub max_links: Option<usize>,
    /// Attributes of an event at most. Also `OTEL_EVENT_ATTRIBUTE_COUNT_LIMIT`, `OTEL_ATTRIBUTE_COUNT_LIMIT`.
    pub max_attributes_per_event: Option<usize>,
    /// Attributes of a link at most. Also `OTEL_LINK_ATTRIBUTE_COUNT_LIMIT`, `OTEL_ATTRIBUTE_COUNT_LIMIT`.
    pub max_attributes_per_link: Option<usize>,
    /// Characters of an attribute's text at most. Also `OTEL_SPAN_ATTRIBUTE_VALUE_LENGTH_LIMIT`,
    /// `OTEL_ATTRIBUTE_VALUE_LENGTH_LIMIT`; default: no limit.
    pub max_value_length: Option<usize>,
    /// Spans in one request at most. Also `HH_BATCH_SIZE`, `OTEL_BSP_MAX_EXPORT_BATCH_SIZE`.
    pub batch_size: Option<usize>,
    /// Seconds for which a span waits for others. Also `HH_FLUSH_INTERVAL`, in seconds, and `OTEL_BSP_SCHEDULE_DELAY`.
    pub flush_interval_s: Option<f64>,
    /// The session's name if nobody gives one: the caller's file. Its folder and its extension are left out.
    pub default_session_name: Option<&'a str>,
    /// The service's name if nobody gives one, such as `unknown_service:python`.
    pub default_service: &'a str,
    /// The language of the binding: `python`, `nodejs`, `webjs`, `rust` (`telemetry.sdk.language`).
    pub language: &'a str,
    /// The version of the binding (`telemetry.sdk.version`).
    pub version: &'a str,
}

/// What a tracer is to do. Its `Debug` form has no secrets.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Whether it does anything: spans are recorded, exporters and sessions started.
    pub enabled: bool,
    /// Where spans go, each kind at most once; nowhere if there are none.
    pub exporters: Vec<Exporter>,
    /// Where sessions and events are called; there exactly if HoneyHive is among the exporters.
    pub honeyhive: Option<HoneyHive>,
    /// The project.
    pub project: Option<String>,
    /// The service's own source.
    pub source: String,
    /// The tracer's own session as it travels on the wire, if one was given.
    pub session_id: Option<String>,
    /// What a session of this tracer is called.
    pub session_name: Option<String>,
    /// Who sends the spans.
    pub resource: Resource,
    /// Which traces are recorded.
    pub sampler: Sampler,
    /// Whether new traces say that their ids are random.
    pub random_flag: bool,
    /// How much a span may hold.
    pub limits: Limits,
    /// When spans are sent.
    pub batch: Batch,
    /// Whether to say more.
    pub verbose: bool,
    /// Whether the program is under test.
    pub test_mode: bool,
    /// What was wrong in the environment, one line for each variable. No value is quoted.
    pub warnings: Vec<String>,
}

impl Settings {
    /// How spans are recorded.
    pub fn recording(&self) -> Recording {
        Recording { sampler: self.sampler.clone(), limits: self.limits, random_flag: self.random_flag }
    }
}

/// When spans are sent. What is `None` was not set: delivery has bounds of its own, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Batch {
    /// Whether each span is sent at once.
    pub disabled: bool,
    /// Spans that wait at most (`OTEL_BSP_MAX_QUEUE_SIZE`).
    pub queue_spans: Option<usize>,
    /// Spans in one request at most; not above `queue_spans`.
    pub batch_spans: Option<usize>,
    /// How long a span waits for others, in nanoseconds.
    pub delay_ns: Option<u64>,
    /// How long the export of a batch may take with all its retries, in nanoseconds (`OTEL_BSP_EXPORT_TIMEOUT`).
    pub export_timeout_ns: Option<u64>,
}

/// An argument with a value that it cannot have (SET3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ArgumentError {
    /// The argument's name, in Python's spelling.
    pub argument: &'static str,
    /// What it must be. The value is not quoted.
    pub reason: &'static str,
}

impl ArgumentError {
    const fn new(argument: &'static str, reason: &'static str) -> Self {
        Self { argument, reason }
    }
}

impl fmt::Display for ArgumentError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} must be {}", self.argument, self.reason)
    }
}

impl core::error::Error for ArgumentError {}

/// Resolves arguments and environment. The look-up gives a variable's value, or `None` if it is not set.
///
/// # Errors
/// The first argument found that cannot have its value. The environment is never an error.
pub fn resolve(
    arguments: &Arguments<'_>,
    environment: &dyn Fn(&str) -> Option<String>,
) -> Result<Settings, ArgumentError> {
    let environment = &mut Environment::new(environment);

    if let Some(session_id) = arguments.session_id {
        session::check(session_id).map_err(|_| ArgumentError::new("session_id", "a text of 1 to 256 characters"))?;
    }
    let disable_tracing = arguments.disable_tracing.or_else(|| environment.switch("HH_DISABLE_TRACING"));
    let enabled = !environment.otel_true("OTEL_SDK_DISABLED") && !disable_tracing.unwrap_or(false);
    if environment.text("OTEL_CONFIG_FILE").is_some() {
        environment.warn("OTEL_CONFIG_FILE is not supported; the other variables apply".to_string());
    }
    let source = text(arguments.source, environment, "HH_SOURCE").unwrap_or_else(|| DEFAULT_SOURCE.to_string());
    let test_mode = arguments.test_mode.or_else(|| environment.switch("HH_TEST_MODE")).unwrap_or(false);
    let (mut exporters, mut honeyhive) = destination::resolve(arguments, environment, &source, test_mode)?;
    if !enabled {
        exporters.clear();
        honeyhive = None;
    }
    let session_name = text(arguments.session_name, environment, "HH_SESSION_NAME")
        .or_else(|| given(arguments.default_session_name.map(stem)).map(str::to_string));

    Ok(Settings {
        enabled,
        exporters,
        honeyhive,
        project: text(arguments.project, environment, "HH_PROJECT"),
        source,
        session_id: arguments.session_id.map(str::to_string),
        session_name,
        resource: resource::resolve(arguments, environment),
        sampler: sampler(arguments, environment)?,
        random_flag: arguments.random_flag.unwrap_or(true),
        limits: limits(arguments, environment),
        batch: batch(arguments, environment)?,
        verbose: arguments.verbose.or_else(|| environment.switch("HH_VERBOSE")).unwrap_or(false),
        test_mode,
        warnings: environment.take_warnings(),
    })
}

/// An argument that was given: one that is not blank (SET1).
fn given(argument: Option<&str>) -> Option<&str> {
    argument.filter(|text| !text.trim().is_empty())
}

/// A text of the arguments, else of the environment.
fn text(argument: Option<&str>, environment: &Environment<'_>, name: &str) -> Option<String> {
    given(argument).map(str::to_string).or_else(|| environment.text(name))
}

/// The name of a file without its folder and extension.
fn stem(path: &str) -> &str {
    let name = path.rsplit(['/', '\\']).next().unwrap_or(path);
    match name.rsplit_once('.') {
        Some((stem, _)) if !stem.is_empty() => stem,
        _ => name,
    }
}

/// The limits of HoneyHive's `init` with what arguments and environment change (SET11). HoneyHive's variables come
/// before OpenTelemetry's, which may be meant for every SDK on the machine; of these the special ones before the
/// general.
fn limits(arguments: &Arguments<'_>, environment: &mut Environment<'_>) -> Limits {
    let mut limits = Limits::honeyhive();
    let mut count = |argument: Option<usize>, names: &[&str]| argument.or_else(|| environment.count(names, 0));
    const ATTRIBUTES: &str = "OTEL_ATTRIBUTE_COUNT_LIMIT";
    let names = ["HH_MAX_ATTRIBUTES", "OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT", ATTRIBUTES];
    if let Some(attributes) = count(arguments.max_attributes, &names) {
        limits = limits.with_attributes(attributes);
    }
    if let Some(events) = count(arguments.max_events, &["HH_MAX_EVENTS", "OTEL_SPAN_EVENT_COUNT_LIMIT"]) {
        limits.events = events;
    }
    if let Some(links) = count(arguments.max_links, &["HH_MAX_LINKS", "OTEL_SPAN_LINK_COUNT_LIMIT"]) {
        limits.links = links;
    }
    if let Some(attributes) =
        count(arguments.max_attributes_per_event, &["OTEL_EVENT_ATTRIBUTE_COUNT_LIMIT", ATTRIBUTES])
    {
        limits.attributes_per_event = attributes;
    }
    if let Some(attributes) = count(arguments.max_attributes_per_link, &["OTEL_LINK_ATTRIBUTE_COUNT_LIMIT", ATTRIBUTES])
    {
        limits.attributes_per_link = attributes;
    }
    let names = ["OTEL_SPAN_ATTRIBUTE_VALUE_LENGTH_LIMIT", "OTEL_ATTRIBUTE_VALUE_LENGTH_LIMIT"];
    limits.value_length = count(arguments.max_value_length, &names);
    limits
}

/// `OTEL_BSP_*` and HoneyHive's names for the same (SET12).
fn batch(arguments: &Arguments<'_>, environment: &mut Environment<'_>) -> Result<Batch, ArgumentError> {
    let delay_ns = match arguments.flush_interval_s {
        Some(seconds) => Some(
            environment::seconds_to_ns(seconds)
                .ok_or(ArgumentError::new("flush_interval", "a number of seconds between 0 and a year"))?,
        ),
        None => environment
            .first(&["HH_FLUSH_INTERVAL"], "a number of seconds", environment::seconds)
            .or_else(|| environment.milliseconds(&["OTEL_BSP_SCHEDULE_DELAY"], 0)),
    };
    if arguments.batch_size == Some(0) {
        return Err(ArgumentError::new("batch_size", "above zero"));
    }
    let disabled = arguments.disable_batch.or_else(|| environment.switch("HH_DISABLE_BATCH")).unwrap_or(false);
    let queue_spans = environment.count(&["OTEL_BSP_MAX_QUEUE_SIZE"], 1);
    let names = ["HH_BATCH_SIZE", "OTEL_BSP_MAX_EXPORT_BATCH_SIZE"];
    let batch_spans = arguments.batch_size.or_else(|| environment.count(&names, 1));
    Ok(Batch {
        disabled,
        queue_spans,
        // A batch that could never fill would wait for its delay each time.
        batch_spans: batch_spans.map(|batch| queue_spans.map_or(batch, |queue| batch.min(queue))),
        delay_ns,
        export_timeout_ns: environment.milliseconds(&["OTEL_BSP_EXPORT_TIMEOUT"], 1),
    })
}

/// The sampler (SET10) of the arguments, or of `OTEL_TRACES_SAMPLER` and its argument, or the default. An argument
/// that is no ratio counts as unset there, as everywhere in the environment: the sampler stays.
fn sampler(arguments: &Arguments<'_>, environment: &mut Environment<'_>) -> Result<Sampler, ArgumentError> {
    const RATIO: &str = "a number from 0 to 1";
    if let Some(name) = given(arguments.sampler) {
        return Sampler::parse(name, arguments.sampler_argument).map_err(|error| match error {
            SamplerError::BadRatio => ArgumentError::new("sampler_argument", RATIO),
            _ => ArgumentError::new("sampler", SAMPLERS),
        });
    }
    let chosen = environment.first(&["OTEL_TRACES_SAMPLER"], SAMPLERS, |name| {
        Sampler::parse(name, None).ok().map(|sampler| (name.to_string(), sampler))
    });
    let Some((name, sampler)) = chosen else { return Ok(Sampler::default()) };
    let with_argument =
        environment.first(&["OTEL_TRACES_SAMPLER_ARG"], RATIO, |argument| Sampler::parse(&name, Some(argument)).ok());
    Ok(with_argument.unwrap_or(sampler))
}

const SAMPLERS: &str =
    "always_on, always_off, traceidratio, parentbased_always_on, parentbased_always_off or parentbased_traceidratio";

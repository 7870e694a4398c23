//! The resource: who sends the spans.

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use super::Arguments;
use super::environment::{Environment, pairs};
use crate::otlp::protobuf::{message, put_bytes, put_bytes_always};

/// The name under which spans are sent, in OpenTelemetry's terms: `telemetry.sdk.name`.
pub(super) const SDK_NAME: &str = "tracebaton";
/// What OpenTelemetry's specification calls a service whose name nobody gave.
const UNKNOWN_SERVICE: &str = "unknown_service";
const SERVICE_NAME: &str = "service.name";
const RESOURCE_ATTRIBUTES: &str = "OTEL_RESOURCE_ATTRIBUTES";

/// Who sends the spans.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Resource {
    /// The attributes, each key once: `service.name` first, then `telemetry.sdk.{name,language,version}`, then those of
    /// `OTEL_RESOURCE_ATTRIBUTES` in their order.
    pub attributes: Vec<(String, String)>,
    /// The same as an encoded OTLP `Resource` message.
    pub encoded: Vec<u8>,
}

impl Resource {
    /// The resource with these attributes.
    pub fn new(attributes: Vec<(String, String)>) -> Self {
        let mut encoded = Vec::new();
        for (key, value) in &attributes {
            // Resource.attributes is field 1; KeyValue has its key in 1 and its value in 2; AnyValue has text in 1.
            message(&mut encoded, 1, |out| {
                put_bytes(out, 1, key.as_bytes());
                message(out, 2, |out| put_bytes_always(out, 1, value.as_bytes()));
            });
        }
        Self { attributes, encoded }
    }

    /// The value of `service.name`.
    pub fn service_name(&self) -> &str {
        self.attributes.iter().find(|(key, _)| key == SERVICE_NAME).map_or(UNKNOWN_SERVICE, |(_, value)| value)
    }
}

/// The resource (SET9): `service.name` is that of the argument, else `OTEL_SERVICE_NAME`, `HH_SERVICE_NAME`,
/// `OTEL_RESOURCE_ATTRIBUTES`, or the caller's default. `telemetry.sdk.*` says what sends, whatever the environment
/// says.
pub(super) fn resolve(arguments: &Arguments<'_>, environment: &mut Environment<'_>) -> Resource {
    let mut given: Vec<(String, String)> = Vec::new();
    if let Some(text) = environment.text(RESOURCE_ATTRIBUTES) {
        match pairs(&text).collect::<Option<Vec<_>>>() {
            Some(entries) => given = entries,
            // "In case of any error […] the entire environment variable value SHOULD be discarded" (OpenTelemetry
            // specification, Resource SDK).
            None => environment.warn(format!("{RESOURCE_ATTRIBUTES} is not a list of key=value; it is ignored")),
        }
    }
    let service = super::given(arguments.service_name)
        .map(str::to_string)
        .or_else(|| environment.first_text(&["OTEL_SERVICE_NAME", "HH_SERVICE_NAME"]))
        .or_else(|| {
            given.iter().rfind(|(key, value)| key == SERVICE_NAME && !value.is_empty()).map(|(_, value)| value.clone())
        })
        .or_else(|| super::given(Some(arguments.default_service)).map(str::to_string))
        .unwrap_or_else(|| UNKNOWN_SERVICE.to_string());
    let mut attributes = Vec::from([
        (SERVICE_NAME.to_string(), service),
        ("telemetry.sdk.name".to_string(), SDK_NAME.to_string()),
        ("telemetry.sdk.language".to_string(), arguments.language.to_string()),
        ("telemetry.sdk.version".to_string(), arguments.version.to_string()),
    ]);
    let ours = attributes.len();
    for (key, value) in given {
        match attributes.iter().position(|(known, _)| *known == key) {
            Some(index) if index < ours => {}
            // The last of two with the same key holds.
            Some(index) => {
                if let Some(entry) = attributes.get_mut(index) {
                    entry.1 = value;
                }
            }
            None => attributes.push((key, value)),
        }
    }
    Resource::new(attributes)
}

//! The arguments of `Tracer.init` on their way to core.

use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyBool, PyDict};
use tracebaton::settings::Arguments;

use crate::value::type_name;

/// Owned arguments, from the keywords that were given.
pub(crate) struct Given {
    texts: Vec<(&'static str, String)>,
    flags: Vec<(&'static str, bool)>,
    numbers: Vec<(&'static str, usize)>,
    flush_interval: Option<f64>,
    exporter: Vec<String>,
    headers: Vec<(String, String)>,
}

const TEXTS: [&str; 12] = [
    "api_key",
    "project",
    "source",
    "session_id",
    "session_name",
    "server_url",
    "otlp_endpoint",
    "otlp_protocol",
    "service_name",
    "sampler",
    "sampler_argument",
    "default_session_name",
];
const FLAGS: [&str; 6] = ["otlp_enabled", "random_flag", "disable_batch", "verbose", "test_mode", "disable_tracing"];
const NUMBERS: [&str; 7] = [
    "max_attributes",
    "max_events",
    "max_links",
    "max_attributes_per_event",
    "max_attributes_per_link",
    "max_value_length",
    "batch_size",
];

impl Given {
    /// Reads the keywords; one of a wrong type is a `TypeError` that names it. `None` is not given.
    pub(crate) fn of(arguments: &Bound<'_, PyDict>) -> PyResult<Self> {
        Ok(Self {
            texts: each(arguments, &TEXTS, "a str", &["str"], |_| true)?,
            flags: each(arguments, &FLAGS, "a bool", &[], |_| true)?,
            // A bool is an int in Python.
            numbers: each(arguments, &NUMBERS, "an int that is not negative", &["int"], |it| {
                !it.is_instance_of::<PyBool>()
            })?,
            flush_interval: one(arguments, "flush_interval", "a number of seconds", &["int", "float"], |it| {
                !it.is_instance_of::<PyBool>()
            })?,
            exporter: one(arguments, "exporter", "a str or a list of str", &[], |_| true)?.unwrap_or_default(),
            headers: one(arguments, "otlp_headers", "a mapping of str to str", &[], |_| true)?.unwrap_or_default(),
        })
    }

    /// As core takes them; `exporter` and `headers` are those of this value ([`Given::exporter`], [`Given::headers`]).
    pub(crate) fn arguments<'a>(&'a self, exporter: &'a [&'a str], headers: &'a [(&'a str, &'a str)]) -> Arguments<'a> {
        let text = |name| self.texts.iter().find(|(it, _)| *it == name).map(|(_, text)| text.as_str());
        let flag = |name| self.flags.iter().find(|(it, _)| *it == name).map(|(_, flag)| *flag);
        let number = |name| self.numbers.iter().find(|(it, _)| *it == name).map(|(_, number)| *number);
        Arguments {
            api_key: text("api_key"),
            project: text("project"),
            source: text("source"),
            session_id: text("session_id"),
            session_name: text("session_name"),
            server_url: text("server_url"),
            otlp_endpoint: text("otlp_endpoint"),
            otlp_protocol: text("otlp_protocol"),
            otlp_enabled: flag("otlp_enabled"),
            service_name: text("service_name"),
            sampler: text("sampler"),
            sampler_argument: text("sampler_argument"),
            random_flag: flag("random_flag"),
            disable_batch: flag("disable_batch"),
            verbose: flag("verbose"),
            test_mode: flag("test_mode"),
            disable_tracing: flag("disable_tracing"),
            max_attributes: number("max_attributes"),
            max_events: number("max_events"),
            max_links: number("max_links"),
            max_attributes_per_event: number("max_attributes_per_event"),
            max_attributes_per_link: number("max_attributes_per_link"),
            max_value_length: number("max_value_length"),
            batch_size: number("batch_size"),
            flush_interval_s: self.flush_interval,
            default_session_name: text("default_session_name"),
            default_service: "unknown_service:python",
            language: "python",
            version: env!("CARGO_PKG_VERSION"),
            exporter,
            otlp_headers: headers,
        }
    }

    pub(crate) fn exporter(&self) -> Vec<&str> {
        self.exporter.iter().map(String::as_str).collect()
    }

    pub(crate) fn headers(&self) -> Vec<(&str, &str)> {
        self.headers.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect()
    }
}

fn each<T>(
    arguments: &Bound<'_, PyDict>,
    names: &[&'static str],
    wanted: &str,
    types: &[&str],
    fits: fn(&Bound<'_, PyAny>) -> bool,
) -> PyResult<Vec<(&'static str, T)>>
where
    T: for<'a, 'py> FromPyObject<'a, 'py>,
{
    let mut out = Vec::new();
    for name in names {
        if let Some(value) = one(arguments, name, wanted, types, fits)? {
            out.push((*name, value));
        }
    }
    Ok(out)
}

fn one<T>(
    arguments: &Bound<'_, PyDict>,
    name: &str,
    wanted: &str,
    types: &[&str],
    fits: fn(&Bound<'_, PyAny>) -> bool,
) -> PyResult<Option<T>>
where
    T: for<'a, 'py> FromPyObject<'a, 'py>,
{
    let Some(value) = arguments.get_item(name)?.filter(|value| !value.is_none()) else { return Ok(None) };
    match value.extract() {
        Ok(out) if fits(&value) => Ok(Some(out)),
        // A number that is out of bounds, a text that is none, a list of something else.
        _ if types.iter().any(|kind| kind == &type_name(&value)) => {
            Err(PyValueError::new_err(format!("{name} must be {wanted}")))
        }
        _ => Err(PyTypeError::new_err(format!("{name} must be {wanted}, not {}", type_name(&value)))),
    }
}

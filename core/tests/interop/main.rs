//! The types of other crates: `http`, `opentelemetry`, `serde_json`, `uuid`.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]
#![allow(clippy::print_stdout, reason = "what a test prints is shown if it fails")]

mod carriers;
mod conversions;
mod propagator;
mod properties;
#[path = "../support/vectors.rs"]
mod reading;
mod vectors;

use std::collections::HashMap;

use opentelemetry::Context;
use opentelemetry::propagation::{Extractor as OtelExtractor, TextMapPropagator};
use tracebaton::TracebatonPropagator;

const TRACEPARENT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-03";
const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";

/// A carrier of OpenTelemetry that keeps names and lines as they are and finds names in any case, as servers' do.
struct Lines(Vec<(String, String)>);

impl OtelExtractor for Lines {
    fn get(&self, key: &str) -> Option<&str> {
        self.get_all(key)?.first().copied()
    }

    fn keys(&self) -> Vec<&str> {
        self.0.iter().map(|(name, _)| name.as_str()).collect()
    }

    fn get_all(&self, key: &str) -> Option<Vec<&str>> {
        let found = self.0.iter().filter(|(name, _)| name.eq_ignore_ascii_case(key));
        let values: Vec<_> = found.map(|(_, value)| value.as_str()).collect();
        (!values.is_empty()).then_some(values)
    }
}

/// As [`Lines`], and finds a name only as it is spelled there.
struct CaseSensitive(Lines);

impl OtelExtractor for CaseSensitive {
    fn get(&self, key: &str) -> Option<&str> {
        self.get_all(key)?.first().copied()
    }

    fn keys(&self) -> Vec<&str> {
        self.0.keys()
    }

    fn get_all(&self, key: &str) -> Option<Vec<&str>> {
        let found = self.0.0.iter().filter(|(name, _)| name == key);
        let values: Vec<_> = found.map(|(_, value)| value.as_str()).collect();
        (!values.is_empty()).then_some(values)
    }
}

fn lines(headers: &[(&str, &str)]) -> Lines {
    Lines(headers.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect())
}

fn extracted(propagator: &TracebatonPropagator, headers: &[(&str, &str)]) -> Context {
    propagator.extract_with_context(&Context::new(), &lines(headers))
}

fn injected(propagator: &dyn TextMapPropagator, cx: &Context) -> HashMap<String, String> {
    let mut headers = HashMap::new();
    propagator.inject_context(cx, &mut headers);
    headers
}

/// Without source, so that only what came in and what was set is sent.
fn quiet() -> TracebatonPropagator {
    TracebatonPropagator::new().with_source("")
}

//! The side of the opentelemetry crates: their two propagators as a composite, and their own carrier for hash maps.

use std::sync::LazyLock;

use opentelemetry::Context;
use opentelemetry::baggage::BaggageExt as _;
use opentelemetry::propagation::{Extractor, Injector, TextMapCompositePropagator, TextMapPropagator as _};
use opentelemetry::trace::TraceContextExt as _;
use opentelemetry_sdk::propagation::{BaggagePropagator, TraceContextPropagator};

use crate::headers::{List, NAME, Wire};

impl Extractor for List {
    fn get(&self, key: &str) -> Option<&str> {
        self.get(key)
    }

    fn keys(&self) -> Vec<&str> {
        self.0.iter().map(|(name, _)| name.as_str()).collect()
    }
}

impl Injector for List {
    fn set(&mut self, key: &str, value: String) {
        match self.0.iter_mut().find(|(name, _)| name.eq_ignore_ascii_case(key)) {
            Some((_, old)) => *old = value,
            None => self.0.push((key.into(), value)),
        }
    }
}

impl Injector for Wire {
    fn set(&mut self, key: &str, value: String) {
        self.write(key, &value);
    }
}

static PROPAGATOR: LazyLock<TextMapCompositePropagator> = LazyLock::new(|| {
    let both: Vec<Box<dyn opentelemetry::propagation::TextMapPropagator + Send + Sync>> =
        vec![Box::new(TraceContextPropagator::new()), Box::new(BaggagePropagator::new())];
    TextMapCompositePropagator::new(both)
});

/// Takes a request in.
pub fn extract(carrier: &impl Extractor) -> Context {
    PROPAGATOR.extract_with_context(&Context::new(), carrier)
}

/// Trace id, flags, and the length of one baggage value.
pub fn seen(context: &Context) -> ([u8; 16], u8, usize) {
    let span = context.span();
    let span = span.span_context();
    let value = context.baggage().get(NAME).map_or(0, |value| value.as_str().len());
    (span.trace_id().to_bytes(), span.trace_flags().to_u8(), value)
}

/// Sends the context.
pub fn inject(carrier: &mut impl Injector, context: &Context) {
    PROPAGATOR.inject_context(context, carrier);
}

//! What the opentelemetry crates read.

use opentelemetry::Context;
use opentelemetry::baggage::BaggageExt as _;
use opentelemetry::propagation::{Extractor, TextMapPropagator as _};
use opentelemetry::trace::TraceContextExt as _;
use opentelemetry_sdk::propagation::{BaggagePropagator, TraceContextPropagator};

use crate::case::{Kind, Reading};

pub(crate) const TRACEPARENT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

struct Carrier<'a> {
    kind: Kind,
    values: &'a [String],
}

impl Extractor for Carrier<'_> {
    fn get(&self, key: &str) -> Option<&str> {
        match key {
            "traceparent" if self.kind == Kind::Tracestate => Some(TRACEPARENT),
            key if key == self.kind.name() => self.values.first().map(String::as_str),
            _ => None,
        }
    }

    fn keys(&self) -> Vec<&str> {
        vec![self.kind.name()]
    }

    fn get_all(&self, key: &str) -> Option<Vec<&str>> {
        (key == self.kind.name()).then(|| self.values.iter().map(String::as_str).collect())
    }
}

pub(crate) fn read(kind: Kind, values: &[String]) -> Reading {
    let carrier = Carrier { kind, values };
    if kind == Kind::Baggage {
        let context = BaggagePropagator::new().extract_with_context(&Context::new(), &carrier);
        let entry = |(name, (value, properties)): (&opentelemetry::Key, &(opentelemetry::StringValue, _))| {
            let properties: &opentelemetry::baggage::BaggageMetadata = properties;
            (name.to_string(), (value.to_string(), properties.as_str().to_owned()))
        };
        return Reading::Baggage(context.baggage().iter().map(entry).collect());
    }
    let context = TraceContextPropagator::new().extract_with_context(&Context::new(), &carrier);
    let span = context.span();
    let span = span.span_context();
    match kind {
        Kind::Traceparent => Reading::Traceparent(
            span.is_valid()
                .then(|| (span.trace_id().to_string(), span.span_id().to_string(), span.trace_flags().to_u8())),
        ),
        _ => Reading::Tracestate(
            span.trace_state().into_iter().map(|(key, value)| (key.to_owned(), value.to_owned())).collect(),
        ),
    }
}

//! A span of ten attributes, recorded and encoded as an entry of `ScopeSpans.spans`, into a buffer that has room: with
//! random ids, and with two texts that are the program's own, known at run time only. The SDK keeps values until the span
//! ends, so that it has to be given copies of these; core encodes what it is lent. Times are given to both sides: reading
//! the clock is neither's.

use std::hint::black_box;
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use opentelemetry::trace::{Span as _, Tracer as _, TracerProvider as _};
use opentelemetry::{Context, KeyValue};
use opentelemetry_proto::tonic::trace::v1 as proto;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::trace::{SdkTracer, SdkTracerProvider, SpanData, SpanProcessor};
use rand::rngs::SmallRng;
use rand::{Rng as _, SeedableRng as _};
use tracebaton::record::{Recording, SpanRecord};
use tracebaton::routing::Routing;

const MODEL: &str = "gpt-4o-mini";
const PROMPT: &str = "Summarise the following text in three sentences for a reader in a hurry.";

/// A text that the compiler does not know.
fn text(text: &str) -> &str {
    black_box(text)
}

/// When the span begins and ends, in nanoseconds since 1970.
const TIMES: (u64, u64) = (1_700_000_000_000_000_000, 1_700_000_000_250_000_000);

fn system_time(ns: u64) -> SystemTime {
    SystemTime::UNIX_EPOCH.checked_add(Duration::from_nanos(ns)).unwrap_or(SystemTime::UNIX_EPOCH)
}

/// Core's side.
#[derive(Debug)]
pub struct Ours {
    random: SmallRng,
    recording: Recording,
    routing: Routing,
    batch: Vec<u8>,
}

impl Ours {
    /// With nothing routed, as the other side has no such attributes.
    pub fn new() -> Self {
        Self {
            random: SmallRng::from_os_rng(),
            recording: Recording::default(),
            routing: Routing::default(),
            batch: Vec::new(),
        }
    }

    /// Records and encodes a span. The bytes are valid until the next one.
    pub fn record(&mut self) -> &[u8] {
        let random = (self.random.random::<u128>().to_ne_bytes(), self.random.random::<u64>().to_ne_bytes());
        let mut span = SpanRecord::start("chat", None, &self.recording, random, TIMES.0);
        span.set_attribute("gen_ai.operation.name", "chat");
        span.set_attribute("gen_ai.request.model", MODEL);
        span.set_attribute("gen_ai.request.temperature", 0.7);
        span.set_attribute("gen_ai.request.max_tokens", 1024);
        span.set_attribute("gen_ai.usage.input_tokens", 312);
        span.set_attribute("gen_ai.usage.output_tokens", 87);
        span.set_attribute("app.prompt", text(PROMPT));
        span.set_attribute("app.streamed", true);
        span.set_attribute("server.address", text("api.example.com"));
        span.set_attribute("app.attempt", 1);
        span.end(TIMES.1);
        self.batch.clear();
        span.encode(&mut self.batch, &self.routing);
        &self.batch
    }
}

impl Default for Ours {
    fn default() -> Self {
        Self::new()
    }
}

/// Encodes each span as it ends, in place of a queue and an exporter.
#[derive(Clone, Debug, Default)]
struct Encode(Arc<Mutex<Vec<u8>>>);

impl SpanProcessor for Encode {
    fn on_start(&self, _span: &mut opentelemetry_sdk::trace::Span, _context: &Context) {}

    fn on_end(&self, span: SpanData) {
        let span = proto::Span::from(span);
        if let Ok(mut batch) = self.0.lock() {
            batch.clear();
            // An entry of ScopeSpans.spans.
            prost::encoding::message::encode(2, &span, &mut *batch);
        }
    }

    fn force_flush(&self) -> OTelSdkResult {
        Ok(())
    }

    fn shutdown_with_timeout(&self, _timeout: Duration) -> OTelSdkResult {
        Ok(())
    }
}

/// The side of the opentelemetry crates: their SDK's spans, encoded by prost.
#[derive(Debug)]
pub struct Theirs {
    tracer: SdkTracer,
    encoded: Encode,
}

impl Theirs {
    /// With the SDK's defaults, and no exporter.
    pub fn new() -> Self {
        let encoded = Encode::default();
        let provider = SdkTracerProvider::builder().with_span_processor(encoded.clone()).build();
        Self { tracer: provider.tracer("bench"), encoded }
    }

    /// Records and encodes a span, and tells how many bytes it has.
    pub fn record(&self) -> usize {
        let builder = self.tracer.span_builder("chat").with_start_time(system_time(TIMES.0));
        let mut span = builder.start_with_context(&self.tracer, &Context::new());
        span.set_attribute(KeyValue::new("gen_ai.operation.name", "chat"));
        span.set_attribute(KeyValue::new("gen_ai.request.model", MODEL));
        span.set_attribute(KeyValue::new("gen_ai.request.temperature", 0.7));
        span.set_attribute(KeyValue::new("gen_ai.request.max_tokens", 1024));
        span.set_attribute(KeyValue::new("gen_ai.usage.input_tokens", 312));
        span.set_attribute(KeyValue::new("gen_ai.usage.output_tokens", 87));
        span.set_attribute(KeyValue::new("app.prompt", text(PROMPT).to_owned()));
        span.set_attribute(KeyValue::new("app.streamed", true));
        span.set_attribute(KeyValue::new("server.address", text("api.example.com").to_owned()));
        span.set_attribute(KeyValue::new("app.attempt", 1));
        span.end_with_timestamp(system_time(TIMES.1));
        self.encoded.0.lock().map(|batch| batch.len()).unwrap_or_default()
    }

    /// The bytes of the last span.
    pub fn bytes(&self) -> Vec<u8> {
        self.encoded.0.lock().map(|batch| batch.clone()).unwrap_or_default()
    }
}

impl Default for Theirs {
    fn default() -> Self {
        Self::new()
    }
}

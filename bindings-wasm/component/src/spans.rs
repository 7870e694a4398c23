//! The interface `spans`.

use alloc::string::{String, ToString};
use alloc::vec::Vec;

use tracebaton::event_type::{Derivation, EVENT_TYPE};
use tracebaton::flatten::{Options, flatten as flattened};
use tracebaton::limits::Limits;
use tracebaton::otlp::envelope::{self, ScopeRun};
use tracebaton::otlp::json::{self, Enums};
use tracebaton::otlp::protobuf::put_bytes_always;
use tracebaton::otlp::reader::{Malformed, Repeated};
use tracebaton::record::{Recording, SpanRecord};
use tracebaton::redact::Redaction;
use tracebaton::routing::{Routing, RoutingValues};
use tracebaton::sampler::Sampler;
use tracebaton::span::{Kind, StatusCode, instrumentation_scope, resource as resource_message};
use tracebaton::value::Value;

use self::nodes::{into_nodes, of_nodes};
use crate::Component;
use crate::bindings::exports::tracebaton::context::spans as wit;
use crate::bindings::wasi::clocks::{monotonic_clock, wall_clock};
use crate::convert::{number, span_context, span_context_or_none};

mod nodes;

impl wit::Guest for Component {
    fn now() -> wit::Instant {
        let wall_clock::Datetime { seconds, nanoseconds } = wall_clock::now();
        let unix_ns = seconds.saturating_mul(1_000_000_000).saturating_add(nanoseconds.into());
        wit::Instant { unix_ns, monotonic_ns: monotonic_clock::now() }
    }

    fn since(start: wit::Instant) -> u64 {
        start.unix_ns.saturating_add(monotonic_clock::now().saturating_sub(start.monotonic_ns))
    }

    fn default_limits() -> wit::Limits {
        let limits = Limits::default();
        wit::Limits {
            attributes: number(limits.attributes),
            events: number(limits.events),
            links: number(limits.links),
            attributes_per_event: number(limits.attributes_per_event),
            attributes_per_link: number(limits.attributes_per_link),
            value_length: limits.value_length.map(number),
            value_depth: number(limits.value_depth),
        }
    }

    fn build(span: wit::Span, routing: wit::Routing, given: Option<wit::Limits>) -> Result<Vec<u8>, wit::Error> {
        let context = span_context(&span.context)?;
        let parent = span_context_or_none(span.parent.as_ref())?;
        // Whether it is sampled, and what its ids are, is in its context.
        let sampler = if context.flags.is_sampled() { Sampler::AlwaysOn } else { Sampler::AlwaysOff };
        let recording = Recording { sampler, limits: limits(given), ..Recording::default() };
        let ids = (context.trace_id.to_bytes(), context.span_id.to_bytes());
        let mut record = SpanRecord::start(span.name, parent.as_ref(), &recording, ids, span.start_ns);
        record.context = context;
        record.kind = kind(span.kind);
        for (key, value) in pairs(span.attributes)? {
            record.set_attribute(&key, value);
        }
        for event in span.events {
            record.add_event(event.time_ns, &event.name, entries(&pairs(event.attributes)?));
        }
        for link in span.links {
            record.add_link(&span_context(&link.context)?, entries(&pairs(link.attributes)?));
        }
        for status in span.statuses {
            record.set_status(status_code(status.code), &status.description);
        }
        record.end(span.end_ns);
        let routing = Routing::new(&RoutingValues {
            session: routing.session.as_deref(),
            otel_session: routing.otel_session.as_deref(),
            session_name: routing.session_name.as_deref(),
            project: routing.project.as_deref(),
            source: routing.source.as_deref(),
        });
        let mut entry = Vec::new();
        record.encode(&mut entry, &routing);
        // The message without what makes it an entry of a list.
        Ok(Repeated::of(&entry, SPANS).flatten().next().map(<[u8]>::to_vec).unwrap_or_default())
    }

    fn encode_protobuf(resource: Vec<wit::Attribute>, runs: Vec<wit::Run>) -> Result<Vec<u8>, wit::Error> {
        request(resource, runs, |resource, runs| {
            let mut out = Vec::new();
            envelope::protobuf(resource, runs, &mut out);
            Ok(out)
        })
    }

    fn encode_json(
        resource: Vec<wit::Attribute>,
        runs: Vec<wit::Run>,
        dialect: wit::Dialect,
    ) -> Result<String, wit::Error> {
        request(resource, runs, |resource, runs| {
            let mut out = Vec::new();
            envelope::json(resource, runs, enums(dialect), &mut out).map_err(malformed)?;
            Ok(text(out))
        })
    }

    fn span_json(span: Vec<u8>, dialect: wit::Dialect) -> Result<String, wit::Error> {
        let mut out = Vec::new();
        json::span(&span, enums(dialect), &mut out).map_err(malformed)?;
        Ok(text(out))
    }

    fn flatten(
        prefix: String,
        nodes: wit::Value,
        options: Option<wit::FlattenOptions>,
    ) -> Result<Vec<wit::Attribute>, wit::Error> {
        let value = of_nodes(nodes, &prefix)?;
        let options = options.map_or_else(Options::default, |given| Options {
            redaction: redaction(given.redaction),
            leaves: given.leaves as usize,
            depth: given.depth as usize,
            captured_bytes: given.captured_bytes as usize,
        });
        let mut found = Vec::new();
        flattened(&prefix, &value, &options, &mut |key, value| found.push((key.to_string(), into_nodes(value))));
        Ok(found)
    }

    fn redact(key: String, nodes: wit::Value, given: wit::Redaction) -> Result<wit::Value, wit::Error> {
        let mut value = of_nodes(nodes, &key)?;
        redaction(given).apply(&key, &mut value);
        Ok(into_nodes(value))
    }

    fn is_secret_key(key: String, given: wit::Redaction) -> bool {
        redaction(given).is_secret_key(&key)
    }

    fn event_type(attributes: Vec<wit::Attribute>) -> Result<String, wit::Error> {
        let attributes = pairs(attributes)?;
        let mut derivation = Derivation::default();
        for (key, value) in &attributes {
            derivation.see(key, value.as_str());
        }
        let own = attributes.iter().rev().find(|(key, _)| key == EVENT_TYPE).and_then(|(_, value)| value.as_str());
        Ok(own.filter(|_| derivation.is_explicit()).unwrap_or(derivation.result().as_str()).to_string())
    }
}

type Pairs = Vec<(String, Value<'static>)>;

/// The attributes as core has them.
fn pairs(given: Vec<wit::Attribute>) -> Result<Pairs, wit::Error> {
    given.into_iter().map(|(key, nodes)| of_nodes(nodes, &key).map(|value| (key, value))).collect()
}

/// The same, of which each value is used once.
fn entries(pairs: &Pairs) -> impl Iterator<Item = (&str, Value<'_>)> {
    pairs.iter().map(|(key, value)| (key.as_str(), value.clone()))
}

fn limits(given: Option<wit::Limits>) -> Limits {
    let Some(given) = given else { return Limits::default() };
    Limits {
        attributes: given.attributes as usize,
        events: given.events as usize,
        links: given.links as usize,
        attributes_per_event: given.attributes_per_event as usize,
        attributes_per_link: given.attributes_per_link as usize,
        value_length: given.value_length.map(|length| length as usize),
        value_depth: given.value_depth as usize,
        ..Limits::default()
    }
}

/// The field of `ScopeSpans` that spans stand in.
const SPANS: u32 = 2;

const fn kind(kind: wit::Kind) -> Kind {
    match kind {
        wit::Kind::Internal => Kind::Internal,
        wit::Kind::Server => Kind::Server,
        wit::Kind::Client => Kind::Client,
        wit::Kind::Producer => Kind::Producer,
        wit::Kind::Consumer => Kind::Consumer,
    }
}

const fn status_code(code: wit::StatusCode) -> StatusCode {
    match code {
        wit::StatusCode::Unset => StatusCode::Unset,
        wit::StatusCode::Ok => StatusCode::Ok,
        wit::StatusCode::Error => StatusCode::Error,
    }
}

const fn enums(dialect: wit::Dialect) -> Enums {
    match dialect {
        wit::Dialect::Numbers => Enums::Numbers,
        wit::Dialect::Names => Enums::Names,
    }
}

/// A run whose parts are encoded.
struct Run {
    scope: Vec<u8>,
    schema_url: String,
    spans: Vec<u8>,
}

impl Run {
    fn of(given: wit::Run) -> Result<Self, wit::Error> {
        let attributes = pairs(given.scope_attributes)?;
        let scope = instrumentation_scope(&given.scope_name, &given.scope_version, entries(&attributes));
        let mut spans = Vec::new();
        // A span that is not sampled is no bytes.
        for span in given.spans.iter().filter(|span| !span.is_empty()) {
            put_bytes_always(&mut spans, SPANS, span);
        }
        Ok(Self { scope, schema_url: given.schema_url, spans })
    }

    fn view(&self) -> ScopeRun<'_> {
        ScopeRun { scope: &self.scope, schema_url: &self.schema_url, spans: &self.spans }
    }
}

/// Calls `encode` with the encoded resource and the runs.
fn request<T>(
    resource: Vec<wit::Attribute>,
    runs: Vec<wit::Run>,
    encode: impl FnOnce(&[u8], &[ScopeRun<'_>]) -> Result<T, wit::Error>,
) -> Result<T, wit::Error> {
    let attributes = pairs(resource)?;
    let resource = resource_message(entries(&attributes));
    let runs = runs.into_iter().map(Run::of).collect::<Result<Vec<_>, _>>()?;
    encode(&resource, &runs.iter().map(Run::view).collect::<Vec<_>>())
}

fn malformed(_: Malformed) -> wit::Error {
    wit::Error::Malformed("OJ10".to_string())
}

/// JSON that core wrote, which is UTF-8.
fn text(json: Vec<u8>) -> String {
    String::from_utf8(json).unwrap_or_default()
}

fn redaction(given: wit::Redaction) -> Redaction {
    match given {
        wit::Redaction::Standard => Redaction::Default,
        wit::Redaction::Also(names) => Redaction::Also(names),
        wit::Redaction::Off => Redaction::Off,
    }
}

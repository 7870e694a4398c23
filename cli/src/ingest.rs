//! OTLP requests to spans: decoding, and reading the fields that the viewer groups and labels by.

use axum::http::{HeaderMap, header};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTracePartialSuccess, ExportTraceServiceRequest, ExportTraceServiceResponse,
};
use opentelemetry_proto::tonic::common::v1::{AnyValue, InstrumentationScope, KeyValue, any_value};
use opentelemetry_proto::tonic::trace::v1::{self as otlp, span::SpanKind, status::StatusCode};
use prost::Message;
use serde_json::value::{RawValue, to_raw_value};
use serde_json::{Map, Value, json};

use crate::body::Refusal;
use crate::budget;
use crate::otlp_json;
use crate::span::{Span, Status};

/// The longest session id that is one, in characters.
pub(crate) const MAX_SESSION_ID: usize = 256;

/// The encodings of OTLP over HTTP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Format {
    Protobuf,
    Json,
}

impl Format {
    /// From `Content-Type`; none for another one, or for none at all.
    pub(crate) fn of(headers: &HeaderMap) -> Option<Self> {
        let value = headers.get(header::CONTENT_TYPE)?.to_str().ok()?;
        let essence = value.split(';').next().unwrap_or_default().trim();
        if essence.eq_ignore_ascii_case("application/x-protobuf") {
            Some(Self::Protobuf)
        } else if essence.eq_ignore_ascii_case("application/json") {
            Some(Self::Json)
        } else {
            None
        }
    }

    /// The content type of the answer.
    pub(crate) fn content_type(self) -> &'static str {
        match self {
            Self::Protobuf => "application/x-protobuf",
            Self::Json => "application/json",
        }
    }
}

/// What a request held.
pub(crate) struct Batch {
    pub(crate) spans: Vec<Span>,
    /// Where they come from, as JSON objects `{resource, scope}`: a span's `origin` is an index of this.
    pub(crate) origins: Vec<String>,
    /// Session ids with the names that spans gave them (`honeyhive.session_name`).
    pub(crate) session_names: Vec<(String, String)>,
    /// Spans without valid ids, which have no place in any tree.
    pub(crate) rejected: i64,
}

impl Batch {
    /// The body of the answer: empty in protobuf and `{}` in JSON unless spans were rejected.
    pub(crate) fn response(&self, format: Format) -> Vec<u8> {
        let message = "spans without a valid trace id, span id or parent span id";
        match format {
            Format::Json if self.rejected == 0 => b"{}".to_vec(),
            Format::Json => {
                json!({"partialSuccess": {"rejectedSpans": self.rejected.to_string(), "errorMessage": message}})
                    .to_string()
                    .into_bytes()
            }
            Format::Protobuf => {
                let partial =
                    ExportTracePartialSuccess { rejected_spans: self.rejected, error_message: message.to_owned() };
                ExportTraceServiceResponse { partial_success: (self.rejected > 0).then_some(partial) }.encode_to_vec()
            }
        }
    }
}

/// Decodes an `ExportTraceServiceRequest`. What is not one is refused with 400, what is too much with 413.
pub(crate) fn decode(bytes: &[u8], format: Format) -> Result<Batch, Refusal> {
    let request = match format {
        Format::Protobuf => {
            budget::check_protobuf(bytes)?;
            ExportTraceServiceRequest::decode(bytes)
                .map_err(|_| Refusal::bad("the body is not an ExportTraceServiceRequest in protobuf"))?
        }
        Format::Json => {
            budget::check_json(bytes)?;
            let value = serde_json::from_slice(bytes)
                .map_err(|error| Refusal::bad(format!("the body is not JSON (line {})", error.line())))?;
            let value = otlp_json::normalise(value)
                .map_err(|error| Refusal::bad(format!("the body is not an ExportTraceServiceRequest: {error}")))?;
            serde_json::from_value(value)
                .map_err(|_| Refusal::bad("the body is not an ExportTraceServiceRequest in JSON"))?
        }
    };
    let scopes = request.resource_spans.iter().flat_map(|resource| &resource.scope_spans);
    budget::check_spans(scopes.map(|scope| scope.spans.len()).sum())?;
    Ok(batch(request))
}

fn batch(request: ExportTraceServiceRequest) -> Batch {
    let mut batch = Batch { spans: Vec::new(), origins: Vec::new(), session_names: Vec::new(), rejected: 0 };
    for resource_spans in request.resource_spans {
        let resource = object(&resource_spans.resource.unwrap_or_default().attributes);
        for scope_spans in resource_spans.scope_spans {
            let origin = batch.origins.len();
            batch.origins.push(describe_origin(&resource, scope_spans.scope));
            for span in scope_spans.spans {
                match convert(span, &resource, origin as i64, &mut batch.session_names) {
                    Some(span) => batch.spans.push(span),
                    None => batch.rejected += 1,
                }
            }
        }
    }
    batch.session_names.sort();
    batch.session_names.dedup();
    batch
}

/// `{resource, scope}` as JSON text.
fn describe_origin(resource: &Map<String, Value>, scope: Option<InstrumentationScope>) -> String {
    let scope = scope.unwrap_or_default();
    json!({
        "resource": resource,
        "scope": {"name": scope.name, "version": scope.version, "attributes": object(&scope.attributes)},
    })
    .to_string()
}

/// None for a span whose ids are not ids.
fn convert(
    span: otlp::Span,
    resource: &Map<String, Value>,
    origin: i64,
    session_names: &mut Vec<(String, String)>,
) -> Option<Span> {
    let trace_id = id(&span.trace_id, 16)?;
    let span_id = id(&span.span_id, 8)?;
    // No parent is an empty id; some senders write one of zeros.
    let parent_span_id = match span.parent_span_id.iter().all(|byte| *byte == 0) {
        true => None,
        false => Some(id(&span.parent_span_id, 8)?),
    };
    let attributes = object(&span.attributes);
    let text = |keys: &[&str]| keys.iter().find_map(|key| text_of(attributes.get(*key)));
    // What the whole process says of itself holds where the span says nothing.
    let text_or_resource =
        |keys: &[&str]| text(keys).or_else(|| keys.iter().find_map(|key| text_of(resource.get(*key))));

    let session_id =
        text_or_resource(&["honeyhive.session_id", "traceloop.association.properties.session_id", "session.id"])
            .filter(|session| session.chars().count() <= MAX_SESSION_ID);
    if let (Some(session), Some(name)) = (&session_id, text(&["honeyhive.session_name"])) {
        // Nearly always the same as that of the span before.
        let named = (session.clone(), name);
        if session_names.last() != Some(&named) {
            session_names.push(named);
        }
    }
    let status = status_of(span.status.unwrap_or_default());
    let error = text(&["honeyhive_error"])
        .filter(|_| status.message.is_empty())
        .or_else(|| (status.code == "ERROR").then(|| status.message.clone()));

    Some(Span {
        parent_span_id,
        session_id,
        kind: kind_of(span.kind).to_owned(),
        service: text_of(resource.get("service.name")),
        source: text_or_resource(&["honeyhive.source", "traceloop.association.properties.source"]),
        project: text_or_resource(&["honeyhive.project", "traceloop.association.properties.project"]),
        event_type: event_type(&attributes),
        start_ns: time(span.start_time_unix_nano),
        end_ns: time(span.end_time_unix_nano),
        status,
        error,
        trace_state: span.trace_state,
        events: raw(Value::from_iter(span.events.iter().map(|event| {
            json!({
                "name": event.name,
                "time_ns": event.time_unix_nano.to_string(),
                "attributes": object(&event.attributes),
            })
        })))?,
        links: raw(Value::from_iter(span.links.iter().map(|link| {
            json!({
                "trace_id": hex(&link.trace_id),
                "span_id": hex(&link.span_id),
                "trace_state": link.trace_state,
                "attributes": object(&link.attributes),
            })
        })))?,
        attributes: raw(Value::Object(attributes))?,
        origin,
        name: span.name,
        trace_id,
        span_id,
    })
}

fn raw(value: Value) -> Option<Box<RawValue>> {
    to_raw_value(&value).ok()
}

/// An id in hex; none if it has another length or is all zeros.
fn id(bytes: &[u8], length: usize) -> Option<String> {
    (bytes.len() == length && bytes.iter().any(|byte| *byte != 0)).then(|| hex(bytes))
}

fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write;
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        let _ = write!(text, "{byte:02x}"); // writing to a String does not fail
        text
    })
}

/// SQLite's integers have a sign: the last instant is in the year 2262.
fn time(nanos: u64) -> u64 {
    nanos.min(i64::MAX as u64)
}

/// A non-empty text; numbers and booleans are taken as they are written.
fn text_of(value: Option<&Value>) -> Option<String> {
    match value? {
        Value::String(text) if !text.is_empty() => Some(text.clone()),
        value @ (Value::Number(_) | Value::Bool(_)) => Some(value.to_string()),
        _ => None,
    }
}

fn status_of(status: otlp::Status) -> Status {
    let code = match StatusCode::try_from(status.code) {
        Ok(StatusCode::Error) => "ERROR",
        Ok(StatusCode::Ok) => "OK",
        _ => "UNSET",
    };
    Status { code: code.to_owned(), message: status.message }
}

fn kind_of(kind: i32) -> &'static str {
    let name = SpanKind::try_from(kind).unwrap_or_default().as_str_name();
    name.strip_prefix("SPAN_KIND_").unwrap_or(name)
}

/// What the span says it is, or what the two conventions for language models say; nothing is guessed from names.
fn event_type(attributes: &Map<String, Value>) -> Option<String> {
    let text = |key| text_of(attributes.get(key));
    if let Some(explicit) = text("honeyhive_event_type").or_else(|| text("honeyhive.event_type")) {
        return Some(explicit);
    }
    let by_operation = text("gen_ai.operation.name").and_then(|operation| match operation.as_str() {
        "chat" | "text_completion" | "generate_content" => Some("model"),
        "invoke_agent" | "create_agent" => Some("chain"),
        "execute_tool" => Some("tool"),
        _ => None,
    });
    let by_kind = || match text("openinference.span.kind")?.as_str() {
        "LLM" => Some("model"),
        "CHAIN" | "AGENT" => Some("chain"),
        "TOOL" | "RETRIEVER" | "EMBEDDING" | "RERANKER" | "GUARDRAIL" => Some("tool"),
        _ => None,
    };
    by_operation.or_else(by_kind).map(str::to_owned)
}

fn object(attributes: &[KeyValue]) -> Map<String, Value> {
    attributes.iter().map(|pair| (pair.key.clone(), plain(pair.value.as_ref()))).collect()
}

/// An OTLP value as plain JSON. Bytes become base64; what JSON's numbers cannot hold becomes text.
fn plain(value: Option<&AnyValue>) -> Value {
    /// The largest integer that JavaScript, which shows these, can hold.
    const MAX_SAFE: u64 = (1 << 53) - 1;
    match value.and_then(|value| value.value.as_ref()) {
        None | Some(any_value::Value::StringValueStrindex(_)) => Value::Null,
        Some(any_value::Value::StringValue(text)) => Value::String(text.clone()),
        Some(any_value::Value::BoolValue(flag)) => Value::Bool(*flag),
        Some(any_value::Value::IntValue(number)) if number.unsigned_abs() > MAX_SAFE => {
            Value::String(number.to_string())
        }
        Some(any_value::Value::IntValue(number)) => Value::from(*number),
        Some(any_value::Value::DoubleValue(number)) => match serde_json::Number::from_f64(*number) {
            Some(number) => Value::Number(number),
            None if number.is_nan() => Value::from("NaN"),
            None if *number > 0.0 => Value::from("Infinity"),
            None => Value::from("-Infinity"),
        },
        Some(any_value::Value::ArrayValue(array)) => {
            Value::from_iter(array.values.iter().map(|value| plain(Some(value))))
        }
        Some(any_value::Value::KvlistValue(list)) => Value::Object(object(&list.values)),
        Some(any_value::Value::BytesValue(bytes)) => json!({"bytesValue": STANDARD.encode(bytes)}),
    }
}

//! The envelope that spans are sent in: an `ExportTraceServiceRequest`, as protobuf or as JSON.
//!
//! Spans arrive as runs, encoded already as entries of `ScopeSpans.spans`: to wrap them costs a copy.

use alloc::vec::Vec;

use super::json::{self, Enums, all_or_nothing};
use super::protobuf::{put_varint, varint_len};
use super::reader::{Malformed, Repeated};

/// Spans in a row that have the same instrumentation scope.
#[derive(Clone, Copy, Debug)]
pub struct ScopeRun<'a> {
    /// The encoded `InstrumentationScope`.
    pub scope: &'a [u8],
    /// The schema that the scope's spans follow (`ScopeSpans.schema_url`); empty if it named none.
    pub schema_url: &'a str,
    /// Entries of `ScopeSpans.spans`, one after the other: `0x12`, the length, the encoded `Span`.
    pub spans: &'a [u8],
}

/// Runs of spans that have the same resource.
#[derive(Clone, Copy, Debug)]
pub struct ResourceRuns<'a> {
    /// The encoded `Resource`.
    pub resource: &'a [u8],
    /// Its spans.
    pub runs: &'a [ScopeRun<'a>],
}

/// The tag of `ExportTraceServiceRequest.resource_spans`, `ResourceSpans.resource` and `ScopeSpans.scope`: field 1.
const FIELD_1: u8 = 0x0a;
/// The tag of `ResourceSpans.scope_spans` and `ScopeSpans.spans`: field 2.
const FIELD_2: u8 = 0x12;
/// The tag of `ScopeSpans.schema_url`: field 3.
const FIELD_3: u8 = 0x1a;

/// Appends an `ExportTraceServiceRequest` with one `ResourceSpans`. Runs without spans are left out, and if there are
/// no others nothing is appended: the request is empty. Since `resource_spans` is a repeated field, a request with
/// several resources is made by appending several.
pub fn protobuf(resource: &[u8], runs: &[ScopeRun<'_>], out: &mut Vec<u8>) {
    // The lengths come first on the wire and batches are large: reckoned beforehand, nothing has to be moved.
    let mut length = field_len(resource.len());
    let mut spans = 0_usize;
    for run in runs.iter().filter(|run| !run.spans.is_empty()) {
        length = length.saturating_add(field_len(scope_spans_len(run)));
        spans = spans.saturating_add(run.spans.len());
    }
    if spans == 0 {
        return;
    }
    out.reserve(field_len(length));
    put_head(out, FIELD_1, length);
    put_head(out, FIELD_1, resource.len());
    out.extend_from_slice(resource);
    for run in runs.iter().filter(|run| !run.spans.is_empty()) {
        put_head(out, FIELD_2, scope_spans_len(run));
        put_head(out, FIELD_1, run.scope.len());
        out.extend_from_slice(run.scope);
        out.extend_from_slice(run.spans);
        if !run.schema_url.is_empty() {
            put_head(out, FIELD_3, run.schema_url.len());
            out.extend_from_slice(run.schema_url.as_bytes());
        }
    }
}

fn scope_spans_len(run: &ScopeRun<'_>) -> usize {
    let schema_url = if run.schema_url.is_empty() { 0 } else { field_len(run.schema_url.len()) };
    field_len(run.scope.len()).saturating_add(run.spans.len()).saturating_add(schema_url)
}

/// How many bytes a field takes whose content takes `content` bytes: a tag, the length, the content.
fn field_len(content: usize) -> usize {
    varint_len(content as u64).saturating_add(1).saturating_add(content)
}

fn put_head(out: &mut Vec<u8>, tag: u8, length: usize) {
    out.push(tag);
    put_varint(out, length as u64);
}

/// Appends an `ExportTraceServiceRequest` of one resource as JSON: see [`json_many`].
///
/// # Errors
///
/// How something in it is malformed; `out` is then as it was.
pub fn json(resource: &[u8], runs: &[ScopeRun<'_>], enums: Enums, out: &mut Vec<u8>) -> Result<(), Malformed> {
    json_many(&[ResourceRuns { resource, runs }], enums, out)
}

/// Appends an `ExportTraceServiceRequest` as JSON. Runs without spans are left out, and so are resources without
/// runs; if nothing is left the request is `{"resourceSpans":[]}`.
///
/// # Errors
///
/// How a resource, a scope or a span is malformed; `out` is then as it was (rule OJ10).
pub fn json_many(resources: &[ResourceRuns<'_>], enums: Enums, out: &mut Vec<u8>) -> Result<(), Malformed> {
    all_or_nothing(out, |out| {
        out.extend_from_slice(b"{\"resourceSpans\":[");
        let with_spans = resources.iter().filter(|one| one.runs.iter().any(|run| !run.spans.is_empty()));
        for (i, ResourceRuns { resource, runs }) in with_spans.enumerate() {
            comma(i, out);
            out.extend_from_slice(b"{\"resource\":");
            json::resource(resource, enums, out)?;
            out.extend_from_slice(b",\"scopeSpans\":[");
            for (i, run) in runs.iter().filter(|run| !run.spans.is_empty()).enumerate() {
                comma(i, out);
                out.extend_from_slice(b"{\"scope\":");
                json::scope(run.scope, enums, out)?;
                out.extend_from_slice(b",\"spans\":[");
                for (i, span) in Repeated::of(run.spans, 2).enumerate() {
                    comma(i, out);
                    json::span(span?, enums, out)?;
                }
                out.push(b']');
                if !run.schema_url.is_empty() {
                    out.extend_from_slice(b",\"schemaUrl\":");
                    json::text(run.schema_url, out);
                }
                out.push(b'}');
            }
            out.extend_from_slice(b"]}");
        }
        out.extend_from_slice(b"]}");
        Ok(())
    })
}

fn comma(index: usize, out: &mut Vec<u8>) {
    if index > 0 {
        out.push(b',');
    }
}

//! OTLP into a real viewer, in every form, and out of it by its API and by the command.
#![allow(clippy::unwrap_used, reason = "in a test a panic is the report")]

mod support;

use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceResponse;
use opentelemetry_proto::tonic::trace::v1::Status;
use prost::Message;
use serde_json::{Value, json};
use support::{JSON, PROTOBUF, Viewer, attribute, gzip, request, span};

/// Two services, one session, one trace: `call` in the client and `serve` with a failing `tool` in the server.
fn two_services() -> Vec<Vec<u8>> {
    let session = attribute("honeyhive.session_id", "s-1");
    let mut call = span(1, 0, "call", 100, 200);
    call.attributes =
        vec![session.clone(), attribute("honeyhive.source", "client"), attribute("honeyhive.project", "p")];
    call.attributes.push(attribute("honeyhive_event_type", "chain"));
    let mut serve = span(2, 1, "serve", 110, 190);
    serve.kind = 2;
    serve.attributes = vec![session.clone(), attribute("honeyhive.source", "server")];
    let mut tool = span(3, 2, "tool", 120, 130);
    tool.attributes = vec![session, attribute("gen_ai.operation.name", "execute_tool")];
    tool.status = Some(Status { code: 2, message: "no such city".to_owned() });
    // The server's spans arrive first, and its children before their parent.
    vec![request("agent", vec![tool, serve]).encode_to_vec(), request("app", vec![call]).encode_to_vec()]
}

fn assert_two_services(viewer: &Viewer) {
    let sessions = viewer.sessions();
    assert_eq!(sessions.len(), 1);
    let expected = json!({
        "session_id": "s-1", "session_name": null, "project": "p", "first_ns": "100000000", "last_ns": "200000000",
        "span_count": 3, "trace_count": 1, "error_count": 1, "services": ["agent", "app"],
        "sources": ["client", "server"], "properties": null,
    });
    assert_eq!(sessions[0], expected);

    let forest = viewer.session("s-1");
    assert_eq!(forest["session"], expected);
    let spans = forest["spans"].as_array().unwrap();
    let brief: Vec<Value> =
        spans.iter().map(|span| json!([span["name"], span["depth"], span["service"], span["event_type"]])).collect();
    let expected_brief =
        [json!(["call", 0, "app", "chain"]), json!(["serve", 1, "agent", null]), json!(["tool", 2, "agent", "tool"])];
    assert_eq!(brief, expected_brief);
    let trace = "01".repeat(16);
    for (span, (id, parent)) in spans.iter().zip([("01", None), ("02", Some("01")), ("03", Some("02"))]) {
        assert_eq!(span["trace_id"], trace);
        assert_eq!(span["span_id"], id.repeat(8));
        assert_eq!(span["parent_span_id"].as_str().map(str::to_owned), parent.map(|parent| parent.repeat(8)));
        assert_eq!((&span["parent_missing"], &span["cycle"]), (&json!(false), &json!(false)));
    }
    assert_eq!(spans[1]["kind"], "SERVER");
    assert_eq!(spans[2]["status"], json!({"code": "ERROR", "message": "no such city"}));
    assert_eq!(spans[2]["error"], "no such city");
    assert_eq!((&spans[2]["start_ns"], &spans[2]["end_ns"]), (&json!("120000000"), &json!("130000000")));
    let origin = &forest["origins"][spans[0]["origin"].to_string()];
    assert_eq!(origin["resource"], json!({"service.name": "app"}));
    assert_eq!(viewer.get(&format!("/api/traces/{}", trace.to_uppercase())).json()["spans"], forest["spans"]);

    let tree = viewer.tree_json(&[]);
    assert_eq!(tree["session_id"], "s-1");
    let root = &tree["traces"][0]["roots"][0];
    assert_eq!(root["name"], "call");
    assert_eq!(root["children"][0]["name"], "serve");
    assert_eq!(root["children"][0]["children"][0]["children"], json!([]));
}

#[test]
fn protobuf() {
    let viewer = Viewer::start();
    for body in two_services() {
        let answer = viewer.post("/v1/traces", PROTOBUF, &body);
        assert_eq!((answer.status, answer.header("content-type")), (200, Some(PROTOBUF)));
        assert_eq!(ExportTraceServiceResponse::decode(&*answer.body).unwrap(), ExportTraceServiceResponse::default());
    }
    assert_two_services(&viewer);
}

#[test]
fn gzip_and_a_second_delivery() {
    let viewer = Viewer::start();
    // Exporters deliver at least once: the second time changes nothing.
    for _ in 0..2 {
        for body in two_services() {
            let headers = [("content-type", PROTOBUF), ("content-encoding", "gzip")];
            assert_eq!(viewer.send("POST", "/v1/traces", &headers, &gzip(&body)).status, 200);
        }
    }
    assert_two_services(&viewer);
}

#[test]
fn json_of_the_schema_crate() {
    let viewer = Viewer::start();
    for body in two_services() {
        let decoded =
            opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest::decode(&*body).unwrap();
        let answer =
            viewer.post("/v1/traces", "application/json; charset=utf-8", &serde_json::to_vec(&decoded).unwrap());
        assert_eq!((answer.status, answer.header("content-type"), answer.text().as_str()), (200, Some(JSON), "{}"));
    }
    assert_two_services(&viewer);
}

#[test]
fn json_as_honeyhive_clients_write_it() {
    let viewer = Viewer::start();
    let session = json!({"key": "honeyhive.session_id", "value": {"stringValue": "s-2"}});
    let body = json!({"resourceSpans": [{
        "resource": {"attributes": [{"key": "service.name", "value": {"stringValue": "unknown_service:python"}}]},
        "scopeSpans": [{
            "scope": {"name": "honeyhive.140113", "version": null},
            "spans": [{
                "traceId": "0af7651916cd43dd8448eb211c80319c", "spanId": "b7ad6b7169203331", "parentSpanId": null,
                "name": "user_call", "kind": "SPAN_KIND_INTERNAL",
                "startTimeUnixNano": "1700000000000000000", "endTimeUnixNano": "1700000000250000000",
                "attributes": [
                    session,
                    {"key": "honeyhive.session_name", "value": {"stringValue": "a talk"}},
                    {"key": "n", "value": {"intValue": "9007199254740993"}},
                    {"key": "small", "value": {"intValue": "-3"}},
                    {"key": "list", "value": {"arrayValue": {"values": [{"boolValue": true}, {"doubleValue": 0.5}]}}},
                ],
                "events": [{"name": "exception", "timeUnixNano": "1700000000000000001", "attributes": []}],
                "status": {"code": "STATUS_CODE_OK"},
            }],
        }],
    }]});
    let answer = viewer.post_json("/opentelemetry/v1/traces", &body);
    assert_eq!((answer.status, answer.text().as_str()), (200, "{}"));
    let forest = viewer.session("s-2");
    let span = &forest["spans"][0];
    assert_eq!((&span["kind"], &span["status"]["code"]), (&json!("INTERNAL"), &json!("OK")));
    assert_eq!((&span["parent_span_id"], &span["error"]), (&Value::Null, &Value::Null));
    assert_eq!(span["attributes"]["n"], "9007199254740993");
    assert_eq!((&span["attributes"]["small"], &span["attributes"]["list"]), (&json!(-3), &json!([true, 0.5])));
    assert_eq!(span["events"][0]["time_ns"], "1700000000000000001");
    assert_eq!(forest["session"]["session_name"], "a talk");
}

#[test]
fn spans_without_a_session_are_grouped_by_trace() {
    let viewer = Viewer::start();
    let mut other = span(9, 0, "elsewhere", 5, 6);
    other.trace_id = vec![2; 16];
    let mut generic = span(1, 0, "generic", 1, 2);
    generic.attributes = vec![attribute("session.id", "by-the-convention")];
    generic.trace_id = vec![3; 16];
    viewer.post("/v1/traces", PROTOBUF, &request("a", vec![span(1, 0, "x", 1, 2), other, generic]).encode_to_vec());
    let mut ids: Vec<String> =
        viewer.sessions().iter().map(|session| session["session_id"].as_str().unwrap().to_owned()).collect();
    ids.sort();
    let [one, two] = ["01", "02"].map(|byte| format!("trace:{}", byte.repeat(16)));
    assert_eq!(ids, ["by-the-convention".to_owned(), one.clone(), two]);
    assert_eq!(viewer.session(&one)["spans"][0]["name"], "x");
    assert_eq!(viewer.tree_json(&[&one])["traces"][0]["roots"][0]["name"], "x");
    assert_eq!(viewer.tree_json(&[&"02".repeat(16)])["traces"][0]["roots"][0]["name"], "elsewhere");
    assert_eq!(viewer.get("/api/sessions/unknown").status, 404);
    assert_eq!(viewer.get("/api/traces/unknown").status, 404);
}

#[test]
fn a_service_that_names_no_session_stays_in_the_tree_of_its_trace() {
    let viewer = Viewer::start();
    let named = |mut span: opentelemetry_proto::tonic::trace::v1::Span| {
        span.attributes = vec![attribute("honeyhive.session_id", "s-3")];
        span
    };
    let spans = vec![named(span(1, 0, "call", 1, 9)), span(2, 1, "gateway", 2, 8), named(span(3, 2, "serve", 3, 7))];
    viewer.post("/v1/traces", PROTOBUF, &request("a", spans).encode_to_vec());
    assert_eq!(viewer.sessions().len(), 1);
    assert_eq!(viewer.sessions()[0]["span_count"], 3);
    let forest = viewer.session("s-3");
    let spans = forest["spans"].as_array().unwrap();
    let depths: Vec<_> = spans.iter().map(|span| (span["depth"].clone(), span["session_id"].clone())).collect();
    assert_eq!(depths, [(json!(0), json!("s-3")), (json!(1), Value::Null), (json!(2), json!("s-3"))]);
}

#[test]
fn oddities_are_shown() {
    let viewer = Viewer::start();
    let spans = vec![
        span(1, 0, "parent", 100, 200),
        span(2, 1, "early", 98, 150),
        span(3, 77, "orphan", 110, 120),
        span(4, 4, "own parent", 130, 129),
    ];
    viewer.post("/v1/traces", PROTOBUF, &request("a", spans).encode_to_vec());
    let forest = viewer.session(&format!("trace:{}", "01".repeat(16)));
    let spans = forest["spans"].as_array().unwrap();
    assert_eq!((&spans[1]["name"], &spans[1]["early_ns"]), (&json!("early"), &json!("2000000")));
    assert_eq!((&spans[2]["name"], &spans[2]["parent_missing"]), (&json!("orphan"), &json!(true)));
    assert_eq!((&spans[3]["name"], &spans[3]["cycle"]), (&json!("own parent"), &json!(true)));
    let text = String::from_utf8(viewer.tree(&[]).stdout).unwrap();
    let lines: Vec<&str> = text.lines().skip(2).collect();
    let expected = [
        "├─ parent (internal) [a] 100.0 ms",
        "│  └─ early (internal) [a] 52.0 ms (starts 2.0 ms before its parent)",
        "├─ orphan (internal) [a] 10.0 ms (remote parent missing)",
        "└─ own parent (internal) [a] (ends before it starts) (its own ancestor)",
    ];
    assert_eq!(lines, expected);
}

#[test]
fn spans_without_valid_ids_are_rejected_and_the_rest_kept() {
    let viewer = Viewer::start();
    let spans = || {
        let mut zero = span(2, 0, "zero trace", 1, 2);
        zero.trace_id = vec![0; 16];
        let mut short = span(3, 0, "short id", 1, 2);
        short.span_id = vec![3; 7];
        let mut parent = span(4, 0, "long parent", 1, 2);
        parent.parent_span_id = vec![1; 16];
        let mut zero_parent = span(5, 0, "parent of zeros", 1, 2);
        zero_parent.parent_span_id = vec![0; 8];
        request("a", vec![span(1, 0, "good", 1, 2), zero, short, parent, zero_parent])
    };
    let answer = viewer.post("/v1/traces", PROTOBUF, &spans().encode_to_vec());
    assert_eq!(answer.status, 200);
    let partial = ExportTraceServiceResponse::decode(&*answer.body).unwrap().partial_success.unwrap();
    assert_eq!(partial.rejected_spans, 3);
    assert!(!partial.error_message.is_empty());
    let answer = viewer.post("/v1/traces", JSON, &serde_json::to_vec(&spans()).unwrap());
    assert_eq!(answer.json()["partialSuccess"]["rejectedSpans"], "3");
    assert_eq!(viewer.sessions()[0]["span_count"], 2);
}

#[test]
fn a_reader_is_told_when_nothing_changed() {
    let viewer = Viewer::start();
    let first = viewer.get("/api/sessions");
    let tag = first.header("etag").unwrap().to_owned();
    assert_eq!(viewer.send("GET", "/api/sessions", &[("if-none-match", &tag)], b"").status, 304);
    viewer.post("/v1/traces", PROTOBUF, &request("a", vec![span(1, 0, "x", 1, 2)]).encode_to_vec());
    let second = viewer.send("GET", "/api/sessions", &[("if-none-match", &tag)], b"");
    assert_eq!((second.status, second.json()["total"].clone()), (200, json!(1)));
}

#[test]
fn times_up_to_the_end_of_time() {
    let viewer = Viewer::start();
    let mut late = span(1, 0, "late", 0, 0);
    (late.start_time_unix_nano, late.end_time_unix_nano) = (u64::MAX - 1, u64::MAX);
    viewer.post("/v1/traces", PROTOBUF, &request("a", vec![late]).encode_to_vec());
    assert_eq!(viewer.sessions()[0]["last_ns"], i64::MAX.to_string());
    assert!(viewer.tree(&[]).status.success());
}

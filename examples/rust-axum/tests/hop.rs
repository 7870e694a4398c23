//! Runs the service as a process between a downstream service and a collector on loopback.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::Duration;

use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::trace::v1::Span;
use prost::Message;

/// How long a test waits for something that will happen.
const PATIENCE: Duration = Duration::from_secs(20);

const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
const CALLER: &str = "b7ad6b7169203331";

struct Request {
    head: String,
    body: Vec<u8>,
}

impl Request {
    /// All values of a header.
    fn values(&self, name: &str) -> Vec<&str> {
        let headers = self.head.lines().skip(1).filter_map(|line| line.split_once(": "));
        headers.filter(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value).collect()
    }
}

/// Answers every request with "next", and hands it over.
fn server() -> (SocketAddr, Receiver<Request>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let (sender, receiver) = channel();
    thread::spawn(move || {
        for stream in listener.incoming().map(Result::unwrap) {
            let sender = sender.clone();
            thread::spawn(move || {
                let mut reader = BufReader::new(&stream);
                while let Some(request) = read(&mut reader) {
                    (&stream).write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nnext").unwrap();
                    // The test may be over.
                    let _ = sender.send(request);
                }
            });
        }
    });
    (address, receiver)
}

fn read(reader: &mut impl BufRead) -> Option<Request> {
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        if reader.read_line(&mut head).ok()? == 0 {
            return None;
        }
    }
    let mut request = Request { head, body: Vec::new() };
    let length = request.values("content-length").first().map_or(0, |length| length.parse().unwrap());
    request.body.resize(length, 0);
    reader.read_exact(&mut request.body).ok()?;
    Some(request)
}

/// The service; it ends with the test.
struct Service {
    process: Child,
    address: String,
}

impl Service {
    fn start(collector: SocketAddr, downstream: &str) -> Self {
        let mut process = Command::new(env!("CARGO_BIN_EXE_rust-axum"))
            .env_clear()
            .env("LISTEN", "127.0.0.1:0")
            .env("DOWNSTREAM", downstream)
            .env("OTEL_EXPORTER_OTLP_ENDPOINT", format!("http://{collector}"))
            .env("OTEL_EXPORTER_OTLP_COMPRESSION", "none")
            .env("OTEL_SERVICE_NAME", "hop")
            .env("OTEL_BSP_SCHEDULE_DELAY", "10")
            .env("HH_SOURCE", "test")
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(process.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let address = line.trim().strip_prefix("listening on http://").unwrap().to_owned();
        Self { process, address }
    }

    /// Sends `GET /hop` with these header lines and returns the whole answer.
    fn get(&self, headers: &str) -> String {
        let mut stream = TcpStream::connect(&self.address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        write!(stream, "GET /hop HTTP/1.1\r\nhost: hop\r\nconnection: close\r\n{headers}\r\n").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// The next `count` spans that a collector gets.
fn spans(collector: &Receiver<Request>, count: usize) -> Vec<Span> {
    let mut spans = Vec::new();
    while spans.len() < count {
        let request = collector.recv_timeout(PATIENCE).unwrap();
        assert!(request.head.starts_with("POST /v1/traces "), "{}", request.head);
        assert_eq!(request.values("content-type"), ["application/x-protobuf"]);
        for resource in ExportTraceServiceRequest::decode(&request.body[..]).unwrap().resource_spans {
            let attributes = resource.resource.unwrap().attributes;
            let name = attributes.iter().find(|attribute| attribute.key == "service.name").unwrap();
            assert_eq!(name.value.as_ref().unwrap().value, Some(Value::StringValue("hop".into())));
            spans.extend(resource.scope_spans.into_iter().flat_map(|scope| scope.spans));
        }
    }
    assert_eq!(spans.len(), count);
    // By kind: server, client.
    spans.sort_by_key(|span| span.kind);
    spans
}

fn text<'a>(span: &'a Span, key: &str) -> Option<&'a str> {
    let attribute = span.attributes.iter().find(|attribute| attribute.key == key)?;
    match attribute.value.as_ref()?.value.as_ref()? {
        Value::StringValue(text) => Some(text),
        _ => None,
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn a_request_goes_on_in_the_callers_trace_and_session() {
    let ((downstream, next), (collector, collected)) = (server(), server());
    let service = Service::start(collector, &format!("http://{downstream}/next"));
    let answer = service.get(&format!(
        "Traceparent: 00-{TRACE}-{CALLER}-03\r\nTracestate: v@@x=1 , a=2\r\nBaggage: user=%c3%a4;p=1\r\n\
         Baggage: honeyhive.session_id=caller%201,project=p\r\n",
    ));
    assert!(answer.starts_with("HTTP/1.1 200 ") && answer.ends_with("next"), "{answer}");

    let spans = spans(&collected, 2);
    let [server, client] = &spans[..] else { panic!("{spans:?}") };
    assert_eq!((server.kind, client.kind), (2, 3));
    assert_eq!((hex(&server.trace_id), hex(&server.parent_span_id)), (TRACE.into(), CALLER.into()));
    assert_eq!((hex(&client.trace_id), &client.parent_span_id), (TRACE.into(), &server.span_id));
    assert!(server.start_time_unix_nano <= client.start_time_unix_nano);
    assert!(client.end_time_unix_nano <= server.end_time_unix_nano);
    for span in &spans {
        // Plain OTLP: the session as it is on the wire, by both names.
        assert_eq!(text(span, "honeyhive.session_id"), Some("caller 1"));
        assert_eq!(text(span, "session.id"), Some("caller 1"));
        assert_eq!(text(span, "honeyhive.project"), Some("p"));
        assert_eq!(text(span, "honeyhive.source"), Some("test"));
        assert_eq!(span.trace_state, "v@@x=1 , a=2");
    }

    let request = next.recv_timeout(PATIENCE).unwrap();
    assert!(request.head.starts_with("GET /next "), "{}", request.head);
    assert_eq!(request.values("traceparent"), [format!("00-{TRACE}-{}-03", hex(&client.span_id))]);
    assert_eq!(request.values("tracestate"), ["v@@x=1 , a=2"]);
    assert_eq!(request.values("baggage"), ["session_id=caller%201,project=p,source=test,user=%c3%a4;p=1"]);
}

#[test]
fn a_request_of_its_own_has_the_services_session() {
    let ((downstream, next), (collector, collected)) = (server(), server());
    let service = Service::start(collector, &format!("http://{downstream}/next"));
    service.get("");
    service.get("traceparent: not one\r\n");
    let (first, second) = (next.recv_timeout(PATIENCE).unwrap(), next.recv_timeout(PATIENCE).unwrap());
    assert_eq!(first.values("baggage"), second.values("baggage"));
    assert!(
        first.values("baggage")[0].starts_with("session_id=") && first.values("baggage")[0].ends_with(",source=test")
    );
    assert_ne!(first.values("traceparent"), second.values("traceparent"));
    let spans = spans(&collected, 4);
    assert!(spans.iter().filter(|span| span.kind == 2).all(|span| span.parent_span_id.is_empty()));
    let session = text(&spans[0], "honeyhive.session_id").unwrap();
    assert_eq!(session.len(), 36);
    assert_eq!(first.values("baggage"), [format!("session_id={session},source=test")]);
}

#[test]
fn a_downstream_that_fails_is_an_error_on_both_spans() {
    let (collector, collected) = server();
    let downstream = TcpListener::bind("127.0.0.1:0").unwrap();
    let service = Service::start(collector, &format!("http://{}/", downstream.local_addr().unwrap()));
    // It takes connections and answers none.
    thread::spawn(move || downstream.incoming().for_each(drop));
    assert!(service.get("").starts_with("HTTP/1.1 502 "));
    assert!(spans(&collected, 2).iter().all(|span| span.status.as_ref().unwrap().code == 2));
}

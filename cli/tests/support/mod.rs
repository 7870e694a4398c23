//! A viewer as a process of its own, and what to send to it.
#![allow(dead_code, reason = "each test program uses its part of this")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "in a test a panic is the report")]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};

use flate2::{Compression, write::GzEncoder};
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue, any_value};
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span};
use serde_json::Value;
use tempfile::TempDir;

pub(crate) const PROTOBUF: &str = "application/x-protobuf";
pub(crate) const JSON: &str = "application/json";

pub(crate) fn tracebaton() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tracebaton"));
    command.env_remove("TRACEBATON_TOKEN");
    command
}

/// A running viewer with a database of its own; it is stopped when dropped.
pub(crate) struct Viewer {
    process: Child,
    /// Keeps the pipe open.
    _stdout: BufReader<std::process::ChildStdout>,
    pub(crate) url: String,
    folder: TempDir,
}

pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {}", self.text()))
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| {
            let (key, value) = line.split_once(':')?;
            key.eq_ignore_ascii_case(name).then(|| value.trim())
        })
    }
}

impl Viewer {
    pub(crate) fn start() -> Self {
        Self::start_with(&["--listen", "127.0.0.1:0"])
    }

    pub(crate) fn start_with(arguments: &[&str]) -> Self {
        let folder = TempDir::new().unwrap();
        let mut process = tracebaton()
            .arg("view")
            .args(arguments)
            .arg("--db")
            .arg(folder.path().join("spans.db"))
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut stdout = BufReader::new(process.stdout.take().unwrap());
        let mut line = String::new();
        stdout.read_line(&mut line).unwrap();
        let url = line.strip_prefix("tracebaton view: listening on ").unwrap_or_else(|| panic!("not ready: {line:?}"));
        Self { process, url: url.trim_end().to_owned(), _stdout: stdout, folder }
    }

    pub(crate) fn db(&self) -> PathBuf {
        self.folder.path().join("spans.db")
    }

    pub(crate) fn address(&self) -> &str {
        self.url.strip_prefix("http://").unwrap()
    }

    pub(crate) fn pid(&self) -> u32 {
        self.process.id()
    }

    pub(crate) fn wait(mut self) -> (std::process::ExitStatus, TempDir) {
        let status = self.process.wait().unwrap();
        (status, std::mem::replace(&mut self.folder, TempDir::new().unwrap()))
    }

    /// Sends a request as it is spelled here, on a connection of its own.
    pub(crate) fn send(&self, method: &str, target: &str, headers: &[(&str, &str)], body: &[u8]) -> Answer {
        let mut head = format!("{method} {target} HTTP/1.1\r\nconnection: close\r\ncontent-length: {}\r\n", body.len());
        if !headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("host")) {
            head.push_str(&format!("host: {}\r\n", self.address()));
        }
        for (name, value) in headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        self.exchange(&[head.as_bytes(), b"\r\n", body])
    }

    /// Writes these bytes and reads the answer until the server closes.
    pub(crate) fn exchange(&self, parts: &[&[u8]]) -> Answer {
        let mut stream = TcpStream::connect(self.address()).unwrap();
        for part in parts {
            stream.write_all(part).unwrap();
        }
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).unwrap();
        let _ = stream.shutdown(Shutdown::Both);
        let end = answer.windows(4).position(|bytes| bytes == b"\r\n\r\n").expect("an answer has a head");
        let head = String::from_utf8(answer[..end].to_vec()).unwrap();
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        let mut body = answer[end + 4..].to_vec();
        if head.to_ascii_lowercase().contains("transfer-encoding: chunked") {
            body = unchunk(&body);
        }
        Answer { status, head, body }
    }

    pub(crate) fn post(&self, target: &str, content_type: &str, body: &[u8]) -> Answer {
        self.send("POST", target, &[("content-type", content_type)], body)
    }

    pub(crate) fn post_json(&self, target: &str, body: &Value) -> Answer {
        self.post(target, JSON, body.to_string().as_bytes())
    }

    pub(crate) fn get(&self, target: &str) -> Answer {
        self.send("GET", target, &[], b"")
    }

    pub(crate) fn sessions(&self) -> Vec<Value> {
        self.get("/api/sessions").json()["sessions"].as_array().unwrap().clone()
    }

    pub(crate) fn session(&self, id: &str) -> Value {
        self.get(&format!("/api/sessions/{id}")).json()
    }

    /// `tracebaton tree` against this viewer.
    pub(crate) fn tree(&self, arguments: &[&str]) -> Output {
        tracebaton().args(["tree", "--url", &self.url]).args(arguments).output().unwrap()
    }

    pub(crate) fn tree_json(&self, arguments: &[&str]) -> Value {
        let output = self.tree(&[arguments, &["--json"]].concat());
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        serde_json::from_slice(&output.stdout).unwrap()
    }
}

impl Drop for Viewer {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn unchunk(mut bytes: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    while let Some(end) = bytes.windows(2).position(|pair| pair == b"\r\n") {
        let length = usize::from_str_radix(std::str::from_utf8(&bytes[..end]).unwrap(), 16).unwrap();
        out.extend_from_slice(&bytes[end + 2..end + 2 + length]);
        bytes = &bytes[end + 4 + length..];
    }
    out
}

pub(crate) fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

pub(crate) fn attribute(key: &str, value: &str) -> KeyValue {
    let value = AnyValue { value: Some(any_value::Value::StringValue(value.to_owned())) };
    KeyValue { key: key.to_owned(), value: Some(value), ..KeyValue::default() }
}

/// A span of trace 1 unless told otherwise; parent 0 is none; times in milliseconds.
pub(crate) fn span(id: u8, parent: u8, name: &str, start: u64, end: u64) -> Span {
    Span {
        trace_id: vec![1; 16],
        span_id: vec![id; 8],
        parent_span_id: if parent == 0 { Vec::new() } else { vec![parent; 8] },
        name: name.to_owned(),
        kind: 1,
        start_time_unix_nano: start * 1_000_000,
        end_time_unix_nano: end * 1_000_000,
        ..Span::default()
    }
}

pub(crate) fn request(service: &str, spans: Vec<Span>) -> ExportTraceServiceRequest {
    ExportTraceServiceRequest {
        resource_spans: vec![ResourceSpans {
            resource: Some(Resource { attributes: vec![attribute("service.name", service)], ..Resource::default() }),
            scope_spans: vec![ScopeSpans { spans, ..ScopeSpans::default() }],
            ..ResourceSpans::default()
        }],
    }
}

//! A collector that only counts, fast enough to be no part of what is measured: OTLP/HTTP as protobuf and JSON, gzip,
//! and HoneyHive's `/session/start`.
//!
//!     sink [--late MILLISECONDS] [--busy MILLISECONDS]
//!
//! It prints its port. `--late` is the time that each answer takes; `--busy` how long it answers 503, from the first
//! request on. `GET /` says what has come: the `requests`, those of them that were `refused`, the `spans` of the others,
//! and how many `distinct` ids these had.
#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stdout, reason = "a program of a benchmark")]

use std::collections::HashSet;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use flate2::read::GzDecoder;
use serde_json::{Value, json};
use tracebaton::otlp::reader::{Fields, Repeated, Wire};

#[derive(Default)]
struct Seen {
    requests: usize,
    refused: usize,
    spans: usize,
    ids: HashSet<u64>,
    busy_until: Option<Instant>,
}

#[derive(Clone, Copy)]
struct Answers {
    late: Duration,
    busy: Duration,
}

fn main() {
    let mut answers = Answers { late: Duration::ZERO, busy: Duration::ZERO };
    let mut arguments = std::env::args().skip(1);
    while let Some(name) = arguments.next() {
        let time = Duration::from_millis(arguments.next().unwrap().parse().unwrap());
        match name.as_str() {
            "--late" => answers.late = time,
            "--busy" => answers.busy = time,
            other => panic!("unknown argument {other}"),
        }
    }
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    println!("{}", listener.local_addr().unwrap().port());
    let seen = Arc::new(Mutex::new(Seen::default()));
    for stream in listener.incoming() {
        let seen = Arc::clone(&seen);
        thread::spawn(move || serve(&stream.unwrap(), &seen, answers));
    }
}

fn serve(stream: &TcpStream, seen: &Mutex<Seen>, answers: Answers) {
    let _ = stream.set_nodelay(true);
    let mut reader = BufReader::with_capacity(1 << 16, stream);
    loop {
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            if reader.read_line(&mut head).unwrap_or(0) == 0 {
                return;
            }
        }
        let head = head.to_ascii_lowercase();
        let header = |name: &str| head.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "));
        let mut body = vec![0; header("content-length").map_or(0, |length| length.parse().unwrap())];
        if reader.read_exact(&mut body).is_err() {
            return;
        }
        let (mut status, mut answer) = ("200 OK", json!({}));
        if head.starts_with("get ") {
            let seen = seen.lock().unwrap();
            let Seen { requests, refused, spans, ids, .. } = &*seen;
            answer = json!({"requests": requests, "refused": refused, "spans": spans, "distinct": ids.len()});
        } else if head.contains("/session/start") {
            let id = "7f1f0ad8-2c1c-4d3e-9b52-6a1d1c9a7f10";
            answer = json!({"event_id": id, "session_id": id, "org_id": id, "workspace_id": id, "project_id": id});
        } else {
            thread::sleep(answers.late);
            if header("content-encoding") == Some("gzip") {
                let mut plain = Vec::new();
                GzDecoder::new(&body[..]).read_to_end(&mut plain).unwrap();
                body = plain;
            }
            let is_json = header("content-type").is_some_and(|it| it.starts_with("application/json"));
            let ids = if is_json { json_ids(&body) } else { protobuf_ids(&body) };
            let mut seen = seen.lock().unwrap();
            seen.requests += 1;
            let now = Instant::now();
            if now < *seen.busy_until.get_or_insert_with(|| now + answers.busy) {
                seen.refused += 1;
                status = "503 Service Unavailable";
            } else {
                seen.spans += ids.len();
                seen.ids.extend(ids);
            }
        }
        let answer = answer.to_string();
        let head = format!("HTTP/1.1 {status}\r\ncontent-type: application/json\r\ncontent-length: {}", answer.len());
        if (&*stream).write_all(format!("{head}\r\n\r\n{answer}").as_bytes()).is_err() {
            return;
        }
    }
}

fn protobuf_ids(request: &[u8]) -> Vec<u64> {
    let mut ids = Vec::new();
    for resource_spans in Repeated::of(request, 1) {
        for scope_spans in Repeated::of(resource_spans.unwrap(), 2) {
            for span in Repeated::of(scope_spans.unwrap(), 2) {
                let id = Fields::of(span.unwrap()).find_map(|field| match field {
                    Ok((2, Wire::Bytes(id))) => id.try_into().ok().map(u64::from_be_bytes),
                    _ => None,
                });
                ids.push(id.unwrap());
            }
        }
    }
    ids
}

fn json_ids(request: &[u8]) -> Vec<u64> {
    let request: Value = serde_json::from_slice(request).unwrap();
    let list = |value: &Value, name: &str| value[name].as_array().cloned().unwrap_or_default();
    let mut ids = Vec::new();
    for resource_spans in list(&request, "resourceSpans") {
        for scope_spans in list(&resource_spans, "scopeSpans") {
            for span in list(&scope_spans, "spans") {
                ids.push(u64::from_str_radix(span["spanId"].as_str().unwrap(), 16).unwrap());
            }
        }
    }
    ids
}

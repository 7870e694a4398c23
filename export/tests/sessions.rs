//! Requests about sessions, to a server that fails as servers do, beside spans that must not notice.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test")]

mod common;

use std::time::{Duration, Instant};

use common::{PATIENCE, Reply, Request, Server, config, destination, exporter, record, reporter, until};
use tracebaton::delivery::Reason;
use tracebaton::flatten::Options;
use tracebaton::registration::{Enrichment, Start};
use tracebaton::value::Value;
use tracebaton_export::{Api, Destination, Encoding, Exporter, Invalid, Sessions};

const SECRET: &str = "Bearer s3cr3t";

fn api(server: &Server) -> Api {
    Api {
        base_url: format!("http://{}/hive", server.address),
        headers: vec![("Authorization".into(), SECRET.into())],
        timeout: Duration::from_secs(10),
        user_agent: "tracebaton/0".into(),
    }
}

fn sessions(server: &Server) -> Sessions {
    Sessions::new(api(server), None).unwrap()
}

const ID: &str = "7f1f0ad8-2c1c-4d3e-9b52-6a1d1c9a7f10";

fn register(sessions: &Sessions, session_id: &str) {
    let start = Start { session_id, source: Some("dev"), ..Start::default() };
    sessions.register(&start, &Options::default());
}

fn line(request: &Request) -> &str {
    request.head.lines().next().unwrap()
}

fn body(request: &Request) -> String {
    String::from_utf8(request.body.clone()).unwrap()
}

#[test]
fn a_session_is_registered_once() {
    let server = Server::start();
    let (first, second) = (sessions(&server), sessions(&server));
    for _ in 0..2 {
        register(&first, ID);
        register(&second, ID);
    }
    register(&second, "mine");
    let requests = server.requests(2);
    for one in [&first, &second] {
        one.shutdown_while(PATIENCE, || true);
    }
    assert_eq!(server.seen(), 2);
    assert_eq!(line(&requests[0]), "POST /hive/session/start HTTP/1.1");
    assert_eq!(body(&requests[0]), format!(r#"{{"session":{{"session_id":"{ID}","source":"dev"}}}}"#));
    assert_eq!(requests[0].header("authorization"), Some(SECRET));
    assert_eq!(requests[0].header("content-type"), Some("application/json"));
    assert_eq!(requests[0].header("accept"), Some("application/json"));
    assert_eq!(requests[0].header("user-agent"), Some("tracebaton/0"));
    assert!(!body(&requests[1]).contains("mine"), "HoneyHive knows it by a UUID");
}

#[test]
fn an_enrichment_follows_the_registration() {
    let server = Server::start();
    server.script([Reply::status(503)]);
    let sessions = sessions(&server);
    register(&sessions, ID);
    let enrichment = Enrichment { outputs: Some("done".into()), ..Enrichment::default() };
    assert!(sessions.enrich(ID, enrichment, &Options::default()));
    assert!(!sessions.enrich(ID, Enrichment::default(), &Options::default()), "there is nothing to merge");
    let requests = server.requests(3);
    until("both are counted", || sessions.stats().sent == 2);
    let stats = sessions.stats();
    assert_eq!((stats.queued, stats.retried, stats.dropped.total()), (0, 1, 0));
    let lines: Vec<_> = requests.iter().map(line).collect();
    let (start, enrich) = ("POST /hive/session/start HTTP/1.1", "PUT /hive/events HTTP/1.1");
    assert_eq!(lines, [start, start, enrich]);
    assert_eq!(body(&requests[2]), format!(r#"{{"event_id":"{ID}","outputs":{{"result":"done"}}}}"#));
}

#[test]
fn what_fails_is_retried_as_for_spans_and_told_without_secrets() {
    let retry_after = Reply::Status(429, vec!["retry-after: 1".into()], Vec::new());
    for (replies, seen, told) in [
        (vec![Reply::status(500)], 1, "refuses session requests (HTTP 500): 1 session request dropped"),
        (vec![Reply::status(401)], 1, "refuses session requests (HTTP 401): 1 session request dropped"),
        (vec![retry_after], 2, "answers HTTP 429: session requests are kept and retried"),
        (vec![Reply::Close], 2, "cannot reach"),
    ] {
        let server = Server::start();
        server.script(replies);
        let (reporter, messages) = reporter();
        let sessions = Sessions::new(api(&server), reporter).unwrap();
        let begin = Instant::now();
        register(&sessions, ID);
        server.requests(seen);
        if told.contains("429") {
            assert!(begin.elapsed() >= Duration::from_secs(1));
        }
        let message = messages.recv_timeout(PATIENCE).unwrap();
        assert!(message.contains(told), "{message}");
        assert!(!message.contains("s3cr3t"), "{message}");
        // What is given up is not tried again, nor is what has arrived.
        register(&sessions, ID);
        sessions.shutdown_while(PATIENCE, || true);
        assert_eq!(server.seen(), seen);
    }
    let shown = format!("{:?}", api(&Server::start()));
    assert!(shown.contains("Authorization") && !shown.contains("s3cr3t"), "{shown}");
}

#[test]
fn spans_do_not_wait_for_a_registration_that_hangs() {
    let server = Server::start();
    server.script([Reply::Hang]);
    let sessions = sessions(&server);
    register(&sessions, ID);
    server.requests(1);
    // To the same server, over the same thread-sharing rules, with the same headers.
    let spans = Destination { headers: api(&server).headers, ..destination(server.url()) };
    let exporter = Exporter::new(spans, config(), common::RESOURCE, None).unwrap();
    record(&exporter, "span");
    assert!(exporter.flush(PATIENCE));
    assert_eq!(server.requests(2)[1].names(), ["span"]);
    let begin = Instant::now();
    sessions.flush_while(PATIENCE, || true);
    sessions.shutdown_while(PATIENCE, || true);
    // The request would take ten seconds, and the caller would have waited for twenty.
    assert!(begin.elapsed() < Duration::from_secs(8));
}

#[test]
fn a_burst_of_sessions_is_registered_or_counted_and_told_once() {
    let server = Server::start();
    server.script([Reply::Hang]);
    let (reporter, messages) = reporter();
    let sessions = Sessions::new(api(&server), reporter).unwrap();
    for number in 0..5_000 {
        register(&sessions, &format!("small {number}"));
    }
    assert_eq!((sessions.stats().queued, sessions.stats().dropped.total()), (5_000, 0));
    let text = "x".repeat(60_000);
    for number in 0..200 {
        let inputs = Some(Value::Map(vec![("text".into(), text.as_str().into())]));
        let start = Start { session_id: &format!("large {number}"), inputs, ..Start::default() };
        assert!(sessions.register(&start, &Options::default()), "it is new, and does not wait");
    }
    let stats = sessions.stats();
    let refused = stats.dropped.get(Reason::QueueFull);
    assert!(refused > 50 && stats.queued + refused == 5_200, "{stats:?}");
    drop(server);
    let is_full = |message: &String| message.contains("full: new session requests are dropped");
    let first = std::iter::repeat_with(|| messages.recv_timeout(PATIENCE).unwrap()).find(is_full);
    assert!(first.is_some());
    sessions.shutdown_while(PATIENCE, || true);
    assert!(!messages.try_iter().any(|message| is_full(&message)), "told twice");
    let stats = sessions.stats();
    assert_eq!(stats.queued + stats.sent + stats.dropped.total(), 5_200, "every one is accounted for");
}

#[test]
fn a_registration_always_refused_loses_no_span() {
    let (server, down) = (Server::start(), Server::start());
    down.script((0..20).map(|_| Reply::status(500)));
    let (sessions, exporter) = (sessions(&down), exporter(&server));
    for number in 0..20 {
        register(&sessions, &format!("{number}"));
        record(&exporter, &format!("{number}"));
    }
    assert!(exporter.shutdown(PATIENCE));
    assert_eq!(server.requests(1).iter().map(|request| request.names().len()).sum::<usize>(), 20);
    down.requests(20);
}

#[test]
fn a_handle_that_is_dropped_leaves_one_attempt() {
    let server = Server::start();
    server.script([Reply::status(503)]);
    let sessions = sessions(&server);
    register(&sessions, ID);
    drop(sessions);
    server.requests(1);
    // Once its thread has ended nothing is known of it any more.
    until("the first one has ended", || {
        let again = self::sessions(&server);
        register(&again, ID);
        server.seen() >= 2
    });
}

#[test]
fn an_impossible_api_is_an_error() {
    let bad = Api { base_url: "hive".into(), ..api(&Server::start()) };
    let error = Sessions::new(bad, None).unwrap_err();
    assert_eq!(error, Invalid { argument: "url", why: "neither http nor https" });
    assert_ne!(Encoding::Sessions, Encoding::Protobuf);
}

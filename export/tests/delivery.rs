//! Delivery to a receiver that does everything that receivers do.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test")]

mod common;

use std::net::TcpListener;
use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use common::*;
use tracebaton_export::{Config, Destination, Encoding, Enums, Exporter, Invalid, Pushed, Reason, Reporter, Wait};

fn with(destination: Destination, config: Config) -> Exporter {
    Exporter::new(destination, config, RESOURCE, None).unwrap()
}

#[test]
fn a_span_arrives() {
    let server = Server::start();
    let exporter = exporter(&server);
    assert!(exporter.flush(Duration::ZERO), "nothing was recorded");
    assert_eq!(server.seen(), 0);
    assert!(matches!(record(&exporter, "one"), Pushed::Queued { .. }));
    // Nobody asks: it goes by itself, after a second.
    let request = server.requests(1).remove(0);
    assert!(request.head.starts_with("POST /v1/traces HTTP/1.1\r\n"));
    assert_eq!(request.header("content-type"), Some("application/x-protobuf"));
    assert_eq!(request.header("user-agent"), Some("tracebaton/0 OTel-OTLP-Exporter-Test/0"));
    assert_eq!(request.header("x-test"), Some("yes"));
    assert_eq!(request.header("content-encoding"), None);
    assert_eq!(request.names(), ["one"]);
    until("counted", || exporter.stats().sent == 1);
    assert!(exporter.flush(PATIENCE));
    assert_eq!(exporter.stats().queued, 0);
}

#[test]
fn a_flush_sends_at_once_and_says_what_came_of_it() {
    let server = Server::start();
    let exporter = with(destination(server.url()), Config { delay_ns: u64::MAX, ..config() });
    record(&exporter, "one");
    record(&exporter, "two");
    assert!(exporter.flush(PATIENCE));
    assert_eq!(server.requests(1)[0].names(), ["one", "two"]);
    server.script([Reply::status(400)]);
    record(&exporter, "three");
    assert!(!exporter.flush(PATIENCE));
    assert_eq!(exporter.stats().dropped.get(Reason::Refused), 1);
    assert_eq!(exporter.stats().last_error.as_deref(), Some("HTTP 400"));
    record(&exporter, "four");
    assert!(exporter.flush(PATIENCE));
    assert_eq!(server.seen(), 3, "a refusal is final");
    assert_eq!(exporter.stats().sent, 3);
}

#[test]
fn a_flush_does_not_wait_longer_than_it_says() {
    let server = Server::start();
    server.script([Reply::Hang, Reply::Hang]);
    let exporter = exporter(&server);
    record(&exporter, "one");
    for _ in 0..2 {
        let begin = Instant::now();
        assert!(!exporter.flush(Duration::from_millis(200)));
        // The request itself would take ten seconds.
        assert!((Duration::from_millis(200)..Duration::from_secs(3)).contains(&begin.elapsed()));
    }
    let begin = Instant::now();
    assert!(!exporter.shutdown(Duration::from_millis(200)));
    drop(exporter);
    assert!(begin.elapsed() < Duration::from_secs(3));
}

#[test]
fn a_flush_can_be_interrupted() {
    let server = Server::start();
    server.script([Reply::Hang]);
    let exporter = exporter(&server);
    record(&exporter, "one");
    let mut asked = 0;
    let delivered = exporter.flush_while(Duration::MAX, || {
        asked += 1;
        asked < 3
    });
    assert_eq!((delivered, asked), (false, 3));
    assert!(!exporter.shutdown_while(Duration::MAX, || false));
}

#[test]
fn without_delay_no_flush_is_needed() {
    let server = Server::start();
    let exporter = with(destination(server.url()), Config { delay_ns: 0, ..config() });
    for count in 1..=3 {
        record(&exporter, "now");
        server.requests(count);
    }
}

#[test]
fn large_bodies_are_compressed() {
    let server = Server::start();
    let exporter = with(Destination { gzip: true, ..destination(server.url()) }, config());
    record(&exporter, "small");
    assert!(exporter.flush(PATIENCE));
    for number in 0..100 {
        record(&exporter, &format!("span {number}"));
    }
    assert!(exporter.flush(PATIENCE));
    let requests = server.requests(2);
    assert_eq!(requests[0].header("content-encoding"), None);
    assert_eq!(requests[1].header("content-encoding"), Some("gzip"));
    assert!(requests[1].body.len() < requests[1].plain().len() / 4);
    assert_eq!(requests[1].names().len(), 100);
    assert_eq!(requests[1].names()[99], "span 99");
}

#[test]
fn batches_are_cut_by_size_and_share_a_connection() {
    let server = Server::start();
    let exporter = with(destination(server.url()), Config { batch_bytes: 400, delay_ns: u64::MAX, ..config() });
    for number in 0..60 {
        record(&exporter, &format!("span {number:02}"));
    }
    assert!(exporter.flush(PATIENCE));
    let requests = server.requests(1);
    assert!(requests.len() >= 6, "{}", requests.len());
    assert!(requests.iter().all(|request| request.body.len() < 450));
    let names: Vec<_> = requests.iter().flat_map(Request::names).collect();
    assert_eq!(names, (0..60).map(|number| format!("span {number:02}")).collect::<Vec<_>>());
    assert!(requests.iter().all(|request| request.connection == 0));
}

#[test]
fn trouble_is_retried_and_reported_once() {
    let server = Server::start();
    let (reporter, messages) = reporter();
    let exporter = Exporter::new(destination(server.url()), config(), RESOURCE, reporter).unwrap();
    server.script([429, 502, 503, 504].map(Reply::status));
    server.script([Reply::Close]);
    record(&exporter, "one");
    assert!(exporter.flush(PATIENCE));
    let requests = server.requests(6);
    assert!(requests.iter().all(|request| request.names() == ["one"]));
    let stats = exporter.stats();
    assert_eq!((stats.sent, stats.retried, stats.dropped.total()), (1, 5, 0));
    let url = format!("http://{}", server.address);
    let messages: Vec<_> = messages.try_iter().collect();
    assert_eq!(messages.len(), 2, "{messages:?}");
    assert_eq!(messages[0], format!("{url} answers HTTP 429: spans are kept and retried"));
    assert_eq!(
        messages[1],
        format!("cannot reach {url} (connection closed without an answer): spans are kept and retried")
    );
}

#[test]
fn retry_after_is_honoured() {
    let server = Server::start();
    server.script([Reply::Status(503, vec!["Retry-After: 1".into()], Vec::new())]);
    let exporter = exporter(&server);
    record(&exporter, "one");
    assert!(exporter.flush(PATIENCE));
    let requests = server.requests(2);
    assert!(requests[1].at - requests[0].at >= Duration::from_millis(990));
}

#[test]
fn spans_wait_for_a_receiver_that_comes_up_later() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let (reporter, messages) = reporter();
    let url = format!("http://user:secret@{address}/secret?key=secret");
    let exporter = Exporter::new(destination(url), config(), RESOURCE, reporter).unwrap();
    record(&exporter, "patient");
    assert!(!exporter.flush(Duration::from_millis(50)));
    let message = messages.recv_timeout(PATIENCE).unwrap();
    assert_eq!(message, format!("cannot reach http://{address} (connection refused): spans are kept and retried"));
    until("retried", || exporter.stats().retried >= 3);
    assert!(messages.try_recv().is_err(), "once");
    assert!(!format!("{exporter:?} {:?}", exporter.stats()).contains("secret"));
    let server = Server::listen(TcpListener::bind(address).unwrap());
    assert!(exporter.flush(PATIENCE));
    assert_eq!(server.requests(1)[0].names(), ["patient"]);
}

#[test]
fn a_shutdown_does_not_wait_for_a_receiver_that_is_not_there() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let exporter = with(destination(format!("http://{address}")), config());
    record(&exporter, "one");
    let begin = Instant::now();
    assert!(!exporter.shutdown(PATIENCE));
    assert!(begin.elapsed() < PATIENCE / 2);
    assert_eq!(exporter.stats().dropped.get(Reason::Shutdown), 1);
    assert_eq!(record(&exporter, "late"), Pushed::Dropped(Reason::Shutdown));
    assert_eq!(exporter.stats().dropped.get(Reason::Shutdown), 2);
}

#[test]
fn a_shutdown_delivers() {
    let server = Server::start();
    let exporter = exporter(&server);
    record(&exporter, "last");
    assert!(exporter.shutdown(PATIENCE));
    assert!(exporter.shutdown(PATIENCE), "twice");
    assert_eq!(server.requests(1)[0].names(), ["last"]);
}

#[test]
fn a_dropped_exporter_delivers_in_the_background() {
    let server = Server::start();
    let exporter = with(destination(server.url()), Config { delay_ns: u64::MAX, ..config() });
    record(&exporter, "orphan");
    drop(exporter);
    assert_eq!(server.requests(1)[0].names(), ["orphan"]);
}

#[test]
fn a_full_queue_drops_and_counts_and_says_so() {
    let server = Server::start();
    let (reporter, messages) = reporter();
    let config = Config { queue_bytes: 170, delay_ns: u64::MAX, ..config() };
    let exporter = Exporter::new(destination(server.url()), config, RESOURCE, reporter).unwrap();
    let results: Vec<_> = (0..10).map(|number| record(&exporter, &number.to_string())).collect();
    let dropped = results.iter().filter(|result| **result == Pushed::Dropped(Reason::QueueFull)).count();
    assert_eq!(dropped, 5);
    assert_eq!(exporter.stats().dropped.get(Reason::QueueFull), 5);
    let message = messages.recv_timeout(PATIENCE).unwrap();
    assert_eq!(message, format!("the queue for http://{} is full: new spans are dropped", server.address));
    assert!(!exporter.flush(PATIENCE), "five spans were lost");
    assert_eq!(server.requests(1)[0].names(), ["0", "1", "2", "3", "4"], "the newest go");
    assert!(exporter.flush(PATIENCE), "and that has been said");
}

#[test]
fn partial_success_is_counted_and_reported() {
    let server = Server::start();
    let (reporter, messages) = reporter();
    let exporter = Exporter::new(destination(server.url()), config(), RESOURCE, reporter).unwrap();
    let body = [&[0x0a, 11, 0x08, 1, 0x12, 7][..], b"too old"].concat();
    server.script([Reply::Status(200, vec!["content-type: application/x-protobuf".into()], body)]);
    record(&exporter, "old");
    record(&exporter, "new");
    assert!(!exporter.flush(PATIENCE), "one was not taken");
    let stats = exporter.stats();
    assert_eq!((stats.sent, stats.rejected), (1, 1));
    let message = messages.recv_timeout(PATIENCE).unwrap();
    assert_eq!(message, format!("http://{} rejected 1 span: too old", server.address));
    assert_eq!(server.seen(), 1);
}

#[test]
fn redirects_and_too_large_are_final() {
    let server = Server::start();
    let exporter = exporter(&server);
    for (status, reason) in [(307, Reason::Refused), (413, Reason::TooLarge), (500, Reason::Refused)] {
        let before = exporter.stats().dropped.get(reason);
        server.script([Reply::Status(status, vec!["location: /elsewhere".into()], b"moved".to_vec())]);
        record(&exporter, "one");
        assert!(!exporter.flush(PATIENCE), "{status}");
        assert_eq!(exporter.stats().dropped.get(reason), before + 1, "{status}");
    }
    assert_eq!(server.seen(), 3);
}

#[test]
fn json_is_what_the_encoding_says() {
    let server = Server::start();
    let encoding = Encoding::Json(Enums::Names);
    let exporter = with(Destination { encoding, ..destination(server.url()) }, config());
    record(&exporter, "span");
    assert!(exporter.flush(PATIENCE));
    let request = server.requests(1).remove(0);
    assert_eq!(request.header("content-type"), Some("application/json"));
    let body: serde_json::Value = serde_json::from_slice(&request.body).unwrap();
    let scope_spans = &body["resourceSpans"][0]["scopeSpans"][0];
    assert_eq!(scope_spans["scope"]["name"], "test");
    assert_eq!(scope_spans["spans"][0]["name"], "span");
    assert_eq!(scope_spans["spans"][0]["traceId"], "01".repeat(16));
}

#[test]
fn a_destination_that_is_down_hurts_no_other() {
    let (down, up) = (Server::start(), Server::start());
    down.script([Reply::Hang]);
    let (first, second) = (exporter(&down), exporter(&up));
    record(&first, "stuck");
    assert!(!first.flush(Duration::from_millis(20)));
    down.requests(1);
    record(&second, "free");
    assert!(second.flush(PATIENCE));
}

#[test]
fn many_threads_lose_nothing() {
    let server = Server::start();
    let exporter = with(destination(server.url()), Config { batch_bytes: 2_000, ..config() });
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let exporter = exporter.clone();
            scope.spawn(move || {
                for number in 0..500 {
                    record(&exporter, &format!("{thread} {number}"));
                    if number % 100 == 99 {
                        assert!(exporter.flush(PATIENCE));
                    }
                }
            });
        }
    });
    assert!(exporter.flush(PATIENCE));
    let mut names: Vec<_> = server.requests(1).iter().flat_map(Request::names).collect();
    names.sort();
    names.dedup();
    assert_eq!(names.len(), 2_000);
    let stats = exporter.stats();
    assert_eq!((stats.sent, stats.queued, stats.dropped.total()), (2_000, 0, 0));
}

#[test]
fn a_panicking_reporter_harms_nothing() {
    let server = Server::start();
    server.script([Reply::status(400)]);
    let reporter = Arc::new(|_: &str| panic!("expected by the test"));
    let exporter = Exporter::new(destination(server.url()), config(), RESOURCE, Some(reporter)).unwrap();
    record(&exporter, "one");
    assert!(!exporter.flush(PATIENCE));
    record(&exporter, "two");
    assert!(exporter.flush(PATIENCE));
}

#[test]
fn a_span_may_end_while_another_is_encoded() {
    let server = Server::start();
    let exporter = exporter(&server);
    exporter.record(&scope(), |_| {
        record(&exporter, "inner");
    });
    assert!(exporter.flush(PATIENCE));
    assert_eq!(server.requests(1)[0].names(), ["inner"]);
}

#[test]
fn impossible_destinations_are_errors_without_values() {
    let good = || destination("http://127.0.0.1:4318/v1/traces".into());
    let header = |name: &str, value: &str| vec![(name.to_owned(), value.to_owned())];
    for (destination, argument, why) in [
        (Destination { url: "secret".into(), ..good() }, "url", "neither http nor https"),
        (Destination { url: "ftp://secret/".into(), ..good() }, "url", "neither http nor https"),
        (Destination { url: "http:// secret".into(), ..good() }, "url", "not a URL"),
        (Destination { headers: header("se cret", ""), ..good() }, "headers", "not a header name"),
        (Destination { headers: header("a", "secret\n"), ..good() }, "headers", "not a header value"),
        (
            Destination { headers: header("Content-Type", "secret"), ..good() },
            "headers",
            "a header that the exporter sets itself",
        ),
        (Destination { user_agent: "secret\r\n".into(), ..good() }, "user_agent", "not a header value"),
        (Destination { timeout: Duration::ZERO, ..good() }, "timeout", "zero"),
    ] {
        let error = Exporter::new(destination, config(), RESOURCE, None).unwrap_err();
        assert_eq!(error, Invalid { argument, why });
        assert_eq!(error.to_string(), format!("{argument}: {why}"));
    }
}

#[test]
fn a_slow_reporter_does_not_prolong_a_shutdown() {
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", silent.local_addr().unwrap());
    let ((gate, at_gate), (says, said)) = (channel::<()>(), channel());
    let at_gate = Mutex::new(at_gate);
    let reporter: Reporter = Arc::new(move |message| {
        let passed = at_gate.lock().unwrap().recv_timeout(PATIENCE).is_ok();
        says.send((message.to_owned(), passed)).unwrap();
    });
    let exporter = Exporter::new(destination(url.clone()), config(), RESOURCE, Some(reporter)).unwrap();
    record(&exporter, "span");
    assert!(!exporter.shutdown(Duration::ZERO));
    gate.send(()).unwrap();
    let (message, passed) = said.recv_timeout(PATIENCE).unwrap();
    assert!(passed, "the shutdown has waited for it");
    assert!(message.starts_with(&format!("the time for the shutdown is over for {url}: 1 span ")), "{message}");
}

#[test]
fn one_that_is_silent_keeps_no_other_waiting() {
    let (silent, server) = (TcpListener::bind("127.0.0.1:0").unwrap(), Server::start());
    // Nothing is sent before somebody asks for it.
    let config = Config { delay_ns: 3_600_000_000_000, ..config() };
    let first = with(destination(format!("http://{}", silent.local_addr().unwrap())), config.clone());
    let second = with(destination(server.url()), config);
    for exporter in [&first, &second] {
        record(exporter, "span");
    }
    assert!(!Wait::Flush.for_all(&[&first, &second], &[], PATIENCE, || server.seen() == 0));
    assert_eq!(server.seen(), 1);
    assert!(second.flush(PATIENCE));
    assert!(!first.shutdown(Duration::ZERO));
}

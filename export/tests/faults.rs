//! Delivery through everything that networks and receivers do wrong: each span arrives exactly once, or more often where
//! the answer was lost, and the statistics say what happened.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test")]

mod common;
mod support;

use std::time::{Duration, Instant, SystemTime};

use common::{PATIENCE, RESOURCE, config, destination};
use support::certificates::{Authority, file};
use support::{Fault, Receiver, answer, record, record_named};
use tracebaton_export::{Destination, Exporter, Reason, Stats, Tls};

/// Too short for a receiver that is silent or slow here, and long enough for one that is not.
const SHORT: Duration = Duration::from_millis(1500);
/// What a receiver needs in vain.
const TOO_LONG: Duration = Duration::from_secs(60);

/// What became of the spans 1 and 2, which were sent one after the other.
struct Outcome {
    /// What the two flushes said.
    delivered: [bool; 2],
    arrived: Vec<(u64, usize)>,
    stats: Stats,
    receiver: Receiver,
}

impl Outcome {
    /// Both arrived, the first of them this often, after so many retries, and that is also what was counted.
    #[track_caller]
    fn is_delivery(&self, times: usize, retried: u64, last_error: Option<&str>) {
        assert_eq!(self.delivered, [true, true], "{:?}", self.stats);
        assert_eq!(self.arrived, [(1, times), (2, 1)], "{:?}", self.stats);
        let Stats { sent, rejected, queued, dropped, .. } = &self.stats;
        assert_eq!((*sent, *rejected, *queued, dropped.total()), (2, 0, 0, 0));
        assert_eq!((self.stats.retried, self.stats.last_error.as_deref()), (retried, last_error));
    }

    /// The first one was given up at once for this reason; the second arrived.
    #[track_caller]
    fn is_refusal(&self, last_error: &str) {
        assert_eq!(self.delivered, [false, true], "{:?}", self.stats);
        assert_eq!(self.arrived, [(1, 1), (2, 1)], "{:?}", self.stats);
        let Stats { sent, retried, dropped, .. } = &self.stats;
        assert_eq!((*sent, *retried, dropped.total(), dropped.get(Reason::Refused)), (1, 0, 1, 1));
        assert_eq!(self.stats.last_error.as_deref(), Some(last_error));
    }
}

/// Sends two spans to a receiver with these faults, each request with this time.
fn sent_within(timeout: Duration, faults: impl IntoIterator<Item = Fault>) -> Outcome {
    let receiver = Receiver::start(None);
    receiver.faults(faults);
    let url = format!("http://{}/v1/traces", receiver.address);
    let exporter = Exporter::new(Destination { timeout, ..destination(url) }, config(), RESOURCE, None).unwrap();
    let delivered = [1, 2].map(|id| {
        record(&exporter, id);
        exporter.flush(PATIENCE)
    });
    Outcome { delivered, arrived: receiver.arrived(), stats: exporter.stats(), receiver }
}

fn sent(faults: impl IntoIterator<Item = Fault>) -> Outcome {
    sent_within(PATIENCE, faults)
}

#[test]
fn without_faults() {
    let outcome = sent([]);
    outcome.is_delivery(1, 0, None);
    assert_eq!(outcome.receiver.connections(), 1);
}

#[test]
fn late_answers_are_waited_for() {
    sent([Fault::late(Duration::from_millis(200))]).is_delivery(1, 0, None);
}

#[test]
fn answers_that_come_too_late_are_lost() {
    sent_within(SHORT, [Fault::late(TOO_LONG)]).is_delivery(2, 1, Some("no answer in time"));
}

#[test]
fn silence_ends_in_time() {
    sent_within(SHORT, [Fault::Silence]).is_delivery(1, 1, Some("no answer in time"));
}

#[test]
fn resets_before_the_request_was_read() {
    let faults = [Fault::ResetUnread, Fault::ResetUnread];
    sent(faults).is_delivery(1, 2, Some("connection closed without an answer"));
}

#[test]
fn resets_after_the_request_was_read() {
    sent([Fault::ResetRead]).is_delivery(2, 1, Some("connection closed without an answer"));
}

#[test]
fn an_idle_connection_that_was_closed_is_not_used() {
    let outcome = sent([Fault::says(answer(200, &[], b""))]);
    // Whether the client saw the end in time, or wrote into the closed connection and tried again, nothing arrived twice.
    assert_eq!((outcome.delivered, &outcome.arrived[..]), ([true, true], &[(1, 1), (2, 1)][..]));
    assert_eq!((outcome.stats.sent, outcome.receiver.connections()), (2, 2));
}

#[test]
fn busy_receivers_are_asked_again() {
    for status in [429, 502, 503, 504] {
        sent([Fault::answers(status, &[], b"later")]).is_delivery(2, 1, Some(&format!("HTTP {status}")));
    }
}

#[test]
fn busy_receivers_that_say_for_how_many_seconds() {
    for status in [429, 503] {
        let begin = Instant::now();
        sent([Fault::answers(status, &["retry-after: 1"], b"")]).is_delivery(2, 1, Some(&format!("HTTP {status}")));
        assert!(begin.elapsed() >= Duration::from_secs(1));
    }
}

#[test]
fn busy_receivers_that_say_until_when() {
    let date = SystemTime::now() + Duration::from_secs(2);
    let header = format!("retry-after: {}", httpdate::fmt_http_date(date));
    sent([Fault::answers(429, &[&header], b""), Fault::answers(503, &[&header], b"")]).is_delivery(
        3,
        2,
        Some("HTTP 503"),
    );
    assert!(SystemTime::now() >= httpdate::parse_http_date(&httpdate::fmt_http_date(date)).unwrap());
}

#[test]
fn refusals_and_redirects_are_final() {
    for status in [300, 301, 302, 303, 307, 308, 400, 401, 403, 404, 500, 501] {
        let elsewhere = Receiver::start(None);
        let location = format!("location: http://{}/v1/traces", elsewhere.address);
        let outcome = sent([Fault::answers(status, &[&location], b"no")]);
        outcome.is_refusal(&format!("HTTP {status}"));
        assert_eq!(elsewhere.connections(), 0);
    }
}

#[test]
fn answers_without_a_body() {
    let outcome = sent([Fault::answers(204, &[], b"")]);
    outcome.is_delivery(1, 0, None);
    assert_eq!(outcome.receiver.connections(), 1);
}

#[test]
fn interim_answers_are_not_the_answer() {
    for interim in ["100 Continue", "102 Processing", "103 Early Hints\r\nlink: </x>; rel=preload"] {
        let interim = format!("HTTP/1.1 {interim}\r\n\r\n");
        let says = |status| {
            let bytes = [interim.as_bytes(), interim.as_bytes(), &answer(status, &[], b"")].concat();
            Fault::slow(bytes, usize::MAX)
        };
        sent([says(200)]).is_delivery(1, 0, None);
        sent([says(503)]).is_delivery(2, 1, Some("HTTP 503"));
    }
}

#[test]
fn answers_that_break_off_in_their_head_are_lost() {
    let whole = answer(200, &["content-type: application/json"], b"");
    for length in [0, 1, 9, 12, 20, whole.len() - 1] {
        sent([Fault::says(&whole[..length])]).is_delivery(2, 1, Some("connection closed without an answer"));
    }
}

#[test]
fn answers_that_break_off_in_their_body_have_been_given() {
    const WARNING: Option<&str> = Some("the answer broke off");
    let whole = answer(200, &["content-type: application/json"], br#"{"partialSuccess":{"rejectedSpans":1}}"#);
    sent([Fault::says(&whole[..whole.len() - 1])]).is_delivery(1, 0, WARNING);
    let chunked = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\n{}";
    sent([Fault::says(&chunked[..])]).is_delivery(1, 0, WARNING);
}

#[test]
fn a_head_byte_by_byte_ends_in_time() {
    let padding = format!("x-padding: {}", "x".repeat(1000));
    let slow = Fault::slow(answer(200, &[&padding], b""), 0);
    sent_within(SHORT, [slow]).is_delivery(2, 1, Some("no answer in time"));
}

#[test]
fn a_body_byte_by_byte_ends_in_time_and_leaves_the_spans_accepted() {
    // The whole of it would take a quarter of an hour.
    let whole = answer(200, &[], &[b'x'; 100_000]);
    sent_within(SHORT, [Fault::slow(whole.clone(), whole.len() - 100_000)]).is_delivery(
        1,
        0,
        Some("the answer broke off"),
    );
}

#[test]
fn a_short_answer_byte_by_byte_is_read() {
    let partial = br#"{"partialSuccess":{}}"#;
    let whole = answer(200, &["content-type: application/json"], partial);
    sent([Fault::slow(whole, 0)]).is_delivery(1, 0, None);
}

#[test]
fn oversized_answers_are_errors_and_not_read_to_their_end() {
    let mut json = br#"{"partialSuccess":{"rejectedSpans":1}}"#.to_vec();
    json.resize(5 * 1024 * 1024, b' ');
    let outcome = sent([Fault::answers(200, &["content-type: application/json"], &json)]);
    outcome.is_refusal("the answer is larger than 4 MiB");
    assert_eq!(outcome.receiver.connections(), 2, "the rest of the answer is still in the first");
    // Where the status says that the spans were not taken, the answer has nothing to add.
    sent([Fault::answers(503, &[], &json)]).is_delivery(2, 1, Some("HTTP 503"));
    json.truncate(3 * 1024 * 1024);
    let outcome = sent([Fault::answers(200, &["content-type: application/json"], &json)]);
    assert_eq!((outcome.stats.rejected, outcome.receiver.connections()), (1, 1));
}

#[test]
fn endless_heads_are_refused() {
    let padding = format!("x-padding: {}", "x".repeat(1024 * 1024));
    sent([Fault::answers(200, &[&padding], b"")]).is_refusal("the answer is not HTTP/1.1");
}

fn gzip(content: impl std::io::Read) -> Vec<u8> {
    let mut encoder = flate2::read::GzEncoder::new(content, flate2::Compression::best());
    let mut compressed = Vec::new();
    std::io::copy(&mut encoder, &mut compressed).unwrap();
    compressed
}

#[test]
fn compressed_answers_are_read() {
    let headers = ["content-encoding: gzip", "content-type: application/json"];
    let body = gzip(&br#"{"partialSuccess":{"rejectedSpans":"1","errorMessage":"bad"}}"#[..]);
    let outcome = sent([Fault::answers(200, &headers, &body)]);
    assert_eq!((outcome.delivered, outcome.receiver.connections()), ([false, true], 1));
    let Stats { sent: accepted, rejected, last_error, .. } = &outcome.stats;
    assert_eq!((*accepted, *rejected, last_error.as_deref()), (1, 1, Some("bad")));
    let heads = outcome.receiver.heads();
    assert!(heads.iter().all(|head| head.contains("\r\naccept-encoding: gzip\r\n")), "{heads:?}");
}

#[test]
fn compressed_answers_that_cannot_be_unpacked_are_errors() {
    let bomb = gzip(std::io::Read::take(std::io::repeat(b' '), 100 * 1024 * 1024));
    let outcome = sent([Fault::answers(200, &["content-encoding: gzip"], &bomb)]);
    outcome.is_refusal("the answer is larger than 4 MiB");
    assert_eq!(outcome.receiver.connections(), 1);
    let whole = gzip(&b"{}"[..]);
    for (coding, body) in [("gzip", &whole[..whole.len() - 1]), ("gzip", b"{}"), ("br", b"{}")] {
        let header = format!("content-encoding: {coding}");
        sent([Fault::answers(200, &[&header], body)]).is_refusal("the answer cannot be decompressed");
    }
    sent([Fault::answers(204, &["content-encoding: gzip"], b"")]).is_delivery(1, 0, None);
}

#[test]
fn what_is_not_http_is_refused() {
    sent([Fault::says("SSH-2.0-OpenSSH_9.2\r\n\r\n")]).is_refusal("the answer is not HTTP/1.1");
}

#[test]
fn partial_success_is_final_and_counted() {
    let protobuf = [&[0x0a, 7, 0x08, 1, 0x12, 3][..], b"bad"].concat();
    let json = br#"{"partialSuccess":{"rejectedSpans":"1","errorMessage":"bad"}}"#;
    for (header, body) in [
        ("content-type: application/x-protobuf", &protobuf[..]),
        ("content-type: application/json", json),
        // Then it is what was sent.
        ("x-powered-by: nobody", &protobuf),
    ] {
        let outcome = sent([Fault::answers(200, &[header], body)]);
        assert_eq!(outcome.delivered, [false, true]);
        assert_eq!(outcome.arrived, [(1, 1), (2, 1)]);
        let Stats { sent, rejected, retried, dropped, last_error, .. } = &outcome.stats;
        assert_eq!((*sent, *rejected, *retried, dropped.total()), (1, 1, 0, 0));
        assert_eq!(last_error.as_deref(), Some("bad"));
    }
}

#[test]
fn answers_before_the_end_of_the_request_are_heard() {
    let authority = Authority::new("private");
    for (status, reason, last_error) in
        [(401, Reason::Refused, "HTTP 401"), (413, Reason::TooLarge, "request too large")]
    {
        for secure in [false, true] {
            let tls = if secure { authority.sign("127.0.0.1").server(None) } else { None };
            let receiver = Receiver::start(tls);
            receiver.faults([Fault::Interrupts(answer(status, &["connection: close"], b""))]);
            let url = format!("http{}://{}/v1/traces", if secure { "s" } else { "" }, receiver.address);
            let tls = Tls { ca_certificate: secure.then(|| file(&authority.pem)), ..Tls::default() };
            let exporter = Exporter::new(Destination { tls, ..destination(url) }, config(), RESOURCE, None).unwrap();
            // More than the buffers of a connection take, so that writing fails.
            record_named(&exporter, 1, &vec![b'x'; 20_000_000]);
            assert!(!exporter.flush(PATIENCE), "{status}, TLS: {secure}: {:?}", exporter.stats());
            let stats = exporter.stats();
            assert_eq!((stats.retried, stats.last_error.as_deref()), (0, Some(last_error)), "{status}, TLS: {secure}");
            assert_eq!((stats.queued, stats.sent, stats.dropped.get(reason)), (0, 0, 1));
            // The connection is not used again.
            record(&exporter, 2);
            assert!(exporter.flush(PATIENCE));
            assert_eq!((receiver.arrived(), receiver.connections()), (vec![(2, 1)], 2));
        }
    }
}

#[test]
fn an_end_before_that_of_the_request_is_none_of_an_answer() {
    let receiver = Receiver::start(None);
    receiver.faults([Fault::Interrupts(Vec::new()), Fault::Interrupts(b"HTTP/1.1 401".to_vec())]);
    let url = format!("http://{}/v1/traces", receiver.address);
    let exporter = Exporter::new(destination(url), config(), RESOURCE, None).unwrap();
    record_named(&exporter, 1, &vec![b'x'; 20_000_000]);
    assert!(exporter.flush(PATIENCE));
    let stats = exporter.stats();
    let last_error = stats.last_error.as_deref();
    assert_eq!((stats.retried, last_error), (2, Some("connection closed without an answer")));
    assert_eq!(receiver.arrived(), [(1, 1)]);
}

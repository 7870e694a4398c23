//! What an HTTP answer, or the lack of one, means for the batch that was sent.

use std::borrow::Cow;
use std::io::{self, Read as _};
use std::time::{Duration, SystemTime};

use flate2::read::MultiGzDecoder;
use tracebaton::delivery::Answer;
use tracebaton::otlp::reader;

use crate::destination::Encoding;

/// The most bytes of an answer, as they come and after decompression (OTLP/HTTP, "Response size").
pub(crate) const MOST_BYTES: u64 = 4 * 1024 * 1024;
/// The most characters of a server's message that are kept.
const MESSAGE_CHARS: usize = 200;

/// Why nothing can be known of an answer's body.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Unknown {
    /// The connection, or the time, was over before its end.
    BrokenOff,
    /// It is larger than may be read, or it is not in the coding that it says, or in one that was not asked for.
    Unreadable(&'static str),
}

/// The body of an answer, decompressed; `read` is what came of reading [`MOST_BYTES`] of it.
pub(crate) fn content(read: Result<Vec<u8>, ureq::Error>, coding: Option<&str>) -> Result<Vec<u8>, Unknown> {
    const TOO_LARGE: Unknown = Unknown::Unreadable("the answer is larger than 4 MiB");
    const OTHER: Unknown = Unknown::Unreadable("the answer cannot be decompressed");
    let body = read.map_err(|error| match error {
        ureq::Error::BodyExceedsLimit(_) => TOO_LARGE,
        _ => Unknown::BrokenOff,
    })?;
    let coding = coding.unwrap_or_default().trim();
    if body.is_empty() || coding.is_empty() || coding.eq_ignore_ascii_case("identity") {
        return Ok(body);
    }
    if !coding.eq_ignore_ascii_case("gzip") && !coding.eq_ignore_ascii_case("x-gzip") {
        return Err(OTHER);
    }
    let mut content = Vec::new();
    let mut decoder = MultiGzDecoder::new(&*body).take(MOST_BYTES + 1);
    match decoder.read_to_end(&mut content) {
        Ok(length) if length as u64 > MOST_BYTES => Err(TOO_LARGE),
        Ok(_) => Ok(content),
        Err(_) => Err(OTHER),
    }
}

/// The meaning of an answer to a request in this encoding: that of its status, with what its headers and its body have
/// to add.
///
/// Spans that were accepted by an answer that cannot be read are not sent again: such an answer is "a non-retryable
/// error" (OTLP/HTTP), since it may have rejected any number of them. One that breaks off accepts them with a warning.
pub(crate) fn of_response(
    status: u16,
    content_type: Option<&str>,
    encoding: Encoding,
    retry_after: Option<&str>,
    body: Result<Vec<u8>, Unknown>,
) -> Answer {
    let after = retry_after.and_then(|text| pause(text, SystemTime::now()));
    let after_ns = after.map(|after| u64::try_from(after.as_nanos()).unwrap_or(u64::MAX));
    match (Answer::of_status(status, after_ns), body) {
        (Answer::Accepted { .. }, Ok(body)) => {
            let (rejected, message) = partial_success(content_type, encoding, &body);
            Answer::Accepted { rejected, message }
        }
        (Answer::Accepted { .. }, Err(Unknown::BrokenOff)) => {
            Answer::Accepted { rejected: 0, message: Some(String::from("the answer broke off")) }
        }
        (Answer::Accepted { .. }, Err(Unknown::Unreadable(why))) => {
            Answer::Refused { status: None, why: Some(Cow::Borrowed(why)) }
        }
        (other, _) => other,
    }
}

/// `Retry-After`: seconds, or an HTTP date. Anything else is as if it were not there.
fn pause(text: &str, now: SystemTime) -> Option<Duration> {
    let text = text.trim();
    if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) {
        // More digits than fit are a very long time.
        return Some(Duration::from_secs(text.parse().unwrap_or(u64::from(u32::MAX))));
    }
    let date = httpdate::parse_http_date(text).ok()?;
    Some(date.duration_since(now).unwrap_or(Duration::ZERO))
}

/// The rejected spans and the message of an `ExportTraceServiceResponse`. Where no type is said, it is in the encoding of
/// the request, as OTLP/HTTP has it. A body that says to be one and is not is worth a warning; any other says nothing:
/// the status has already said that the spans were accepted.
fn partial_success(content_type: Option<&str>, encoding: Encoding, body: &[u8]) -> (u64, Option<String>) {
    let media_type = content_type.and_then(|it| it.split(';').next()).map(str::trim).filter(|it| !it.is_empty());
    let read = match media_type.unwrap_or(encoding.content_type()) {
        it if it.eq_ignore_ascii_case("application/json") => json_partial_success(body),
        it if it.eq_ignore_ascii_case("application/x-protobuf") => protobuf_partial_success(body),
        _ => return (0, None),
    };
    match read {
        _ if body.is_empty() => (0, None),
        Some((rejected, message)) => {
            (u64::try_from(rejected).unwrap_or(0), (!message.is_empty()).then(|| shown(&message)))
        }
        None => (0, media_type.map(|_| String::from("the answer is damaged"))),
    }
}

/// Nothing if the body is not OTLP.
fn protobuf_partial_success(body: &[u8]) -> Option<(i64, String)> {
    let partial = reader::response(body).ok()?;
    Some(partial.map_or((0, String::new()), |partial| (partial.rejected_spans, partial.error_message)))
}

/// Nothing if the body is not JSON.
fn json_partial_success(body: &[u8]) -> Option<(i64, String)> {
    let body: serde_json::Value = serde_json::from_slice(body).ok()?;
    let Some(partial) = body.get("partialSuccess") else { return Some((0, String::new())) };
    let rejected = partial.get("rejectedSpans");
    // int64 is a string in OTLP/JSON; a number is taken too.
    let rejected = rejected.and_then(|count| count.as_i64().or_else(|| count.as_str()?.parse().ok())).unwrap_or(0);
    let message = partial.get("errorMessage").and_then(|text| text.as_str()).unwrap_or_default();
    Some((rejected, message.to_owned()))
}

/// A server's message in one line of bounded length.
fn shown(message: &str) -> String {
    message.chars().take(MESSAGE_CHARS).map(|c| if c.is_control() { ' ' } else { c }).collect()
}

/// The meaning of a request that got no HTTP answer.
pub(crate) fn of_error(error: &ureq::Error) -> Answer {
    use ureq::{Error, Timeout};
    let not_connected = |why: &'static str| Answer::Unreachable { connected: false, why: Cow::Borrowed(why) };
    let disconnected = |why: &'static str| Answer::Unreachable { connected: true, why: Cow::Borrowed(why) };
    let refused = |why: &'static str| Answer::Refused { status: None, why: Some(Cow::Borrowed(why)) };
    match error {
        Error::HostNotFound => not_connected("host name not found"),
        Error::Timeout(Timeout::Resolve | Timeout::Connect) | Error::ConnectionFailed => {
            not_connected("no connection in time")
        }
        Error::Timeout(_) => disconnected("no answer in time"),
        Error::Io(error) => of_io_error(error),
        // What rustls says about a certificate or a protocol version holds no secret and is what one needs to know.
        Error::Tls(why) => not_connected(why),
        Error::Rustls(why) => Answer::Unreachable { connected: false, why: Cow::Owned(format!("TLS: {why}")) },
        Error::ConnectProxyFailed(_) | Error::InvalidProxyUrl => not_connected("the proxy gives no connection"),
        Error::Protocol(_) | Error::LargeResponseHeader(..) => refused("the answer is not HTTP/1.1"),
        _ => refused("the request cannot be sent"),
    }
}

fn of_io_error(error: &io::Error) -> Answer {
    let (connected, why) = match error.kind() {
        io::ErrorKind::ConnectionRefused => (false, "connection refused"),
        io::ErrorKind::HostUnreachable | io::ErrorKind::NetworkUnreachable | io::ErrorKind::NetworkDown => {
            (false, "network unreachable")
        }
        io::ErrorKind::AddrNotAvailable => (false, "address not available"),
        io::ErrorKind::PermissionDenied => (false, "connection not permitted"),
        io::ErrorKind::TimedOut | io::ErrorKind::WouldBlock => (true, "no answer in time"),
        // TLS errors arrive in this form during the handshake.
        io::ErrorKind::InvalidData => {
            return Answer::Unreachable { connected: false, why: Cow::Owned(format!("TLS: {error}")) };
        }
        io::ErrorKind::ConnectionReset
        | io::ErrorKind::ConnectionAborted
        | io::ErrorKind::BrokenPipe
        | io::ErrorKind::UnexpectedEof => (true, "connection closed without an answer"),
        _ => (true, "connection failed"),
    };
    Answer::Unreachable { connected, why: Cow::Borrowed(why) }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    fn accepted(rejected: u64, message: Option<&str>) -> Answer {
        Answer::Accepted { rejected, message: message.map(str::to_owned) }
    }

    /// The meaning of an answer to a request in protobuf.
    fn meaning(status: u16, content_type: &str, body: &[u8]) -> Answer {
        of_response(status, Some(content_type), Encoding::Protobuf, None, Ok(body.to_vec()))
    }

    #[test]
    fn statuses() {
        for status in [200, 201, 202, 204, 299] {
            assert_eq!(meaning(status, "", b""), accepted(0, None), "{status}");
        }
        for status in [429, 502, 503, 504] {
            assert_eq!(meaning(status, "", b""), Answer::Retry { status, after_ns: None });
        }
        assert_eq!(meaning(413, "", b""), Answer::TooLarge);
        for status in [301, 307, 400, 401, 404, 408, 415, 500, 501, 505] {
            assert_eq!(meaning(status, "", b""), Answer::Refused { status: Some(status), why: None });
        }
    }

    #[test]
    fn what_cannot_be_read_changes_only_acceptance() {
        let unreadable = |status| of_response(status, None, Encoding::Protobuf, None, Err(Unknown::Unreadable("why")));
        assert_eq!(unreadable(200), Answer::Refused { status: None, why: Some("why".into()) });
        assert_eq!(unreadable(503), Answer::Retry { status: 503, after_ns: None });
        assert_eq!(unreadable(400), Answer::Refused { status: Some(400), why: None });
        let broken_off = of_response(200, None, Encoding::Protobuf, None, Err(Unknown::BrokenOff));
        assert_eq!(broken_off, accepted(0, Some("the answer broke off")));
    }

    #[test]
    fn only_gzip_is_decompressed_and_not_without_bounds() {
        let gzip = |content: &[u8]| {
            let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
            encoder.write_all(content).unwrap();
            encoder.finish().unwrap()
        };
        let unreadable = |why| Err(Unknown::Unreadable(why));
        let (damaged, large) = ("the answer cannot be decompressed", "the answer is larger than 4 MiB");
        for coding in ["gzip", "GZip", " x-gzip "] {
            assert_eq!(content(Ok(gzip(b"abc")), Some(coding)), Ok(b"abc".to_vec()), "{coding}");
        }
        // Several members are one content (RFC 1952 §2.2).
        assert_eq!(content(Ok([gzip(b"abc"), gzip(b"de")].concat()), Some("gzip")), Ok(b"abcde".to_vec()));
        for coding in [None, Some(""), Some("identity")] {
            assert_eq!(content(Ok(b"abc".to_vec()), coding), Ok(b"abc".to_vec()));
        }
        assert_eq!(content(Ok(Vec::new()), Some("br")), Ok(Vec::new()));
        for coding in ["br", "zstd", "deflate", "gzip, br", "gzip, gzip"] {
            assert_eq!(content(Ok(gzip(b"abc")), Some(coding)), unreadable(damaged), "{coding}");
        }
        let whole = gzip(b"abc");
        assert_eq!(content(Ok(whole[..whole.len() - 1].to_vec()), Some("gzip")), unreadable(damaged));
        assert_eq!(content(Ok(b"abc".to_vec()), Some("gzip")), unreadable(damaged));
        let most = vec![0; MOST_BYTES as usize];
        assert_eq!(content(Ok(gzip(&most)), Some("gzip")), Ok(most.clone()));
        assert_eq!(content(Ok(gzip(&[&most[..], b"x"].concat())), Some("gzip")), unreadable(large));
    }

    #[test]
    fn retry_after_is_seconds_or_a_date() {
        let now = httpdate::parse_http_date("Sun, 06 Nov 1994 08:49:37 GMT").unwrap();
        for (text, seconds) in [
            ("0", Some(0)),
            (" 120 ", Some(120)),
            ("99999999999999999999999", Some(u64::from(u32::MAX))),
            ("Sun, 06 Nov 1994 08:50:00 GMT", Some(23)),
            ("Sun, 06 Nov 1994 08:00:00 GMT", Some(0)),
            ("", None),
            ("-1", None),
            ("1.5", None),
            ("soon", None),
        ] {
            assert_eq!(pause(text, now), seconds.map(Duration::from_secs), "{text:?}");
        }
    }

    #[test]
    fn partial_success_in_both_encodings() {
        let protobuf = [&[0x0a, 7, 0x08, 3, 0x12, 3][..], b"bad"].concat();
        let damaged = accepted(0, Some("the answer is damaged"));
        assert_eq!(meaning(200, "application/x-protobuf", &protobuf), accepted(3, Some("bad")));
        assert_eq!(meaning(200, "application/x-protobuf", &protobuf[..5]), damaged);
        for json in [
            r#"{"partialSuccess":{"rejectedSpans":"3","errorMessage":"bad"}}"#,
            r#"{"partialSuccess":{"rejectedSpans":3,"errorMessage":"bad"}}"#,
        ] {
            let answer = meaning(200, "application/json; charset=utf-8", json.as_bytes());
            assert_eq!(answer, accepted(3, Some("bad")));
        }
        let warning = br#"{"partialSuccess":{"errorMessage":"old\nversion"}}"#;
        assert_eq!(meaning(200, "application/json", warning), accepted(0, Some("old version")));
        for nothing in [
            &b"{}"[..],
            b"",
            b"{\"success\":true}",
            b"{\"partialSuccess\":{}}",
            b"{\"partialSuccess\":{\"rejectedSpans\":\"-1\"}}",
        ] {
            assert_eq!(meaning(200, "application/json", nothing), accepted(0, None));
        }
        assert_eq!(meaning(200, "application/json", b"not json"), damaged);
        assert_eq!(meaning(200, "text/html", &protobuf), accepted(0, None));
    }

    #[test]
    fn without_a_type_the_answer_is_in_the_encoding_of_the_request() {
        let protobuf = [&[0x0a, 7, 0x08, 3, 0x12, 3][..], b"bad"].concat();
        let json = br#"{"partialSuccess":{"rejectedSpans":"3","errorMessage":"bad"}}"#;
        let enums = tracebaton::otlp::json::Enums::Numbers;
        for content_type in [None, Some(""), Some(" ; charset=utf-8")] {
            let meaning = |encoding, body: &[u8]| of_response(200, content_type, encoding, None, Ok(body.to_vec()));
            assert_eq!(meaning(Encoding::Protobuf, &protobuf), accepted(3, Some("bad")));
            assert_eq!(meaning(Encoding::Json(enums), json), accepted(3, Some("bad")));
            // Nobody has said that this is OTLP.
            assert_eq!(meaning(Encoding::Json(enums), b"ok"), accepted(0, None));
        }
    }
}

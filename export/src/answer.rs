//! What an HTTP answer, or the lack of one, means for the batch that was sent.

use std::borrow::Cow;
use std::io;
use std::time::{Duration, SystemTime};

use tracebaton::delivery::Answer;
use tracebaton::otlp::reader;

/// The most characters of a server's message that are kept.
const MESSAGE_CHARS: usize = 200;

/// The meaning of an answer: that of its status, with what its headers and its body have to add.
pub(crate) fn of_response(status: u16, content_type: &str, retry_after: Option<&str>, body: &[u8]) -> Answer {
    let after = retry_after.and_then(|text| pause(text, SystemTime::now()));
    let after_ns = after.map(|after| u64::try_from(after.as_nanos()).unwrap_or(u64::MAX));
    match Answer::of_status(status, after_ns) {
        Answer::Accepted { .. } => {
            let (rejected, message) = partial_success(content_type, body);
            Answer::Accepted { rejected, message }
        }
        other => other,
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

/// The rejected spans and the message of an `ExportTraceServiceResponse`. A body that is not one says nothing: the
/// status has already said that the spans were accepted.
fn partial_success(content_type: &str, body: &[u8]) -> (u64, Option<String>) {
    if body.is_empty() {
        return (0, None);
    }
    let media_type = content_type.split(';').next().unwrap_or_default().trim();
    let found = if media_type.eq_ignore_ascii_case("application/json") {
        json_partial_success(body)
    } else if media_type.eq_ignore_ascii_case("application/x-protobuf") {
        match reader::response(body) {
            Ok(Some(partial)) => Some((partial.rejected_spans, partial.error_message)),
            _ => None,
        }
    } else {
        None
    };
    let Some((rejected, message)) = found else { return (0, None) };
    (u64::try_from(rejected).unwrap_or(0), (!message.is_empty()).then(|| shown(&message)))
}

fn json_partial_success(body: &[u8]) -> Option<(i64, String)> {
    let body: serde_json::Value = serde_json::from_slice(body).ok()?;
    let partial = body.get("partialSuccess")?;
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
    use super::*;

    fn accepted(rejected: u64, message: Option<&str>) -> Answer {
        Answer::Accepted { rejected, message: message.map(str::to_owned) }
    }

    #[test]
    fn statuses() {
        for status in [200, 201, 202, 204, 299] {
            assert_eq!(of_response(status, "", None, b""), accepted(0, None), "{status}");
        }
        for status in [429, 502, 503, 504] {
            assert_eq!(of_response(status, "", None, b""), Answer::Retry { status, after_ns: None });
        }
        assert_eq!(of_response(413, "", None, b""), Answer::TooLarge);
        for status in [301, 307, 400, 401, 404, 408, 415, 500, 501, 505] {
            assert_eq!(of_response(status, "", None, b""), Answer::Refused { status: Some(status), why: None });
        }
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
        assert_eq!(of_response(200, "application/x-protobuf", None, &protobuf), accepted(3, Some("bad")));
        for json in [
            r#"{"partialSuccess":{"rejectedSpans":"3","errorMessage":"bad"}}"#,
            r#"{"partialSuccess":{"rejectedSpans":3,"errorMessage":"bad"}}"#,
        ] {
            let answer = of_response(200, "application/json; charset=utf-8", None, json.as_bytes());
            assert_eq!(answer, accepted(3, Some("bad")));
        }
        let warning = br#"{"partialSuccess":{"errorMessage":"old\nversion"}}"#;
        assert_eq!(of_response(200, "application/json", None, warning), accepted(0, Some("old version")));
        for nothing in
            [&b"{}"[..], b"not json", b"{\"partialSuccess\":{}}", b"{\"partialSuccess\":{\"rejectedSpans\":\"-1\"}}"]
        {
            assert_eq!(of_response(200, "application/json", None, nothing), accepted(0, None));
        }
        assert_eq!(of_response(200, "text/html", None, &protobuf), accepted(0, None));
    }
}

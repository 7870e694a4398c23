//! Reading a request's body within its caps, compressed or not.

use std::io::{self, Read};
use std::time::Duration;

use axum::body::Body;
use axum::http::{HeaderMap, StatusCode, header};
use flate2::read::MultiGzDecoder;
use http_body_util::BodyExt;

/// The most that a request's body may hold, as sent and after decompression (the cap of the OTLP specification).
pub(crate) const MAX_BODY: usize = 64 * 1024 * 1024;

/// How much more is read and thrown away, so that a client that writes all of its request before it reads gets to see
/// the answer instead of a reset connection.
const MAX_DISCARDED: usize = 64 * 1024 * 1024;

/// How long a body may take to arrive.
const PATIENCE: Duration = Duration::from_secs(60);

/// Why a request is refused: a status and a short text for people.
#[derive(Debug)]
pub(crate) struct Refusal(pub(crate) StatusCode, pub(crate) String);

impl Refusal {
    pub(crate) fn bad(text: impl Into<String>) -> Self {
        Self(StatusCode::BAD_REQUEST, text.into())
    }

    fn too_large() -> Self {
        Self(StatusCode::PAYLOAD_TOO_LARGE, format!("the body is larger than {} MiB", MAX_BODY / 1024 / 1024))
    }
}

impl From<rusqlite::Error> for Refusal {
    fn from(error: rusqlite::Error) -> Self {
        Self(StatusCode::INTERNAL_SERVER_ERROR, format!("the database failed: {error}"))
    }
}

/// How a body is compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Encoding {
    Identity,
    Gzip,
}

impl Encoding {
    /// From `Content-Encoding`; one that is not known here is 415.
    pub(crate) fn of(headers: &HeaderMap) -> Result<Self, Refusal> {
        let mut values = headers.get_all(header::CONTENT_ENCODING).iter();
        let value = values.next().map_or(&b""[..], |value| value.as_bytes()).trim_ascii();
        let more = values.next().is_some();
        match value {
            b"" if !more => Ok(Self::Identity),
            value if value.eq_ignore_ascii_case(b"identity") && !more => Ok(Self::Identity),
            value if value.eq_ignore_ascii_case(b"gzip") && !more => Ok(Self::Gzip),
            _ => Err(Refusal(
                StatusCode::UNSUPPORTED_MEDIA_TYPE,
                "the content encoding must be gzip, or none".to_owned(),
            )),
        }
    }
}

/// Reads a body as it was sent, up to the cap: 413 above it, 408 when it does not come.
pub(crate) async fn read(headers: &HeaderMap, body: Body) -> Result<Vec<u8>, Refusal> {
    let announced = headers.get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse::<usize>().ok());
    // A client that asks first, or one whose rest is not worth reading, is told at once.
    let waits = headers.contains_key(header::EXPECT);
    if announced.is_some_and(|length| length > MAX_BODY && (waits || length > MAX_BODY + MAX_DISCARDED)) {
        return Err(Refusal::too_large());
    }
    tokio::time::timeout(PATIENCE, collect(body))
        .await
        .map_err(|_| Refusal(StatusCode::REQUEST_TIMEOUT, "the body did not arrive in time".to_owned()))?
}

async fn collect(mut body: Body) -> Result<Vec<u8>, Refusal> {
    let mut bytes = Vec::new();
    let mut seen = 0_usize;
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|_| Refusal::bad("the body ended too early"))?;
        let Ok(data) = frame.into_data() else { continue };
        seen = seen.saturating_add(data.len());
        if seen <= MAX_BODY {
            bytes.extend_from_slice(&data);
        } else if seen > MAX_BODY + MAX_DISCARDED {
            break;
        } else {
            bytes = Vec::new();
        }
    }
    if seen > MAX_BODY { Err(Refusal::too_large()) } else { Ok(bytes) }
}

/// Undoes the compression, up to the same cap: 413 above it, 400 for what is not gzip.
pub(crate) fn decompress(bytes: Vec<u8>, encoding: Encoding) -> Result<Vec<u8>, Refusal> {
    decompress_within(bytes, encoding, MAX_BODY)
}

fn decompress_within(bytes: Vec<u8>, encoding: Encoding, cap: usize) -> Result<Vec<u8>, Refusal> {
    if encoding == Encoding::Identity {
        return Ok(bytes);
    }
    let mut out = Vec::new();
    let read = MultiGzDecoder::new(bytes.as_slice()).take(cap as u64 + 1).read_to_end(&mut out);
    match read {
        Ok(_) if out.len() > cap => Err(Refusal::too_large()),
        Ok(_) => Ok(out),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Err(Refusal::bad("the gzip data is cut off")),
        Err(_) => Err(Refusal::bad("the body is not gzip")),
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use flate2::{Compression, write::GzEncoder};

    use super::*;

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    fn status(result: Result<Vec<u8>, Refusal>) -> u16 {
        result.map_or_else(|refusal| refusal.0.as_u16(), |_| 200)
    }

    #[test]
    fn the_cap_holds_after_decompression_to_the_byte() {
        let bytes = vec![7; 1000];
        assert_eq!(decompress_within(gzip(&bytes), Encoding::Gzip, 1000).unwrap(), bytes);
        assert_eq!(status(decompress_within(gzip(&bytes), Encoding::Gzip, 999)), 413);
    }

    #[test]
    fn several_members_are_one_body_and_count_as_one() {
        let two = [gzip(b"one"), gzip(b"two")].concat();
        assert_eq!(decompress_within(two.clone(), Encoding::Gzip, 6).unwrap(), b"onetwo");
        assert_eq!(status(decompress_within(two, Encoding::Gzip, 5)), 413);
    }

    #[test]
    fn what_is_not_gzip_is_refused() {
        let whole = gzip(b"some text that is long enough to be cut");
        assert_eq!(status(decompress_within(b"plain".to_vec(), Encoding::Gzip, 100)), 400);
        assert_eq!(status(decompress_within(whole[..whole.len() - 6].to_vec(), Encoding::Gzip, 100)), 400);
        assert_eq!(status(decompress_within(Vec::new(), Encoding::Gzip, 100)), 400);
    }

    #[test]
    fn encodings() {
        let of = |values: &[&str]| {
            let mut headers = HeaderMap::new();
            for value in values {
                headers.append(header::CONTENT_ENCODING, value.parse().unwrap());
            }
            Encoding::of(&headers).map_err(|refusal| refusal.0.as_u16())
        };
        assert_eq!(of(&[]), Ok(Encoding::Identity));
        assert_eq!(of(&["identity"]), Ok(Encoding::Identity));
        assert_eq!(of(&["GZIP "]), Ok(Encoding::Gzip));
        assert_eq!(of(&["br"]), Err(415));
        assert_eq!(of(&["gzip, gzip"]), Err(415));
        assert_eq!(of(&["gzip", "gzip"]), Err(415));
    }
}

//! Where spans go, and in which form.

use std::fmt;
use std::time::Duration;

use tracebaton::otlp::json::Enums;
use tracebaton::settings::Tls;
use ureq::http::{HeaderName, HeaderValue, Uri};

/// How a request is encoded. The content type is exactly `application/x-protobuf` or `application/json`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Encoding {
    /// OTLP's protobuf encoding.
    Protobuf,
    /// OTLP's JSON encoding, with enums as numbers (as the specification wants) or as names (as HoneyHive wants).
    Json(Enums),
    /// Not OTLP: requests about sessions, made by [`Sessions`](crate::Sessions).
    Sessions,
}

impl Encoding {
    pub(crate) fn content_type(self) -> &'static str {
        match self {
            Self::Protobuf => "application/x-protobuf",
            Self::Json(_) | Self::Sessions => "application/json",
        }
    }

    /// How many of what is sent, in words.
    pub(crate) fn count(self, count: u64) -> String {
        match (self, count) {
            (Self::Sessions, 1) => String::from("1 session request"),
            (Self::Sessions, _) => format!("{count} session requests"),
            (_, 1) => String::from("1 span"),
            _ => format!("{count} spans"),
        }
    }

    /// What is sent, in words.
    pub(crate) fn what(self) -> &'static str {
        if self == Self::Sessions { "session requests" } else { "spans" }
    }
}

/// An endpoint that takes spans over OTLP/HTTP. Exporters whose destinations are equal share one thread and its
/// connection.
#[derive(Clone, PartialEq, Eq)]
pub struct Destination {
    /// The whole URL that requests are posted to, `http` or `https`.
    pub url: String,
    /// Headers of every request besides those that the encoding sets, such as `Authorization`.
    pub headers: Vec<(String, String)>,
    /// How requests are encoded.
    pub encoding: Encoding,
    /// Whether bodies above 1 KiB are compressed.
    pub gzip: bool,
    /// The longest time from the connection to the end of the answer.
    pub timeout: Duration,
    /// The `User-Agent`.
    pub user_agent: String,
    /// The certificates of an `https` URL. Its files are opened when a connection is made: one that is missing or
    /// invalid makes the destination unreachable, until it is there.
    pub tls: Tls,
}

/// A destination that no request could be sent to. It names the argument and holds nothing of its value.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Invalid {
    /// The field of [`Destination`].
    pub argument: &'static str,
    /// What is wrong with it.
    pub why: &'static str,
}

impl fmt::Display for Invalid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.argument, self.why)
    }
}

impl std::error::Error for Invalid {}

impl fmt::Debug for Destination {
    /// Leaves out the values of headers and all of the URL that may hold a secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<&str> = self.headers.iter().map(|(name, _)| name.as_str()).collect();
        f.debug_struct("Destination")
            .field("url", &self.shown_url())
            .field("headers", &names)
            .field("encoding", &self.encoding)
            .field("gzip", &self.gzip)
            .field("timeout", &self.timeout)
            .field("user_agent", &self.user_agent)
            .field("tls", &self.tls)
            .finish()
    }
}

impl Destination {
    /// Whether requests can be sent there: the URL has a host and is `http` or `https`, headers are legal and none is
    /// one that the exporter sets itself.
    pub fn check(&self) -> Result<(), Invalid> {
        let invalid = |argument, why| Err(Invalid { argument, why });
        let Ok(uri) = self.url.parse::<Uri>() else { return invalid("url", "not a URL") };
        if !matches!(uri.scheme_str(), Some("http" | "https")) {
            return invalid("url", "neither http nor https");
        }
        if uri.host().is_none_or(str::is_empty) {
            return invalid("url", "no host");
        }
        for (name, value) in &self.headers {
            let Ok(name) = HeaderName::from_bytes(name.as_bytes()) else {
                return invalid("headers", "not a header name");
            };
            if HeaderValue::from_bytes(value.as_bytes()).is_err() {
                return invalid("headers", "not a header value");
            }
            if matches!(
                name.as_str(),
                "content-type" | "content-length" | "content-encoding" | "transfer-encoding" | "connection" | "expect"
            ) {
                return invalid("headers", "a header that the exporter sets itself");
            }
        }
        if HeaderValue::from_bytes(self.user_agent.as_bytes()).is_err() {
            return invalid("user_agent", "not a header value");
        }
        if self.timeout.is_zero() {
            return invalid("timeout", "zero");
        }
        Ok(())
    }

    pub(crate) fn is_secure(&self) -> bool {
        self.url.parse::<Uri>().is_ok_and(|uri| uri.scheme_str() == Some("https"))
    }

    /// The URL as it may be shown: scheme, host and port. User, password, path and query can hold secrets.
    pub fn shown_url(&self) -> String {
        let Ok(uri) = self.url.parse::<Uri>() else { return String::from("(invalid URL)") };
        let host = uri.host().unwrap_or_default();
        let scheme = uri.scheme_str().unwrap_or_default();
        match uri.port_u16() {
            Some(port) => format!("{scheme}://{host}:{port}"),
            None => format!("{scheme}://{host}"),
        }
    }
}

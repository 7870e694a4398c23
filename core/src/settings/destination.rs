//! Where spans go: HoneyHive, an OTLP endpoint, the console, the program's own memory, or nowhere.

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::fmt;

use super::environment::{Environment, one_of, pairs};
use super::url::Url;
use super::{ArgumentError, Arguments, given, resource};
use crate::otlp::json::Enums;
use crate::percent;

/// HoneyHive, where nothing else is said.
pub const HONEYHIVE_URL: &str = "https://api.dp1.us.honeyhive.ai";
/// Where OTLP goes if nothing else is said: the local viewer or collector.
pub const LOCAL_URL: &str = "http://127.0.0.1:4318/v1/traces";

const HONEYHIVE_PATH: &str = "/opentelemetry/v1/traces";
const TRACES_PATH: &str = "/v1/traces";
/// OTLP's ports: gRPC and HTTP.
const GRPC_PORT: u16 = 4317;
const HTTP_PORT: u16 = 4318;
/// How long one request may take (OpenTelemetry specification, OTLP exporter), in nanoseconds.
const OTLP_TIMEOUT_NS: u64 = 10_000_000_000;
/// The same for HoneyHive, as its own client has it.
const HONEYHIVE_TIMEOUT_NS: u64 = 30_000_000_000;

/// One place that spans go to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Exporter {
    /// HoneyHive: its key is in the headers, its backend nests spans within one request and takes no gzip.
    HoneyHive(Otlp),
    /// An OTLP endpoint.
    Otlp(Otlp),
    /// The program's output.
    Console,
    /// A list in the program, for its tests.
    Memory,
}

/// How OTLP is sent.
#[derive(Clone, PartialEq, Eq)]
pub struct Otlp {
    /// Where to: an `http` or `https` URL with its path, without credentials.
    pub url: String,
    /// What the request has beside `Content-Type`, `Content-Encoding` and `User-Agent`. Each name once; values are
    /// visible ASCII and spaces. **Secret**: the `Debug` form leaves the values out.
    pub headers: Vec<(String, String)>,
    /// The body's encoding.
    pub encoding: Encoding,
    /// Whether bodies above 1 KiB are compressed with gzip.
    pub gzip: bool,
    /// How long one request may take, in nanoseconds.
    pub timeout_ns: u64,
    /// Whom an `https` connection trusts, and who it says it is.
    pub tls: Tls,
}

/// The files of TLS, as paths of PEM files that nobody has looked into yet. Without any, the system's trusted
/// certificates apply.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tls {
    /// The certificates that the server's must come from, in place of the system's.
    pub ca_certificate: Option<String>,
    /// The certificate, with its chain, by which the client shows who it is.
    pub client_certificate: Option<String>,
    /// That certificate's private key. If there is none, it is in the file of the certificate.
    pub client_key: Option<String>,
}

impl fmt::Debug for Otlp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Otlp")
            .field("url", &self.url)
            .field("headers", &self.headers.iter().map(|(name, _)| name).collect::<Vec<_>>())
            .field("encoding", &self.encoding)
            .field("gzip", &self.gzip)
            .field("timeout_ns", &self.timeout_ns)
            .field("tls", &self.tls)
            .finish()
    }
}

/// How a request's body is written, which also decides its content type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Encoding {
    /// `application/x-protobuf`.
    Protobuf,
    /// `application/json`, in one of its two dialects.
    Json(Enums),
}

/// What else is called at HoneyHive: sessions and events.
#[derive(Clone, PartialEq, Eq)]
pub struct HoneyHive {
    /// The API key. **Secret**: the `Debug` form leaves it out.
    pub api_key: String,
    /// The URL that paths such as `/session/start` are appended to: without credentials and without a final `/`.
    pub base_url: String,
    /// What every request has: `Authorization` and HoneyHive's headers about the client. **Secret**, as the key.
    pub headers: Vec<(String, String)>,
}

impl fmt::Debug for HoneyHive {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HoneyHive").field("base_url", &self.base_url).finish_non_exhaustive()
    }
}

/// What an exporter is called in `exporter=`.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    HoneyHive,
    Otlp,
    Console,
    Memory,
}

/// Decides where spans go (SET4) and how they get there. HoneyHive is among the answers if there is a key and it is
/// named, or nothing is.
pub(super) fn resolve(
    arguments: &Arguments<'_>,
    environment: &mut Environment<'_>,
    source: &str,
    test_mode: bool,
) -> Result<(Vec<Exporter>, Option<HoneyHive>), ArgumentError> {
    let named = named(arguments.exporter)?;
    let honeyhive = honeyhive(arguments, environment)?;
    // Wrong arguments are errors even where another one leaves them without effect.
    let endpoint = given(arguments.otlp_endpoint).map(|text| Url::parse(text.trim())).transpose();
    let endpoint = endpoint.map_err(|reason| ArgumentError::new("otlp_endpoint", reason))?;
    let json = protocol_argument(arguments)?;
    for &(name, value) in arguments.otlp_headers {
        if !is_free_header_name(name) || !is_header_value(value) {
            return Err(ArgumentError::new("otlp_headers", "headers that HTTP allows, other than Content-*"));
        }
    }

    let mut kinds = match named {
        Some(kinds) => kinds,
        None if test_mode => Vec::new(),
        None if honeyhive.is_some() => Vec::from([Kind::HoneyHive]),
        None => from_environment(environment),
    };
    // SET8, and not undone by `exporter=`: whoever says that nothing is to be sent means every place.
    if !arguments.otlp_enabled.or_else(|| environment.switch("HH_OTLP_ENABLED")).unwrap_or(true) {
        kinds.retain(|kind| !matches!(kind, Kind::HoneyHive | Kind::Otlp));
    }

    let mut exporters = Vec::new();
    let mut used = None;
    for kind in kinds {
        exporters.push(match kind {
            Kind::Console => Exporter::Console,
            Kind::Memory => Exporter::Memory,
            Kind::Otlp => Exporter::Otlp(otlp(arguments, environment, endpoint.as_ref(), json)),
            Kind::HoneyHive => {
                let Some(honeyhive) = honeyhive.clone() else {
                    // The key comes from the environment as a rule, and what is missing there fails nothing.
                    environment.warn("exporter \"honeyhive\" needs api_key or HH_API_KEY; it is left out".to_string());
                    continue;
                };
                let json = json.or_else(|| environment.first(&["HH_OTLP_PROTOCOL"], HTTP_PROTOCOLS, http_protocol));
                let exporter = to_honeyhive(&honeyhive, source, json.unwrap_or(true));
                used = Some(honeyhive);
                Exporter::HoneyHive(exporter)
            }
        });
    }
    Ok((exporters, used))
}

/// The names in `exporter=`, each once; `None` if there are none.
fn named(names: &[&str]) -> Result<Option<Vec<Kind>>, ArgumentError> {
    let mut kinds = Vec::new();
    for &name in names {
        let kind = match name {
            "honeyhive" => Kind::HoneyHive,
            "otlp" => Kind::Otlp,
            "console" => Kind::Console,
            "memory" => Kind::Memory,
            "none" if names.iter().all(|&other| other == "none") => continue,
            "none" => return Err(ArgumentError::new("exporter", "\"none\" alone, or others without it")),
            _ => {
                return Err(ArgumentError::new(
                    "exporter",
                    "\"honeyhive\", \"otlp\", \"console\", \"memory\" or \"none\"",
                ));
            }
        };
        if !kinds.contains(&kind) {
            kinds.push(kind);
        }
    }
    Ok(if names.is_empty() { None } else { Some(kinds) })
}

/// `OTEL_TRACES_EXPORTER`: a list of `otlp`, `console`, `none`. Unknown names are ignored with a warning.
fn from_environment(environment: &mut Environment<'_>) -> Vec<Kind> {
    const NAME: &str = "OTEL_TRACES_EXPORTER";
    let words = [("otlp", Some(Kind::Otlp)), ("console", Some(Kind::Console)), ("none", None)];
    let mut kinds = Vec::new();
    let mut none = false;
    let mut unknown = false;
    let text = environment.text(NAME).unwrap_or_default();
    for name in text.split(',').map(str::trim).filter(|name| !name.is_empty()) {
        match one_of(name, &words) {
            Some(Some(kind)) if kinds.contains(&kind) => {}
            Some(Some(kind)) => kinds.push(kind),
            Some(None) => none = true,
            None => unknown = true,
        }
    }
    if unknown {
        environment.warn(format!("{NAME} names something else than otlp, console and none; that is ignored"));
    }
    if kinds.is_empty() && !none {
        kinds.push(Kind::Otlp);
    }
    kinds
}

/// The key and the base URL, if there is a key.
fn honeyhive(arguments: &Arguments<'_>, environment: &mut Environment<'_>) -> Result<Option<HoneyHive>, ArgumentError> {
    // A key travels in a header, and a line end in one would begin another header.
    let sendable = |key: &str| key.bytes().all(|byte| byte.is_ascii_graphic());
    let api_key = match given(arguments.api_key).map(str::trim) {
        Some(key) if sendable(key) => Some(key.to_string()),
        Some(_) => return Err(ArgumentError::new("api_key", "visible ASCII characters only")),
        None => environment.first(&["HH_API_KEY", "HONEYHIVE_API_KEY"], "a key of visible ASCII characters", |key| {
            Some(key.to_string()).filter(|key| sendable(key))
        }),
    };
    let argument = match given(arguments.server_url) {
        Some(text) => Some(base_url(text.trim()).map_err(|reason| ArgumentError::new("server_url", reason))?),
        None => None,
    };
    let Some(api_key) = api_key else {
        if argument.is_some() {
            environment.warn("server_url has no effect without api_key or HH_API_KEY".to_string());
        }
        return Ok(None);
    };
    let base_url = argument
        .or_else(|| {
            let names = ["HH_API_URL", "HONEYHIVE_SERVER_URL", "HH_SERVER_URL"];
            environment
                .first(&names, "an http:// or https:// URL without credentials and query", |text| base_url(text).ok())
        })
        .unwrap_or_else(|| HONEYHIVE_URL.to_string());
    let headers = [
        ("Authorization", format!("Bearer {api_key}")),
        ("hh-client-version", header_text(arguments.version)),
        ("hh-client-language", header_text(arguments.language)),
        ("hh-client-package", resource::SDK_NAME.to_string()),
    ];
    let headers = headers.into_iter().map(|(name, value)| (name.to_string(), value)).collect();
    Ok(Some(HoneyHive { api_key, base_url, headers }))
}

/// A URL that paths are appended to.
fn base_url(text: &str) -> Result<String, &'static str> {
    let url = Url::parse(text)?;
    if url.has_userinfo() || url.query.is_some() {
        return Err("a URL without credentials and query");
    }
    Ok(url.join(""))
}

/// HoneyHive's OTLP (SET5): JSON with names for enums unless told otherwise, no gzip, and its own headers.
fn to_honeyhive(honeyhive: &HoneyHive, source: &str, json: bool) -> Otlp {
    let mut headers = honeyhive.headers.clone();
    headers.push(("X-Source".to_string(), header_text(source)));
    Otlp {
        url: format!("{}{HONEYHIVE_PATH}", honeyhive.base_url),
        headers,
        encoding: if json { Encoding::Json(Enums::Names) } else { Encoding::Protobuf },
        gzip: false,
        timeout_ns: HONEYHIVE_TIMEOUT_NS,
        // The files are those of another endpoint.
        tls: Tls::default(),
    }
}

/// Text as a header can hold it: percent-encoded if it has more than visible ASCII and spaces.
fn header_text(text: &str) -> String {
    if is_header_value(text) {
        return text.to_string();
    }
    let mut encoded = String::new();
    percent::encode(text, &mut encoded);
    encoded
}

/// Visible ASCII, spaces and tabs (RFC 9110 §5.5).
fn is_header_value(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_graphic() || byte == b' ' || byte == b'\t')
}

/// A token (RFC 9110 §5.6.2) that does not say how the body is framed or encoded, which is decided elsewhere.
fn is_free_header_name(name: &str) -> bool {
    const TAKEN: [&str; 5] = ["content-type", "content-encoding", "content-length", "transfer-encoding", "connection"];
    let token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    !name.is_empty() && name.bytes().all(token) && !TAKEN.iter().any(|taken| name.eq_ignore_ascii_case(taken))
}

const HTTP_PROTOCOLS: &str = "http/protobuf or http/json";

/// Whether a protocol is JSON over HTTP rather than protobuf over HTTP.
fn http_protocol(text: &str) -> Option<bool> {
    one_of(text, &[("http/json", true), ("http/protobuf", false)])
}

fn protocol_argument(arguments: &Arguments<'_>) -> Result<Option<bool>, ArgumentError> {
    let Some(text) = given(arguments.otlp_protocol) else { return Ok(None) };
    http_protocol(text.trim()).map(Some).ok_or(ArgumentError::new("otlp_protocol", HTTP_PROTOCOLS))
}

/// An OTLP endpoint (SET6) as the arguments and `OTEL_EXPORTER_OTLP_*` describe it. Variables of traces come before
/// those of all signals.
fn otlp(
    arguments: &Arguments<'_>,
    environment: &mut Environment<'_>,
    endpoint: Option<&Url<'_>>,
    json: Option<bool>,
) -> Otlp {
    let mut grpc = false;
    let json = json.or_else(|| {
        let names = ["OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL"];
        environment.first(&names, HTTP_PROTOCOLS, |text| {
            grpc |= text.eq_ignore_ascii_case("grpc");
            if grpc { Some(false) } else { http_protocol(text) }
        })
    });
    let (url, authorization) = match endpoint {
        Some(url) => {
            let mut url = url.clone();
            grpc |= leave_grpc(&mut url);
            let bare = matches!(url.path, "" | "/");
            (if bare { url.join(TRACES_PATH) } else { url.as_is() }, url.authorization())
        }
        None => endpoint_of_environment(environment, &mut grpc),
    };
    if grpc {
        environment.warn(
            "OTLP over gRPC (OTEL_EXPORTER_OTLP_PROTOCOL=grpc, or port 4317) is not spoken; spans are sent over HTTP, to \
             port 4318 instead of 4317"
                .to_string(),
        );
    }
    let mut headers = headers_of_environment(environment);
    for &(name, value) in arguments.otlp_headers {
        set_header(&mut headers, name, value);
    }
    if let Some(value) = authorization {
        if !headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("authorization")) {
            set_header(&mut headers, "Authorization", &value);
        }
    }
    let names = ["OTEL_EXPORTER_OTLP_TRACES_TIMEOUT", "OTEL_EXPORTER_OTLP_TIMEOUT"];
    let timeout_ns = environment.milliseconds(&names, 1).unwrap_or(OTLP_TIMEOUT_NS);
    let names = ["OTEL_EXPORTER_OTLP_TRACES_COMPRESSION", "OTEL_EXPORTER_OTLP_COMPRESSION"];
    let gzip = environment.first(&names, "gzip or none", |text| one_of(text, &[("gzip", true), ("none", false)]));
    let tls = tls_of_environment(environment);
    let encoding = if json.unwrap_or(false) { Encoding::Json(Enums::Numbers) } else { Encoding::Protobuf };
    Otlp { url, headers, encoding, gzip: gzip.unwrap_or(true), timeout_ns, tls }
}

/// The endpoint and the credentials in it: `OTEL_EXPORTER_OTLP_TRACES_ENDPOINT` as it is, else
/// `OTEL_EXPORTER_OTLP_ENDPOINT` with `v1/traces` after its path, else the local one. A `host:port`, as gRPC allows it,
/// is one of `http`.
fn endpoint_of_environment(environment: &mut Environment<'_>, grpc: &mut bool) -> (String, Option<String>) {
    for (name, signal) in [("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", true), ("OTEL_EXPORTER_OTLP_ENDPOINT", false)] {
        let Some(mut text) = environment.text(name) else { continue };
        let bare = !text.contains("://");
        if bare {
            text.insert_str(0, "http://");
        }
        match Url::parse(&text) {
            Ok(mut url) if !bare || url.port.is_some() => {
                *grpc |= leave_grpc(&mut url);
                // An endpoint of gRPC has no path, and `/` takes no spans.
                let append = !signal || (*grpc && matches!(url.path, "" | "/"));
                return (if append { url.join(TRACES_PATH) } else { url.as_is() }, url.authorization());
            }
            Ok(_) => environment.warn(format!("{name} is not {}; it is ignored", super::url::EXPECTED)),
            Err(expected) => environment.warn(format!("{name} is not {expected}; it is ignored")),
        }
    }
    (LOCAL_URL.to_string(), None)
}

/// Moves the port of gRPC to that of HTTP (SET7), and says whether it did. Other ports stay: where only the protocol
/// says gRPC, nothing is known of them.
fn leave_grpc(url: &mut Url<'_>) -> bool {
    let is_grpc = url.port == Some(GRPC_PORT);
    if is_grpc {
        url.port = Some(HTTP_PORT);
    }
    is_grpc
}

/// `OTEL_EXPORTER_OTLP_TRACES_HEADERS`, or else those of all signals. Entries that are no headers are left out with a
/// warning that shows nothing of them.
fn headers_of_environment(environment: &mut Environment<'_>) -> Vec<(String, String)> {
    let mut headers = Vec::new();
    let names = ["OTEL_EXPORTER_OTLP_TRACES_HEADERS", "OTEL_EXPORTER_OTLP_HEADERS"];
    let Some((name, text)) = names.into_iter().find_map(|name| Some((name, environment.text(name)?))) else {
        return headers;
    };
    let mut bad = Vec::new();
    for (entry, position) in pairs(&text).zip(1_usize..) {
        match entry {
            Some((key, value)) if is_free_header_name(&key) && is_header_value(&value) => {
                set_header(&mut headers, &key, &value);
            }
            _ => bad.push(position),
        }
    }
    if let Some(first) = bad.first() {
        let count = bad.len();
        environment.warn(format!(
            "{name} has entries that are no header or one that cannot be set ({count}, the first at position \
             {first}); they are ignored"
        ));
    }
    headers
}

/// Sets a header, in the place of one with the same name in any case.
fn set_header(headers: &mut Vec<(String, String)>, name: &str, value: &str) {
    headers.retain(|(known, _)| !known.eq_ignore_ascii_case(name));
    headers.push((name.to_string(), value.to_string()));
}

/// The paths of certificates and keys (SET14); nothing here opens them.
fn tls_of_environment(environment: &mut Environment<'_>) -> Tls {
    let names = ["OTEL_EXPORTER_OTLP_TRACES_CERTIFICATE", "OTEL_EXPORTER_OTLP_CERTIFICATE"];
    let ca_certificate = environment.first_text(&names);
    let names = ["OTEL_EXPORTER_OTLP_TRACES_CLIENT_CERTIFICATE", "OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE"];
    let client_certificate = environment.first_text(&names);
    let names = ["OTEL_EXPORTER_OTLP_TRACES_CLIENT_KEY", "OTEL_EXPORTER_OTLP_CLIENT_KEY"];
    let mut client_key = None;
    if let Some((name, path)) = names.into_iter().find_map(|name| Some((name, environment.text(name)?))) {
        if client_certificate.is_some() {
            client_key = Some(path);
        } else {
            environment.warn(format!("{name} has no effect without OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE"));
        }
    }
    Tls { ca_certificate, client_certificate, client_key }
}

//! Requests: a batch as the body of a POST, and the client that sends it.

use std::borrow::Cow;
use std::fmt;
use std::io::Write as _;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs as _};

use flate2::Compression;
use flate2::write::GzEncoder;
use tracebaton::delivery::{Answer, Batch};
use tracebaton::otlp::envelope::{self, ScopeRun};
use tracebaton::settings::Tls;
use ureq::http::Uri;
use ureq::http::uri::Scheme;
use ureq::unversioned::resolver::{ResolvedSocketAddrs, Resolver};
use ureq::unversioned::transport::NextTimeout;
use ureq::{Agent, Error, Proxy, ProxyProtocol};

use crate::answer;
use crate::destination::{Destination, Encoding};
use crate::proxy::Forward;
use crate::registration;
use crate::tls;
use crate::transport;

/// Bodies up to this size are sent as they are: compressing them costs more than it saves.
const GZIP_ABOVE: usize = 1024;
/// The largest body, uncompressed, that is sent (OTLP/HTTP, "Request size").
const REQUEST_BYTES: usize = 64 * 1024 * 1024;
/// Buffers up to this size are kept for the next request.
const KEPT_BYTES: usize = 1024 * 1024;

/// The client of one thread: it keeps its connection, follows no redirects and has no cookies.
pub(crate) struct Client {
    /// There from the first connection on, for which files may have to be read.
    agent: Option<Agent>,
    proxy: Option<Proxy>,
    /// Whether that forwards requests, in place of a tunnel.
    forward: Option<Forward>,
    body: Vec<u8>,
    compressed: Vec<u8>,
}

impl Client {
    pub(crate) fn new(destination: &Destination, proxy: Option<Proxy>) -> Self {
        let forward = proxy.as_ref().and_then(|proxy| Forward::of(destination, proxy));
        Self { agent: None, proxy, forward, body: Vec::new(), compressed: Vec::new() }
    }

    /// What requests are made with, or what keeps them from being made.
    fn agent(&mut self, destination: &Destination) -> Result<Agent, String> {
        if let Some(agent) = &self.agent {
            return Ok(agent.clone());
        }
        let mut config = Agent::config_builder();
        let secure_proxy = self.proxy.as_ref().is_some_and(|proxy| proxy.protocol() == ProxyProtocol::Https);
        if destination.is_secure() || secure_proxy {
            config = config.tls_config(tls::config(&destination.tls)?);
        }
        let config = config
            .proxy(self.proxy.clone().filter(|_| self.forward.is_none()))
            .timeout_global(Some(destination.timeout))
            .http_status_as_error(false)
            .max_redirects(0)
            .max_redirects_will_error(false)
            .max_idle_connections(1)
            .max_idle_connections_per_host(1)
            .user_agent(destination.user_agent.as_str())
            .build();
        let origin = self.forward.as_ref().map(|forward| &*forward.origin);
        let agent = Agent::with_parts(config, transport::connector(origin), Lookup);
        Ok(self.agent.insert(agent).clone())
    }

    /// Sends a batch and waits for what comes of it.
    pub(crate) fn send(&mut self, destination: &Destination, batch: &Batch) -> Answer {
        let agent = match self.agent(destination) {
            Ok(agent) => agent,
            Err(why) => return Answer::Unreachable { connected: false, why: why.into() },
        };
        self.body.clear();
        self.compressed.clear();
        if !encode(batch, destination.encoding, &mut self.body) {
            return Answer::Refused { status: None, why: Some("a span is malformed".into()) };
        }
        if self.body.len() > REQUEST_BYTES {
            return Answer::TooLarge;
        }
        let compressed = destination.gzip && self.body.len() > GZIP_ABOVE && compress(&self.body, &mut self.compressed);
        let (method, url) = match (destination.encoding, batch.runs().next()) {
            (Encoding::Sessions, Some(run)) => registration::target(&destination.url, run.scope()),
            _ => ("POST", Cow::Borrowed(destination.url.as_str())),
        };
        let proxied = self.forward.as_ref().and_then(|forward| forward.url(&url));
        let mut request = match (proxied, method) {
            (Some(uri), "PUT") => agent.put(uri),
            (Some(uri), _) => agent.post(uri),
            (None, "PUT") => agent.put(&*url),
            (None, _) => agent.post(&*url),
        };
        let has = |name: &str| destination.headers.iter().any(|(other, _)| other.eq_ignore_ascii_case(name));
        if let Some(forward) = &self.forward {
            if !has("host") {
                request = request.header("host", &forward.host);
            }
            if let Some(authorization) = &forward.authorization {
                request = request.header("proxy-authorization", authorization);
            }
        }
        for (name, value) in &destination.headers {
            request = request.header(name.as_str(), value.as_str());
        }
        request = request.header("content-type", destination.encoding.content_type());
        if !has("accept-encoding") {
            // To say nothing is to say that any coding will do (RFC 9110 §12.5.3).
            request = request.header("accept-encoding", "gzip");
        }
        if compressed {
            request = request.header("content-encoding", "gzip");
        }
        let answer = match request.send(if compressed { &self.compressed[..] } else { &self.body[..] }) {
            Ok(response) => {
                let (parts, body) = response.into_parts();
                let header = |name: &str| parts.headers.get(name).and_then(|value| value.to_str().ok());
                // Whatever the status, reading the body to its end is what lets the connection be used again.
                let body = body.into_with_config().limit(answer::MOST_BYTES).read_to_vec();
                let body = answer::content(body, header("content-encoding"));
                let (status, encoding) = (parts.status.as_u16(), destination.encoding);
                answer::of_response(status, header("content-type"), encoding, header("retry-after"), body)
            }
            Err(error) => answer::of_error(&error),
        };
        if matches!(answer, Answer::Unreachable { .. }) && destination.tls != Tls::default() {
            // A certificate may have expired and its file been renewed.
            self.agent = None;
        }
        for buffer in [&mut self.body, &mut self.compressed] {
            if buffer.capacity() > KEPT_BYTES {
                *buffer = Vec::new();
            }
        }
        answer
    }
}

/// Appends the request's body; false if a span is not what OTLP calls one.
fn encode(batch: &Batch, encoding: Encoding, body: &mut Vec<u8>) -> bool {
    let runs = batch.runs().map(|run| {
        let scope = run.scope();
        ScopeRun { scope: scope.as_bytes(), schema_url: scope.schema_url(), spans: run.spans() }
    });
    let runs: Vec<ScopeRun<'_>> = runs.collect();
    match encoding {
        Encoding::Protobuf => {
            envelope::protobuf(batch.resource(), &runs, body);
            true
        }
        Encoding::Json(enums) => envelope::json(batch.resource(), &runs, enums, body).is_ok(),
        Encoding::Sessions => {
            runs.iter().for_each(|run| body.extend_from_slice(run.spans));
            true
        }
    }
}

/// Writing into memory does not fail; if it did, the body would be sent as it is.
fn compress(body: &[u8], out: &mut Vec<u8>) -> bool {
    let mut encoder = GzEncoder::new(out, Compression::fast());
    encoder.write_all(body).and_then(|()| encoder.try_finish()).is_ok()
}

/// Looks names up on the thread that sends. The client's own resolver starts a thread for every connection; a slow
/// look-up here delays only this destination, since nobody waits for this thread without a time limit.
struct Lookup;

impl fmt::Debug for Lookup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Lookup")
    }
}

impl Resolver for Lookup {
    fn resolve(
        &self,
        uri: &Uri,
        _config: &ureq::config::Config,
        _timeout: NextTimeout,
    ) -> Result<ResolvedSocketAddrs, Error> {
        let host = uri.host().ok_or(Error::HostNotFound)?.trim_matches(['[', ']']);
        let port = uri.port_u16().unwrap_or(if uri.scheme() == Some(&Scheme::HTTPS) { 443 } else { 80 });
        let mut addresses = self.empty();
        if let Ok(ip) = host.parse::<IpAddr>() {
            addresses.push(SocketAddr::new(ip, port));
            return Ok(addresses);
        }
        // The array of addresses has a fixed size and would panic beyond it.
        for address in (host, port).to_socket_addrs().map_err(|_| Error::HostNotFound)?.take(8) {
            addresses.push(address);
        }
        if addresses.is_empty() { Err(Error::HostNotFound) } else { Ok(addresses) }
    }
}

//! One hop of a request in Rust: `GET /hop` goes on in the caller's trace and session, calls the next service, and
//! reports two spans over OTLP/HTTP.
//!
//! ```text
//! LISTEN=127.0.0.1:8080 DOWNSTREAM=http://127.0.0.1:9090/next OTEL_SERVICE_NAME=hop cargo run -p rust-axum
//! curl -H 'baggage: session_id=demo' http://127.0.0.1:8080/hop
//! ```
//!
//! Spans go to `OTEL_EXPORTER_OTLP_ENDPOINT`, or to `tracebaton view` on this machine, as plain OTLP: `session.id` and
//! `honeyhive.session_id` are the session as it is on the wire. HoneyHive itself, which wants UUIDs, would be told
//! `tracebaton::session::honeyhive_session_id` of it as the latter.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a program talks to its user")]

use std::time::{Duration, SystemTime, UNIX_EPOCH};
use std::{env, error::Error, sync::Arc};

use axum::http::{HeaderMap, StatusCode};
use axum::{Router, extract::State, routing::get};
use tracebaton::interop::uuid::session_id_v4;
use tracebaton::otlp::protobuf::put_bytes;
use tracebaton::record::Recording;
use tracebaton::routing::{Routing, RoutingValues};
use tracebaton::settings::{self, Arguments, Settings};
use tracebaton::span::{Kind, StatusCode as SpanStatus};
use tracebaton::{Inbound, Outbound, Policy, SpanContext, SpanRecord, Value, extract, inject};
use tracebaton_export::{Config, Destination, Encoding, Exporter, Scope};

struct Service {
    settings: Settings,
    recording: Recording,
    policy: Policy,
    exporter: Exporter,
    scope: Scope,
    /// The session of requests that come without one.
    session: String,
    downstream: Option<String>,
}

impl Service {
    fn new() -> Result<Self, Box<dyn Error>> {
        // OTEL_* from the environment; spans go to an OTLP endpoint.
        let arguments = Arguments {
            exporter: &["otlp"],
            otlp_protocol: Some("http/protobuf"),
            language: "rust",
            version: env!("CARGO_PKG_VERSION"),
            ..Arguments::default()
        };
        let settings = settings::resolve(&arguments, &|name| env::var(name).ok())?;
        let Some(settings::Exporter::Otlp(otlp)) = settings.exporters.first().cloned() else {
            return Err("there is no OTLP endpoint: OTEL_SDK_DISABLED?".into());
        };
        let destination = Destination {
            url: otlp.url,
            headers: otlp.headers,
            encoding: Encoding::Protobuf,
            gzip: otlp.gzip,
            timeout: Duration::from_nanos(otlp.timeout_ns),
            user_agent: concat!("rust-axum/", env!("CARGO_PKG_VERSION")).into(),
            tls: otlp.tls,
        };
        let mut config = Config::default();
        config.delay_ns = settings.batch.delay_ns.unwrap_or(config.delay_ns);
        // An InstrumentationScope: its name is field 1.
        let mut scope = Vec::new();
        put_bytes(&mut scope, 1, b"rust-axum");
        let warn = Arc::new(|trouble: &str| eprintln!("tracebaton: {trouble}"));
        Ok(Self {
            exporter: Exporter::new(destination, config, &settings.resource.encoded, Some(warn))?,
            scope: Scope::new(&scope),
            policy: Policy::default(),
            session: settings.session_id.clone().unwrap_or_else(|| session_id_v4(random().0)),
            downstream: env::var("DOWNSTREAM").ok(),
            recording: settings.recording(),
            settings,
        })
    }

    fn start(&self, name: &'static str, kind: Kind, parent: Option<&SpanContext>) -> SpanRecord {
        let mut span = SpanRecord::start(name, parent, &self.recording, random(), now_ns());
        span.kind = kind;
        span
    }

    /// Ends a span and queues it. This never waits.
    fn end(&self, mut span: SpanRecord, session: Option<&str>, project: Option<&str>) {
        span.end(now_ns());
        let source = Some(&*self.settings.source);
        // Plain OTLP has the session as it is on the wire; only HoneyHive is told a UUID in place of another text.
        let values = RoutingValues { session, otel_session: session, session_name: None, project, source };
        self.exporter.record(&self.scope, |out| span.encode(out, &Routing::new(&values)));
    }

    /// Answers a request. Blocking, as the client is.
    fn hop(&self, inbound: &Inbound) -> Result<String, StatusCode> {
        let session = inbound.session.as_deref().or(Some(&self.session));
        let project = inbound.project.as_deref().or(self.settings.project.as_deref());
        let mut server = self.start("GET /hop", Kind::Server, inbound.span.as_ref());
        server.set_attribute("http.route", "/hop");
        let mut answer = Ok(String::from("the last hop\n"));
        if let Some(url) = &self.downstream {
            let mut client = self.start("GET", Kind::Client, Some(&server.context));
            client.set_attribute("url.full", url.as_str());
            // Everyone is sent the trace; the session and the caller's baggage go where the policy trusts.
            let out = Outbound {
                span: Some(&client.context),
                session,
                project,
                source: Some(&self.settings.source),
                inbound: Some(&inbound.baggage),
                policy: Some(&self.policy),
                allowed: self.policy.destination(url),
                ..Outbound::default()
            };
            let mut request = ureq::get(url);
            if let Some(headers) = request.headers_mut() {
                inject(headers, &out);
            }
            answer = request.call().and_then(|mut response| response.body_mut().read_to_string()).map_err(|_| {
                client.set_status(SpanStatus::Error, "no good answer");
                server.set_status(SpanStatus::Error, "the next service failed");
                StatusCode::BAD_GATEWAY
            });
            self.end(client, session, project);
        }
        let status = answer.as_ref().err().map_or(200, |status| status.as_u16().into());
        server.set_attribute("http.response.status_code", Value::Int(status));
        self.end(server, session, project);
        answer
    }
}

async fn hop(State(service): State<Arc<Service>>, headers: HeaderMap) -> Result<String, StatusCode> {
    let inbound = extract(&headers, &service.policy);
    tokio::task::spawn_blocking(move || service.hop(&inbound)).await.unwrap_or(Err(StatusCode::INTERNAL_SERVER_ERROR))
}

/// Random bytes for a trace and a span: core has no source of its own. Without entropy ids are not unique, and requests
/// are answered all the same.
fn random() -> ([u8; 16], [u8; 8]) {
    let (mut trace, mut span) = ([0; 16], [0; 8]);
    let _ = getrandom::fill(&mut trace).and_then(|()| getrandom::fill(&mut span));
    (trace, span)
}

fn now_ns() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX))
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let service = Arc::new(Service::new()?);
    let listen = env::var("LISTEN").unwrap_or_else(|_| "127.0.0.1:8080".into());
    let listener = tokio::net::TcpListener::bind(listen).await?;
    println!("listening on http://{}", listener.local_addr()?);
    let app = Router::new().route("/hop", get(hop)).with_state(Arc::clone(&service));
    axum::serve(listener, app).with_graceful_shutdown(async { drop(tokio::signal::ctrl_c().await) }).await?;
    service.exporter.shutdown(Duration::from_secs(5));
    Ok(())
}

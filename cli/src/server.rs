//! The viewer's HTTP server: routes, answers, start and stop.

use std::future::Future;
use std::net::{SocketAddr, ToSocketAddrs};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use axum::Router;
use axum::body::Body;
use axum::extract::{Path, Query, Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post, put};
use serde::Serialize;
use tokio::sync::Semaphore;
use uuid::Uuid;

use crate::api::{DEFAULT_LIMIT, Forest, Sessions};
use crate::body::{self, Encoding, Refusal};
use crate::guard::{self, Admission, Guard};
use crate::honeyhive;
use crate::ingest::{self, Format};
use crate::span::Spans;
use crate::store::Store;

const PAGE: &str = include_str!("page.html");

/// How long requests under way may take when the server is asked to stop.
const GRACE: Duration = Duration::from_secs(3);

/// How many requests are decoded at a time: each may take many times its size while it is.
const DECODERS: usize = 2;

/// The address to listen on, checked: one that others can reach needs a token.
pub(crate) struct Listen {
    addresses: Vec<SocketAddr>,
    local: bool,
}

impl Listen {
    /// From `HOST:PORT`.
    pub(crate) fn parse(text: &str, token: Option<&str>) -> Result<Self, String> {
        let addresses: Vec<SocketAddr> = text
            .to_socket_addrs()
            .map_err(|error| format!("--listen {text}: {error} (HOST:PORT is expected, as in 127.0.0.1:4318)"))?
            .collect();
        let local = !addresses.is_empty() && addresses.iter().all(|address| guard::is_loopback(address.ip()));
        match token {
            Some("") => Err("--token must not be empty".to_owned()),
            None if !local => {
                Err(format!("--listen {text}: others can reach this address, so --token TOKEN is needed"))
            }
            _ => Ok(Self { addresses, local }),
        }
    }
}

struct App {
    store: Store,
    guard: Guard,
    /// Makes the revisions of one run differ from those of the next.
    run: Uuid,
    decoders: Semaphore,
}

/// Serves until the process is asked to stop. `ready` is called once with the address that was bound.
pub(crate) fn run(
    listen: Listen,
    store: Store,
    token: Option<String>,
    ready: impl FnOnce(SocketAddr) -> Result<(), String>,
) -> Result<(), String> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| format!("cannot start: {error}"))?;
    let app = Arc::new(App {
        store,
        guard: Guard::new(listen.local, token),
        run: Uuid::new_v4(),
        decoders: Semaphore::new(DECODERS),
    });
    let outcome = runtime.block_on(serve(&listen, Arc::clone(&app), ready));
    runtime.shutdown_timeout(GRACE);
    app.store.close();
    outcome
}

async fn serve(
    listen: &Listen,
    app: Arc<App>,
    ready: impl FnOnce(SocketAddr) -> Result<(), String>,
) -> Result<(), String> {
    let listener = tokio::net::TcpListener::bind(listen.addresses.as_slice())
        .await
        .map_err(|error| format!("cannot listen: {error}"))?;
    // Before the word goes out that it is ready: whoever waits for it may stop it at once.
    let stop = stop_signal().map_err(|error| format!("cannot wait for signals: {error}"))?;
    ready(listener.local_addr().map_err(|error| format!("cannot listen: {error}"))?)?;

    let (asked, mut wait) = tokio::sync::watch::channel(false);
    let stopping = async move {
        stop.await;
        let _ = asked.send(true);
    };
    let serving = axum::serve(listener, router(app)).with_graceful_shutdown(stopping).into_future();
    let patience = async move {
        let _ = wait.wait_for(|asked| *asked).await;
        tokio::time::sleep(GRACE).await;
    };
    tokio::select! {
        outcome = serving => outcome.map_err(|error| error.to_string()),
        () = patience => Ok(()),
    }
}

/// Ctrl-C, and on Unix SIGTERM.
fn stop_signal() -> std::io::Result<impl Future<Output = ()>> {
    #[cfg(unix)]
    {
        use tokio::signal::unix::{SignalKind, signal};
        let mut interrupt = signal(SignalKind::interrupt())?;
        let mut terminate = signal(SignalKind::terminate())?;
        Ok(async move {
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
            }
        })
    }
    #[cfg(not(unix))]
    Ok(async {
        let _ = tokio::signal::ctrl_c().await;
    })
}

fn router(app: Arc<App>) -> Router {
    Router::new()
        .route("/", get(page))
        .route("/v1/traces", post(traces))
        .route("/opentelemetry/v1/traces", post(traces))
        .route("/session/start", post(start_session))
        .route("/v1/sessions", post(start_session))
        .route("/events", post(create_event).put(update_event))
        .route("/v1/events", post(create_event))
        .route("/v1/events/{event_id}", put(update_event))
        .route("/api/sessions", get(list_sessions))
        .route("/api/sessions/{session_id}", get(show_session))
        .route("/api/traces/{trace_id}", get(show_trace))
        .layer(middleware::from_fn_with_state(Arc::clone(&app), protect))
        .with_state(app)
}

/// Lets requests in or not, and gives every answer the headers that it needs.
async fn protect(State(app): State<Arc<App>>, request: Request, next: Next) -> Response {
    let asked_headers = request.headers().get(header::ACCESS_CONTROL_REQUEST_HEADERS).cloned();
    let (mut response, origin) = match app.guard.admit(&request) {
        Ok(Admission::Request(origin)) => (next.run(request).await, origin),
        Ok(Admission::Preflight(origin)) => (preflight(asked_headers), Some(origin)),
        Err(refusal) => (refusal.into_response(), None),
    };
    let headers = response.headers_mut();
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(header::VARY, HeaderValue::from_static("Origin"));
    headers.insert(HeaderName::from_static("cross-origin-resource-policy"), HeaderValue::from_static("same-origin"));
    if let Some(origin) = origin {
        headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin);
    }
    response
}

fn preflight(asked_headers: Option<HeaderValue>) -> Response {
    let mut response = StatusCode::NO_CONTENT.into_response();
    let headers = response.headers_mut();
    headers.insert(header::ACCESS_CONTROL_ALLOW_METHODS, HeaderValue::from_static("GET, POST, PUT"));
    headers.insert(header::ACCESS_CONTROL_MAX_AGE, HeaderValue::from_static("600"));
    if let Some(asked) = asked_headers {
        headers.insert(header::ACCESS_CONTROL_ALLOW_HEADERS, asked);
    }
    response
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let mut response = (self.0, format!("{}\n", self.1)).into_response();
        if self.0 == StatusCode::UNAUTHORIZED {
            response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        response
    }
}

/// Runs what blocks on a thread that may.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T, Refusal> + Send + 'static) -> Result<T, Refusal> {
    tokio::task::spawn_blocking(work)
        .await
        .map_err(|_| Refusal(StatusCode::INTERNAL_SERVER_ERROR, "the request could not be handled".to_owned()))?
}

fn to_json<T: Serialize>(value: &T) -> Result<Vec<u8>, Refusal> {
    serde_json::to_vec(value).map_err(|error| Refusal(StatusCode::INTERNAL_SERVER_ERROR, error.to_string()))
}

fn json_response(bytes: Vec<u8>) -> Response {
    ([(header::CONTENT_TYPE, "application/json")], bytes).into_response()
}

async fn page() -> Response {
    // Scripts and styles of this very answer run, and nothing else does, whatever a span's text holds.
    let nonce = Uuid::new_v4().simple().to_string();
    let policy = format!(
        "default-src 'none'; script-src 'nonce-{nonce}'; style-src 'nonce-{nonce}'; connect-src 'self'; \
         img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; \
         require-trusted-types-for 'script'; trusted-types 'none'"
    );
    let headers = [
        (header::CONTENT_TYPE, "text/html; charset=utf-8".to_owned()),
        (header::CONTENT_SECURITY_POLICY, policy),
        (header::REFERRER_POLICY, "no-referrer".to_owned()),
    ];
    (headers, PAGE.replace("{{nonce}}", &nonce)).into_response()
}

/// `POST /v1/traces`
async fn traces(State(app): State<Arc<App>>, headers: HeaderMap, body: Body) -> Result<Response, Refusal> {
    let Some(format) = Format::of(&headers) else {
        return Err(Refusal(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "the content type must be application/x-protobuf or application/json".to_owned(),
        ));
    };
    let encoding = Encoding::of(&headers)?;
    let bytes = body::read(&headers, body).await?;
    let _turn = app.decoders.acquire().await;
    let store = Arc::clone(&app);
    let answer = blocking(move || {
        let batch = ingest::decode(&body::decompress(bytes, encoding)?, format)?;
        store.store.add(&batch)?;
        Ok(batch.response(format))
    })
    .await?;
    Ok(([(header::CONTENT_TYPE, format.content_type())], answer).into_response())
}

/// Reads a JSON body and handles it where blocking is allowed.
async fn with_json(
    headers: HeaderMap,
    body: Body,
    app: Arc<App>,
    wrapper: Option<&'static str>,
    handle: impl FnOnce(&Store, &serde_json::Map<String, serde_json::Value>) -> Result<serde_json::Value, Refusal>
    + Send
    + 'static,
) -> Result<Response, Refusal> {
    let encoding = Encoding::of(&headers)?;
    let bytes = body::read(&headers, body).await?;
    let _turn = app.decoders.acquire().await;
    let store = Arc::clone(&app);
    let answer = blocking(move || {
        let body = honeyhive::object(&body::decompress(bytes, encoding)?, wrapper)?;
        handle(&store.store, &body)
    })
    .await?;
    Ok(json_response(to_json(&answer)?))
}

async fn start_session(State(app): State<Arc<App>>, headers: HeaderMap, body: Body) -> Result<Response, Refusal> {
    with_json(headers, body, app, Some("session"), |store, body| honeyhive::start_session(store, body, now_ns())).await
}

async fn create_event(State(app): State<Arc<App>>, headers: HeaderMap, body: Body) -> Result<Response, Refusal> {
    with_json(headers, body, app, Some("event"), |store, body| honeyhive::create_event(store, body, now_ns())).await
}

async fn update_event(
    State(app): State<Arc<App>>,
    event: Option<Path<String>>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Refusal> {
    with_json(headers, body, app, None, move |store, body| {
        honeyhive::update_event(store, event.as_ref().map(|path| path.0.as_str()), body)
    })
    .await
}

#[derive(serde::Deserialize)]
struct Page {
    limit: Option<u32>,
}

async fn list_sessions(
    State(app): State<Arc<App>>,
    Query(page): Query<Page>,
    headers: HeaderMap,
) -> Result<Response, Refusal> {
    read(app, &headers, move |store| {
        let (sessions, total) = store.sessions(page.limit.unwrap_or(DEFAULT_LIMIT))?;
        to_json(&Sessions { sessions, total })
    })
    .await
}

async fn show_session(
    State(app): State<Arc<App>>,
    Path(session): Path<String>,
    headers: HeaderMap,
) -> Result<Response, Refusal> {
    read(app, &headers, move |store| forest(store.session(&session)?)).await
}

async fn show_trace(
    State(app): State<Arc<App>>,
    Path(trace): Path<String>,
    headers: HeaderMap,
) -> Result<Response, Refusal> {
    read(app, &headers, move |store| forest(store.trace(&trace.to_ascii_lowercase())?)).await
}

fn forest(spans: Option<Spans>) -> Result<Vec<u8>, Refusal> {
    match spans {
        Some(spans) => to_json(&Forest::new(&spans)),
        None => Err(Refusal(StatusCode::NOT_FOUND, "there is no span of that".to_owned())),
    }
}

/// Answers a read, with 304 if nothing was written since the revision that the client has: the page asks every second.
async fn read(
    app: Arc<App>,
    headers: &HeaderMap,
    answer: impl FnOnce(&Store) -> Result<Vec<u8>, Refusal> + Send + 'static,
) -> Result<Response, Refusal> {
    let known = headers.get(header::IF_NONE_MATCH).and_then(|tag| tag.to_str().ok()).map(str::to_owned);
    blocking(move || {
        // Before the read: a write in between makes the next answer new again, never this one stale.
        let (own, others) = app.store.revision()?;
        let tag = format!("\"{}-{own}-{others}\"", app.run.simple());
        let mut response = if known.as_ref() == Some(&tag) {
            StatusCode::NOT_MODIFIED.into_response()
        } else {
            json_response(answer(&app.store)?)
        };
        if let Ok(tag) = HeaderValue::from_str(&tag) {
            response.headers_mut().insert(header::ETAG, tag);
        }
        Ok(response)
    })
    .await
}

fn now_ns() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}

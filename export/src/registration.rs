//! Telling HoneyHive about sessions, in the background: [`tracebaton::registration`] says what and when, and the queue,
//! the thread and the client are those of spans, for a destination of their own. A request that hangs holds up no span.

use std::borrow::Cow;
use std::fmt;
use std::sync::Mutex;
use std::time::Duration;

use tracebaton::delivery::{Pushed, Scope, Stats};
use tracebaton::flatten::Options;
use tracebaton::registration::{self, Enrichment, Registered, Request, Start};
use tracebaton::settings::Tls;

use crate::destination::{Destination, Encoding, Invalid};
use crate::exporter::Exporter;
use crate::queue::lock;
use crate::report::Reporter;

/// The longest time that a flush or shutdown waits for requests about sessions. No span depends on them.
const PATIENCE: Duration = Duration::from_secs(1);

/// Where sessions are told about.
#[derive(Clone)]
pub struct Api {
    /// The URL that paths such as `/session/start` are appended to.
    pub base_url: String,
    /// Headers of every request, such as `Authorization`.
    pub headers: Vec<(String, String)>,
    /// The longest time from the connection to the end of the answer.
    pub timeout: Duration,
    /// The `User-Agent`.
    pub user_agent: String,
}

impl fmt::Debug for Api {
    /// Leaves out the values of headers and what of the URL may hold a secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Api").field(&self.clone().into_destination()).finish()
    }
}

impl Api {
    fn into_destination(self) -> Destination {
        let Self { base_url, mut headers, timeout, user_agent } = self;
        headers.push((String::from("accept"), String::from("application/json")));
        let (encoding, tls) = (Encoding::Sessions, Tls::default());
        Destination { url: base_url, headers, encoding, gzip: false, timeout, user_agent, tls }
    }
}

/// One tracer's requests about sessions. They share the rules of spans, [`fork`](crate::fork) included.
///
/// When it is dropped without a [`shutdown_while`](Self::shutdown_while), what waits gets one attempt in the background.
#[derive(Debug)]
pub struct Sessions {
    exporter: Exporter,
}

impl Sessions {
    /// Opens no connection and starts no thread: the first request does. `reporter` is told about trouble, each kind
    /// once until it is over.
    ///
    /// # Errors
    ///
    /// [`Invalid`] names what no request could be made with.
    pub fn new(api: Api, reporter: Option<Reporter>) -> Result<Self, Invalid> {
        let exporter = Exporter::new(api.into_destination(), registration::queue(), &[], reporter)?;
        Ok(Self { exporter })
    }

    /// Registers a session, unless it was: by this tracer or another one with the same destination, in this process or
    /// in one that it was forked from (REG1). Whether it was not. Returns at once.
    pub fn register(&self, start: &Start<'_>, options: &Options) -> bool {
        let is_new = self.exporter.worker().is_some_and(|worker| worker.sessions.insert(start.session_id));
        if is_new {
            let body = start.body(options);
            let _ = self.push(Request::Start, &body);
        }
        is_new
    }

    /// Merges something into a session; whether that was queued. Returns at once.
    pub fn enrich(&self, session_id: &str, enrichment: Enrichment, options: &Options) -> bool {
        let body = enrichment.body(session_id, options);
        body.is_some_and(|body| matches!(self.push(Request::Enrich, &body), Pushed::Queued { .. }))
    }

    fn push(&self, request: Request, body: &str) -> Pushed {
        self.exporter.record(&request.scope(), |out| out.extend_from_slice(body.as_bytes()))
    }

    /// What became of the requests of this process: what [`Stats`] says of spans is said of requests.
    pub fn stats(&self) -> Stats {
        self.exporter.stats()
    }

    /// Sends what waits, and waits for that for a second at most; asks every 50 ms whether to go on. Whether all that
    /// is merged into sessions was accepted, and nothing of it was dropped since the flush before.
    pub fn flush_while(&self, timeout: Duration, go_on: impl FnMut() -> bool) -> bool {
        self.exporter.flush_while(timeout.min(PATIENCE), go_on)
    }

    /// The same, and takes no more requests.
    pub fn shutdown_while(&self, timeout: Duration, go_on: impl FnMut() -> bool) -> bool {
        self.exporter.shutdown_while(timeout.min(PATIENCE), go_on)
    }
}

/// The method and the URL of a request.
pub(crate) fn target<'a>(base_url: &str, scope: &Scope) -> (&'static str, Cow<'a, str>) {
    let is_start = *scope == Request::Start.scope();
    let request = if is_start { Request::Start } else { Request::Enrich };
    (request.method(), Cow::Owned(format!("{}{}", base_url.trim_end_matches('/'), request.path())))
}

/// The sessions that were registered at a destination.
#[derive(Debug, Default)]
pub(crate) struct Known(Mutex<Registered>);

impl Known {
    fn insert(&self, session_id: &str) -> bool {
        lock(&self.0).insert(session_id)
    }

    /// In a forked child: those that the parent had registered, unless another thread was at it in that moment. A session
    /// that is registered twice is still one.
    pub(crate) fn inherit(&self, parent: &Self) {
        if let Ok(parent) = parent.0.try_lock() {
            *lock(&self.0) = parent.clone();
        }
    }
}

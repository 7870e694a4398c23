//! Tracers and where their spans go.

use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::rc::Rc;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::cell::RefCell;

use tracebaton::SessionScope;
use tracebaton::delivery::{Config, Pushed, Reason, Scope, Stats};
use tracebaton::exchange::Error;
use tracebaton::exchange::options::{self, Binding, Init};
use tracebaton::exchange::record::Head;
use tracebaton::exchange::session::Registration;
use tracebaton::otlp::json::{self, Enums};
use tracebaton::registration::{self, Enrichment, Registered, Request, Start};
use tracebaton::scope::TracerId;
use tracebaton::settings::{Encoding, Exporter};
use tracebaton::tracer::{Parts, Routings, Style, Tracer, delivery_config, stats};
use tracebaton::value::Value;

use crate::outbox::{Outbox, add};

/// How long one request about sessions may take, as HoneyHive's own client has it.
const SESSION_TIMEOUT_MS: f64 = 5_000.0;

/// Where spans are sent, or requests about sessions.
pub(crate) struct Target {
    pub(crate) url: String,
    pub(crate) headers: Vec<(String, String)>,
    /// None: requests about sessions.
    pub(crate) encoding: Option<Encoding>,
    pub(crate) gzip: bool,
    pub(crate) timeout_ms: f64,
    pub(crate) config: Config,
    pub(crate) resource: Vec<u8>,
}

enum Sink {
    Network(Arc<Target>, Style),
    Memory,
    Console,
}

/// A tracer, its destinations, and what became of what went there.
pub(crate) struct Tracing {
    handle: u32,
    pub(crate) tracer: Tracer,
    sinks: Vec<Sink>,
    /// Its number as a lane's target is that behind the sinks' last.
    sessions: Option<Arc<Target>>,
    registered: RefCell<Registered>,
    pub(crate) memory: RefCell<Vec<Vec<u8>>>,
    /// Of queues that are no more, for each sink and for sessions.
    kept: RefCell<Vec<Stats>>,
}

/// Milliseconds as nanoseconds.
pub(crate) fn nanoseconds(ms: f64) -> u64 {
    (ms * 1e6) as u64
}

impl Tracing {
    pub(crate) fn make(handle: u32, options: &Value<'_>, session: String) -> Result<Self, Error> {
        let binding = Binding { language: "webjs", version: env!("CARGO_PKG_VERSION") };
        let Init { settings, parts, .. } = options::read(options, binding)?;
        let sink = |exporter: &Exporter| {
            let style = Style::of(exporter);
            let otlp = match exporter {
                Exporter::HoneyHive(otlp) | Exporter::Otlp(otlp) => otlp,
                Exporter::Console => return Sink::Console,
                Exporter::Memory => return Sink::Memory,
            };
            let target = Target {
                url: otlp.url.clone(),
                headers: otlp.headers.clone(),
                encoding: Some(otlp.encoding),
                gzip: otlp.gzip,
                timeout_ms: otlp.timeout_ns as f64 / 1e6,
                config: delivery_config(&settings, style),
                resource: settings.resource.encoded.to_vec(),
            };
            Sink::Network(Arc::new(target), style)
        };
        let sinks: Vec<_> = settings.exporters.iter().map(sink).collect();
        let sessions = settings.honeyhive.as_ref().map(|honeyhive| {
            let mut headers = honeyhive.headers.clone();
            headers.push((String::from("accept"), String::from("application/json")));
            Arc::new(Target {
                url: honeyhive.base_url.clone(),
                headers,
                encoding: None,
                gzip: false,
                timeout_ms: SESSION_TIMEOUT_MS,
                config: registration::queue(),
                resource: Vec::new(),
            })
        });
        let parts = Parts { session, ..parts };
        let kept = RefCell::new(alloc::vec![Stats::default(); sinks.len().saturating_add(1)]);
        Ok(Self {
            handle,
            tracer: Tracer::new(TracerId(handle.into()), settings, parts),
            sinks,
            sessions,
            registered: RefCell::default(),
            memory: RefCell::default(),
            kept,
        })
    }

    /// Encodes a span into the queue of every sink that it is for.
    pub(crate) fn deliver(
        &self,
        head: Head<'_>,
        place: &Place,
        library: &Scope,
        outbox: &mut Outbox,
        now_ms: f64,
        console: &mut Vec<String>,
    ) -> Result<(), Error> {
        let skips_honeyhive = head.is_not_for_honeyhive();
        let admitted = self.tracer.admits(head.name());
        let span = head.span(&self.tracer, &place.scope)?;
        if !admitted || !span.context.flags.is_sampled() {
            return Ok(());
        }
        for (at, sink) in self.sinks.iter().enumerate() {
            if let Sink::Network(target, style) = sink {
                if skips_honeyhive && *style == Style::HoneyHive {
                    continue;
                }
                if let Some(lane) = outbox.lane((self.handle, at), target) {
                    let encode = |out: &mut Vec<u8>| span.encode(out, place.routings.of(*style));
                    let _ = lane.delivery.push(library, || nanoseconds(now_ms), encode);
                }
                continue;
            }
            let mut entry = Vec::new();
            span.encode(&mut entry, place.routings.of(Style::Raw));
            let Some(line) = as_json(&entry) else { continue };
            match sink {
                Sink::Memory => self.memory.borrow_mut().push(line),
                _ => {
                    console.push(String::from_utf8_lossy(&line).into_owned());
                    self.count_at(at, |stats| stats.sent = stats.sent.saturating_add(1));
                }
            }
        }
        Ok(())
    }

    fn count_at(&self, at: usize, count: impl FnOnce(&mut Stats)) {
        if let Some(stats) = self.kept.borrow_mut().get_mut(at) {
            count(stats);
        }
    }

    /// Counts spans that were lost before they could be queued.
    pub(crate) fn count_lost(&self, reason: Reason, spans: u64) {
        for at in 0..self.sinks.len() {
            self.count_at(at, |stats| stats.dropped.add(reason, spans));
        }
    }

    /// Takes note of what became of the spans of a queue that is no more.
    pub(crate) fn keep(&self, at: usize, stats: &Stats) {
        self.count_at(at, |sum| add(sum, stats));
    }

    /// What became of everything: the queues that there are, and those that were.
    pub(crate) fn stats(&self, outboxes: &BTreeMap<u32, Outbox>) -> Value<'static> {
        let mut all = self.kept.borrow().clone();
        for lane in outboxes.values().flat_map(|outbox| &outbox.lanes).filter(|lane| lane.of.0 == self.handle) {
            if let Some(sum) = all.get_mut(lane.of.1) {
                add(sum, &lane.delivery.stats());
            }
        }
        let sessions = all.pop().filter(|_| self.sessions.is_some());
        let named = self.sinks.iter().zip(all).filter_map(|(sink, stats)| match sink {
            Sink::Network(target, _) => Some((origin(&target.url), stats)),
            Sink::Console => Some((String::from("console"), stats)),
            Sink::Memory => None,
        });
        stats::describe(&self.tracer, named, sessions.as_slice())
    }

    /// Registers the session of a scope, if that is to be done and was not yet (REG1).
    pub(crate) fn use_session(&self, place: &Place, outbox: &mut Outbox) {
        if place.routings.is_to_be_registered() {
            self.register(&place.scope, Start::default(), outbox);
        }
    }

    /// Registers a session, unless somebody else does; if it was registered before, merges the fields into it.
    pub(crate) fn start_session(&self, place: &Place, given: &Registration<'_>, outbox: &mut Outbox) {
        if place.routings.is_to_be_registered() && !self.register(&place.scope, given.start(), outbox) {
            self.enrich_session(&place.scope, given.fields.clone(), outbox);
        }
    }

    fn register(&self, scope: &SessionScope, start: Start<'_>, outbox: &mut Outbox) -> bool {
        if self.sessions.is_none() {
            return false;
        }
        let start = self.tracer.start_of(scope, start);
        let is_new = self.registered.borrow_mut().insert(start.session_id);
        if is_new {
            let body = start.body(self.tracer.flatten());
            self.ask(Request::Start, &body, outbox);
        }
        is_new
    }

    /// Merges something into the session of a scope; whether it was queued.
    pub(crate) fn enrich_session(&self, scope: &SessionScope, fields: Enrichment, outbox: &mut Outbox) -> bool {
        let body = fields.body(self.tracer.session_in(scope), self.tracer.flatten());
        body.is_some_and(|body| self.ask(Request::Enrich, &body, outbox))
    }

    fn ask(&self, request: Request, body: &str, outbox: &mut Outbox) -> bool {
        let lane = self.sessions.as_ref().and_then(|target| outbox.lane((self.handle, self.sinks.len()), target));
        let Some(lane) = lane else { return false };
        // Without a delay, nobody asks when it came in.
        let pushed = lane.delivery.push(&request.scope(), || 0, |out| out.extend_from_slice(body.as_bytes()));
        matches!(pushed, Pushed::Queued { .. })
    }
}

/// Scheme, host and port of a URL, which is all that may be shown of it.
fn origin(url: &str) -> String {
    let (scheme, rest) = url.split_once("://").unwrap_or_default();
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    let host = authority.rsplit('@').next().unwrap_or_default();
    [scheme, "://", host].concat()
}

/// The OTLP/JSON of a span, from its entry: a tag, the length, the span.
fn as_json(entry: &[u8]) -> Option<Vec<u8>> {
    let length = entry.iter().skip(1).take_while(|byte| **byte & 0x80 != 0).count();
    let mut out = Vec::new();
    json::span(entry.get(length.saturating_add(2)..)?, Enums::Numbers, &mut out).ok()?;
    Some(out)
}

/// A scope, and what follows from it for the spans of one tracer.
pub(crate) struct Place {
    pub(crate) scope: SessionScope,
    pub(crate) routings: Arc<Routings>,
}

/// The places that spans were in lately, the newest last: to make one encodes the routing attributes.
#[derive(Default)]
pub(crate) struct Places {
    known: Vec<(u32, Box<[u8]>, Rc<Place>)>,
}

/// So many are remembered. A request has one or two.
const MANY: usize = 8;

impl Places {
    /// The place that a blob says.
    pub(crate) fn get(&mut self, tracing: &Tracing, blob: &[u8]) -> Result<Rc<Place>, Error> {
        let known = self.known.iter().find(|(of, known, _)| *of == tracing.handle && **known == *blob);
        if let Some((.., place)) = known {
            return Ok(Rc::clone(place));
        }
        let scope = SessionScope::read(blob)?;
        let place = Rc::new(Place { routings: tracing.tracer.routings(&scope), scope });
        if self.known.len() >= MANY {
            self.known.remove(0);
        }
        self.known.push((tracing.handle, blob.into(), Rc::clone(&place)));
        Ok(place)
    }
}

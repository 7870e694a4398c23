//! The tracers of the process, and the instrumentations whose spans they make.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, LazyLock, PoisonError, RwLock};

use tracebaton::SessionScope;
use tracebaton::delivery::{Reason, Scope};
use tracebaton::exchange::Error;
use tracebaton::exchange::options::{self, Binding, Init, SpoolOptions};
use tracebaton::exchange::record::Head;
use tracebaton::registration::{Enrichment, Start};
use tracebaton::scope::TracerId;
use tracebaton::tracer::{Parts, Routings, Style, Tracer, UNSAMPLED_WARNING};
use tracebaton::value::Value;
use tracebaton_export::spool::Spool;
use tracebaton_export::{Common, Sessions, Sink, Started, Wait};

use crate::{ids, reports};

/// A tracer and where its spans go.
pub(crate) struct Native {
    pub(crate) handle: u32,
    pub(crate) tracer: Tracer,
    pub(crate) sinks: Vec<Sink>,
    pub(crate) sessions: Option<Sessions>,
    pub(crate) records_starts: bool,
    /// A shutdown was waited for, whatever came of it: nobody waits again.
    is_over: AtomicBool,
}

type Table = RwLock<HashMap<u32, Arc<Native>>>;

static TRACERS: LazyLock<Table> = LazyLock::new(Table::default);
static NEXT: AtomicU32 = AtomicU32::new(1);

/// The tracer of a handle.
pub(crate) fn find(handle: u32) -> Option<Arc<Native>> {
    TRACERS.read().unwrap_or_else(PoisonError::into_inner).get(&handle).cloned()
}

/// Forgets a tracer. What is queued gets one attempt in the background, unless somebody still uses it.
pub(crate) fn forget(handle: u32) {
    let gone = TRACERS.write().unwrap_or_else(PoisonError::into_inner).remove(&handle);
    drop(gone);
}

/// What requests call this package.
fn user_agent() -> String {
    let version = env!("CARGO_PKG_VERSION");
    format!("tracebaton/{version} OTel-OTLP-Exporter-JavaScript/{version}")
}

impl Native {
    /// Makes a tracer of its options.
    pub(crate) fn make(value: &Value<'_>) -> Result<Arc<Self>, Error> {
        let binding = Binding { language: "nodejs", version: env!("CARGO_PKG_VERSION") };
        let Init { settings, parts, spool } = options::read(value, binding)?;
        let spool = spool.map(self::spool).transpose()?;
        let user_agent = user_agent();
        let reporter = Some(reports::reporter());
        let resource = &settings.resource.encoded;
        let common = Common { settings: &settings, resource, user_agent: &user_agent, reporter, spool };
        let invalid = |error: tracebaton_export::Invalid| {
            Error::value("exporter", format!("one that requests can be sent to: {error}"))
        };
        let sinks = settings.exporters.iter().map(|exporter| Sink::of(exporter, &common));
        let sinks = sinks.collect::<Result<Vec<_>, _>>().map_err(invalid)?;
        let sessions = Sessions::of(&common).map_err(invalid)?;
        let handle = NEXT.fetch_add(1, Ordering::Relaxed);
        let parts = Parts { session: ids::uuid4(), ..parts };
        let native = Arc::new(Self {
            handle,
            tracer: Tracer::new(TracerId(handle.into()), settings, parts),
            records_starts: sinks.iter().any(Sink::records_starts),
            sinks,
            sessions,
            is_over: AtomicBool::new(false),
        });
        TRACERS.write().unwrap_or_else(PoisonError::into_inner).insert(handle, Arc::clone(&native));
        Ok(native)
    }

    /// Encodes a span into the queue of every sink that it is for. `started` is what [`start`](Self::start) gave.
    pub(crate) fn deliver(
        &self,
        head: Head<'_>,
        place: &Place,
        library: &Scope,
        started: Vec<Option<Started>>,
    ) -> Result<(), Error> {
        let mut started = started.into_iter();
        let skips_honeyhive = head.is_not_for_honeyhive();
        let admitted = self.tracer.admits(head.name());
        let span = head.span(&self.tracer, &place.scope);
        for sink in &self.sinks {
            let started = started.next().flatten();
            match &span {
                Ok(span)
                    if admitted
                        && span.context.flags.is_sampled()
                        && !(skips_honeyhive && sink.style() == Style::HoneyHive) =>
                {
                    sink.take(library, started, |out| span.encode(out, place.routings.of(sink.style())));
                }
                _ => started.into_iter().for_each(|started| sink.forget(started)),
            }
        }
        span.map(|_| ())
    }

    /// Records in the spools that a span begins.
    pub(crate) fn start(&self, head: Head<'_>, place: &Place, library: &Scope) -> Result<Vec<Option<Started>>, Error> {
        let span = head.span(&self.tracer, &place.scope)?;
        if !span.context.flags.is_sampled() {
            return Ok(Vec::new());
        }
        let start = |sink: &Sink| sink.start(library, |out| span.encode_start(out, place.routings.of(sink.style())));
        Ok(self.sinks.iter().map(start).collect())
    }

    /// Whether somebody has waited for its shutdown.
    pub(crate) fn is_over(&self) -> bool {
        self.is_over.load(Ordering::Relaxed)
    }

    /// How often requests of spans were to be sent again so far.
    fn retried(&self) -> u64 {
        let exporters = self.sinks.iter().filter_map(Sink::exporter);
        exporters.map(|exporter| exporter.stats().retried).fold(0, u64::saturating_add)
    }

    /// Counts spans that were lost before they could be queued.
    pub(crate) fn count_lost(&self, reason: Reason, spans: u64) {
        self.sinks.iter().for_each(|sink| sink.count_lost(reason, spans));
    }

    /// Counts spans that the sampler left out.
    pub(crate) fn count_unsampled(&self, spans: usize) {
        if self.tracer.count_unsampled(spans) {
            reports::warn(UNSAMPLED_WARNING);
        }
    }

    /// Registers the session of a scope with HoneyHive, if that is to be done and was not yet (REG1).
    pub(crate) fn use_session(&self, place: &Place) {
        if place.routings.is_to_be_registered() {
            self.register(&place.scope, Start::default());
        }
    }

    /// Registers the session of a scope, unless somebody else does or nobody is to, with what `start` says of it; if it
    /// was registered before, `fields` are merged into it.
    pub(crate) fn start_session(&self, place: &Place, start: Start<'_>, fields: Enrichment) {
        if place.routings.is_to_be_registered() && !self.register(&place.scope, start) {
            self.enrich_session(&place.scope, fields);
        }
    }

    fn register(&self, scope: &SessionScope, start: Start<'_>) -> bool {
        let Some(sessions) = &self.sessions else { return false };
        sessions.register(&self.tracer.start_of(scope, start), self.tracer.flatten())
    }

    /// Merges something into the session of a scope; whether it was queued.
    pub(crate) fn enrich_session(&self, scope: &SessionScope, fields: Enrichment) -> bool {
        let Some(sessions) = &self.sessions else { return false };
        sessions.enrich(self.tracer.session_in(scope), fields, self.tracer.flatten())
    }
}

/// The spool that options ask for.
fn spool(options: SpoolOptions) -> Result<Spool, Error> {
    let SpoolOptions { dir, bytes, bytes_of_environment, starts } = options;
    let bytes = Spool::size(bytes.map(|bytes| bytes as u64), bytes_of_environment.as_deref(), reports::warn)
        .map_err(|wanted| Error::value("spool_bytes", wanted))?;
    Ok(Spool { starts, bytes, ..Spool::new(dir, "") })
}

/// How long is waited.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Patience {
    /// As long as there is time.
    All,
    /// Until a request has failed.
    UntilFailure,
}

/// Waits for all that these tracers export to.
pub(crate) fn wait(natives: &[Arc<Native>], what: Wait, patience: Patience, time: std::time::Duration) -> bool {
    let retried = || natives.iter().map(|it| it.retried()).fold(0, u64::saturating_add);
    let before = retried();
    let exporters: Vec<_> = natives.iter().flat_map(|it| it.sinks.iter().filter_map(Sink::exporter)).collect();
    let sessions: Vec<_> = natives.iter().filter_map(|it| it.sessions.as_ref()).collect();
    let go_on = || patience == Patience::All || retried() == before;
    let delivered = what.for_all(&exporters, &sessions, time, go_on);
    if what == Wait::Shutdown {
        natives.iter().for_each(|it| it.is_over.store(true, Ordering::Relaxed));
    }
    natives.iter().flat_map(|it| &it.sinks).fold(delivered, |done, sink| done & sink.printed())
}

/// A scope, and what follows from it for the spans of one tracer.
#[derive(Clone)]
pub(crate) struct Place {
    pub(crate) scope: SessionScope,
    pub(crate) routings: Arc<Routings>,
}

/// The places that spans were in lately: to make one encodes the routing attributes.
#[derive(Default)]
pub(crate) struct Places {
    known: HashMap<u32, HashMap<Box<[u8]>, Place>>,
    count: usize,
}

/// So many are remembered, of a few hundred bytes each.
const MANY: usize = 512;

impl Places {
    /// The place that a blob says.
    pub(crate) fn get(&mut self, native: &Native, blob: &[u8]) -> Result<Place, Error> {
        if let Some(place) = self.known.get(&native.handle).and_then(|places| places.get(blob)) {
            return Ok(place.clone());
        }
        let scope = SessionScope::read(blob)?;
        let place = Place { routings: native.tracer.routings(&scope), scope };
        if self.count >= MANY {
            self.known.clear();
            self.count = 0;
        }
        self.count += 1;
        self.known.entry(native.handle).or_default().insert(blob.into(), place.clone());
        Ok(place)
    }
}

type Libraries = RwLock<(Vec<Scope>, HashMap<Scope, u32>)>;

static LIBRARIES: LazyLock<Libraries> = LazyLock::new(Libraries::default);

/// So many are told apart; programs have some ten. Further ones are the first one.
const MAX_LIBRARIES: usize = 65_536;

/// The id of an instrumentation scope.
pub(crate) fn library_id(scope: Scope) -> u32 {
    let (list, ids) = &mut *LIBRARIES.write().unwrap_or_else(PoisonError::into_inner);
    if let Some(id) = ids.get(&scope) {
        return *id;
    }
    if list.len() >= MAX_LIBRARIES {
        return 0;
    }
    let id = u32::try_from(list.len()).unwrap_or_default();
    list.push(scope.clone());
    ids.insert(scope, id);
    id
}

/// The instrumentation scope of an id.
pub(crate) fn library(id: u32) -> Option<Scope> {
    LIBRARIES.read().unwrap_or_else(PoisonError::into_inner).0.get(usize::try_from(id).ok()?).cloned()
}

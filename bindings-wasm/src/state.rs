//! What an instance remembers, and the operations on it.

use alloc::collections::BTreeMap;
use alloc::rc::Rc;
use alloc::string::String;
use alloc::vec::Vec;
use core::cell::RefCell;

use tracebaton::delivery::{self, Reason};
use tracebaton::exchange::record::Records;
use tracebaton::exchange::session::{Registration, SessionEnrichment};
use tracebaton::exchange::wire::{Reader, put_word};
use tracebaton::exchange::{COUNT_LOST, COUNT_TOO_LARGE, COUNT_UNSAMPLED, Error, Exchange, Op, options, tree};
use tracebaton::id::{SpanId, TraceFlags, TraceId};
use tracebaton::value::Value;

use crate::outbox::Outbox;
use crate::tracers::{Places, Tracing};

/// The memory that is shared with JavaScript.
#[derive(Default)]
pub(crate) struct Memory {
    pub(crate) bytes: Vec<u8>,
}

impl Memory {
    pub(crate) fn reserve(&mut self, bytes: usize) -> *mut u8 {
        if self.bytes.len() < bytes {
            self.bytes.resize(bytes, 0);
        }
        self.bytes.as_mut_ptr()
    }

    /// What JavaScript has written.
    pub(crate) fn request(&self, length: usize) -> Result<&[u8], Error> {
        self.bytes.get(..length).ok_or(Error::Truncated)
    }

    /// Writes an answer.
    pub(crate) fn put(&mut self, answer: &[u8]) -> i32 {
        self.reserve(answer.len());
        if let Some(place) = self.bytes.get_mut(..answer.len()) {
            place.copy_from_slice(answer);
        }
        i32::try_from(answer.len()).unwrap_or_default()
    }
}

/// All of it.
#[derive(Default)]
pub(crate) struct State {
    pub(crate) memory: Memory,
    pub(crate) mail: Memory,
    answer: Vec<u8>,
    exchange: Exchange,
    /// Handles count from 1.
    tracers: Vec<Option<Rc<Tracing>>>,
    pub(crate) libraries: Vec<delivery::Scope>,
    pub(crate) places: Places,
    pub(crate) outboxes: BTreeMap<u32, Outbox>,
    pub(crate) reports: Vec<String>,
    /// Spans that the exporter `console` prints, as lines.
    pub(crate) console: Vec<String>,
    /// Where requests about sessions go.
    pub(crate) outbox: u32,
}

struct Single(RefCell<Option<State>>);

// SAFETY: an instance runs on one thread.
unsafe impl Sync for Single {}

static STATE: Single = Single(RefCell::new(None));

/// Runs something on the state. No function here calls JavaScript, so none is entered while another one runs.
pub(crate) fn with<R>(run: impl FnOnce(&mut State) -> R) -> R {
    run(STATE.0.borrow_mut().get_or_insert_with(State::default))
}

/// So many instrumentations are told apart; programs have some ten. Further ones are the first one.
const MAX_LIBRARIES: usize = 65_536;

impl State {
    /// Runs an operation and writes its answer: its length, or what is less than 0 for an error.
    pub(crate) fn answer(&mut self, run: impl FnOnce(&mut Self, &mut Vec<u8>) -> Result<(), Error>) -> i32 {
        let mut out = core::mem::take(&mut self.answer);
        out.clear();
        let failed = match run(self, &mut out) {
            Ok(()) => false,
            Err(error) => {
                out.clear();
                error.write(&mut out);
                true
            }
        };
        let length = self.memory.put(&out);
        self.answer = out;
        if failed { -length } else { length }
    }

    pub(crate) fn tracer(&self, handle: u32) -> Option<Rc<Tracing>> {
        self.tracers.get(usize::try_from(handle).ok()?.checked_sub(1)?)?.clone()
    }

    pub(crate) fn init(&mut self, length: usize, session: usize, out: &mut Vec<u8>) -> Result<(), Error> {
        let request = self.memory.request(length)?;
        let options = tree::read(&mut Reader::new(request))?;
        let session = self.memory.bytes.get(length..length.saturating_add(session)).unwrap_or_default();
        let session = String::from_utf8_lossy(session).into_owned();
        let handle = u32::try_from(self.tracers.len()).unwrap_or_default().saturating_add(1);
        let tracing = Tracing::make(handle, &options, session)?;
        put_word(out, handle);
        tree::write(out, &options::describe(&tracing.tracer, false));
        self.tracers.push(Some(Rc::new(tracing)));
        Ok(())
    }

    pub(crate) fn run(&mut self, op: u32, handle: u32, length: usize, out: &mut Vec<u8>) -> Result<(), Error> {
        let op = Op::of(op).ok_or(Error::Unknown)?;
        let tracing = match handle {
            0 => None,
            handle => Some(self.tracer(handle).ok_or(Error::Unknown)?),
        };
        let own = || tracing.as_deref().ok_or(Error::Unknown);
        let request = self.memory.request(length)?;
        match op {
            Op::Drop => {
                if let Some(place) =
                    usize::try_from(handle).ok().and_then(|at| self.tracers.get_mut(at.checked_sub(1)?))
                {
                    *place = None;
                }
            }
            Op::Stats => {
                let own = own()?;
                tree::write(out, &own.stats(&self.outboxes));
            }
            Op::Memory => {
                let spans = own()?.memory.borrow();
                let texts = spans.iter().map(|json| Value::from(String::from_utf8_lossy(json).into_owned()));
                tree::write(out, &Value::Array(texts.collect()));
            }
            Op::Reports => tree::write(out, &Value::from(core::mem::take(&mut self.reports))),
            Op::Instrumentation => {
                let scope = options::instrumentation(&tree::read(&mut Reader::new(request))?)?;
                let known = self.libraries.iter().position(|known| *known == scope);
                let id = known.unwrap_or_else(|| {
                    if self.libraries.len() >= MAX_LIBRARIES {
                        return 0;
                    }
                    self.libraries.push(scope);
                    self.libraries.len().saturating_sub(1)
                });
                put_word(out, u32::try_from(id).unwrap_or_default());
            }
            Op::UseSession => {
                let place = self.places.get(own()?, request)?;
                own()?.use_session(&place, self.outboxes.entry(self.outbox).or_default());
            }
            Op::RegisterSession => {
                let registration = Registration::read(request)?;
                let place = self.places.get(own()?, registration.blob)?;
                own()?.start_session(&place, &registration, self.outboxes.entry(self.outbox).or_default());
            }
            Op::EnrichSession => {
                let enrichment = SessionEnrichment::read(request)?;
                let place = self.places.get(own()?, enrichment.blob)?;
                let outbox = self.outboxes.entry(self.outbox).or_default();
                if enrichment.register {
                    own()?.use_session(&place, outbox);
                }
                put_word(out, u32::from(own()?.enrich_session(&place.scope, enrichment.fields, outbox)));
            }
            Op::Count => {
                let [what, spans] = Reader::new(request).words()?;
                let own = own()?;
                match what {
                    COUNT_UNSAMPLED => {
                        if own.tracer.count_unsampled(usize::try_from(spans).unwrap_or(usize::MAX)) {
                            self.reports.push(String::from(tracebaton::tracer::UNSAMPLED_WARNING));
                        }
                    }
                    COUNT_TOO_LARGE => own.count_lost(Reason::TooLarge, spans.into()),
                    COUNT_LOST => own.count_lost(Reason::QueueFull, spans.into()),
                    _ => return Err(Error::Malformed),
                }
            }
            _ => self.exchange.run(op, tracing.as_deref().map(|it| &it.tracer), request, out)?,
        }
        Ok(())
    }

    pub(crate) fn start(&mut self, handle: u32, parent_flags: i32) -> i32 {
        let tracing = self.tracer(handle);
        self.memory.reserve(56);
        let memory = &mut self.memory.bytes;
        let random = |at: usize| memory.get(at..).unwrap_or_default();
        let trace_id = random(0).first_chunk().map(|bytes: &[u8; 16]| TraceId::random(*bytes));
        let span_id = random(16).first_chunk().map(|bytes: &[u8; 8]| SpanId::random(*bytes));
        let (Some(random_id), Some(span_id)) = (trace_id, span_id) else { return 0 };
        let given = u32::try_from(parent_flags).ok();
        let parent = given.and_then(|given| {
            let trace_id = TraceId::from_hex(memory.get(24..56)?)?;
            Some((trace_id, TraceFlags::from_bits((given & 0xff) as u8), given & 0x100 != 0))
        });
        let trace_id = parent.map_or(random_id, |(trace_id, ..)| trace_id);
        if let Some(place) = memory.get_mut(..48) {
            let (trace, span) = place.split_at_mut(32);
            trace.copy_from_slice(&trace_id.to_hex());
            span.copy_from_slice(&span_id.to_hex());
        }
        let parent = parent.map(|(_, flags, is_remote)| (flags, is_remote));
        let (flags, recorded) = match &tracing {
            Some(tracing) => tracing.tracer.sample(trace_id, parent),
            None => (parent.map(|(flags, _)| flags).unwrap_or_default(), false),
        };
        if tracing.as_ref().is_some_and(|tracing| !recorded && tracing.tracer.count_unsampled(1)) {
            self.reports.push(String::from(tracebaton::tracer::UNSAMPLED_WARNING));
        }
        i32::from(flags.bits()) | if recorded { 0x100 } else { 0 }
    }

    pub(crate) fn submit(&mut self, outbox: u32, length: usize, now_ms: f64) {
        let chunk = self.mail.bytes.get(..length).unwrap_or_default();
        let outbox = self.outboxes.entry(outbox).or_default();
        for record in Records::of(chunk) {
            // What a length that is wrong leads to cannot be told from records.
            let Ok(record) = record else { return };
            let at = usize::try_from(record.tracer).ok().and_then(|at| at.checked_sub(1));
            let Some(tracing) = at.and_then(|at| self.tracers.get(at)).cloned().flatten() else { continue };
            let delivered = (|| {
                let at = usize::try_from(record.instrumentation).map_err(|_| Error::Malformed)?;
                let library = self.libraries.get(at).ok_or(Error::Malformed)?;
                let head = record.head()?;
                let place = self.places.get(&tracing, head.blob())?;
                tracing.deliver(head, &place, library, outbox, now_ms, &mut self.console)
            })();
            if delivered.is_err() {
                tracing.count_lost(Reason::TooLarge, 1);
            }
        }
    }
}

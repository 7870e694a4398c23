//! The operations: those that need more than core are done here, the others there.

use std::time::{Duration, Instant};

use tracebaton::delivery::Reason;
use tracebaton::exchange::record::{Record, Records};
use tracebaton::exchange::session::{Registration, SessionEnrichment};
use tracebaton::exchange::wire::{Reader, put_word};
use tracebaton::exchange::{COUNT_LOST, COUNT_TOO_LARGE, COUNT_UNSAMPLED, Error, Op, options, tree};
use tracebaton::value::Value;
use tracebaton_export::Sink;

use crate::environment::Environment;
use crate::tracers::{self, Native};
use crate::{encoder, ids, reports, stats};

/// How long statistics wait for spans that are still to be encoded: they are counted from then on.
const STATS_PATIENCE: Duration = Duration::from_millis(20);
/// The same for the exporter `memory`, which tests read.
const MEMORY_PATIENCE: Duration = Duration::from_secs(1);

/// Runs an operation on the request in the first bytes of the environment's memory, and appends its answer to `out`.
pub(crate) fn run(
    environment: &mut Environment,
    op: Op,
    tracer: u32,
    length: u32,
    out: &mut Vec<u8>,
) -> Result<(), Error> {
    let native = match tracer {
        0 => None,
        handle => Some(environment.native(handle).ok_or(Error::Unknown)?),
    };
    let length = usize::try_from(length).map_err(|_| Error::Truncated)?;
    // For those that change the environment while they read.
    let copy = |environment: &Environment| {
        environment.memory.bytes().get(..length).map(<[u8]>::to_vec).ok_or(Error::Truncated)
    };
    let Environment { memory, exchange, places, .. } = environment;
    let request = memory.bytes().get(..length).ok_or(Error::Truncated)?;
    let own = || native.as_deref().ok_or(Error::Unknown);
    match op {
        Op::Init => {
            let native = Native::make(&tree::read(&mut Reader::new(request))?)?;
            put_word(out, native.handle);
            tree::write(out, &options::describe(&native.tracer, native.records_starts));
            environment.made.push(native.handle);
            environment.known.push(native);
        }
        Op::Drop => environment.forget(tracer),
        Op::Stats => {
            encoder::wait_until(Instant::now() + STATS_PATIENCE);
            tree::write(out, &stats::all(own()?));
        }
        Op::Memory => {
            encoder::wait_until(Instant::now() + MEMORY_PATIENCE);
            let spans = own()?.sinks.iter().flat_map(Sink::memory);
            let texts = spans.map(|json| Value::from(String::from_utf8_lossy(&json).into_owned()));
            tree::write(out, &Value::Array(texts.collect()));
        }
        Op::Reports => tree::write(out, &Value::from(reports::take())),
        Op::Instrumentation => {
            let scope = options::instrumentation(&tree::read(&mut Reader::new(request))?)?;
            put_word(out, tracers::library_id(scope));
        }
        Op::UseSession => {
            let native = own()?;
            native.use_session(&places.get(native, request)?);
        }
        Op::RegisterSession => {
            let (native, registration) = (own()?, Registration::read(request)?);
            let place = places.get(native, registration.blob)?;
            native.start_session(&place, registration.start(), registration.fields.clone());
        }
        Op::EnrichSession => {
            let (native, enrichment) = (own()?, SessionEnrichment::read(request)?);
            let place = places.get(native, enrichment.blob)?;
            if enrichment.register {
                native.use_session(&place);
            }
            put_word(out, u32::from(native.enrich_session(&place.scope, enrichment.fields)));
        }
        Op::Ids => {
            let digits = usize::try_from(Reader::new(request).word()?).map_err(|_| Error::Malformed)?;
            // So many are asked for at once by nobody.
            const MOST: usize = 1 << 20;
            while out.len() < digits.min(MOST) {
                out.extend_from_slice(&tracebaton::TraceId::random(ids::random()).to_hex());
            }
            out.truncate(digits);
        }
        Op::Count => {
            let [what, spans] = Reader::new(request).words()?;
            let native = own()?;
            match what {
                COUNT_UNSAMPLED => native.count_unsampled(usize::try_from(spans).unwrap_or(usize::MAX)),
                COUNT_TOO_LARGE => native.count_lost(Reason::TooLarge, spans.into()),
                COUNT_LOST => native.count_lost(Reason::QueueFull, spans.into()),
                _ => return Err(Error::Malformed),
            }
        }
        Op::RecordStart => {
            let record = only_record(request)?;
            let native = own()?;
            let library = tracers::library(record.instrumentation).ok_or(Error::Malformed)?;
            let head = record.head()?;
            let place = places.get(native, head.blob())?;
            let started = native.start(head, &place, &library)?;
            let mut token = 0;
            if started.iter().any(Option::is_some) {
                // Zero says that there is none. After four thousand million spans the first of them have ended.
                token = environment.last_token.wrapping_add(1).max(1);
                environment.last_token = token;
                environment.started.insert(token, started);
            }
            put_word(out, token);
        }
        Op::Record => {
            let request = copy(environment)?;
            let native = own()?;
            let mut reader = Reader::new(&request);
            let started = environment.started.remove(&reader.word()?).unwrap_or_default();
            encoder::deliver(native, only_record(reader.rest())?, &mut environment.places, started)?;
        }
        Op::Forget => {
            let native = own()?;
            let started = environment.started.remove(&Reader::new(request).word()?).unwrap_or_default();
            for (sink, started) in native.sinks.iter().zip(started) {
                started.into_iter().for_each(|started| sink.forget(started));
            }
        }
        _ => exchange.run(op, native.as_deref().map(|native| &native.tracer), request, out)?,
    }
    Ok(())
}

fn only_record(bytes: &[u8]) -> Result<Record<'_>, Error> {
    Records::of(bytes).next().ok_or(Error::Truncated)?
}

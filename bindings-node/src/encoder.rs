//! The thread that encodes spans: JavaScript's thread only copies their fields into chunks.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Instant;

use tracebaton::delivery::Reason;
use tracebaton::exchange::Error;
use tracebaton::exchange::record::{Record, Records};

use crate::tracers::{self, Native, Places};

/// So many bytes of chunks may wait, the process over. The thread encodes faster than JavaScript writes, so they wait only
/// where it gets no processor; what is encoded counts for the bounds of its exporter.
const MAX_BYTES: usize = 32 << 20;

/// So many chunks are kept to be filled again, of this size at most: new memory costs JavaScript's thread a fault for each
/// page of it.
const KEPT: usize = 8;
const KEPT_BYTES: usize = 256 << 10;

struct Queue {
    chunks: VecDeque<Vec<u8>>,
    empty: Vec<Vec<u8>>,
    bytes: usize,
    /// How many chunks were ever taken in, and how many of these are done with.
    submitted: u64,
    done: u64,
    runs: bool,
    /// Whether the thread waits, and has to be woken.
    sleeps: bool,
}

static QUEUE: Mutex<Queue> = Mutex::new(Queue {
    chunks: VecDeque::new(),
    empty: Vec::new(),
    bytes: 0,
    submitted: 0,
    done: 0,
    runs: false,
    sleeps: false,
});
static SUBMITTED: Condvar = Condvar::new();
static DONE: Condvar = Condvar::new();

fn queue() -> MutexGuard<'static, Queue> {
    QUEUE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Takes in a chunk of records. Where there is no room they are dropped and counted.
pub(crate) fn submit(chunk: &[u8]) {
    if chunk.is_empty() {
        return;
    }
    let mut queue = queue();
    if queue.bytes.saturating_add(chunk.len()) > MAX_BYTES {
        drop(queue);
        return count_dropped(chunk, Reason::QueueFull);
    }
    queue.bytes += chunk.len();
    let mut copy = queue.empty.pop().unwrap_or_default();
    copy.extend_from_slice(chunk);
    queue.chunks.push_back(copy);
    queue.submitted += 1;
    if !queue.runs {
        queue.runs = thread::Builder::new().name("tracebaton-encode".to_owned()).spawn(run).is_ok();
    }
    let (runs, sleeps) = (queue.runs, queue.sleeps);
    drop(queue);
    if !runs {
        // A process that may have no more threads encodes here.
        while step(&mut Places::default(), false) {}
    } else if sleeps {
        SUBMITTED.notify_one();
    }
}

/// Waits until all chunks that were taken in are encoded; whether they are, in time.
pub(crate) fn wait_until(deadline: Instant) -> bool {
    let mut queue = queue();
    let wanted = queue.submitted;
    while queue.done < wanted {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return false;
        }
        queue = DONE.wait_timeout(queue, left).unwrap_or_else(PoisonError::into_inner).0;
    }
    true
}

fn run() {
    let mut places = Places::default();
    while step(&mut places, true) {}
}

/// Encodes one chunk; whether there was one.
fn step(places: &mut Places, waits: bool) -> bool {
    let mut waiting = queue();
    let mut chunk = loop {
        match waiting.chunks.pop_front() {
            Some(chunk) => break chunk,
            None if waits => {
                waiting.sleeps = true;
                waiting = SUBMITTED.wait(waiting).unwrap_or_else(PoisonError::into_inner);
                waiting.sleeps = false;
            }
            None => return false,
        }
    };
    drop(waiting);
    // One chunk that is at fault, if it can be, takes no other with it.
    let encoded = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| encode(&chunk, places)));
    if encoded.is_err() {
        *places = Places::default();
    }
    let mut queue = queue();
    queue.bytes -= chunk.len();
    queue.done += 1;
    if queue.empty.len() < KEPT && chunk.capacity() <= KEPT_BYTES {
        chunk.clear();
        queue.empty.push(chunk);
    }
    drop(queue);
    DONE.notify_all();
    true
}

fn encode(chunk: &[u8], places: &mut Places) {
    // Spans of one tracer mostly follow each other.
    let mut last: Option<Arc<Native>> = None;
    for record in Records::of(chunk) {
        // What a length that is wrong leads to cannot be told from records.
        let Ok(record) = record else { return };
        if last.as_ref().is_none_or(|last| last.handle != record.tracer) {
            last = tracers::find(record.tracer);
        }
        if let Some(native) = &last {
            let _ = deliver(native, record, places, Vec::new());
        }
    }
}

/// Encodes one record for its tracer's exporters. One that is malformed is counted as lost.
pub(crate) fn deliver(
    native: &Native,
    record: Record<'_>,
    places: &mut Places,
    started: Vec<Option<tracebaton_export::Started>>,
) -> Result<(), Error> {
    let delivered = (|| {
        let library = tracers::library(record.instrumentation).ok_or(Error::Malformed)?;
        let head = record.head()?;
        let place = places.get(native, head.blob())?;
        native.deliver(head, &place, &library, started)
    })();
    if delivered.is_err() {
        native.count_lost(Reason::TooLarge, 1);
    }
    delivered
}

/// Counts the spans in a chunk as dropped.
fn count_dropped(chunk: &[u8], reason: Reason) {
    let mut counts: HashMap<u32, u64> = HashMap::new();
    for record in Records::of(chunk).flatten() {
        *counts.entry(record.tracer).or_default() += 1;
    }
    for (tracer, spans) in counts {
        if let Some(native) = tracers::find(tracer) {
            native.count_lost(reason, spans);
        }
    }
}

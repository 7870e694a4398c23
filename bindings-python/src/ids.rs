//! New ids from the operating system's entropy: never from a generator that a user can seed, never the same on both
//! sides of a fork.

use std::sync::Mutex;

use pyo3::prelude::*;
use tracebaton::id::{SpanId, TraceId};
use tracebaton_export::fork;

/// Random bytes are fetched this many at a time: a system call for each id would cost more than the id.
const BLOCK: usize = 4096;

struct Block {
    bytes: [u8; BLOCK],
    used: usize,
    /// The process that fetched them.
    generation: u32,
}

static RANDOM: Mutex<Block> = Mutex::new(Block { bytes: [0; BLOCK], used: BLOCK, generation: 0 });

/// Random bytes. Where the operating system gives none, which happens only in a broken sandbox, they are zeros, which
/// the id types turn into valid (if not unique) ids: tracing must not fail a request.
fn random<const N: usize>() -> [u8; N] {
    let mut out = [0; N];
    // A poisoned block is as good as any: it is only bytes.
    let mut block = RANDOM.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let generation = fork::generation();
    if block.generation != generation || BLOCK - block.used < N {
        let Block { bytes, used, .. } = &mut *block;
        if getrandom::fill(bytes).is_err() {
            return out;
        }
        *used = 0;
        block.generation = generation;
    }
    let start = block.used;
    if let Some(fresh) = block.bytes.get_mut(start..start + N) {
        out.copy_from_slice(fresh);
        // What was handed out is not there to be read again.
        fresh.fill(0);
    }
    block.used = start + N;
    out
}

pub(crate) fn trace_id() -> TraceId {
    TraceId::random(random())
}

pub(crate) fn span_id() -> SpanId {
    SpanId::random(random())
}

/// A UUID of version 4, as text: a session id.
pub(crate) fn uuid4() -> String {
    uuid::Builder::from_random_bytes(random()).into_uuid().to_string()
}

/// A new trace id, as a number.
#[pyfunction]
pub(crate) fn new_trace_id() -> u128 {
    u128::from_be_bytes(trace_id().to_bytes())
}

/// A new span id, as a number.
#[pyfunction]
pub(crate) fn new_span_id() -> u64 {
    u64::from_be_bytes(span_id().to_bytes())
}

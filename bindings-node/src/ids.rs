//! New ids from the operating system's entropy: never from a generator that a user can seed.

use std::sync::{Mutex, PoisonError};

/// Random bytes are fetched this many at a time: a system call for each id would cost more than the id.
const BLOCK: usize = 4096;

struct Block {
    bytes: [u8; BLOCK],
    used: usize,
}

static RANDOM: Mutex<Block> = Mutex::new(Block { bytes: [0; BLOCK], used: BLOCK });

/// Random bytes. Where the operating system gives none, which happens only in a broken sandbox, they are zeros, which the
/// id types turn into valid (if not unique) ids: tracing must not fail a request.
pub(crate) fn random<const N: usize>() -> [u8; N] {
    let mut out = [0; N];
    // A poisoned block is as good as any: it is only bytes.
    let mut block = RANDOM.lock().unwrap_or_else(PoisonError::into_inner);
    if BLOCK - block.used < N {
        let Block { bytes, used } = &mut *block;
        if getrandom::fill(bytes).is_err() {
            return out;
        }
        *used = 0;
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

/// A UUID of version 4, as text: a session id.
pub(crate) fn uuid4() -> String {
    uuid::Builder::from_random_bytes(random()).into_uuid().to_string()
}

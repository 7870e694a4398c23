//! The spool and flight recorder: spans in memory that outlives the process, such as a mapped file.
//!
//! [`Spool`] writes. A span that ends is in it before the call that ends it returns, and one that begins is recorded
//! with what is known then; both are stores into the memory, without a system call. Whatever ends the process, what was
//! stored is there for the next one: [`Recovery`] reads the file, and gives the spans that had ended and were not
//! delivered, and those that were open as [interrupted](fn@interrupted) ones.
//!
//! A spool is a pool of segments of equal size, with one that is written and others that are free or hold what is still
//! needed. A segment is used again when all its spans were delivered (or dropped for good) and none of its starts is
//! open. Starts that are open for long do not keep a segment: they are copied to another one. What starts in a row have
//! in common, such as the session, is written once for all of them.
//!
//! Nothing here does I/O: the memory is the caller's, and the format is that of `format.rs`.

mod checksum;
mod format;
mod interrupted;
mod recovery;
#[cfg(test)]
#[allow(clippy::arithmetic_side_effects, clippy::indexing_slicing, reason = "in a test that is a panic")]
mod tests;
mod writer;

pub(crate) use format::state_at;
pub use format::{DONE, HEADER_BYTES, Header, LABEL_BYTES, RECOVERED_AT, SEGMENT_LEAST, Unreadable};
pub use interrupted::interrupted;
pub use recovery::{Recovery, Source, Summary};
pub use writer::{Spool, Start};

use alloc::boxed::Box;
use alloc::vec::Vec;

/// Where a record stands: its place in the file, in units of eight bytes. The file's header is at 0, so 0 is no record.
pub(crate) type Mark = u32;

/// The memory of a spool.
pub trait Memory: Send {
    /// All of it. Nobody else changes it.
    fn bytes(&self) -> &[u8];

    /// Stores these bytes at this place; what would be past the end is left out. What is stored first must not be lost
    /// where what is stored later is not.
    fn write(&mut self, at: usize, bytes: &[u8]);
}

/// Stores bytes as [`Memory::write`] does.
fn store(memory: &mut [u8], at: usize, bytes: &[u8]) {
    let end = at.saturating_add(bytes.len());
    if let Some(place) = memory.get_mut(at..end) {
        place.copy_from_slice(bytes);
    }
}

impl Memory for Vec<u8> {
    fn bytes(&self) -> &[u8] {
        self
    }

    fn write(&mut self, at: usize, bytes: &[u8]) {
        store(self, at, bytes);
    }
}

impl<M: Memory + ?Sized> Memory for Box<M> {
    fn bytes(&self) -> &[u8] {
        (**self).bytes()
    }

    fn write(&mut self, at: usize, bytes: &[u8]) {
        (**self).write(at, bytes);
    }
}

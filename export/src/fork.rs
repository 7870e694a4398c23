//! `fork`: what a program calls around it (Python by `os.register_at_fork`).
//!
//! [`before`] ends the threads that are idle, so that none exists while the process is copied. The parent goes on with
//! [`after_in_parent`]. The child, in [`after_in_child`], gets new and empty queues with the same destinations: what
//! was queued is the parent's to deliver. All it inherited of the old ones (locks that a thread may have held which the
//! child does not have, handles of threads, sockets) is leaked: never touched, never freed.

use std::sync::atomic::{AtomicU32, Ordering};

static GENERATION: AtomicU32 = AtomicU32::new(0);

/// How many forks are between this process and the first one. A span that ends in another generation than the one it
/// began in has ended in another process.
#[inline]
pub fn generation() -> u32 {
    GENERATION.load(Ordering::Relaxed)
}

#[cfg(unix)]
pub use unix::{after_in_child, after_in_parent, before};

#[cfg(unix)]
mod unix {
    use std::cell::RefCell;
    use std::sync::atomic::Ordering;
    use std::sync::{Arc, Weak};
    use std::time::Duration;

    use super::GENERATION;
    use crate::clock;
    use crate::exporter::Inner;
    use crate::worker::{self, Worker};

    /// How long a fork waits for requests in flight.
    const PATIENCE: Duration = Duration::from_millis(100);

    /// What `before` leaves for `after_*`, which run on the same thread. No lock is held in between: a thread that waited
    /// for it could have what the forking thread needs, such as Python's lock.
    #[derive(Default)]
    struct Before {
        workers: Vec<Arc<Worker>>,
        exporters: Vec<Weak<Inner>>,
    }

    thread_local! {
        static BEFORE: RefCell<Before> = RefCell::default();
    }

    /// Before `fork`: ends the threads that are idle. One in a request is waited for, 100 ms in all; then `fork` has to
    /// go on with it. Must be followed by [`after_in_parent`] or [`after_in_child`] on the same thread.
    pub fn before() {
        let table = worker::table();
        let (workers, exporters) = (table.workers(), table.exporters());
        drop(table);
        workers.iter().for_each(|worker| worker.park());
        let deadline = clock::deadline(PATIENCE);
        workers.iter().for_each(|worker| worker.join(deadline));
        BEFORE.set(Before { workers, exporters });
    }

    /// After `fork` in the parent, also if it failed: threads start again where there is something to do.
    pub fn after_in_parent() {
        BEFORE.take().workers.iter().for_each(|worker| worker.unpark());
    }

    /// After `fork` in the child: leaks what was inherited and makes new queues.
    pub fn after_in_child() {
        let Before { workers, exporters } = BEFORE.take();
        // Dropping the last reference to one would touch its lock and thread.
        std::mem::forget(workers);
        let generation = super::generation().wrapping_add(1);
        worker::renew(generation, exporters);
        GENERATION.store(generation, Ordering::Relaxed);
    }
}

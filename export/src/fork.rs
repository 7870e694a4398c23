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
    use std::sync::{Arc, MutexGuard, Weak};
    use std::time::Duration;

    use super::GENERATION;
    use crate::clock;
    use crate::worker::{self, Registry, Worker};

    /// How long a fork waits for requests in flight.
    const PATIENCE: Duration = Duration::from_millis(100);

    struct Held {
        registry: MutexGuard<'static, Registry>,
        workers: Vec<Arc<Worker>>,
    }

    thread_local! {
        /// What `before` leaves for `after_*`, which run on the same thread. Holding the table's lock in between is
        /// what makes it usable in the child.
        static HELD: RefCell<Option<Held>> = const { RefCell::new(None) };
    }

    /// Before `fork`: ends the threads that are idle. One in a request is waited for, 100 ms in all; then `fork` has to
    /// go on with it. Must be followed by [`after_in_parent`] or [`after_in_child`] on the same thread.
    pub fn before() {
        if HELD.with_borrow(Option::is_some) {
            return;
        }
        let registry = worker::registry();
        let workers: Vec<_> = registry.workers.iter().filter_map(Weak::upgrade).collect();
        workers.iter().for_each(|worker| worker.park());
        let deadline = clock::deadline(PATIENCE);
        workers.iter().for_each(|worker| worker.join(deadline));
        HELD.set(Some(Held { registry, workers }));
    }

    /// After `fork` in the parent, also if it failed: threads start again where there is something to do.
    pub fn after_in_parent() {
        let Some(Held { registry, workers }) = HELD.take() else { return };
        drop(registry);
        workers.iter().for_each(|worker| worker.unpark());
    }

    /// After `fork` in the child: leaks what was inherited and makes new queues.
    pub fn after_in_child() {
        let generation = GENERATION.fetch_add(1, Ordering::Relaxed).wrapping_add(1);
        let mut registry = match HELD.take() {
            Some(Held { registry, workers }) => {
                std::mem::forget(workers);
                registry
            }
            // Nobody called `before`. Exporters stay without a queue if another thread had the table just then.
            None => match worker::try_registry() {
                Some(registry) => registry,
                None => return,
            },
        };
        // Those that were upgraded just now are leaked; others are leaked with the queues that refer to them.
        registry.workers.clear();
        let exporters: Vec<_> = registry.exporters.iter().filter_map(Weak::upgrade).collect();
        for exporter in &exporters {
            exporter.renew(&mut registry, generation);
        }
        // Dropping an exporter locks the table nowhere, but its lock need not be held for that either.
        drop(registry);
    }
}

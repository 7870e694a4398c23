//! The thread of a destination, and the table of all of them.

use std::collections::BTreeSet;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError, Weak};
use std::thread::{self, JoinHandle};
use std::time::Instant;

use ureq::Proxy;

use crate::clock;
use crate::destination::Destination;
use crate::exporter::Inner;
use crate::fork;
use crate::http::Client;
use crate::proxy;
use crate::queue::{Queue, Step, lock, wait};
use crate::registration::Known;

/// Every destination and every exporter of this process.
pub(crate) struct Table {
    workers: Vec<Weak<Worker>>,
    exporters: Vec<Weak<Inner>>,
}

/// The table of one process, and that of a forked child: a child gets its own, since it cannot know whether a thread
/// that it does not have holds the lock of the one it inherited.
struct Registry {
    generation: u32,
    table: Mutex<Table>,
    /// The files of spools that this process has locked.
    spools: Mutex<BTreeSet<i32>>,
    next: OnceLock<Box<Registry>>,
}

impl Registry {
    const fn new(generation: u32) -> Self {
        let table = Mutex::new(Table { workers: Vec::new(), exporters: Vec::new() });
        Self { generation, table, spools: Mutex::new(BTreeSet::new()), next: OnceLock::new() }
    }

    fn current() -> &'static Self {
        let generation = fork::generation();
        let mut registry = &FIRST;
        while registry.generation != generation {
            let Some(next) = registry.next.get() else { break };
            registry = next;
        }
        registry
    }
}

static FIRST: Registry = Registry::new(0);

/// The table of this process. It is locked while exporters are made, never on the way of a span.
pub(crate) fn table() -> MutexGuard<'static, Table> {
    lock(&Registry::current().table)
}

/// The files of spools that this process has locked, by their descriptors.
#[cfg_attr(not(unix), allow(dead_code, reason = "there are no spools"))]
pub(crate) fn spools() -> MutexGuard<'static, BTreeSet<i32>> {
    lock(&Registry::current().spools)
}

/// In a forked child: a new table, with a new queue for each exporter of the old one or, if that is locked, of those
/// that were seen before the fork.
#[cfg_attr(not(unix), allow(dead_code, reason = "there is no fork"))]
pub(crate) fn renew(generation: u32, seen: Vec<Weak<Inner>>) {
    let old = Registry::current();
    let exporters = old.table.try_lock().map_or(seen, |table| table.exporters.clone());
    // Where another thread was at it in that moment, they stay locked until this process ends, too.
    #[cfg(unix)]
    if let Ok(mut files) = old.spools.try_lock() {
        crate::spool::forget_inherited(std::mem::take(&mut *files));
    }
    // Nobody else sets it: a child has one thread at first.
    let new = old.next.get_or_init(|| Box::new(Registry::new(generation)));
    let mut table = lock(&new.table);
    for exporter in exporters.iter().filter_map(Weak::upgrade) {
        exporter.renew(&mut table, generation);
        table.add_exporter(&exporter);
    }
}

impl Table {
    /// The worker for this destination: the one that exists or a new one.
    pub(crate) fn worker(&mut self, destination: &Destination) -> Arc<Worker> {
        self.workers.retain(|worker| worker.strong_count() != 0);
        let found = self.workers.iter().filter_map(Weak::upgrade).find(|worker| worker.destination == *destination);
        found.unwrap_or_else(|| {
            // Read here and not by the thread: reading the environment takes a lock of the standard library, which must
            // not be held when another thread forks.
            let (proxy, warning) = match proxy::of(destination, |name| std::env::var(name).ok()) {
                Ok(proxy) => (proxy, None),
                Err(warning) => (None, Some(warning)),
            };
            let worker = Arc::new_cyclic(|this| Worker {
                this: Weak::clone(this),
                destination: destination.clone(),
                proxy,
                warning: Mutex::new(warning),
                sessions: Known::default(),
                state: Mutex::default(),
                wake: Condvar::new(),
                ended: Condvar::new(),
            });
            self.workers.push(Arc::downgrade(&worker));
            worker
        })
    }

    pub(crate) fn workers(&self) -> Vec<Arc<Worker>> {
        self.workers.iter().filter_map(Weak::upgrade).collect()
    }

    #[cfg_attr(not(unix), allow(dead_code, reason = "there is no fork"))]
    pub(crate) fn exporters(&self) -> Vec<Weak<Inner>> {
        self.exporters.clone()
    }

    pub(crate) fn add_exporter(&mut self, exporter: &Arc<Inner>) {
        self.exporters.retain(|exporter| exporter.strong_count() != 0);
        self.exporters.push(Arc::downgrade(exporter));
    }
}

/// The thread of one destination. It starts when it is first needed and ends with the last queue.
pub(crate) struct Worker {
    this: Weak<Worker>,
    destination: Destination,
    proxy: Option<Proxy>,
    /// What the first queue has to report.
    warning: Mutex<Option<String>>,
    /// The sessions that were registered there.
    pub(crate) sessions: Known,
    state: Mutex<State>,
    /// Told when there is something to do.
    wake: Condvar,
    /// Told when the thread has ended, all but its last instructions.
    ended: Condvar,
}

#[derive(Default)]
struct State {
    queues: Vec<Arc<Queue>>,
    /// Those of them that nobody holds any more.
    retired: Vec<Weak<Queue>>,
    /// The thread, also for a while after its end.
    thread: Option<JoinHandle<()>>,
    running: bool,
    /// There is something to do.
    woken: bool,
    /// A fork is near: the thread shall end, and none may start.
    parked: bool,
}

impl Worker {
    pub(crate) fn destination(&self) -> &Destination {
        &self.destination
    }

    /// What is wrong with the environment, once.
    pub(crate) fn take_warning(&self) -> Option<String> {
        lock(&self.warning).take()
    }

    pub(crate) fn add(&self, queue: &Arc<Queue>) {
        lock(&self.state).queues.push(Arc::clone(queue));
    }

    /// Makes the thread look at its queues, and starts it if it does not run.
    pub(crate) fn wake(&self) {
        let mut state = lock(&self.state);
        state.woken = true;
        if state.running {
            drop(state);
            self.wake.notify_one();
        } else if !state.parked {
            self.start(&mut state);
        }
    }

    /// Lets go of a queue that takes no more spans: at once if it is empty, else after the thread has dealt with it.
    pub(crate) fn retire(&self, queue: &Arc<Queue>) {
        if queue.is_finished() {
            self.remove(queue);
            // Without queues the thread has to end.
            self.wake.notify_one();
        } else {
            let mut state = lock(&self.state);
            state.retired.retain(|queue| queue.strong_count() != 0);
            state.retired.push(Arc::downgrade(queue));
            drop(state);
            self.wake();
        }
    }

    /// The queues that were let go of and are still to be dealt with.
    pub(crate) fn retired(&self) -> Vec<Arc<Queue>> {
        let state = lock(&self.state);
        state.retired.iter().filter_map(Weak::upgrade).collect()
    }

    fn remove(&self, queue: &Arc<Queue>) {
        lock(&self.state).queues.retain(|other| !Arc::ptr_eq(other, queue));
    }

    fn start(&self, state: &mut State) {
        let Some(worker) = self.this.upgrade() else { return };
        let run = move || {
            // After a panic, which nothing here should cause, the next wake starts another thread.
            if catch_unwind(AssertUnwindSafe(|| worker.run())).is_err() {
                lock(&worker.state).running = false;
                worker.ended.notify_all();
            }
        };
        // Where no thread can be had, the spans wait, and the next wake tries again.
        if let Ok(thread) = thread::Builder::new().name("tracebaton-export".into()).spawn(run) {
            state.thread = Some(thread);
            state.running = true;
        }
    }

    fn run(&self) {
        let mut client = Client::new(&self.destination, self.proxy.clone());
        let mut queues = Vec::new();
        loop {
            let mut state = lock(&self.state);
            if state.parked || state.queues.is_empty() {
                // The connection ends before it is said that the thread has: a child must not inherit it.
                drop(state);
                drop(client);
                state = lock(&self.state);
                if state.parked || state.queues.is_empty() {
                    state.running = false;
                    drop(state);
                    self.ended.notify_all();
                    return;
                }
                client = Client::new(&self.destination, self.proxy.clone());
            }
            state.woken = false;
            queues.extend(state.queues.iter().map(Arc::clone));
            drop(state);

            let mut again = false;
            let mut until: Option<u64> = None;
            for queue in queues.drain(..) {
                match queue.step(&mut client) {
                    Step::Again => again = true,
                    Step::Wait(at) => until = Some(until.map_or(at, |other| other.min(at))),
                    Step::Idle => {}
                    Step::Finished => {
                        self.remove(&queue);
                        again = true;
                    }
                }
                if lock(&self.state).parked {
                    break;
                }
            }
            if again {
                continue;
            }
            let mut state = lock(&self.state);
            while !state.woken && !state.parked && !state.queues.is_empty() {
                state = match until.map(clock::until) {
                    None => self.wake.wait(state).unwrap_or_else(PoisonError::into_inner),
                    Some(time) if time.is_zero() => break,
                    Some(time) => wait(&self.wake, state, time),
                };
            }
        }
    }

    /// Tells the thread to end, and allows no other until [`unpark`](Self::unpark).
    #[cfg_attr(not(unix), allow(dead_code, reason = "there is no fork"))]
    pub(crate) fn park(&self) {
        lock(&self.state).parked = true;
        self.wake.notify_one();
    }

    /// Waits for the end of a thread that was told to end; until the deadline, since it may be in a request.
    #[cfg_attr(not(unix), allow(dead_code, reason = "there is no fork"))]
    pub(crate) fn join(&self, deadline: Instant) {
        let mut state = lock(&self.state);
        while state.running {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return;
            }
            state = wait(&self.ended, state, left);
        }
        let thread = state.thread.take();
        drop(state);
        if let Some(thread) = thread {
            // It has only to return. An error is a panic, which it has reported.
            let _ = thread.join();
        }
    }

    /// Allows threads again, and starts one if there is something to do.
    #[cfg_attr(not(unix), allow(dead_code, reason = "there is no fork"))]
    pub(crate) fn unpark(&self) {
        let mut state = lock(&self.state);
        state.parked = false;
        let queues = state.queues.clone();
        drop(state);
        queues.iter().for_each(|queue| queue.forked());
        if queues.iter().any(|queue| !queue.is_empty() || queue.is_finished() || queue.looks_for_spools()) {
            self.wake();
        }
    }
}

//! The handle that tracers hold.

use std::cell::Cell;
use std::sync::Arc;
use std::time::Duration;

use tracebaton::delivery::{Config, Pushed, Reason, Scope, Stats};
use tracebaton::spool::Start;

use crate::clock;
use crate::destination::{Destination, Invalid};
use crate::fork;
use crate::queue::Queue;
use crate::report::Reporter;
use crate::spool::Spool;
use crate::wait::Wait;
use crate::worker;

/// Buffers up to this size are kept for a thread's next span.
const KEPT_BYTES: usize = 64 * 1024;

thread_local! {
    static SCRATCH: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

/// Encodes a span and passes it on, in the buffer of the thread.
#[inline]
fn with_buffer<E, R>(encode: impl FnOnce(&mut Vec<u8>) -> E, then: impl FnOnce(&[u8], E) -> R) -> R {
    // A span that ends while another one is encoded on this thread, or in a thread's last moments, gets a new one.
    let mut span = SCRATCH.try_with(Cell::take).unwrap_or_default();
    span.clear();
    let encoded = encode(&mut span);
    let result = then(&span, encoded);
    if span.capacity() <= KEPT_BYTES {
        let _ = SCRATCH.try_with(|scratch| scratch.set(span));
    }
    result
}

/// A span whose beginning is in the spool: see [`Exporter::start`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Started {
    /// The process that it is in.
    generation: u32,
    start: Start,
}

impl Started {
    /// Its record, if it is in the spool of this queue.
    fn of(self, queue: &Queue) -> Option<Start> {
        (self.generation == queue.generation).then_some(self.start)
    }
}

/// One tracer's queue to one destination, and the background that delivers it. Clones are the same queue.
///
/// When the last clone is dropped without a [`shutdown`](Self::shutdown), what is queued gets one attempt in the
/// background; dropping never blocks.
#[derive(Clone)]
pub struct Exporter {
    inner: Arc<Inner>,
}

pub(crate) struct Inner {
    destination: Destination,
    config: Config,
    resource: Vec<u8>,
    reporter: Option<Reporter>,
    spool: Option<Spool>,
    /// The queue of the process that made the exporter; those of forked children follow it.
    queue: Arc<Queue>,
}

impl std::fmt::Debug for Exporter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Exporter").field("destination", &self.inner.destination).finish_non_exhaustive()
    }
}

impl Exporter {
    /// An exporter of spans of the resource with this encoding (an OTLP `Resource` message). It opens no connection
    /// and starts no thread: the first span does.
    ///
    /// `reporter` is told about trouble, each kind once until it is over. A destination that no request could be sent
    /// to is an error.
    pub fn new(
        destination: Destination,
        config: Config,
        resource: &[u8],
        reporter: Option<Reporter>,
    ) -> Result<Self, Invalid> {
        Self::with_spool(destination, config, resource, reporter, None)
    }

    /// As [`new`](Self::new), with a spool: what this process does not deliver stays there for the next one, and what
    /// others have left is delivered by this one, in the background, as often as it finds something. That starts the
    /// thread. Where there can be no spool,
    /// the reporter is told so, and spans are kept in memory only.
    ///
    /// # Errors
    ///
    /// A destination that no request could be sent to.
    pub fn with_spool(
        destination: Destination,
        config: Config,
        resource: &[u8],
        reporter: Option<Reporter>,
        spool: Option<Spool>,
    ) -> Result<Self, Invalid> {
        destination.check()?;
        let mut table = worker::table();
        let worker = table.worker(&destination);
        let queue = Queue::new(
            fork::generation(),
            config.clone(),
            resource,
            Arc::clone(&worker),
            reporter.clone(),
            spool.clone(),
            false,
        );
        let queue = Arc::new(queue);
        worker.add(&queue);
        let inner = Inner { destination, config, resource: resource.to_vec(), reporter, spool, queue };
        let inner = Arc::new(inner);
        table.add_exporter(&inner);
        drop(table);
        if inner.spool.is_some() {
            inner.queue.make_spool();
            worker.wake();
        }
        Ok(Self { inner })
    }

    /// Queues one span. `encode` appends exactly one entry of `ScopeSpans.spans` (tag `0x12`, length, `Span` message)
    /// to the buffer, or nothing.
    ///
    /// It runs with no lock held: it may run code of the application that ends spans itself. The bytes are then copied
    /// into the batch; that costs nanoseconds, and a lock held over foreign code would cost deadlocks.
    #[inline]
    pub fn record(&self, scope: &Scope, encode: impl FnOnce(&mut Vec<u8>)) -> Pushed {
        self.record_started(scope, None, encode)
    }

    /// As [`record`](Self::record), for a span that [`start`](Self::start) may have recorded.
    #[inline]
    pub fn record_started(&self, scope: &Scope, started: Option<Started>, encode: impl FnOnce(&mut Vec<u8>)) -> Pushed {
        let queue = self.inner.queue();
        with_buffer(encode, |span, ()| match queue {
            Some(queue) => queue.push(scope, span, started.and_then(|started| started.of(queue))),
            None => Pushed::Dropped(Reason::Forked),
        })
    }

    /// Records in the spool that a span begins. `encode` appends what is known of it, as for [`record`](Self::record),
    /// which has to be told of the outcome, and may return fields that it left out because many spans have them in common
    /// ([`SpanWriter::finish_start`](tracebaton::span::SpanWriter::finish_start)). If the process dies before that, the
    /// span is delivered as interrupted. `None` where there is no spool, or no room in it.
    #[inline]
    pub fn start<'a>(
        &self,
        scope: &Scope,
        encode: impl FnOnce(&mut Vec<u8>) -> Option<&'a Arc<[u8]>>,
    ) -> Option<Started> {
        let queue = self.inner.queue().filter(|queue| self.records_starts() && queue.is_spooling())?;
        with_buffer(encode, |span, common| {
            Some(Started { generation: queue.generation, start: queue.start(scope, span, common)? })
        })
    }

    /// A span that was recorded by [`start`](Self::start) will not be recorded by anything else.
    pub fn forget(&self, started: Started) {
        if let Some((queue, start)) = self.inner.queue().and_then(|queue| Some((queue, started.of(queue)?))) {
            queue.forget(start);
        }
    }

    /// Whether [`start`](Self::start) has a place to record to, or will have.
    #[inline]
    pub fn records_starts(&self) -> bool {
        self.inner.spool.as_ref().is_some_and(|spool| spool.bytes != 0 && spool.starts)
    }

    /// Looks for what other processes have left in the directory of the spool, and waits until it has been delivered, or
    /// refused as bad data: true if all of it was within this time, false if something had to stay, such as what the
    /// destination refused for another reason. Asks every 50 ms whether to go on.
    pub fn recover(&self, timeout: Duration, mut go_on: impl FnMut() -> bool) -> bool {
        self.inner.queue().is_some_and(|queue| queue.wait_recovered(timeout, &mut go_on))
    }

    /// Counts spans that were lost before they could be recorded, such as one that ended in another process than it
    /// began in (see [`fork::generation`]).
    pub fn count_lost(&self, reason: Reason, spans: u64) {
        if let Some(queue) = self.inner.queue() {
            queue.count_lost(reason, spans);
        }
    }

    /// Sends what is queued and waits: true only if all of it was delivered within this time, and nothing of it, or
    /// since the flush before, was dropped or rejected. Returns in time whatever the network does.
    pub fn flush(&self, timeout: Duration) -> bool {
        self.flush_while(timeout, || true)
    }

    /// The same, but asks every 50 ms whether to go on waiting: this is where a program looks for its Ctrl-C. No lock
    /// is held while it is asked.
    pub fn flush_while(&self, timeout: Duration, mut go_on: impl FnMut() -> bool) -> bool {
        self.queue().is_some_and(|queue| Wait::Flush.begin(queue).end(clock::deadline(timeout), &mut go_on))
    }

    /// Takes no more spans, and sends what is queued like [`flush`](Self::flush). It does not use up its time if no
    /// connection can be made. What is not delivered then is dropped and counted; a request under way stays queued
    /// until it is answered or its time is over.
    pub fn shutdown(&self, timeout: Duration) -> bool {
        self.shutdown_while(timeout, || true)
    }

    /// The same, but asks every 50 ms whether to go on waiting; if not, what is left is dropped.
    pub fn shutdown_while(&self, timeout: Duration, mut go_on: impl FnMut() -> bool) -> bool {
        self.queue().is_some_and(|queue| Wait::Shutdown.begin(queue).end(clock::deadline(timeout), &mut go_on))
    }

    /// What became of the spans of this process.
    pub fn stats(&self) -> Stats {
        self.inner.queue().map(|queue| queue.stats()).unwrap_or_default()
    }

    /// The queue of this process.
    pub(crate) fn queue(&self) -> Option<&Arc<Queue>> {
        self.inner.queue()
    }

    /// The thread of this process that delivers.
    pub(crate) fn worker(&self) -> Option<&worker::Worker> {
        Some(&self.inner.queue()?.worker)
    }

    /// Where the spans go.
    pub fn destination(&self) -> &Destination {
        &self.inner.destination
    }
}

impl Inner {
    /// The queue of this process. There is none in a forked child whose fork was not announced to [`fork`].
    #[inline]
    pub(crate) fn queue(&self) -> Option<&Arc<Queue>> {
        self.queue_of(fork::generation())
    }

    pub(crate) fn queue_of(&self, generation: u32) -> Option<&Arc<Queue>> {
        let mut queue = &self.queue;
        while queue.generation != generation {
            queue = queue.next.get()?;
        }
        Some(queue)
    }

    /// Makes the queue of a forked child, with the same destination and configuration, and nothing in it.
    #[cfg_attr(not(unix), allow(dead_code, reason = "there is no fork"))]
    pub(crate) fn renew(&self, table: &mut worker::Table, generation: u32) {
        let mut last = &self.queue;
        // Dropping these would touch locks and threads that only the parent has.
        std::mem::forget(Arc::clone(last));
        while let Some(next) = last.next.get() {
            last = next;
            std::mem::forget(Arc::clone(last));
        }
        let worker = table.worker(&self.destination);
        worker.sessions.inherit(&last.worker.sessions);
        let (config, reporter, spool) = (self.config.clone(), self.reporter.clone(), self.spool.clone());
        let queue = Queue::new(generation, config, &self.resource, Arc::clone(&worker), reporter, spool, true);
        let queue = Arc::new(queue);
        worker.add(&queue);
        // Nobody else sets it: a child has one thread at first.
        let _ = last.next.set(queue);
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        if let Some(queue) = self.queue() {
            queue.close();
            queue.worker.retire(queue);
        }
    }
}

//! One exporter's queue in one process: core's state machine under a lock, and those who wait for it.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use tracebaton::delivery::{Answer, Batch, Config, Delivery, Next, Outcome, Pushed, Reason, Scope, Stats, Ticket};
use tracebaton::spool::Start;

use crate::clock;
use crate::destination::Encoding;
use crate::http::Client;
use crate::report::{self, Reporter, Trouble, Troubles};
use crate::spool::{self, Recoveries, Spool};
use crate::worker::Worker;

/// How often someone who waits is asked whether to go on.
const ASK_EVERY: Duration = Duration::from_millis(50);
/// How long after a fork the spools of other children are looked for, in ns: the new one may take the place of one that
/// has died.
const AFTER_FORK_NS: u64 = 1_000_000_000;

/// A lock that a panic elsewhere cannot make unusable: what it guards is counters and buffers, valid at every step.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Waits on a condition for this time at most.
pub(crate) fn wait<'a, T>(condition: &Condvar, guard: MutexGuard<'a, T>, time: Duration) -> MutexGuard<'a, T> {
    condition.wait_timeout(guard, time).unwrap_or_else(PoisonError::into_inner).0
}

pub(crate) struct Queue {
    /// The [`generation`](crate::fork::generation) of the process that this queue belongs to.
    pub(crate) generation: u32,
    /// The queue that takes its place in a forked child.
    pub(crate) next: OnceLock<Arc<Queue>>,
    pub(crate) worker: Arc<Worker>,
    state: Mutex<State>,
    /// Told whenever a batch was delivered or dropped.
    settled: Condvar,
    reporter: Option<Reporter>,
    /// How to make the spool, if there is to be one; whether that was tried, and the file.
    spool: Option<Spool>,
    resource: Vec<u8>,
    file: OnceLock<Option<PathBuf>>,
    /// What other processes have left, for the worker. Never locked while `state` is.
    recoveries: Mutex<Recoveries>,
}

/// Guarded by a lock that is held for moments only: never while a request is made, compressed or waited for, and never
/// while code of the application runs.
struct State {
    delivery: Delivery,
    troubles: Troubles,
    /// The queue is full, which the worker has to report.
    report_full: bool,
    /// What makes the spool ready, for the worker.
    warm: Option<spool::Warm>,
    /// What the worker has to report, too.
    reports: Vec<String>,
    /// A span was too large for the spool, which has been reported.
    told_large: bool,
    /// What came of a batch is being reported. Who waits for it waits for that, too: a program that ends then would end
    /// before anybody is told.
    reporting: bool,
}

/// What a queue wants of its worker next.
pub(crate) enum Step {
    /// A batch was dealt with: there may be another.
    Again,
    /// Nothing before this time, in ns.
    Wait(u64),
    /// Nothing until it is woken.
    Idle,
    /// Nothing any more.
    Finished,
}

impl State {
    /// Leaves it to the worker to report that the spool has had no room for something; whether that is news.
    fn report_spool(&mut self, worker: &Worker) -> bool {
        let Some(spool) = self.delivery.spool() else { return false };
        let (is_full, is_exceeded, bytes) = (spool.was_full(), spool.was_exceeded(), spool.segment_bytes());
        let before = self.reports.len();
        let url = || worker.destination().shown_url();
        if is_full && self.troubles.begin(Trouble::SpoolFull) {
            self.reports.push(format!(
                "the spool for {} is full: new spans are kept in memory only, while that has room",
                url()
            ));
        }
        if is_exceeded && !std::mem::replace(&mut self.told_large, true) {
            self.reports.push(format!(
                "a span is too large for the spool for {}, which takes up to about {bytes} bytes: such spans are kept in \
                 memory only",
                url()
            ));
        }
        self.reports.len() != before
    }
}

impl Queue {
    pub(crate) fn new(
        generation: u32,
        config: Config,
        resource: &[u8],
        worker: Arc<Worker>,
        reporter: Option<Reporter>,
        spool: Option<Spool>,
        is_child: bool,
    ) -> Self {
        let mut delivery = Delivery::new(config, resource);
        if is_child {
            // Many do not live long: they leave it to the parent, which looks for them after the fork.
            delivery.nothing_to_recover(clock::now_ns());
        }
        let state = State {
            delivery,
            troubles: Troubles::default(),
            report_full: false,
            warm: None,
            reports: Vec::new(),
            told_large: false,
            reporting: false,
        };
        Self {
            generation,
            next: OnceLock::new(),
            worker,
            state: Mutex::new(state),
            settled: Condvar::new(),
            reporter,
            recoveries: Mutex::new(Recoveries::new(spool.clone(), !is_child)),
            spool: spool.filter(|spool| spool.bytes != 0),
            resource: resource.to_vec(),
            file: OnceLock::new(),
        }
    }

    /// Makes the spool, if there is to be one, before there is anything to put into it: in a forked child with its first
    /// span. What goes wrong is left for the worker to report.
    #[inline]
    pub(crate) fn make_spool(&self) {
        if let Some(options) = &self.spool {
            self.file.get_or_init(|| self.try_spool(options));
        }
    }

    #[cold]
    fn try_spool(&self, options: &Spool) -> Option<PathBuf> {
        match spool::create(options, &self.resource) {
            Ok((spool, path, warm)) => {
                let mut state = lock(&self.state);
                state.delivery.set_spool(spool);
                state.warm = Some(warm);
                Some(path)
            }
            Err(why) => {
                let url = self.worker.destination().shown_url();
                let message = format!("there is no spool for {url} ({why}): spans are kept in memory only");
                let mut state = lock(&self.state);
                state.reports.push(message);
                state.delivery.lack_spool();
                drop(state);
                self.worker.wake();
                None
            }
        }
    }

    /// Whether there is a spool, or will be with the first span.
    pub(crate) fn is_spooling(&self) -> bool {
        self.spool.is_some() && !matches!(self.file.get(), Some(None))
    }

    /// Records that a span begins, if there is a spool.
    pub(crate) fn start(&self, scope: &Scope, span: &[u8], common: Option<&Arc<[u8]>>) -> Option<Start> {
        self.make_spool();
        let mut state = lock(&self.state);
        let start = state.delivery.start(scope, span, common);
        let wake = start.is_none() && state.report_spool(&self.worker);
        drop(state);
        if wake {
            self.worker.wake();
        }
        start
    }

    /// A span that began will not end.
    pub(crate) fn forget(&self, start: Start) {
        lock(&self.state).delivery.forget(start);
    }

    pub(crate) fn push(&self, scope: &Scope, span: &[u8], start: Option<Start>) -> Pushed {
        self.make_spool();
        let mut state = lock(&self.state);
        let encode = |buffer: &mut Vec<u8>| buffer.extend_from_slice(span);
        let pushed = match start {
            None => state.delivery.push(scope, clock::now_ns, encode),
            Some(start) => state.delivery.push_started(start, scope, clock::now_ns, encode),
        };
        let wake = match pushed {
            Pushed::Queued { wake } => wake,
            Pushed::Dropped(Reason::QueueFull) | Pushed::Spooled(Reason::QueueFull)
                if state.troubles.begin(Trouble::QueueFull) =>
            {
                state.report_full = true;
                true
            }
            Pushed::Dropped(Reason::QueueFull) => state.report_spool(&self.worker),
            Pushed::Dropped(_) | Pushed::Spooled(_) | Pushed::Nothing => false,
        };
        drop(state);
        if wake {
            self.worker.wake();
        }
        pushed
    }

    pub(crate) fn count_lost(&self, reason: Reason, spans: u64) {
        lock(&self.state).delivery.count_lost(reason, spans);
    }

    pub(crate) fn stats(&self) -> Stats {
        lock(&self.state).delivery.stats()
    }

    pub(crate) fn is_empty(&self) -> bool {
        lock(&self.state).delivery.is_empty()
    }

    pub(crate) fn is_finished(&self) -> bool {
        lock(&self.state).delivery.is_finished()
    }

    /// Asks for everything that is queued by now to be sent; [`end_flush`](Self::end_flush) waits for it.
    pub(crate) fn begin_flush(&self) -> Ticket {
        self.begin(Delivery::flush)
    }

    /// The same, and takes no more spans; [`end_shutdown`](Self::end_shutdown) waits for it.
    pub(crate) fn begin_shutdown(&self) -> Ticket {
        self.begin(Delivery::shutdown)
    }

    fn begin(&self, begin: impl FnOnce(&mut Delivery) -> Ticket) -> Ticket {
        let mut state = lock(&self.state);
        let ticket = begin(&mut state.delivery);
        let is_over = state.delivery.flushed(&ticket).is_some();
        drop(state);
        if !is_over {
            self.worker.wake();
        }
        ticket
    }

    /// Whether everything queued before the flush was delivered by the deadline; ends early if `go_on` says so.
    pub(crate) fn end_flush(&self, ticket: Ticket, deadline: Instant, go_on: &mut dyn FnMut() -> bool) -> bool {
        self.wait_for(&ticket, deadline, go_on).delivery.flush_end(ticket)
    }

    /// Like the end of a flush, but ends early if there is no connection, and drops what is left but for a request under
    /// way.
    pub(crate) fn end_shutdown(
        self: &Arc<Self>,
        ticket: Ticket,
        deadline: Instant,
        go_on: &mut dyn FnMut() -> bool,
    ) -> bool {
        let mut state = self.wait_for(&ticket, deadline, go_on);
        let spooled = state.delivery.stats().spooled;
        let (delivered, dropped) = state.delivery.shutdown_end(ticket);
        let spooled = state.delivery.stats().spooled - spooled;
        let recovered = state.delivery.take_recovered(clock::now_ns());
        // A request that is under way may still get its answer, if the process goes on.
        let on_its_way = state.delivery.stats().queued;
        let message = (dropped + spooled + on_its_way != 0 && state.troubles.begin(Trouble::Shutdown)).then(|| {
            let (url, encoding) = (self.worker.destination().shown_url(), self.worker.destination().encoding);
            let left =
                [(dropped, "dropped"), (spooled, "kept in the spool"), (on_its_way, "on the way without an answer")];
            let left: Vec<_> = left
                .into_iter()
                .filter(|(count, _)| *count != 0)
                .map(|(count, what)| format!("{} {what}", encoding.count(count)))
                .collect();
            format!("the time for the shutdown is over for {url}: {}", left.join(", "))
        });
        drop(state);
        self.recovered(recovered);
        if let (Some(reporter), Some(message)) = (&self.reporter, message) {
            report::tell_by(deadline, reporter, message);
        }
        self.release();
        self.worker.retire(self);
        delivered
    }

    /// Lets go of the spool when nothing will come into it and nothing has to stay there. As long as a span is open, it
    /// stays, for the end of that.
    pub(crate) fn release(&self) {
        let mut state = lock(&self.state);
        let is_needed = !state.delivery.is_finished() || state.delivery.spool().is_none_or(|spool| spool.is_needed());
        let spool = if is_needed { None } else { state.delivery.take_spool() };
        let finished = state.delivery.is_finished();
        drop(state);
        if let (Some(_), Some(Some(path))) = (&spool, self.file.get()) {
            // While it is locked: nobody else begins to recover it. One that cannot be removed has nothing in it.
            let _ = std::fs::remove_file(path);
        }
        drop(spool);
        if finished {
            lock(&self.recoveries).stop();
            self.settled.notify_all();
        }
    }

    /// Takes over the next spans that are in a spool only, if this is the moment for it: this process's own, or those that
    /// another process has left.
    fn recover(&self) {
        // What this process had to let go of comes first.
        if lock(&self.state).delivery.requeue() != 0 {
            return;
        }
        let now_ns = clock::now_ns();
        let mut recoveries = lock(&self.recoveries);
        let at_ns = lock(&self.state).delivery.recovery_at();
        if !recoveries.is_possible() || at_ns.is_none_or(|at_ns| now_ns < at_ns) {
            return;
        }
        recoveries.begin_pass();
        let mut messages = Vec::new();
        let batch = recoveries.next_batch(&mut |message| messages.push(message));
        drop(recoveries);
        messages.into_iter().for_each(|message| self.report(Some(message)));
        match batch {
            Some(batch) => lock(&self.state).delivery.push_recovered(batch),
            None => {
                lock(&self.state).delivery.nothing_to_recover(now_ns);
                lock(&self.recoveries).finish();
                self.settled.notify_all();
            }
        }
    }

    /// Notes what became of spans that another process had left.
    fn recovered(&self, recovered: Option<(Batch, bool)>) {
        if let Some((batch, is_done)) = recovered {
            lock(&self.recoveries).settled(&batch, is_done);
        }
    }

    /// Whether the worker has to look for what other processes leave.
    #[cfg_attr(not(unix), allow(dead_code, reason = "there is no fork"))]
    pub(crate) fn looks_for_spools(&self) -> bool {
        lock(&self.recoveries).is_possible()
    }

    /// The process was forked; this is the parent.
    #[cfg_attr(not(unix), allow(dead_code, reason = "there is no fork"))]
    pub(crate) fn forked(&self) {
        lock(&self.state).delivery.recover_by(clock::now_ns().saturating_add(AFTER_FORK_NS));
    }

    /// Looks for what other processes have left, and waits until all of it is delivered, or cannot be for now. Whether it
    /// was.
    pub(crate) fn wait_recovered(&self, timeout: Duration, go_on: &mut dyn FnMut() -> bool) -> bool {
        let deadline = clock::deadline(timeout);
        let mut recoveries = lock(&self.recoveries);
        if !recoveries.is_on() {
            recoveries.begin_pass();
            lock(&self.state).delivery.recover_now();
        }
        drop(recoveries);
        self.worker.wake();
        while lock(&self.recoveries).is_on() {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() || !go_on() {
                return false;
            }
            drop(wait(&self.settled, lock(&self.state), left.min(ASK_EVERY)));
        }
        lock(&self.recoveries).is_complete()
    }

    /// Takes no more spans; what is queued gets one attempt in the background.
    pub(crate) fn close(&self) {
        lock(&self.state).delivery.close_without_retry();
    }

    fn wait_for(&self, ticket: &Ticket, deadline: Instant, go_on: &mut dyn FnMut() -> bool) -> MutexGuard<'_, State> {
        loop {
            let state = lock(&self.state);
            let left = deadline.saturating_duration_since(Instant::now());
            let is_over = |state: &State| state.delivery.flushed(ticket).is_some() && !state.reporting;
            if is_over(&state) || left.is_zero() {
                return state;
            }
            let state = wait(&self.settled, state, left.min(ASK_EVERY));
            if is_over(&state) {
                return state;
            }
            drop(state);
            if !go_on() {
                return lock(&self.state);
            }
        }
    }

    /// One round of the worker: sends a batch if one is due.
    pub(crate) fn step(&self, client: &mut Client) -> Step {
        self.recover();
        let mut state = lock(&self.state);
        let full = std::mem::take(&mut state.report_full);
        if let Some(warm) = state.warm.take() {
            drop(state);
            warm.run();
            state = lock(&self.state);
        }
        let is_spooled = state.delivery.spool().is_some();
        let _ = state.report_spool(&self.worker);
        let reports = std::mem::take(&mut state.reports);
        let next = state.delivery.poll(clock::now_ns());
        let finished = state.delivery.is_finished();
        let recovery_at = state.delivery.recovery_at();
        drop(state);
        let (url, encoding) = (|| self.worker.destination().shown_url(), self.worker.destination().encoding);
        self.report(self.worker.take_warning());
        reports.into_iter().for_each(|message| self.report(Some(message)));
        self.report(full.then(|| {
            let how = if is_spooled { "kept in the spool, while that has room" } else { "dropped" };
            format!("the queue for {} is full: new {} are {how}", url(), encoding.what())
        }));
        match next {
            Next::Send(batch) => {
                self.send(client, batch);
                Step::Again
            }
            Next::GaveUp { spans, spooled } => {
                let mut state = lock(&self.state);
                let message = state.troubles.begin(Trouble::GaveUp).then(|| gave_up(&url(), encoding, spans, spooled));
                state.reporting = message.is_some();
                let recovered = state.delivery.take_recovered(clock::now_ns());
                drop(state);
                self.recovered(recovered);
                self.report_and_settle(message);
                Step::Again
            }
            Next::Wait(at) => Step::Wait(self.recovery_at(recovery_at).map_or(at, |recovery_at| recovery_at.min(at))),
            Next::Idle if finished => {
                self.release();
                Step::Finished
            }
            Next::Idle => self.recovery_at(recovery_at).map_or(Step::Idle, Step::Wait),
        }
    }

    /// When there may be something to recover, if there is a directory to look at.
    fn recovery_at(&self, at_ns: Option<u64>) -> Option<u64> {
        at_ns.filter(|_| lock(&self.recoveries).is_possible())
    }

    fn send(&self, client: &mut Client, batch: Batch) {
        let destination = self.worker.destination();
        // A panic in a library costs this batch, not the thread that all tracers of this destination share.
        let answer = catch_unwind(AssertUnwindSafe(|| client.send(destination, &batch)))
            .unwrap_or(Answer::Refused { status: None, why: Some("the exporter failed".into()) });
        let (random, url) = (clock::random(), destination.shown_url());
        let mut state = lock(&self.state);
        let outcome = state.delivery.answered(batch, answer.clone(), clock::now_ns(), random);
        if matches!(answer, Answer::Accepted { .. }) {
            let empty = state.delivery.is_empty();
            state.troubles.recovered(empty);
        }
        let message = message(&mut state.troubles, &url, destination.encoding, &answer, outcome);
        state.reporting = message.is_some();
        // At once: a process that ends now has it noted.
        let recovered = state.delivery.take_recovered(clock::now_ns());
        drop(state);
        self.recovered(recovered);
        self.report_and_settle(message);
    }

    /// Reports what came of a batch, then wakes those who wait for it. `State::reporting` says so already.
    fn report_and_settle(&self, message: Option<String>) {
        if message.is_some() {
            self.report(message);
            lock(&self.state).reporting = false;
        }
        self.settled.notify_all();
    }

    fn report(&self, message: Option<String>) {
        if let (Some(reporter), Some(message)) = (&self.reporter, message) {
            // The reporter is the application's code.
            let _ = catch_unwind(AssertUnwindSafe(|| reporter(&message)));
        }
    }
}

fn gave_up(url: &str, encoding: Encoding, dropped: u64, spooled: u64) -> String {
    format!("the total time for retries to {url} is over: {}", left(encoding, dropped, spooled))
}

/// What became of spans that left the queue undelivered.
fn left(encoding: Encoding, dropped: u64, spooled: u64) -> String {
    match (dropped, spooled) {
        (dropped, 0) => format!("{} dropped", encoding.count(dropped)),
        (0, spooled) => format!("{} kept in the spool", encoding.count(spooled)),
        (dropped, spooled) => format!("{} dropped, {spooled} kept in the spool", encoding.count(dropped)),
    }
}

/// What to tell people about an answer, if that is new.
fn message(
    troubles: &mut Troubles,
    url: &str,
    encoding: Encoding,
    answer: &Answer,
    outcome: Outcome,
) -> Option<String> {
    let spans = encoding.what();
    let what = match answer {
        Answer::Accepted { rejected, message } => {
            let said = message.as_deref().unwrap_or("no reason given");
            return if *rejected != 0 {
                troubles
                    .begin(Trouble::Rejected)
                    .then(|| format!("{url} rejected {}: {said}", encoding.count(*rejected)))
            } else if message.is_some() {
                troubles.begin(Trouble::Warned).then(|| format!("{url} accepted the {spans} with a warning: {said}"))
            } else {
                None
            };
        }
        Answer::Retry { status, .. } => format!("{url} answers HTTP {status}"),
        Answer::Unreachable { why, .. } => format!("cannot reach {url} ({why})"),
        Answer::Refused { status: Some(status), .. } => format!("{url} refuses {spans} (HTTP {status})"),
        Answer::Refused { why, .. } => format!("{url} refuses {spans} ({})", why.as_deref().unwrap_or("no reason")),
        Answer::TooLarge => format!("{url}: a request is too large"),
    };
    let lost = |troubles: &mut Troubles, reason: Reason, dropped, spooled| {
        troubles.begin(reason.into()).then(|| match reason {
            Reason::GaveUp => gave_up(url, encoding, dropped, spooled),
            _ => format!("{what}: {}", left(encoding, dropped, spooled)),
        })
    };
    match outcome {
        Outcome::Delivered => None,
        Outcome::Kept(_) => {
            let busy = matches!(answer, Answer::Retry { .. });
            let trouble = if busy { Trouble::Busy } else { Trouble::Unreachable };
            troubles.begin(trouble).then(|| format!("{what}: {spans} are kept and retried"))
        }
        Outcome::Dropped(reason, dropped) => lost(troubles, reason, dropped, 0),
        Outcome::Spooled(reason, spooled, dropped) => lost(troubles, reason, dropped, spooled),
    }
}

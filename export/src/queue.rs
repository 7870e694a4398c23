//! One exporter's queue in one process: core's state machine under a lock, and those who wait for it.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use tracebaton::delivery::{Answer, Batch, Config, Delivery, Next, Outcome, Pushed, Reason, Scope, Stats, Ticket};

use crate::clock;
use crate::http::Client;
use crate::report::{Reporter, Trouble, Troubles};
use crate::worker::Worker;

/// How often someone who waits is asked whether to go on.
const ASK_EVERY: Duration = Duration::from_millis(50);

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
}

/// Guarded by a lock that is held for moments only: never while a request is made, compressed or waited for, and never
/// while code of the application runs.
struct State {
    delivery: Delivery,
    troubles: Troubles,
    /// The queue is full, which the worker has to report.
    report_full: bool,
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

impl Queue {
    pub(crate) fn new(
        generation: u32,
        config: Config,
        resource: &[u8],
        worker: Arc<Worker>,
        reporter: Option<Reporter>,
    ) -> Self {
        let delivery = Delivery::new(config, resource);
        let state = State { delivery, troubles: Troubles::default(), report_full: false, reporting: false };
        let (state, settled) = (Mutex::new(state), Condvar::new());
        Self { generation, next: OnceLock::new(), worker, state, settled, reporter }
    }

    pub(crate) fn push(&self, scope: &Scope, span: &[u8]) -> Pushed {
        let mut state = lock(&self.state);
        let pushed = state.delivery.push(scope, clock::now_ns, |buffer| buffer.extend_from_slice(span));
        let wake = match pushed {
            Pushed::Queued { wake } => wake,
            Pushed::Dropped(Reason::QueueFull) if state.troubles.begin(Trouble::QueueFull) => {
                state.report_full = true;
                true
            }
            Pushed::Dropped(_) | Pushed::Nothing => false,
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

    /// Whether everything queued by now was delivered within this time; ends early if `go_on` says so.
    pub(crate) fn flush(&self, timeout: Duration, go_on: &mut dyn FnMut() -> bool) -> bool {
        let deadline = clock::deadline(timeout);
        let ticket = lock(&self.state).delivery.flush();
        self.wait_for(&ticket, deadline, go_on).delivery.flush_end(ticket)
    }

    /// Like a flush, but takes no more spans, ends early if there is no connection, and drops what is left but for a
    /// request under way.
    pub(crate) fn shutdown(self: &Arc<Self>, timeout: Duration, go_on: &mut dyn FnMut() -> bool) -> bool {
        let deadline = clock::deadline(timeout);
        let ticket = lock(&self.state).delivery.shutdown();
        let mut state = self.wait_for(&ticket, deadline, go_on);
        let (delivered, dropped) = state.delivery.shutdown_end(ticket);
        // A request that is under way may still get its answer, if the process goes on.
        let on_its_way = state.delivery.stats().queued;
        let message = (dropped + on_its_way != 0 && state.troubles.begin(Trouble::Shutdown)).then(|| {
            let url = self.worker.destination().shown_url();
            let left = [(dropped, "dropped"), (on_its_way, "on the way without an answer")].into_iter();
            let left: Vec<_> =
                left.filter(|(count, _)| *count != 0).map(|(count, what)| format!("{} {what}", spans(count))).collect();
            format!("the time for the shutdown is over for {url}: {}", left.join(", "))
        });
        drop(state);
        self.report(message);
        self.worker.retire(self);
        delivered
    }

    /// Takes no more spans; what is queued gets one attempt in the background.
    pub(crate) fn close(&self) {
        lock(&self.state).delivery.close_without_retry();
    }

    fn wait_for(&self, ticket: &Ticket, deadline: Instant, go_on: &mut dyn FnMut() -> bool) -> MutexGuard<'_, State> {
        if lock(&self.state).delivery.flushed(ticket).is_none() {
            self.worker.wake();
        }
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
        let mut state = lock(&self.state);
        let full = std::mem::take(&mut state.report_full);
        let next = state.delivery.poll(clock::now_ns());
        let finished = state.delivery.is_finished();
        drop(state);
        let url = || self.worker.destination().shown_url();
        self.report(full.then(|| format!("the queue for {} is full: new spans are dropped", url())));
        match next {
            Next::Send(batch) => {
                self.send(client, batch);
                Step::Again
            }
            Next::GaveUp { spans } => {
                let mut state = lock(&self.state);
                let message = state.troubles.begin(Trouble::GaveUp).then(|| gave_up(&url(), spans));
                state.reporting = message.is_some();
                drop(state);
                self.report_and_settle(message);
                Step::Again
            }
            Next::Wait(at) => Step::Wait(at),
            Next::Idle if finished => Step::Finished,
            Next::Idle => Step::Idle,
        }
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
        let message = message(&mut state.troubles, &url, &answer, outcome);
        state.reporting = message.is_some();
        drop(state);
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

fn spans(count: u64) -> String {
    if count == 1 { String::from("1 span") } else { format!("{count} spans") }
}

fn gave_up(url: &str, dropped: u64) -> String {
    format!("the total time for retries to {url} is over: {} dropped", spans(dropped))
}

/// What to tell people about an answer, if that is new.
fn message(troubles: &mut Troubles, url: &str, answer: &Answer, outcome: Outcome) -> Option<String> {
    let what = match answer {
        Answer::Accepted { rejected, message } => {
            let said = message.as_deref().unwrap_or("no reason given");
            return if *rejected != 0 {
                troubles.begin(Trouble::Rejected).then(|| format!("{url} rejected {}: {said}", spans(*rejected)))
            } else if message.is_some() {
                troubles.begin(Trouble::Warned).then(|| format!("{url} accepted the spans with a warning: {said}"))
            } else {
                None
            };
        }
        Answer::Retry { status, .. } => format!("{url} answers HTTP {status}"),
        Answer::Unreachable { why, .. } => format!("cannot reach {url} ({why})"),
        Answer::Refused { status: Some(status), .. } => format!("{url} refuses spans (HTTP {status})"),
        Answer::Refused { why, .. } => format!("{url} refuses spans ({})", why.as_deref().unwrap_or("no reason")),
        Answer::TooLarge => format!("{url}: a request is too large"),
    };
    match outcome {
        Outcome::Delivered => None,
        Outcome::Kept(_) => {
            let busy = matches!(answer, Answer::Retry { .. });
            let trouble = if busy { Trouble::Busy } else { Trouble::Unreachable };
            troubles.begin(trouble).then(|| format!("{what}: spans are kept and retried"))
        }
        Outcome::Dropped(Reason::GaveUp, count) => troubles.begin(Trouble::GaveUp).then(|| gave_up(url, count)),
        Outcome::Dropped(reason, count) => {
            troubles.begin(reason.into()).then(|| format!("{what}: {} dropped", spans(count)))
        }
    }
}

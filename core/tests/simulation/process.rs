//! One process: its exporters, the threads that deliver for them, and the program that uses them.
//!
//! The decisions are those of [`Delivery`], the same that runs in the wheel. What is around it in the export crate (locks,
//! condition variables, threads) is here a set of actors, each of which does at its time what there is one section under
//! a lock, so that every order of those sections can happen:
//!
//! | here | export |
//! | --- | --- |
//! | `push`, `count_lost` | `Queue::push`, `Queue::count_lost`, through `Exporter::record` |
//! | `begin_flush`, `Waiter`, `wait` | `Queue::flush`, `Queue::shutdown` and `Queue::wait_for`; the waits of 50 ms in which it asks whether to go on are only simulated where they change something |
//! | `drop_exporter` | `Drop for Inner`, `Queue::close` |
//! | `step`, `answer` | `Queue::step`, `Queue::send` |
//! | `Worker`, `Phase`, `work`, `wake`, `notify`, `retire` | `Worker::run`, `wake`, `retire` and the waits in them |
//! | `park`, `fork`, `unpark` | `fork::before`, `after_in_child` (with `Inner::renew`), `after_in_parent` |
//!
//! Not simulated: what is told to people (`report.rs`), and threads that cannot be started.

mod program;
mod worker;

use tracebaton::delivery::{Config, Delivery, Scope, Ticket};

use crate::ledger::{Close, Ledger, Watch};
use crate::network::Network;
use crate::run::{Event, MS, Run, SECOND};
use crate::spans::Commons;
use crate::spool::{Disk, File, Truth};
use tracebaton::spool::{Recovery, Start};
use worker::{Phase, Worker};

/// How long a fork waits for requests in flight.
const PATIENCE: u64 = 100 * MS;
/// How long after a fork the parent looks for what children have left.
const AFTER_FORK: u64 = SECOND;
/// How often someone who waits is asked whether to go on.
const ASK_EVERY: u64 = 50 * MS;
const SCOPES: [&[u8]; 3] = [b"scope", b"", b"another scope"];
const NEVER: u64 = u64::MAX;

/// An exporter and its queue in this process.
struct Queue {
    destination: usize,
    config: Config,
    resource: Vec<u8>,
    delivery: Delivery,
    ledger: Ledger,
    /// The program holds the exporter.
    held: bool,
    /// The worker was woken to report that the queue is full.
    full: bool,
    /// Where its spool is.
    disk: Option<Disk>,
    /// Spans that were recorded when they began.
    open: Vec<Open>,
    /// The spool of another process that it recovers.
    recovery: Option<(File, Recovery)>,
    /// It looks for spools of other processes.
    recovers: bool,
}

struct Open {
    number: u32,
    scope: usize,
    size: usize,
    start: Start,
}

/// Someone who waits for a flush or a shutdown.
struct Waiter {
    queue: usize,
    ticket: Ticket,
    watch: Watch,
    /// When it looks again.
    at: u64,
    deadline: u64,
    /// When it is interrupted (Ctrl-C).
    interrupted: u64,
    shutdown: bool,
    /// The program's main thread waits, and does nothing else.
    blocks: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Program {
    Running,
    /// It waits for other threads, or in a flush.
    Waiting,
    /// `fork` was called.
    Forking,
    Ended,
}

/// Who acts next.
#[derive(Clone, Copy)]
pub(crate) enum Actor {
    Program,
    Worker(usize),
    Waiter(usize),
}

/// What an action means for the world.
pub(crate) enum Done {
    Goes,
    Forked(Box<Process>),
    /// The process has ended, in one way or another.
    Gone,
}

pub(crate) struct Process {
    name: u32,
    generation: u32,
    queues: Vec<Queue>,
    workers: Vec<Worker>,
    waiters: Vec<Waiter>,
    program: Program,
    program_at: u64,
    actions: u64,
    /// How many of a thousand actions are the death of the process.
    mortality: u64,
    /// How many queues it has made; gives their numbers, which no other process uses.
    made: u32,
    scopes: Vec<Scope>,
    commons: Commons,
}

/// Bounds and times, from usual to absurd.
fn config(run: &mut Run) -> Config {
    let random = &mut run.random;
    let backoff_ns = random.pick(&[SECOND, SECOND, 100 * MS, MS, 0]);
    Config {
        queue_bytes: random.pick(&[60, 300, 1_000, 5_000, 100_000]),
        queue_spans: random.pick(&[None, None, None, Some(1), Some(7), Some(40)]),
        batch_bytes: random.pick(&[1, 50, 100, 1_000, 4_000]),
        batch_spans: random.pick(&[None, None, None, Some(1), Some(2), Some(10)]),
        delay_ns: random.pick(&[SECOND, SECOND, 200 * MS, 10 * SECOND, MS, 0]),
        // What is held back is out of order, which is for tests/grouping.rs to follow.
        hold_ns: 0,
        give_up_ns: random.pick(&[300 * SECOND, 300 * SECOND, 10 * SECOND, SECOND, 0]),
        backoff_ns,
        backoff_most_ns: backoff_ns * random.pick(&[1, 4, 30]),
        request_bytes: random.pick(&[60, 250, 1_000, 10_000]),
        rescan_ns: random.pick(&[30 * SECOND, 10 * SECOND, 300 * SECOND]),
        expendable: None,
    }
}

impl Queue {
    /// What the spool was told is not torn by a later death.
    fn keep(&self) {
        self.disk.iter().for_each(Disk::keep);
    }

    /// Notes what became of a batch from the spool of another process.
    fn take_recovered(&mut self, run: &mut Run, network: &mut Network) {
        let Some((batch, is_done)) = self.delivery.take_recovered(run.now) else { return };
        self.ledger.recovered_end(run, is_done);
        if is_done {
            self.recovery.as_mut().expect("the file of the batch").0.done(&batch);
        } else {
            run.count(Event::PartSpool);
            network.files.extend(self.recovery.take().map(|(file, _)| file));
        }
    }

    /// The process is gone: its spool stays if there is something in it, and the one that it recovered does. `torn` is
    /// what was in it before the call within which it died, and the number of the span of that.
    fn leave(&mut self, run: &mut Run, network: &mut Network, torn: Option<(Truth, u32)>) {
        network.files.extend(self.recovery.take().map(|(file, _)| file));
        let Some(disk) = &self.disk else { return };
        let needed = self.delivery.spool().is_some_and(|spool| spool.is_needed());
        let (truth, perhaps) = match torn {
            Some((truth, number)) => {
                run.count(Event::Torn);
                (truth, Some(number))
            }
            None => {
                disk.keep();
                (self.ledger.truth(), None)
            }
        };
        let open = self.open.iter().map(|open| (open.number, open.scope % SCOPES.len()));
        let file = File::new(self.destination, disk.torn(run), truth, open, perhaps);
        assert!(needed || file.is_done(), "a spool that is not needed has something in it");
        if needed {
            run.count(Event::LeftSpool);
            network.files.push(file);
        }
    }
}

impl Process {
    pub(crate) fn first(run: &mut Run, destinations: usize) -> Self {
        let mut first = Self::new(run, 0, 0, destinations);
        first.actions = 10 + run.random.below(120);
        for _ in 0..=run.random.below(3) {
            let destination = run.random.below(destinations as u64) as usize;
            let (config, resource) = (config(run), run.random.next().to_le_bytes());
            run.say(|| format!("{config:?}"));
            first.add(run, destination, config, &resource, false);
        }
        first
    }

    fn new(run: &mut Run, name: u32, generation: u32, destinations: usize) -> Self {
        let worker = || Worker { queues: Vec::new(), phase: Phase::Off, at: NEVER, woken: false, parked: false };
        Self {
            name,
            generation,
            queues: Vec::new(),
            workers: (0..destinations).map(|_| worker()).collect(),
            waiters: Vec::new(),
            program: Program::Running,
            program_at: run.now,
            actions: 0,
            mortality: run.random.pick(&[0, 0, 3, 15]),
            made: 0,
            // The last has the same bytes as the first.
            commons: Commons::new(),
            scopes: SCOPES.iter().chain(&SCOPES[..1]).map(|scope| Scope::new(scope)).collect(),
        }
    }

    fn add(&mut self, run: &mut Run, destination: usize, config: Config, resource: &[u8], is_child: bool) {
        let name = self.made * crate::world::PROCESSES + self.name;
        self.made += 1;
        run.count(Event::Exporter);
        self.workers[destination].queues.push(self.queues.len());
        let spool = run.random.chance(500).then(|| Disk::spool(run, name, resource));
        let (disk, spool) = spool.unzip();
        let mut delivery = Delivery::new(config.clone(), resource);
        if let Some(spool) = spool {
            delivery.set_spool(spool);
        }
        if is_child {
            delivery.nothing_to_recover(run.now);
        }
        self.queues.push(Queue {
            destination,
            ledger: Ledger::new(name, config.clone(), resource, &SCOPES, disk.is_some()),
            delivery,
            recovers: disk.is_some(),
            disk,
            open: Vec::new(),
            recovery: None,
            config,
            resource: resource.to_vec(),
            held: true,
            full: false,
        });
        if !is_child && self.queues.last().is_some_and(|queue| queue.recovers) {
            self.wake(run, destination);
        }
    }

    /// Who acts next, and when; nobody, if the process has ended.
    pub(crate) fn next(&self) -> Option<(u64, Actor)> {
        let program = (self.program_at, Actor::Program);
        let workers = self.workers.iter().enumerate().map(|(index, worker)| (worker.at, Actor::Worker(index)));
        let waiters = self.waiters.iter().enumerate().map(|(index, waiter)| (waiter.at, Actor::Waiter(index)));
        let next = workers.chain(waiters).fold(program, |first, other| if other.0 < first.0 { other } else { first });
        (next.0 != NEVER).then_some(next)
    }

    /// Lets an actor act. `child` is the number of the process that a fork would make, if there may be one more.
    pub(crate) fn act(&mut self, run: &mut Run, network: &mut Network, actor: Actor, child: Option<u32>) -> Done {
        match actor {
            Actor::Worker(worker) => self.work(run, network, worker),
            Actor::Waiter(waiter) => self.wait(run, waiter),
            Actor::Program => match self.program {
                Program::Forking => return self.fork(run, child),
                _ if self.actions == 0 => self.end(run),
                _ if run.random.chance(self.mortality) => return self.die(run, network),
                _ => self.program(run, child.is_some()),
            },
        }
        if self.program == Program::Forking && self.workers.iter().all(|worker| matches!(worker.phase, Phase::Off)) {
            return self.fork(run, child);
        }
        self.check(run);
        if self.program == Program::Ended && self.next().is_none() {
            for queue in &mut self.queues {
                queue.ledger.finish(network);
                queue.take_recovered(run, network);
                queue.leave(run, network, None);
            }
            let busy = self.workers.iter().any(|worker| !worker.queues.is_empty());
            assert!(!busy, "a thread has ended before its queues");
            return Done::Gone;
        }
        Done::Goes
    }

    /// Nobody sleeps who has something to do, and every queue is as its ledger says.
    fn check(&self, run: &Run) {
        for queue in &self.queues {
            queue.ledger.check(&queue.delivery);
            let worker = &self.workers[queue.destination];
            let wakes = match worker.phase {
                _ if worker.woken || worker.parked => continue,
                Phase::Asleep => worker.at,
                Phase::Off => NEVER,
                _ => continue,
            };
            let due = queue.ledger.due().unwrap_or(NEVER);
            assert!(wakes <= due.max(run.now), "sleeps until {wakes}, but {} is due at {due}", queue.ledger.name);
        }
    }

    fn say(&self, run: &Run, what: impl FnOnce() -> String) {
        run.say(|| format!("p{} {}", self.name, what()));
    }

    // Flushes and shutdowns.

    fn begin_flush(&mut self, run: &mut Run, index: usize, shutdown: bool, blocks: bool) {
        let time = run.random.pick(&[0, 10 * MS, SECOND, 30 * SECOND, 30 * SECOND, 400 * SECOND]);
        let interrupted = if run.random.chance(100) { run.now + run.random.below(10 * SECOND) } else { NEVER };
        let queue = &mut self.queues[index];
        let ticket = if shutdown { queue.delivery.shutdown() } else { queue.delivery.flush() };
        if shutdown {
            queue.ledger.closed(Close::Closing);
        }
        let watch = queue.ledger.flush();
        let open = queue.delivery.flushed(&ticket).is_none();
        assert_eq!(open, queue.ledger.flushed(&watch).is_none(), "whether a flush has to wait");
        let destination = queue.destination;
        self.say(run, || format!("q{index} {} for {time} ns", if shutdown { "shutdown" } else { "flush" }));
        if open {
            self.wake(run, destination);
        }
        let deadline = run.now + time;
        self.waiters.push(Waiter { queue: index, ticket, watch, at: run.now, deadline, interrupted, shutdown, blocks });
        if blocks {
            self.program = Program::Waiting;
            self.program_at = NEVER;
        }
    }

    /// Someone who waits looks whether that is over.
    fn wait(&mut self, run: &mut Run, index: usize) {
        let waiter = &mut self.waiters[index];
        let queue = &mut self.queues[waiter.queue];
        let outcome = queue.delivery.flushed(&waiter.ticket);
        assert_eq!(outcome, queue.ledger.flushed(&waiter.watch), "flushed");
        let interrupted = run.now >= waiter.interrupted;
        if outcome.is_none() && run.now < waiter.deadline && !interrupted {
            waiter.at = waiter.deadline.min(waiter.interrupted);
            return;
        }
        let Waiter { queue: at, ticket, watch, shutdown, blocks, .. } = self.waiters.swap_remove(index);
        let delivered = if shutdown {
            let (delivered, dropped) = queue.delivery.shutdown_end(ticket);
            queue.ledger.abandoned(run, dropped);
            if dropped != 0 {
                run.count(Event::ShutdownDropped);
            }
            delivered
        } else {
            queue.delivery.flush_end(ticket)
        };
        queue.ledger.flush_end(&watch, delivered);
        run.count(match (shutdown, delivered, outcome) {
            (true, true, _) => Event::ShutdownTrue,
            (true, false, _) => Event::ShutdownFalse,
            (false, true, _) => Event::FlushTrue,
            (false, false, Some(_)) => Event::FlushFalse,
            (false, false, None) if interrupted => Event::FlushInterrupted,
            (false, false, None) => Event::FlushTimeout,
        });
        self.say(run, || format!("q{at} {} says {delivered}", if shutdown { "shutdown" } else { "flush" }));
        if shutdown {
            // Others who wait for this queue are not told, but look after a while.
            self.notify_waiters(at, run.now + ASK_EVERY);
            self.retire(run, at);
        }
        let alone = self.waiters.is_empty();
        if self.program == Program::Waiting && (blocks || (alone && self.actions == 0)) {
            self.program = Program::Running;
            self.program_at = run.now;
        }
    }

    fn notify_waiters(&mut self, queue: usize, at: u64) {
        for waiter in self.waiters.iter_mut().filter(|waiter| waiter.queue == queue) {
            waiter.at = waiter.at.min(at);
        }
    }

    fn drop_exporter(&mut self, run: &mut Run, index: usize) {
        run.count(Event::ExporterDropped);
        self.say(run, || format!("q{index} exporter dropped"));
        let queue = &mut self.queues[index];
        queue.held = false;
        queue.delivery.close_without_retry();
        queue.ledger.closed(Close::Last);
        self.retire(run, index);
    }

    // Forks.

    fn park(&mut self, run: &mut Run) {
        for index in 0..self.workers.len() {
            self.workers[index].parked = true;
            self.notify(run, index);
        }
        self.program = Program::Forking;
        self.program_at = run.now + PATIENCE;
    }

    /// The child has a new and empty queue for each exporter, and none of the parent's threads. A fork may fail.
    fn fork(&mut self, run: &mut Run, child: Option<u32>) -> Done {
        let busy = self.workers.iter().any(|worker| !matches!(worker.phase, Phase::Off));
        let child = child.map(|name| {
            run.count(Event::Fork);
            run.counts.add(Event::ForkInRequest, u64::from(busy));
            self.say(run, || format!("forks p{name}"));
            let mut child = Self::new(run, name, self.generation + 1, self.workers.len());
            child.actions = run.random.below(self.actions + 20);
            for queue in self.queues.iter().filter(|queue| queue.held) {
                child.add(run, queue.destination, queue.config.clone(), &queue.resource, true);
            }
            // A scope belongs to no queue, nor do fields in common: the child goes on with the parent's.
            child.scopes.clone_from(&self.scopes);
            child.commons = self.commons.clone();
            child
        });
        self.program = Program::Running;
        self.program_at = run.now;
        for index in 0..self.workers.len() {
            self.unpark(run, index);
        }
        self.check(run);
        child.map_or(Done::Goes, |child| Done::Forked(Box::new(child)))
    }

    fn unpark(&mut self, run: &mut Run, index: usize) {
        let worker = &mut self.workers[index];
        worker.parked = false;
        let queues = &mut self.queues;
        worker.queues.iter().for_each(|queue| queues[*queue].delivery.recover_by(run.now + AFTER_FORK));
        let has_work = |queue: &usize| {
            let queue = &queues[*queue];
            !queue.delivery.is_empty() || queue.delivery.is_finished() || queue.recovers
        };
        if worker.queues.iter().any(has_work) {
            self.wake(run, index);
        }
    }
}

//! The threads that deliver: what `worker.rs` of the export crate does in a loop, stretch by stretch.

use std::collections::VecDeque;

use tracebaton::delivery::{Batch, Next};

use super::{NEVER, Process};
use crate::network::{Network, Reply, Request};
use crate::run::{Event, Run};

/// The thread of a destination.
pub(super) struct Worker {
    pub(super) queues: Vec<usize>,
    pub(super) phase: Phase,
    /// When it goes on.
    pub(super) at: u64,
    pub(super) woken: bool,
    pub(super) parked: bool,
}

pub(super) enum Phase {
    /// There is no thread.
    Off,
    /// At the top of its loop.
    Begin,
    /// Between two queues.
    Round {
        round: Round,
    },
    /// In a request.
    Request {
        round: Round,
        queue: usize,
        batch: Batch,
        reply: Reply,
    },
    Asleep,
}

#[derive(Default)]
pub(super) struct Round {
    left: VecDeque<usize>,
    again: bool,
    until: Option<u64>,
}

impl Process {
    pub(super) fn wake(&mut self, run: &mut Run, index: usize) {
        let worker = &mut self.workers[index];
        worker.woken = true;
        match worker.phase {
            Phase::Asleep => self.notify(run, index),
            Phase::Off if !worker.parked => {
                run.count(Event::ThreadStart);
                worker.phase = Phase::Begin;
                worker.at = run.soon();
            }
            _ => {}
        }
    }

    /// One who sleeps looks whether to go on sleeping.
    pub(super) fn notify(&mut self, run: &mut Run, index: usize) {
        let worker = &mut self.workers[index];
        if matches!(worker.phase, Phase::Asleep) && (worker.woken || worker.parked || worker.queues.is_empty()) {
            worker.phase = Phase::Begin;
            worker.at = run.soon();
        }
    }

    pub(super) fn retire(&mut self, run: &mut Run, index: usize) {
        let queue = &self.queues[index];
        let destination = queue.destination;
        if queue.delivery.is_finished() {
            self.workers[destination].queues.retain(|other| *other != index);
            self.notify(run, destination);
        } else {
            self.wake(run, destination);
        }
    }

    /// One stretch of a thread's loop.
    pub(super) fn work(&mut self, run: &mut Run, network: &mut Network, index: usize) {
        let worker = &mut self.workers[index];
        worker.at = run.soon();
        match std::mem::replace(&mut worker.phase, Phase::Begin) {
            Phase::Off => worker.phase = Phase::Off,
            Phase::Begin | Phase::Asleep if worker.parked || worker.queues.is_empty() => {
                worker.phase = Phase::Off;
                worker.at = NEVER;
            }
            Phase::Begin | Phase::Asleep => {
                worker.woken = false;
                let round = Round { left: worker.queues.iter().copied().collect(), ..Round::default() };
                worker.phase = Phase::Round { round };
            }
            Phase::Round { mut round } => match round.left.pop_front() {
                Some(queue) => self.step(run, network, index, queue, round),
                None if round.again || worker.woken || worker.parked || worker.queues.is_empty() => {}
                None => {
                    worker.at = round.until.unwrap_or(NEVER).max(run.now);
                    worker.phase = Phase::Asleep;
                }
            },
            Phase::Request { round, queue, batch, reply } => {
                self.answer(run, network, queue, batch, reply);
                self.go_on(index, round);
            }
        }
    }

    /// On to the next queue of the round, unless a fork is near.
    fn go_on(&mut self, index: usize, mut round: Round) {
        let worker = &mut self.workers[index];
        if worker.parked {
            round.left.clear();
        }
        worker.phase = Phase::Round { round };
    }

    /// Asks a queue what to do, and does it.
    fn step(&mut self, run: &mut Run, network: &mut Network, worker: usize, index: usize, mut round: Round) {
        // What this process had to let go of comes first.
        let given_back = self.queues[index].delivery.requeue();
        self.queues[index].keep();
        if given_back == 0 {
            self.recover(run, network, index);
        }
        let queue = &mut self.queues[index];
        let next = queue.delivery.poll(run.now);
        if given_back != 0 {
            let Next::Send(batch) = &next else { panic!("{given_back} spans are given back and not sent: {next:?}") };
            assert_eq!(batch.spans() as u64, given_back, "given back");
            queue.ledger.requeued(run, batch);
        }
        let finished = queue.delivery.is_finished();
        queue.ledger.polled(run);
        if let (Next::Wait(_) | Next::Idle, true) = (&next, queue.recovers) {
            let at = queue.delivery.recovery_at();
            queue.ledger.looks_again(run, at);
            round.until = at.map_or(round.until, |at| Some(round.until.map_or(at, |other| other.min(at))));
        }
        match next {
            Next::Send(batch) => {
                let (origin, spans) = queue.ledger.sending(run, &batch);
                round.again = true;
                let request = Request {
                    destination: queue.destination,
                    queue: origin,
                    spans: &spans,
                    bytes: batch.resource().len() + batch.bytes(),
                    most_bytes: queue.config.request_bytes,
                };
                let (reply, took) = network.send(run, &request);
                self.say(run, || format!("q{index} sends {spans:?}: {reply:?} after {took} ns"));
                let at = run.now + took;
                self.workers[worker].phase = Phase::Request { round, queue: index, batch, reply };
                self.workers[worker].at = at;
                return;
            }
            Next::GaveUp { spans, spooled } => {
                queue.ledger.gave_up(run, spans, spooled);
                queue.keep();
                queue.take_recovered(run, network);
                self.say(run, || format!("q{index} gives up {spans} spans, and {spooled} for now"));
                let soon = run.soon();
                self.notify_waiters(index, soon);
                round.again = true;
            }
            Next::Wait(at) => {
                queue.ledger.waits(run, Some(at));
                round.until = Some(round.until.map_or(at, |other| other.min(at)));
            }
            Next::Idle => {
                queue.ledger.waits(run, None);
                if finished {
                    self.workers[worker].queues.retain(|other| *other != index);
                    round.again = true;
                }
            }
        }
        self.go_on(worker, round);
    }

    /// Takes a batch from the spool of a process that is gone, if this is the moment for it.
    fn recover(&mut self, run: &mut Run, network: &mut Network, index: usize) {
        let queue = &mut self.queues[index];
        if !queue.recovers || queue.delivery.recovery_at().is_none_or(|at| run.now < at) {
            return;
        }
        loop {
            if queue.recovery.is_none() {
                let found = network.files.iter().position(|file| file.destination == queue.destination);
                let Some(found) = found else { return queue.delivery.nothing_to_recover(run.now) };
                let file = network.files.swap_remove(found);
                let recovery = file.open();
                queue.recovery = Some((file, recovery));
            }
            let Some((file, recovery)) = &mut queue.recovery else { return };
            if let Some((batch, spans)) = file.next(run, recovery, queue.config.batch_bytes) {
                queue.ledger.recovering(run, file.queue(), &spans);
                queue.delivery.push_recovered(batch);
                let text = format!("q{index} recovers {spans:?}");
                return self.say(run, || text);
            }
            assert!(file.is_done(), "not recovered: {:?}", file.left);
            run.count(Event::DoneSpool);
            queue.recovery = None;
        }
    }

    fn answer(&mut self, run: &mut Run, network: &mut Network, index: usize, batch: Batch, reply: Reply) {
        let random = run.random.next();
        let queue = &mut self.queues[index];
        let outcome = queue.delivery.answered(batch, reply.answer(), run.now, random);
        queue.ledger.answered(run, network, reply, outcome);
        queue.keep();
        // At once: a process that ends now has it noted.
        queue.take_recovered(run, network);
        if queue.ledger.is_empty() {
            queue.full = false;
        }
        self.say(run, || format!("q{index} {outcome:?}"));
        let soon = run.soon();
        self.notify_waiters(index, soon);
    }
}

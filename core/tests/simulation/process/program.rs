//! What the program of a process does, in one thread: it records spans, waits, forks, ends, or dies.

use tracebaton::delivery::{Next, Pushed, Reason, Scope};

use super::{Done, NEVER, Open, Process, Program, Queue, SCOPES};
use crate::ledger::Close;
use crate::network::Network;
use crate::run::{Event, MS, Run, SECOND};
use crate::spans::{self, Commons};

impl Queue {
    /// The call within which the process dies: the number of its span, which may be as before it or as after it.
    fn last_words(&mut self, run: &mut Run, scopes: &[Scope], commons: &Commons) -> u32 {
        let scope = run.random.pick(&[0, 1, 2]);
        let mut bytes = Vec::new();
        let mut encode = |number, size| {
            spans::encode(number, size, &mut bytes);
            bytes.clone()
        };
        let (size, now) = (run.random.below(200) as usize, run.now);
        let open = if run.random.chance(500) { self.open.first() } else { None };
        if let Some(Open { number, scope, size, start }) = open {
            let (number, bytes) = (*number, encode(*number, *size));
            let encode = |buffer: &mut Vec<u8>| buffer.extend_from_slice(&bytes);
            let pushed = self.delivery.push_started(*start, &scopes[*scope], || now, encode);
            let unspooled = self.delivery.stats().unspooled != self.ledger.unspooled;
            if unspooled || !matches!(pushed, Pushed::Queued { .. } | Pushed::Spooled(_)) {
                // Only before the call it was there for certain.
                self.open.remove(0);
            }
            return number;
        }
        let number = self.ledger.number();
        let bytes = encode(number, size);
        if run.random.chance(500) {
            let _ = self.delivery.start(&scopes[scope], &bytes, commons.of(number));
        } else {
            let _ = self.delivery.push(&scopes[scope], || now, |buffer| buffer.extend_from_slice(&bytes));
        }
        number
    }
}

impl Process {
    /// One action of the program.
    pub(super) fn program(&mut self, run: &mut Run, may_fork: bool) {
        #[derive(Clone, Copy)]
        enum Action {
            Push,
            Start,
            Pause,
            Flush,
            Shutdown,
            Drop,
            Fork,
            Foreign,
        }
        self.actions -= 1;
        let step = run.random.pick(&[1_000, 50_000, 2 * MS]);
        self.program_at = run.now + run.random.below(step);
        let held: Vec<usize> = (0..self.queues.len()).filter(|index| self.queues[*index].held).collect();
        if held.is_empty() {
            self.actions = 0;
            return;
        }
        let index = run.random.pick(&held);
        let action = run.random.weighted(&[
            (400, Action::Push),
            (100, Action::Start),
            (250, Action::Pause),
            (80, Action::Flush),
            (6, Action::Shutdown),
            (6, Action::Drop),
            (if may_fork { 12 } else { 0 }, Action::Fork),
            (if self.generation == 0 { 0 } else { 10 }, Action::Foreign),
        ]);
        match action {
            Action::Push => {
                let usual = run.random.pick(&[10, 30, 100, 400]);
                for _ in 0..run.random.pick(&[1, 1, 3, 12]) {
                    self.push(run, index, usual);
                }
            }
            Action::Start => {
                for _ in 0..run.random.pick(&[1, 1, 4]) {
                    self.start(run, index, 60);
                }
            }
            Action::Pause => {
                let most = run.random.pick(&[MS, 100 * MS, SECOND, 3 * SECOND, 40 * SECOND, 500 * SECOND]);
                self.program_at += run.random.below(most);
            }
            Action::Flush | Action::Shutdown => {
                let blocks = run.random.chance(500);
                self.begin_flush(run, index, matches!(action, Action::Shutdown), blocks);
            }
            // An exporter that another thread uses cannot be dropped.
            Action::Drop if self.waiters.iter().any(|waiter| waiter.queue == index) => {}
            Action::Drop => self.drop_exporter(run, index),
            Action::Fork => self.park(run),
            Action::Foreign => {
                let queue = &mut self.queues[index];
                queue.delivery.count_lost(Reason::Forked, 1);
                queue.ledger.forked(run);
            }
        }
    }

    /// The program ends: it shuts its exporters down or drops them, and leaves the threads to their last requests.
    pub(super) fn end(&mut self, run: &mut Run) {
        self.program_at = NEVER;
        if !self.waiters.is_empty() {
            self.program = Program::Waiting;
            return;
        }
        let Some(index) = self.queues.iter().position(|queue| queue.held) else {
            self.program = Program::Ended;
            return;
        };
        self.program_at = run.now;
        if self.queues[index].ledger.close == Close::Open && run.random.chance(600) {
            self.begin_flush(run, index, true, true);
        } else {
            self.drop_exporter(run, index);
        }
    }

    /// The process is killed, perhaps within a write to a spool.
    pub(super) fn die(&mut self, run: &mut Run, network: &mut Network) -> Done {
        run.count(Event::Death);
        self.say(run, || "dies".into());
        for queue in &mut self.queues {
            queue.take_recovered(run, network);
            queue.ledger.check(&queue.delivery);
            queue.ledger.died(run, network);
            queue.ledger.on_their_way().for_each(|(queue, number)| network.unheard(queue, number));
            let truth = queue.ledger.truth();
            let torn = run.random.chance(700).then(|| queue.last_words(run, &self.scopes, &self.commons));
            queue.leave(run, network, torn.map(|number| (truth, number)));
        }
        Done::Gone
    }

    fn start(&mut self, run: &mut Run, index: usize, usual: u64) {
        let scope = run.random.below(self.scopes.len() as u64) as usize;
        let queue = &mut self.queues[index];
        let (number, size) = (queue.ledger.number(), run.random.below(usual) as usize);
        let mut bytes = Vec::new();
        spans::encode(number, size, &mut bytes);
        if let Some(start) = queue.delivery.start(&self.scopes[scope], &bytes, self.commons.of(number)) {
            run.count(Event::Started);
            queue.open.push(Open { number, scope, size, start });
        }
        queue.keep();
        self.say(run, || format!("q{index} span {number} begins"));
        self.check(run);
    }

    fn push(&mut self, run: &mut Run, index: usize, usual: u64) {
        let scope = run.random.below(self.scopes.len() as u64) as usize;
        let queue = &mut self.queues[index];
        let mut bytes = Vec::new();
        let now = run.now;
        let (number, scope, pushed) = if !queue.open.is_empty() && run.random.chance(400) {
            let at = run.random.below(queue.open.len() as u64) as usize;
            let Open { number, scope, size, start } = queue.open.swap_remove(at);
            spans::encode(number, size, &mut bytes);
            let encode = |buffer: &mut Vec<u8>| buffer.extend_from_slice(&bytes);
            (number, scope, queue.delivery.push_started(start, &self.scopes[scope], || now, encode))
        } else {
            let number = queue.ledger.number();
            if !run.random.chance(20) {
                let size = if run.random.chance(30) { 5_000 } else { usual };
                spans::encode(number, run.random.below(size) as usize, &mut bytes);
            }
            let encode = |buffer: &mut Vec<u8>| buffer.extend_from_slice(&bytes);
            (number, scope, queue.delivery.push(&self.scopes[scope], || now, encode))
        };
        queue.ledger.pushed(run, number, scope % SCOPES.len(), bytes.len(), pushed, &queue.delivery);
        queue.keep();
        let wake = match pushed {
            Pushed::Queued { wake } => wake,
            Pushed::Dropped(Reason::QueueFull) => !std::mem::replace(&mut queue.full, true),
            Pushed::Dropped(_) | Pushed::Spooled(_) | Pushed::Nothing => false,
        };
        let destination = queue.destination;
        self.say(run, || format!("q{index} span {number}, {} bytes: {pushed:?}", bytes.len()));
        let queue = &mut self.queues[index];
        if queue.ledger.is_sending() {
            // Export's thread does not ask while it sends, but an event loop may.
            let next = queue.delivery.poll(run.now);
            assert!(matches!(next, Next::Idle), "{next:?} with a batch on its way");
        }
        if wake {
            self.wake(run, destination);
        }
        self.check(run);
    }
}

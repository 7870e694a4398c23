//! All processes and destinations of one run: whoever's time comes first acts, and time jumps there.

use crate::network::Network;
use crate::process::{Done, Process};
use crate::run::{Counts, Run};

/// The most processes in one run.
pub(crate) const PROCESSES: u32 = 4;
/// More steps than any run needs: one that takes them does not end.
const STEPS: u32 = 100_000;

/// Runs the world of a seed to its end. A broken invariant is a panic.
pub(crate) fn simulate(seed: u64, verbose: bool) -> Counts {
    let mut run = Run::new(seed, verbose);
    let destinations = 1 + run.random.below(2) as usize;
    let mut network = Network::new(&mut run, destinations);
    let mut processes = vec![Process::first(&mut run, destinations)];
    let mut made = 1;
    for _ in 0..STEPS {
        let next = processes.iter().enumerate().filter_map(|(index, process)| {
            let (at, actor) = process.next()?;
            Some((at, index, actor))
        });
        let Some((at, index, actor)) = next.min_by_key(|(at, ..)| *at) else {
            assert!(processes.is_empty(), "a process waits for nothing");
            for file in std::mem::take(&mut network.files) {
                file.check(&mut run);
            }
            return run.counts;
        };
        assert!(at >= run.now, "time runs backwards");
        run.now = at;
        let child = (made < PROCESSES).then_some(made);
        match processes[index].act(&mut run, &mut network, actor, child) {
            Done::Goes => {}
            Done::Forked(child) => {
                made += 1;
                processes.push(*child);
            }
            Done::Gone => drop(processes.swap_remove(index)),
        }
    }
    panic!("it does not end");
}

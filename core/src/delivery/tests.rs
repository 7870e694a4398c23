use super::*;
use alloc::vec;
use std::string::ToString;

const MS: u64 = 1_000_000;

/// A queue with small round numbers: spans are `size` bytes long, batches hold 100 bytes, the queue 300.
fn config() -> Config {
    Config { queue_bytes: 300, batch_bytes: 100, request_bytes: 200, ..Config::default() }
}

struct Bench {
    delivery: Delivery,
    scope: Scope,
    now: u64,
}

impl Bench {
    fn new(config: Config) -> Self {
        Self { delivery: Delivery::new(config, b"resource"), scope: Scope::new(b"scope"), now: 5 * SECOND }
    }

    fn push(&mut self, size: usize) -> Pushed {
        let now = self.now;
        self.delivery.push(&self.scope, || now, |out| out.resize(out.len() + size, 7))
    }

    fn pushes(&mut self, count: usize, size: usize) {
        for _ in 0..count {
            assert!(matches!(self.push(size), Pushed::Queued { .. }));
        }
    }

    #[track_caller]
    fn sent(&mut self) -> Batch {
        match self.delivery.poll(self.now) {
            Next::Send(batch) => batch,
            other => panic!("not due: {other:?}"),
        }
    }

    #[track_caller]
    fn waits(&mut self) -> u64 {
        match self.delivery.poll(self.now) {
            Next::Wait(until) => until,
            other => panic!("does not wait: {other:?}"),
        }
    }

    fn answer(&mut self, batch: Batch, answer: Answer) -> Outcome {
        self.delivery.answered(batch, answer, self.now, 0)
    }

    fn dropped(&self, reason: Reason) -> u64 {
        self.delivery.stats().dropped.get(reason)
    }
}

fn accepted() -> Answer {
    Answer::Accepted { rejected: 0, message: None }
}

fn unreachable(connected: bool) -> Answer {
    Answer::Unreachable { connected, why: "connection refused".into() }
}

fn refused() -> Answer {
    Answer::Refused { status: Some(400), why: None }
}

#[test]
fn a_batch_is_due_by_time() {
    let mut bench = Bench::new(config());
    assert!(matches!(bench.delivery.poll(bench.now), Next::Idle));
    assert_eq!(bench.push(10), Pushed::Queued { wake: true });
    bench.now += 400 * MS;
    assert_eq!(bench.push(10), Pushed::Queued { wake: false });
    assert_eq!(bench.waits(), 6 * SECOND);
    bench.now = 6 * SECOND;
    let batch = bench.sent();
    assert_eq!((batch.spans(), batch.bytes(), batch.resource()), (2, 20, &b"resource"[..]));
    let runs: Vec<_> = batch.runs().map(|run| (run.scope().as_bytes(), run.spans().len())).collect();
    assert_eq!(runs, [(&b"scope"[..], 20)]);
    assert!(matches!(bench.delivery.poll(bench.now), Next::Idle), "one request at a time");
    assert_eq!(bench.delivery.stats().queued, 2);
    assert_eq!(bench.answer(batch, accepted()), Outcome::Delivered);
    let stats = bench.delivery.stats();
    assert_eq!((stats.sent, stats.queued, stats.queued_bytes, stats.dropped.total()), (2, 0, 0, 0));
}

#[test]
fn a_batch_is_due_by_its_bytes_and_never_larger() {
    let mut bench = Bench::new(config());
    bench.push(60);
    assert_eq!(bench.push(60), Pushed::Queued { wake: true });
    let first = bench.sent();
    assert_eq!((first.spans(), first.bytes()), (1, 60));
    bench.answer(first, accepted());
    assert_eq!(bench.waits(), 6 * SECOND);
    assert_eq!(bench.push(40), Pushed::Queued { wake: true }, "100 bytes are full");
    assert_eq!(bench.sent().bytes(), 100);
}

#[test]
fn a_batch_is_due_by_its_number_of_spans() {
    let mut bench = Bench::new(Config { batch_spans: Some(2), queue_spans: Some(3), ..config() });
    bench.push(1);
    assert_eq!(bench.push(1), Pushed::Queued { wake: true });
    assert_eq!(bench.sent().spans(), 2);
    bench.push(1);
    assert_eq!(bench.push(1), Pushed::Dropped(Reason::QueueFull));
}

#[test]
fn without_delay_every_span_is_due_at_once() {
    let mut bench = Bench::new(Config { delay_ns: 0, ..config() });
    assert_eq!(bench.push(10), Pushed::Queued { wake: true });
    assert_eq!(bench.push(10), Pushed::Queued { wake: false }, "has been woken");
    let batch = bench.sent();
    assert_eq!(batch.spans(), 2);
    assert_eq!(bench.push(10), Pushed::Queued { wake: false }, "polls after the answer");
    bench.answer(batch, accepted());
    assert_eq!(bench.sent().spans(), 1);
}

#[test]
fn a_full_queue_drops_the_newest() {
    let mut bench = Bench::new(config());
    for _ in 0..3 {
        assert!(matches!(bench.push(90), Pushed::Queued { .. }));
    }
    assert_eq!(bench.push(31), Pushed::Dropped(Reason::QueueFull));
    assert!(matches!(bench.push(30), Pushed::Queued { .. }), "the queue is full at 300 bytes, not before");
    assert_eq!(bench.push(1), Pushed::Dropped(Reason::QueueFull));
    let stats = bench.delivery.stats();
    assert_eq!((stats.queued, stats.queued_bytes, stats.dropped.get(Reason::QueueFull)), (4, 300, 2));
    // What is on its way still takes room; what was delivered does not.
    let batch = bench.sent();
    assert_eq!(bench.push(1), Pushed::Dropped(Reason::QueueFull));
    bench.answer(batch, accepted());
    assert!(matches!(bench.push(90), Pushed::Queued { .. }));
}

#[test]
fn a_dropped_span_leaves_nothing_in_the_batch() {
    let mut bench = Bench::new(Config { queue_bytes: 1_000, ..config() });
    bench.push(10);
    assert_eq!(bench.push(201), Pushed::Dropped(Reason::TooLarge));
    assert_eq!(bench.push(0), Pushed::Nothing);
    bench.now += SECOND;
    let batch = bench.sent();
    assert_eq!((batch.spans(), batch.runs().next().unwrap().spans().len()), (1, 10));
    assert_eq!(bench.dropped(Reason::TooLarge), 1);
}

#[test]
fn spans_are_grouped_by_scope_and_buffers_used_again() {
    let mut bench = Bench::new(config());
    let (same, other) = (Scope::new(b"scope"), Scope::new(b"other"));
    for scope in [&bench.scope.clone(), &other, &same] {
        bench.delivery.push(scope, || 0, |out| out.push(scope.as_bytes()[0]));
    }
    let batch = bench.sent();
    let runs: Vec<_> = batch.runs().map(|run| (run.scope().as_bytes(), run.spans())).collect();
    assert_eq!(runs, [(&b"scope"[..], &b"ss"[..]), (b"other", b"o")]);
    let buffer = batch.runs().next().unwrap().spans().as_ptr();
    bench.answer(batch, accepted());
    // The batch after the next one is the first one again, without the scope that had nothing.
    bench.push(1);
    bench.now += SECOND;
    let batch = bench.sent();
    bench.answer(batch, accepted());
    bench.push(1);
    bench.now += SECOND;
    let batch = bench.sent();
    assert_eq!(batch.runs().map(|run| run.spans().as_ptr()).collect::<Vec<_>>(), [buffer]);
}

#[test]
fn failures_are_retried_with_growing_pauses() {
    let mut bench = Bench::new(config());
    bench.push(10);
    bench.now += SECOND;
    // With the random number 0, half of each pause.
    for (pause, answer) in [
        (500, unreachable(false)),
        (1_000, Answer::Retry { status: 503, after_ns: None }),
        (2_000, unreachable(true)),
        (4_000, unreachable(true)),
        (8_000, unreachable(true)),
        (15_000, unreachable(true)),
        (15_000, unreachable(true)),
    ] {
        let batch = bench.sent();
        let due = bench.now + pause * MS;
        assert_eq!(bench.answer(batch, answer), Outcome::Kept(due));
        assert_eq!(bench.waits(), due);
        bench.now = due;
    }
    let batch = bench.sent();
    assert_eq!(bench.answer(batch, accepted()), Outcome::Delivered);
    let stats = bench.delivery.stats();
    assert_eq!((stats.sent, stats.retried, stats.dropped.total()), (1, 7, 0));
    // After a success the pauses are short again.
    bench.push(10);
    bench.now += SECOND;
    let batch = bench.sent();
    assert_eq!(bench.answer(batch, unreachable(false)), Outcome::Kept(bench.now + 500 * MS));
}

#[test]
fn jitter_is_at_most_half_of_the_pause() {
    for random in [0, 1, 499_999_999, 500_000_000, 500_000_001, u64::MAX] {
        let mut bench = Bench::new(config());
        bench.push(10);
        bench.now += SECOND;
        let batch = bench.sent();
        let Outcome::Kept(due) = bench.delivery.answered(batch, unreachable(false), bench.now, random) else {
            panic!()
        };
        assert!((500 * MS..=SECOND).contains(&(due - bench.now)), "{random}");
    }
}

#[test]
fn retry_after_is_obeyed_even_by_a_flush() {
    let mut bench = Bench::new(config());
    bench.push(10);
    let ticket = bench.delivery.flush();
    let batch = bench.sent();
    let outcome = bench.answer(batch, Answer::Retry { status: 429, after_ns: Some(7 * SECOND) });
    assert_eq!(outcome, Outcome::Kept(bench.now + 7 * SECOND));
    let again = bench.delivery.flush();
    assert_eq!(bench.waits(), bench.now + 7 * SECOND);
    assert!(!bench.delivery.flush_end(again));
    bench.now += 7 * SECOND;
    let batch = bench.sent();
    // "At once" is not obeyed to the letter.
    let outcome = bench.answer(batch, Answer::Retry { status: 429, after_ns: Some(0) });
    assert_eq!(outcome, Outcome::Kept(bench.now + 500 * MS));
    bench.now += SECOND;
    let batch = bench.sent();
    bench.answer(batch, accepted());
    assert_eq!(bench.delivery.flushed(&ticket), Some(true));
    assert!(bench.delivery.flush_end(ticket));
}

#[test]
fn a_flush_ends_a_pause_of_our_own() {
    let mut bench = Bench::new(config());
    bench.push(10);
    bench.now += SECOND;
    for _ in 0..5 {
        let batch = bench.sent();
        bench.answer(batch, unreachable(false));
        bench.now = bench.waits();
    }
    let batch = bench.sent();
    bench.answer(batch, unreachable(false));
    bench.waits();
    let ticket = bench.delivery.flush();
    let batch = bench.sent();
    bench.answer(batch, accepted());
    assert!(bench.delivery.flush_end(ticket));
}

#[test]
fn a_batch_is_given_up_after_the_total_time() {
    let mut bench = Bench::new(config());
    bench.push(10);
    bench.now += SECOND;
    let begin = bench.now;
    let mut attempts = 0;
    let spans = loop {
        match bench.delivery.poll(bench.now) {
            Next::Send(batch) => {
                attempts += 1;
                bench.answer(batch, unreachable(false));
            }
            Next::Wait(until) => bench.now = until,
            Next::GaveUp { spans, .. } => break spans,
            Next::Idle => panic!(),
        }
    };
    assert_eq!((spans, bench.now - begin), (1, 300 * SECOND));
    assert!((15..40).contains(&attempts), "{attempts}");
    let stats = bench.delivery.stats();
    assert_eq!((stats.dropped.get(Reason::GaveUp), stats.queued_bytes), (1, 0));
    assert_eq!(stats.last_error.as_deref(), Some("connection refused"));
    // An answer after the total time is the last, too.
    bench.push(10);
    bench.delivery.recovered();
    bench.now += SECOND;
    let batch = bench.sent();
    bench.now += 300 * SECOND;
    assert_eq!(bench.answer(batch, unreachable(true)), Outcome::Dropped(Reason::GaveUp, 1));
}

#[test]
fn what_waits_behind_a_failing_batch_grows_together() {
    let mut bench = Bench::new(Config { batch_bytes: 1_000, queue_bytes: 1_000, ..config() });
    bench.push(10);
    bench.now += SECOND;
    let batch = bench.sent();
    bench.answer(batch, Answer::Retry { status: 503, after_ns: Some(60 * SECOND) });
    for _ in 0..20 {
        bench.push(10);
        bench.now += 2 * SECOND;
        bench.waits();
    }
    bench.now += 60 * SECOND;
    let batch = bench.sent();
    bench.answer(batch, accepted());
    assert_eq!(bench.sent().spans(), 20);
}

#[test]
fn refusals_are_not_retried() {
    let mut bench = Bench::new(config());
    for (answer, reason) in [(refused(), Reason::Refused), (Answer::TooLarge, Reason::TooLarge)] {
        bench.push(10);
        bench.now += SECOND;
        let batch = bench.sent();
        assert_eq!(bench.answer(batch, answer), Outcome::Dropped(reason, 1));
        assert_eq!(bench.dropped(reason), 1);
        assert!(matches!(bench.delivery.poll(bench.now), Next::Idle));
    }
    assert_eq!(bench.delivery.stats().retried, 0);
}

#[test]
fn rejected_spans_are_counted_and_not_sent_again() {
    let mut bench = Bench::new(config());
    bench.pushes(3, 10);
    let ticket = bench.delivery.flush();
    let batch = bench.sent();
    let answer = Answer::Accepted { rejected: 2, message: Some("too old".to_string()) };
    assert_eq!(bench.answer(batch, answer), Outcome::Delivered);
    let stats = bench.delivery.stats();
    assert_eq!((stats.sent, stats.rejected, stats.queued), (1, 2, 0));
    assert_eq!(stats.last_error.as_deref(), Some("too old"));
    assert!(!bench.delivery.flush_end(ticket), "rejected is not delivered");
}

#[test]
fn a_flush_waits_for_what_was_pushed_before_it_only() {
    let mut bench = Bench::new(config());
    let empty = bench.delivery.flush();
    assert_eq!(bench.delivery.flushed(&empty), Some(true), "nothing to deliver");
    bench.push(10);
    let ticket = bench.delivery.flush();
    assert_eq!(bench.delivery.flushed(&ticket), None);
    bench.push(10);
    let batch = bench.sent();
    assert_eq!(batch.spans(), 1);
    assert_eq!(bench.delivery.flushed(&ticket), None);
    bench.answer(batch, accepted());
    assert_eq!(bench.delivery.flushed(&ticket), Some(true));
    // What is lost later, at the door or behind it, does not change that.
    bench.now += SECOND;
    let batch = bench.sent();
    bench.answer(batch, refused());
    bench.push(201);
    assert_eq!(bench.delivery.flushed(&ticket), Some(true));
    assert_eq!(bench.delivery.flushed(&empty), Some(true));
    assert!(bench.delivery.flush_end(ticket));
    assert!(bench.delivery.flush_end(empty));
    let next = bench.delivery.flush();
    assert!(!bench.delivery.flush_end(next), "both were lost since the flush before");
    let next = bench.delivery.flush();
    assert!(bench.delivery.flush_end(next), "a loss is reported once");
}

#[test]
fn a_flush_is_false_if_anything_before_it_was_dropped() {
    for loss in [0, 1, 2] {
        let mut bench = Bench::new(config());
        bench.push(100);
        bench.push(100);
        if loss == 0 {
            bench.push(200);
        }
        let ticket = bench.delivery.flush();
        for number in [1, 2] {
            let batch = bench.sent();
            bench.answer(batch, if loss == number { refused() } else { accepted() });
        }
        assert_eq!(bench.delivery.flushed(&ticket), Some(false), "{loss}");
        assert!(!bench.delivery.flush_end(ticket));
    }
}

#[test]
fn a_flush_that_runs_out_of_time_is_false() {
    let mut bench = Bench::new(config());
    bench.push(10);
    let ticket = bench.delivery.flush();
    let batch = bench.sent();
    assert!(!bench.delivery.flush_end(ticket));
    // The next one waits for the same batch, which was not lost.
    let ticket = bench.delivery.flush();
    assert_eq!(bench.delivery.flushed(&ticket), None);
    bench.answer(batch, accepted());
    assert!(bench.delivery.flush_end(ticket));
}

#[test]
fn concurrent_flushes_hear_of_the_same_loss() {
    let mut bench = Bench::new(config());
    bench.push(201);
    let (first, second) = (bench.delivery.flush(), bench.delivery.flush());
    assert!(!bench.delivery.flush_end(first));
    assert!(!bench.delivery.flush_end(second));
}

#[test]
fn a_closed_queue_takes_nothing_and_delivers_what_it_has() {
    let mut bench = Bench::new(config());
    bench.push(10);
    bench.delivery.close();
    assert_eq!(bench.push(10), Pushed::Dropped(Reason::Shutdown));
    assert!(!bench.delivery.is_finished());
    let batch = bench.sent();
    let outcome = bench.answer(batch, Answer::Retry { status: 503, after_ns: None });
    assert_eq!(outcome, Outcome::Kept(bench.now + 500 * MS), "a destination that is there is waited for");
    bench.now += SECOND;
    let batch = bench.sent();
    bench.answer(batch, accepted());
    assert!(bench.delivery.is_finished() && bench.delivery.is_empty());
}

#[test]
fn a_closed_queue_does_not_wait_for_a_destination_that_is_not_there() {
    let mut bench = Bench::new(config());
    bench.push(100);
    bench.push(10);
    bench.delivery.close();
    let ticket = bench.delivery.flush();
    let batch = bench.sent();
    assert_eq!(bench.answer(batch, unreachable(false)), Outcome::Dropped(Reason::Shutdown, 2));
    assert!(bench.delivery.is_finished());
    assert_eq!(bench.delivery.flushed(&ticket), Some(false));
    assert_eq!(bench.dropped(Reason::Shutdown), 2);
}

#[test]
fn an_abandoned_queue_keeps_only_what_is_on_its_way() {
    let mut bench = Bench::new(config());
    bench.pushes(3, 100);
    let ticket = bench.delivery.flush();
    let batch = bench.sent();
    assert_eq!(bench.delivery.abandon(), 2);
    assert!(!bench.delivery.is_finished());
    assert_eq!(bench.delivery.flushed(&ticket), None, "one of them is on its way");
    assert_eq!(bench.answer(batch, accepted()), Outcome::Delivered);
    assert!(bench.delivery.is_finished());
    assert!(!bench.delivery.flush_end(ticket));
    let stats = bench.delivery.stats();
    assert_eq!((stats.sent, stats.dropped.get(Reason::Shutdown), stats.queued_bytes), (1, 2, 0));
}

#[test]
fn what_is_abandoned_behind_a_batch_on_its_way_is_no_loss_to_a_flush_before_it() {
    let mut bench = Bench::new(config());
    bench.push(100);
    let before = bench.delivery.flush();
    bench.push(100);
    let batch = bench.sent();
    let shutdown = bench.delivery.shutdown();
    assert_eq!(bench.delivery.shutdown_end(shutdown), (false, 1));
    bench.answer(batch, accepted());
    assert!(bench.delivery.flush_end(before));
    let next = bench.delivery.flush();
    assert!(bench.delivery.flush_end(next), "the shutdown has reported the loss");
}

#[test]
fn a_flush_does_not_answer_for_what_is_expendable() {
    let expendable = Scope::new(b"expendable");
    let mut bench = Bench::new(Config { batch_spans: Some(1), expendable: Some(expendable.clone()), ..config() });
    let push = |bench: &mut Bench, is_expendable: bool| {
        let other = Scope::new(b"other");
        let scope = if is_expendable { &expendable } else { &other };
        let _ = bench.delivery.push(scope, || 0, |out| out.extend_from_slice(&[1; 10]));
    };
    // One that is refused, and one that waits.
    push(&mut bench, true);
    let batch = bench.sent();
    bench.answer(batch, refused());
    push(&mut bench, true);
    let flush = bench.delivery.flush();
    assert_eq!(bench.delivery.flushed(&flush), None);
    assert!(bench.delivery.flush_end(flush));
    assert_eq!(bench.delivery.stats().dropped.get(Reason::Refused), 1, "it is counted all the same");
    // Something else waits behind it.
    push(&mut bench, false);
    let flush = bench.delivery.flush();
    assert!(!bench.delivery.flush_end(flush));
    let flush = bench.delivery.flush();
    let batch = bench.sent();
    bench.answer(batch, accepted());
    let batch = bench.sent();
    bench.answer(batch, refused());
    assert!(!bench.delivery.flush_end(flush));
}

#[test]
fn without_retry_the_first_failure_ends_the_queue() {
    let mut bench = Bench::new(config());
    bench.pushes(2, 100);
    bench.delivery.close_without_retry();
    let batch = bench.sent();
    let outcome = bench.answer(batch, Answer::Retry { status: 503, after_ns: None });
    assert_eq!(outcome, Outcome::Dropped(Reason::Shutdown, 2));
    assert!(bench.delivery.is_finished());
}

#[test]
fn statuses_mean_delivered_again_or_never() {
    for status in [200, 202, 299] {
        assert_eq!(Answer::of_status(status, Some(1)), accepted());
    }
    for status in [429, 502, 503, 504] {
        assert_eq!(Answer::of_status(status, Some(7)), Answer::Retry { status, after_ns: Some(7) });
    }
    assert_eq!(Answer::of_status(413, None), Answer::TooLarge);
    for status in [199, 300, 307, 400, 408, 500, 501, 505] {
        assert_eq!(Answer::of_status(status, None), Answer::Refused { status: Some(status), why: None });
    }
}

#[test]
fn a_flush_answers_for_what_never_came_to_be_pushed() {
    let mut bench = Bench::new(config());
    bench.delivery.count_lost(Reason::TooLarge, 1);
    bench.delivery.count_lost(Reason::Forked, 1);
    for delivered in [false, true] {
        let ticket = bench.delivery.flush();
        assert_eq!(bench.delivery.flushed(&ticket), Some(delivered));
        assert_eq!(bench.delivery.flush_end(ticket), delivered);
        bench.delivery.count_lost(Reason::Forked, 1);
    }
}

#[test]
fn every_reason_has_a_counter_and_a_name() {
    let mut bench = Bench::new(config());
    for (count, reason) in (1..).zip(Reason::ALL) {
        bench.delivery.count_lost(*reason, count);
    }
    let drops = bench.delivery.stats().dropped;
    assert_eq!(drops.iter().map(|(_, count)| count).collect::<Vec<_>>(), (1..=6).collect::<Vec<_>>());
    assert_eq!(drops.total(), 21);
    let mut names: Vec<_> = Reason::ALL.iter().map(|reason| reason.as_str()).collect();
    assert_eq!(names, vec!["queue_full", "refused", "gave_up", "too_large", "shutdown", "forked"]);
    names.dedup();
    assert_eq!(names.len(), Reason::ALL.len());
}

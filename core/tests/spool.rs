//! A queue with a spool, whose batches are cut and put together again to keep traces in one request: at every moment the
//! spool holds exactly the spans that are not delivered.
#![allow(clippy::panic, clippy::unwrap_used, reason = "a broken invariant is a panic")]
#![allow(clippy::arithmetic_side_effects, clippy::indexing_slicing, reason = "in a test that is a panic")]

#[path = "support/random.rs"]
mod random;

use std::collections::BTreeSet;

use random::Random;
use tracebaton::delivery::{Answer, Batch, Config, Delivery, Next, Scope};
use tracebaton::otlp::reader::{Repeated, SpanView};
use tracebaton::spool::{Header, Recovery, Spool};

const MS: u64 = 1_000_000;

/// The entry of a span of a trace, local root or not.
fn entry(trace: u8, id: u64, is_root: bool) -> Vec<u8> {
    let mut span = vec![0x0a, 16];
    span.extend([trace; 16]);
    span.extend([0x12, 8]);
    span.extend(id.to_be_bytes());
    if !is_root {
        span.extend([0x22, 8]);
        span.extend([7; 8]);
    }
    let mut out = vec![0x12, u8::try_from(span.len()).unwrap()];
    out.extend(span);
    out
}

fn ids(batch: &Batch) -> impl Iterator<Item = u64> {
    let spans = batch.runs().flat_map(|run| Repeated::of(run.spans(), 2));
    spans.map(|span| u64::from_be_bytes(SpanView::parse(span.unwrap()).unwrap().span_id().unwrap().to_bytes()))
}

fn in_spool(delivery: &Delivery) -> BTreeSet<u64> {
    let mut source = delivery.spool().unwrap().bytes();
    let mut recovery = Recovery::new(&mut source).unwrap();
    let mut found = BTreeSet::new();
    while let Some(batch) = recovery.next_batch(&mut source, 1_000) {
        assert!(ids(&batch).all(|id| found.insert(id)), "twice");
    }
    found
}

#[test]
fn the_spool_holds_what_is_not_delivered() {
    let (mut cut, mut delivered) = (0, 0);
    for seed in 1..40 {
        let random = &mut Random(seed * 7_919);
        let header = Header {
            label: "honeyhive".into(),
            process: 1,
            nonce: seed,
            made_ns: 0,
            segment_bytes: 2_048,
            segments: 64,
        };
        let memory = vec![0_u8; usize::try_from(header.file_bytes()).unwrap()];
        let config = Config { delay_ns: 10 * MS, hold_ns: 50 * MS, batch_bytes: 600, ..Config::default() };
        let mut delivery = Delivery::new(config, b"resource");
        delivery.set_spool(Spool::new(header, Box::new(memory), b"resource").unwrap());
        let scopes = [Scope::new(b"one"), Scope::new(b"two")];
        let (mut now, mut waiting) = (0, BTreeSet::new());
        for id in 1..200 {
            now += random.below(8 * MS);
            let span = entry(random.below(4) as u8 + 1, id, random.below(4) == 0);
            delivery.push(&scopes[random.below(2) as usize], || now, |out| out.extend_from_slice(&span));
            waiting.insert(id);
            if random.below(30) == 0 {
                let flush = delivery.flush();
                delivery.flush_end(flush);
            }
            if let Next::Send(batch) = delivery.poll(now) {
                let sent: BTreeSet<_> = ids(&batch).collect();
                // What ended before the last of them and was held back.
                cut += usize::from(waiting.iter().any(|id| !sent.contains(id) && *id < *sent.last().unwrap()));
                let answer = match random.below(3) {
                    0 => Answer::Retry { status: 503, after_ns: Some(MS) },
                    1 => Answer::TooLarge,
                    _ => Answer::Accepted { rejected: 0, message: None },
                };
                if !matches!(answer, Answer::Retry { .. }) {
                    delivered += sent.len();
                    waiting.retain(|id| !sent.contains(id));
                }
                delivery.answered(batch, answer, now, 0);
            }
            assert_eq!(in_spool(&delivery), waiting, "seed {seed}, span {id}");
        }
        // Nobody waits for the rest: it stays.
        assert_eq!(delivery.abandon(), 0);
        assert_eq!((in_spool(&delivery), delivery.stats().spooled), (waiting.clone(), waiting.len() as u64));
        assert!(delivery.take_spool().is_some_and(|spool| spool.is_needed() != waiting.is_empty()));
    }
    assert!(cut > 50 && delivered > 800, "{cut} {delivered}");
}

#[test]
fn what_the_queue_let_go_is_queued_again_when_the_destination_takes_spans() {
    let (mut requeued, mut refused) = (0, 0);
    for seed in 1..60 {
        let random = &mut Random(seed * 104_729);
        let header =
            Header { label: "otlp".into(), process: 1, nonce: seed, made_ns: 0, segment_bytes: 1_024, segments: 40 };
        let memory = vec![0_u8; usize::try_from(header.file_bytes()).unwrap()];
        let config = Config {
            queue_bytes: 400,
            queue_spans: (random.below(2) == 0).then_some(7),
            batch_bytes: 150,
            delay_ns: 5 * MS,
            give_up_ns: 100 * MS,
            backoff_ns: 10 * MS,
            backoff_most_ns: 50 * MS,
            ..Config::default()
        };
        let mut delivery = Delivery::new(config, b"resource");
        delivery.set_spool(Spool::new(header, Box::new(memory), b"resource").unwrap());
        let scopes = [Scope::new(b"one"), Scope::new(b"two")];
        let (mut now, mut waiting, mut arrived) = (0, BTreeSet::new(), BTreeSet::new());
        let mut step = |delivery: &mut Delivery, waiting: &mut BTreeSet<u64>, now: u64, is_down: bool| {
            let count = delivery.requeue();
            requeued += count;
            if let Next::Send(batch) = delivery.poll(now) {
                assert_eq!(batch.resource(), b"resource");
                let sent: Vec<u64> = ids(&batch).collect();
                let answer = if is_down {
                    Answer::Unreachable { connected: false, why: "down".into() }
                } else if sent[0] % 50 == 0 {
                    refused += sent.len();
                    Answer::Refused { status: Some(400), why: None }
                } else {
                    assert!(sent.iter().all(|id| arrived.insert(*id)), "sent again though it was delivered");
                    Answer::Accepted { rejected: 0, message: None }
                };
                if !is_down {
                    waiting.retain(|id| !sent.contains(id));
                }
                delivery.answered(batch, answer, now, 0);
            }
            let stats = delivery.stats();
            assert_eq!(stats.queued + stats.spooled, waiting.len() as u64);
            count
        };
        for id in 1..150 {
            now += random.below(4 * MS);
            let span = entry(1, id, true);
            delivery.push(&scopes[random.below(2) as usize], || now, |out| out.extend_from_slice(&span));
            assert_eq!(delivery.stats().dropped.get(tracebaton::delivery::Reason::QueueFull), 0);
            waiting.insert(id);
            // It is down for the first half of the time.
            step(&mut delivery, &mut waiting, now, id < 75);
            assert_eq!(in_spool(&delivery), waiting, "seed {seed}, span {id}");
        }
        for _ in 0..1_000 {
            now += 10 * MS;
            step(&mut delivery, &mut waiting, now, false);
        }
        assert!(in_spool(&delivery).is_empty() && !delivery.spool().unwrap().is_needed());
        assert_eq!((delivery.stats().spooled, delivery.stats().unspooled), (0, 0));
    }
    assert!(requeued > 1_000 && refused > 10, "{requeued} {refused}");
}

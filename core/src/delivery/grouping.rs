//! Keeping the spans of one local trace in one request, for a backend that finds parents only within a request.
//!
//! When the open batch is due by time, spans of local traces that are not complete are held back: they stay in the open
//! batch, so that they leave with their local root, the last of them to end. A span is a local root if it has no parent
//! or one in another process. Nothing is held back for longer than [`Config::hold_ns`](super::Config::hold_ns) beyond
//! the delay that all spans have, nor past the size of a batch, half of a queue, a flush or a shutdown.
//!
//! Spans are looked at only here, where a batch is due by time, and only where `hold_ns` is set: a push costs nothing
//! more. That takes some 150 ns a span, under the lock of its queue.

use alloc::collections::BTreeMap;
use core::mem;

use super::batch::Batch;
use crate::otlp::reader::{Fields, Wire};
use crate::span::IS_REMOTE;

/// How long HoneyHive's spans are held back at most, in ns: ten seconds, as long as most turns of an agent take.
pub const HOLD_NS: u64 = 10_000_000_000;

type TraceId = [u8; 16];

/// The local traces that are held back, and until when, in ns.
#[derive(Debug, Default)]
pub(super) struct Held(BTreeMap<TraceId, u64>);

impl Held {
    /// Nothing is held back any more.
    pub(super) fn clear(&mut self) {
        self.0.clear();
    }

    /// Moves the spans of incomplete traces from `batch` to `later`. Those that are held back for the first time are so
    /// until `until_ns`; those whose time is over stay. Returns when the time of the first of them is over, if any.
    pub(super) fn split(&mut self, batch: &mut Batch, later: &mut Batch, now_ns: u64, until_ns: u64) -> Option<u64> {
        let before = mem::take(&mut self.0);
        let mut complete: BTreeMap<TraceId, bool> = BTreeMap::new();
        for (_, span) in batch.runs.iter().flat_map(|run| entries(&run.spans)) {
            if let Some((trace_id, is_local_root)) = place(span) {
                *complete.entry(trace_id).or_default() |= is_local_root;
            }
        }
        let incomplete = complete.into_iter().filter(|(_, complete)| !complete);
        self.0 = incomplete
            .map(|(trace_id, _)| (trace_id, before.get(&trace_id).copied().unwrap_or(until_ns)))
            .filter(|(_, until)| *until > now_ns)
            .collect();
        let first = self.0.values().min().copied()?;

        let (mut moved, mut moved_bytes) = (0_usize, 0_usize);
        for run in &mut batch.runs {
            let spans = mem::take(&mut run.spans);
            // They are with their spans, or there are none.
            let mut marks = mem::take(&mut run.marks).into_iter();
            for (entry, span) in entries(&spans) {
                let is_held = place(span).is_some_and(|(trace_id, _)| self.0.contains_key(&trace_id));
                if is_held {
                    moved = moved.saturating_add(1);
                    moved_bytes = moved_bytes.saturating_add(entry.len());
                }
                let to = if is_held { later.run(&run.scope) } else { &mut *run };
                to.spans.extend_from_slice(entry);
                to.marks.extend(marks.next());
            }
        }
        for (count, change) in [(&mut batch.spans, moved), (&mut batch.bytes, moved_bytes)] {
            *count = count.saturating_sub(change);
        }
        for (count, change) in [(&mut later.spans, moved), (&mut later.bytes, moved_bytes)] {
            *count = count.saturating_add(change);
        }
        Some(first)
    }
}

/// The spans of a run: the bytes of each entry, and of the `Span` within. What is no entry has no span, and is none the
/// less there.
fn entries(run: &[u8]) -> impl Iterator<Item = (&[u8], &[u8])> {
    let mut fields = Fields::of(run);
    core::iter::from_fn(move || {
        let rest = fields.rest();
        let span = if let Ok((_, Wire::Bytes(span))) = fields.next()? { span } else { &[] };
        Some((rest.get(..rest.len().saturating_sub(fields.rest().len()))?, span))
    })
}

/// The trace of a span, and whether it is a local root. Only its first fields are read: flags come before what can be
/// large.
fn place(span: &[u8]) -> Option<(TraceId, bool)> {
    let (mut trace_id, mut has_parent) = (None, false);
    for field in Fields::of(span) {
        match field {
            Ok((1, Wire::Bytes(id))) => trace_id = id.try_into().ok(),
            Ok((4, Wire::Bytes(id))) => has_parent = !id.is_empty(),
            Ok((16, Wire::Fixed32(flags))) => return Some((trace_id?, !has_parent || flags & IS_REMOTE != 0)),
            Ok(_) => {}
            Err(_) => return None,
        }
    }
    Some((trace_id?, !has_parent))
}

#[cfg(test)]
#[allow(clippy::arithmetic_side_effects, reason = "in a test an overflow is a panic")]
mod tests {
    use super::super::{Answer, Config, Delivery, Next, Scope};
    use super::*;
    use crate::id::{SpanId, TraceFlags};
    use crate::limits::Limits;
    use crate::routing::Routing;
    use crate::span::{Kind, SpanHead, SpanWriter, StatusCode};
    use alloc::string::{String, ToString};
    use alloc::vec::Vec;

    const SECOND: u64 = 1_000_000_000;

    /// Whose child a span is.
    #[derive(Clone, Copy, PartialEq)]
    enum Parent {
        None,
        Remote,
        Local,
    }
    use Parent::{Local, Remote};

    struct Bench {
        delivery: Delivery,
        now: u64,
    }

    impl Bench {
        fn new(config: Config) -> Self {
            Self { delivery: Delivery::new(config, b"resource"), now: 0 }
        }

        fn push(&mut self, trace: u8, name: &str, parent: Parent) {
            let head = SpanHead {
                trace_id: crate::id::TraceId::from_bytes([trace; 16]).unwrap(),
                span_id: SpanId::from_bytes([1; 8]).unwrap(),
                parent: (parent != Parent::None).then(|| SpanId::from_bytes([2; 8]).unwrap()),
                parent_is_remote: parent == Remote,
                flags: TraceFlags::SAMPLED,
                trace_state: "",
                name,
                kind: Kind::Internal,
                start_ns: 1,
                end_ns: 2,
            };
            let (now, limits) = (self.now, Limits::default());
            let scope = Scope::new(if name.len() % 2 == 0 { b"even" } else { b"odd" });
            self.delivery.push(
                &scope,
                || now,
                |out| {
                    SpanWriter::begin(out, &head, &limits).finish(StatusCode::Unset, "", &Routing::default());
                },
            );
        }

        /// The names of the spans that are sent now, sorted.
        fn sent(&mut self) -> Vec<String> {
            let Next::Send(batch) = self.delivery.poll(self.now) else { return Vec::new() };
            let mut names = Vec::new();
            let mut bytes = 0;
            for run in batch.runs() {
                for (entry, span) in entries(run.spans()) {
                    bytes += entry.len();
                    let name = crate::otlp::reader::SpanView::parse(span).unwrap().name.to_str().to_string();
                    assert_eq!(run.scope().as_bytes(), if name.len() % 2 == 0 { &b"even"[..] } else { b"odd" });
                    names.push(name);
                }
            }
            assert_eq!((batch.spans(), batch.bytes()), (names.len(), bytes));
            self.delivery.answered(batch, Answer::of_status(200, None), self.now, 0);
            names.sort();
            names
        }

        #[track_caller]
        fn waits_until(&mut self, at: u64) {
            match self.delivery.poll(self.now) {
                Next::Wait(until) => assert_eq!(until, at),
                other => panic!("does not wait: {other:?}"),
            }
        }
    }

    fn config() -> Config {
        Config { hold_ns: 10 * SECOND, ..Config::default() }
    }

    #[test]
    fn a_local_trace_leaves_with_its_root() {
        let mut bench = Bench::new(config());
        bench.push(1, "a", Local);
        bench.push(2, "b", Local);
        bench.push(2, "root", Parent::None);
        bench.push(3, "c", Local);
        bench.push(3, "served", Remote);
        bench.now = SECOND;
        assert_eq!(bench.sent(), ["b", "c", "root", "served"]);
        bench.waits_until(2 * SECOND);
        bench.push(1, "a2", Local);
        bench.now = 2 * SECOND;
        bench.waits_until(3 * SECOND);
        bench.push(1, "end", Parent::None);
        bench.push(4, "d", Local);
        bench.now = 3 * SECOND;
        assert_eq!(bench.sent(), ["a", "a2", "end"]);
        assert_eq!(bench.delivery.stats().queued, 1);
    }

    #[test]
    fn not_for_longer_than_it_may_be() {
        let mut bench = Bench::new(config());
        bench.push(1, "a", Local);
        for second in 1..11 {
            bench.now = second * SECOND;
            bench.waits_until((second + 1) * SECOND);
            if second == 5 {
                bench.now += SECOND / 2;
                bench.push(2, "b", Local);
            }
        }
        bench.now = 11 * SECOND;
        assert_eq!(bench.sent(), ["a"]);
        // The other trace came five seconds later, and was looked at a little after that: its time is its own.
        bench.now = 15 * SECOND;
        bench.waits_until(16 * SECOND);
        bench.now = 16 * SECOND;
        assert_eq!(bench.sent(), ["b"]);
        // A trace whose time was over has a new one.
        bench.push(1, "a2", Local);
        bench.now = 17 * SECOND;
        bench.waits_until(18 * SECOND);
    }

    #[test]
    fn a_time_that_ends_between_is_not_slept_through() {
        let mut bench = Bench::new(Config { hold_ns: SECOND / 2, ..config() });
        bench.push(1, "a", Local);
        bench.now = SECOND;
        bench.waits_until(SECOND * 3 / 2);
        bench.now = SECOND * 3 / 2;
        assert_eq!(bench.sent(), ["a"]);
    }

    #[test]
    fn flush_and_shutdown_and_size_release_it() {
        let mut bench = Bench::new(config());
        for shutdown in [false, true] {
            bench.push(1, "a", Local);
            bench.now += SECOND;
            assert!(bench.sent().is_empty());
            let ticket = if shutdown { bench.delivery.shutdown() } else { bench.delivery.flush() };
            assert_eq!(bench.sent(), ["a"]);
            assert!(bench.delivery.flush_end(ticket));
        }
        assert!(bench.delivery.is_finished());
        let mut bench = Bench::new(Config { batch_spans: Some(2), ..config() });
        bench.push(1, "a", Local);
        bench.now = SECOND;
        assert!(bench.sent().is_empty());
        bench.push(2, "b", Local);
        assert_eq!(bench.sent(), ["a", "b"]);
    }

    #[test]
    fn nothing_is_held_back_where_that_could_fill_the_queue_or_nobody_wants_it() {
        for config in [
            Config { queue_spans: Some(3), ..config() },
            Config { queue_bytes: 350, ..config() },
            Config { hold_ns: 0, ..config() },
            Config { delay_ns: 0, ..config() },
        ] {
            let mut bench = Bench::new(config);
            bench.push(1, "a", Local);
            bench.push(2, "b", Local);
            bench.now = SECOND;
            assert_eq!(bench.sent(), ["a", "b"]);
        }
    }

    #[test]
    fn what_is_no_span_is_not_held_back() {
        let mut delivery = Delivery::new(config(), b"");
        let scope = Scope::new(b"s");
        for junk in [&b"\x12\x03abc"[..], b"\x12\x02\x0a\x10", b"\x12\x00", b"junk"] {
            delivery.push(&scope, || 0, |out| out.extend_from_slice(junk));
        }
        let Next::Send(batch) = delivery.poll(SECOND) else { panic!("not due") };
        assert_eq!((batch.spans(), batch.bytes()), (4, 15));
        // Nor is it lost where something is.
        let mut bench = Bench::new(config());
        bench.push(1, "a", Local);
        bench.delivery.push(&Scope::new(b"odd"), || 0, |out| out.extend_from_slice(b"junk"));
        let Next::Send(batch) = bench.delivery.poll(SECOND) else { panic!("not due") };
        assert_eq!(batch.runs().map(|run| run.spans()).collect::<Vec<_>>(), [b"junk"]);
        assert_eq!((batch.spans(), batch.bytes(), bench.delivery.stats().queued), (1, 4, 2));
    }
}

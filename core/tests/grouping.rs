//! Local traces in one request, simulated: traces of random shapes end span by span, while batches fall due, are flushed,
//! fail and are sent again. Whatever happens, every span is sent once, none is held back for longer than it may be, and
//! a trace that had the time and the room is in one request.
#![allow(clippy::panic, clippy::unwrap_used, reason = "a broken invariant is a panic")]
#![allow(clippy::arithmetic_side_effects, clippy::indexing_slicing, reason = "in a test that is a panic")]

#[path = "support/random.rs"]
mod random;

use std::collections::BTreeMap;

use random::Random;
use tracebaton::delivery::{Answer, Config, Delivery, Next, Pushed, Scope};
use tracebaton::id::{SpanId, TraceFlags, TraceId};
use tracebaton::limits::Limits;
use tracebaton::otlp::reader::{Repeated, SpanView};
use tracebaton::routing::Routing;
use tracebaton::span::{Kind, SpanHead, SpanWriter, StatusCode};

const SECOND: u64 = 1_000_000_000;
const MS: u64 = 1_000_000;

struct Trace {
    id: u8,
    /// Children that have still to end; then the root does.
    left: u64,
    first: u64,
    /// The root has ended, or the trace never gets one.
    over: Option<u64>,
    rootless: bool,
    /// Something cut it apart that may: a full batch, a flush.
    disturbed: bool,
    requests: Vec<u64>,
}

struct World {
    random: Random,
    delivery: Delivery,
    config: Config,
    now: u64,
    traces: Vec<Trace>,
    /// When each span ended, until it is sent.
    waiting: BTreeMap<u64, u64>,
    spans: u64,
    requests: u64,
    sleeps_until: u64,
    whole: u64,
}

impl World {
    fn new(seed: u64) -> Self {
        let mut random = Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
        let config = Config {
            hold_ns: [SECOND / 2, 3 * SECOND, 10 * SECOND][random.below(3) as usize],
            batch_bytes: [2_000, 20_000, 4_000_000][random.below(3) as usize],
            batch_spans: [None, None, Some(30)][random.below(3) as usize],
            ..Config::default()
        };
        let delivery = Delivery::new(config.clone(), b"resource");
        Self {
            random,
            delivery,
            config,
            now: 0,
            traces: Vec::new(),
            waiting: BTreeMap::new(),
            spans: 0,
            requests: 0,
            sleeps_until: 0,
            whole: 0,
        }
    }

    fn disturb(&mut self) {
        self.traces.iter_mut().for_each(|trace| trace.disturbed = true);
    }

    fn end_a_span(&mut self) {
        let open: Vec<usize> = (0..self.traces.len()).filter(|&at| self.traces[at].over.is_none()).collect();
        let at = if open.is_empty() || (open.len() < 5 && self.random.below(4) == 0) {
            let (left, rootless) = (self.random.below(8), self.random.below(10) == 0);
            let id = (self.traces.len() + 1) as u8;
            let requests = Vec::new();
            self.traces.push(Trace { id, left, first: self.now, over: None, rootless, disturbed: false, requests });
            self.traces.len() - 1
        } else {
            open[self.random.below(open.len() as u64) as usize]
        };
        let trace = &mut self.traces[at];
        let is_root = trace.left == 0 && !trace.rootless;
        let is_remote = is_root && trace.id % 2 == 0;
        if trace.left == 0 {
            trace.over = Some(self.now);
        }
        trace.left = trace.left.saturating_sub(1);
        self.spans += 1;
        let number = self.spans;
        let head = SpanHead {
            trace_id: TraceId::from_bytes([trace.id; 16]).unwrap(),
            span_id: SpanId::from_bytes(number.to_be_bytes()).unwrap(),
            parent: (!is_root || is_remote).then(|| SpanId::from_bytes([0xff; 8]).unwrap()),
            parent_is_remote: is_remote,
            flags: TraceFlags::SAMPLED,
            trace_state: "",
            name: "s",
            kind: Kind::Internal,
            start_ns: 1,
            end_ns: 2,
        };
        let scope = Scope::new(&[self.random.below(3) as u8]);
        let (now, limits) = (self.now, Limits::default());
        let before = self.delivery.stats();
        let pushed = self.delivery.push(
            &scope,
            || now,
            |out| {
                SpanWriter::begin(out, &head, &limits).finish(StatusCode::Unset, "", &Routing::default());
            },
        );
        let Pushed::Queued { wake } = pushed else { panic!("{pushed:?}") };
        if wake {
            self.sleeps_until = self.now;
        }
        self.waiting.insert(number, self.now);
        // A batch that may be full by now is cut wherever it is.
        let spans = self.config.batch_spans.unwrap_or(usize::MAX) as u64;
        if before.queued_bytes + 400 > self.config.batch_bytes as u64 || before.queued + 2 > spans {
            self.disturb();
        }
    }

    fn poll(&mut self) {
        loop {
            match self.delivery.poll(self.now) {
                Next::Send(batch) => {
                    self.requests += 1;
                    let mut count = 0;
                    for run in batch.runs() {
                        for span in Repeated::of(run.spans(), 2) {
                            let span = SpanView::parse(span.unwrap()).unwrap();
                            let number = u64::from_be_bytes(span.span_id().unwrap().to_bytes());
                            let ended =
                                self.waiting.remove(&number).unwrap_or_else(|| panic!("span {number} was sent twice"));
                            let most = self.config.delay_ns + self.config.hold_ns;
                            assert!(self.now <= ended + most, "held back for {} ns", self.now - ended);
                            let trace = usize::from(span.trace_id().unwrap().to_bytes()[0]) - 1;
                            self.traces[trace].requests.push(self.requests);
                            count += 1;
                        }
                    }
                    assert_eq!(batch.spans(), count);
                    // A batch that fails stays as it is; spans that end meanwhile wait behind it.
                    if self.random.below(10) == 0 {
                        let answer = Answer::Retry { status: 503, after_ns: None };
                        self.delivery.answered(batch, answer, self.now, 0);
                        self.now += SECOND;
                        let Next::Send(again) = self.delivery.poll(self.now) else { panic!("not due again") };
                        assert_eq!(again.spans(), count);
                        self.delivery.answered(again, Answer::of_status(200, None), self.now, 0);
                        self.disturb();
                        self.waiting.values_mut().for_each(|ended| *ended = self.now);
                    } else {
                        self.delivery.answered(batch, Answer::of_status(200, None), self.now, 0);
                    }
                }
                Next::Wait(until) => {
                    assert!(until > self.now);
                    self.sleeps_until = until;
                    return;
                }
                Next::Idle => {
                    self.sleeps_until = u64::MAX;
                    return;
                }
                Next::GaveUp { .. } => panic!("nothing fails for so long"),
            }
        }
    }

    fn run(mut self) -> u64 {
        for _ in 0..300 {
            match self.random.below(100) {
                0 => {
                    let ticket = self.delivery.flush();
                    self.disturb();
                    self.poll();
                    assert!(self.waiting.is_empty() && self.delivery.flush_end(ticket));
                }
                1..=60 if self.traces.len() < 200 => self.end_a_span(),
                _ => {
                    // The next span ends some time later; the worker wakes when it was told to.
                    let until = self.now + self.random.below(400) * MS;
                    while self.sleeps_until <= until {
                        self.now = self.now.max(self.sleeps_until);
                        self.poll();
                    }
                    self.now = self.now.max(until);
                }
            }
        }
        while self.sleeps_until != u64::MAX {
            self.now = self.now.max(self.sleeps_until);
            self.poll();
        }
        assert!(self.waiting.is_empty() && self.delivery.is_empty());
        for trace in &self.traces {
            let Some(over) = trace.over.filter(|_| !trace.rootless && !trace.disturbed) else { continue };
            // Of the time it may have, a part can pass before it is looked at for the first time.
            if over < trace.first + self.config.hold_ns {
                let first = trace.requests[0];
                assert!(trace.requests.iter().all(|request| *request == first), "{:?}", trace.requests);
                self.whole += u64::from(trace.requests.len() > 1);
            }
        }
        self.whole
    }
}

#[test]
fn traces_that_have_time_and_room_travel_whole() {
    let whole: u64 = (0..2_000).map(|seed| World::new(seed).run()).sum();
    assert!(whole > 2_000, "only {whole} traces of more than one span could be followed");
}

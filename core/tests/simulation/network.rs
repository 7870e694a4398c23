//! Destinations and the way to them: what becomes of each request, and what a destination has received.

use tracebaton::delivery::Answer;

use crate::run::{Event, MS, Run, SECOND};
use crate::spool::File;

/// What the client gets to know.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Reply {
    /// An HTTP answer.
    Status { status: u16, after_ns: Option<u64>, rejected: u64, message: Option<&'static str> },
    /// None.
    Silence { connected: bool },
    /// Something that is not HTTP, or a client that fails.
    Broken,
    /// The client itself finds the request too large.
    TooLargeToSend,
}

impl Reply {
    /// What `http.rs` and `answer.rs` of the export crate make of it.
    pub(crate) fn answer(self) -> Answer {
        match self {
            Self::Status { status, after_ns, rejected, message } => match Answer::of_status(status, after_ns) {
                Answer::Accepted { .. } => Answer::Accepted { rejected, message: message.map(str::to_owned) },
                other => other,
            },
            Self::Silence { connected } => Answer::Unreachable { connected, why: "no answer".into() },
            Self::Broken => Answer::Refused { status: None, why: Some("the answer is not HTTP/1.1".into()) },
            Self::TooLargeToSend => Answer::TooLarge,
        }
    }
}

/// How a destination, or the network before it, is disposed for a while.
#[derive(Clone, Copy, Debug)]
enum Mood {
    Healthy,
    Flaky,
    Down,
    Busy,
    Hostile,
    Hanging,
}

#[derive(Clone, Copy)]
struct Destination {
    mood: Mood,
    until: u64,
}

/// What a destination knows of one span.
#[derive(Clone, Copy, Default)]
struct Receipt {
    accepted: u32,
    /// Answers that said so and never arrived.
    lost: u32,
}

pub(crate) struct Network {
    destinations: Vec<Destination>,
    /// By the number of the queue, then by that of the span.
    receipts: Vec<Vec<Receipt>>,
    /// The time limit of a request, in ns.
    timeout: u64,
    /// How likely a destination is healthy.
    health: u64,
    /// The spools of processes that are gone.
    pub(crate) files: Vec<File>,
}

/// What is sent, as far as the network looks into it.
pub(crate) struct Request<'a> {
    pub(crate) destination: usize,
    pub(crate) queue: u32,
    pub(crate) spans: &'a [u32],
    pub(crate) bytes: usize,
    /// The largest request, in bytes, that the client sends.
    pub(crate) most_bytes: usize,
}

impl Network {
    pub(crate) fn new(run: &mut Run, destinations: usize) -> Self {
        let random = &mut run.random;
        let timeout = random.pick(&[SECOND, 10 * SECOND]);
        let health = random.pick(&[1, 4, 20]);
        let destinations = vec![Destination { mood: Mood::Healthy, until: 0 }; destinations];
        Self { destinations, receipts: Vec::new(), timeout, health, files: Vec::new() }
    }

    /// Decides what becomes of a request. Answers what the client gets to know, and after how many ns.
    pub(crate) fn send(&mut self, run: &mut Run, request: &Request<'_>) -> (Reply, u64) {
        if request.bytes > request.most_bytes {
            run.count(Event::TooLargeToSend);
            return (Reply::TooLargeToSend, 1);
        }
        let mood = self.mood(run, request.destination);
        let random = &mut run.random;
        let (usual, rare) = (10, 1);
        let event = random.weighted(&match mood {
            Mood::Healthy => [(40, Event::Accepted), (rare, Event::Warned), (0, Event::Partial)],
            Mood::Flaky => [(usual, Event::Accepted), (5, Event::Partial), (usual, Event::AnswerLost)],
            Mood::Down => [(usual, Event::NotConnected), (rare, Event::ResetBefore), (rare, Event::HungBefore)],
            Mood::Busy => [(usual, Event::Busy), (usual, Event::BusyAfter), (2, Event::BusyAccepted)],
            Mood::Hostile => [(usual, Event::Status400), (4, Event::Status413), (2, Event::NotHttp)],
            Mood::Hanging => [(usual, Event::HungBefore), (usual, Event::HungAfter), (5, Event::ResetAfter)],
        });
        run.count(event);
        let most = random_latency(run);
        let mut took = 1 + run.random.below(most);
        let random = &mut run.random;
        let status = |status| Reply::Status { status, after_ns: None, rejected: 0, message: None };
        let busy = random.pick(&[429, 502, 503, 504]);
        let mut received = false;
        let mut lost = false;
        let mut rejected = 0;
        let reply = match event {
            Event::Accepted | Event::Warned | Event::Partial => {
                received = true;
                let spans = request.spans.len() as u64;
                if let Event::Partial = event {
                    // A destination may count wrongly, too.
                    rejected = 1 + random.below(spans + 2);
                }
                let message = (!matches!(event, Event::Accepted)).then_some("as it says");
                Reply::Status { status: random.pick(&[200, 200, 202, 204]), after_ns: None, rejected, message }
            }
            Event::AnswerLost | Event::ResetAfter | Event::HungAfter => {
                (received, lost) = (true, true);
                Reply::Silence { connected: true }
            }
            Event::ResetBefore => Reply::Silence { connected: true },
            Event::HungBefore => Reply::Silence { connected: random.chance(800) },
            Event::NotConnected => Reply::Silence { connected: false },
            Event::BusyAccepted => {
                (received, lost) = (true, true);
                status(504)
            }
            Event::BusyAfter => {
                let after = random.pick(&[0, 1, 50 * MS, SECOND, 7 * SECOND, 60 * SECOND, 3600 * SECOND, u64::MAX]);
                Reply::Status { status: busy, after_ns: Some(after), rejected: 0, message: None }
            }
            Event::Status400 => status(random.pick(&[302, 400, 401, 500])),
            Event::Status413 => status(413),
            Event::NotHttp => Reply::Broken,
            _ => status(busy),
        };
        if matches!(event, Event::HungBefore | Event::HungAfter) {
            took = self.timeout;
        }
        if received {
            // Which of them it rejects only the destination knows.
            let rejected = rejected.min(request.spans.len() as u64) as usize;
            for span in &request.spans[rejected..] {
                self.accept(run, request.queue, *span, lost);
            }
        }
        (reply, took)
    }

    fn mood(&mut self, run: &mut Run, destination: usize) -> Mood {
        let destination = &mut self.destinations[destination];
        if run.now >= destination.until {
            let moods = [
                (self.health, Mood::Healthy),
                (2, Mood::Flaky),
                (1, Mood::Down),
                (1, Mood::Busy),
                (1, Mood::Hostile),
                (1, Mood::Hanging),
            ];
            destination.mood = run.random.weighted(&moods);
            let time = run.random.pick(&[1, 300 * MS, 5 * SECOND, 60 * SECOND, 400 * SECOND]);
            destination.until = run.now + 1 + run.random.below(time);
        }
        destination.mood
    }

    /// Never twice unless an answer was lost.
    fn accept(&mut self, run: &mut Run, queue: u32, span: u32, lost: bool) {
        let receipt = self.receipt(queue, span);
        receipt.accepted += 1;
        let again = receipt.accepted > 1;
        assert!(
            receipt.accepted <= 1 + receipt.lost,
            "span {queue}/{span} was accepted {} times, and {} answers were lost",
            receipt.accepted,
            receipt.lost
        );
        receipt.lost += u32::from(lost);
        if again {
            run.count(Event::Twice);
        }
    }

    /// A process died before it heard the answer about this span.
    pub(crate) fn unheard(&mut self, queue: u32, span: u32) {
        let receipt = self.receipt(queue, span);
        receipt.lost = receipt.lost.max(receipt.accepted);
    }

    fn receipt(&mut self, queue: u32, span: u32) -> &mut Receipt {
        let (queue, span) = (queue as usize, span as usize);
        if self.receipts.len() <= queue {
            self.receipts.resize_with(queue + 1, Vec::new);
        }
        let receipts = &mut self.receipts[queue];
        if receipts.len() <= span {
            receipts.resize(span + 1, Receipt::default());
        }
        &mut receipts[span]
    }

    /// Whether the destination has a span, and whether it could say so each time.
    pub(crate) fn has(&self, queue: u32, span: u32) -> (bool, bool) {
        let receipts = self.receipts.get(queue as usize);
        let receipt = receipts.and_then(|spans| spans.get(span as usize)).copied().unwrap_or_default();
        (receipt.accepted != 0, receipt.lost == 0)
    }
}

fn random_latency(run: &mut Run) -> u64 {
    run.random.pick(&[MS, 20 * MS, 300 * MS, 900 * MS])
}

//! Outboxes: what is on its way to backends. In runtimes where whatever is done belongs to a request there is one for
//! each, so that no request waits for another one's spans, and none gets to see them; elsewhere there is one.
//!
//! An outbox has a lane for each destination of each tracer: core's state machine of delivery, with the one request that
//! it has under way.

use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;

use tracebaton::delivery::{Answer, Batch, Delivery, Next, Stats, Ticket};
use tracebaton::exchange::tree;
use tracebaton::otlp::envelope::{self, ScopeRun};
use tracebaton::otlp::reader;
use tracebaton::registration::Request;
use tracebaton::settings::Encoding;
use tracebaton::value::Value;

use crate::state::State;
use crate::tracers::{Target, nanoseconds};

/// What came of a request.
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) after_ms: f64,
    pub(crate) rejected: u32,
    pub(crate) length: usize,
    pub(crate) is_protobuf: bool,
}

/// A queue to one destination.
pub(crate) struct Lane {
    /// The tracer's handle, and the number of its target.
    pub(crate) of: (u32, usize),
    pub(crate) target: Arc<Target>,
    pub(crate) delivery: Delivery,
    under_way: Option<Batch>,
    ticket: Option<Ticket>,
}

/// The queues of one request, or of a process.
#[derive(Default)]
pub(crate) struct Outbox {
    pub(crate) lanes: Vec<Lane>,
}

impl Outbox {
    /// The queue to a target of a tracer.
    pub(crate) fn lane(&mut self, of: (u32, usize), target: &Arc<Target>) -> Option<&mut Lane> {
        let at = self.lanes.iter().position(|lane| lane.of == of).unwrap_or_else(|| {
            let delivery = Delivery::new(target.config.clone(), &target.resource);
            self.lanes.push(Lane { of, target: Arc::clone(target), delivery, under_way: None, ticket: None });
            self.lanes.len().saturating_sub(1)
        });
        self.lanes.get_mut(at)
    }

    /// The lanes of a tracer; with 0, of all.
    fn of(&mut self, tracer: u32) -> impl Iterator<Item = &mut Lane> {
        self.lanes.iter_mut().filter(move |lane| tracer == 0 || lane.of.0 == tracer)
    }
}

impl Lane {
    /// The request that brings a batch to its destination, as a tree; `None` if a span is not what OTLP calls one.
    fn request(&self, batch: &Batch) -> Option<Vec<u8>> {
        let target = &*self.target;
        let runs = batch.runs().map(|run| {
            let scope = run.scope();
            ScopeRun { scope: scope.as_bytes(), schema_url: scope.schema_url(), spans: run.spans() }
        });
        let runs: Vec<ScopeRun<'_>> = runs.collect();
        let (mut body, mut url, mut method) = (Vec::new(), target.url.clone(), "POST");
        let content_type = match target.encoding {
            Some(Encoding::Protobuf) => {
                envelope::protobuf(batch.resource(), &runs, &mut body);
                "application/x-protobuf"
            }
            Some(Encoding::Json(enums)) => {
                envelope::json(batch.resource(), &runs, enums, &mut body).ok()?;
                "application/json"
            }
            None => {
                let is_start = batch.runs().all(|run| *run.scope() == Request::Start.scope());
                let request = if is_start { Request::Start } else { Request::Enrich };
                url.push_str(request.path());
                method = request.method();
                runs.iter().for_each(|run| body.extend_from_slice(run.spans));
                "application/json"
            }
        };
        let text = |text: &str| Value::from(String::from(text));
        let mut headers: Vec<_> =
            target.headers.iter().map(|(name, value)| Value::Array(Vec::from([text(name), text(value)]))).collect();
        headers.push(Value::Array(Vec::from([text("content-type"), text(content_type)])));
        let mut out = Vec::new();
        let entries = [
            ("url", Value::from(url)),
            ("method", text(method)),
            ("headers", Value::Array(headers)),
            ("gzip", Value::Bool(target.gzip)),
            ("timeout", Value::Double(target.timeout_ms)),
            ("body", Value::Bytes(body.into())),
        ];
        tree::write(&mut out, &tree::map(entries));
        Some(out)
    }

    fn answer(&self, reply: &Reply, said: &[u8]) -> Answer {
        let after_ns = (reply.after_ms >= 0.0).then(|| nanoseconds(reply.after_ms));
        if reply.status == 0 {
            return Answer::Unreachable { connected: true, why: "no answer".into() };
        }
        match Answer::of_status(reply.status, after_ns) {
            Answer::Accepted { .. } => {
                let (rejected, message) = if reply.is_protobuf {
                    let partial = reader::response(said).ok().flatten();
                    partial.map_or_else(Default::default, |partial| {
                        (u64::try_from(partial.rejected_spans).unwrap_or_default(), partial.error_message)
                    })
                } else {
                    (u64::from(reply.rejected), String::from_utf8_lossy(said).into_owned())
                };
                // A message in one line of bounded length.
                let line = message.chars().take(200).map(|c| if c.is_control() { ' ' } else { c });
                let message = (!message.is_empty()).then(|| line.collect());
                Answer::Accepted { rejected, message }
            }
            other => other,
        }
    }
}

impl State {
    fn lane(&mut self, outbox: u32, lane: usize) -> Option<&mut Lane> {
        self.outboxes.get_mut(&outbox)?.lanes.get_mut(lane)
    }

    pub(crate) fn flush(&mut self, outbox: u32, tracer: u32, last: bool) {
        let Some(outbox) = self.outboxes.get_mut(&outbox) else { return };
        for lane in outbox.of(tracer) {
            let ticket = if last { lane.delivery.shutdown() } else { lane.delivery.flush() };
            if let Some(before) = lane.ticket.replace(ticket) {
                let _ = lane.delivery.flush_end(before);
            }
        }
    }

    pub(crate) fn poll(&mut self, outbox: u32, lane: usize, now_ms: f64) -> i32 {
        let Some(lane) = self.lane(outbox, lane) else { return -1 };
        loop {
            match lane.delivery.poll(nanoseconds(now_ms)) {
                Next::Send(batch) => match lane.request(&batch) {
                    Some(request) => {
                        lane.under_way = Some(batch);
                        self.mail.put(&request);
                        return 2;
                    }
                    None => {
                        let malformed = Answer::Refused { status: None, why: Some("a span is malformed".into()) };
                        let _ = lane.delivery.answered(batch, malformed, nanoseconds(now_ms), 0);
                    }
                },
                Next::GaveUp { .. } => {}
                Next::Wait(until_ns) => {
                    self.mail.put(&(until_ns as f64 / 1e6).to_le_bytes());
                    return 1;
                }
                Next::Idle => return 0,
            }
        }
    }

    pub(crate) fn answered(&mut self, outbox: u32, lane: usize, reply: &Reply, now_ms: f64, random: u32) {
        let said = self.mail.request(reply.length).unwrap_or_default().to_vec();
        let Some(lane) = self.lane(outbox, lane) else { return };
        let Some(batch) = lane.under_way.take() else { return };
        let answer = lane.answer(reply, &said);
        // All of 64 bits, so that the pause may be any.
        let random = u64::from(random) << 32 | u64::from(random);
        let _ = lane.delivery.answered(batch, answer, nanoseconds(now_ms), random);
    }

    pub(crate) fn flushed(&mut self, outbox: u32, tracer: u32) -> bool {
        let Some(outbox) = self.outboxes.get_mut(&outbox) else { return true };
        let mut all = true;
        for lane in outbox.of(tracer) {
            if let Some(ticket) = lane.ticket.take() {
                all &= lane.delivery.flush_end(ticket);
            }
        }
        all
    }

    pub(crate) fn close(&mut self, outbox: u32) -> bool {
        let done = self.flushed(outbox, 0);
        let Some(mut outbox) = self.outboxes.remove(&outbox) else { return true };
        for lane in &mut outbox.lanes {
            lane.delivery.abandon();
            if let Some(tracing) = self.tracer(lane.of.0) {
                tracing.keep(lane.of.1, &lane.delivery.stats());
            }
        }
        done
    }
}

/// Adds what became of one queue's spans to what became of others'.
pub(crate) fn add(sum: &mut Stats, more: &Stats) {
    sum.queued = sum.queued.saturating_add(more.queued);
    sum.sent = sum.sent.saturating_add(more.sent);
    sum.rejected = sum.rejected.saturating_add(more.rejected);
    sum.retried = sum.retried.saturating_add(more.retried);
    for (reason, spans) in more.dropped.iter() {
        sum.dropped.add(reason, spans);
    }
    if more.last_error.is_some() {
        sum.last_error.clone_from(&more.last_error);
    }
}

//! Reading the spool of a process that is gone.

use alloc::collections::BTreeMap;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::mem;

use super::format::{DONE, HEADER_BYTES, Header, Kind, Record, Records, SEGMENT_HEAD, Unreadable};
use super::writer::decode_scope;
use super::{Mark, interrupted};
use crate::delivery::{Batch, Scope};
use crate::otlp::reader::{Fields, Repeated, Wire};

/// Where the bytes of a spool are read from.
pub trait Source {
    /// Fills `into` with the bytes from this offset on. False if they cannot be read.
    fn read(&mut self, offset: u64, into: &mut [u8]) -> bool;
}

impl Source for &[u8] {
    fn read(&mut self, offset: u64, into: &mut [u8]) -> bool {
        let from = usize::try_from(offset).ok().and_then(|at| self.get(at..)).and_then(|rest| rest.get(..into.len()));
        from.map(|from| into.copy_from_slice(from)).is_some()
    }
}

/// Trace id and span id, as far as a span has them.
type Id = ([u8; 16], [u8; 8]);

/// What a spool holds.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub struct Summary {
    /// Spans that ended and were neither delivered nor dropped for good.
    pub ended: u64,
    /// Spans that were open.
    pub open: u64,
    /// Bytes that hold neither a record nor the torn end of one.
    pub damaged: u64,
    /// The last time that any record of the spool names, in ns since 1970.
    pub last_ns: u64,
}

/// What is read in which order.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Phase {
    Ended,
    Open,
}

/// Reads a spool that nobody writes any more, batch by batch: first the spans that ended, then those that were open.
///
/// No input makes it panic or recurse; memory is bounded by a segment, a batch, and the ids of the spans that were open.
#[derive(Debug)]
pub struct Recovery {
    header: Header,
    summary: Summary,
    resource: Arc<[u8]>,
    /// Segments in the order in which they were written.
    order: Vec<u32>,
    /// Spans that were open, and their records.
    open: BTreeMap<Id, Mark>,
    phase: Phase,
    /// The next segment, counted in `order`, and where in it.
    segment: usize,
    at: usize,
    buffer: Vec<u8>,
}

impl Recovery {
    /// Surveys a spool.
    ///
    /// # Errors
    ///
    /// Why it cannot be read.
    pub fn new(source: &mut dyn Source) -> Result<Self, Unreadable> {
        let mut page = [0; HEADER_BYTES];
        if !source.read(0, &mut page) {
            return Err(Unreadable::Io);
        }
        let header = Header::parse(&page)?;
        let mut this = Self {
            header,
            summary: Summary::default(),
            resource: Arc::from(&[][..]),
            order: Vec::new(),
            open: BTreeMap::new(),
            phase: Phase::Ended,
            segment: 0,
            at: 0,
            buffer: Vec::new(),
        };
        this.survey(source);
        Ok(this)
    }

    /// The file's header.
    pub fn header(&self) -> &Header {
        &self.header
    }

    /// What it held when it was surveyed.
    pub fn summary(&self) -> Summary {
        self.summary
    }

    /// The next spans: at most about this many bytes, but one span at least. `None` at the end.
    ///
    /// When they are delivered, or dropped for good, that is to be noted in the file, if that stays:
    /// [`Batch::done_at`].
    pub fn next_batch(&mut self, source: &mut dyn Source, most_bytes: usize) -> Option<Batch> {
        let mut batch = Batch::recovered(Arc::clone(&self.resource));
        while batch.bytes() < most_bytes {
            let Some(&index) = self.order.get(self.segment) else {
                if self.phase == Phase::Open || self.open.is_empty() {
                    break;
                }
                (self.phase, self.segment, self.at) = (Phase::Open, 0, 0);
                continue;
            };
            if self.read(source, index) {
                self.take(index, &mut batch, most_bytes);
            } else {
                self.at = usize::MAX;
            }
            if self.at != usize::MAX {
                // The next span has no room in this batch.
                break;
            }
            (self.segment, self.at) = (self.segment.saturating_add(1), 0);
        }
        (batch.spans() != 0).then_some(batch)
    }

    /// Takes spans of a segment that was read, from `self.at` on.
    fn take(&mut self, index: u32, batch: &mut Batch, most_bytes: usize) {
        let buffer = mem::take(&mut self.buffer);
        let from = mem::replace(&mut self.at, usize::MAX);
        let mut scopes = BTreeMap::new();
        let mut entry = Vec::new();
        for record in Records::of(&self.header, &buffer).into_iter().flatten() {
            if record.kind == Kind::Scope {
                if let Some(scope) = decode_scope(record.payload) {
                    scopes.insert(record.scope, scope);
                }
                continue;
            }
            if record.at < from {
                continue;
            }
            let mark = mark(&self.header, index, record.at);
            let entry = match (self.phase, record.kind) {
                (Phase::Ended, Kind::End) if record.state != DONE => record.payload,
                (Phase::Open, Kind::Start | Kind::Short) if self.open.get(&id(record.payload)) == Some(&mark) => {
                    entry.clear();
                    interrupted(span(record.payload), record.common, self.summary.last_ns, &mut entry);
                    &entry[..]
                }
                _ => continue,
            };
            let bytes = batch.bytes().saturating_add(entry.len());
            if batch.spans() != 0 && bytes > most_bytes {
                self.at = record.at;
                break;
            }
            let unknown = || Scope::new(&[]);
            batch.add(scopes.entry(record.scope).or_insert_with(unknown), entry, mark);
        }
        self.buffer = buffer;
    }

    /// Goes through all records once or twice: what is open, when it was, and what is damaged.
    fn survey(&mut self, source: &mut dyn Source) {
        let mut found = Vec::new();
        for index in 0..self.header.segments {
            if !self.is_used(source, index) {
                continue;
            }
            if !self.read(source, index) {
                self.damage(u64::from(self.header.segment_bytes));
                continue;
            }
            let buffer = mem::take(&mut self.buffer);
            match Records::of(&self.header, &buffer) {
                Some(mut records) => {
                    for record in &mut records {
                        self.see(index, &record);
                    }
                    self.damage(records.damaged);
                    found.push((records.sequence, index));
                }
                // Its tail is torn, which is written before its head.
                None if buffer.iter().take(SEGMENT_HEAD).all(|byte| *byte == 0) => {}
                None => self.damage(u64::from(self.header.segment_bytes)),
            }
            self.buffer = buffer;
        }
        found.sort_unstable();
        self.order = found.into_iter().map(|(_, index)| index).collect();
        if self.open.is_empty() {
            return;
        }
        // A span whose end is there has ended: its start says so a moment later.
        for index in 0..self.order.len() {
            let Some(&segment) = self.order.get(index) else { continue };
            if !self.read(source, segment) {
                continue;
            }
            let buffer = mem::take(&mut self.buffer);
            for record in Records::of(&self.header, &buffer).into_iter().flatten() {
                if record.kind == Kind::End {
                    self.open.remove(&id(record.payload));
                }
            }
            self.buffer = buffer;
        }
        self.summary.open = self.open.len() as u64;
    }

    fn see(&mut self, index: u32, record: &Record<'_>) {
        match record.kind {
            Kind::Resource if self.resource.is_empty() => self.resource = Arc::from(record.payload),
            Kind::Start | Kind::Short | Kind::End => {
                self.summary.last_ns = self.summary.last_ns.max(last_time(span(record.payload)));
                match (record.kind, record.state == DONE) {
                    (Kind::End, false) => self.summary.ended = self.summary.ended.saturating_add(1),
                    (Kind::Start | Kind::Short, false) => {
                        self.open.insert(id(record.payload), mark(&self.header, index, record.at));
                    }
                    _ => {}
                }
            }
            _ => {}
        }
    }

    fn damage(&mut self, bytes: u64) {
        self.summary.damaged = self.summary.damaged.saturating_add(bytes);
    }

    /// Whether a segment was ever written: most of a spool never is, and need not be read.
    fn is_used(&self, source: &mut dyn Source, index: u32) -> bool {
        let mut ends = [1; SEGMENT_HEAD];
        let (base, bytes) = (base(&self.header, index), u64::from(self.header.segment_bytes));
        let is_zero = |ends: &[u8]| ends.iter().all(|byte| *byte == 0);
        if !source.read(base, &mut ends) || !is_zero(&ends) {
            return true;
        }
        !source.read(base.saturating_add(bytes).saturating_sub(SEGMENT_HEAD as u64), &mut ends) || !is_zero(&ends)
    }

    fn read(&mut self, source: &mut dyn Source, index: u32) -> bool {
        self.buffer.resize(self.header.segment_bytes as usize, 0);
        source.read(base(&self.header, index), &mut self.buffer)
    }
}

fn base(header: &Header, index: u32) -> u64 {
    u64::from(header.segment_bytes).saturating_mul(u64::from(index)).saturating_add(HEADER_BYTES as u64)
}

fn mark(header: &Header, index: u32, at: usize) -> Mark {
    (base(header, index).saturating_add(at as u64) >> 3) as Mark
}

/// The `Span` of an entry of `ScopeSpans.spans`.
fn span(entry: &[u8]) -> &[u8] {
    Repeated::of(entry, 2).find_map(Result::ok).unwrap_or_default()
}

/// The ids of an entry, which stand first in a span.
fn id(entry: &[u8]) -> Id {
    let mut id = Id::default();
    for field in Fields::of(span(entry)) {
        match field {
            Ok((1, Wire::Bytes(bytes))) => id.0 = bytes.try_into().unwrap_or_default(),
            Ok((2, Wire::Bytes(bytes))) => {
                id.1 = bytes.try_into().unwrap_or_default();
                break;
            }
            Ok(_) => {}
            Err(_) => break,
        }
    }
    id
}

/// The later of a span's times.
fn last_time(span: &[u8]) -> u64 {
    let times = Fields::of(span).filter_map(|field| match field {
        Ok((7 | 8, Wire::Fixed64(time))) => Some(time),
        _ => None,
    });
    times.max().unwrap_or(0)
}

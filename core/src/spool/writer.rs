//! Writing: the pool of segments, and which of them may be used again.

use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::{fmt, mem};

use super::format::{
    DONE, HEADER_BYTES, Header, KEPT, Kind, RECORD_HEAD, Records, SEGMENT_HEAD, record_bytes, record_head,
    segment_head, state_at,
};
use super::{Mark, Memory};
use crate::delivery::{Batch, Scope};
use crate::otlp::protobuf::message;
use crate::otlp::reader::Repeated;

/// A span that was recorded when it began: to be given back when it ends. Copies are the same span; one that was given
/// back already changes nothing.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Start {
    slot: u32,
    /// Slots are used again.
    turn: u32,
}

/// Where the record of an open span is.
#[derive(Clone, Copy, Default, Debug)]
struct Slot {
    turn: u32,
    /// No record if the slot is free.
    mark: Mark,
    /// What a copy of the record takes, with the fields that it leaves out.
    bytes: u32,
    /// Where those fields are; no record if it has all of them.
    common: Mark,
    /// The segment of the record.
    segment: u32,
    scope: u16,
}

/// What is known of a segment besides what is in it.
#[derive(Clone, Default, Debug)]
struct Segment {
    seed: u64,
    /// Its scopes, in the order of their numbers.
    scopes: Vec<Scope>,
    /// The last fields that starts in it have in common, and the place of that record in it.
    common: Option<(Arc<[u8]>, usize)>,
    used: usize,
    /// Spans that ended and are not done with.
    ended: u32,
    /// Those of them that are in no queue any more.
    kept: u32,
    /// Starts of spans that are open, and the bytes of their records.
    open: u32,
    open_bytes: usize,
}

impl Segment {
    fn is_done(&self) -> bool {
        self.ended == 0 && self.open == 0
    }
}

/// The spool of one queue. It writes to its memory only, and never blocks; where there is no room a span is not in it.
pub struct Spool {
    memory: Box<dyn Memory>,
    header: Header,
    segment_bytes: usize,
    resource: Arc<[u8]>,
    segments: Vec<Segment>,
    /// Segments with nothing in them that is needed. The last one comes first: its pages are warm. One is kept, for
    /// copies of open starts.
    free: Vec<usize>,
    /// The one that is written.
    current: usize,
    sequence: u64,
    slots: Vec<Slot>,
    free_slots: Vec<u32>,
    /// Spans that ended and are not done with, in all segments.
    ended: u64,
    /// Those of them that are in no queue any more.
    kept: u64,
    /// Whether there was once no room, and whether there was something that has room in no segment.
    is_full: bool,
    is_exceeded: bool,
    /// A start that is copied.
    scratch: Vec<u8>,
    /// Starts that were copied.
    #[cfg(test)]
    pub(super) evacuated: u64,
}

impl fmt::Debug for Spool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Spool").field("header", &self.header).field("ended", &self.ended).finish_non_exhaustive()
    }
}

impl Spool {
    /// Begins a spool in this memory, which is all zeros and has [`Header::file_bytes`], for spans of the resource with
    /// this encoding. `None` if the sizes do not fit: fewer than three segments, or one that cannot hold the resource.
    pub fn new(header: Header, mut memory: Box<dyn Memory>, resource: &[u8]) -> Option<Self> {
        let segment_bytes = header.segment_bytes as usize;
        let is_possible = header.is_possible()
            && header.segments >= 3
            && memory.bytes().len() as u64 >= header.file_bytes()
            && record_bytes(resource.len()) <= segment_bytes >> 1;
        if !is_possible {
            return None;
        }
        memory.write(0, &header.encode());
        let segments = alloc::vec![Segment::default(); header.segments as usize];
        let mut spool = Self {
            memory,
            header,
            segment_bytes,
            resource: Arc::from(resource),
            free: (1..segments.len()).rev().collect(),
            segments,
            current: 0,
            sequence: 0,
            slots: Vec::new(),
            free_slots: Vec::new(),
            ended: 0,
            kept: 0,
            is_full: false,
            is_exceeded: false,
            scratch: Vec::new(),
            #[cfg(test)]
            evacuated: 0,
        };
        spool.begin(0);
        Some(spool)
    }

    /// Records a span that begins: an entry of `ScopeSpans.spans` with what is known of it. `None` if there is no room.
    ///
    /// `common` are more fields of the `Span`, encoded, which many spans have in common: as long as they are those of the
    /// span before, the same allocation, they are not written again.
    #[inline]
    pub fn start(&mut self, scope: &Scope, entry: &[u8], common: Option<&Arc<[u8]>>) -> Option<Start> {
        let mut size = entry.len();
        let (mark, scope, common) = match common.filter(|common| !common.is_empty()) {
            Some(common) => {
                // Put together the length may take a few bytes more.
                size = size.saturating_add(common.len()).saturating_add(4);
                self.put_short(scope, entry, common)?
            }
            None => {
                let (mark, scope) = self.put(Kind::Start, scope, entry)?;
                (mark, scope, 0)
            }
        };
        let bytes = record_bytes(size);
        let segment = self.segments.get_mut(self.current)?;
        segment.open = segment.open.saturating_add(1);
        segment.open_bytes = segment.open_bytes.saturating_add(bytes);
        let slot = self.free_slots.pop().unwrap_or_else(|| {
            self.slots.push(Slot::default());
            self.slots.len().saturating_sub(1) as u32
        });
        let place = self.slots.get_mut(slot as usize)?;
        let segment = self.current as u32;
        *place = Slot { mark, bytes: bytes as u32, common, segment, scope, turn: place.turn };
        Some(Start { slot, turn: place.turn })
    }

    /// Records a span that has ended, as an entry of `ScopeSpans.spans`. `None` if there is no room.
    #[inline]
    pub(crate) fn end(&mut self, scope: &Scope, entry: &[u8]) -> Option<Mark> {
        let (mark, _) = self.put(Kind::End, scope, entry)?;
        let segment = self.segments.get_mut(self.current)?;
        segment.ended = segment.ended.saturating_add(1);
        self.ended = self.ended.saturating_add(1);
        Some(mark)
    }

    /// The span has ended, whatever became of it: it is not open any more. Comes after [`end`](Self::end), so that it is
    /// one or the other at every moment.
    #[inline]
    pub(crate) fn close(&mut self, start: Start) {
        let Some(slot) = self.slots.get_mut(start.slot as usize) else { return };
        if slot.turn != start.turn || slot.mark == 0 {
            return;
        }
        let Slot { mark, bytes, segment, .. } = *slot;
        *slot = Slot { turn: slot.turn.wrapping_add(1), ..Slot::default() };
        self.free_slots.push(start.slot);
        self.done(mark, segment as usize, |segment| {
            segment.open = segment.open.saturating_sub(1);
            segment.open_bytes = segment.open_bytes.saturating_sub(bytes as usize);
        });
    }

    /// A span that ended is delivered, or dropped for good: it is not needed any more. To be called once for each.
    #[inline]
    pub(crate) fn settle(&mut self, mark: Mark) {
        self.ended = self.ended.saturating_sub(1);
        self.done(mark, self.segment_of(mark), |segment| segment.ended = segment.ended.saturating_sub(1));
    }

    /// A span that ended has left the queue undelivered: it is only here.
    pub(crate) fn keep(&mut self, mark: Mark) {
        self.kept = self.kept.saturating_add(1);
        self.note(mark, self.segment_of(mark), KEPT, |segment| segment.kept = segment.kept.saturating_add(1));
    }

    /// Whether some spans are only here.
    pub(crate) fn has_kept(&self) -> bool {
        self.kept != 0
    }

    /// Adds spans that are only here to a batch, which is empty: those of one segment, at most about as many bytes and
    /// spans as this. They are in a queue then.
    pub(crate) fn take_kept(&mut self, batch: &mut Batch, most_bytes: usize, most_spans: usize) {
        let Some(index) = self.segments.iter().position(|segment| segment.kept != 0) else { return };
        let (base, end) = (self.base(index), self.base(index.saturating_add(1)));
        let scopes = self.segments.get(index).map(|segment| &segment.scopes[..]).unwrap_or_default();
        let bytes = self.memory.bytes().get(base..end).unwrap_or_default();
        for record in Records::of(&self.header, bytes).into_iter().flatten() {
            if record.kind != Kind::End || record.state != KEPT {
                continue;
            }
            let size = batch.bytes().saturating_add(record.payload.len());
            if batch.spans() != 0 && (size > most_bytes || batch.spans() >= most_spans) {
                break;
            }
            if let Some(scope) = scopes.get(usize::from(record.scope)) {
                batch.add(scope, record.payload, (base.saturating_add(record.at) >> 3) as Mark);
            }
        }
        if let (0, Some(segment)) = (batch.spans(), self.segments.get_mut(index)) {
            // Somebody else has damaged it: what can be read is for the next start.
            self.kept = self.kept.saturating_sub(u64::from(mem::take(&mut segment.kept)));
        }
        self.kept = self.kept.saturating_sub(batch.spans() as u64);
        for mark in batch.marks() {
            self.note(mark, index, 0, |segment| segment.kept = segment.kept.saturating_sub(1));
        }
    }

    /// How many spans ended and are neither delivered nor dropped for good.
    pub fn ended(&self) -> u64 {
        self.ended
    }

    /// How many spans are open.
    pub fn open(&self) -> u64 {
        self.slots.len().saturating_sub(self.free_slots.len()) as u64
    }

    /// Whether there was once no room for a span.
    pub fn was_full(&self) -> bool {
        self.is_full
    }

    /// Whether there was once a span that is too large for a segment.
    pub fn was_exceeded(&self) -> bool {
        self.is_exceeded
    }

    /// The bytes of a segment: a span has to fit into one.
    pub fn segment_bytes(&self) -> usize {
        self.segment_bytes
    }

    /// Whether the next start has something to recover.
    pub fn is_needed(&self) -> bool {
        self.ended != 0 || self.open() != 0
    }

    /// All of its memory.
    pub fn bytes(&self) -> &[u8] {
        self.memory.bytes()
    }

    /// How often a segment was begun.
    #[cfg(test)]
    pub(super) fn laps(&self) -> u64 {
        self.sequence
    }

    fn base(&self, segment: usize) -> usize {
        HEADER_BYTES.saturating_add(segment.saturating_mul(self.segment_bytes))
    }

    /// What the record at this place holds.
    fn payload(&self, mark: Mark) -> &[u8] {
        let record = self.memory.bytes().get((mark as usize) << 3..).unwrap_or_default();
        let length = record.first_chunk().map_or(0, |length| u32::from_le_bytes(*length)) as usize;
        record.get(RECORD_HEAD..RECORD_HEAD.saturating_add(length)).unwrap_or_default()
    }

    /// Where records end: before the tail, and with room for the record that says that the segment is full.
    fn room_end(&self) -> usize {
        self.segment_bytes.saturating_sub(SEGMENT_HEAD + RECORD_HEAD)
    }

    /// Notes in a record that it is done with, and in its segment what `count` does.
    #[inline]
    fn done(&mut self, mark: Mark, index: usize, count: impl FnOnce(&mut Segment)) {
        self.note(mark, index, DONE, count);
        if self.segments.get(index).is_some_and(Segment::is_done) && index != self.current {
            self.free.push(index);
        }
    }

    /// Notes a state in a record, and in its segment what `count` does.
    #[inline]
    fn note(&mut self, mark: Mark, index: usize, state: u8, count: impl FnOnce(&mut Segment)) {
        self.memory.write(state_at((mark as usize) << 3), &[state]);
        if let Some(segment) = self.segments.get_mut(index) {
            count(segment);
        }
    }

    /// The segment that a record is in.
    fn segment_of(&self, mark: Mark) -> usize {
        let at = (mark as usize) << 3;
        at.saturating_sub(HEADER_BYTES).checked_div(self.segment_bytes).unwrap_or(usize::MAX)
    }

    /// Begins a segment with nothing in it.
    fn begin(&mut self, index: usize) {
        self.sequence = self.sequence.wrapping_add(1);
        let base = self.base(index);
        let head = segment_head(&self.header, self.sequence);
        // The tail first: see `Records::of`.
        self.memory.write(base.saturating_add(self.segment_bytes).saturating_sub(SEGMENT_HEAD), &head);
        self.memory.write(base, &head);
        self.current = index;
        let seed = self.header.seed(self.sequence);
        if let Some(segment) = self.segments.get_mut(index) {
            segment.scopes.clear();
            *segment =
                Segment { seed, scopes: mem::take(&mut segment.scopes), used: SEGMENT_HEAD, ..Segment::default() };
        }
        let resource = Arc::clone(&self.resource);
        self.append(Kind::Resource, 0, &resource, 0);
    }

    /// Appends a record to the segment that is written, in which there is room. `common` is as for [`record_head`].
    #[inline]
    fn append(&mut self, kind: Kind, scope: u16, payload: &[u8], common: usize) -> Mark {
        let base = self.base(self.current);
        let Some(segment) = self.segments.get_mut(self.current) else { return 0 };
        let place = base.saturating_add(segment.used);
        let head = record_head(segment.seed, segment.used, kind, scope, payload, common);
        segment.used = segment.used.saturating_add(record_bytes(payload.len()));
        // The head last: without it there is no record.
        self.memory.write(place.saturating_add(RECORD_HEAD), payload);
        self.memory.write(place, &head);
        (place >> 3) as Mark
    }

    /// Appends a record of a span, and its scope before it if that is new to the segment. The mark, and the number of
    /// the scope.
    #[inline]
    fn put(&mut self, kind: Kind, scope: &Scope, entry: &[u8]) -> Option<(Mark, u16)> {
        if let Some(known) = self.place(scope, entry.len()) {
            return Some((self.append(kind, known, entry, 0), known));
        }
        let scope = self.make_room(scope, entry.len())?;
        Some((self.append(kind, scope, entry, 0), scope))
    }

    /// As [`put`](Self::put), of a start without these fields, which are put before it unless they are the last ones in
    /// the segment. The marks of both, and the number of the scope.
    #[inline]
    fn put_short(&mut self, scope: &Scope, entry: &[u8], common: &Arc<[u8]>) -> Option<(Mark, u16, Mark)> {
        let (scope, at) = match (self.place(scope, entry.len()), self.common_at(common)) {
            (Some(scope), Some(at)) => (scope, at),
            _ => self.place_common(scope, entry, common)?,
        };
        let mark = self.append(Kind::Short, scope, entry, at);
        Some((mark, scope, (self.base(self.current).saturating_add(at) >> 3) as Mark))
    }

    /// Where in the segment that is written these fields are, if they are the last ones.
    #[inline]
    fn common_at(&self, common: &Arc<[u8]>) -> Option<usize> {
        let (last, at) = self.segments.get(self.current)?.common.as_ref()?;
        Arc::ptr_eq(last, common).then_some(*at)
    }

    /// Puts these fields into a segment with room for them and the start behind them: the number of the scope, and the
    /// place.
    #[cold]
    fn place_common(&mut self, scope: &Scope, entry: &[u8], common: &Arc<[u8]>) -> Option<(u16, usize)> {
        // That is as large as both records are.
        let scope = self.make_room(scope, record_bytes(common.len()).saturating_add(entry.len()))?;
        let at = match self.common_at(common) {
            Some(at) => at,
            None => {
                let at = self.segments.get(self.current)?.used;
                self.append(Kind::Common, 0, common, 0);
                self.segments.get_mut(self.current)?.common = Some((Arc::clone(common), at));
                at
            }
        };
        Some((scope, at))
    }

    /// The number of the scope, if it is known in the segment and there is room for a payload of this size.
    #[inline]
    fn place(&self, scope: &Scope, payload: usize) -> Option<u16> {
        let segment = self.segments.get(self.current)?;
        let fits = segment.used.checked_add(record_bytes(payload))? <= self.room_end();
        let known = segment.scopes.iter().position(|known| known.is(scope))?;
        fits.then_some(known as u16)
    }

    /// Sees to it that a payload of this size has room in the segment that is written, and its scope is there, where the
    /// scope is new or the segment full. The number of the scope; none if there is no room.
    #[cold]
    fn make_room(&mut self, scope: &Scope, payload: usize) -> Option<u16> {
        if !self.has_room(scope, payload) {
            let most = record_bytes(self.resource.len()).saturating_add(scope_bytes(scope));
            let most = most.saturating_add(record_bytes(payload)).saturating_add(SEGMENT_HEAD);
            // One that fits into no segment is no reason to leave this one.
            if most > self.room_end() {
                self.is_exceeded = true;
                return None;
            }
            if !self.roll() || !self.has_room(scope, payload) {
                self.is_full = true;
                return None;
            }
        }
        self.scope(scope)
    }

    /// Whether a payload of this size fits into the segment that is written, with its scope if that is new.
    fn has_room(&self, scope: &Scope, payload: usize) -> bool {
        let Some(segment) = self.segments.get(self.current) else { return false };
        let known = segment.scopes.iter().any(|known| known.is(scope));
        let more = if known { 0 } else { scope_bytes(scope) };
        (known || segment.scopes.len() < usize::from(u16::MAX))
            && segment.used.saturating_add(more).saturating_add(record_bytes(payload)) <= self.room_end()
    }

    /// The number of a scope in the segment that is written, in which there is room for it.
    fn scope(&mut self, scope: &Scope) -> Option<u16> {
        let segment = self.segments.get_mut(self.current)?;
        if let Some(known) = segment.scopes.iter().position(|known| known.is(scope)) {
            return Some(known as u16);
        }
        let number = segment.scopes.len() as u16;
        segment.scopes.push(scope.clone());
        let mut payload = mem::take(&mut self.scratch);
        payload.clear();
        encode_scope(scope, &mut payload);
        self.append(Kind::Scope, number, &payload, 0);
        self.scratch = payload;
        Some(number)
    }

    /// Leaves the segment that is written for a free one; false if there is none. One more stays free: into that one the
    /// open starts of another can be copied, so that spans which are open for long do not use up the pool.
    fn roll(&mut self) -> bool {
        let left = self.current;
        if self.segments.get(left).is_some_and(Segment::is_done) {
            self.begin(left);
            return true;
        }
        let victim = match *self.free {
            [] => return false,
            [_] => match self.only_open() {
                Some(victim) => Some(victim),
                None => return false,
            },
            _ => None,
        };
        let Some(next) = self.free.pop() else { return false };
        self.append(Kind::Full, 0, &[], 0);
        self.begin(next);
        if let Some(victim) = victim {
            self.evacuate(victim);
        }
        true
    }

    /// The segment with the fewest bytes of open starts among those that have nothing else, and at most half of one.
    fn only_open(&self) -> Option<usize> {
        let candidates = self.segments.iter().enumerate().filter(|(_, segment)| {
            let scopes = segment.scopes.iter().fold(0_usize, |sum, scope| sum.saturating_add(scope_bytes(scope)));
            segment.ended == 0
                && segment.open != 0
                && segment.open_bytes.saturating_add(scopes) <= self.segment_bytes >> 2
        });
        candidates.min_by_key(|(_, segment)| segment.open_bytes).map(|(index, _)| index)
    }

    /// Copies the open starts of a segment to the one that is written, which has room for them.
    fn evacuate(&mut self, victim: usize) {
        let (base, end) = (self.base(victim), self.base(victim.saturating_add(1)));
        for index in 0..self.slots.len() {
            let Some(&slot) = self.slots.get(index) else { continue };
            let at = (slot.mark as usize) << 3;
            if !(base..end).contains(&at) {
                continue;
            }
            let Some(scope) = self.segments.get(victim).and_then(|from| from.scopes.get(usize::from(slot.scope)))
            else {
                continue;
            };
            let scope = scope.clone();
            let Some(number) = self.scope(&scope) else { continue };
            let mut payload = mem::take(&mut self.scratch);
            payload.clear();
            let entry = self.payload(slot.mark);
            match slot.common {
                0 => payload.extend_from_slice(entry),
                common => put_together(entry, self.payload(common), &mut payload),
            }
            let mark = self.append(Kind::Start, number, &payload, 0);
            #[cfg(test)]
            {
                self.evacuated = self.evacuated.saturating_add(1);
            }
            self.scratch = payload;
            if let Some(slot) = self.slots.get_mut(index) {
                (slot.mark, slot.scope, slot.common, slot.segment) = (mark, number, 0, self.current as u32);
            }
            if let Some(segment) = self.segments.get_mut(self.current) {
                segment.open = segment.open.saturating_add(1);
                segment.open_bytes = segment.open_bytes.saturating_add(slot.bytes as usize);
            }
            // The copy is there before the original is not: at no moment is there neither.
            self.done(slot.mark, victim, |segment| {
                segment.open = segment.open.saturating_sub(1);
                segment.open_bytes = segment.open_bytes.saturating_sub(slot.bytes as usize);
            });
        }
    }
}

/// Appends an entry with more fields of its `Span`.
fn put_together(entry: &[u8], more: &[u8], out: &mut Vec<u8>) {
    message(out, 2, |out| {
        out.extend_from_slice(Repeated::of(entry, 2).find_map(Result::ok).unwrap_or_default());
        out.extend_from_slice(more);
    });
}

fn encode_scope(scope: &Scope, out: &mut Vec<u8>) {
    out.extend_from_slice(&(scope.as_bytes().len() as u32).to_le_bytes());
    out.extend_from_slice(scope.as_bytes());
    out.extend_from_slice(scope.schema_url().as_bytes());
}

/// The scope of such a record.
pub(super) fn decode_scope(payload: &[u8]) -> Option<Scope> {
    let (length, rest) = payload.split_first_chunk()?;
    let (scope, url) = rest.split_at_checked(u32::from_le_bytes(*length) as usize)?;
    Some(Scope::new(scope).with_schema_url(core::str::from_utf8(url).ok()?))
}

/// The bytes of the record of a scope.
fn scope_bytes(scope: &Scope) -> usize {
    let payload = scope.as_bytes().len().saturating_add(scope.schema_url().len()).saturating_add(4);
    record_bytes(payload)
}

//! What stands where in a spool: a header, then segments of equal size, each with records.
//!
//! ```text
//! file     [header, 4096 bytes] [segment] [segment] …
//! header   magic 8, version 4, process 4, nonce 8, made 8, segment bytes 4, segments 4, label 16, checksum 4,
//!          recovered 4
//! segment  [head 16: sequence 8, magic 4, checksum 4] [record] [record] … [the head again]
//! record   [head 16: length 4, kind 1, state 1, scope 2, checksum of the head 4, of the payload 4] [payload] [to 8]
//! ```
//!
//! Numbers are little-endian; records begin at multiples of eight bytes. A segment is used again and again, each time
//! with another sequence number, which is part of every checksum in it: what an earlier use left behind is not taken for
//! a record. The state is part of no checksum, since it changes while the rest stays; nor is what stands behind the
//! checksum of the header: not zero once another process has begun to recover the file, which says that its own is gone.

use alloc::string::String;

use super::checksum::{self, mix};

/// The bytes of a file before its first segment.
pub const HEADER_BYTES: usize = 4096;
/// Where the checksum of the header stands, and so how much of the page is used.
const HEADER_CHECKED: usize = 56;
/// Where in the header stands whether another process has recovered the file: four bytes, zero if none has.
pub const RECOVERED_AT: usize = HEADER_CHECKED + 4;
/// The longest label, in bytes.
pub const LABEL_BYTES: usize = 16;
const MAGIC: [u8; 8] = *b"tbspool\0";
const VERSION: u32 = 1;

/// The smallest segment, in bytes.
pub const SEGMENT_LEAST: usize = 256;
/// The head of a segment, which stands at both of its ends.
pub(super) const SEGMENT_HEAD: usize = 16;
const SEGMENT_MAGIC: u32 = u32::from_le_bytes(*b"tbsg");

pub(super) const RECORD_HEAD: usize = 16;
const STATE_AT: usize = 5;

/// How a record says that it is done with: a span that was delivered or dropped, a start whose span ended. Any other
/// value says that it is not.
pub const DONE: u8 = 0xd7;

/// How the record of a span says that the span is in no queue any more. To who reads the file it is as good as any other.
pub(super) const KEPT: u8 = 0x4b;

/// What a record holds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub(super) enum Kind {
    /// The encoded `Resource` of all spans; the first record of every segment.
    Resource = 1,
    /// A scope, before the first record of its segment that refers to it.
    Scope = 2,
    /// A span that begins: what is known of it then, as an entry of `ScopeSpans.spans`.
    Start = 3,
    /// A span that has ended, as an entry of `ScopeSpans.spans`.
    End = 4,
    /// The end of a segment that was left for another: what precedes it is no torn write.
    Full = 5,
    /// Fields of `Span` that spans which begin have in common, before the first record of its segment that leaves them
    /// out.
    Common = 6,
    /// As `Start`, without the fields of the last `Common` before it. That one is part of its checksum: where it is
    /// damaged, so is this one, rather than to be put into another session.
    Short = 7,
}

impl Kind {
    const fn of(number: u8) -> Option<Self> {
        Some(match number {
            1 => Self::Resource,
            2 => Self::Scope,
            3 => Self::Start,
            4 => Self::End,
            5 => Self::Full,
            6 => Self::Common,
            7 => Self::Short,
            _ => return None,
        })
    }
}

/// Why a file is not read.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Unreadable {
    /// Its header is empty: whoever made it has not begun to write, or somebody has wiped it.
    Blank,
    /// It is none of ours, or its header is damaged.
    Foreign,
    /// It has a form of a later version.
    Version,
    /// It could not be read.
    Io,
}

impl core::fmt::Display for Unreadable {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(match self {
            Self::Blank => "its header is empty",
            Self::Foreign => "its header is not that of a spool",
            Self::Version => "a later version has written it",
            Self::Io => "it cannot be read",
        })
    }
}

impl core::error::Error for Unreadable {}

/// The first page of a file.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Header {
    /// What kind of destination the spans are for, in at most [`LABEL_BYTES`] bytes.
    pub label: String,
    /// The number of the process that made the file.
    pub process: u32,
    /// A random number: what another file has left on the disk is not taken for this one's.
    pub nonce: u64,
    /// When the file was made, in ns since 1970.
    pub made_ns: u64,
    /// The bytes of a segment: a multiple of eight, at least [`SEGMENT_LEAST`].
    pub segment_bytes: u32,
    /// How many segments there are.
    pub segments: u32,
}

fn array<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    bytes.get(at..).and_then(<[u8]>::first_chunk).copied().unwrap_or([0; N])
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(array(bytes, at))
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(array(bytes, at))
}

/// Puts a field where it belongs; `at` is a constant within `into`.
fn put(into: &mut [u8], at: usize, field: &[u8]) {
    into.iter_mut().skip(at).zip(field).for_each(|(to, from)| *to = *from);
}

impl Header {
    /// The bytes of the file.
    pub fn file_bytes(&self) -> u64 {
        u64::from(self.segment_bytes).saturating_mul(u64::from(self.segments)).saturating_add(HEADER_BYTES as u64)
    }

    /// Whether a file can have these sizes: positions are counted in eighths of bytes by 32 bits.
    pub(super) fn is_possible(&self) -> bool {
        self.segment_bytes % 8 == 0
            && self.segment_bytes as usize >= SEGMENT_LEAST
            && self.segments != 0
            && self.file_bytes() <= 8 << 32
            && self.label.len() <= LABEL_BYTES
    }

    pub(super) fn encode(&self) -> [u8; HEADER_CHECKED + 4] {
        let mut out = [0; HEADER_CHECKED + 4];
        put(&mut out, 0, &MAGIC);
        put(&mut out, 8, &VERSION.to_le_bytes());
        put(&mut out, 12, &self.process.to_le_bytes());
        put(&mut out, 16, &self.nonce.to_le_bytes());
        put(&mut out, 24, &self.made_ns.to_le_bytes());
        put(&mut out, 32, &self.segment_bytes.to_le_bytes());
        put(&mut out, 36, &self.segments.to_le_bytes());
        put(&mut out, 40, self.label.as_bytes());
        let sum = checksum::of(0, out.get(..HEADER_CHECKED).unwrap_or_default());
        put(&mut out, HEADER_CHECKED, &sum.to_le_bytes());
        out
    }

    /// Reads the first [`HEADER_BYTES`] bytes of a file.
    ///
    /// # Errors
    ///
    /// Why the file cannot be read.
    pub fn parse(page: &[u8]) -> Result<Self, Unreadable> {
        if page.iter().all(|byte| *byte == 0) {
            return Err(Unreadable::Blank);
        }
        let checked = page.get(..HEADER_CHECKED).ok_or(Unreadable::Foreign)?;
        if !checked.starts_with(&MAGIC) {
            return Err(Unreadable::Foreign);
        }
        if u32_at(checked, 8) != VERSION {
            return Err(Unreadable::Version);
        }
        let label: [u8; LABEL_BYTES] = array(checked, 40);
        let label = label.split(|byte| *byte == 0).next().unwrap_or_default();
        let header = Self {
            label: String::from(core::str::from_utf8(label).map_err(|_| Unreadable::Foreign)?),
            process: u32_at(checked, 12),
            nonce: u64_at(checked, 16),
            made_ns: u64_at(checked, 24),
            segment_bytes: u32_at(checked, 32),
            segments: u32_at(checked, 36),
        };
        let is_intact = u32_at(page, HEADER_CHECKED) == checksum::of(0, checked) && header.is_possible();
        if is_intact { Ok(header) } else { Err(Unreadable::Foreign) }
    }

    /// What the checksums of a segment with this sequence number are seeded with.
    pub(super) fn seed(&self, sequence: u64) -> u64 {
        mix(self.nonce ^ mix(sequence))
    }
}

/// The head of a segment with this sequence number.
pub(super) fn segment_head(header: &Header, sequence: u64) -> [u8; SEGMENT_HEAD] {
    let mut out = [0; SEGMENT_HEAD];
    put(&mut out, 0, &sequence.to_le_bytes());
    put(&mut out, 8, &SEGMENT_MAGIC.to_le_bytes());
    put(&mut out, 12, &((header.seed(sequence) >> 32) as u32).to_le_bytes());
    out
}

/// The sequence number of a segment, by one of its heads.
fn sequence(header: &Header, head: &[u8]) -> Option<u64> {
    let sequence = u64_at(head, 0);
    (head == segment_head(header, sequence)).then_some(sequence)
}

/// What a record takes with its head, in bytes.
pub(super) const fn record_bytes(payload: usize) -> usize {
    payload.saturating_add(RECORD_HEAD + 7) & !7
}

/// The head of a record `at` this place of its segment. `common` is the place of the `Common` record that a `Short` one
/// belongs to, 0 for others.
#[inline]
pub(super) fn record_head(
    seed: u64,
    at: usize,
    kind: Kind,
    scope: u16,
    payload: &[u8],
    common: usize,
) -> [u8; RECORD_HEAD] {
    let first = payload.len() as u32 as u64 | u64::from(kind as u8) << 32 | u64::from(scope) << 48;
    let sum = checksum::of(payload_seed(seed, common), payload);
    let second = u64::from(head_check(seed, at, first)) | u64::from(sum) << 32;
    (u128::from(first) | u128::from(second) << 64).to_le_bytes()
}

/// What the checksum of a payload is seeded with.
#[inline]
fn payload_seed(seed: u64, common: usize) -> u64 {
    if common == 0 { seed } else { seed ^ mix(common as u64) }
}

fn head_check(seed: u64, at: usize, first: u64) -> u32 {
    (mix(seed.rotate_left(32) ^ mix(first) ^ at as u64) >> 32) as u32
}

/// Where the state of the record at this place stands.
pub(crate) const fn state_at(record: usize) -> usize {
    record.saturating_add(STATE_AT)
}

/// One record.
#[derive(Clone, Copy, Debug)]
pub(super) struct Record<'a> {
    pub(super) kind: Kind,
    pub(super) state: u8,
    /// The scope, counted among those of its segment.
    pub(super) scope: u16,
    /// Where it begins in its segment.
    pub(super) at: usize,
    pub(super) payload: &'a [u8],
    /// Fields of the span that are not in the payload, which are for `Short` ones only.
    pub(super) common: &'a [u8],
}

/// The record `at` this place of a segment, if there is one. `common` is the last `Common` before it: its place, 0 if
/// there is none, and its payload.
fn record<'a>(seed: u64, segment: &'a [u8], at: usize, common: (usize, &'a [u8])) -> Option<Record<'a>> {
    let head: [u8; RECORD_HEAD] = segment.get(at..).and_then(<[u8]>::first_chunk).copied()?;
    let first = u64_at(&head, 0) & !(0xff << (8 * STATE_AT));
    let kind = Kind::of((first >> 32) as u8)?;
    if u32_at(&head, 8) != head_check(seed, at, first) {
        return None;
    }
    let payload = segment.get(at.checked_add(RECORD_HEAD)?..)?.get(..first as u32 as usize)?;
    let common = if kind == Kind::Short { common } else { (0, &[][..]) };
    if u32_at(&head, 12) != checksum::of(payload_seed(seed, common.0), payload) {
        return None;
    }
    let state = (u64_at(&head, 0) >> (8 * STATE_AT)) as u8;
    Some(Record { kind, state, scope: (first >> 48) as u16, at, payload, common: common.1 })
}

/// The records of a segment in their order, past what is damaged.
#[derive(Debug)]
pub(super) struct Records<'a> {
    segment: &'a [u8],
    seed: u64,
    pub(super) sequence: u64,
    at: usize,
    /// The last `Common` record: its place, 0 before the first one, and its payload.
    common: (usize, &'a [u8]),
    /// Bytes that no record was found in since the last one.
    gap: u64,
    /// Bytes that no record was found in, with records behind them: not a torn write, since that is the last.
    pub(super) damaged: u64,
}

impl<'a> Records<'a> {
    /// The records of a segment, unless it was never used.
    pub(super) fn of(header: &Header, segment: &'a [u8]) -> Option<Self> {
        let (head, _) = segment.split_at_checked(SEGMENT_HEAD)?;
        let end = segment.len().checked_sub(SEGMENT_HEAD)?;
        let (segment, tail) = segment.split_at_checked(end)?;
        // The tail is written first. Where both are whole and differ, the segment was about to be used again.
        let (sequence, gap) = match sequence(header, head) {
            Some(sequence) => (sequence, 0),
            None => (sequence(header, tail)?, SEGMENT_HEAD as u64),
        };
        Some(Self {
            segment,
            seed: header.seed(sequence),
            sequence,
            at: SEGMENT_HEAD,
            common: (0, &[]),
            gap,
            damaged: 0,
        })
    }
}

impl<'a> Iterator for Records<'a> {
    type Item = Record<'a>;

    fn next(&mut self) -> Option<Record<'a>> {
        while self.at.saturating_add(RECORD_HEAD) <= self.segment.len() {
            if let Some(record) = record(self.seed, self.segment, self.at, self.common) {
                self.at = self.at.saturating_add(record_bytes(record.payload.len()));
                self.damaged = self.damaged.saturating_add(core::mem::take(&mut self.gap));
                match record.kind {
                    Kind::Full => {
                        self.at = self.segment.len();
                        return None;
                    }
                    Kind::Common => self.common = (record.at, record.payload),
                    _ => {}
                }
                return Some(record);
            }
            self.at = self.at.saturating_add(8);
            self.gap = self.gap.saturating_add(8);
        }
        None
    }
}

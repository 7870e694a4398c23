//! Attributes that are encoded as they are set, each key once: at the place where it was first set, with the value that
//! was set last (rule SPAN-once). OTLP forbids a collection that has a key twice.

use alloc::vec::Vec;

use crate::limits::Limits;
use crate::otlp::attribute::put_attribute;
use crate::otlp::reader::{Fields, Wire};
use crate::value::{Value, ValueRef};

/// Finds the entries of a collection in the bytes that they are written to. They stand at the end of these: nothing else
/// is appended meanwhile.
#[derive(Clone, Debug, Default)]
pub(crate) struct Index {
    /// Where the entries begin.
    base: usize,
    entries: usize,
    /// Of the hashes of the first entries: nearly all keys are seen to be new without a search.
    few: [u16; FEW],
    /// One for each entry; none as long as there are few of them.
    slots: Vec<Slot>,
}

#[derive(Clone, Copy, Debug)]
struct Slot {
    hash: u32,
    /// Where the entry begins, tag included.
    start: u32,
}

/// A key that was looked for.
#[derive(Clone, Copy)]
pub(crate) struct Place {
    hash: u32,
    /// Where its entry begins and ends.
    entry: Option<(usize, usize)>,
}

impl Place {
    /// Whether the collection has the key.
    pub(crate) const fn is_taken(&self) -> bool {
        self.entry.is_some()
    }
}

/// The most entries without slots.
const FEW: usize = 16;

impl Index {
    /// The index of a collection that begins here.
    pub(crate) fn at(base: usize) -> Self {
        Self { base, ..Self::default() }
    }

    /// How many entries there are.
    pub(crate) const fn len(&self) -> usize {
        self.entries
    }

    /// Looks for a key among the entries in `out`.
    #[inline]
    pub(crate) fn find(&self, out: &[u8], key: &str) -> Place {
        let hash = hash(key.as_bytes());
        // Without branches the compiler looks at all of them at once.
        let maybe = self.few.iter().fold(false, |any, other| any | (*other == hash as u16)) || !self.slots.is_empty();
        Place { hash, entry: if maybe { self.search(out, key.as_bytes(), hash) } else { None } }
    }

    #[cold]
    fn search(&self, out: &[u8], key: &[u8], hash: u32) -> Option<(usize, usize)> {
        if self.slots.is_empty() {
            return Entries::of(out, self.base).find(|entry| entry.key == key).map(|entry| (entry.start, entry.end));
        }
        self.slots.chunks(FEW).find_map(|chunk| {
            // As above.
            if !chunk.iter().fold(false, |any, slot| any | (slot.hash == hash)) {
                return None;
            }
            let same = chunk.iter().filter(|slot| slot.hash == hash);
            let mut entries = same.filter_map(|slot| Entries::of(out, slot.start as usize).next());
            entries.find(|entry| entry.key == key).map(|entry| (entry.start, entry.end))
        })
    }

    /// Writes an attribute to the place that its key was found to have, as a field of this number. Whether there was
    /// room: an index ends at 4 GiB.
    #[inline]
    pub(crate) fn put(
        &mut self,
        out: &mut Vec<u8>,
        field: u32,
        place: Place,
        key: &str,
        value: &ValueRef<'_>,
        limits: &Limits,
    ) -> bool {
        let Ok(start) = u32::try_from(out.len()) else { return false };
        put_attribute(out, field, key, value, limits.value_length, limits.value_depth);
        if let Some(old) = place.entry {
            self.replace(out, old, start as usize);
            return true;
        }
        match self.few.get_mut(self.entries) {
            Some(few) if self.slots.is_empty() => *few = place.hash as u16,
            _ => self.index(out, Slot { hash: place.hash, start }),
        }
        self.entries = self.entries.saturating_add(1);
        true
    }

    fn index(&mut self, out: &[u8], new: Slot) {
        if self.slots.is_empty() {
            let entries = Entries::of(out, self.base);
            self.slots.extend(entries.map(|entry| Slot { hash: hash(entry.key), start: entry.start as u32 }));
        } else {
            self.slots.push(new);
        }
    }

    /// Moves the last entry, which begins at `new`, to the place of another.
    #[cold]
    fn replace(&mut self, out: &mut Vec<u8>, (start, end): (usize, usize), new: usize) {
        let new_len = out.len().saturating_sub(new);
        if new_len == end.saturating_sub(start) {
            out.copy_within(new.., start);
            out.truncate(new);
            return;
        }
        if let Some(tail) = out.get_mut(start..) {
            tail.rotate_right(new_len);
        }
        out.drain(start.saturating_add(new_len)..end.saturating_add(new_len));
        self.shift(start, end, new_len);
    }

    /// Takes out an entry.
    #[cold]
    pub(crate) fn remove(&mut self, out: &mut Vec<u8>, place: Place) {
        if let Some((start, end)) = place.entry {
            let before = Entries::of(out, self.base).take_while(|entry| entry.start < start).count();
            if before < FEW {
                self.few.copy_within(before.saturating_add(1).., before);
            }
            out.drain(start..end);
            self.entries = self.entries.saturating_sub(1);
            self.slots.retain(|slot| slot.start as usize != start);
            self.shift(start, end, 0);
        }
    }

    /// What stood behind `end` now stands `new_len` behind `start`.
    fn shift(&mut self, start: usize, end: usize, new_len: usize) {
        for slot in self.slots.iter_mut().filter(|slot| slot.start as usize > start) {
            let moved = (slot.start as usize).saturating_add(new_len).saturating_sub(end.saturating_sub(start));
            // The bytes are no more than they were when the new entry stood behind them.
            slot.start = u32::try_from(moved).unwrap_or(u32::MAX);
        }
    }
}

/// Writes attributes as fields of this number behind what is there, each key once; returns how many it dropped: those
/// beyond `room`, and with an empty key, which OpenTelemetry does not allow.
pub(crate) fn put_all<'v>(
    out: &mut Vec<u8>,
    field: u32,
    attributes: impl IntoIterator<Item = (&'v str, Value<'v>)>,
    room: usize,
    limits: &Limits,
) -> u32 {
    let mut index = Index::at(out.len());
    let mut dropped = 0_u32;
    for (key, value) in attributes {
        let place = index.find(out, key);
        let there = !key.is_empty()
            && (place.is_taken() || index.len() < room)
            && index.put(out, field, place, key, &(&value).into(), limits);
        dropped = dropped.saturating_add(u32::from(!there));
    }
    dropped
}

/// The entries from one on.
struct Entries<'o> {
    fields: Fields<'o>,
    out: &'o [u8],
}

struct Entry<'o> {
    start: usize,
    end: usize,
    key: &'o [u8],
}

impl<'o> Entries<'o> {
    fn of(out: &'o [u8], start: usize) -> Self {
        Self { fields: Fields::of(out.get(start..).unwrap_or_default()), out }
    }

    fn offset(&self) -> usize {
        self.out.len().saturating_sub(self.fields.rest().len())
    }
}

impl<'o> Iterator for Entries<'o> {
    type Item = Entry<'o>;

    fn next(&mut self) -> Option<Self::Item> {
        let start = self.offset();
        // Entries were written here: none is malformed.
        let (_, Wire::Bytes(entry)) = self.fields.next()?.ok()? else { return None };
        let (_, Wire::Bytes(key)) = Fields::of(entry).next()?.ok()? else { return None };
        Some(Entry { start, end: self.offset(), key })
    }
}

/// A hash that is fast and spreads the keys of one span well. It is no defence against keys made to collide: these cost a
/// comparison each, up to the limit of attributes.
#[inline]
pub(crate) fn hash(key: &[u8]) -> u32 {
    let len = key.len() as u64;
    let hash = if let (Some(first), Some(last)) = (key.first_chunk(), key.last_chunk()) {
        // The two overlap where there are fewer than 32 bytes.
        let (first, last) = (u128::from_le_bytes(*first), u128::from_le_bytes(*last));
        let mut hash = len;
        if key.len() > 32 {
            for chunk in key.chunks_exact(16).skip(1).filter_map(|chunk| chunk.first_chunk()) {
                hash = mix(hash, u128::from_le_bytes(*chunk));
            }
        }
        mix(hash, first.wrapping_add(last.rotate_left(23)))
    } else if let (Some(first), Some(last)) = (key.first_chunk(), key.last_chunk()) {
        mix(len, u128::from(u64::from_le_bytes(*first)) << 64 | u128::from(u64::from_le_bytes(*last)))
    } else {
        mix(len, key.iter().fold(0, |number, byte| number << 8 | u128::from(*byte)))
    };
    (hash >> 32) as u32
}

/// Multiplies the halves of 16 bytes and folds the product, whose every bit hangs on all of them.
#[inline]
fn mix(hash: u64, bytes: u128) -> u64 {
    const FACTORS: (u64, u64) = (0x9e37_79b9_7f4a_7c15, 0xbf58_476d_1ce4_e5b9);
    let (low, high) = (bytes as u64 ^ FACTORS.0, (bytes >> 64) as u64 ^ FACTORS.1 ^ hash);
    let product = u128::from(low).wrapping_mul(u128::from(high));
    product as u64 ^ (product >> 64) as u64
}

//! Writing protobuf's wire format into a byte vector: tags, varints, fixed-width numbers and nested messages.
//!
//! A nested message is written in place. Its length is known only afterwards, so room for a likely one is left and the
//! content is moved when it turns out otherwise ([`open`], [`open_long`]): no scratch buffers, no second pass, minimal
//! varints.

use alloc::vec::Vec;

/// Wire type of varints.
pub(crate) const VARINT: u32 = 0;
/// Wire type of eight little-endian bytes.
pub(crate) const FIXED64: u32 = 1;
/// Wire type of bytes behind their length.
pub(crate) const LEN: u32 = 2;
/// Wire type of four little-endian bytes.
pub(crate) const FIXED32: u32 = 5;

/// Appends a varint.
#[inline]
pub fn put_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push((value as u8) | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// How many bytes a varint takes.
#[inline]
pub const fn varint_len(value: u64) -> usize {
    // ceil(bits / 7), and one byte for zero.
    let bits = 64_u32.saturating_sub((value | 1).leading_zeros());
    (bits as usize).div_ceil(7)
}

#[inline]
fn put_tag(out: &mut Vec<u8>, field: u32, wire_type: u32) {
    put_varint(out, u64::from(field << 3 | wire_type));
}

/// Appends a varint field, or nothing if it is zero (proto3's default).
#[inline]
pub fn put_uint(out: &mut Vec<u8>, field: u32, value: u64) {
    if value != 0 {
        put_tag(out, field, VARINT);
        put_varint(out, value);
    }
}

/// Appends a varint field even if it is zero, as members of a `oneof` need it.
#[inline]
pub fn put_uint_always(out: &mut Vec<u8>, field: u32, value: u64) {
    put_tag(out, field, VARINT);
    put_varint(out, value);
}

/// Appends the first `len` of these bytes, at most 16, the lowest first: fields put together in registers, since bytes
/// that are written one by one and then read as one are slow to read.
#[inline]
pub(crate) fn put_packed(out: &mut Vec<u8>, bytes: u128, len: usize) {
    out.extend_from_slice(&bytes.to_le_bytes());
    out.truncate(out.len().wrapping_sub(16_usize.wrapping_sub(len)));
}

/// Appends a `fixed32` field, or nothing if it is zero.
#[inline]
pub fn put_fixed32(out: &mut Vec<u8>, field: u32, value: u32) {
    if value != 0 {
        put_tag(out, field, FIXED32);
        out.extend_from_slice(&value.to_le_bytes());
    }
}

/// Appends a `fixed64` field, or nothing if it is zero.
#[inline]
pub fn put_fixed64(out: &mut Vec<u8>, field: u32, value: u64) {
    if value != 0 {
        put_tag(out, field, FIXED64);
        out.extend_from_slice(&value.to_le_bytes());
    }
}

/// Appends a `double` field even if it is zero, as members of a `oneof` need it.
#[inline]
pub fn put_double_always(out: &mut Vec<u8>, field: u32, value: f64) {
    put_tag(out, field, FIXED64);
    out.extend_from_slice(&value.to_le_bytes());
}

/// Appends a string or bytes field, or nothing if it is empty.
#[inline]
pub fn put_bytes(out: &mut Vec<u8>, field: u32, value: &[u8]) {
    if !value.is_empty() {
        put_bytes_always(out, field, value);
    }
}

/// Appends a string or bytes field even if it is empty, as members of a `oneof` need it. A message that is encoded
/// already is appended in the same way.
#[inline]
pub fn put_bytes_always(out: &mut Vec<u8>, field: u32, value: &[u8]) {
    if field < 0x10 && value.len() < 0x80 {
        out.extend_from_slice(&[(field << 3 | LEN) as u8, value.len() as u8]);
    } else {
        put_tag(out, field, LEN);
        put_varint(out, value.len() as u64);
    }
    out.extend_from_slice(value);
}

/// Appends a nested message whose content `write` appends.
#[inline]
pub fn message(out: &mut Vec<u8>, field: u32, write: impl FnOnce(&mut Vec<u8>)) {
    let open = open(out, field);
    write(out);
    close(out, open);
}

/// Where an open message began: see [`open`].
#[derive(Debug)]
#[must_use = "a message that is not closed has no length"]
pub struct Open {
    content: usize,
    /// Bytes that were left for the length.
    room: usize,
}

/// Begins a nested message: what is appended until [`close`] is its content. Messages close in reverse order.
#[inline]
pub fn open(out: &mut Vec<u8>, field: u32) -> Open {
    put_tag(out, field, LEN);
    // Most messages are shorter than 128 bytes: room for a length of one byte.
    out.push(0);
    Open { content: out.len(), room: 1 }
}

/// As [`open`], for messages that mostly have 128 bytes to 16 KiB.
#[inline]
pub fn open_long(out: &mut Vec<u8>, field: u32) -> Open {
    put_tag(out, field, LEN);
    out.extend_from_slice(&[0; 2]);
    Open { content: out.len(), room: 2 }
}

/// Ends a nested message: writes its length where it belongs.
#[inline]
pub fn close(out: &mut Vec<u8>, open: Open) {
    let Open { content, room } = open;
    let length = out.len().saturating_sub(content);
    let slot = content.saturating_sub(room);
    match (room, length) {
        (1, 0..0x80) => {
            if let Some(byte) = out.get_mut(slot) {
                *byte = length as u8;
            }
        }
        (2, 0x80..0x4000) => {
            if let Some([low, high]) = out.get_mut(slot..content) {
                (*low, *high) = (length as u8 | 0x80, (length >> 7) as u8);
            }
        }
        _ => close_elsewhere(out, content, slot, length),
    }
}

/// The length takes more bytes than were left, or fewer: the content moves.
#[cold]
fn close_elsewhere(out: &mut Vec<u8>, content: usize, slot: usize, length: usize) {
    let end = out.len();
    let moved = slot.saturating_add(varint_len(length as u64));
    let new_end = moved.saturating_add(length);
    out.resize(end.max(new_end), 0);
    out.copy_within(content..end, moved);
    out.truncate(new_end);
    let mut rest = length as u64;
    for byte in out.iter_mut().take(moved).skip(slot) {
        *byte = (rest as u8 & 0x7f) | if rest < 0x80 { 0 } else { 0x80 };
        rest >>= 7;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec;

    #[test]
    fn varints_have_their_shortest_form() {
        for (value, bytes) in [
            (0, &[0][..]),
            (127, &[127]),
            (128, &[0x80, 1]),
            (16_383, &[0xff, 0x7f]),
            (16_384, &[0x80, 0x80, 1]),
            (u64::MAX, &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1]),
        ] {
            let mut out = Vec::new();
            put_varint(&mut out, value);
            assert_eq!(out, bytes);
            assert_eq!(varint_len(value), bytes.len(), "{value}");
        }
    }

    #[test]
    fn messages_of_every_length_class_nest() {
        for length in [0, 1, 127, 128, 129, 16_383, 16_384, 2_097_151, 2_097_152] {
            let content = vec![7_u8; length];
            let mut out = vec![9];
            message(&mut out, 3, |out| message(out, 1, |out| out.extend_from_slice(&content)));
            let mut inner = Vec::new();
            put_bytes_always(&mut inner, 1, &content);
            let mut expected = vec![9];
            put_bytes_always(&mut expected, 3, &inner);
            assert!(out == expected, "{length}");
            let mut out = vec![9];
            let open = open_long(&mut out, 3);
            out.extend_from_slice(&inner);
            close(&mut out, open);
            assert!(out == expected, "{length}");
        }
    }

    #[test]
    fn defaults_are_left_out_unless_asked_for() {
        let mut out = Vec::new();
        put_uint(&mut out, 1, 0);
        put_fixed32(&mut out, 1, 0);
        put_fixed64(&mut out, 1, 0);
        put_bytes(&mut out, 1, b"");
        assert!(out.is_empty());
        put_uint_always(&mut out, 2, 0);
        put_bytes_always(&mut out, 1, b"");
        put_double_always(&mut out, 4, 0.0);
        assert_eq!(out, [0x10, 0, 0x0a, 0, 0x21, 0, 0, 0, 0, 0, 0, 0, 0]);
    }
}

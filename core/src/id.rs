//! Identifiers of traces and spans, and the trace flags: W3C Trace Context level 2, §3.2.2.
//!
//! Core has no source of randomness: whoever makes an id passes random bytes in (see [`TraceId::random`]).

use core::fmt;

/// A trace id: 16 bytes, not all zero.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TraceId([u8; 16]);

/// A span id (the `parent-id` of `traceparent`): 8 bytes, not all zero.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SpanId([u8; 8]);

macro_rules! id {
    ($name:ident, $bytes:literal, $hex:literal, $what:literal) => {
        impl $name {
            /// The id with these bytes, or `None` if all of them are zero (rule TP6).
            pub const fn from_bytes(bytes: [u8; $bytes]) -> Option<Self> {
                // `==` on arrays is not const.
                let mut i = 0;
                while i < $bytes {
                    #[allow(clippy::indexing_slicing, reason = "i < the array's length")]
                    if bytes[i] != 0 {
                        return Some(Self(bytes));
                    }
                    i = i.saturating_add(1);
                }
                None
            }

            /// The id as its bytes, most significant first.
            pub const fn to_bytes(self) -> [u8; $bytes] {
                self.0
            }

            #[doc = concat!("Reads exactly ", stringify!($hex), " lower-case hex digits that are not all zero (rules TP5, TP6).")]
            pub fn from_hex(text: &[u8]) -> Option<Self> {
                decode_hex::<$bytes>(text).and_then(Self::from_bytes)
            }

            #[doc = concat!("The id as ", stringify!($hex), " lower-case hex digits, in ASCII.")]
            pub fn to_hex(self) -> [u8; $hex] {
                let mut out = [b'0'; $hex];
                encode_hex(&self.0, &mut out);
                out
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(ascii(&self.to_hex()))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!($what, "({})"), self)
            }
        }
    };
}

id!(TraceId, 16, 32, "TraceId");
id!(SpanId, 8, 16, "SpanId");

impl TraceId {
    /// A new id from random bytes. All zero, which a working source gives once in 2^128 times, becomes an id with
    /// its last bit set, so that making an id cannot fail.
    pub const fn random(bytes: [u8; 16]) -> Self {
        match Self::from_bytes(bytes) {
            Some(id) => id,
            None => Self([0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]),
        }
    }
}

impl SpanId {
    /// A new id from random bytes; all zero becomes an id with its last bit set.
    pub const fn random(bytes: [u8; 8]) -> Self {
        match Self::from_bytes(bytes) {
            Some(id) => id,
            None => Self([0, 0, 0, 0, 0, 0, 0, 1]),
        }
    }
}

/// The trace flags of `traceparent`: bit 0 sampled, bit 1 random; the others are never sent (rules TP8, TP9).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default, Debug)]
pub struct TraceFlags(u8);

impl TraceFlags {
    /// The caller may have recorded this trace.
    pub const SAMPLED: Self = Self(0x01);
    /// The right-most 7 bytes of the trace id are random (level 2).
    pub const RANDOM: Self = Self(0x02);

    /// The flags in this byte that level 2 defines; the other bits are dropped (rule TP9).
    pub const fn from_bits(bits: u8) -> Self {
        Self(bits & 0x03)
    }

    /// The flags as a byte.
    pub const fn bits(self) -> u8 {
        self.0
    }

    /// Whether the sampled bit is set.
    pub const fn is_sampled(self) -> bool {
        self.0 & Self::SAMPLED.0 != 0
    }

    /// Whether the random bit is set.
    pub const fn is_random(self) -> bool {
        self.0 & Self::RANDOM.0 != 0
    }

    /// These flags with the sampled bit set or cleared.
    #[must_use]
    pub const fn with_sampled(self, sampled: bool) -> Self {
        Self(self.0 & !Self::SAMPLED.0 | sampled as u8)
    }
}

impl core::ops::BitOr for TraceFlags {
    type Output = Self;
    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

/// Writes `bytes` as lower-case hex into `out`, which is twice as long; what does not fit is left out.
#[inline]
pub(crate) fn encode_hex(bytes: &[u8], out: &mut [u8]) {
    let (words, rest) = bytes.split_at(bytes.len() & !3);
    let (word_digits, rest_digits) = out.split_at_mut(words.len().saturating_mul(2).min(out.len()));
    for (word, digits) in words.chunks_exact(4).zip(word_digits.chunks_exact_mut(8)) {
        let word = u32::from_le_bytes(word.try_into().unwrap_or_default());
        digits.copy_from_slice(&words::to_digits(word).to_le_bytes());
    }
    for (byte, digits) in rest.iter().zip(rest_digits.chunks_exact_mut(2)) {
        digits.iter_mut().zip(words::to_digits((*byte).into()).to_le_bytes()).for_each(|(to, from)| *to = from);
    }
}

/// Reads exactly `2 * N` lower-case hex digits (rule TP5).
#[inline]
pub(crate) fn decode_hex<const N: usize>(text: &[u8]) -> Option<[u8; N]> {
    if text.len() != N.saturating_mul(2) {
        return None;
    }
    let mut out = [0; N];
    // Errors are gathered and looked at once: no branch per digit.
    let mut wrong = 0;
    let (words, rest) = out.split_at_mut(N & !3);
    for (word, digits) in words.chunks_exact_mut(4).zip(text.chunks_exact(8)) {
        let (value, bad) = words::from_digits(u64::from_le_bytes(digits.try_into().unwrap_or_default()));
        wrong |= bad;
        word.copy_from_slice(&value.to_le_bytes());
    }
    for (byte, digits) in rest.iter_mut().rev().zip(text.rchunks_exact(2)) {
        let digits = u16::from_le_bytes(digits.try_into().unwrap_or_default());
        // The digits that a whole word has besides are zeros.
        let (value, bad) = words::from_digits(u64::from(digits) | words::ZEROS << 16);
        wrong |= bad;
        *byte = value.to_le_bytes()[0];
    }
    (wrong == 0).then_some(out)
}

/// Eight hex digits at a time, each in its octet of a word, the first one lowest. No octet carries into the next: all
/// sums stay below 256.
mod words {
    const ONES: u64 = 0x0101_0101_0101_0101;
    /// Eight times the digit `0`.
    pub(super) const ZEROS: u64 = ONES.wrapping_mul(b'0' as u64);
    /// `a` is that much above what follows `9`.
    const GAP: u64 = (b'a' - b'9' - 1) as u64;

    /// Four bytes as digits.
    #[inline]
    pub(super) const fn to_digits(bytes: u32) -> u64 {
        let word = bytes as u64;
        let word = (word | word << 16) & 0x0000_ffff_0000_ffff;
        let word = (word | word << 8) & 0x00ff_00ff_00ff_00ff;
        let values = (word >> 4 | word << 8) & ONES.wrapping_mul(0x0f);
        let letters = values.wrapping_add(ONES.wrapping_mul(6)) >> 4 & ONES;
        values.wrapping_add(ZEROS).wrapping_add(letters.wrapping_mul(GAP))
    }

    /// Digits as four bytes, and zero if all of them are lower-case hex digits.
    #[inline]
    pub(super) const fn from_digits(digits: u64) -> (u32, u64) {
        // Bit 6 tells letters from digits, and the low half is the value, or from `a` on the value less nine.
        let letters = digits >> 6 & ONES;
        let values = (digits & ONES.wrapping_mul(0x0f)).wrapping_add(letters.wrapping_mul(9));
        // The high half is that of `0` or of `a`; letters, and no digits, are ten or more; none is above fifteen.
        let wrong = (digits & ONES.wrapping_mul(0xf0)) ^ letters.wrapping_add(ONES).wrapping_mul(b'0' as u64)
            | (values.wrapping_add(ONES.wrapping_mul(6)) >> 4 & ONES) ^ letters
            | values & ONES.wrapping_mul(0x10);
        let word = (values << 4 | values >> 8) & 0x00ff_00ff_00ff_00ff;
        let word = (word | word >> 8) & 0x0000_ffff_0000_ffff;
        ((word | word >> 16) as u32, wrong)
    }
}

/// ASCII that this crate wrote itself, as text.
pub(crate) fn ascii(bytes: &[u8]) -> &str {
    core::str::from_utf8(bytes).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::ToString;

    #[test]
    fn hex_round_trips_and_is_strict() {
        let text = b"0af7651916cd43dd8448eb211c80319c";
        let id = TraceId::from_hex(text).unwrap();
        assert_eq!(id.to_hex(), *text);
        assert_eq!(id.to_string().as_bytes(), text);
        for bad in
            [&b"0AF7651916cd43dd8448eb211c80319c"[..], &text[1..], b"0af7651916cd43dd8448eb211c80319g", &[b'0'; 32]]
        {
            assert_eq!(TraceId::from_hex(bad), None, "{}", ascii(bad));
        }
        assert_eq!(
            SpanId::from_hex(b"00f067aa0ba902b7").unwrap().to_bytes(),
            [0, 0xf0, 0x67, 0xaa, 0x0b, 0xa9, 2, 0xb7]
        );
        // Every octet that is no digit is refused wherever it stands.
        for octet in 0..=255u8 {
            let mut text = *b"00f067aa0ba902b7";
            for at in 0..16 {
                let before = text[at];
                text[at] = octet;
                assert_eq!(SpanId::from_hex(&text).is_some(), matches!(octet, b'0'..=b'9' | b'a'..=b'f'));
                text[at] = before;
            }
        }
    }

    #[test]
    fn random_is_never_zero() {
        assert_eq!(TraceId::random([0; 16]).to_bytes()[15], 1);
        assert_eq!(SpanId::random([0; 8]).to_bytes()[7], 1);
        assert_eq!(SpanId::random([7; 8]).to_bytes(), [7; 8]);
    }

    #[test]
    fn flags_keep_what_level_2_defines() {
        assert_eq!(TraceFlags::from_bits(0xff).bits(), 3);
        assert_eq!(TraceFlags::from_bits(2).with_sampled(true).bits(), 3);
        assert_eq!(TraceFlags::from_bits(3).with_sampled(false).bits(), 2);
    }
}

//! Identifiers of traces and spans, and the trace flags: W3C Trace Context level 2, §3.2.2.
//!
//! Core has no source of randomness: whoever makes an id passes random bytes in (see [`TraceId::random`]).

use core::fmt;
use core::num::NonZero;

/// A trace id: 16 bytes, not all zero. A system with shorter ids fills them up with zeros on the left (rule TP15): such
/// an id is one like any other.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
// An integer: that it is not zero is part of the type, and it is passed in registers.
pub struct TraceId(NonZero<u128>);

/// A span id (the `parent-id` of `traceparent`): 8 bytes, not all zero.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SpanId(NonZero<u64>);

macro_rules! id {
    ($name:ident, $integer:ty, $bytes:literal, $hex:literal, $what:literal) => {
        impl $name {
            /// The id with these bytes, or `None` if all of them are zero (rule TP6).
            pub const fn from_bytes(bytes: [u8; $bytes]) -> Option<Self> {
                match NonZero::new(<$integer>::from_be_bytes(bytes)) {
                    Some(id) => Some(Self(id)),
                    None => None,
                }
            }

            /// A new id from random bytes. All zero, which a working source never gives, becomes an id with its last bit
            /// set, so that making an id cannot fail.
            pub const fn random(bytes: [u8; $bytes]) -> Self {
                match Self::from_bytes(bytes) {
                    Some(id) => id,
                    None => Self(NonZero::<$integer>::MIN),
                }
            }

            /// The id as its bytes, most significant first.
            pub const fn to_bytes(self) -> [u8; $bytes] {
                self.0.get().to_be_bytes()
            }

            #[doc = concat!("Reads exactly ", stringify!($hex), " lower-case hex digits that are not all zero (rules TP5, TP6).")]
            pub fn from_hex(text: &[u8]) -> Option<Self> {
                let mut bytes = [0; $bytes];
                if decode_hex(text, &mut bytes) { Self::from_bytes(bytes) } else { None }
            }

            #[doc = concat!("The id as ", stringify!($hex), " lower-case hex digits, in ASCII.")]
            pub fn to_hex(self) -> [u8; $hex] {
                let mut out = [b'0'; $hex];
                encode_hex(&self.to_bytes(), &mut out);
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

id!(TraceId, u128, 16, 32, "TraceId");
id!(SpanId, u64, 8, 16, "SpanId");

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
    for (byte, pair) in bytes.iter().zip(out.chunks_exact_mut(2)) {
        if let [high, low] = pair {
            *high = hex_digit(byte >> 4);
            *low = hex_digit(byte & 0x0f);
        }
    }
}

/// Reads exactly `2 * N` lower-case hex digits (rule TP5); false if the text is something else. Not inlined: what stays
/// in memory is read many digits at a time, while compilers take small arrays that they see through apart.
#[inline(never)]
pub(crate) fn decode_hex<const N: usize>(text: &[u8], out: &mut [u8; N]) -> bool {
    let mut values = [[0; 2]; N];
    let digits = values.as_flattened_mut();
    if text.len() != digits.len() {
        return false;
    }
    // Errors are gathered and looked at once: a branch per digit would keep them from being read many at a time.
    let mut wrong = 0;
    for (digit, octet) in digits.iter_mut().zip(text) {
        let (value, error) = hex_value(*octet);
        *digit = value;
        wrong |= error;
    }
    for (byte, [high, low]) in out.iter_mut().zip(values) {
        *byte = high << 4 | low;
    }
    wrong == 0
}

#[allow(clippy::arithmetic_side_effects, reason = "a nibble is below 16")]
const fn hex_digit(nibble: u8) -> u8 {
    if nibble < 10 { b'0' + nibble } else { b'a' + (nibble - 10) }
}

/// The byte that two lower-case hex digits stand for (rule TP5).
#[inline]
pub(crate) const fn byte_of_hex(high: u8, low: u8) -> Option<u8> {
    // For two digits, branches are faster than what decode_hex does.
    const fn value(octet: u8) -> Option<u8> {
        match octet {
            b'0'..=b'9' => Some(octet.wrapping_sub(b'0')),
            b'a'..=b'f' => Some(octet.wrapping_sub(b'a' - 10)),
            _ => None,
        }
    }
    match (value(high), value(low)) {
        (Some(high), Some(low)) => Some(high << 4 | low),
        _ => None,
    }
}

/// The value of a lower-case hex digit, and 0; what is not 0 there says that the octet is none (rule TP5). It does only
/// what vector units can do for 16 octets at once: comparisons that are signed, and no branch.
#[inline]
const fn hex_value(octet: u8) -> (u8, u8) {
    const fn mask(is: bool) -> u8 {
        if is { 0xff } else { 0 }
    }
    let behind_digits = mask(octet as i8 > b'9' as i8);
    // From '9' + 1 to 'a' there are 39 octets. What stands between them has a value below 10 then, or none at all.
    let value = octet.wrapping_sub(b'0').wrapping_sub(behind_digits & 39);
    (value, value & 0xf0 | behind_digits ^ mask(value as i8 > 9))
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

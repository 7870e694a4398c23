//! The `traceparent` header: W3C Trace Context level 2, §3.2, rules TP2 to TP11.

use crate::id::{SpanId, TraceFlags, TraceId, byte_of_hex, decode_hex, encode_hex};
use crate::octets::trim_ows;
use crate::rule::Rule;

/// What a `traceparent` says. Its version is always 00: a later one is read, and sent on, as 00 (rule TP8).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Traceparent {
    /// The trace.
    pub trace_id: TraceId,
    /// The caller's span: the `parent-id` field.
    pub span_id: SpanId,
    /// The flags that level 2 defines; others are cleared (rules TP8, TP9).
    pub flags: TraceFlags,
}

impl Traceparent {
    /// The length of a version 00 `traceparent`, in bytes.
    pub const BYTES: usize = 55;

    /// Reads one header value. White space around it is not part of it (rule TP2).
    ///
    /// # Errors
    ///
    /// The rule that the value breaks: TP3 to TP7, or TP11 for a value that several were joined into.
    #[inline]
    pub fn parse(value: &[u8]) -> Result<Self, Rule> {
        let value = trim_ows(value);
        // Rule TP11: WSGI and Node join several headers with a comma, so a comma says that there were several.
        parse_trimmed(value).map_err(|rule| if value.contains(&b',') { Rule::TraceparentDuplicate } else { rule })
    }

    /// Reads all values of the header: none is no `traceparent`, and of several none can be trusted.
    ///
    /// # Errors
    ///
    /// As [`parse`](Self::parse), and rule TP11 if there are several values, equal or not.
    #[inline]
    pub fn parse_all(values: &[&[u8]]) -> Result<Option<Self>, Rule> {
        match values {
            [] => Ok(None),
            [value] => Self::parse(value).map(Some),
            _ => Err(Rule::TraceparentDuplicate),
        }
    }

    /// The header value, in ASCII: version 00 with only the flags of level 2 (rules TP8, TP9).
    pub fn to_bytes(&self) -> [u8; Self::BYTES] {
        let mut out = *b"00-................................-................-..";
        // All fields at once: compilers write many digits at a time.
        let (mut bytes, mut digits) = ([0; 32], [0; 64]);
        for (place, field) in [
            (0..16, &self.trace_id.to_bytes()[..]),
            (16..24, &self.span_id.to_bytes()[..]),
            (24..25, &[self.flags.bits()][..]),
        ] {
            bytes.get_mut(place).unwrap_or_default().copy_from_slice(field);
        }
        encode_hex(&bytes, &mut digits);
        for (to, from) in [(3..35, 0..32), (36..52, 32..48), (53..55, 48..50)] {
            out.get_mut(to).unwrap_or_default().copy_from_slice(digits.get(from).unwrap_or_default());
        }
        out
    }
}

#[inline]
fn parse_trimmed(value: &[u8]) -> Result<Traceparent, Rule> {
    let shape = check_version(value)?;
    // Rule TP4: the fields of version 00, which every later one begins with (rule TP7), stand at fixed places.
    let Some([_, _, b'-', ids @ .., b'-', high, low]) = value.first_chunk::<{ Traceparent::BYTES }>() else {
        return Err(shape);
    };
    let (Some((trace_id, [b'-', ..])), Some(span_id)) = (ids.split_first_chunk::<32>(), ids.last_chunk::<16>()) else {
        return Err(shape);
    };
    // Rule TP5: the digits are lower-case; decode_hex takes no others. Those of the ids are read at once.
    let mut digits = [[0; 16]; 3];
    if let (Some(first), Some(last), [trace_high, trace_low, span]) =
        (trace_id.first_chunk(), trace_id.last_chunk(), &mut digits)
    {
        (*trace_high, *trace_low, *span) = (*first, *last, *span_id);
    }
    let mut ids = [0; 24];
    let (true, Some(flags)) = (decode_hex(digits.as_flattened(), &mut ids), byte_of_hex(*high, *low)) else {
        return Err(Rule::TraceparentHex);
    };
    // Rule TP6: neither id is all zero.
    let (Some(trace_id), Some(span_id)) = (
        ids.first_chunk().and_then(|bytes| TraceId::from_bytes(*bytes)),
        ids.last_chunk().and_then(|bytes| SpanId::from_bytes(*bytes)),
    ) else {
        return Err(Rule::TraceparentZero);
    };
    Ok(Traceparent { trace_id, span_id, flags: TraceFlags::from_bits(flags) })
}

/// Checks the version and the length that goes with it, and returns the rule that describes this version's shape.
#[inline]
fn check_version(value: &[u8]) -> Result<Rule, Rule> {
    match value {
        // Rule TP4: version 00 is exactly 55 characters.
        [b'0', b'0', b'-', ..] if value.len() == Traceparent::BYTES => Ok(Rule::TraceparentLength),
        [b'0', b'0', b'-', ..] => Err(Rule::TraceparentLength),
        // Rule TP3: version ff is invalid.
        [b'f', b'f', b'-', ..] => Err(Rule::TraceparentVersion),
        [high, low, b'-', ..] if byte_of_hex(*high, *low).is_some() => match value.get(Traceparent::BYTES..) {
            // Rule TP7: what a later version adds is set off by a dash and ignored. A comma in it would hide a
            // second traceparent (rule TP11).
            Some([] | [b'-', ..]) if !value.contains(&b',') => Ok(Rule::TraceparentFuture),
            _ => Err(Rule::TraceparentFuture),
        },
        [high, low, b'-', ..] if high.is_ascii_hexdigit() && low.is_ascii_hexdigit() => Err(Rule::TraceparentHex),
        _ => Err(Rule::TraceparentVersion),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const VALID: &[u8] = b"00-0af7651916cd43dd8448eb211c80319c-00f067aa0ba902b7-03";

    #[test]
    fn round_trips() {
        let parsed = Traceparent::parse(VALID).unwrap();
        assert_eq!(parsed.flags.bits(), 3);
        assert_eq!(parsed.to_bytes(), VALID);
    }

    #[test]
    fn every_single_octet_change_is_seen() {
        // Whatever octet stands wherever: the value is either refused or read as the same text with its flags masked.
        for at in 0..VALID.len() {
            for octet in 0..=255u8 {
                let mut text = VALID.to_vec();
                text[at] = octet;
                let Ok(parsed) = Traceparent::parse(&text) else { continue };
                text[53] = b'0';
                text[54] = b'0' | (text[54] & 3);
                if octet.is_ascii_hexdigit() && at < 2 {
                    assert_ne!(&text[..2], b"ff");
                    text[..2].copy_from_slice(b"00");
                }
                if at == 54 && octet.is_ascii_alphabetic() {
                    text[54] = b'0' | ((octet - b'a' + 10) & 3);
                }
                assert_eq!(parsed.to_bytes()[..], text, "octet {octet} at {at}");
            }
        }
    }

    #[test]
    fn several_values_are_none() {
        assert_eq!(Traceparent::parse_all(&[]), Ok(None));
        assert!(matches!(Traceparent::parse_all(&[VALID]), Ok(Some(_))));
        assert_eq!(Traceparent::parse_all(&[VALID, VALID]), Err(Rule::TraceparentDuplicate));
    }
}

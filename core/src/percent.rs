//! Percent-encoding of baggage values: W3C Baggage §3.3.1, rules B4, B5 and B12.

use alloc::borrow::Cow;
use alloc::string::String;
use alloc::vec::Vec;

use crate::octets::{self, PLAIN, find, run};

/// Decodes `%XX` once (rule B5): octets that are not UTF-8 become U+FFFD, `+` stays a plus, and a `%` that two hex
/// digits do not follow stays as it is. Borrows when there is nothing to decode.
pub(crate) fn decode(text: &str) -> Cow<'_, str> {
    let Some(before) = find(text.as_bytes(), b'%').and_then(|at| text.get(..at)) else { return Cow::Borrowed(text) };
    let mut out = Vec::with_capacity(text.len());
    out.extend_from_slice(before.as_bytes());
    let mut rest = text.as_bytes().get(before.len()..).unwrap_or_default();
    while let [octet, tail @ ..] = rest {
        rest = tail;
        if *octet == b'%' {
            if let [high, low, tail @ ..] = rest {
                if let (Some(high), Some(low)) = (hex_value(*high), hex_value(*low)) {
                    out.push(high << 4 | low);
                    rest = tail;
                    continue;
                }
            }
        }
        out.push(*octet);
    }
    Cow::Owned(String::from_utf8(out).unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned()))
}

/// Decodes as forms are: the same, but `+` is a space. OpenTelemetry's API for Python reads and writes baggage so.
pub(crate) fn decode_form(text: &str) -> Cow<'_, str> {
    if find(text.as_bytes(), b'+').is_none() {
        return decode(text);
    }
    Cow::Owned(decode(&text.replace('+', " ")).into_owned())
}

/// Appends `text` with everything encoded but `A-Z a-z 0-9 _ . - ~ /` (rule B12).
#[inline]
pub(crate) fn encode(text: &str, out: &mut String) {
    // Most texts are plain.
    if octets::all(text.as_bytes(), PLAIN) { out.push_str(text) } else { encode_some(text, out) }
}

#[inline(never)]
fn encode_some(text: &str, out: &mut String) {
    let mut rest = text;
    loop {
        // What is plain is copied at once.
        let (plain, behind) = rest.split_at_checked(run(rest.as_bytes(), PLAIN)).unwrap_or((rest, ""));
        out.push_str(plain);
        let Some(other) = behind.chars().next() else { return };
        for octet in other.encode_utf8(&mut [0; 4]).bytes() {
            out.extend(['%', hex_digit(octet >> 4), hex_digit(octet & 0x0f)]);
        }
        rest = behind.get(other.len_utf8()..).unwrap_or_default();
    }
}

fn hex_value(octet: u8) -> Option<u8> {
    char::from(octet).to_digit(16).and_then(|value| u8::try_from(value).ok())
}

fn hex_digit(nibble: u8) -> char {
    char::from_digit(nibble.into(), 16).unwrap_or_default().to_ascii_uppercase()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decodes_once_and_never_fails() {
        for (text, expected) in [
            ("a+b", "a+b"),
            ("a%20b", "a b"),
            ("%2520", "%20"),
            ("%c3%A4", "ä"),
            ("%", "%"),
            ("%4", "%4"),
            ("%zz%41", "%zzA"),
            ("%%41", "%A"),
            ("%4%41", "%4A"),
            ("%ff", "\u{fffd}"),
            ("a%C3b", "a\u{fffd}b"),
            ("%F0%9F%98", "\u{fffd}"),
            ("ä%41", "äA"),
        ] {
            assert_eq!(decode(text), expected, "{text}");
        }
        assert!(matches!(decode("plain"), Cow::Borrowed("plain")));
    }

    #[test]
    fn encodes_all_but_unreserved_and_slash() {
        let mut out = String::new();
        encode("aZ09_.-~/ +%=,;\"\\\r\nä\u{7f}\u{fffd}", &mut out);
        assert_eq!(out, "aZ09_.-~/%20%2B%25%3D%2C%3B%22%5C%0D%0A%C3%A4%7F%EF%BF%BD");
        assert_eq!(decode(&out), "aZ09_.-~/ +%=,;\"\\\r\nä\u{7f}\u{fffd}");
    }
}

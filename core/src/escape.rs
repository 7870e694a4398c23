//! How text and bytes stand in JSON: escapes (RFC 8259, §7) and base64 (RFC 4648, §4, padded). Both hand on pieces of text
//! in order, so that each writer can count or cut them as it likes.

use crate::id::{ascii, encode_hex};

/// Escapes what JSON requires in a string: quotes, backslashes and control characters. The quotes around it are the
/// caller's.
pub(crate) fn json(text: &str, put: &mut impl FnMut(&str)) {
    let mut rest = text;
    while let Some((plain, from)) = first_special(rest.as_bytes()).and_then(|at| rest.split_at_checked(at)) {
        // Runs of what may stand as it is are handed on whole.
        if !plain.is_empty() {
            put(plain);
        }
        // Every special character is one byte long.
        let Some((special, after)) = from.split_at_checked(1) else { break };
        match special {
            "\"" => put("\\\""),
            "\\" => put("\\\\"),
            "\n" => put("\\n"),
            "\r" => put("\\r"),
            "\t" => put("\\t"),
            _ => {
                let mut code = *b"\\u0000";
                if let Some(digits) = code.last_chunk_mut::<2>() {
                    encode_hex(special.as_bytes(), digits);
                }
                put(ascii(&code));
            }
        }
        rest = after;
    }
    if !rest.is_empty() {
        put(rest);
    }
}

/// Where the first byte is that has to be escaped.
fn first_special(bytes: &[u8]) -> Option<usize> {
    const CHUNK: usize = 16;
    // Without branches the compiler looks at all bytes of a chunk at once.
    let special = |byte: &u8| (*byte < 0x20) | (*byte == b'"') | (*byte == b'\\');
    let plain = |chunk: &&[u8]| !chunk.iter().fold(false, |any, byte| any | special(byte));
    let skip = bytes.chunks_exact(CHUNK).take_while(plain).count().saturating_mul(CHUNK);
    let at = bytes.get(skip..)?.iter().position(special)?;
    Some(skip.saturating_add(at))
}

/// Base64 with the standard alphabet, padded.
pub(crate) fn base64(bytes: &[u8], put: &mut impl FnMut(&str)) {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    for chunk in bytes.chunks(3) {
        let byte = |at: usize| u32::from(chunk.get(at).copied().unwrap_or_default());
        let bits = byte(0) << 16 | byte(1) << 8 | byte(2);
        let mut group = [b'='; 4];
        // n bytes make n + 1 digits; the rest is padding.
        for (digit, shift) in group.iter_mut().zip([18, 12, 6, 0]).take(chunk.len().saturating_add(1)) {
            *digit = DIGITS.get((bits >> shift & 0x3f) as usize).copied().unwrap_or(b'=');
        }
        put(ascii(&group));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::String;

    fn written(write: impl FnOnce(&mut dyn FnMut(&str))) -> String {
        let mut out = String::new();
        write(&mut |piece| out.push_str(piece));
        out
    }

    #[test]
    fn what_json_does_not_allow_is_escaped_wherever_it_stands() {
        for (special, escaped) in [
            ("\"", "\\\""),
            ("\\", "\\\\"),
            ("\n", "\\n"),
            ("\r", "\\r"),
            ("\t", "\\t"),
            ("\0", "\\u0000"),
            ("\u{8}", "\\u0008"),
            ("\u{1f}", "\\u001f"),
            // These may stand as they are.
            ("\u{7f}", "\u{7f}"),
            ("/", "/"),
            ("\u{e4}\u{1f600}\u{2028}", "\u{e4}\u{1f600}\u{2028}"),
        ] {
            for before in 0..40 {
                let plain = "x".repeat(before);
                let text = [&plain, special, "y", special].concat();
                let expected = [&plain, escaped, "y", escaped].concat();
                assert_eq!(written(|mut put| json(&text, &mut put)), expected);
            }
        }
        assert_eq!(written(|mut put| json("", &mut put)), "");
    }

    #[test]
    fn base64_is_that_of_the_rfc() {
        for (bytes, text) in [
            (&b""[..], ""),
            (b"f", "Zg=="),
            (b"fo", "Zm8="),
            (b"foo", "Zm9v"),
            (b"foob", "Zm9vYg=="),
            (b"foobar", "Zm9vYmFy"),
            (b"\xfb\xef\xbe\x00\xff\xff\xff", "++++AP///w=="),
        ] {
            assert_eq!(written(|mut put| base64(bytes, &mut put)), text);
        }
    }
}

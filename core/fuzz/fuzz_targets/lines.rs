//! Inputs of several parts: 0xff, which is never legal anywhere, ends each. Line ends and NUL can so be part of one.

#![allow(dead_code)] // each target uses some of it

pub fn lines(data: &[u8]) -> impl Iterator<Item = &[u8]> {
    data.split(|octet| *octet == 0xff)
}

/// What may stand in a header: visible ASCII, spaces and tabs, and so no line break.
#[allow(dead_code)]
pub fn may_be_sent(text: &str) -> bool {
    text.bytes().all(|octet| matches!(octet, b'\t' | b' '..=b'~'))
}

//! Octets of headers: which belong to what, and how text is searched and trimmed by them.

/// A key of `tracestate` (rule TS3): `a-z 0-9 _ - * / @`.
pub(crate) const STATE_KEY: u8 = 1;
/// A value of `tracestate` (rule TS4): printable ASCII without comma and equals sign.
pub(crate) const STATE_VALUE: u8 = 2;
/// A name in `baggage` (rule B3): `tchar` of RFC 7230.
pub(crate) const TOKEN: u8 = 4;
/// A value in `baggage` (rule B4): `baggage-octet`.
pub(crate) const BAGGAGE_VALUE: u8 = 8;
/// What is sent in `baggage` as it is (rule B12).
pub(crate) const PLAIN: u8 = 16;

/// What each octet may be part of.
static CLASSES: [u8; 256] = classes();

const fn classes() -> [u8; 256] {
    let mut table = [0; 256];
    let mut octet = b' ';
    while octet <= b'~' {
        let lower = matches!(octet, b'a'..=b'z' | b'0'..=b'9');
        let classes = [
            (STATE_KEY, lower || matches!(octet, b'_' | b'-' | b'*' | b'/' | b'@')),
            (STATE_VALUE, !matches!(octet, b',' | b'=')),
            (
                TOKEN,
                octet.is_ascii_alphanumeric()
                    || matches!(octet, b'!' | b'#'..=b'\'' | b'*' | b'+' | b'-' | b'.' | b'^'..=b'`' | b'|' | b'~'),
            ),
            (BAGGAGE_VALUE, matches!(octet, 0x21 | 0x23..=0x2b | 0x2d..=0x3a | 0x3c..=0x5b | 0x5d..=0x7e)),
            (PLAIN, octet.is_ascii_alphanumeric() || matches!(octet, b'_' | b'.' | b'-' | b'~' | b'/')),
        ];
        let mut at = 0;
        while at < classes.len() {
            #[allow(clippy::indexing_slicing, reason = "there are 256 octets, and `at` is below the length")]
            if classes[at].1 {
                table[octet as usize] |= classes[at].0;
            }
            at = at.saturating_add(1);
        }
        octet = octet.saturating_add(1);
    }
    table
}

/// How many octets at the beginning are of this class.
#[inline]
pub(crate) fn run(text: &[u8], class: u8) -> usize {
    let is_other = |octet: &u8| CLASSES.get(usize::from(*octet)).is_none_or(|classes| classes & class == 0);
    // In chunks, which compilers unroll.
    let mut chunks = text.chunks_exact(8);
    let mut at = 0usize;
    for chunk in chunks.by_ref() {
        if let Some(more) = chunk.iter().position(is_other) {
            return at.saturating_add(more);
        }
        at = at.saturating_add(chunk.len());
    }
    let rest = chunks.remainder();
    at.saturating_add(rest.iter().position(is_other).unwrap_or(rest.len()))
}

/// Whether all octets are of this class.
#[inline]
pub(crate) fn all(text: &[u8], class: u8) -> bool {
    run(text, class) == text.len()
}

/// One in each of eight octets.
const ONES: u64 = 0x0101_0101_0101_0101;

/// The high bit of the lowest of eight octets that is zero, and of no octet below it; none if there is no such.
#[inline]
const fn zeros(octets: u64) -> u64 {
    octets.wrapping_sub(ONES) & !octets & ONES.wrapping_shl(7)
}

/// Where this octet stands first. What is searched is short, where the standard library's search, which aligns itself,
/// takes longer.
#[inline]
pub(crate) fn find(text: &[u8], octet: u8) -> Option<usize> {
    let pattern = ONES.wrapping_mul(octet.into());
    let mut at = 0usize;
    let mut chunks = text.chunks_exact(8);
    for chunk in chunks.by_ref() {
        let zero = zeros(u64::from_le_bytes(chunk.try_into().unwrap_or_default()) ^ pattern);
        if zero != 0 {
            return Some(at.saturating_add((zero.trailing_zeros() / 8) as usize));
        }
        at = at.saturating_add(8);
    }
    chunks.remainder().iter().position(|candidate| *candidate == octet).map(|more| at.saturating_add(more))
}

/// Whether any of these octets, none of which is zero, stands there: eight octets of the text are looked at at a time.
#[inline]
pub(crate) fn has_any<const N: usize>(text: &str, octets: [u8; N]) -> bool {
    let patterns = octets.map(|octet| ONES.wrapping_mul(octet.into()));
    let found = |any: u64, chunk: [u8; 8]| {
        let chunk = u64::from_le_bytes(chunk);
        patterns.iter().fold(any, |any, pattern| any | zeros(chunk ^ pattern))
    };
    let mut chunks = text.as_bytes().chunks_exact(8);
    let any = chunks.by_ref().fold(0, |any, chunk| found(any, chunk.try_into().unwrap_or_default()));
    let mut last = [0; 8];
    last.iter_mut().zip(chunks.remainder()).for_each(|(to, from)| *to = *from);
    found(any, last) != 0
}

/// `text` before and behind the first of this octet, which is ASCII.
#[inline]
pub(crate) fn cut(text: &str, octet: u8) -> Option<(&str, &str)> {
    let at = find(text.as_bytes(), octet)?;
    Some((text.get(..at)?, text.get(at.saturating_add(1)..)?))
}

/// Whether this octet, which is ASCII, stands there.
pub(crate) fn has(text: &str, octet: u8) -> bool {
    find(text.as_bytes(), octet).is_some()
}

/// `text` before and behind the first place where these octets, which are ASCII, stand. The standard library's search for
/// text is large, and made for long ones.
pub(crate) fn cut_by<'t, const N: usize>(text: &'t str, octets: &[u8; N]) -> Option<(&'t str, &'t str)> {
    let at = text.as_bytes().windows(N).position(|window| window == octets)?;
    Some((text.get(..at)?, text.get(at.saturating_add(N)..)?))
}

/// `value` without the optional white space around it: any number of spaces and tabs, and nothing else (rules TP2, TS5,
/// B8).
#[inline]
pub(crate) fn trim_ows(mut value: &[u8]) -> &[u8] {
    while let [b' ' | b'\t', rest @ ..] | [rest @ .., b' ' | b'\t'] = value {
        value = rest;
    }
    value
}

/// As [`trim_ows`], of text.
#[inline]
pub(crate) fn trim(text: &str) -> &str {
    // There is none nearly always.
    match text.as_bytes() {
        [b' ' | b'\t', ..] | [.., b' ' | b'\t'] => text.trim_matches([' ', '\t']),
        _ => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::vec;

    #[test]
    fn finds_the_first_wherever_it_stands() {
        for length in 0..40 {
            let mut text = vec![b'a'; length];
            assert_eq!(find(&text, b','), None);
            for at in (0..length).rev() {
                // What differs from a comma by its lowest or its highest bit is none.
                text[at] = b',';
                if let Some(next) = text.get_mut(at + 1) {
                    *next = if at % 2 == 0 { b'-' } else { b',' | 0x80 };
                }
                assert_eq!(find(&text, b','), Some(at));
            }
        }
    }

    #[test]
    fn any_of_several_is_found_wherever_it_stands() {
        for length in 0..40 {
            let text = "a".repeat(length);
            assert!(!has_any(&text, [b'%', b';']));
            for at in 0..length {
                let mut text = text.clone();
                text.replace_range(at..=at, if at % 2 == 0 { "%" } else { ";" });
                assert!(has_any(&text, [b'%', b';']));
            }
        }
    }

    #[test]
    fn runs_end_at_the_first_other_octet() {
        for length in 0..40 {
            let mut text = vec![b'a'; length];
            assert_eq!(run(&text, PLAIN), length);
            for at in (0..length).rev() {
                text[at] = b'%';
                assert_eq!((run(&text, PLAIN), run(&text, BAGGAGE_VALUE)), (at, length));
            }
        }
    }

    #[test]
    fn white_space_is_spaces_and_tabs_alone() {
        for (text, expected) in [(" \ta b\t ", "a b"), ("\u{a0}a\n", "\u{a0}a\n"), (" \t", ""), ("", "")] {
            assert_eq!(trim(text), expected);
            assert_eq!(trim_ows(text.as_bytes()), expected.as_bytes());
        }
    }

    #[test]
    fn classes_hold_what_the_grammars_say() {
        for octet in 0..=255u8 {
            let is = |class| all(&[octet], class);
            let visible = (0x21..=0x7e).contains(&octet);
            assert_eq!(is(STATE_VALUE), octet == b' ' || visible && !b",=".contains(&octet), "{octet}");
            assert_eq!(is(BAGGAGE_VALUE), visible && !b"\",;\\".contains(&octet), "{octet}");
            assert_eq!(is(TOKEN), visible && !b"\"(),/:;<=>?@[\\]{}".contains(&octet), "{octet}");
            let digit_or_lower = octet.is_ascii_digit() || octet.is_ascii_lowercase();
            assert_eq!(is(STATE_KEY), digit_or_lower || b"_-*/@".contains(&octet), "{octet}");
            assert_eq!(is(PLAIN), octet.is_ascii_alphanumeric() || b"_.-~/".contains(&octet), "{octet}");
        }
    }
}

//! The grammar of `baggage`: rules B3, B4, B7 and B8, octet by octet.

/// Optional white space (rule B8).
const OWS: [char; 2] = [' ', '\t'];

/// Rule B3: `tchar` of RFC 7230.
const TOKEN: u8 = 1;
/// Rule B4: `baggage-octet`.
const VALUE: u8 = 2;

/// Rule B12: what is sent as it is.
const PLAIN: u8 = 4;

/// What each octet may be part of.
static CLASSES: [u8; 256] = classes();

const fn classes() -> [u8; 256] {
    let mut table = [0; 256];
    let mut octet = 0u8;
    while octet < 0x7f {
        let token = octet.is_ascii_alphanumeric()
            || matches!(octet, b'!' | b'#'..=b'\'' | b'*' | b'+' | b'-' | b'.' | b'^'..=b'`' | b'|' | b'~');
        let value = matches!(octet, 0x21 | 0x23..=0x2b | 0x2d..=0x3a | 0x3c..=0x5b | 0x5d..=0x7e);
        let plain = octet.is_ascii_alphanumeric() || matches!(octet, b'_' | b'.' | b'-' | b'~' | b'/');
        #[allow(clippy::indexing_slicing, reason = "there are 256 octets")]
        {
            table[octet as usize] =
                if token { TOKEN } else { 0 } | if value { VALUE } else { 0 } | if plain { PLAIN } else { 0 };
        }
        octet = octet.saturating_add(1);
    }
    table
}

/// How many octets at the beginning are of this class.
#[inline]
fn run(text: &[u8], class: u8) -> usize {
    let is_other = |octet: &u8| CLASSES.get(usize::from(*octet)).is_none_or(|classes| classes & class == 0);
    text.iter().position(is_other).unwrap_or(text.len())
}

/// The lengths of the name and of all of a member at the beginning of `text`, up to a comma or the end: of a member
/// without white space and properties, as most are. `None` for every other, and for what is no member.
#[inline]
pub(super) fn plain_member(text: &[u8]) -> Option<(usize, usize)> {
    let name = run(text, TOKEN);
    let (_, [b'=', rest @ ..]) = text.split_at_checked(name)? else { return None };
    let value = run(rest, VALUE);
    let ends = matches!(rest.get(value), None | Some(b','));
    (name > 0 && ends).then(|| (name, name.saturating_add(value).saturating_add(1)))
}

/// How much at the beginning of a value is sent as it is (rule B12).
pub(crate) fn plain_run(value: &str) -> usize {
    run(value.as_bytes(), PLAIN)
}

pub(super) fn is_token(name: &str) -> bool {
    !name.is_empty() && run(name.as_bytes(), TOKEN) == name.len()
}

pub(super) fn is_value(value: &str) -> bool {
    run(value.as_bytes(), VALUE) == value.len()
}

/// Rule B7: `property *( OWS ";" OWS property )`, each a key, alone or with an equals sign and a value.
pub(super) fn are_properties(text: &str) -> bool {
    text.split(';').all(|property| match property.split_once('=') {
        Some((key, value)) => is_token(trim(key)) && is_value(trim(value)),
        None => is_token(trim(property)),
    })
}

/// `text` without the white space around it.
#[inline]
pub(super) fn trim(text: &str) -> &str {
    // There is none nearly always.
    match text.as_bytes() {
        [b' ' | b'\t', ..] | [.., b' ' | b'\t'] => text.trim_matches(OWS),
        _ => text,
    }
}

/// `text` before and behind the first of this octet, which is ASCII.
#[inline]
pub(super) fn cut(text: &str, octet: u8) -> Option<(&str, &str)> {
    let at = find(text.as_bytes(), octet)?;
    Some((text.get(..at)?, text.get(at.saturating_add(1)..)?))
}

/// Where this octet stands first. What is searched is short, where the standard library's search, which aligns itself,
/// takes longer.
#[inline]
pub(crate) fn find(text: &[u8], octet: u8) -> Option<usize> {
    const ONES: u64 = 0x0101_0101_0101_0101;
    let pattern = ONES.wrapping_mul(octet.into());
    let mut at = 0usize;
    let mut chunks = text.chunks_exact(8);
    for chunk in chunks.by_ref() {
        let differing = u64::from_le_bytes(chunk.try_into().unwrap_or_default()) ^ pattern;
        // The high bit of the lowest octet that is zero, and of no octet below it.
        let zero = differing.wrapping_sub(ONES) & !differing & ONES.wrapping_shl(7);
        if zero != 0 {
            return Some(at.saturating_add((zero.trailing_zeros() / 8) as usize));
        }
        at = at.saturating_add(8);
    }
    chunks.remainder().iter().position(|candidate| *candidate == octet).map(|more| at.saturating_add(more))
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
    fn plain_members_end_at_a_comma_or_the_end() {
        for (text, expected) in [
            ("a=1", Some((1, 3))),
            ("ab=,c", Some((2, 3))),
            ("a=b=c,", Some((1, 5))),
            ("a=1 ", None),
            ("a=1;p", None),
            ("a =1", None),
            ("=1", None),
            ("a", None),
            ("a,b=1", None),
            ("a=\"", None),
            ("ä=1", None),
            ("a=ä", None),
            ("", None),
        ] {
            assert_eq!(plain_member(text.as_bytes()), expected, "{text}");
        }
    }
}

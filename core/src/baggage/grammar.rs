//! The grammar of `baggage`: rules B3, B4, B7 and B8.

use crate::octets::{self, BAGGAGE_VALUE, TOKEN, run, trim};

/// The lengths of the name and of all of a member at the beginning of `text`, up to a comma or the end: of a member
/// without white space and properties, as most are. `None` for every other, and for what is no member.
#[inline]
pub(super) fn plain_member(text: &[u8]) -> Option<(usize, usize)> {
    let name = run(text, TOKEN);
    let (_, [b'=', rest @ ..]) = text.split_at_checked(name)? else { return None };
    let value = run(rest, BAGGAGE_VALUE);
    let ends = matches!(rest.get(value), None | Some(b','));
    (name > 0 && ends).then(|| (name, name.saturating_add(value).saturating_add(1)))
}

/// Rule B3.
pub(super) fn is_token(name: &str) -> bool {
    !name.is_empty() && octets::all(name.as_bytes(), TOKEN)
}

/// Rule B4. An empty value is legal (rule B6).
pub(super) fn is_value(value: &str) -> bool {
    octets::all(value.as_bytes(), BAGGAGE_VALUE)
}

/// Rule B7: `property *( OWS ";" OWS property )`, each a key, alone or with an equals sign and a value; white space may
/// stand around each part (rule B8).
pub(super) fn are_properties(text: &str) -> bool {
    text.split(';').all(|property| match property.split_once('=') {
        Some((key, value)) => is_token(trim(key)) && is_value(trim(value)),
        None => is_token(trim(property)),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

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

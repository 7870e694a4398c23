//! The `tracestate` header: W3C Trace Context level 2, §3.3, rules TS1 to TS12.

use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt;

use crate::octets::{self, STATE_KEY, STATE_VALUE, find, run, trim, trim_ows};
use crate::rule::{Rule, RuleSet};

/// A list of vendors' members, `key=value`, newest first.
///
/// It keeps the text of the header byte for byte until it is mutated, and is cheap to clone: one reference count.
/// Mutations return a new value. Only white space around the whole, which HTTP does not count as part of a header's
/// value, is left off. OpenTelemetry's own member, `ot` (rule TS12), is one like the others: only a sampler that keeps
/// its state there may write it, and nothing in this crate does.
#[derive(Clone, Default, PartialEq, Eq, Hash)]
pub struct TraceState(Option<Arc<str>>);

impl TraceState {
    /// The `tracestate` without members: not sent (rule TS2).
    pub const EMPTY: Self = Self(None);
    /// The most members a `tracestate` has (rule TS2).
    pub const MAX_MEMBERS: usize = 32;
    /// The most bytes that are read, over all header lines: twice what 32 members can fill, so that white space and
    /// empty members cannot make a header of any length worth keeping.
    pub const MAX_BYTES: usize = 32 * 1024;
    /// The length in bytes up to which everyone should pass a `tracestate` on (rule TS7).
    pub const PROPAGATED_BYTES: usize = 512;
    /// Members longer than this many bytes are the first to go when a `tracestate` is too long to send (rule TS7).
    pub const LONG_MEMBER_BYTES: usize = 128;

    /// Reads one header value.
    ///
    /// # Errors
    ///
    /// The first rule that a member, or the number of them, breaks (TS2 to TS5): the whole is then discarded
    /// (rule TS10), and the `traceparent` beside it stays valid (rule TS9).
    pub fn parse(value: &[u8]) -> Result<Self, Rule> {
        Self::parse_all(&[value])
    }

    /// Reads all values of the header, joined in order (rule TS1).
    ///
    /// # Errors
    ///
    /// As [`parse`](Self::parse); limits apply to the whole.
    #[inline(never)]
    pub fn parse_all(values: &[&[u8]]) -> Result<Self, Rule> {
        let mut bytes = 0usize;
        let mut members = 0usize;
        let mut lines = 0usize;
        let mut last: &[u8] = &[];
        for value in values {
            // Before any work per member.
            bytes = bytes.saturating_add(value.len());
            if bytes > Self::MAX_BYTES {
                return Err(Rule::TracestateBytes);
            }
            let value = trim_ows(value);
            let before = members;
            let mut rest = Some(value);
            while let Some(text) = rest {
                let plain = plain_member(text);
                let end = plain.or_else(|| find(text, b',')).unwrap_or(text.len());
                rest = text.get(end.saturating_add(1)..);
                let member = trim_ows(text.get(..end).unwrap_or_default());
                // Rule TS2: empty members are legal and do not count.
                if member.is_empty() {
                    continue;
                }
                members = members.saturating_add(1);
                if members > Self::MAX_MEMBERS {
                    return Err(Rule::TracestateMembers);
                }
                if plain.is_none() {
                    check_member(member)?;
                }
            }
            if members > before {
                lines = lines.saturating_add(1);
                last = value;
            }
        }
        // Every member was checked to be ASCII, and what is between them is white space and commas.
        let text = |value| core::str::from_utf8(value).unwrap_or_default();
        Ok(Self(match lines {
            0 => None,
            1 => Some(Arc::from(text(last))),
            _ => {
                let mut joined = String::with_capacity(bytes.saturating_add(values.len()));
                for value in values.iter().map(|value| text(trim_ows(value))) {
                    if members_of(value).next().is_some() {
                        push(&mut joined, value);
                    }
                }
                Some(Arc::from(joined))
            }
        }))
    }

    /// The header value as it came in, or as mutations made it; empty if there is no member.
    pub fn as_str(&self) -> &str {
        self.0.as_deref().unwrap_or_default()
    }

    /// Whether there is no member.
    pub const fn is_empty(&self) -> bool {
        self.0.is_none()
    }

    /// The value of the left-most member with this key (rule TS6).
    pub fn get(&self, key: &str) -> Option<&str> {
        members_of(self.as_str()).find(|member| member.key == key).map(|member| member.value)
    }

    /// Keys and values from the left, which is the newest; of members with the same key the first (rule TS6).
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.unique().map(|member| (member.key, member.value))
    }

    /// Whether some key stands there more than once. Such a text is passed on as it came (rule TS6), until a mutation
    /// writes a new one.
    pub fn has_duplicates(&self) -> bool {
        self.unique().count() < members_of(self.as_str()).count()
    }

    /// With this member at the front, in place of one with the same key; if that makes 33, without the right-most
    /// (rule TS8). The others keep their order and their bytes.
    ///
    /// # Errors
    ///
    /// TS3 or TS4 if the key or the value is not legal.
    pub fn insert(&self, key: &str, value: &str) -> Result<Self, Rule> {
        check_key(key.as_bytes())?;
        check_value(value.as_bytes())?;
        let mut text = String::with_capacity(
            self.as_str().len().saturating_add(key.len()).saturating_add(value.len()).saturating_add(2),
        );
        text.extend([key, "=", value]);
        for member in self.unique().filter(|member| member.key != key).take(Self::MAX_MEMBERS - 1) {
            push(&mut text, member.raw);
        }
        Ok(Self(Some(Arc::from(text))))
    }

    /// Without the members that have this key; the same text if there are none (rule TS8).
    #[must_use]
    pub fn delete(&self, key: &str) -> Self {
        if self.get(key).is_none() {
            return self.clone();
        }
        Self::join(self.unique().filter(|member| member.key != key))
    }

    /// A form of at most `max_bytes` to send (rule TS7): the same text if it fits, else without whole members, those
    /// over 128 bytes first, both kinds from the right. That some are left out is noted in `dropped`.
    #[must_use]
    pub fn truncated(&self, max_bytes: usize, dropped: &mut RuleSet) -> Self {
        if self.as_str().len() <= max_bytes {
            return self.clone();
        }
        let mut members: Vec<_> = self.unique().collect();
        let mut bytes = members.iter().fold(0usize, |sum, member| sum.saturating_add(member.cost()));
        for longer_than in [Self::LONG_MEMBER_BYTES, 0] {
            // From the right, as long as the text, which has one comma less than members, is too long.
            let mut at = members.len();
            while bytes > max_bytes.saturating_add(1) && at > 0 {
                at = at.saturating_sub(1);
                if members.get(at).is_some_and(|member| member.raw.len() > longer_than) {
                    bytes = bytes.saturating_sub(members.remove(at).cost());
                    dropped.insert(Rule::TracestateTruncated);
                }
            }
        }
        Self::join(members)
    }

    /// The members, without those whose key stood there before: what is newly written has no duplicates (rule TS6).
    fn unique(&self) -> impl Iterator<Item = Member<'_>> {
        // There are at most 32 members, and a key is never empty.
        let mut seen = [""; Self::MAX_MEMBERS];
        let mut slots = 0usize;
        members_of(self.as_str()).filter(move |member| {
            if seen.contains(&member.key) {
                return false;
            }
            if let Some(slot) = seen.get_mut(slots) {
                *slot = member.key;
            }
            slots = slots.saturating_add(1);
            true
        })
    }

    fn join<'a>(members: impl IntoIterator<Item = Member<'a>>) -> Self {
        let mut text = String::new();
        members.into_iter().for_each(|member| push(&mut text, member.raw));
        Self((!text.is_empty()).then(|| Arc::from(text)))
    }
}

/// Header text does not belong in logs, where `{:?}` ends up (rule B14): this tells how many members there are.
impl fmt::Debug for TraceState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TraceState({} members)", members_of(self.as_str()).count())
    }
}

#[derive(Clone, Copy)]
struct Member<'a> {
    raw: &'a str,
    key: &'a str,
    value: &'a str,
}

impl Member<'_> {
    /// The bytes that the member takes with its comma.
    const fn cost(&self) -> usize {
        self.raw.len().saturating_add(1)
    }
}

/// The members of a text that was checked before.
fn members_of(text: &str) -> impl Iterator<Item = Member<'_>> {
    text.split(',').filter_map(|member| {
        let raw = trim(member);
        raw.split_once('=').map(|(key, value)| Member { raw, key, value })
    })
}

fn push(text: &mut String, member: &str) {
    if !text.is_empty() {
        text.push(',');
    }
    text.push_str(member);
}

fn check_member(member: &[u8]) -> Result<(), Rule> {
    let equals = member.iter().position(|octet| *octet == b'=').ok_or(Rule::TracestateKey)?;
    let (key, value) = member.split_at_checked(equals).ok_or(Rule::TracestateKey)?;
    // Rule TS5: no white space before the equals sign. After it, spaces are part of the value (rule TS4).
    if let [.., b' ' | b'\t'] = key {
        return Err(Rule::TracestateSpace);
    }
    check_key(key)?;
    check_value(value.get(1..).unwrap_or_default())
}

/// Rule TS3, the grammar of level 2: `(lcalpha / DIGIT) 0*255( lcalpha / DIGIT / "_" / "-" / "*" / "/" / "@" )`.
fn check_key(key: &[u8]) -> Result<(), Rule> {
    let legal = key.len() <= 256 && matches!(key, [b'a'..=b'z' | b'0'..=b'9', ..]) && octets::all(key, STATE_KEY);
    if legal { Ok(()) } else { Err(Rule::TracestateKey) }
}

/// Rule TS4: `0*255(chr) nblk-chr`, where chr is printable ASCII without comma and equals sign.
fn check_value(value: &[u8]) -> Result<(), Rule> {
    let legal = value.len() <= 256 && !matches!(value, [] | [.., b' ']) && octets::all(value, STATE_VALUE);
    if legal { Ok(()) } else { Err(Rule::TracestateValue) }
}

/// The length of the member at the beginning of `text`, if it is a legal one without white space around it and ends at
/// a comma or with `text`: most do, and need not be searched first and checked then.
#[inline]
fn plain_member(text: &[u8]) -> Option<usize> {
    let (key, rest) = text.split_at_checked(run(text, STATE_KEY))?;
    let [b'=', rest @ ..] = rest else { return None };
    let (value, behind) = rest.split_at_checked(run(rest, STATE_VALUE))?;
    let legal = matches!(key, [b'a'..=b'z' | b'0'..=b'9', ..])
        && !matches!(value, [] | [.., b' '])
        && matches!(behind, [] | [b',', ..])
        && key.len() <= 256
        && value.len() <= 256;
    legal.then(|| text.len().saturating_sub(behind.len()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::format;

    fn read(text: &str) -> TraceState {
        TraceState::parse(text.as_bytes()).unwrap()
    }

    #[test]
    fn keeps_its_text_until_mutated() {
        let text = "a=1 ,\tb= x";
        let state = read(text);
        assert_eq!(state.as_str(), text);
        assert_eq!(state.get("b"), Some(" x"));
        assert_eq!(state.delete("c").as_str(), text);
        assert_eq!(state.delete("a").as_str(), "b= x");
        assert_eq!(state.insert("b", "2").unwrap().as_str(), "b=2,a=1");
    }

    #[test]
    fn joining_leaves_empty_lines_out() {
        let state = TraceState::parse_all(&[b"", b"a=1", b" ,\t", b"b=2"]).unwrap();
        assert_eq!(state.as_str(), "a=1,b=2");
        assert!(TraceState::parse_all(&[b" ", b","]).unwrap().is_empty());
    }

    #[test]
    fn debug_shows_no_text() {
        assert_eq!(format!("{:?}", read("secret=1,b=2")), "TraceState(2 members)");
    }
}

//! The `baggage` header: W3C Baggage §3, rules B1 to B15.
//!
//! [`Baggage`] is what came in, kept as text; [`BaggageWriter`] makes what goes out, within a budget; [`reconcile`]
//! brings together what came in and what an API of names and values made of it.

use alloc::borrow::Cow;
use alloc::string::String;
use alloc::sync::Arc;
use core::{fmt, iter};

use crate::names::Names;
use crate::octets::{cut, find, has_any, trim, trim_ows};
use crate::percent;
use crate::rule::{Rule, RuleSet};

mod grammar;
mod reconcile;
mod writer;

use grammar::{are_properties, is_token, is_value, plain_member};
pub use reconcile::{Reconciled, reconcile};
pub(crate) use reconcile::{echoes, says_the_same};
pub use writer::BaggageWriter;

/// A list of members, `name=value;properties`, in the order in which they came.
///
/// It keeps their text byte for byte, and is cheap to clone: one reference count. Mutations return a new value. There
/// may be several members with one name; the last counts (rule B9).
#[derive(Clone, Default, PartialEq, Eq, Hash)]
pub struct Baggage(Option<Arc<str>>);

impl Baggage {
    /// The baggage without members: not sent.
    pub const EMPTY: Self = Self(None);
    /// The most members that are read or sent, unless a policy says otherwise (rules B1, B14a).
    pub const MAX_MEMBERS: usize = 180;
    /// The most bytes that are read or sent over all header lines, unless a policy says otherwise (rules B2, B14a).
    pub const MAX_BYTES: usize = 8192;

    /// Reads all values of the header, in order (rule B11). It cannot fail: a member that breaks a rule is left out
    /// (rule B10), as is what lies past `max_members` or, in bytes over all values, `max_bytes` (rules B14a, B15);
    /// the rules go into `dropped`.
    pub fn parse(values: &[&[u8]], max_members: usize, max_bytes: usize, dropped: &mut RuleSet) -> Self {
        Self::parse_seeing(values, max_members, max_bytes, dropped, |_| {})
    }

    /// As [`parse`](Self::parse); `see` is called with each member that is kept.
    #[inline]
    pub(crate) fn parse_seeing<'a>(
        values: &'a [&'a [u8]],
        max_members: usize,
        max_bytes: usize,
        dropped: &mut RuleSet,
        mut see: impl FnMut(Member<'a>),
    ) -> Self {
        let mut items = Items::new(values, max_members, max_bytes);
        let (mut members, mut bytes, mut whole) = (0usize, 0usize, true);
        for item in items.by_ref() {
            match item {
                Ok(member) => {
                    see(member);
                    members = members.saturating_add(1);
                    bytes = bytes.saturating_add(member.raw.len()).saturating_add(1);
                }
                Err(rule) => {
                    dropped.insert(rule);
                    whole = false;
                }
            }
        }
        if members == 0 {
            return Self::EMPTY;
        }
        // The usual case: one header line, all of it legal, is kept as it is, white space included.
        if let (true, false, Some(line)) = (whole, items.blanks, items.only_line()) {
            return Self(Some(Arc::from(line)));
        }
        let mut text = String::with_capacity(bytes);
        Items::new(values, max_members, max_bytes).flatten().for_each(|member| push(&mut text, member.raw));
        Self::from_text(text)
    }

    /// What [`parse`](Self::parse) sees: every member, or the rule by which it was left out, in order.
    pub fn items<'a>(
        values: &'a [&'a [u8]],
        max_members: usize,
        max_bytes: usize,
    ) -> impl Iterator<Item = Result<Member<'a>, Rule>> {
        Items::new(values, max_members, max_bytes)
    }

    /// The members as a header value; empty if there are none.
    pub fn as_str(&self) -> &str {
        self.0.as_deref().unwrap_or_default()
    }

    /// Whether there is no member.
    pub const fn is_empty(&self) -> bool {
        self.0.is_none()
    }

    /// All members in order, also several with one name.
    pub fn iter(&self) -> impl Iterator<Item = Member<'_>> {
        self.raw_items().filter_map(Member::split)
    }

    /// The text between commas, without white space around it.
    fn raw_items(&self) -> impl Iterator<Item = &str> {
        let mut rest = self.0.as_deref();
        iter::from_fn(move || {
            let text = rest?;
            let (item, behind) = match cut(text, b',') {
                Some((item, behind)) => (item, Some(behind)),
                None => (text, None),
            };
            rest = behind;
            Some(trim(item))
        })
    }

    /// One member for each name, the last with that name (rule B9), in the order in which these stand.
    pub fn entries(&self) -> impl Iterator<Item = Member<'_>> {
        let names = Names::of(self.iter().map(|member| member.name).collect());
        let is_last = move |(at, member): &(usize, Member<'_>)| names.last(member.name) == Some(*at);
        self.iter().enumerate().filter(is_last).map(|(_, member)| member)
    }

    /// The last member with this name (rule B9). Names are case-sensitive, never decoded (rule B3), and compared exactly:
    /// white space is part of no name.
    #[inline]
    pub fn get(&self, name: &str) -> Option<Member<'_>> {
        if self.is_empty() { None } else { self.last_named(name) }
    }

    fn last_named(&self, name: &str) -> Option<Member<'_>> {
        // Only what begins with the name is taken apart.
        let begun = self.raw_items().filter(|raw| raw.starts_with(name));
        begun.filter_map(Member::split).filter(|member| member.name == name).last()
    }

    /// With this entry in place of the first member of that name, or else at the end. Other members with that name
    /// go, and the rest keep their order and their bytes (rule B9). `value` is encoded (rule B12); `properties` are
    /// raw text as on the wire, without the leading semicolon.
    ///
    /// # Errors
    ///
    /// B13 if the name is not a token, B7 if the properties are not legal text.
    pub fn insert(&self, name: &str, value: &str, properties: Option<&str>) -> Result<Self, Rule> {
        let mut entry = String::new();
        push_entry(&mut entry, Entry { name, value, properties })?;
        let mut text = String::with_capacity(self.as_str().len().saturating_add(entry.len()).saturating_add(1));
        let mut pending = Some(&entry);
        for member in self.iter() {
            if member.name != name {
                push(&mut text, member.raw);
            } else if let Some(entry) = pending.take() {
                push(&mut text, entry);
            }
        }
        if let Some(entry) = pending {
            push(&mut text, entry);
        }
        Ok(Self::from_text(text))
    }

    /// Without the members of this name; the same text if there are none.
    #[must_use]
    pub fn remove(&self, name: &str) -> Self {
        self.retain(|member| member.name != name)
    }

    /// Only the members for which `keep` is true, with their order and their bytes; the same text if these are all.
    #[must_use]
    pub fn retain(&self, mut keep: impl FnMut(&Member<'_>) -> bool) -> Self {
        self.retain_if(&mut keep)
    }

    fn retain_if(&self, keep: &mut dyn FnMut(&Member<'_>) -> bool) -> Self {
        // Nothing is copied before the first member goes.
        let mut text = None;
        for (at, member) in self.iter().enumerate() {
            match (keep(&member), &mut text) {
                (true, Some(text)) => push(text, member.raw),
                (false, None) => {
                    let mut kept = String::with_capacity(self.as_str().len());
                    self.iter().take(at).for_each(|before| push(&mut kept, before.raw));
                    text = Some(kept);
                }
                (true, None) | (false, Some(_)) => {}
            }
        }
        text.map_or_else(|| self.clone(), Self::from_text)
    }

    fn from_text(text: String) -> Self {
        Self((!text.is_empty()).then(|| Arc::from(text)))
    }

    /// The baggage with a text that [`as_str`](Self::as_str) gave before; none if that text could not be a header's.
    #[cfg(feature = "exchange")]
    pub(crate) fn read_again(text: &Arc<str>) -> Option<Self> {
        let is_legal = text.bytes().fold(true, |all, octet| all & matches!(octet, b'\t' | b' '..=b'~'));
        (is_legal && !text.is_empty()).then(|| Self(Some(Arc::clone(text))))
    }
}

/// Baggage carries users' data, which does not belong in logs, where `{:?}` ends up (rule B14): this tells how many
/// members there are.
impl fmt::Debug for Baggage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Baggage({} members)", self.iter().count())
    }
}

/// One member of a [`Baggage`], as it stands in the header.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Member<'a> {
    raw: &'a str,
    name: &'a str,
    /// What stands behind the equals sign; it is taken apart when somebody asks.
    rest: &'a str,
}

impl<'a> Member<'a> {
    /// The name: a token, case-sensitive, never decoded (rule B3).
    pub const fn name(&self) -> &'a str {
        self.name
    }

    /// The value as it is on the wire.
    pub fn raw_value(&self) -> &'a str {
        trim(cut(self.rest, b';').map_or(self.rest, |(value, _)| value))
    }

    /// The value and the properties as they came in.
    pub(crate) fn raw_rest(&self) -> &'a str {
        trim(self.rest)
    }

    /// The value, percent-decoded once; octets that are not UTF-8 become U+FFFD, `+` stays a plus (rule B5).
    #[inline]
    pub fn value(&self) -> Cow<'a, str> {
        // Most values are all of the rest, and plain.
        if has_any(self.rest, [b'%', b';']) {
            percent::decode(self.raw_value())
        } else {
            Cow::Borrowed(trim(self.rest))
        }
    }

    /// The properties as they are on the wire, without the semicolon before them (rule B7), if there are any.
    pub fn properties_raw(&self) -> Option<&'a str> {
        cut(self.rest, b';').map(|(_, properties)| trim(properties))
    }

    /// Each property: its key and, if it has one, its value, percent-decoded once (rule B7).
    pub fn properties(&self) -> impl Iterator<Item = (&'a str, Option<Cow<'a, str>>)> + use<'a> {
        self.properties_raw().into_iter().flat_map(|text| text.split(';')).map(|property| {
            match property.split_once('=') {
                Some((key, value)) => (trim(key), Some(percent::decode(trim(value)))),
                None => (trim(property), None),
            }
        })
    }

    /// The whole member as it is on the wire, without white space around it.
    pub const fn raw(&self) -> &'a str {
        self.raw
    }

    /// Reads one list item that is neither blank nor has white space around it.
    fn parse(item: &'a [u8]) -> Result<Self, Rule> {
        let Ok(text) = core::str::from_utf8(item) else {
            let name = item.split(|octet| *octet == b'=').next().unwrap_or_default();
            return Err(if name.is_ascii() { Rule::BaggageValue } else { Rule::BaggageName });
        };
        let member = Self::split(text).ok_or(Rule::BaggageMember)?;
        if !is_token(member.name) {
            return Err(Rule::BaggageName);
        }
        if !is_value(member.raw_value()) {
            return Err(Rule::BaggageValue);
        }
        if !member.properties_raw().is_none_or(are_properties) {
            return Err(Rule::BaggageProperty);
        }
        Ok(member)
    }

    /// Takes a list item apart without judging its parts: the name ends at the first equals sign (rule B6), the value
    /// at the first semicolon, and white space around each is left off (rule B8).
    fn split(raw: &'a str) -> Option<Self> {
        let (name, rest) = cut(raw, b'=')?;
        Some(Self { raw, name: trim(name), rest })
    }
}

/// As for [`Baggage`], no text.
impl fmt::Debug for Member<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Member({} bytes)", self.raw.len())
    }
}

/// What an application or an API says about one name: the value is plain text, the properties are as on the wire.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Entry<'a> {
    /// The name. What is not a token cannot be sent (rule B13).
    pub name: &'a str,
    /// The value, not encoded.
    pub value: &'a str,
    /// The properties as raw text without a leading semicolon; `None` if there are none, or the API knows of none.
    pub properties: Option<&'a str>,
}

/// As for [`Baggage`], no text.
impl fmt::Debug for Entry<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Entry({} bytes)", self.name.len().saturating_add(self.value.len()))
    }
}

/// The list items of all header lines, within limits that hold before anything is done per member (rule B15): an item
/// that ends past the limit is not looked at.
struct Items<'a> {
    lines: core::slice::Iter<'a, &'a [u8]>,
    line: Option<&'a [u8]>,
    /// The same as text, if the whole line is.
    text: Option<&'a str>,
    /// The lines that were not blank, and the last of them.
    seen: (usize, Option<&'a str>),
    members_left: usize,
    bytes_left: usize,
    /// Whether there were list items without anything in them.
    blanks: bool,
}

impl<'a> Items<'a> {
    fn new(values: &'a [&'a [u8]], max_members: usize, max_bytes: usize) -> Self {
        Self {
            lines: values.iter(),
            line: None,
            text: None,
            seen: (0, None),
            members_left: max_members,
            // The first line has no comma before it.
            bytes_left: max_bytes.saturating_add(1),
            blanks: false,
        }
    }

    /// The one line that was not blank, without white space around it, if there was only one.
    fn only_line(&self) -> Option<&'a str> {
        self.seen.1.filter(|_| self.seen.0 == 1)
    }

    /// Takes the next member if it is within the limits, legal, and without white space and properties.
    #[inline]
    fn plain(&mut self) -> Option<Member<'a>> {
        let text = self.text?;
        let (name, length) = plain_member(text.as_bytes().get(..self.bytes_left).unwrap_or(text.as_bytes()))?;
        let (raw, behind) = text.split_at_checked(length)?;
        // A member that the limit cuts off looks as if it ended there.
        if self.members_left == 0 || length >= self.bytes_left || !(behind.is_empty() || behind.starts_with(',')) {
            return None;
        }
        let (name, rest) = raw.split_at_checked(name)?;
        self.text = behind.get(1..);
        self.line = self.text.map(str::as_bytes);
        self.bytes_left = self.bytes_left.saturating_sub(length).saturating_sub(1);
        self.members_left = self.members_left.saturating_sub(1);
        Some(Member { raw, name, rest: rest.get(1..)? })
    }

    /// Nothing more is read.
    fn stop(&mut self, rule: Rule) -> Option<Result<Member<'a>, Rule>> {
        self.lines = [].iter();
        self.line = None;
        Some(Err(rule))
    }
}

impl<'a> Iterator for Items<'a> {
    type Item = Result<Member<'a>, Rule>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let Some(line) = self.line else {
                let line = trim_ows(self.lines.next()?);
                if !line.is_empty() {
                    self.text = core::str::from_utf8(line).ok();
                    self.seen = (self.seen.0.saturating_add(1), self.text);
                    self.line = Some(line);
                }
                continue;
            };
            // Most members are plain, and need not be searched and then checked.
            if let Some(member) = self.plain() {
                return Some(Ok(member));
            }
            // Each item costs its bytes and the comma before it; what lies past the limit is not even searched.
            let within = line.get(..self.bytes_left).unwrap_or(line);
            let item = match find(within, b',').and_then(|at| line.split_at_checked(at)) {
                Some((item, rest)) => {
                    self.line = rest.get(1..);
                    let behind = item.len().saturating_add(1);
                    self.text = self.text.and_then(|text| text.get(behind..));
                    item
                }
                None if line.len() < self.bytes_left => {
                    self.line = None;
                    line
                }
                None => return self.stop(Rule::BaggageByteCap),
            };
            self.bytes_left = self.bytes_left.saturating_sub(item.len()).saturating_sub(1);
            let item = trim_ows(item);
            if item.is_empty() {
                self.blanks = true;
                continue;
            }
            let Some(left) = self.members_left.checked_sub(1) else { return self.stop(Rule::BaggageMemberCap) };
            self.members_left = left;
            return Some(Member::parse(item));
        }
    }
}

/// Appends a list member.
#[inline]
fn push(text: &mut String, member: &str) {
    if !text.is_empty() {
        text.push(',');
    }
    text.push_str(member);
}

/// Appends an entry as a list member, or nothing if it cannot be sent.
#[inline]
fn push_entry(text: &mut String, entry: Entry<'_>) -> Result<(), Rule> {
    // Rule B13: a name that is not a token has no form on the wire.
    if !is_token(entry.name) {
        return Err(Rule::BaggageUnsendable);
    }
    let properties = entry.properties.map(trim).filter(|text| !text.is_empty());
    // Properties are raw text: nothing in them may end the member, or the header.
    if !properties.is_none_or(are_properties) {
        return Err(Rule::BaggageProperty);
    }
    push(text, entry.name);
    text.push('=');
    percent::encode(entry.value, text);
    if let Some(properties) = properties {
        text.push(';');
        text.push_str(properties);
    }
    Ok(())
}

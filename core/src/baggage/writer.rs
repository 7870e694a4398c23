//! Writes an outgoing `baggage` header within a budget of whole members: rules B2, B12, B13 and B14a.

use alloc::string::String;

use super::{Baggage, Entry, Member, push, push_entry};
use crate::rule::{Rule, RuleSet};

/// Collects the members of one `baggage` header, the most important first. The first that does not fit ends the list:
/// nothing after it is written, so that order says what is kept.
pub struct BaggageWriter {
    text: String,
    members_left: usize,
    max_bytes: usize,
    full: bool,
    dropped: RuleSet,
}

impl BaggageWriter {
    /// A header of at most `max_members` members and `max_bytes` bytes.
    pub const fn new(max_members: usize, max_bytes: usize) -> Self {
        Self { text: String::new(), members_left: max_members, max_bytes, full: false, dropped: RuleSet::EMPTY }
    }

    /// Writes an entry, encoded (rule B12). One that cannot be sent (rules B13, B7) is left out and does not end the
    /// list.
    pub fn entry(&mut self, entry: Entry<'_>) {
        if self.full {
            return;
        }
        // Most headers then grow no more.
        self.text.reserve(if self.text.is_empty() { 256 } else { 0 });
        let before = self.text.len();
        match push_entry(&mut self.text, entry) {
            Ok(()) if self.members_left == 0 || self.text.len() > self.max_bytes => {
                self.text.truncate(before);
                self.end();
            }
            Ok(()) => self.members_left = self.members_left.saturating_sub(1),
            Err(rule) => self.dropped.insert(rule),
        }
    }

    /// Writes a member as it came in.
    pub fn member(&mut self, member: &Member<'_>) {
        if self.fits(1, member.raw.len()) {
            self.write(1, member.raw);
        } else {
            self.end();
        }
    }

    /// Writes the members for which `keep` is true, as they came in; if these are all and they fit, with the white
    /// space between them, byte for byte.
    pub fn members(&mut self, baggage: &Baggage, keep: impl Fn(&Member<'_>) -> bool) {
        let whole = baggage.as_str();
        let (mut members, mut all) = (0usize, true);
        for member in baggage.iter() {
            members = members.saturating_add(1);
            all = all && keep(&member);
        }
        if members > 0 && all && self.fits(members, whole.len()) {
            self.write(members, whole);
        } else {
            baggage.iter().filter(keep).for_each(|member| self.member(&member));
        }
    }

    /// The header value, empty if there is nothing to send, and the rules by which something was left out.
    pub fn finish(self) -> (String, RuleSet) {
        (self.text, self.dropped)
    }

    /// Whether so many members, of so many bytes together, have room.
    fn fits(&self, members: usize, bytes: usize) -> bool {
        let comma = usize::from(!self.text.is_empty());
        let bytes = self.text.len().saturating_add(comma).saturating_add(bytes);
        !self.full && members <= self.members_left && bytes <= self.max_bytes
    }

    fn write(&mut self, members: usize, text: &str) {
        push(&mut self.text, text);
        self.members_left = self.members_left.saturating_sub(members);
    }

    fn end(&mut self) {
        // What ended the list counts, and not what came after.
        if !self.full {
            self.dropped.insert(if self.members_left == 0 { Rule::BaggageSendMembers } else { Rule::BaggageSendBytes });
        }
        self.full = true;
    }
}

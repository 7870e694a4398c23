//! Writes an outgoing `baggage` header within a budget of whole members: rules B2, B12, B13 and B14a.

use alloc::string::String;

use super::{Baggage, Entry, Member, push, push_entry};
use crate::octets::{cut, trim};
use crate::percent;
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
        let before = self.text.len();
        match push_entry(&mut self.text, entry) {
            Ok(()) => self.keep_from(before),
            Err(rule) => self.dropped.insert(rule),
        }
    }

    /// Writes a value without properties, encoded, under a name that is a token.
    pub(crate) fn plain(&mut self, name: &str, value: &str) {
        self.write(|text| {
            push(text, name);
            text.push('=');
            percent::encode(value, text);
        });
    }

    /// Writes a value that came in, with its properties, under a name that is a token.
    pub(crate) fn raw(&mut self, name: &str, value: &str) {
        self.write(|text| {
            push(text, name);
            text.push('=');
            text.push_str(value);
        });
    }

    /// Writes one member, if it has room.
    #[inline]
    fn write(&mut self, member: impl FnOnce(&mut String)) {
        if self.full {
            return;
        }
        let before = self.text.len();
        member(&mut self.text);
        self.keep_from(before);
    }

    /// Keeps the member that was written there, if it fits.
    fn keep_from(&mut self, before: usize) {
        if self.members_left == 0 || self.text.len() > self.max_bytes {
            self.text.truncate(before);
            self.end();
        } else {
            self.members_left = self.members_left.saturating_sub(1);
        }
    }

    /// Makes room for so many more bytes, as far as the budget goes, so that the header need not grow in steps.
    pub fn reserve(&mut self, bytes: usize) {
        let bytes = bytes.min(self.max_bytes.saturating_sub(self.text.len()));
        if self.text.capacity() == 0 {
            self.text = String::with_capacity(bytes);
        } else {
            self.text.reserve(bytes);
        }
    }

    /// Writes a member as it came in.
    pub fn member(&mut self, member: &Member<'_>) {
        self.run(1, member.raw);
    }

    /// Writes the members for which `keep` is true, as they came in: those that stood side by side stay so byte for
    /// byte, with the white space between them, if all of these fit.
    pub fn members(&mut self, baggage: &Baggage, mut keep: impl FnMut(&Member<'_>) -> bool) {
        self.members_if(baggage, &mut keep);
    }

    fn members_if(&mut self, baggage: &Baggage, keep: &mut dyn FnMut(&Member<'_>) -> bool) {
        let mut rest = baggage.0.as_deref();
        let mut run = Run::default();
        while let Some(text) = rest {
            if self.full {
                return;
            }
            let (item, behind) = match cut(text, b',') {
                Some((item, behind)) => (item, Some(behind)),
                None => (text, None),
            };
            rest = behind;
            let is_kept = Member::split(trim(item)).is_some_and(|member| keep(&member));
            if is_kept {
                run.push(text, item);
            }
            // A run ends at a member that is not kept, and where there is room for no more.
            if !is_kept || run.members > self.members_left {
                self.run(run.members, run.text());
                run = Run::default();
            }
        }
        self.run(run.members, run.text());
    }

    /// The header value, empty if there is nothing to send, and the rules by which something was left out.
    pub fn finish(self) -> (String, RuleSet) {
        (self.text, self.dropped)
    }

    /// Writes members that stand side by side: together if they fit, else one by one without white space.
    fn run(&mut self, members: usize, text: &str) {
        if members == 0 {
            return;
        }
        if self.fits(members, text.len()) {
            push(&mut self.text, text);
            self.members_left = self.members_left.saturating_sub(members);
        } else if members == 1 {
            self.end();
        } else {
            text.split(',').for_each(|member| self.run(1, trim(member)));
        }
    }

    /// Whether so many members, of so many bytes together, have room.
    fn fits(&self, members: usize, bytes: usize) -> bool {
        let comma = usize::from(!self.text.is_empty());
        let bytes = self.text.len().saturating_add(comma).saturating_add(bytes);
        !self.full && members <= self.members_left && bytes <= self.max_bytes
    }

    fn end(&mut self) {
        // What ended the list counts, and not what came after.
        if !self.full {
            self.dropped.insert(if self.members_left == 0 { Rule::BaggageSendMembers } else { Rule::BaggageSendBytes });
        }
        self.full = true;
    }
}

/// Members of a list that stand side by side.
#[derive(Clone, Copy, Default)]
struct Run<'a> {
    /// What begins with the first of them.
    from: &'a str,
    /// What begins with the last of them, and its bytes.
    last: (&'a str, usize),
    members: usize,
}

impl<'a> Run<'a> {
    /// Takes the next member in: `text` begins with it.
    fn push(&mut self, text: &'a str, item: &str) {
        if self.members == 0 {
            self.from = text;
        }
        self.last = (text, item.len());
        self.members = self.members.saturating_add(1);
    }

    /// All of them, without white space around.
    fn text(&self) -> &'a str {
        let before = self.from.len().saturating_sub(self.last.0.len());
        trim(self.from.get(..before.saturating_add(self.last.1)).unwrap_or_default())
    }
}

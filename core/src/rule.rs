//! The rules by which inbound and outbound header text is judged, each with an id that never changes.
//!
//! Nothing on the wire raises an error: what a rule forbids is left out, and the rule's id is counted. Ids are those
//! of the specifications as this project numbers them (`TP` traceparent, `TS` tracestate, `B` baggage), then `S`
//! session and project, `P` trust policy. Where one rule has several cases, a suffix tells them
//! apart (`B14a.members`).

use core::fmt;
use core::sync::atomic::{AtomicUsize, Ordering};

macro_rules! rules {
    ($($(#[$doc:meta])* $name:ident = $id:literal, $rejects:literal, $sentence:literal;)*) => {
        /// A rule that header text was judged by. At most 64, so that a [`RuleSet`] is one word.
        #[non_exhaustive]
        #[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
        #[repr(u8)]
        pub enum Rule {
            $(#[doc = concat!("`", $id, "`: ", $sentence)] $(#[$doc])* $name,)*
        }

        impl Rule {
            /// Every rule, in the order of the bits of a [`RuleSet`].
            pub const ALL: &'static [Self] = &[$(Self::$name),*];

            /// The id that statistics, findings and test vectors use. It never changes.
            pub const fn id(self) -> &'static str {
                match self {
                    $(Self::$name => $id,)*
                }
            }

            /// The rule as a sentence for people. It holds no header text.
            pub const fn sentence(self) -> &'static str {
                match self {
                    $(Self::$name => $sentence,)*
                }
            }

            /// Whether something is left out because of this rule. The others say how something legal was read.
            pub const fn rejects(self) -> bool {
                match self {
                    $(Self::$name => $rejects,)*
                }
            }

            /// The rule with this id.
            pub fn from_id(id: &str) -> Option<Self> {
                match id {
                    $($id => Some(Self::$name),)*
                    _ => None,
                }
            }
        }
    };
}

rules! {
    TraceparentVersion = "TP3", true,
        "A traceparent starts with a version of two hex digits and a dash, and version ff is invalid.";
    TraceparentLength = "TP4", true,
        "A traceparent of version 00 is exactly 55 characters: 00-<32 hex>-<16 hex>-<2 hex>.";
    TraceparentHex = "TP5", true,
        "The fields of a traceparent are lower-case hex digits.";
    TraceparentZero = "TP6", true,
        "Neither the trace id nor the parent id of a traceparent may be all zero.";
    TraceparentFuture = "TP7", true,
        "A traceparent of a later version starts like version 00, and what follows starts with a dash.";
    TraceparentDowngraded = "TP8", false,
        "A traceparent of a later version is read, and sent on, as version 00.";
    TraceparentFlags = "TP9", false,
        "Of the flags of a traceparent, sampled and random are sent on; the others are cleared.";
    TraceparentDuplicate = "TP11", true,
        "There must be no more than one traceparent.";
    TracestateOfInvalid = "TP12", true,
        "A tracestate is not read when the traceparent beside it is invalid.";
    TracestateAlone = "TP13", true,
        "A tracestate without a traceparent is discarded.";

    TracestateMembers = "TS2", true,
        "A tracestate has at most 32 members; one with more is discarded whole.";
    TracestateBytes = "TS2.bytes", true,
        "A tracestate of more than 32,768 bytes, twice what 32 members can fill, is discarded whole.";
    TracestateKey = "TS3", true,
        "A tracestate key is 1 to 256 of a-z 0-9 _ - * / @ and starts with a letter or digit; a bad key discards the whole.";
    TracestateValue = "TS4", true,
        "A tracestate value is 1 to 256 printable ASCII characters without comma and equals sign; a bad value discards the whole.";
    TracestateSpace = "TS5", true,
        "No white space may stand between a tracestate key and its equals sign.";
    TracestateDuplicate = "TS6", false,
        "Of tracestate members with the same key, the left-most counts.";
    TracestateTruncated = "TS7", true,
        "A tracestate that is too long to send loses whole members: those over 128 characters first, then from the right.";

    BaggageMember = "B1", true,
        "A baggage member is a name, an equals sign and a value.";
    BaggageSendMembers = "B2.members", true,
        "Baggage is sent up to the limit of members; the first that does not fit ends the list.";
    BaggageSendBytes = "B2.bytes", true,
        "Baggage is sent up to the limit of bytes, in whole members; the first that does not fit ends the list.";
    BaggageName = "B3", true,
        "A baggage name is a token of RFC 7230.";
    BaggageValue = "B4", true,
        "A baggage value is visible ASCII without double quote, comma, semicolon and backslash.";
    BaggageReplaced = "B5", false,
        "Percent-encoded octets that are not UTF-8 are read as U+FFFD.";
    BaggageProperty = "B7", true,
        "A baggage property is a token, alone or with an equals sign and a value.";
    BaggageDuplicate = "B9", false,
        "Of baggage members with the same name, the last counts.";
    BaggageUnsendable = "B13", true,
        "A baggage entry whose name is not a token cannot be sent and is left out.";
    BaggageMemberCap = "B14a.members", true,
        "Inbound baggage is read up to the limit of members, from the left.";
    BaggageByteCap = "B14a.bytes", true,
        "Inbound baggage is read up to the limit of bytes over all its header lines, in whole members, from the left.";

    SessionEmpty = "S1", true,
        "A session id must not be empty.";
    SessionLength = "S2", true,
        "A session id has at most 256 characters.";
    ProjectInvalid = "S3", true,
        "A project name has 1 to 256 characters.";

    PolicyIgnored = "P1", true,
        "The trust policy takes nothing from this caller.";
    PolicyRestarted = "P2", false,
        "The trust policy starts a new trace and keeps the caller's as a link.";
    PolicySession = "P3", true,
        "The trust policy does not accept a session from this caller.";
    PolicyProject = "P4", true,
        "The trust policy does not accept a project from this caller.";
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.id())
    }
}

/// A set of rules in one word: free to carry when nobody asks.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub struct RuleSet(u64);

const _: () = assert!(Rule::ALL.len() <= 64, "a RuleSet has 64 bits");

impl RuleSet {
    /// No rules.
    pub const EMPTY: Self = Self(0);

    /// The set with these bits, as [`bits`](Self::bits) gave them: bit `n` is `Rule::ALL[n]`.
    pub const fn from_bits(bits: u64) -> Self {
        Self(bits)
    }

    /// The set as a word: bit `n` is `Rule::ALL[n]`. The order of bits is not stable between versions; ids are.
    pub const fn bits(self) -> u64 {
        self.0
    }

    /// Adds a rule.
    pub const fn insert(&mut self, rule: Rule) {
        self.0 |= Self::bit(rule);
    }

    /// Whether the rule is in the set.
    pub const fn contains(self, rule: Rule) -> bool {
        self.0 & Self::bit(rule) != 0
    }

    /// Whether the set has no rule.
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// The rules of either set.
    #[must_use]
    pub const fn union(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// The rules of the set, in the order of [`Rule::ALL`].
    pub fn iter(self) -> impl Iterator<Item = Rule> {
        Rule::ALL.iter().copied().filter(move |rule| self.contains(*rule))
    }

    const fn bit(rule: Rule) -> u64 {
        // A rule's number is below 64 (asserted above), so no bit is lost.
        1u64.wrapping_shl(rule as u32)
    }
}

impl core::ops::BitOr for RuleSet {
    type Output = Self;
    fn bitor(self, other: Self) -> Self {
        self.union(other)
    }
}

impl core::ops::BitOrAssign for RuleSet {
    fn bitor_assign(&mut self, other: Self) {
        *self = self.union(other);
    }
}

impl From<Rule> for RuleSet {
    fn from(rule: Rule) -> Self {
        Self(Self::bit(rule))
    }
}

impl FromIterator<Rule> for RuleSet {
    fn from_iter<I: IntoIterator<Item = Rule>>(rules: I) -> Self {
        rules.into_iter().fold(Self::EMPTY, |set, rule| set | rule.into())
    }
}

impl fmt::Debug for RuleSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.iter().map(Rule::id)).finish()
    }
}

/// How often something was left out by each rule. Counted by all threads.
#[derive(Debug)]
pub struct RuleCounts([AtomicUsize; 64]);

impl RuleCounts {
    /// Nothing was left out.
    pub const fn new() -> Self {
        Self([const { AtomicUsize::new(0) }; 64])
    }

    /// Counts the rules of a set. An empty one costs nothing.
    pub fn count(&self, dropped: RuleSet) {
        if dropped.is_empty() {
            return;
        }
        for rule in dropped.iter() {
            if let Some(count) = self.0.get(rule as usize) {
                count.fetch_add(1, Ordering::Relaxed);
            }
        }
    }

    /// Each rule by which something was left out, and how often, in the order of [`Rule::ALL`].
    pub fn iter(&self) -> impl Iterator<Item = (Rule, usize)> {
        let count = |rule: Rule| self.0.get(rule as usize).map_or(0, |it| it.load(Ordering::Relaxed));
        Rule::ALL.iter().map(move |rule| (*rule, count(*rule))).filter(|(_, count)| *count > 0)
    }
}

impl Default for RuleCounts {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::format;
    use alloc::vec::Vec;

    #[test]
    fn ids_are_unique_and_found_again() {
        for (number, rule) in Rule::ALL.iter().enumerate() {
            assert_eq!(*rule as usize, number);
            assert_eq!(Rule::from_id(rule.id()), Some(*rule));
            assert!(rule.sentence().ends_with('.') && rule.sentence().len() > 20, "{rule}");
        }
        assert_eq!(Rule::from_id("TP99"), None);
    }

    #[test]
    fn a_set_holds_each_rule_by_itself() {
        for rule in Rule::ALL {
            let set = RuleSet::from(*rule);
            assert_eq!(set.iter().collect::<Vec<_>>(), [*rule]);
            assert_eq!(RuleSet::from_bits(set.bits()), set);
        }
        let mut set = RuleSet::EMPTY;
        assert!(set.is_empty());
        set.insert(Rule::BaggageName);
        set |= RuleSet::from(Rule::TraceparentHex);
        assert!(set.contains(Rule::BaggageName) && !set.contains(Rule::BaggageValue));
        assert_eq!(format!("{set:?}"), r#"{"TP5", "B3"}"#);
        assert_eq!(Rule::ALL.iter().copied().collect::<RuleSet>().iter().count(), Rule::ALL.len());
    }
}

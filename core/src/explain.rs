//! Saying, in sentences, what is taken from a caller's headers and what is not: for people who look for a lost trace.
//!
//! It reads the headers by the same functions as [`extract`](crate::extract()), and tells more.

use alloc::string::{String, ToString};
use alloc::vec::Vec;

use crate::baggage::{Baggage, Member};
use crate::carrier::{Collected, Extractor, Header};
use crate::extract::{Candidates, has_text, judge, trace_state, with_values};
use crate::policy::{InboundMode, Policy};
use crate::rule::{Rule, RuleSet};
use crate::session::{OwnMember, PRIVATE_KEY};
use crate::traceparent::{Traceparent, trim_ows};

/// What became of a header or a member of one.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Outcome {
    /// It is used or passed on.
    Kept,
    /// It is left out, by the finding's rule.
    Dropped,
    /// It is not there.
    Missing,
}

impl Outcome {
    /// `kept`, `dropped` or `missing`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Kept => "kept",
            Self::Dropped => "dropped",
            Self::Missing => "missing",
        }
    }
}

/// One thing to know about a carrier.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Finding {
    /// The header it is about.
    pub header: Header,
    /// For a member of baggage, which one: counted from 0 over all lines of the header, empty ones not counted.
    pub position: Option<usize>,
    /// What became of it.
    pub outcome: Outcome,
    /// The rule by which it was left out, or read in the way that the sentence says.
    pub rule: Option<Rule>,
    /// The finding in words, without header text.
    pub sentence: &'static str,
    /// The text of the header or the member, if it was asked for: users' data, which does not belong in logs (rule
    /// B14). Octets that are not UTF-8 are U+FFFD.
    pub text: Option<String>,
}

/// What [`extract`](crate::extract::extract) takes from this carrier under this policy, and what it leaves out and why,
/// in the order of the headers. It holds no header text.
pub fn explain<E: Extractor + ?Sized>(carrier: &E, policy: &Policy) -> Vec<Finding> {
    Findings { list: Vec::new(), with_text: false }.explain(&carrier.collect(), policy)
}

/// As [`explain`], with the text of headers and members.
pub fn explain_with_text<E: Extractor + ?Sized>(carrier: &E, policy: &Policy) -> Vec<Finding> {
    Findings { list: Vec::new(), with_text: true }.explain(&carrier.collect(), policy)
}

struct Findings {
    list: Vec<Finding>,
    with_text: bool,
}

impl Findings {
    fn explain(mut self, headers: &Collected<'_>, policy: &Policy) -> Vec<Finding> {
        if policy.inbound == InboundMode::Ignore {
            for header in Header::ALL {
                if has_text(headers, header) {
                    self.dropped(header, None, Rule::PolicyIgnored, &joined(headers, header));
                }
            }
            return self.list;
        }
        let parent = with_values(headers, Header::Traceparent, Traceparent::parse_all);
        self.traceparent(headers, policy, &parent);
        self.tracestate(headers, &parent);
        self.baggage(headers, policy);
        self.list
    }

    fn traceparent(&mut self, headers: &Collected<'_>, policy: &Policy, parent: &Result<Option<Traceparent>, Rule>) {
        let header = Header::Traceparent;
        let text = joined(headers, header);
        match parent {
            Ok(None) => self.missing(header, "There is no traceparent: a new trace begins."),
            Err(rule) => self.dropped(header, None, *rule, &text),
            Ok(Some(_)) => {
                if policy.inbound == InboundMode::Restart {
                    self.noted(header, None, Rule::PolicyRestarted, &text);
                } else {
                    self.kept(header, None, "The caller's trace goes on, with the caller's span as the parent.", &text);
                }
                if headers.values(header).any(|value| !trim_ows(value).starts_with(b"00")) {
                    self.noted(header, None, Rule::TraceparentDowngraded, &text);
                }
            }
        }
    }

    fn tracestate(&mut self, headers: &Collected<'_>, parent: &Result<Option<Traceparent>, Rule>) {
        let header = Header::Tracestate;
        if !has_text(headers, header) {
            return;
        }
        let text = joined(headers, header);
        match (parent, trace_state(headers)) {
            (Ok(None), _) => self.dropped(header, None, Rule::TracestateAlone, &text),
            (Err(_), _) => self.dropped(header, None, Rule::TracestateOfInvalid, &text),
            (_, Err(rule)) => self.dropped(header, None, rule, &text),
            (_, Ok(state)) => {
                if !state.is_empty() {
                    self.kept(header, None, "The tracestate is passed on byte for byte.", &text);
                }
                if state.has_duplicates() {
                    self.noted(header, None, Rule::TracestateDuplicate, &text);
                }
            }
        }
    }

    fn baggage(&mut self, headers: &Collected<'_>, policy: &Policy) {
        let header = Header::Baggage;
        if !has_text(headers, header) {
            return self.missing(header, "There is no baggage: session and project are the service's own.");
        }
        with_values(headers, header, |values| {
            let mut counted_per_member = RuleSet::EMPTY;
            let baggage = Baggage::parse(values, policy.max_members, policy.max_bytes, &mut counted_per_member);
            let chosen = Chosen::of(&baggage, policy);
            let mut kept = 0_usize;
            let items = Baggage::items(values, policy.max_members, policy.max_bytes);
            let texts = values.iter().flat_map(|value| value.split(|octet| *octet == b','));
            let texts = texts.map(trim_ows).filter(|text| !text.is_empty());
            for (position, (item, text)) in items.zip(texts).enumerate() {
                match item {
                    Ok(member) => {
                        // The member's place among those that were kept tells members of one name apart.
                        self.member(position, &member, kept, &chosen, policy);
                        kept = kept.saturating_add(1);
                    }
                    Err(rule) => self.dropped(header, Some(position), rule, &String::from_utf8_lossy(text)),
                }
            }
        });
        if headers.overflowed(header) {
            self.dropped(header, None, Rule::BaggageMemberCap, "");
        }
    }

    fn member(&mut self, position: usize, member: &Member<'_>, place: usize, chosen: &Chosen, policy: &Policy) {
        let header = Header::Baggage;
        let position = Some(position);
        let value = member.value();
        match OwnMember::of(member.name()) {
            _ if chosen.later.contains(&place) => self.noted(header, position, Rule::BaggageDuplicate, member.raw()),
            _ if chosen.session == Some(place) => {
                self.kept(header, position, "The session is taken from this member.", member.raw());
            }
            _ if chosen.project == Some(place) => {
                self.kept(header, position, "The project is taken from this member.", member.raw());
            }
            Some(OwnMember::Source) => {
                let sentence = "The caller's source is replaced by the service's own when it sends.";
                self.kept(header, position, sentence, member.raw());
            }
            Some(own) => match judge(own, policy, &value) {
                Err(rule) => self.dropped(header, position, rule, member.raw()),
                Ok(()) => self.kept(header, position, "Another member with a preferred name counts.", member.raw()),
            },
            None if member.name() == PRIVATE_KEY => {
                let sentence = "This member means something in the caller's process only and is not passed on.";
                self.kept(header, position, sentence, member.raw());
            }
            None => self.kept(header, position, "The member is passed on byte for byte.", member.raw()),
        }
        if value.contains(char::REPLACEMENT_CHARACTER) {
            self.noted(header, position, Rule::BaggageReplaced, member.raw());
        }
    }

    fn kept(&mut self, header: Header, position: Option<usize>, sentence: &'static str, text: &str) {
        self.push(header, position, Outcome::Kept, None, sentence, text);
    }

    /// Kept, and read in a way that a rule describes.
    fn noted(&mut self, header: Header, position: Option<usize>, rule: Rule, text: &str) {
        self.push(header, position, Outcome::Kept, Some(rule), rule.sentence(), text);
    }

    fn dropped(&mut self, header: Header, position: Option<usize>, rule: Rule, text: &str) {
        self.push(header, position, Outcome::Dropped, Some(rule), rule.sentence(), text);
    }

    fn missing(&mut self, header: Header, sentence: &'static str) {
        self.push(header, None, Outcome::Missing, None, sentence, "");
    }

    fn push(
        &mut self,
        header: Header,
        position: Option<usize>,
        outcome: Outcome,
        rule: Option<Rule>,
        sentence: &'static str,
        text: &str,
    ) {
        let text = (self.with_text && !text.is_empty()).then(|| text.to_string());
        self.list.push(Finding { header, position, outcome, rule, sentence, text });
    }
}

/// Places in the list of kept members.
struct Chosen {
    session: Option<usize>,
    project: Option<usize>,
    /// The members behind which another of the same name stands.
    later: Vec<usize>,
}

impl Chosen {
    fn of(baggage: &Baggage, policy: &Policy) -> Self {
        let candidates = Candidates::of(baggage);
        let place = |own| {
            let member = candidates.by_preference(own).find(|member| judge(own, policy, &member.value()).is_ok())?;
            baggage.iter().enumerate().filter(|(_, other)| other.name() == member.name()).map(|(place, _)| place).last()
        };
        let mut later: Vec<(&str, usize)> =
            baggage.iter().enumerate().map(|(place, member)| (member.name(), place)).collect();
        later.sort_unstable();
        let later = later.windows(2).filter_map(|pair| match pair {
            [(name, place), (next, _)] if name == next => Some(*place),
            _ => None,
        });
        Self { session: place(OwnMember::Session), project: place(OwnMember::Project), later: later.collect() }
    }
}

/// All values of a header as people would write them.
fn joined(headers: &Collected<'_>, header: Header) -> String {
    headers.values(header).map(String::from_utf8_lossy).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    const TRACEPARENT: (&str, &str) = ("Traceparent", "cc-0af7651916cd43dd8448eb211c80319c-00f067aa0ba902b7-ff-x");

    fn short(findings: &[Finding]) -> Vec<(&'static str, Option<usize>, &'static str, &'static str)> {
        let rule = |finding: &Finding| finding.rule.map_or("", Rule::id);
        findings.iter().map(|one| (one.header.name(), one.position, one.outcome.as_str(), rule(one))).collect()
    }

    #[test]
    fn says_what_is_kept_and_what_is_dropped() {
        let carrier = [
            TRACEPARENT,
            ("tracestate", "a=1,b"),
            (
                "baggage",
                "session_id=a,bad member=1,honeyhive.session_id=b,k=1,k=2,,source=x,honeyhive_tracer_id=7,u=%ff",
            ),
        ];
        assert_eq!(
            short(&explain(&carrier, &Policy::default())),
            [
                ("traceparent", None, "kept", ""),
                ("traceparent", None, "kept", "TP8"),
                ("tracestate", None, "dropped", "TS3"),
                ("baggage", Some(0), "kept", ""),
                ("baggage", Some(1), "dropped", "B3"),
                ("baggage", Some(2), "kept", ""),
                ("baggage", Some(3), "kept", "B9"),
                ("baggage", Some(4), "kept", ""),
                ("baggage", Some(5), "kept", ""),
                ("baggage", Some(6), "kept", ""),
                ("baggage", Some(7), "kept", ""),
                ("baggage", Some(7), "kept", "B5"),
            ]
        );
        let session: Vec<_> = explain_with_text(&carrier, &Policy::default())
            .into_iter()
            .filter(|finding| finding.sentence.starts_with("The session is taken"))
            .filter_map(|finding| finding.text)
            .collect();
        assert_eq!(session, ["honeyhive.session_id=b"]);
    }

    #[test]
    fn policies_and_absence_are_explained() {
        let none: [(&str, &str); 0] = [];
        assert_eq!(
            short(&explain(&none, &Policy::default())),
            [("traceparent", None, "missing", ""), ("baggage", None, "missing", "")]
        );
        let carrier = [TRACEPARENT, ("baggage", "session_id=a")];
        let restart = Policy { inbound: InboundMode::Restart, accept_session: false, ..Policy::default() };
        assert_eq!(
            short(&explain(&carrier, &restart)),
            [
                ("traceparent", None, "kept", "P2"),
                ("traceparent", None, "kept", "TP8"),
                ("baggage", Some(0), "dropped", "P3")
            ]
        );
        let ignore = Policy { inbound: InboundMode::Ignore, ..Policy::default() };
        assert_eq!(
            short(&explain(&carrier, &ignore)),
            [("traceparent", None, "dropped", "P1"), ("baggage", None, "dropped", "P1")]
        );
    }

    #[test]
    fn text_is_given_only_when_asked_for() {
        let carrier = [("traceparent", "secret"), ("tracestate", "secret"), ("baggage", "k=secret,secret,s;secret")];
        for finding in explain(&carrier, &Policy::default()) {
            assert!(finding.text.is_none() && !finding.sentence.contains("secret"));
        }
        assert!(
            explain_with_text(&carrier, &Policy::default()).iter().any(|one| one.text.as_deref() == Some("k=secret"))
        );
    }
}

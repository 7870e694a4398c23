//! Saying, in sentences, what is taken from a caller's headers and what is not: for people who look for a lost trace.
//!
//! It reads the headers by the same functions as [`extract`](crate::extract()), and tells more.

use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::iter;

use crate::baggage::{Baggage, Member};
use crate::carrier::{Collected, Extractor, Header};
use crate::extract::{Candidates, has_text, judge, trace_state};
use crate::names::Names;
use crate::octets::trim_ows;
use crate::policy::{InboundMode, Policy};
use crate::rule::{Rule, RuleSet};
use crate::session::{OwnMember, PRIVATE_KEY};
use crate::traceparent::Traceparent;

/// What became of a header or a member of one.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Verdict {
    /// It is used or passed on; the finding says as what.
    Kept,
    /// It is left out, or not used as what it would be, by the finding's rule. There is no rule where nothing is wrong
    /// with it: a member that means something in the caller's process only.
    Dropped,
    /// It is not there.
    Missing,
}

impl Verdict {
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
    pub verdict: Verdict,
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
///
/// The rules of the findings that are [`Verdict::Dropped`] are those in [`Inbound::dropped`](crate::Inbound::dropped).
/// Everything that is there has a finding; a header or member has several where there is more than one thing to say.
pub fn explain<E: Extractor + ?Sized>(carrier: &E, policy: &Policy) -> Vec<Finding> {
    Findings { list: Vec::new(), with_text: false }.explain(&carrier.collect(), policy)
}

/// As [`explain`], with the text of headers and members.
pub fn explain_with_text<E: Extractor + ?Sized>(carrier: &E, policy: &Policy) -> Vec<Finding> {
    Findings { list: Vec::new(), with_text: true }.explain(&carrier.collect(), policy)
}

/// What becomes of a session or project beside the one that counts.
const OUTDONE: &str = "Another member counts, and takes this one's place when it is sent on.";

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
        let parent = Traceparent::parse_all(headers.values(Header::Traceparent));
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
                let value = headers.values(header).first().map(|value| trim_ows(value)).unwrap_or_default();
                if !value.starts_with(b"00") {
                    self.noted(header, None, Rule::TraceparentDowngraded, &text);
                }
                // Level 2 has two flags: the low bits of the last digit.
                if !matches!(value.get(53..55), Some([b'0', b'0'..=b'3'])) {
                    self.noted(header, None, Rule::TraceparentFlags, &text);
                }
            }
        }
    }

    fn tracestate(&mut self, headers: &Collected<'_>, parent: &Result<Option<Traceparent>, Rule>) {
        let header = Header::Tracestate;
        let text = joined(headers, header);
        match parent {
            Ok(Some(_)) => {}
            // What is blank says nothing that could be discarded.
            _ if !has_text(headers, header) => return,
            Ok(None) => return self.dropped(header, None, Rule::TracestateAlone, &text),
            Err(_) => return self.dropped(header, None, Rule::TracestateOfInvalid, &text),
        }
        match trace_state(headers) {
            Err(rule) => self.dropped(header, None, rule, &text),
            Ok(state) if state.is_empty() => {}
            Ok(state) => {
                self.kept(header, None, "The tracestate is passed on byte for byte.", &text);
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
        let values = headers.values(header);
        let mut counted_per_member = RuleSet::EMPTY;
        let baggage = Baggage::parse(values, policy.max_members, policy.max_bytes, &mut counted_per_member);
        let chosen = Chosen::of(&baggage, policy);
        let mut kept = 0_usize;
        let items = Baggage::items(values, policy.max_members, policy.max_bytes);
        let texts = values.iter().flat_map(|value| value.split(|octet| *octet == b','));
        // What ends the reading may be blank.
        let texts = texts.map(trim_ows).filter(|text| !text.is_empty()).chain(iter::repeat(&[][..]));
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
        if headers.overflowed(header) {
            self.dropped(header, None, Rule::BaggageMemberCap, "");
        }
    }

    fn member(&mut self, position: usize, member: &Member<'_>, place: usize, chosen: &Chosen<'_>, policy: &Policy) {
        let (header, position, text) = (Header::Baggage, Some(position), member.raw());
        let value = member.value();
        // Another of the same name stands behind it.
        let is_later = chosen.names.last(member.name()).is_some_and(|last| last != place);
        let own = OwnMember::of(member.name());
        // There is nothing to judge about a source.
        let judged = own.filter(|own| *own != OwnMember::Source).map_or(Ok(()), |own| judge(own, policy, &value));
        match (own, judged) {
            (Some(own), Err(rule)) if !policy.accepts(own) => self.dropped(header, position, rule, text),
            (Some(_), _) if is_later => self.kept(header, position, OUTDONE, text),
            (Some(_), Err(rule)) => {
                self.dropped(header, position, rule, text);
                self.kept(
                    header,
                    position,
                    "It is sent on only where the service has nothing of its own to say.",
                    text,
                );
            }
            (Some(OwnMember::Session), Ok(())) if chosen.session == Some(place) => {
                self.kept(header, position, "The session is taken from this member.", text);
            }
            (Some(OwnMember::Project), Ok(())) if chosen.project == Some(place) => {
                self.kept(header, position, "The project is taken from this member.", text);
            }
            (Some(OwnMember::Source), Ok(())) => {
                let sentence = "The caller's source is replaced by the service's own when it sends.";
                self.kept(header, position, sentence, text);
            }
            (Some(_), Ok(())) => self.kept(header, position, OUTDONE, text),
            (None, _) if member.name() == PRIVATE_KEY => {
                let sentence = "This member means something in the caller's process only and is never sent on.";
                self.push(header, position, Verdict::Dropped, None, sentence, text);
            }
            (None, _) if policy.allows_attribute(member.name()) && !is_later => {
                let sentence = "The member becomes an attribute of spans and is passed on byte for byte.";
                self.kept(header, position, sentence, text);
            }
            (None, _) => self.kept(header, position, "The member is passed on byte for byte.", text),
        }
        if is_later && own.is_none_or(|own| policy.accepts(own)) {
            self.noted(header, position, Rule::BaggageDuplicate, text);
        }
        if value.chars().any(|character| character == char::REPLACEMENT_CHARACTER) {
            self.noted(header, position, Rule::BaggageReplaced, text);
        }
    }

    fn kept(&mut self, header: Header, position: Option<usize>, sentence: &'static str, text: &str) {
        self.push(header, position, Verdict::Kept, None, sentence, text);
    }

    /// Kept, and read in a way that a rule describes.
    fn noted(&mut self, header: Header, position: Option<usize>, rule: Rule, text: &str) {
        self.push(header, position, Verdict::Kept, Some(rule), rule.sentence(), text);
    }

    fn dropped(&mut self, header: Header, position: Option<usize>, rule: Rule, text: &str) {
        self.push(header, position, Verdict::Dropped, Some(rule), rule.sentence(), text);
    }

    fn missing(&mut self, header: Header, sentence: &'static str) {
        self.push(header, None, Verdict::Missing, None, sentence, "");
    }

    fn push(
        &mut self,
        header: Header,
        position: Option<usize>,
        verdict: Verdict,
        rule: Option<Rule>,
        sentence: &'static str,
        text: &str,
    ) {
        let text = (self.with_text && !text.is_empty()).then(|| text.to_string());
        self.list.push(Finding { header, position, verdict, rule, sentence, text });
    }
}

/// Places in the list of kept members.
struct Chosen<'a> {
    session: Option<usize>,
    project: Option<usize>,
    names: Names<'a>,
}

impl<'a> Chosen<'a> {
    fn of(baggage: &'a Baggage, policy: &Policy) -> Self {
        let names = Names::of(baggage.iter().map(|member| member.name()).collect());
        let candidates = Candidates::of(baggage);
        let place = |own| {
            let member = candidates.by_preference(own).find(|member| judge(own, policy, &member.value()).is_ok())?;
            names.last(member.name())
        };
        Self { session: place(OwnMember::Session), project: place(OwnMember::Project), names }
    }
}

/// All values of a header as people would write them.
fn joined(headers: &Collected<'_>, header: Header) -> String {
    let mut text = String::new();
    for (at, value) in headers.values(header).iter().enumerate() {
        text.push_str(if at == 0 { "" } else { ", " });
        text.push_str(&String::from_utf8_lossy(value));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    const TRACEPARENT: (&str, &str) = ("Traceparent", "cc-0af7651916cd43dd8448eb211c80319c-00f067aa0ba902b7-ff-x");

    fn short(findings: &[Finding]) -> Vec<(&'static str, Option<usize>, &'static str, &'static str)> {
        let rule = |finding: &Finding| finding.rule.map_or("", Rule::id);
        findings.iter().map(|one| (one.header.name(), one.position, one.verdict.as_str(), rule(one))).collect()
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
                ("traceparent", None, "kept", "TP9"),
                ("tracestate", None, "dropped", "TS3"),
                ("baggage", Some(0), "kept", ""),
                ("baggage", Some(1), "dropped", "B3"),
                ("baggage", Some(2), "kept", ""),
                ("baggage", Some(3), "kept", ""),
                ("baggage", Some(3), "kept", "B9"),
                ("baggage", Some(4), "kept", ""),
                ("baggage", Some(5), "kept", ""),
                ("baggage", Some(6), "dropped", ""),
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
                ("traceparent", None, "kept", "TP9"),
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
    fn says_what_becomes_of_a_session_that_is_not_taken() {
        let long = "x".repeat(257);
        let carrier = [("baggage", alloc::format!("session_id=a,honeyhive.session_id={long},project=,session_id="))];
        let sentences = |policy: &Policy| {
            let findings = explain(&carrier, policy).into_iter().filter(|one| one.header == Header::Baggage);
            findings
                .map(|one| (one.position, one.verdict.as_str(), one.rule.map_or(one.sentence, Rule::id)))
                .collect::<Vec<_>>()
        };
        let unless = "It is sent on only where the service has nothing of its own to say.";
        assert_eq!(
            sentences(&Policy::default()),
            [
                (Some(0), "kept", OUTDONE),
                (Some(0), "kept", "B9"),
                (Some(1), "dropped", "S2"),
                (Some(1), "kept", unless),
                (Some(2), "dropped", "S3"),
                (Some(2), "kept", unless),
                (Some(3), "dropped", "S1"),
                (Some(3), "kept", unless),
            ]
        );
        let closed = Policy { accept_session: false, accept_project: false, ..Policy::default() };
        let dropped = |position, rule| (Some(position), "dropped", rule);
        assert_eq!(sentences(&closed), [dropped(0, "P3"), dropped(1, "P3"), dropped(2, "P4"), dropped(3, "P3")]);
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

    #[test]
    fn empty_members_do_not_shift_the_texts_of_others() {
        let carrier = [("baggage", " ,, a b=1 ,\t"), ("baggage", ",k=v,,no"), ("baggage", "@=2")];
        let findings = explain_with_text(&carrier, &Policy::default());
        let texts = findings.iter().filter(|one| one.header == Header::Baggage);
        let texts: Vec<_> = texts.map(|one| (one.position, one.verdict.as_str(), one.text.as_deref())).collect();
        assert_eq!(
            texts,
            [
                (Some(0), "dropped", Some("a b=1")),
                (Some(1), "kept", Some("k=v")),
                (Some(2), "dropped", Some("no")),
                (Some(3), "dropped", Some("@=2")),
            ]
        );
    }
}

//! A generated header, and what somebody reads in it.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use tracebaton::Baggage;
use tracebaton::TraceState;
use tracebaton::baggage::Member;
use tracebaton::rule::{Rule, RuleSet};
use tracebaton::traceparent::Traceparent;

/// Which header is generated. A `tracestate` stands beside a valid `traceparent`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) enum Kind {
    Traceparent,
    Tracestate,
    Baggage,
}

impl Kind {
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Traceparent => "traceparent",
            Self::Tracestate => "tracestate",
            Self::Baggage => "baggage",
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) enum Sdk {
    Python,
    Node,
    Rust,
}

impl Sdk {
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Python => "opentelemetry-api (Python)",
            Self::Node => "@opentelemetry/core (Node)",
            Self::Rust => "opentelemetry (Rust)",
        }
    }
}

/// What a header was read as.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Reading {
    /// Trace id, span id and flags.
    Traceparent(Option<(String, String, u8)>),
    /// Keys and values in order.
    Tracestate(Vec<(String, String)>),
    /// Names with their values and properties.
    Baggage(BTreeMap<String, (String, String)>),
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

impl Reading {
    /// `null` or `[trace, span, flags]`; `[[key, value]]`; `[[name, value, properties]]`.
    pub(crate) fn from_json(kind: Kind, value: &Value) -> Self {
        let rows = || value.as_array().into_iter().flatten();
        match kind {
            Kind::Traceparent => Self::Traceparent(value.as_array().map(|_| {
                (
                    text(&value[0]),
                    text(&value[1]),
                    value[2].as_u64().and_then(|it| it.try_into().ok()).unwrap_or(u8::MAX),
                )
            })),
            Kind::Tracestate => Self::Tracestate(rows().map(|row| (text(&row[0]), text(&row[1]))).collect()),
            Kind::Baggage => Self::Baggage(rows().map(|row| (text(&row[0]), (text(&row[1]), text(&row[2])))).collect()),
        }
    }

    fn to_json(&self) -> Value {
        match self {
            Self::Traceparent(parsed) => json!(parsed),
            Self::Tracestate(members) => json!(members),
            Self::Baggage(entries) => {
                json!(entries.iter().map(|(name, (value, properties))| (name, value, properties)).collect::<Vec<_>>())
            }
        }
    }
}

/// The values of one header with what core reads in them.
#[derive(Debug)]
pub(crate) struct Case {
    pub(crate) kind: Kind,
    pub(crate) values: Vec<String>,
    pub(crate) ours: Reading,
    /// The rules by which something was left out.
    pub(crate) dropped: RuleSet,
}

impl Case {
    pub(crate) fn new(kind: Kind, values: Vec<String>) -> Self {
        let lines: Vec<&[u8]> = values.iter().map(String::as_bytes).collect();
        let mut dropped = RuleSet::EMPTY;
        let ours = match kind {
            Kind::Traceparent => Reading::Traceparent(match Traceparent::parse_all(&lines) {
                Ok(parsed) => parsed.map(|it| (it.trace_id.to_string(), it.span_id.to_string(), it.flags.bits())),
                Err(rule) => {
                    dropped.insert(rule);
                    None
                }
            }),
            Kind::Tracestate => {
                let state = TraceState::parse_all(&lines).unwrap_or_else(|rule| {
                    dropped.insert(rule);
                    TraceState::EMPTY
                });
                Reading::Tracestate(state.iter().map(|(key, value)| (key.to_owned(), value.to_owned())).collect())
            }
            Kind::Baggage => {
                let baggage = Baggage::parse(&lines, Baggage::MAX_MEMBERS, Baggage::MAX_BYTES, &mut dropped);
                let entry = |member: Member<'_>| {
                    let properties = member.properties_raw().unwrap_or_default().to_owned();
                    (member.name().to_owned(), (member.value().into_owned(), properties))
                };
                Reading::Baggage(baggage.entries().map(entry).collect())
            }
        };
        Self { kind, values, ours, dropped }
    }

    /// Whether nothing had to be left out.
    pub(crate) fn is_valid(&self) -> bool {
        self.dropped.is_empty()
    }

    pub(crate) fn to_json(&self, number: u64) -> Value {
        let rules: Vec<_> = self.dropped.iter().map(Rule::id).collect();
        json!({ "n": number, "kind": self.kind.name(), "values": self.values, "ours": self.ours.to_json(), "dropped": rules })
    }

    pub(crate) fn from_json(value: &Value) -> Result<Self, String> {
        let kind = [Kind::Traceparent, Kind::Tracestate, Kind::Baggage]
            .into_iter()
            .find(|kind| value["kind"] == kind.name())
            .ok_or("a case without a kind")?;
        let case = Self::new(kind, value["values"].as_array().into_iter().flatten().map(text).collect());
        // What was written is what is compared.
        if case.ours != Reading::from_json(kind, &value["ours"]) {
            return Err(format!("core reads case {} in another way than it did", value["n"]));
        }
        Ok(case)
    }
}

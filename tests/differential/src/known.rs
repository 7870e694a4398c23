//! The differences that are known, each with the rule by which core does otherwise. What is not here fails.

use crate::case::{Kind, Sdk};
use crate::classify::{Difference, What};

pub(crate) struct Known {
    pub(crate) sdks: &'static [Sdk],
    pub(crate) kind: Kind,
    pub(crate) rule: &'static str,
    difference: What,
    /// What they do.
    pub(crate) what: &'static str,
}

const fn known(sdks: &'static [Sdk], kind: Kind, rule: &'static str, difference: What, what: &'static str) -> Known {
    Known { sdks, kind, rule, difference, what }
}

use Kind::{Baggage, Traceparent, Tracestate};
use Sdk::{Node, Python, Rust};
use What::{Changes, Loses, Takes};

pub(crate) const LIST: &[Known] = &[
    known(&[Node], Traceparent, "TP2", Loses, "refuses more than one space or tab on a side"),
    known(&[Node], Traceparent, "TP3", Takes, "takes a line end in front"),
    known(&[Rust], Traceparent, "TP3", Takes, "takes versions of one digit and of three, and white space of any kind"),
    known(&[Node, Python], Traceparent, "TP4", Takes, "takes a line end behind"),
    known(&[Rust], Traceparent, "TP4", Takes, "takes ids with fewer digits, and a dash behind"),
    known(&[Rust], Traceparent, "TP5", Takes, "takes a version in upper case, and signs in front of numbers"),
    known(&[Node, Python], Traceparent, "TP7", Loses, "refuses a line end in what a later version adds"),
    known(&[Rust], Traceparent, "TP7", Takes, "takes ids with fewer digits in later versions, too"),
    known(&[Node, Python], Traceparent, "TP9", Changes, "keeps flags that nobody defined, and sends them on"),
    known(&[Rust], Traceparent, "TP10", Changes, "clears the random flag"),
    known(
        &[Node, Python, Rust],
        Traceparent,
        "TP11",
        Takes,
        "takes the first of several headers, or of several joined ones",
    ),
    known(&[Rust], Tracestate, "TS1", Loses, "reads the first header line only"),
    known(&[Node, Rust], Tracestate, "TS2", Takes, "keeps 32 members of more"),
    known(&[Rust], Tracestate, "TS2", Loses, "counts empty members"),
    known(&[Node], Tracestate, "TS3", Takes, "leaves out what has no legal key, and keeps the rest"),
    known(&[Rust], Tracestate, "TS3", Takes, "takes an empty key, or does not read the line that is bad"),
    known(&[Node, Python, Rust], Tracestate, "TS3", Loses, "refuses keys that level 1 did not allow"),
    known(&[Node], Tracestate, "TS4", Takes, "leaves out what has no legal value, and keeps the rest"),
    known(&[Rust], Tracestate, "TS4", Takes, "takes an empty value, and one of any characters"),
    known(&[Node], Tracestate, "TS5", Takes, "leaves out a key with white space behind it, and keeps the rest"),
    known(&[Rust], Tracestate, "TS5", Takes, "does not read the line that is bad"),
    known(&[Python], Tracestate, "TS5", Loses, "refuses white space around the header"),
    known(&[Node], Tracestate, "TS6", Changes, "the last value of a key counts"),
    known(&[Rust], Tracestate, "TS6", Changes, "keeps all members of a key"),
    known(&[Python], Tracestate, "TS6", Loses, "refuses the whole for a key that repeats"),
    known(&[Node], Tracestate, "TS7", Loses, "does not read what lies past 512 bytes"),
    known(&[Node, Python], Baggage, "B2.bytes", Loses, "leaves out members of more than 4,096 bytes"),
    known(&[Rust], Baggage, "B2.members", Loses, "reads 64 members"),
    known(&[Node, Python, Rust], Baggage, "B3", Changes, "decodes names, or refuses those that do not decode"),
    known(&[Node], Baggage, "B3", Takes, "takes names of any characters"),
    known(&[Python], Baggage, "B3", Takes, "takes a name that becomes legal, or empty, when it is decoded"),
    known(
        &[Rust],
        Baggage,
        "B3",
        Takes,
        "takes white space of any kind around names, and what becomes legal when it is decoded",
    ),
    known(&[Node], Baggage, "B4", Loses, "leaves out empty values"),
    known(&[Node, Rust], Baggage, "B4", Takes, "takes values of any characters"),
    known(&[Node, Rust], Baggage, "B5", Loses, "leaves out a value that does not decode"),
    known(&[Python], Baggage, "B5", Changes, "reads a plus as a space"),
    known(&[Rust], Baggage, "B6", Changes, "ends the value at its second equals sign"),
    known(&[Python], Baggage, "B7", Changes, "makes properties part of the value"),
    known(&[Node], Baggage, "B7", Changes, "keeps white space around properties"),
    known(&[Rust], Baggage, "B7", Changes, "decodes properties, and leaves out those that do not decode"),
    known(&[Node, Python, Rust], Baggage, "B7", Takes, "takes properties that are none, or empty ones"),
    known(
        &[Python],
        Baggage,
        "B8",
        Loses,
        "leaves out members with white space around names and values, or around the header",
    ),
    known(&[Python, Rust], Baggage, "B8", Changes, "trims white space that was percent-encoded"),
    known(
        &[Node, Python, Rust],
        Baggage,
        "B9",
        Changes,
        "of two members with one name, does not read the one that counts",
    ),
    known(&[Python, Rust], Baggage, "B11", Loses, "reads the first header line only"),
    known(&[Python, Rust], Baggage, "B14a.bytes", Loses, "reads nothing of a header past the limit of bytes"),
    known(&[Node], Baggage, "B14a.bytes", Takes, "does not count members that it leaves out"),
    known(&[Node, Python, Rust], Baggage, "B14a.members", Takes, "does not count members that it leaves out"),
];

/// The entry for a difference.
pub(crate) fn find(sdk: Sdk, kind: Kind, difference: &Difference) -> Option<&'static Known> {
    LIST.iter().find(|known| {
        known.sdks.contains(&sdk)
            && known.kind == kind
            && known.rule == difference.rule
            && known.difference == difference.what
    })
}

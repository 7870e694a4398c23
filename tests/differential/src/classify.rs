//! Where another SDK reads a header in another way, and which rule that is about.

use std::collections::{BTreeMap, BTreeSet};

use tracebaton::Baggage;
use tracebaton::baggage::Member;
use tracebaton::rule::Rule;

use crate::case::{Case, Reading, Sdk};

/// One way in which an SDK differs from core, and the rule that says what core does there.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) struct Difference {
    pub(crate) rule: &'static str,
    pub(crate) what: What,
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) enum What {
    /// It takes what the rule refuses.
    Takes,
    /// It refuses, or loses, what the rule allows.
    Loses,
    /// It makes something else of what the rule describes.
    Changes,
}

const fn takes(rule: &'static str) -> Difference {
    Difference { rule, what: What::Takes }
}

const fn loses(rule: &'static str) -> Difference {
    Difference { rule, what: What::Loses }
}

const fn changes(rule: &'static str) -> Difference {
    Difference { rule, what: What::Changes }
}

/// A difference that no rule explains: it is in no list.
const UNEXPLAINED: Difference = changes("none");

/// All differences, each once; none if both read the same.
pub(crate) fn differences(case: &Case, sdk: Sdk, theirs: &Reading) -> BTreeSet<Difference> {
    match (&case.ours, theirs) {
        (Reading::Traceparent(ours), Reading::Traceparent(theirs)) => traceparent(case, ours.as_ref(), theirs.as_ref()),
        (Reading::Tracestate(ours), Reading::Tracestate(theirs)) => tracestate(case, sdk, ours, theirs),
        (Reading::Baggage(ours), Reading::Baggage(theirs)) => baggage(case, sdk, ours, theirs),
        _ => BTreeSet::from([UNEXPLAINED]),
    }
}

/// The first rule by which core left something out.
fn dropped(case: &Case) -> &'static str {
    case.dropped.iter().next().map_or("none", Rule::id)
}

type Parent = (String, String, u8);

fn traceparent(case: &Case, ours: Option<&Parent>, theirs: Option<&Parent>) -> BTreeSet<Difference> {
    let first = case.values.first().map_or("", String::as_str);
    let found = match (ours, theirs) {
        (Some(ours), Some(theirs)) if (&ours.0, &ours.1) == (&theirs.0, &theirs.1) => {
            match (ours.2, theirs.2) {
                (ours, theirs) if ours == theirs => None,
                // Unknown flags are kept.
                (ours, theirs) if ours == theirs & 3 => Some(changes("TP9")),
                // The random flag is lost.
                (ours, theirs) if ours & 1 == theirs => Some(changes("TP10")),
                _ => Some(UNEXPLAINED),
            }
        }
        (Some(_), Some(_)) => Some(UNEXPLAINED),
        (None, Some(_)) => Some(takes(dropped(case))),
        (Some(_), None) if first.starts_with([' ', '\t']) || first.ends_with([' ', '\t']) => Some(loses("TP2")),
        (Some(_), None) if !first.starts_with("00") => Some(loses("TP7")),
        (Some(_), None) => Some(UNEXPLAINED),
        (None, None) => None,
    };
    found.into_iter().collect()
}

type Members = [(String, String)];

fn tracestate(case: &Case, sdk: Sdk, ours: &Members, theirs: &Members) -> BTreeSet<Difference> {
    if ours == theirs {
        return BTreeSet::new();
    }
    if !case.dropped.is_empty() {
        return BTreeSet::from([takes(dropped(case))]);
    }
    let text = case.values.join(",");
    let all: Vec<(&str, &str)> =
        text.split(',').filter_map(|member| member.trim_matches([' ', '\t']).split_once('=')).collect();
    // A key that level 1 of the specification did not allow.
    // Rust's counts the at sign as part of what stands behind it.
    let most_of_system = if sdk == Sdk::Rust { 13 } else { 14 };
    let is_level_2 = |key: &str| {
        let rest_is = |text: &str, most: usize| text.len() <= most && !text.contains('@');
        let level_1 = match key.split_once('@') {
            Some((tenant, system)) => {
                rest_is(tenant, 241)
                    && rest_is(system, most_of_system)
                    && system.starts_with(|first: char| first.is_ascii_lowercase())
            }
            None => key.starts_with(|first: char| first.is_ascii_lowercase()),
        };
        !level_1
    };
    let keys: BTreeSet<&str> = all.iter().map(|(key, _)| *key).collect();
    let has_duplicates = keys.len() < all.len();
    let mut found = BTreeSet::new();
    if theirs.is_empty() && sdk != Sdk::Node {
        // They refuse the whole for one member.
        if all.iter().any(|(key, _)| is_level_2(key)) {
            found.insert(loses("TS3"));
        } else if has_duplicates {
            found.insert(loses("TS6"));
        } else if sdk == Sdk::Rust
            && case.values.len() > 1
            && case.values.first().is_some_and(|first| !first.contains('='))
        {
            found.insert(loses("TS1"));
        } else if sdk == Sdk::Python
            && case.values.iter().any(|value| value.starts_with([' ', '\t']) || value.ends_with([' ', '\t']))
        {
            found.insert(loses("TS5"));
        } else {
            found.insert(UNEXPLAINED);
        }
        return found;
    }
    let in_theirs: BTreeMap<&str, &str> = theirs.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect();
    let bytes = all.iter().fold(0usize, |sum, (key, value)| sum.saturating_add(key.len() + value.len() + 2));
    for (key, value) in ours {
        let repeats = all.iter().filter(|(other, _)| other == key).count() > 1;
        let only_first_line = case.values.first().is_some_and(|first| !first.contains(&format!("{key}={value}")));
        let difference = match in_theirs.get(key.as_str()) {
            Some(theirs) if theirs == value => continue,
            Some(_) if repeats => changes("TS6"),
            Some(theirs) if value.trim_matches(' ') == *theirs => changes("TS4"),
            Some(_) => UNEXPLAINED,
            None if is_level_2(key) => loses("TS3"),
            None if bytes > 512 && sdk == Sdk::Node => loses("TS7"),
            None if text.split(',').count() > 32 && sdk == Sdk::Rust => loses("TS2"),
            None if case.values.len() > 1 && only_first_line && sdk == Sdk::Rust => loses("TS1"),
            None => UNEXPLAINED,
        };
        found.insert(difference);
    }
    let known: BTreeSet<&str> = ours.iter().map(|(key, _)| key.as_str()).collect();
    if theirs.iter().any(|(key, _)| !known.contains(key.as_str())) {
        found.insert(UNEXPLAINED);
    }
    if found.is_empty() {
        // The same members, in another order or more than once.
        found.insert(if has_duplicates { changes("TS6") } else { UNEXPLAINED });
    }
    found
}

type Entries = BTreeMap<String, (String, String)>;

/// A list member of the header: its text, and what core makes of it.
struct Item<'a> {
    text: &'a str,
    read: Result<Member<'a>, Rule>,
}

impl Item<'_> {
    /// Its name as somebody may read it who decodes, and who does not keep to the grammar.
    fn has_name(&self, name: &str, sdk: Sdk) -> bool {
        let (raw, _) = self.text.split_once('=').unwrap_or((self.text, ""));
        let raw = raw.split(';').next().unwrap_or_default();
        let decoded = decode(raw.trim(), sdk == Sdk::Python);
        decoded == name || decoded.trim() == name || raw.trim() == name
    }

    fn raw_value(&self) -> &str {
        self.text.split_once('=').map_or("", |(_, rest)| rest.split(';').next().unwrap_or_default())
    }
}

/// Percent-decoded, as a lenient reader does it.
fn decode(text: &str, plus_is_space: bool) -> String {
    let mut out = Vec::new();
    let mut rest = text.as_bytes();
    while let [octet, tail @ ..] = rest {
        rest = tail;
        let hex = |octet: &u8| char::from(*octet).to_digit(16).and_then(|it| u8::try_from(it).ok());
        match (octet, tail) {
            (b'%', [high, low, tail @ ..]) => match (hex(high), hex(low)) {
                (Some(high), Some(low)) => {
                    out.push(high << 4 | low);
                    rest = tail;
                }
                _ => out.push(b'%'),
            },
            (b'+', _) if plus_is_space => out.push(b' '),
            _ => out.push(*octet),
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

fn baggage(case: &Case, sdk: Sdk, ours: &Entries, theirs: &Entries) -> BTreeSet<Difference> {
    let mut found = BTreeSet::new();
    if ours == theirs {
        return found;
    }
    let lines: Vec<&[u8]> = case.values.iter().map(String::as_bytes).collect();
    let reads = Baggage::items(&lines, Baggage::MAX_MEMBERS, Baggage::MAX_BYTES);
    let texts = case.values.iter().flat_map(|value| value.split(',')).map(|text| text.trim_matches([' ', '\t']));
    let items: Vec<Item<'_>> =
        texts.filter(|text| !text.is_empty()).zip(reads).map(|(text, read)| Item { text, read }).collect();
    let bytes = case.values.iter().fold(0usize, |sum, value| sum.saturating_add(value.len()));
    let names: BTreeSet<&String> = ours.keys().chain(theirs.keys()).collect();
    for name in names {
        let of_name: Vec<&Item<'_>> = items.iter().filter(|item| item.has_name(name, sdk)).collect();
        let difference = match (ours.get(name), theirs.get(name)) {
            (Some(ours), Some(theirs)) if ours == theirs => continue,
            (Some(ours), Some(theirs)) => match value_differs(case, sdk, name, &of_name, ours, theirs) {
                // A later member of that name, past a limit of core's, counts there.
                UNEXPLAINED => past_a_limit(&items),
                difference => difference,
            },
            (None, _) => taken(&of_name, &items),
            (Some(_), None) => lost(case, sdk, name, &of_name, bytes),
        };
        found.insert(difference);
    }
    found
}

/// They have a name that core does not have.
fn taken(of_name: &[&Item<'_>], items: &[Item<'_>]) -> Difference {
    match of_name.last().map(|item| item.read) {
        Some(Err(rule)) => takes(rule.id()),
        // Core has it under its raw name.
        Some(Ok(_)) => changes("B3"),
        None => past_a_limit(items),
    }
}

/// They read on where core stops.
fn past_a_limit(items: &[Item<'_>]) -> Difference {
    match items.last().map(|item| item.read) {
        Some(Err(rule @ (Rule::BaggageMemberCap | Rule::BaggageByteCap))) => takes(rule.id()),
        _ => UNEXPLAINED,
    }
}

fn lost(case: &Case, sdk: Sdk, name: &str, of_name: &[&Item<'_>], bytes: usize) -> Difference {
    let Some(Item { text, read: Ok(member) }) = of_name.iter().rev().find(|item| item.read.is_ok()) else {
        return UNEXPLAINED;
    };
    // Empty members count there.
    let mut all = case.values.iter().flat_map(|value| value.split(','));
    let at = all.position(|other| std::ptr::eq(other.trim_matches([' ', '\t']), *text)).unwrap_or_default();
    let raw = member.raw_value();
    let decoded = decode(raw, false);
    let spaced = |text: &str| text.trim_matches([' ', '\t']).len() < text.len();
    let (before, behind) = text.split_once('=').unwrap_or_default();
    let first_line_has_it = case.values.first().is_some_and(|first| first.contains(*text));
    match sdk {
        // They read the first line only.
        Sdk::Rust | Sdk::Python if case.values.len() > 1 && !first_line_has_it => loses("B11"),
        // They refuse the whole header.
        Sdk::Rust | Sdk::Python if bytes > Baggage::MAX_BYTES => loses("B14a.bytes"),
        Sdk::Rust if at >= 64 => loses("B2.members"),
        Sdk::Python | Sdk::Node if text.len() > 4096 => loses("B2.bytes"),
        _ if decode(name, sdk == Sdk::Python) != name || has_stray_percent(name) => changes("B3"),
        // White space around the first line is not left off there.
        Sdk::Python if is_at_the_edge(case, text) => loses("B8"),
        Sdk::Python if spaced(before) || spaced(behind.split(';').next().unwrap_or_default()) => loses("B8"),
        Sdk::Python if member.properties_raw().is_some() => loses("B7"),
        Sdk::Node if raw.is_empty() => loses("B4"),
        Sdk::Node | Sdk::Rust if decoded.contains('\u{fffd}') || has_stray_percent(raw) => loses("B5"),
        _ => UNEXPLAINED,
    }
}

/// Whether white space stands between this item and the beginning or the end of its line.
fn is_at_the_edge(case: &Case, text: &str) -> bool {
    case.values.iter().any(|value| {
        let trimmed = value.trim_matches([' ', '\t', ',']);
        trimmed.len() < value.len() && (trimmed.starts_with(text) || trimmed.ends_with(text))
    })
}

fn has_stray_percent(raw: &str) -> bool {
    raw.match_indices('%').any(|(at, _)| {
        let digits = raw.get(at.saturating_add(1)..at.saturating_add(3)).unwrap_or_default();
        digits.len() < 2 || !digits.bytes().all(|octet| octet.is_ascii_hexdigit())
    })
}

fn value_differs(
    case: &Case,
    sdk: Sdk,
    name: &str,
    of_name: &[&Item<'_>],
    ours: &(String, String),
    theirs: &(String, String),
) -> Difference {
    // Of several members with this name, one that core refuses, or does not come to, counts there; or one that they do
    // not take counts here.
    if of_name.len() > 1 {
        let last = of_name.last().map(|item| item.read);
        if let Some(Err(rule)) = last {
            return takes(rule.id());
        }
        let counts = |item: &Item<'_>| {
            let value = decode(item.raw_value(), sdk == Sdk::Python);
            let behind = theirs.0.strip_prefix(value.trim());
            behind.is_some_and(|rest| rest.is_empty() || sdk == Sdk::Python && rest.trim_start().starts_with(';'))
        };
        if sdk == Sdk::Rust && case.values.iter().flat_map(|value| value.split(',')).count() > 64 {
            return loses("B2.members");
        }
        // It has this name only when it is decoded.
        if let Some(Ok(member)) = last
            && member.name() != name
            && of_name.last().is_some_and(|item| counts(item))
        {
            return changes("B3");
        }
        if of_name.iter().rev().skip(1).any(|item| counts(item)) || case.values.len() > 1 {
            return changes("B9");
        }
    }
    let Some(Item { read: Ok(member), .. }) = of_name.last() else { return UNEXPLAINED };
    let raw = member.raw_value();
    let properties = member.properties_raw();
    if ours.0 == theirs.0 {
        // White space in properties is left off, or they are decoded.
        let plain = |text: &str| decode(text, false).replace([' ', '\t'], "");
        // What does not decode is lost.
        let is_text = |property: &&str| !property.is_empty() && !property.contains('\u{fffd}');
        let trimmed =
            |text: &str| text.split(';').map(plain).filter(|it| is_text(&it.as_str())).collect::<Vec<_>>().join(";");
        return if trimmed(&ours.1) == trimmed(&theirs.1) { changes("B7") } else { UNEXPLAINED };
    }
    match sdk {
        // Properties become part of the value.
        Sdk::Python if properties.is_some() && theirs.0.starts_with(decode(raw, true).trim()) => changes("B7"),
        Sdk::Python if raw.contains('+') && decode(raw, true).trim() == theirs.0 => changes("B5"),
        // The value ends at its second equals sign.
        Sdk::Rust
            if raw.split('=').next().map(|cut| decode(cut, false).trim().to_owned()).as_ref() == Some(&theirs.0) =>
        {
            if raw.contains('=') {
                changes("B6")
            } else {
                changes("B8")
            }
        }
        // White space that was percent-encoded is trimmed off.
        _ if ours.0.trim() == theirs.0 => changes("B8"),
        _ => UNEXPLAINED,
    }
}

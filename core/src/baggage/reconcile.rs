//! Brings together what came in and what an API of names and values made of it.
//!
//! OpenTelemetry's baggage is a map from names to values: it knows no properties (or only as a text), no order that
//! counts, no second member of one name, and not how a value was encoded. So the list that came in travels beside it,
//! and is compared with it when headers are written.

use alloc::borrow::{Cow, ToOwned};
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;

use super::{Baggage, Entry, Member};
use crate::octets::has_any;
use crate::percent;

/// What makes a name another one when it is decoded.
const NAME_CODES: [u8; 2] = [b'%', b'+'];

/// What [`reconcile`] finds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reconciled<'a> {
    /// What was set through the API, new or changed, in its order: to be written in front.
    pub application: Vec<Entry<'a>>,
    /// What came in and was not touched: the same bytes in the same order.
    pub inbound: Baggage,
}

/// Compares what came in with what the API has now. Changed there: the API's entry wins. Untouched: the bytes that
/// came in, all members of that name. Deleted there: gone. New there: in front.
///
/// `api` are the API's entries, where a name stands once. An entry is untouched if its value is the decoded value of
/// the last member of its name, and its properties, if it has any, are that member's. So is one of an API that takes
/// properties for a part of the value, decodes `+` and names too, and trims, as OpenTelemetry's for Python does.
pub fn reconcile<'a>(inbound: &Baggage, api: impl IntoIterator<Item = Entry<'a>>) -> Reconciled<'a> {
    let last: BTreeMap<_, _> = inbound.iter().map(|member| (member.name, member)).collect();
    let decoded = decoded_names(inbound);
    let mut untouched = BTreeSet::new();
    let mut application = Vec::new();
    for entry in api {
        match last.get(entry.name) {
            Some(member) if says_the_same(member, &entry) => {
                untouched.insert(entry.name);
            }
            // What an API made of a name that it decoded stands beside the name that came in.
            None if decoded.get(entry.name).is_some_and(|member| says_the_same(member, &entry)) => {}
            _ => application.push(entry),
        }
    }
    Reconciled { application, inbound: inbound.retain(|member| untouched.contains(member.name)) }
}

/// Whether an entry of an API is what came in as this member: the same value, decoded, and the same properties unless
/// the API has none. An API that has none may have taken them for a part of the value.
pub(crate) fn says_the_same(member: &Member<'_>, entry: &Entry<'_>) -> bool {
    match entry.properties {
        Some(text) => member.value() == entry.value && text == member.properties_raw().unwrap_or_default(),
        None => member.value() == entry.value || (is_coded(member.rest) && as_form(member) == entry.value),
    }
}

/// The names, sorted, under which a carrier holds what came in anyway, as another propagator wrote it: with other
/// escapes, without properties or with them as a part of the value, and perhaps with a name decoded or encoded. Of
/// several members with one name the last counts (rule B9).
pub(crate) fn echoes<'a>(carrier: &'a Baggage, inbound: &Baggage) -> Vec<&'a str> {
    // By the name as it stands and, where that differs, as it may have been before it was encoded.
    let mut held: Vec<(Cow<'a, str>, Member<'a>, bool)> = Vec::with_capacity(carrier.iter().count());
    for member in carrier.iter() {
        held.push((Cow::Borrowed(member.name), member, false));
        if has_any(member.name, NAME_CODES) {
            held.push((decoded_name(member.name), member, false));
        }
    }
    held.sort_by(|(one, ..), (other, ..)| one.cmp(other));
    let mut judge = |name: &str, came_in: &Member<'_>| {
        let begin = held.partition_point(|(it, ..)| &**it < name);
        for (_, member, same) in held.iter_mut().skip(begin).take_while(|(it, ..)| it == name) {
            *same = is_echo(member, came_in);
        }
    };
    for member in inbound.iter() {
        judge(member.name, &member);
        if has_any(member.name, NAME_CODES) {
            judge(&decoded_name(member.name), &member);
        }
    }
    let last_of_each = held.chunk_by(|(one, ..), (other, ..)| one == other).filter_map(<[_]>::last);
    let mut names: Vec<_> = last_of_each.filter(|(.., same)| *same).map(|(_, member, _)| member.name).collect();
    names.sort_unstable();
    names
}

/// Whether a member in a carrier says what this one, which came in, says. One with properties that differ is the
/// application's.
fn is_echo(held: &Member<'_>, came_in: &Member<'_>) -> bool {
    if held.raw_rest() == came_in.raw_rest() {
        return true;
    }
    let is_either = |value: &str| came_in.value() == value || as_form(came_in) == value;
    held.properties_raw().is_none() && (is_either(&held.value()) || is_either(&as_form(held)))
}

/// Members whose names look otherwise when they are decoded: by the decoded name, the last of each.
fn decoded_names(baggage: &Baggage) -> BTreeMap<Cow<'_, str>, Member<'_>> {
    let coded = baggage.iter().filter(|member| has_any(member.name, NAME_CODES));
    coded.map(|member| (decoded_name(member.name), member)).collect()
}

/// What an API that decodes names makes of one. Rule B3 is not to.
fn decoded_name(name: &str) -> Cow<'_, str> {
    trimmed(percent::decode_form(name))
}

/// What an API without properties makes of all behind the equals sign.
fn as_form<'a>(member: &Member<'a>) -> Cow<'a, str> {
    trimmed(percent::decode_form(member.raw_rest()))
}

fn trimmed(text: Cow<'_, str>) -> Cow<'_, str> {
    match text {
        Cow::Borrowed(text) => Cow::Borrowed(text.trim()),
        Cow::Owned(text) => Cow::Owned(text.trim().to_owned()),
    }
}

fn is_coded(text: &str) -> bool {
    has_any(text, [b'%', b'+', b';'])
}

//! Brings together what came in and what an API of names and values made of it.
//!
//! OpenTelemetry's baggage is a map from names to values: it knows no properties (or only as a text), no order that
//! counts, no second member of one name, and not how a value was encoded. So the list that came in travels beside it,
//! and is compared with it when headers are written.

use alloc::borrow::{Cow, ToOwned};
use alloc::vec;
use alloc::vec::Vec;
use core::cell::Cell;

use super::{Baggage, Entry, Member};
use crate::names::Names;
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
    reconcile_each(inbound, &mut api.into_iter())
}

fn reconcile_each<'a>(inbound: &Baggage, api: &mut dyn Iterator<Item = Entry<'a>>) -> Reconciled<'a> {
    let members: Vec<_> = inbound.iter().collect();
    let names = Names::of(members.iter().map(|member| member.name).collect());
    // Names that look otherwise when they are decoded: of members with one such name, too, the last counts.
    let coded: Vec<_> = members.iter().filter(|member| has_any(member.name, NAME_CODES)).collect();
    let decoded: Vec<_> = coded.iter().map(|member| decoded_name(member.name)).collect();
    let decoded = Names::of(decoded.iter().map(|name| &**name).collect());
    // By the place of the last member of each name.
    let mut untouched = vec![false; members.len()];
    let mut application = Vec::new();
    for entry in api {
        let place = names.last(entry.name);
        match place.and_then(|at| Some((members.get(at)?, untouched.get_mut(at)?))) {
            Some((member, untouched)) if says_the_same(member, &entry) => *untouched = true,
            // What an API made of a name that it decoded stands beside the name that came in.
            None if decoded
                .last(entry.name)
                .and_then(|at| coded.get(at))
                .is_some_and(|member| says_the_same(member, &entry)) => {}
            _ => application.push(entry),
        }
    }
    let is_untouched = |name: &str| names.last(name).and_then(|at| untouched.get(at)).is_some_and(|is| *is);
    Reconciled { application, inbound: inbound.retain(|member| is_untouched(member.name)) }
}

/// Whether an entry of an API is what came in as this member: the same value, decoded, and the same properties unless
/// the API has none. An API that has none may have taken them for a part of the value.
pub(crate) fn says_the_same(member: &Member<'_>, entry: &Entry<'_>) -> bool {
    match entry.properties {
        Some(text) => member.value() == entry.value && text == member.properties_raw().unwrap_or_default(),
        None => member.value() == entry.value || (is_coded(member.rest) && as_form(member) == entry.value),
    }
}

/// The names under which a carrier holds what came in anyway, as another propagator wrote it: with other
/// escapes, without properties or with them as a part of the value, and perhaps with a name decoded or encoded. Of
/// several members with one name the last counts (rule B9).
pub(crate) fn echoes<'a>(carrier: &'a Baggage, inbound: &Baggage) -> Names<'a> {
    // By the name as it stands and, where that differs, as it may have been before it was encoded.
    let mut held: Vec<(Cow<'a, str>, Member<'a>, Cell<bool>)> = Vec::with_capacity(carrier.iter().count());
    for member in carrier.iter() {
        held.push((Cow::Borrowed(member.name), member, Cell::default()));
        if has_any(member.name, NAME_CODES) {
            held.push((decoded_name(member.name), member, Cell::default()));
        }
    }
    let names = Names::of(held.iter().map(|(name, ..)| &**name).collect());
    let judge = |name: &str, came_in: &Member<'_>| {
        for (_, member, same) in names.places(name).filter_map(|place| held.get(place)) {
            same.set(is_echo(member, came_in));
        }
    };
    for member in inbound.iter() {
        judge(member.name, &member);
        if has_any(member.name, NAME_CODES) {
            judge(&decoded_name(member.name), &member);
        }
    }
    let is_named = |at: &usize, name| held.get(*at).is_some_and(|(_, member, _)| member.name == name);
    let is_last = |at, found_as, name| names.places(found_as).filter(|at| is_named(at, name)).last() == Some(at);
    let echoed =
        held.iter().enumerate().filter(|(at, (name, member, same))| same.get() && is_last(*at, name, member.name));
    Names::of(echoed.map(|(_, (_, member, _))| member.name).collect())
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

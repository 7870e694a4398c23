//! Brings together what came in and what an API of names and values made of it.
//!
//! OpenTelemetry's baggage is a map from names to values: it knows no properties (or only as a text), no order that
//! counts, no second member of one name, and not how a value was encoded. So the list that came in travels beside it,
//! and is compared with it when headers are written.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;

use super::{Baggage, Entry, Member};

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
/// the last member of its name, and its properties, if it has any, are that member's.
pub fn reconcile<'a>(inbound: &Baggage, api: impl IntoIterator<Item = Entry<'a>>) -> Reconciled<'a> {
    let last: BTreeMap<_, _> = inbound.iter().map(|member| (member.name, member)).collect();
    let mut untouched = BTreeSet::new();
    let mut application = Vec::new();
    for entry in api {
        match last.get(entry.name) {
            Some(member) if says_the_same(member, &entry) => {
                untouched.insert(entry.name);
            }
            _ => application.push(entry),
        }
    }
    Reconciled { application, inbound: inbound.retain(|member| untouched.contains(member.name)) }
}

/// Whether an entry of an API is what came in as this member: the same value, decoded, and the same properties unless
/// the API has none.
pub(crate) fn says_the_same(member: &Member<'_>, entry: &Entry<'_>) -> bool {
    member.value() == entry.value
        && entry.properties.is_none_or(|text| text == member.properties_raw().unwrap_or_default())
}

//! Carriers and headers, alike for both sides.

use std::collections::HashMap;
use std::fmt::Write as _;

const TRACEPARENT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
const TRACESTATE: &str = "congo=t61rcWkgMzE,rojo=00f067aa0ba902b7";
/// The value that is read, as it stands in `BAGGAGE`.
pub const VALUE: &str = "0f8fad5b-d9cb-469f-a165-70867728950e";
/// The name of the member that is read.
pub const NAME: &str = "user_session";
const BAGGAGE: &str = "user_session=0f8fad5b-d9cb-469f-a165-70867728950e,tenant=acme-eu-1,request_kind=chat";

/// A request's headers as most frameworks keep them: a list of names and values.
#[derive(Clone, Default, Debug)]
pub struct List(pub Vec<(String, String)>);

/// A request's headers in a hash map, with names in lower case.
#[derive(Clone, Default, Debug)]
pub struct Map(pub HashMap<String, String>);

/// A request's headers as HTTP/1.1 writes them: nothing is copied but their text.
#[derive(Clone, Default, Debug)]
pub struct Wire(pub Vec<u8>);

impl Wire {
    /// With room for every header.
    pub fn new() -> Self {
        Self(Vec::with_capacity(16 * 1024))
    }

    /// Appends a header.
    pub fn write(&mut self, name: &str, value: &str) {
        self.0.extend_from_slice(name.as_bytes());
        self.0.extend_from_slice(b": ");
        self.0.extend_from_slice(value.as_bytes());
        self.0.extend_from_slice(b"\r\n");
    }
}

impl List {
    fn of(pairs: &[(&str, &str)]) -> Self {
        Self(pairs.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect())
    }

    /// The first value of this name, in any case.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(candidate, _)| candidate.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }
}

impl From<&List> for Map {
    fn from(list: &List) -> Self {
        Self(list.0.iter().cloned().collect())
    }
}

/// A request with a `traceparent` alone.
pub fn traceparent() -> List {
    List::of(&[("traceparent", TRACEPARENT)])
}

/// A request with a `traceparent`, a `tracestate` of two members and a `baggage` of three.
pub fn full() -> List {
    let mut list = traceparent();
    list.0.extend([("tracestate", TRACESTATE), ("baggage", BAGGAGE)].map(|(name, value)| (name.into(), value.into())));
    list
}

/// A request with baggage of so many bytes, in members of 64.
pub fn sized(bytes: usize) -> List {
    let mut baggage = String::new();
    while baggage.len().saturating_add(64) <= bytes {
        let comma = if baggage.is_empty() { "" } else { "," };
        let (number, width) = (baggage.len(), 64 - "member0000=".len() - comma.len());
        // Writing to a string cannot fail.
        let _ = write!(baggage, "{comma}member{number:04}={}", "v".repeat(width));
    }
    let mut list = traceparent();
    list.0.push(("baggage".into(), baggage));
    list
}

/// The `baggage` header.
pub fn baggage_of(list: &List) -> &str {
    list.get("baggage").unwrap_or_default()
}

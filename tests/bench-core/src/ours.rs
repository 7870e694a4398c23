//! Core's side.

use std::borrow::Cow;

use tracebaton::baggage::Entry;
use tracebaton::rule::RuleSet;
use tracebaton::{Baggage, Extractor, Inbound, Injector, Outbound, Policy};

use crate::headers::{List, Map, NAME, Wire};

static POLICY: Policy = Policy::DEFAULT;

impl Extractor for List {
    fn each<'a>(&'a self, name: &str, f: &mut dyn FnMut(&'a [u8])) {
        self.0.each(name, f);
    }

    fn collect_into<'a>(&'a self, collected: &mut tracebaton::carrier::Collected<'a>) {
        self.0.collect_into(collected);
    }
}

impl Injector for List {
    fn set(&mut self, name: &str, value: &str) {
        self.0.set(name, value);
    }

    fn unset(&mut self, name: &str) {
        self.0.unset(name);
    }
}

impl Extractor for Map {
    fn each<'a>(&'a self, name: &str, f: &mut dyn FnMut(&'a [u8])) {
        if let Some(value) = self.0.get(name) {
            f(value.as_bytes());
        }
    }

    // All of a request's headers are fewer steps than three look-ups.
    fn collect_into<'a>(&'a self, collected: &mut tracebaton::carrier::Collected<'a>) {
        collected.extend(&self.0);
    }
}

impl Extractor for Wire {
    // Nothing was written before.
    fn each<'a>(&'a self, _name: &str, _f: &mut dyn FnMut(&'a [u8])) {}
}

impl Injector for Wire {
    fn set(&mut self, name: &str, value: &str) {
        self.write(name, value);
    }

    fn unset(&mut self, _name: &str) {}
}

impl Injector for Map {
    fn set(&mut self, name: &str, value: &str) {
        self.0.insert(name.into(), value.into());
    }

    fn unset(&mut self, name: &str) {
        self.0.remove(name);
    }
}

/// Takes a request in.
pub fn extract(carrier: &impl Extractor) -> Inbound {
    tracebaton::extract(carrier, &POLICY)
}

/// Reads baggage without limits, and each value and property in it: the bytes of these.
pub fn read(header: &[u8]) -> usize {
    let baggage = Baggage::parse(&[header], usize::MAX, usize::MAX, &mut RuleSet::default());
    let property = |(key, value): (&str, Option<Cow<'_, str>>)| key.len() + value.map_or(0, |value| value.len());
    baggage.iter().map(|member| member.value().len() + member.properties().map(property).sum::<usize>()).sum()
}

/// Trace id, flags, and the length of one baggage value.
pub fn seen(inbound: &Inbound) -> ([u8; 16], u8, usize) {
    let span = inbound.span.as_ref();
    let value = inbound.baggage.get(NAME).map_or(0, |member| member.value().len());
    (span.map_or([0; 16], |span| span.trace_id.to_bytes()), span.map_or(0, |span| span.flags.bits()), value)
}

/// Passes on what came in.
pub fn inject(carrier: &mut impl Injector, inbound: &Inbound) {
    let out = Outbound { span: inbound.span.as_ref(), inbound: Some(&inbound.baggage), ..Outbound::default() };
    tracebaton::inject(carrier, &out);
}

/// Sends the same three members as the application's own.
pub fn inject_application(carrier: &mut impl Injector, inbound: &Inbound) {
    let entry = |name, value| Entry { name, value, properties: None };
    let application = [entry(NAME, crate::headers::VALUE), entry("tenant", "acme-eu-1"), entry("request_kind", "chat")];
    let out = Outbound { span: inbound.span.as_ref(), application: &application, ..Outbound::default() };
    tracebaton::inject(carrier, &out);
}

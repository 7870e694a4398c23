//! The interface `members`.

use alloc::string::{String, ToString};
use alloc::vec::Vec;

use tracebaton::baggage::reconcile as reconciled;
use tracebaton::carrier::{Extractor, Header, Injector};
use tracebaton::rule::{Rule, RuleSet};
use tracebaton::tracestate::TraceState;

use crate::Component;
use crate::bindings::exports::tracebaton::context::members as wit;
use crate::convert::{baggage, carrier, characters, entry, entry_to_wit, headers, id, ids, octets};

impl wit::Guest for Component {
    fn collect(headers: Vec<wit::Header>) -> wit::Values {
        let carrier = carrier(headers);
        let collected = carrier.collect();
        let values = |header| collected.values(header).iter().map(|value| characters(value)).collect();
        wit::Values {
            traceparent: values(Header::Traceparent),
            tracestate: values(Header::Tracestate),
            baggage: values(Header::Baggage),
        }
    }

    fn set_header(given: Vec<wit::Header>, name: String, value: String) -> Vec<wit::Header> {
        let mut carrier = carrier(given);
        carrier.set(&name.to_ascii_lowercase(), &value);
        headers(carrier)
    }

    fn tracestate_members(text: String) -> Result<Vec<(String, String)>, wit::Error> {
        Ok(tracestate(&text)?.iter().map(|(key, value)| (key.to_string(), value.to_string())).collect())
    }

    fn tracestate_insert(text: String, key: String, value: String) -> Result<String, wit::Error> {
        Ok(tracestate(&text)?.insert(&key, &value).map_err(refused)?.as_str().to_string())
    }

    fn tracestate_delete(text: String, key: String) -> Result<String, wit::Error> {
        Ok(tracestate(&text)?.delete(&key).as_str().to_string())
    }

    fn tracestate_truncate(text: String, max_bytes: u32) -> Result<wit::Shortened, wit::Error> {
        let mut dropped = RuleSet::EMPTY;
        let text = tracestate(&text)?.truncated(max_bytes as usize, &mut dropped).as_str().to_string();
        Ok(wit::Shortened { text, dropped: ids(dropped) })
    }

    fn baggage_members(text: String) -> Vec<wit::Member> {
        let members = baggage(&text).0;
        let member = |it: tracebaton::baggage::Member<'_>| wit::Member {
            name: it.name().to_string(),
            value: it.value().into_owned(),
            raw_value: it.raw_value().to_string(),
            properties: it.properties_raw().map(ToString::to_string),
        };
        members.iter().map(member).collect()
    }

    fn baggage_insert(text: String, given: wit::Entry) -> Result<String, wit::Error> {
        let inserted = baggage(&text).0.insert(&given.name, &given.value, given.properties.as_deref());
        Ok(inserted.map_err(|rule| wit::Error::Baggage(id(rule)))?.as_str().to_string())
    }

    fn baggage_remove(text: String, name: String) -> String {
        baggage(&text).0.remove(&name).as_str().to_string()
    }

    fn reconcile(inbound: String, api: Vec<wit::Entry>) -> wit::Reconciled {
        let came_in = baggage(&inbound).0;
        let found = reconciled(&came_in, api.iter().map(entry));
        wit::Reconciled {
            application: found.application.into_iter().map(entry_to_wit).collect(),
            inbound: found.inbound.as_str().to_string(),
        }
    }
}

fn refused(rule: Rule) -> wit::Error {
    wit::Error::Tracestate(id(rule))
}

fn tracestate(text: &str) -> Result<TraceState, wit::Error> {
    TraceState::parse(&octets(text)).map_err(refused)
}

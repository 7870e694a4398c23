//! The attributes by which a backend puts a span into its session: on every span, whatever limits the others have.
//!
//! They are the same for all spans of one session and tracer, so they are encoded once and copied from then on.

use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;

use crate::otlp::attribute::put_attribute;
use crate::span::SPAN_ATTRIBUTES;
use crate::value::Value;

/// A routing attribute.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum RoutingKey {
    /// `honeyhive.session_id`: the session.
    Session,
    /// `honeyhive.session_name`: what it is called, where a backend creates it.
    SessionName,
    /// `honeyhive.session_auto_create`: the backend creates the session if it does not know it.
    AutoCreate,
    /// `honeyhive.project`.
    Project,
    /// `honeyhive.source`: the service's own.
    Source,
    /// `session.id`: the session, in OpenTelemetry's terms. Some instrumentors write their own.
    OtelSession,
}

impl RoutingKey {
    const ALL: [Self; 6] =
        [Self::Session, Self::SessionName, Self::AutoCreate, Self::Project, Self::Source, Self::OtelSession];

    /// The attribute's key.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Session => "honeyhive.session_id",
            Self::SessionName => "honeyhive.session_name",
            Self::AutoCreate => "honeyhive.session_auto_create",
            Self::Project => "honeyhive.project",
            Self::Source => "honeyhive.source",
            Self::OtelSession => "session.id",
        }
    }

    /// The routing attribute of this key.
    #[inline]
    pub fn of(key: &str) -> Option<Self> {
        // Every attribute of every span comes by here.
        match key.as_bytes().first_chunk() {
            Some(b"honeyhiv" | b"session.") => Self::of_similar(key),
            _ => None,
        }
    }

    fn of_similar(key: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|one| one.as_str() == key)
    }

    pub(crate) const fn bit(self) -> u8 {
        1 << self as u8
    }
}

/// What the routing attributes of a span say.
#[derive(Clone, Copy, Debug, Default)]
pub struct RoutingValues<'a> {
    /// The session as the backend is to know it.
    pub session: Option<&'a str>,
    /// The session as it travels on the wire.
    pub otel_session: Option<&'a str>,
    /// The name for a session that the backend creates.
    pub session_name: Option<&'a str>,
    /// The project.
    pub project: Option<&'a str>,
    /// This service's own source.
    pub source: Option<&'a str>,
}

/// The routing attributes of a session and tracer, encoded.
#[derive(Clone, Debug, Default)]
pub struct Routing {
    entries: Vec<Entry>,
    /// All of them, one behind the other.
    encoded: Arc<[u8]>,
}

#[derive(Clone, Debug)]
struct Entry {
    key: RoutingKey,
    value: Value<'static>,
    /// The attribute as a field of `Span`.
    encoded: Vec<u8>,
}

impl Routing {
    /// Encodes them. Without a session, no session is to be created either.
    pub fn new(values: &RoutingValues<'_>) -> Self {
        let text = |value: Option<&str>| value.map(|text| Value::from(String::from(text)));
        let auto_create = values.session.map(|_| Value::Bool(true));
        let entries = [
            (RoutingKey::Session, text(values.session)),
            (RoutingKey::SessionName, text(values.session_name)),
            (RoutingKey::AutoCreate, auto_create),
            (RoutingKey::Project, text(values.project)),
            (RoutingKey::Source, text(values.source)),
            (RoutingKey::OtelSession, text(values.otel_session)),
        ];
        let entries = entries.into_iter().filter_map(|(key, value)| {
            let value = value?;
            let mut encoded = Vec::new();
            put_attribute(&mut encoded, SPAN_ATTRIBUTES, key.as_str(), &(&value).into(), None, 1);
            Some(Entry { key, value, encoded })
        });
        let entries: Vec<Entry> = entries.collect();
        let encoded = entries.iter().flat_map(|entry| &entry.encoded).copied().collect();
        Self { entries, encoded }
    }

    /// All of them, as fields of a `Span`.
    pub fn encoded(&self) -> &Arc<[u8]> {
        &self.encoded
    }

    /// The attributes, for those who read a span.
    pub fn iter(&self) -> impl Iterator<Item = (RoutingKey, &Value<'static>)> {
        self.entries.iter().map(|entry| (entry.key, &entry.value))
    }

    /// Appends those whose bit is not in `overridden` as fields of a `Span`.
    #[inline]
    pub(crate) fn write(&self, out: &mut Vec<u8>, overridden: u8) {
        if overridden == 0 {
            return out.extend_from_slice(&self.encoded);
        }
        for entry in &self.entries {
            if overridden & entry.key.bit() == 0 {
                out.extend_from_slice(&entry.encoded);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_key_is_found_and_no_other() {
        for key in RoutingKey::ALL {
            assert_eq!(RoutingKey::of(key.as_str()), Some(key));
        }
        for other in ["", "session_id", "honeyhive.session_ix", "honeyhive_project", "session.ix"] {
            assert_eq!(RoutingKey::of(other), None, "{other}");
        }
    }

    #[test]
    fn what_is_overridden_is_left_out() {
        let values = RoutingValues { session: Some("s"), source: Some("dev"), ..RoutingValues::default() };
        let routing = Routing::new(&values);
        assert_eq!(routing.iter().count(), 3);
        let (mut all, mut some) = (Vec::new(), Vec::new());
        routing.write(&mut all, 0);
        routing.write(&mut some, RoutingKey::Source.bit());
        assert!(all.starts_with(&some) && all.len() > some.len());
    }
}

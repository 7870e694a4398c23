//! Operations on scopes: what holds in them, and making new ones.

use alloc::borrow::Cow;
use alloc::boxed::Box;
use alloc::string::String;
use alloc::vec::Vec;

use super::wire::{Reader, length, put_word, units};
use super::{
    ABSENT, Error, SESSION_NAMED, SESSION_REGISTERED, VIEW_ASCII, VIEW_BAGGAGE, VIEW_LINK, VIEW_PROJECT, VIEW_SESSION,
    VIEW_SESSION_INBOUND, VIEW_SESSION_NAME, set_first_word, tree,
};
use crate::policy::Policy;
use crate::scope::{SessionScope, TracerId};
use crate::tracer::{Style, Tracer};
use crate::value::Value;

/// The scopes of the blobs that came last, the newest first: a scope is asked for again and again while its request goes
/// on, and to compare some hundred bytes is cheaper than to take them apart.
#[derive(Debug, Default)]
pub(super) struct Scopes {
    known: Vec<(Box<[u8]>, SessionScope)>,
}

const REMEMBERED: usize = 8;

impl Scopes {
    /// The scope of a blob.
    pub(super) fn get(&mut self, blob: &[u8]) -> Result<SessionScope, Error> {
        if blob.is_empty() {
            return Ok(SessionScope::EMPTY);
        }
        if let Some((_, scope)) = self.known.iter().find(|(known, _)| **known == *blob) {
            return Ok(scope.clone());
        }
        let scope = SessionScope::read(blob)?;
        self.remember(blob, &scope);
        Ok(scope)
    }

    /// Appends a scope as a blob, which will be asked for soon: it was made for a block that begins.
    pub(super) fn put(&mut self, scope: &SessionScope, out: &mut Vec<u8>) {
        let start = out.len();
        scope.write(out);
        if let Some(blob) = out.get(start..).filter(|blob| !blob.is_empty()) {
            self.remember(blob, scope);
        }
    }

    fn remember(&mut self, blob: &[u8], scope: &SessionScope) {
        self.known.truncate(REMEMBERED.saturating_sub(1));
        self.known.insert(0, (Box::from(blob), scope.clone()));
    }
}

/// Whose facts are seen, and under which policy.
pub(super) fn viewer(tracer: Option<&Tracer>) -> (Option<TracerId>, &Policy) {
    static DEFAULT: Policy = Policy::DEFAULT;
    tracer.map_or((None, &DEFAULT), |tracer| (Some(tracer.id()), tracer.policy()))
}

/// What holds in a scope.
pub(super) fn view(scopes: &mut Scopes, tracer: Option<&Tracer>, blob: &[u8], out: &mut Vec<u8>) -> Result<(), Error> {
    let scope = scopes.get(blob)?;
    let (id, policy) = viewer(tracer);
    let session = scope.session_for(id, policy);
    let name = scope.session_name_for(id, policy);
    let project = scope.project_for(id, policy);
    let link = scope.link(id, policy);
    let baggage = scope.baggage(id, policy);
    let members: Vec<_> = baggage.into_iter().flat_map(|baggage| baggage.entries()).collect();

    let bits = [
        (session.is_some(), VIEW_SESSION),
        (name.is_some(), VIEW_SESSION_NAME),
        (project.is_some(), VIEW_PROJECT),
        (scope.session_is_inbound(id, policy), VIEW_SESSION_INBOUND),
        (link.is_some(), VIEW_LINK),
        (baggage.is_some(), VIEW_BAGGAGE),
    ];
    let bits = bits.into_iter().filter(|(is, _)| *is).fold(0, |bits, (_, bit)| bits | bit);
    let flags = link.map_or(0, |link| u32::from(link.flags.bits()));
    let state = link.map_or("", |link| link.trace_state.as_str());

    let mut pool = String::new();
    put_word(out, bits | flags << 24);
    for text in [session, name, project] {
        let text = text.unwrap_or_default();
        put_word(out, units(text));
        pool.push_str(text);
    }
    put_word(out, units(state));
    put_word(out, length(members.len()));
    if let Some(link) = link {
        use core::fmt::Write as _;
        // Writing to a String cannot fail.
        let _ = write!(pool, "{}{}", link.trace_id, link.span_id);
        pool.push_str(state);
    }
    for member in &members {
        let (value, properties) = (member.value(), member.properties_raw());
        put_word(out, units(member.name()));
        put_word(out, units(&value));
        put_word(out, properties.map_or(ABSENT, units));
        pool.push_str(member.name());
        pool.push_str(&value);
        pool.push_str(properties.unwrap_or_default());
    }
    if pool.is_ascii() {
        set_first_word(out, |bits| bits | VIEW_ASCII);
    }
    out.extend_from_slice(pool.as_bytes());
    Ok(())
}

/// A scope with another session.
pub(super) fn with_session(
    scopes: &mut Scopes,
    tracer: Option<&Tracer>,
    mut reader: Reader<'_>,
    out: &mut Vec<u8>,
) -> Result<(), Error> {
    let [bits, blob, session, name] = reader.words()?;
    let outer = scopes.get(reader.bytes(blob)?)?;
    let session = reader.text_of(session)?;
    let name = if bits & SESSION_NAMED != 0 { Some(reader.text_of(name)?) } else { None };
    let tracer = tracer.ok_or(Error::Unknown)?.id();
    let scope = outer
        .with_named_session(tracer, &session, name.as_deref(), bits & SESSION_REGISTERED != 0)
        .map_err(|_| Error::value("session_id", "a text of 1 to 256 characters"))?;
    scopes.put(&scope, out);
    Ok(())
}

/// The routing attributes that spans in a scope get, as those who read a span see them.
pub(super) fn routing(
    scopes: &mut Scopes,
    tracer: Option<&Tracer>,
    blob: &[u8],
    out: &mut Vec<u8>,
) -> Result<(), Error> {
    let routings = tracer.ok_or(Error::Unknown)?.routings(&scopes.get(blob)?);
    let entries = routings.of(Style::Raw).iter();
    let entries = entries.map(|(key, value)| (Cow::Borrowed(key.as_str()), value.clone()));
    tree::write(out, &Value::Map(entries.collect()));
    Ok(())
}

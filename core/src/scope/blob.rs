//! A scope as bytes, for languages that carry it through their contexts without looking into it.
//!
//! A byte for the version of this format; then for each fact, the newest first, a byte for its kind, a word for its
//! tracer (0: none) and what it says. All numbers are little-endian, and texts stand behind a word for their length. It
//! is read by the program that wrote it and nobody else: what a scope holds was checked when it was made. Bytes that are
//! anything else than a scope are an error, not a panic.

use alloc::sync::Arc;
use alloc::vec::Vec;

use super::{Fact, SessionScope, TracerId, What};
use crate::baggage::Baggage;
use crate::context::SpanContext;
use crate::exchange::Error;
use crate::exchange::wire::{Reader, put_text};
use crate::extract::Inbound;
use crate::id::{SpanId, TraceFlags, TraceId};
use crate::session;
use crate::tracestate::TraceState;

const VERSION: u8 = 1;

const SESSION: u8 = 1;
const PROJECT: u8 = 2;
const BAGGAGE: u8 = 3;
const LINK: u8 = 4;
const NO_LINK: u8 = 5;
/// Beside [`SESSION`].
const NAMED: u8 = 0x10;
const INBOUND: u8 = 0x20;

/// So many facts are read: a scope has four for each tracer at most.
const MOST: usize = 1024;

impl SessionScope {
    /// Appends the scope; the empty one appends nothing.
    pub fn write(&self, out: &mut Vec<u8>) {
        if self.is_empty() {
            return;
        }
        out.push(VERSION);
        for fact in self.facts() {
            let tracer = fact.tracer;
            match &fact.what {
                What::Session { id, name, inbound } => put_session(out, tracer, id, name.as_deref(), *inbound),
                What::Project(project) => put_one(out, PROJECT, tracer, project),
                What::Baggage(baggage) => put_one(out, BAGGAGE, tracer, baggage.as_str()),
                What::Link(Some(link)) => put_link(out, tracer, link),
                What::Link(None) => put_head(out, NO_LINK, tracer),
            }
        }
    }

    /// What [`write`](Self::write) writes of the empty scope with what a caller sent
    /// ([`with_inbound`](Self::with_inbound)), without making it: most scopes are made so, and never looked into.
    pub(crate) fn write_inbound(tracer: Option<TracerId>, inbound: &Inbound, out: &mut Vec<u8>) {
        let Inbound { session, project, baggage, link, .. } = inbound;
        if session.is_none() && project.is_none() && baggage.is_empty() && link.is_none() {
            return;
        }
        let length = [session, project]
            .into_iter()
            .flatten()
            .fold(baggage.as_str().len(), |sum, it| sum.saturating_add(it.len()));
        out.reserve(length.saturating_add(64));
        out.push(VERSION);
        if let Some(session) = session {
            put_session(out, tracer, session, None, true);
        }
        if let Some(project) = project {
            put_one(out, PROJECT, tracer, project);
        }
        if !baggage.is_empty() {
            put_one(out, BAGGAGE, tracer, baggage.as_str());
        }
        if let Some(link) = link {
            put_link(out, tracer, link);
        }
    }

    /// Whether the other is this very scope: neither was made of the other by a change.
    pub(crate) fn is(&self, other: &Self) -> bool {
        match (&self.0, &other.0) {
            (Some(one), Some(other)) => Arc::ptr_eq(one, other),
            (one, other) => one.is_none() && other.is_none(),
        }
    }

    /// Reads a scope; no bytes are the empty one.
    ///
    /// # Errors
    ///
    /// If they are no scope that [`write`](Self::write) wrote.
    pub fn read(bytes: &[u8]) -> Result<Self, Error> {
        let mut reader = Reader::new(bytes);
        if reader.is_empty() {
            return Ok(Self::EMPTY);
        }
        if reader.byte()? != VERSION {
            return Err(Error::Malformed);
        }
        let mut facts = Vec::with_capacity(4);
        while !reader.is_empty() {
            if facts.len() >= MOST {
                return Err(Error::Malformed);
            }
            facts.push(fact(&mut reader)?);
        }
        if facts.is_empty() { Err(Error::Malformed) } else { Ok(Self(Some(facts.into()))) }
    }
}

#[inline]
fn put_head(out: &mut Vec<u8>, kind: u8, tracer: Option<TracerId>) {
    let [a, b, c, d] = tracer.map_or(0, |tracer| u32::try_from(tracer.0).unwrap_or(u32::MAX)).to_le_bytes();
    out.extend_from_slice(&[kind, a, b, c, d]);
}

#[inline]
fn put_one(out: &mut Vec<u8>, kind: u8, tracer: Option<TracerId>, text: &str) {
    put_head(out, kind, tracer);
    put_text(out, text);
}

fn put_session(out: &mut Vec<u8>, tracer: Option<TracerId>, id: &str, name: Option<&str>, inbound: bool) {
    let kind = SESSION | if name.is_some() { NAMED } else { 0 } | if inbound { INBOUND } else { 0 };
    put_one(out, kind, tracer, id);
    if let Some(name) = name {
        put_text(out, name);
    }
}

fn put_link(out: &mut Vec<u8>, tracer: Option<TracerId>, link: &SpanContext) {
    put_head(out, LINK, tracer);
    out.extend_from_slice(&link.trace_id.to_bytes());
    out.extend_from_slice(&link.span_id.to_bytes());
    out.push(link.flags.bits() | if link.is_remote { 0x80 } else { 0 });
    put_text(out, link.trace_state.as_str());
}

fn fact(reader: &mut Reader<'_>) -> Result<Fact, Error> {
    let kind = reader.byte()?;
    let tracer = Some(u64::from(reader.word()?)).filter(|id| *id != 0).map(TracerId);
    let what = match kind {
        PROJECT => What::Project(text(reader)?),
        // It was checked when it came in; to read it costs as much again, so only what would split a header is looked for.
        BAGGAGE => What::Baggage(Baggage::read_again(&text(reader)?).ok_or(Error::Malformed)?),
        LINK => {
            let trace_id = TraceId::from_bytes(reader.array()?).ok_or(Error::Malformed)?;
            let span_id = SpanId::from_bytes(reader.array()?).ok_or(Error::Malformed)?;
            let flags = reader.byte()?;
            What::Link(Some(SpanContext {
                trace_id,
                span_id,
                flags: TraceFlags::from_bits(flags),
                trace_state: TraceState::parse(text(reader)?.as_bytes()).map_err(|_| Error::Malformed)?,
                is_remote: flags & 0x80 != 0,
            }))
        }
        NO_LINK => What::Link(None),
        _ if kind & !(NAMED | INBOUND) == SESSION => {
            let id = text(reader)?;
            session::check(&id).map_err(|_| Error::Malformed)?;
            let name = if kind & NAMED != 0 { Some(text(reader)?) } else { None };
            What::Session { id, name, inbound: kind & INBOUND != 0 }
        }
        _ => return Err(Error::Malformed),
    };
    Ok(Fact { tracer, what })
}

fn text(reader: &mut Reader<'_>) -> Result<Arc<str>, Error> {
    let length = reader.word()?;
    core::str::from_utf8(reader.bytes(length)?).map(Arc::from).map_err(|_| Error::Malformed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::extract::extract;
    use crate::policy::{InboundMode, Policy};
    use proptest::prelude::*;

    fn written(scope: &SessionScope) -> Vec<u8> {
        let mut out = Vec::new();
        scope.write(&mut out);
        out
    }

    #[test]
    fn what_is_written_is_read() {
        assert!(written(&SessionScope::EMPTY).is_empty());
        assert!(SessionScope::read(&[]).unwrap().is_empty());
        let carrier = [
            ("traceparent", "00-0af7651916cd43dd8448eb211c80319c-00f067aa0ba902b7-03"),
            ("tracestate", "a=b"),
            ("baggage", "session_id=s%20t;p=1,project=p, k=v"),
        ];
        let restart = Policy { inbound: InboundMode::Restart, ..Policy::default() };
        let tracer = TracerId(7);
        let scope = SessionScope::EMPTY
            .with_inbound(Some(tracer), &extract(&carrier, &restart))
            .with_inbound(None, &extract(&carrier[2..], &restart))
            .with_named_session(TracerId(9), "käse", Some("name"), true)
            .unwrap();
        let read = SessionScope::read(&written(&scope)).unwrap();
        assert_eq!(written(&read), written(&scope));
        assert_eq!(read.session_for(tracer, &restart), Some("s t"));
        assert_eq!(read.project_for(tracer, &restart), Some("p"));
        assert_eq!(read.baggage(tracer, &restart), scope.baggage(tracer, &restart));
        assert_eq!(read.link(tracer, &restart), scope.link(tracer, &restart));
        assert_eq!(read.session_name_for(TracerId(9), &restart), Some("name"));
        assert!(read.session_is_inbound(TracerId(9), &restart));
        // A caller whose trace goes on hides the link.
        let hidden = scope.with_inbound(Some(tracer), &extract(&carrier, &Policy::default()));
        assert!(SessionScope::read(&written(&hidden)).unwrap().link(tracer, &restart).is_none());
        let bytes = written(&scope);
        for end in 1..bytes.len() {
            // Where a fact ends, a scope may.
            if let Ok(shorter) = SessionScope::read(&bytes[..end]) {
                assert_eq!(written(&shorter), bytes[..end]);
            }
        }
    }

    #[test]
    fn what_came_in_is_written_as_the_scope_that_it_makes() {
        let traceparent = ("traceparent", "00-0af7651916cd43dd8448eb211c80319c-00f067aa0ba902b7-03");
        for baggage in ["", "k=v", "session_id=s", "project=p;x,session_id=s,k=v"] {
            for inbound in [InboundMode::Continue, InboundMode::Restart] {
                let policy = Policy { inbound, ..Policy::default() };
                for pairs in [&[("baggage", baggage), traceparent][..], &[("baggage", baggage)]] {
                    let inbound = extract(pairs, &policy);
                    for tracer in [None, Some(TracerId(3))] {
                        let mut out = Vec::new();
                        SessionScope::write_inbound(tracer, &inbound, &mut out);
                        assert_eq!(out, written(&SessionScope::EMPTY.with_inbound(tracer, &inbound)));
                    }
                }
            }
        }
    }

    #[test]
    fn nothing_that_would_split_a_header_is_read() {
        let scope = SessionScope::EMPTY.with_inbound(None, &extract(&[("baggage", "k=v")], &Policy::default()));
        let bytes = written(&scope);
        for octet in [b'\n', b'\r', 0, 0x7f] {
            let mut bad = bytes.clone();
            *bad.last_mut().unwrap() = octet;
            assert!(SessionScope::read(&bad).is_err());
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_a_scope_or_an_error(mut bytes: Vec<u8>) {
            let _ = SessionScope::read(&bytes);
            if let Some(first) = bytes.first_mut() {
                *first = VERSION;
            }
            if let Ok(scope) = SessionScope::read(&bytes) {
                prop_assert_eq!(written(&scope), bytes);
            }
        }
    }
}

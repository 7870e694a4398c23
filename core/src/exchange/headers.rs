//! Operations on headers: each is one request and one answer, however many headers there are.

use alloc::borrow::Cow;
use alloc::string::String;
use alloc::vec::Vec;

use super::options;
use super::scopes::{Scopes, viewer};
use super::wire::{Reader, length, put_text, put_word, put_words, set_word};
use super::{
    EXTRACT_CURRENT, EXTRACT_CURRENT_REMOTE, EXTRACT_MEMBERS, Error, FOUND_BAGGAGE, FOUND_LINK, FOUND_MEMBERS,
    FOUND_NEWS, FOUND_SCOPE, FOUND_SESSION, FOUND_SPAN, FOUND_STATE, FOUND_STATE_GIVEN, HEADER_REMOVE, HEADER_SET,
    INJECT_ENTRIES, INJECT_FROM_PAGE, INJECT_NAMED, INJECT_SPAN, INJECT_TO, NO_PROPERTIES, PARENT_CALLER, PARENT_NONE,
    SAME_STATE, tree,
};
use crate::baggage::{Baggage, Entry, reconcile};
use crate::carrier::{Collected, Header, Spelling, header_of};
use crate::context::SpanContext;
use crate::explain::{explain as explain_headers, explain_with_text};
use crate::extract::extract_collected;
use crate::id::{SpanId, TraceFlags, TraceId};
use crate::inject::{Outbound, compose};
use crate::octets::trim_ows;
use crate::parent::{Current, Parent};
use crate::policy::{Allowed, Policy};
use crate::scope::SessionScope;
use crate::tracer::Tracer;
use crate::tracestate::TraceState;
use crate::value::Value;

/// The headers among so many pairs, and what the pair at each place has as its value.
fn pairs<'a>(reader: &mut Reader<'a>, count: u32) -> Result<(Collected<'a>, Vec<&'a [u8]>), Error> {
    let (mut headers, mut values) = (Collected::default(), Vec::new());
    for _ in 0..count {
        let [name, value] = reader.words()?;
        let (name, value) = (reader.bytes(name)?, reader.bytes(value)?);
        headers.push(name, value);
        // Of others only the place counts.
        values.push(if header_of(name).is_some() { value } else { &[] });
    }
    Ok((headers, values))
}

/// A policy that holds in place of the tracer's.
fn given_policy(reader: &mut Reader<'_>, length: u32) -> Result<Option<Policy>, Error> {
    if length == 0 {
        return Ok(None);
    }
    let value = tree::read(&mut Reader::new(reader.bytes(length)?))?;
    options::policy(&value, "policy").map(Some)
}

/// Takes in what a caller sent.
pub(super) fn extract(
    scopes: &mut Scopes,
    tracer: Option<&Tracer>,
    mut reader: Reader<'_>,
    named: bool,
    out: &mut Vec<u8>,
) -> Result<(), Error> {
    let [bits, first, second, third, blob, policy] = reader.words()?;
    let mut current = None;
    if bits & EXTRACT_CURRENT != 0 {
        let trace_id = TraceId::from_hex(reader.bytes(32)?);
        current = trace_id.map(|trace_id| Current { trace_id, is_remote: bits & EXTRACT_CURRENT_REMOTE != 0 });
    }
    let mut headers = Collected::default();
    if !named {
        for (header, length) in Header::ALL.into_iter().zip([first, second, third]) {
            if let Some(value) = reader.optional(length)? {
                headers.push(header.name().as_bytes(), value);
            }
        }
    }
    let outer = scopes.get(reader.bytes(blob)?)?;
    let policy = given_policy(&mut reader, policy)?;
    let mut values = Vec::new();
    if named {
        (headers, values) = pairs(&mut reader, first)?;
    }

    let (id, own_policy) = viewer(tracer);
    let inbound = extract_collected(&headers, policy.as_ref().unwrap_or(own_policy));
    if let Some(tracer) = tracer {
        tracer.count_inbound(inbound.dropped);
    }

    let mut found = match Parent::of(&inbound, current) {
        Parent::Current => 0,
        Parent::Caller => PARENT_CALLER,
        Parent::None => PARENT_NONE,
    };
    let (mut which, mut at, mut state) = (0, 0, "");
    let span = inbound.span.as_ref().or(inbound.link.as_ref());
    if let Some(span) = span {
        found |= if inbound.span.is_some() { FOUND_SPAN } else { FOUND_LINK };
        found |= u32::from(span.flags.bits()) << 24;
        if let [value] = headers.values(Header::Traceparent) {
            which = values.iter().position(|other| core::ptr::eq(*other, *value)).map_or(0, length);
            let begin = value.len().saturating_sub(value.trim_ascii_start().len());
            // Behind the version and its dash.
            at = length(begin).saturating_add(3);
        }
        state = span.trace_state.as_str();
        if !state.is_empty() {
            found |= FOUND_STATE;
            if matches!(headers.values(Header::Tracestate), [value] if *value == state.as_bytes()) {
                found |= FOUND_STATE_GIVEN;
                state = "";
            }
        }
    }
    for (is, bit) in [
        (!inbound.baggage.is_empty(), FOUND_BAGGAGE),
        (inbound.session.is_some(), FOUND_SESSION),
        (span.is_some() || !inbound.baggage.is_empty(), FOUND_NEWS),
    ] {
        found |= if is { bit } else { 0 };
    }

    put_words(out, [0, which, at, length(state.len()), 0, 0]);
    if bits & EXTRACT_MEMBERS != 0 {
        if let [value] = headers.values(Header::Baggage) {
            if let Some(count) = members(value, &inbound.baggage, out) {
                found |= FOUND_MEMBERS;
                set_word(out, 20, count);
            }
        }
    }
    out.extend_from_slice(state.as_bytes());
    let start = out.len();
    if outer.is_empty() {
        SessionScope::write_inbound(id, &inbound, out);
    } else {
        let scope = outer.with_inbound(id, &inbound);
        if !scope.is(&outer) {
            scope.write(out);
        }
    }
    let blob = out.len().saturating_sub(start);
    if blob != 0 {
        found |= FOUND_SCOPE;
        set_word(out, 16, length(blob));
    }
    set_word(out, 0, found);
    Ok(())
}

/// Appends where the members of a baggage stand in the header value that it was read from: only if that is the same text,
/// no value has an escape, and no name comes twice. How many they are.
fn members(value: &[u8], baggage: &Baggage, out: &mut Vec<u8>) -> Option<u32> {
    // Comparing each with each is fast only where there are few.
    const FEW: usize = 32;
    let text = baggage.as_str();
    let trimmed = trim_ows(value);
    let begin = if value == text.as_bytes() {
        0
    } else if trimmed == text.as_bytes() {
        value.len().checked_sub(value.trim_ascii_start().len())?
    } else {
        return None;
    };
    if text.is_empty() || text.bytes().fold(false, |any, octet| any | (octet == b'%')) {
        return None;
    }
    let start = out.len();
    let done = (|| {
        let mut names: [&str; FEW] = [""; FEW];
        let mut count = 0usize;
        for member in baggage.iter() {
            if names.iter().take(count).any(|name| *name == member.name()) {
                return None;
            }
            *names.get_mut(count)? = member.name();
            count = count.saturating_add(1);
            let place = |part: &str| {
                let at = u16::try_from(offset_in(text, part).saturating_add(begin)).ok()?;
                Some(u32::from(at) | u32::from(u16::try_from(part.len()).ok()?) << 16)
            };
            let properties = member.properties_raw().map_or(Some(NO_PROPERTIES << 16), place)?;
            put_words(out, [place(member.name())?, place(member.raw_value())?, properties]);
        }
        Some(length(count))
    })();
    if done.is_none() {
        out.truncate(start);
    }
    done
}

/// Where a part of a text begins in it.
fn offset_in(text: &str, part: &str) -> usize {
    (part.as_ptr() as usize).wrapping_sub(text.as_ptr() as usize)
}

/// What may be sent to a destination that a request names.
fn allowed(reader: &mut Reader<'_>, policy: &Policy, bits: u32, to: u32, origin: u32) -> Result<Allowed, Error> {
    let to = if bits & INJECT_TO != 0 { Some(reader.text_of(to)?) } else { None };
    let origin = if bits & INJECT_FROM_PAGE != 0 { Some(reader.text_of(origin)?) } else { None };
    Ok(match (to, origin) {
        (None, _) => Allowed::ALL,
        (Some(to), None) => policy.destination(&to),
        (Some(to), Some(origin)) => policy.destination_from_page(&to, &origin),
    })
}

/// Says what may be sent to a destination.
pub(super) fn destination(tracer: Option<&Tracer>, mut reader: Reader<'_>, out: &mut Vec<u8>) -> Result<(), Error> {
    let [bits, to, origin] = reader.words()?;
    let allowed = allowed(&mut reader, viewer(tracer).1, bits, to, origin)?;
    put_word(out, u32::from(allowed.trace) | u32::from(allowed.baggage) << 1);
    Ok(())
}

/// A text with its properties, if an API knows any.
type Texts<'a> = (Cow<'a, str>, Cow<'a, str>, Option<Cow<'a, str>>);

/// Makes the headers to send.
pub(super) fn inject(
    scopes: &mut Scopes,
    tracer: Option<&Tracer>,
    mut reader: Reader<'_>,
    out: &mut Vec<u8>,
) -> Result<(), Error> {
    // One that does nothing sends on what came in, and nothing of its own.
    let tracer = tracer.filter(|tracer| tracer.settings().enabled);
    let (id, policy) = viewer(tracer);
    let [bits, state, blob, to, origin, count, first, second, third] = reader.words()?;
    let mut ids = None;
    if bits & INJECT_SPAN != 0 {
        ids = TraceId::from_hex(reader.bytes(32)?).zip(SpanId::from_hex(reader.bytes(16)?));
    }
    let given_state = reader.bytes(state)?;
    let span = ids.map(|(trace_id, span_id)| SpanContext {
        trace_id,
        span_id,
        flags: TraceFlags::from_bits((bits >> 24) as u8),
        // A bad one is discarded whole (rule TS10).
        trace_state: TraceState::parse(given_state).unwrap_or_default(),
        is_remote: false,
    });
    let scope = scopes.get(reader.bytes(blob)?)?;
    let allowed = allowed(&mut reader, policy, bits, to, origin)?;
    let mut held = Collected::default();
    if bits & INJECT_NAMED == 0 {
        for (header, length) in Header::ALL.into_iter().zip([first, second, third]) {
            if let Some(value) = reader.optional(length)? {
                held.push(header.name().as_bytes(), value);
            }
        }
    }
    let mut texts: Vec<Texts<'_>> = Vec::new();
    for _ in 0..count {
        texts.push((reader.text()?, reader.text()?, reader.optional_text()?));
    }
    if bits & INJECT_NAMED != 0 {
        held = pairs(&mut reader, first)?.0;
    }

    let came_in = scope.baggage(id, policy);
    let entries =
        texts.iter().map(|(name, value, properties)| Entry { name, value, properties: properties.as_deref() });
    let mut application: Vec<Entry<'_>> = entries.collect();
    let mut untouched = None;
    // Where no baggage may go, all that came in is what must not stand there.
    if bits & INJECT_ENTRIES != 0 && allowed.baggage {
        if let Some(list) = came_in {
            let reconciled = reconcile(list, application.iter().copied());
            application = reconciled.application;
            untouched = Some(reconciled.inbound);
        }
    }
    let outbound = Outbound {
        span: span.as_ref(),
        session: tracer.map(|tracer| tracer.session_in(&scope)),
        project: tracer.and_then(|tracer| tracer.project_in(&scope)),
        source: tracer.map(|tracer| tracer.settings().source.as_str()),
        application: &application,
        inbound: untouched.as_ref().or(came_in),
        policy: Some(policy),
        allowed,
    };

    let mut fates = 0;
    put_words(out, [0; 4]);
    compose(&outbound, &held).each(|header, value| {
        let (shift, offset) = match header {
            Header::Traceparent => (0, 4),
            Header::Tracestate => (2, 8),
            Header::Baggage => (4, 12),
        };
        fates |= if value.is_some() { HEADER_SET } else { HEADER_REMOVE } << shift;
        match value {
            Some(value) if header == Header::Tracestate && value.as_bytes() == given_state => fates |= SAME_STATE,
            Some(value) => {
                set_word(out, offset, length(value.len()));
                out.extend_from_slice(value.as_bytes());
            }
            None => {}
        }
    });
    set_word(out, 0, fates);
    Ok(())
}

/// Says what becomes of a carrier's headers, and why.
pub(super) fn explain(tracer: Option<&Tracer>, mut reader: Reader<'_>, out: &mut Vec<u8>) -> Result<(), Error> {
    let [with_text, policy, count] = reader.words()?;
    let policy = given_policy(&mut reader, policy)?;
    let policy = policy.as_ref().unwrap_or(viewer(tracer).1);
    let (headers, _) = pairs(&mut reader, count)?;
    let findings = if with_text != 0 { explain_with_text(&headers, policy) } else { explain_headers(&headers, policy) };
    let findings = findings.into_iter().map(|finding| {
        let position = finding.position.and_then(|it| i64::try_from(it).ok());
        tree::map([
            ("header", finding.header.name().into()),
            ("position", position.map_or(Value::Null, Value::Int)),
            ("verdict", finding.verdict.as_str().into()),
            ("rule", finding.rule.map_or(Value::Null, |rule| rule.id().into())),
            ("sentence", finding.sentence.into()),
            ("text", finding.text.map_or(Value::Null, Value::from)),
        ])
    });
    tree::write(out, &Value::Array(findings.collect()));
    Ok(())
}

/// How a header is to be spelled in a carrier with these names.
pub(super) fn spelling(mut reader: Reader<'_>, out: &mut Vec<u8>) -> Result<(), Error> {
    let Value::Array(names) = tree::read(&mut reader)? else { return Err(Error::Malformed) };
    let spelling = Spelling::of(names.iter().filter_map(Value::as_str));
    put_word(out, spelling as u32);
    Ok(())
}

/// Reads or changes a `tracestate`: 0 get, 1 set, 2 unset.
pub(super) fn trace_state(mut reader: Reader<'_>, out: &mut Vec<u8>) -> Result<(), Error> {
    let what = reader.word()?;
    let state = TraceState::parse(reader.text()?.as_bytes()).unwrap_or_default();
    let key = reader.text()?;
    let answer = match what {
        0 => state.get(&key).map(String::from),
        1 => state.insert(&key, &reader.text()?).ok().map(|state| String::from(state.as_str())),
        2 => Some(String::from(state.delete(&key).as_str())),
        _ => return Err(Error::Malformed),
    };
    put_word(out, u32::from(answer.is_some()));
    put_text(out, answer.as_deref().unwrap_or_default());
    Ok(())
}

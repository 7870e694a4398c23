//! The plain module: for hosts that run WebAssembly without components. It has no imports, and four exports:
//!
//! - `memory`;
//! - `tracebaton_alloc(length) -> pointer`: room for so many bytes;
//! - `tracebaton_call(operation, pointer, length) -> result`: runs an operation with the arguments that stand there,
//!   which are freed. The result is a pointer, shifted left by 32, and a length; or 0, if there is no such operation or
//!   the bytes are not its arguments;
//! - `tracebaton_free(pointer, length)`: frees a result, once it was read.
//!
//! An operation is a function of the interfaces. Its arguments are written one behind the other, and so is what it
//! returns: `docs/component.md` has their numbers and the encoding.

use alloc::boxed::Box;
use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;
use core::ptr;

use crate::Component;
use crate::bindings::exports::tracebaton::context::members::Guest as _;
use crate::bindings::exports::tracebaton::context::propagation::{self as p, Guest as _};
use crate::bindings::exports::tracebaton::context::spans::{self as s, Guest as _};
use crate::propagation::new_child_from;
use crate::wire::{Octets, Wire};

/// Room for so many bytes, which the host fills.
#[unsafe(no_mangle)]
pub extern "C" fn tracebaton_alloc(length: usize) -> *mut u8 {
    Box::into_raw(vec![0_u8; length].into_boxed_slice()).cast()
}

/// Frees what [`tracebaton_call`] returned.
///
/// # Safety
///
/// `pointer` and `length` must be those of one call of [`tracebaton_alloc`] or [`tracebaton_call`], which is not freed
/// yet.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tracebaton_free(pointer: *mut u8, length: usize) {
    // SAFETY: the caller says so, and both make a boxed slice of this length.
    drop(unsafe { Box::from_raw(ptr::slice_from_raw_parts_mut(pointer, length)) });
}

/// Runs an operation: see the module.
///
/// # Safety
///
/// `pointer` and `length` must be those of one call of [`tracebaton_alloc`], which is not freed yet.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tracebaton_call(operation: u32, pointer: *mut u8, length: usize) -> u64 {
    // SAFETY: the caller says so, and it was made as a boxed slice of this length.
    let arguments = unsafe { Box::from_raw(ptr::slice_from_raw_parts_mut(pointer, length)) };
    match run(operation, &arguments) {
        Some(result) => {
            let length = result.len() as u64;
            (Box::into_raw(result.into_boxed_slice()).cast::<u8>() as u64) << 32 | length
        }
        None => 0,
    }
}

/// Reads the arguments, which must be all that is there, calls the function, and writes what it returns.
macro_rules! operations {
    ($operation:ident, $arguments:ident, $out:ident, {
        $($number:literal => $function:path, ($($name:ident),*);)*
    }) => {
        match $operation {
            $($number => {
                // Each in a function of its own: Java's virtual machine compiles none that is large.
                #[inline(never)]
                #[allow(unused_mut, reason = "some have no arguments")]
                fn operation(mut arguments: &[u8], out: &mut Vec<u8>) -> Option<()> {
                    $(let $name = Wire::read(&mut arguments)?;)*
                    if !arguments.is_empty() {
                        return None;
                    }
                    $function($($name),*).write(out);
                    Some(())
                }
                operation($arguments, &mut $out)?;
            })*
            _ => return None,
        }
    };
}

/// The result of an operation, or none: see [`tracebaton_call`].
pub fn run(operation: u32, arguments: &[u8]) -> Option<Vec<u8>> {
    let mut out = Vec::new();
    operations!(operation, arguments, out, {
        0 => Component::default_policy, ();
        1 => Component::extract, (headers, policy);
        2 => Component::inject, (headers, outbound);
        3 => new_child, (random, parent, options);
        4 => Component::choose_parent, (span, link, current);
        5 => Component::explain, (headers, policy, with_text);
        6 => Component::destination, (policy, to, origin);
        7 => Component::is_host_pattern, (entry);
        8 => Component::honeyhive_session, (session);
        9 => Component::what_holds, (steps, tracer, policy);
        20 => Component::collect, (headers);
        21 => Component::set_header, (headers, name, value);
        22 => Component::tracestate_members, (tracestate);
        23 => Component::tracestate_insert, (tracestate, key, value);
        24 => Component::tracestate_delete, (tracestate, key);
        25 => Component::tracestate_truncate, (tracestate, max_bytes);
        26 => Component::baggage_members, (baggage);
        27 => Component::baggage_insert, (baggage, entry);
        28 => Component::baggage_remove, (baggage, name);
        29 => Component::reconcile, (inbound, api);
        40 => Component::default_limits, ();
        41 => build, (span, routing, limits);
        42 => encode_protobuf, (resource, runs);
        43 => Component::encode_json, (resource, runs, dialect);
        44 => span_json, (span, dialect);
        45 => Component::flatten, (prefix, value, options);
        46 => Component::redact, (key, value, redaction);
        47 => Component::is_secret_key, (key, redaction);
        48 => Component::event_type, (attributes);
    });
    Some(out)
}

/// `random`: three random numbers, since the module has no source of its own.
fn new_child(
    random: (u64, (u64, u64)),
    parent: Option<p::SpanContext>,
    options: Option<p::ChildOptions>,
) -> Result<p::SpanContext, p::Error> {
    let mut numbers = [random.0, random.1.0, random.1.1].into_iter();
    new_child_from(parent, options, || numbers.next().unwrap_or_default())
}

fn build(span: s::Span, routing: s::Routing, limits: Option<s::Limits>) -> Result<Octets, p::Error> {
    Component::build(span, routing, limits).map(Octets)
}

fn encode_protobuf(resource: Vec<s::Attribute>, runs: Vec<s::Run>) -> Result<Octets, p::Error> {
    Component::encode_protobuf(resource, runs).map(Octets)
}

fn span_json(span: Octets, dialect: s::Dialect) -> Result<String, p::Error> {
    Component::span_json(span.0, dialect)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A call that `extract` takes: two headers, the default policy.
    const EXTRACT: &[u8] = b"\x02\0\0\0\x07\0\0\0baggage\x03\0\0\0k=v\x07\0\0\0Baggage\x0c\0\0\0session_id=s\0";

    #[test]
    fn reads_arguments_and_writes_the_result() {
        let found = run(1, EXTRACT).unwrap();
        let (head, rest) = found.split_at_checked(2 + 4).unwrap();
        assert_eq!(head, b"\0\0\x10\0\0\0", "neither span nor link, and 16 bytes of baggage");
        assert_eq!(rest, b"k=v,session_id=s\x01\x01\0\0\0s\0\0\0\0\0");
    }

    /// Every beginning of a call is refused, and so is one with a byte too many.
    #[test]
    fn refuses_what_is_cut_off_or_too_long() {
        for length in 0..EXTRACT.len() {
            assert!(run(1, EXTRACT.get(..length).unwrap()).is_none(), "{length}");
        }
        assert!(run(1, &[EXTRACT, b"\0"].concat()).is_none());
        assert!(run(u32::MAX, EXTRACT).is_none());
    }

    /// Whatever bytes come, an operation ends, and takes no more memory than they justify.
    #[test]
    fn takes_any_bytes() {
        let mut state = 1_u64;
        let mut next = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) as u8
        };
        for round in 0..20_000 {
            // Small numbers are cases, lengths and parts of them.
            let bytes: Vec<u8> = (0..next() % 64).map(|_| if next() % 4 == 0 { next() } else { next() % 3 }).collect();
            let _ = run(round % 50, &bytes);
        }
    }
}

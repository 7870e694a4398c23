//! The encoding of values in the plain module: each type of the interfaces, field by field. `docs/component.md` has it
//! as a table.

use alloc::string::String;
use alloc::vec::Vec;

use crate::bindings::exports::tracebaton::context::{members as m, propagation as p, spans as s};

/// A value that crosses the border of the plain module.
pub(crate) trait Wire: Sized {
    /// Takes the value from the front of `bytes`; none if they are not those of such a value.
    fn read(bytes: &mut &[u8]) -> Option<Self>;
    /// Appends the value.
    fn write(&self, out: &mut Vec<u8>);
}

macro_rules! numbers {
    ($($type:ty)*) => {$(
        impl Wire for $type {
            fn read(bytes: &mut &[u8]) -> Option<Self> {
                let (head, rest) = bytes.split_first_chunk()?;
                *bytes = rest;
                Some(Self::from_le_bytes(*head))
            }

            fn write(&self, out: &mut Vec<u8>) {
                out.extend_from_slice(&self.to_le_bytes());
            }
        }
    )*};
}

numbers!(u32 u64 i64 f64);

// Not among the numbers: a list of them would be copied byte by byte.
fn read_byte(bytes: &mut &[u8]) -> Option<u8> {
    let (head, rest) = bytes.split_first()?;
    *bytes = rest;
    Some(*head)
}

fn read_bytes(bytes: &mut &[u8]) -> Option<Vec<u8>> {
    let length = u32::read(bytes)?;
    let (head, rest) = bytes.split_at_checked(length as usize)?;
    *bytes = rest;
    Some(head.to_vec())
}

fn write_bytes(value: &[u8], out: &mut Vec<u8>) {
    write_length(value.len(), out);
    out.extend_from_slice(value);
}

/// Memory has 32 bits of address: no length is longer.
fn write_length(length: usize, out: &mut Vec<u8>) {
    crate::convert::number(length).write(out);
}

impl Wire for bool {
    fn read(bytes: &mut &[u8]) -> Option<Self> {
        match read_byte(bytes)? {
            0 => Some(false),
            1 => Some(true),
            _ => None,
        }
    }

    fn write(&self, out: &mut Vec<u8>) {
        out.push(u8::from(*self));
    }
}

impl Wire for String {
    fn read(bytes: &mut &[u8]) -> Option<Self> {
        Self::from_utf8(read_bytes(bytes)?).ok()
    }

    fn write(&self, out: &mut Vec<u8>) {
        write_bytes(self.as_bytes(), out);
    }
}

/// `list<u8>`.
pub(crate) struct Octets(pub(crate) Vec<u8>);

impl Wire for Octets {
    fn read(bytes: &mut &[u8]) -> Option<Self> {
        read_bytes(bytes).map(Self)
    }

    fn write(&self, out: &mut Vec<u8>) {
        write_bytes(&self.0, out);
    }
}

impl<T: Wire> Wire for Vec<T> {
    fn read(bytes: &mut &[u8]) -> Option<Self> {
        // Nothing is reserved: a length may say anything. Nothing here is of no bytes, so this ends.
        let mut items = Self::new();
        for _ in 0..u32::read(bytes)? {
            items.push(T::read(bytes)?);
        }
        Some(items)
    }

    fn write(&self, out: &mut Vec<u8>) {
        write_length(self.len(), out);
        self.iter().for_each(|item| item.write(out));
    }
}

impl<T: Wire> Wire for Option<T> {
    fn read(bytes: &mut &[u8]) -> Option<Self> {
        if bool::read(bytes)? { T::read(bytes).map(Some) } else { Some(None) }
    }

    fn write(&self, out: &mut Vec<u8>) {
        self.is_some().write(out);
        self.iter().for_each(|value| value.write(out));
    }
}

impl<T: Wire, E: Wire> Wire for Result<T, E> {
    fn read(bytes: &mut &[u8]) -> Option<Self> {
        match read_byte(bytes)? {
            0 => T::read(bytes).map(Ok),
            1 => E::read(bytes).map(Err),
            _ => None,
        }
    }

    fn write(&self, out: &mut Vec<u8>) {
        out.push(u8::from(self.is_err()));
        match self {
            Ok(value) => value.write(out),
            Err(error) => error.write(out),
        }
    }
}

impl<A: Wire, B: Wire> Wire for (A, B) {
    fn read(bytes: &mut &[u8]) -> Option<Self> {
        Some((A::read(bytes)?, B::read(bytes)?))
    }

    fn write(&self, out: &mut Vec<u8>) {
        self.0.write(out);
        self.1.write(out);
    }
}

macro_rules! record {
    ($type:path { $($field:ident),* }) => {
        impl Wire for $type {
            fn read(bytes: &mut &[u8]) -> Option<Self> {
                Some(Self { $($field: Wire::read(bytes)?),* })
            }

            fn write(&self, out: &mut Vec<u8>) {
                $(self.$field.write(out);)*
            }
        }
    };
}

/// Enums and variants: a case is its number, then what it holds.
macro_rules! variant {
    ($type:path { $($number:literal $case:ident $(($held:ident $(as $wrap:path)?))?),* }) => {
        impl Wire for $type {
            fn read(bytes: &mut &[u8]) -> Option<Self> {
                Some(match read_byte(bytes)? {
                    $($number => Self::$case $((variant!(@read bytes $held $(as $wrap)?)))?,)*
                    _ => return None,
                })
            }

            fn write(&self, out: &mut Vec<u8>) {
                match self {
                    $(Self::$case $(($held))? => {
                        out.push($number);
                        $(variant!(@write out $held $(as $wrap)?);)?
                    })*
                }
            }
        }
    };
    (@read $bytes:ident $held:ident) => { Wire::read($bytes)? };
    (@read $bytes:ident $held:ident as $wrap:path) => { read_bytes($bytes)? };
    (@write $out:ident $held:ident) => { $held.write($out) };
    (@write $out:ident $held:ident as $wrap:path) => { write_bytes($held, $out) };
}

variant!(p::Error {
    0 SpanContext(rule), 1 Tracestate(rule), 2 Baggage(rule), 3 Session(rule), 4 PropagateTo(at), 5 Value(key),
    6 Malformed(rule)
});
variant!(p::InboundMode { 0 Continue, 1 Restart, 2 Ignore });
record!(p::Policy {
    inbound,
    accept_session,
    accept_project,
    baggage_attributes,
    max_members,
    max_bytes,
    propagate_to
});
record!(p::Inbound { span, link, baggage, session, project, dropped });
record!(p::Entry { name, value, properties });
record!(p::Outbound { span, session, project, source, application, is_api_view, inbound, policy, destination, origin });
record!(p::Injected { headers, dropped });
record!(p::Allowed { trace, baggage });
variant!(p::Sampler {
    0 AlwaysOn, 1 AlwaysOff, 2 TraceIdRatio(ratio), 3 ParentBasedAlwaysOn, 4 ParentBasedAlwaysOff,
    5 ParentBasedRatio(ratio)
});
record!(p::ChildOptions { sampler, random_flag, trace_id, span_id });
variant!(p::ParentChoice { 0 Current, 1 Caller, 2 None });
variant!(p::Verdict { 0 Kept, 1 Dropped, 2 Missing });
record!(p::Finding { header, position, verdict, rule, sentence, text });
variant!(p::Step { 0 Session(both), 1 Inbound(both) });
record!(p::Holding { session, is_inbound, project, baggage, link });

record!(m::Values { traceparent, tracestate, baggage });
record!(m::Member { name, value, raw_value, properties });
record!(m::Shortened { text, dropped });
record!(m::Reconciled { application, inbound });

variant!(s::Node {
    0 Null, 1 Boolean(it), 2 Integer(it), 3 Double(it), 4 Text(it), 5 Octets(it as Octets), 6 Items(count),
    7 Entries(count)
});
variant!(s::Kind { 0 Internal, 1 Server, 2 Client, 3 Producer, 4 Consumer });
variant!(s::StatusCode { 0 Unset, 1 Ok, 2 Error });
record!(s::Status { code, description });
record!(s::Event { time_ns, name, attributes });
record!(s::Link { context, attributes });
record!(s::Span { context, parent, name, kind, start_ns, end_ns, attributes, events, links, statuses });
record!(s::Routing { session, otel_session, session_name, project, source });
record!(s::Limits { attributes, events, links, attributes_per_event, attributes_per_link, value_length, value_depth });
variant!(s::Redaction { 0 Standard, 1 Also(names), 2 Off });
record!(s::FlattenOptions { redaction, leaves, depth, captured_bytes });
variant!(s::Dialect { 0 Numbers, 1 Names });

impl Wire for p::SpanContext {
    fn read(bytes: &mut &[u8]) -> Option<Self> {
        Some(Self {
            trace_id: Wire::read(bytes)?,
            span_id: Wire::read(bytes)?,
            trace_flags: read_byte(bytes)?,
            trace_state: Wire::read(bytes)?,
            is_remote: Wire::read(bytes)?,
        })
    }

    fn write(&self, out: &mut Vec<u8>) {
        self.trace_id.write(out);
        self.span_id.write(out);
        out.push(self.trace_flags);
        self.trace_state.write(out);
        self.is_remote.write(out);
    }
}

impl Wire for s::Run {
    fn read(bytes: &mut &[u8]) -> Option<Self> {
        Some(Self {
            scope_name: Wire::read(bytes)?,
            scope_version: Wire::read(bytes)?,
            scope_attributes: Wire::read(bytes)?,
            schema_url: Wire::read(bytes)?,
            spans: Vec::<Octets>::read(bytes)?.into_iter().map(|span| span.0).collect(),
        })
    }

    fn write(&self, out: &mut Vec<u8>) {
        self.scope_name.write(out);
        self.scope_version.write(out);
        self.scope_attributes.write(out);
        self.schema_url.write(out);
        write_length(self.spans.len(), out);
        self.spans.iter().for_each(|span| write_bytes(span, out));
    }
}

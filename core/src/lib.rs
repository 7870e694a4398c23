//! Distributed trace context for AI services: one small core that every language binding shares.
//!
//! The crate reads and writes the W3C headers `traceparent`, `tracestate` and `baggage`, decides which session a span
//! belongs to, encodes spans as OTLP, and drives their delivery as a state machine. It does no I/O and has no clock, no
//! threads, no source of randomness and no required dependency: time and random bytes are passed in.
#![no_std]
#![forbid(unsafe_code)]
#![warn(clippy::indexing_slicing, clippy::string_slice, clippy::arithmetic_side_effects)]

extern crate alloc;
#[cfg(any(test, feature = "http", feature = "opentelemetry"))]
extern crate std;

pub mod baggage;
pub mod carrier;
pub mod context;
pub mod delivery;
mod escape;
pub mod event_type;
#[cfg(feature = "exchange")]
pub mod exchange;
pub mod explain;
pub mod extract;
pub mod flatten;
pub mod id;
pub mod inject;
#[cfg(any(feature = "http", feature = "json", feature = "opentelemetry", feature = "uuid"))]
pub mod interop;
mod keyed;
pub mod limits;
pub mod name_filter;
mod names;
mod number;
mod octets;
pub mod otlp;
pub mod parent;
mod percent;
pub mod policy;
pub mod record;
pub mod redact;
pub mod registration;
pub mod routing;
pub mod rule;
pub mod sampler;
pub mod scope;
pub mod session;
pub mod settings;
pub mod span;
pub mod spool;
pub mod traceparent;
pub mod tracer;
pub mod tracestate;
pub mod value;

pub use baggage::Baggage;
pub use carrier::{Extractor, Injector};
pub use context::{SpanContext, SpanContext as TraceContext};
pub use extract::{Inbound, extract};
pub use id::{SpanId, TraceFlags, TraceId};
pub use inject::{Outbound, inject};
#[cfg(feature = "opentelemetry")]
pub use interop::opentelemetry::TracebatonPropagator;
pub use policy::Policy;
pub use record::SpanRecord;
pub use scope::SessionScope;
pub use tracestate::TraceState;
pub use value::Value;

/// The examples of the crate's README, compiled and run with the tests.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;

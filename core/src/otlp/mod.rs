//! OTLP, written by hand: a span as protobuf bytes, those bytes as JSON, and the envelopes around many of them.
//!
//! A span is encoded once, when it ends ([`span`](crate::span)); its bytes are the only record from there on.

pub(crate) mod attribute;
pub mod envelope;
pub mod json;
pub mod protobuf;
pub mod reader;

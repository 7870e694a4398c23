//! This crate's types beside those of other crates, each behind the cargo feature of the same name.

#[cfg(feature = "http")]
pub mod http;
#[cfg(feature = "json")]
pub mod json;
#[cfg(feature = "opentelemetry")]
pub mod opentelemetry;
#[cfg(feature = "uuid")]
pub mod uuid;

//! Delivery of spans over OTLP/HTTP from native programs: what [`tracebaton::delivery`] decides, done with threads,
//! clocks and sockets.
//!
//! An [`Exporter`] is one tracer's queue to one [`Destination`]. Exporters with equal destinations share one thread,
//! which starts with the first span and is gone with the last of them. An application never waits for the network,
//! except in [`Exporter::flush`] and [`Exporter::shutdown`], and there no longer than it said. Around `fork` a program
//! calls the functions of [`fork`].

mod answer;
mod clock;
mod console;
mod destination;
mod exporter;
pub mod fork;
mod http;
mod proxy;
mod queue;
mod registration;
mod report;
mod sink;
pub mod spool;
mod tls;
mod transport;
mod wait;
mod worker;

pub use console::Console;
pub use destination::{Destination, Encoding, Invalid};
pub use exporter::{Exporter, Started};
pub use registration::{Api, Sessions};
pub use report::{News, Reporter};
pub use sink::{Common, Sink};
pub use tracebaton::delivery::{Config, Drops, Pushed, Reason, Scope, Stats};
pub use tracebaton::otlp::json::Enums;
pub use tracebaton::settings::Tls;
pub use wait::Wait;

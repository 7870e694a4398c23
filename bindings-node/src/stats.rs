//! What became of a tracer's spans, and of its requests about sessions.

use tracebaton::delivery::Stats;
use tracebaton::tracer::stats;
use tracebaton::value::Value;
use tracebaton_export::{Sessions, Sink};

use crate::tracers::Native;

/// All of it as a map.
pub(crate) fn all(native: &Native) -> Value<'static> {
    let sinks = native.sinks.iter().filter_map(|sink: &Sink| Some((sink.name(), sink.stats()?)));
    let sessions: Vec<Stats> = native.sessions.iter().map(Sessions::stats).collect();
    stats::describe(&native.tracer, sinks, &sessions)
}

//! What became of a tracer's spans, and of its requests about sessions.

use std::borrow::Cow;
use std::collections::BTreeMap;

use tracebaton::delivery::Stats;
use tracebaton::value::Value;
use tracebaton_export::{Sessions, Sink};

use crate::tracers::Native;

type Entry = (Cow<'static, str>, Value<'static>);

fn number(number: u64) -> Value<'static> {
    Value::Int(i64::try_from(number).unwrap_or(i64::MAX))
}

/// The counters of several queues together: what is counted of spans as well as of requests.
fn sum(all: &[Stats]) -> Vec<Entry> {
    let mut dropped: BTreeMap<&str, u64> = BTreeMap::new();
    for stats in all {
        for (reason, count) in stats.dropped.iter() {
            *dropped.entry(reason.as_str()).or_default() += count;
        }
        *dropped.entry("rejected").or_default() += stats.rejected;
    }
    let dropped = dropped.into_iter().filter(|(_, count)| *count > 0);
    let dropped = dropped.map(|(reason, count)| (Cow::Borrowed(reason), number(count)));
    let last_error = all.iter().rev().find_map(|stats| stats.last_error.clone());
    vec![
        ("queued".into(), total(all, |it| it.queued)),
        ("sent".into(), total(all, |it| it.sent)),
        ("dropped".into(), Value::Map(dropped.collect())),
        ("retried".into(), total(all, |it| it.retried)),
        ("last_error".into(), last_error.map_or(Value::Null, Value::from)),
    ]
}

fn total(all: &[Stats], one: impl Fn(&Stats) -> u64) -> Value<'static> {
    number(all.iter().map(one).sum())
}

/// All of it as a map.
pub(crate) fn all(native: &Native) -> Value<'static> {
    let mut destinations: BTreeMap<String, Vec<Stats>> = BTreeMap::new();
    for (name, stats) in native.sinks.iter().filter_map(|sink: &Sink| Some((sink.name(), sink.stats()?))) {
        destinations.entry(name).or_default().push(stats);
    }
    let every: Vec<Stats> = destinations.values().flatten().cloned().collect();
    let destinations = destinations.into_iter().map(|(name, stats)| (name.into(), Value::Map(sum(&stats))));
    let sessions: Vec<Stats> = native.sessions.iter().map(Sessions::stats).collect();
    let inbound = native.tracer.inbound_dropped().map(|(rule, count)| (rule.id().into(), number(count as u64)));
    let mut out = sum(&every);
    out.extend([
        ("spooled".into(), total(&every, |it| it.spooled)),
        ("unspooled".into(), total(&every, |it| it.unspooled)),
        ("unspooled_starts".into(), total(&every, |it| it.unspooled_starts)),
        ("recovered".into(), total(&every, |it| it.recovered)),
        ("destinations".into(), Value::Map(destinations.collect())),
        ("not_sampled".into(), number(native.tracer.unsampled() as u64)),
        ("inbound_dropped".into(), Value::Map(inbound.collect())),
        ("sessions".into(), Value::Map(sum(&sessions))),
    ]);
    Value::Map(out)
}

//! What became of a tracer's spans, and of its requests about sessions: what `stats()` says in every language.

use alloc::borrow::Cow;
use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::vec::Vec;

use super::Tracer;
use crate::delivery::Stats;
use crate::rule::RuleCounts;
use crate::value::Value;

type Entry = (Cow<'static, str>, Value<'static>);

fn number(number: u64) -> Value<'static> {
    Value::Int(i64::try_from(number).unwrap_or(i64::MAX))
}

fn total(all: &[Stats], one: impl Fn(&Stats) -> u64) -> Value<'static> {
    number(all.iter().map(one).fold(0, u64::saturating_add))
}

/// The counters of several queues together: what is counted of spans as well as of requests.
fn sum(all: &[Stats]) -> Vec<Entry> {
    let mut dropped: BTreeMap<&str, u64> = BTreeMap::new();
    let mut add = |reason, count| {
        let sum: &mut u64 = dropped.entry(reason).or_default();
        *sum = sum.saturating_add(count);
    };
    for stats in all {
        stats.dropped.iter().for_each(|(reason, count)| add(reason.as_str(), count));
        add("rejected", stats.rejected);
    }
    let dropped = dropped.into_iter().filter(|(_, count)| *count > 0);
    let dropped = dropped.map(|(reason, count)| (Cow::Borrowed(reason), number(count)));
    let last_error = all.iter().rev().find_map(|stats| stats.last_error.clone());
    Vec::from([
        ("queued".into(), total(all, |it| it.queued)),
        ("sent".into(), total(all, |it| it.sent)),
        ("dropped".into(), Value::Map(dropped.collect())),
        ("retried".into(), total(all, |it| it.retried)),
        ("last_error".into(), last_error.map_or(Value::Null, Value::from)),
    ])
}

/// Counts by the ids of rules, as a map.
pub fn by_rule(counts: &RuleCounts) -> Value<'static> {
    Value::Map(counts.iter().map(|(rule, count)| (rule.id().into(), number(count as u64))).collect())
}

/// All of it as a map. `destinations` are the queues that spans went into, by what they are called; `sessions` those of
/// requests about sessions.
pub fn describe(
    tracer: &Tracer,
    destinations: impl IntoIterator<Item = (String, Stats)>,
    sessions: &[Stats],
) -> Value<'static> {
    let mut named: BTreeMap<String, Vec<Stats>> = BTreeMap::new();
    for (name, stats) in destinations {
        named.entry(name).or_default().push(stats);
    }
    let every: Vec<Stats> = named.values().flatten().cloned().collect();
    let named = named.into_iter().map(|(name, stats)| (name.into(), Value::Map(sum(&stats))));
    let mut out = sum(&every);
    out.extend([
        ("spooled".into(), total(&every, |it| it.spooled)),
        ("unspooled".into(), total(&every, |it| it.unspooled)),
        ("unspooled_starts".into(), total(&every, |it| it.unspooled_starts)),
        ("recovered".into(), total(&every, |it| it.recovered)),
        ("destinations".into(), Value::Map(named.collect())),
        ("not_sampled".into(), number(tracer.unsampled() as u64)),
        ("inbound_dropped".into(), by_rule(tracer.inbound_dropped())),
        ("sessions".into(), Value::Map(sum(sessions))),
    ]);
    Value::Map(out)
}

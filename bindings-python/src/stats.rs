//! What became of a tracer's spans, and of its requests about sessions: `Tracer.stats()`.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};

use pyo3::prelude::*;
use pyo3::types::PyDict;
use tracebaton::delivery::{Drops, Stats};
use tracebaton::rule::Rule;
use tracebaton_export::Sessions;

use crate::core::Core;

/// The counters of several queues together.
#[derive(Default)]
struct Sum {
    queued: u64,
    sent: u64,
    retried: u64,
    rejected: u64,
    spooled: u64,
    unspooled: u64,
    unspooled_starts: u64,
    recovered: u64,
    dropped: Vec<Drops>,
    last_error: Option<String>,
}

impl Sum {
    fn of(all: impl Iterator<Item = Stats>) -> Self {
        let mut sum = Self::default();
        for stats in all {
            sum.queued += stats.queued;
            sum.sent += stats.sent;
            sum.retried += stats.retried;
            sum.rejected += stats.rejected;
            sum.spooled += stats.spooled;
            sum.unspooled += stats.unspooled;
            sum.unspooled_starts += stats.unspooled_starts;
            sum.recovered += stats.recovered;
            sum.dropped.push(stats.dropped);
            sum.last_error = stats.last_error.or(sum.last_error);
        }
        sum
    }

    /// What is counted of spans as well as of requests.
    fn dict<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let dropped = PyDict::new(py);
        for (reason, count) in self.dropped.iter().flat_map(Drops::iter).filter(|(_, count)| *count > 0) {
            let before: u64 = dropped.get_item(reason.as_str())?.map_or(Ok(0), |it| it.extract())?;
            dropped.set_item(reason.as_str(), before + count)?;
        }
        if self.rejected > 0 {
            dropped.set_item("rejected", self.rejected)?;
        }
        let out = PyDict::new(py);
        out.set_item("queued", self.queued)?;
        out.set_item("sent", self.sent)?;
        out.set_item("dropped", dropped)?;
        out.set_item("retried", self.retried)?;
        out.set_item("last_error", &self.last_error)?;
        Ok(out)
    }
}

/// Counts by the ids of rules.
fn by_rule<'py>(py: Python<'py>, counts: &[AtomicU64]) -> PyResult<Bound<'py, PyDict>> {
    let out = PyDict::new(py);
    for rule in Rule::ALL {
        match counts.get(*rule as usize).map_or(0, |count| count.load(Ordering::Relaxed)) {
            0 => {}
            count => out.set_item(rule.id(), count)?,
        }
    }
    Ok(out)
}

/// All of it as a dict.
pub(crate) fn dict<'py>(core: &Core, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
    let outlets = core.outlets();
    let exported = outlets
        .iter()
        .flat_map(|outlet| outlet.exporters())
        .map(|exporter| (exporter.destination().shown_url(), exporter.stats()));
    let mut destinations: BTreeMap<String, Vec<Stats>> = BTreeMap::new();
    let sinks = core.sinks.iter().filter_map(|sink| Some((sink.name(), sink.stats()?)));
    for (name, stats) in sinks.chain(exported) {
        destinations.entry(name).or_default().push(stats);
    }
    let sum = Sum::of(destinations.values().flatten().cloned());
    let out = sum.dict(py)?;
    out.set_item("spooled", sum.spooled)?;
    out.set_item("unspooled", sum.unspooled)?;
    out.set_item("unspooled_starts", sum.unspooled_starts)?;
    out.set_item("recovered", sum.recovered)?;
    let by_destination = PyDict::new(py);
    for (name, stats) in destinations {
        by_destination.set_item(name, Sum::of(stats.into_iter()).dict(py)?)?;
    }
    out.set_item("destinations", by_destination)?;
    out.set_item("not_sampled", core.unsampled.load(Ordering::Relaxed))?;
    out.set_item("inbound_dropped", by_rule(py, &core.inbound_dropped)?)?;
    out.set_item("outbound_dropped", by_rule(py, &core.outbound_dropped)?)?;
    out.set_item("sessions", Sum::of(core.sessions.iter().map(Sessions::stats)).dict(py)?)?;
    Ok(out)
}

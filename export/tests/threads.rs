//! How many threads there are. The only test of its program, since it counts those of the whole process.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test")]

mod common;

use std::fs;
use std::net::TcpListener;

use common::*;
use tracebaton_export::{Exporter, Wait};

/// The number of threads of exporters, and of others.
fn all_threads() -> (usize, usize) {
    let names = fs::read_dir("/proc/self/task").unwrap().filter_map(|task| {
        // A thread may end while its entry is read.
        fs::read_to_string(task.ok()?.path().join("comm")).ok()
    });
    // The system keeps 15 characters of a thread's name.
    let (exporters, others): (Vec<_>, Vec<_>) = names.partition(|name| name.trim_end() == "tracebaton-expo");
    (exporters.len(), others.len())
}

fn threads() -> usize {
    all_threads().0
}

#[test]
fn one_thread_for_each_destination_until_the_last_exporter_is_gone() {
    let (server, other) = (Server::start(), Server::start());
    let others = all_threads().1;
    let new = |server: &Server| Exporter::new(destination(server.url()), config(), RESOURCE, None).unwrap();
    let (first, second, third) = (new(&server), new(&server), new(&other));
    assert_eq!(threads(), 0, "none before the first span");
    for exporter in [&first, &second] {
        record(exporter, "span");
        assert!(exporter.flush(PATIENCE));
    }
    assert_eq!(threads(), 1, "equal destinations share one");
    record(&third, "span");
    assert!(third.flush(PATIENCE));
    assert_eq!(threads(), 2);
    let clone = first.clone();
    drop((first, third));
    until("the other destination's thread ends", || threads() == 1);
    record(&clone, "span");
    assert!(clone.flush(PATIENCE));
    drop(second);
    assert!(clone.shutdown(PATIENCE));
    until("all have ended", || threads() == 0);
    drop(clone);
    let again = new(&server);
    record(&again, "span");
    assert!(again.flush(PATIENCE));
    assert_eq!(threads(), 1);
    record(&again, "left");
    drop(again);
    until("all have ended", || threads() == 0);
    assert_eq!(server.requests(5).iter().flat_map(Request::names).filter(|name| name == "left").count(), 1);

    // To wait for several takes none: in a process that may have no more, it would fail.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = |path: &str| format!("http://{}/{path}", silent.local_addr().unwrap());
    let exporters =
        ["a", "b", "c"].map(|path| Exporter::new(destination(url(path)), config(), RESOURCE, None).unwrap());
    for exporter in &exporters {
        record(exporter, "span");
    }
    // The servers' threads of earlier connections end, and a new thread has not got its name at once.
    until("only these are there", || all_threads() == (3, others));
    let mut seen = 0;
    assert!(!Wait::Flush.for_all(&exporters.each_ref(), &[], PATIENCE, || {
        seen = seen.max(all_threads().1);
        false
    }));
    assert_eq!(seen, others);
}

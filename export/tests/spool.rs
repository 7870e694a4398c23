//! Spools on real disks: processes that are killed, a full disk, a directory that cannot be written, damage, forks.
#![cfg(unix)]
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test")]

mod common;

use std::collections::BTreeSet;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use common::*;
use tracebaton::otlp::reader::{Repeated, SpanView};
use tracebaton_export::spool::{self, Spool};
use tracebaton_export::{Config, Exporter, Pushed, Reason, Started, fork};

/// A directory that is gone with the test.
struct Dir(PathBuf);

impl Dir {
    fn new(name: &str) -> Self {
        let dir = std::env::temp_dir().join(format!("tracebaton-spool-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&dir);
        Self(dir)
    }

    fn options(&self) -> Option<Spool> {
        Some(Spool { bytes: 1 << 20, ..Spool::new(&self.0, "otlp") })
    }

    fn files(&self) -> usize {
        spool::list(&self.0).unwrap().len()
    }
}

impl Drop for Dir {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn encode(id: u64, end_ns: u64, out: &mut Vec<u8>) {
    let mut span = vec![0x0a, 16];
    span.extend([1; 16]);
    span.extend([0x12, 8]);
    span.extend(id.to_be_bytes());
    span.extend([0x2a, 4]);
    span.extend(b"name");
    span.push(0x39);
    span.extend(id.to_le_bytes());
    span.push(0x41);
    span.extend(end_ns.to_le_bytes());
    out.extend([0x12, u8::try_from(span.len()).unwrap()]);
    out.extend(span);
}

fn start(exporter: &Exporter, id: u64) -> Option<Started> {
    exporter.start(&scope(), |out| {
        encode(id, 0, out);
        None
    })
}

fn end(exporter: &Exporter, id: u64, started: Option<Started>) -> Pushed {
    exporter.record_started(&scope(), started, |out| encode(id, id + 1_000, out))
}

/// Ids of the spans in requests: those that ended, and those that were interrupted. None comes twice.
fn arrived(requests: &[Request]) -> (BTreeSet<u64>, BTreeSet<u64>) {
    let (mut ended, mut interrupted) = (BTreeSet::new(), BTreeSet::new());
    for request in requests {
        let body = request.plain();
        for resource in Repeated::of(&body, 1) {
            for scope in Repeated::of(resource.unwrap(), 2) {
                for span in Repeated::of(scope.unwrap(), 2) {
                    let span = SpanView::parse(span.unwrap()).unwrap();
                    let id = u64::from_be_bytes(span.span_id().unwrap().to_bytes());
                    let is_open = span.status.as_ref().is_some_and(|status| status.message.to_str() == "interrupted");
                    assert!(if is_open { &mut interrupted } else { &mut ended }.insert(id), "{id} twice");
                    assert!(span.end_ns >= span.start_ns && span.end_ns != 0);
                }
            }
        }
    }
    (ended, interrupted)
}

fn new(url: String, options: Option<Spool>) -> Exporter {
    Exporter::with_spool(destination(url), config(), RESOURCE, None, options).unwrap()
}

/// Nobody listens there.
fn nowhere() -> String {
    String::from("http://127.0.0.1:9")
}

/// This program again, as a child that records spans and tells of each, until it is killed.
fn child(dir: &Path, first: u64) -> (Child, impl Iterator<Item = (char, u64)> + use<>) {
    child_to(&nowhere(), dir, first)
}

/// The same, for spans that go somewhere.
fn child_to(url: &str, dir: &Path, first: u64) -> (Child, impl Iterator<Item = (char, u64)> + use<>) {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "a_child", "--nocapture"]).env("SPOOL_DIR", dir).env("SPOOL_FIRST", first.to_string());
    command.env("SPOOL_URL", url);
    let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let said = lines.map_while(Result::ok).filter_map(|line| {
        let (what, id) = line.split_once(' ')?;
        Some((what.chars().next()?, id.parse().ok()?))
    });
    (child, said)
}

#[test]
fn a_child() {
    let (Some(dir), Ok(first)) = (std::env::var_os("SPOOL_DIR"), std::env::var("SPOOL_FIRST")) else { return };
    let url = std::env::var("SPOOL_URL").unwrap();
    let exporter = new(url, Some(Spool { bytes: 4 << 20, ..Spool::new(dir, "otlp") }));
    let mut out = std::io::stdout().lock();
    let mut open = Vec::new();
    for id in first.parse::<u64>().unwrap().. {
        let started = start(&exporter, id);
        writeln!(out, "s {id}").unwrap();
        open.push((id, started));
        if id % 3 != 0 {
            let (id, started) = open.remove(open.len() / 2);
            let _ = end(&exporter, id, started);
            writeln!(out, "e {id}").unwrap();
        }
        if open.len() > 20 {
            open.remove(0);
        }
        std::thread::sleep(Duration::from_micros(50));
    }
}

#[test]
fn killed_processes_lose_nothing() {
    let dir = Dir::new("killed");
    let (mut started, mut ended) = (BTreeSet::new(), BTreeSet::new());
    let mut children: Vec<_> = (0..2).map(|number| child(&dir.0, 1 + number * 1_000_000)).collect();
    for (child, said) in &mut children {
        let mut count = 0;
        for (what, id) in said.by_ref() {
            if what == 's' { &mut started } else { &mut ended }.insert(id);
            count += 1;
            if count == 500 {
                child.kill().unwrap();
            }
        }
        child.wait().unwrap();
    }
    let infos = spool::list(&dir.0).unwrap();
    assert_eq!(infos.iter().filter(|info| info.is_locked == Some(false) && info.damaged == 0).count(), 2);
    let count: u64 = infos.iter().map(|info| info.ended + info.open).sum();
    assert!(count >= started.len() as u64);

    let server = Server::start();
    // Of another kind: it leaves them alone.
    let other = new(server.url(), Some(Spool::new(&dir.0, "honeyhive")));
    assert!(other.recover(PATIENCE, || true));
    assert_eq!(server.seen(), 0);
    let exporter = new(server.url(), dir.options());
    assert!(exporter.recover(PATIENCE, || true));
    let (arrived, interrupted) = arrived(&server.requests(2));
    assert!(ended.is_subset(&arrived), "lost: {:?}", ended.difference(&arrived));
    let open: BTreeSet<_> = started.difference(&arrived).copied().collect();
    assert!(open.is_subset(&interrupted), "not reported: {:?}", open.difference(&interrupted));
    assert!(interrupted.is_disjoint(&arrived));
    assert_eq!(exporter.stats().recovered, count);
    assert!(exporter.shutdown(PATIENCE) && other.shutdown(PATIENCE));
    drop((exporter, other));
    until("all files are gone", || dir.files() == 0);
}

#[test]
fn what_is_not_delivered_at_the_shutdown_is_delivered_by_the_next_start() {
    let dir = Dir::new("shutdown");
    let (reporter, messages) = reporter();
    let config = Config { delay_ns: u64::MAX, ..config() };
    let exporter = Exporter::with_spool(destination(nowhere()), config, RESOURCE, reporter, dir.options()).unwrap();
    let (started, open) = (start(&exporter, 1), start(&exporter, 2));
    assert!(started.is_some() && open.is_some());
    assert!(matches!(end(&exporter, 1, started), Pushed::Queued { .. }));
    assert!(!exporter.shutdown(PATIENCE));
    assert_eq!(
        messages.recv().unwrap(),
        "cannot reach http://127.0.0.1:9 (connection refused): 1 span kept in the spool"
    );
    // What ends later is not lost either.
    assert_eq!(end(&exporter, 2, open), Pushed::Spooled(Reason::Shutdown));
    let stats = exporter.stats();
    assert_eq!((stats.spooled, stats.dropped.total(), stats.queued), (2, 0, 0));
    drop(exporter);
    until("the file is let go of", || spool::list(&dir.0).unwrap().iter().all(|info| info.is_locked == Some(false)));

    let server = Server::start();
    let exporter = new(server.url(), dir.options());
    assert!(exporter.recover(PATIENCE, || true));
    assert_eq!(arrived(&server.requests(1)).0, BTreeSet::from([1, 2]));
    // Delivered once: nothing is left for the one after that.
    let again = new(server.url(), dir.options());
    assert!(again.recover(PATIENCE, || true));
    assert_eq!(server.seen(), 1);
    assert!(exporter.shutdown(PATIENCE) && again.shutdown(PATIENCE));
    assert_eq!(dir.files(), 0);
}

#[test]
fn what_was_given_up_is_delivered_when_the_destination_is_back() {
    let (dir, server) = (Dir::new("back"), Server::start());
    server.script([Reply::status(503)]);
    let config = Config { give_up_ns: 0, delay_ns: 0, ..config() };
    let exporter = Exporter::with_spool(destination(server.url()), config, RESOURCE, None, dir.options()).unwrap();
    let _ = end(&exporter, 1, None);
    until("it is given up", || exporter.stats().spooled == 1);
    assert_eq!(exporter.stats().dropped.total(), 0);
    let _ = end(&exporter, 2, None);
    assert!(!exporter.flush(PATIENCE), "a loss until now");
    let requests = server.requests(3);
    assert_eq!(arrived(&requests[1..]).0, BTreeSet::from([1, 2]));
    until("both are delivered", || exporter.stats().sent == 2);
    assert_eq!((exporter.stats().spooled, exporter.stats().dropped.total()), (0, 0));
    assert!(exporter.shutdown(PATIENCE));
    assert_eq!(dir.files(), 0);
}

#[test]
fn refused_spans_are_dropped_and_kept_ones_stay() {
    let dir = Dir::new("refused");
    let exporter = new(nowhere(), dir.options());
    let _ = end(&exporter, 7, None);
    assert!(!exporter.shutdown(PATIENCE));
    drop(exporter);
    until("the file is let go of", || spool::list(&dir.0).unwrap().iter().any(|info| info.ended == 1));
    // The destination is not there.
    let exporter = Exporter::with_spool(
        destination(nowhere()),
        Config { give_up_ns: 0, ..config() },
        RESOURCE,
        None,
        Some(Spool { bytes: 0, ..Spool::new(&dir.0, "otlp") }),
    );
    let exporter = exporter.unwrap();
    assert!(!exporter.recover(PATIENCE, || true));
    assert_eq!((exporter.stats().spooled, exporter.stats().dropped.total()), (1, 0));
    assert!(exporter.start(&scope(), |_| panic!("there is no spool of its own")).is_none());
    assert_eq!(dir.files(), 1);
    let server = Server::start();
    server.script([Reply::status(400)]);
    let exporter = new(server.url(), dir.options());
    assert!(exporter.recover(PATIENCE, || true));
    assert_eq!(exporter.stats().dropped.get(Reason::Refused), 1);
    assert!(!exporter.shutdown(PATIENCE), "a flush hears of the loss");
    assert_eq!(dir.files(), 0);
}

#[test]
fn damaged_files_are_set_aside_and_what_is_whole_is_delivered() {
    let dir = Dir::new("damaged");
    let exporter = new(nowhere(), dir.options());
    for id in 1..=5 {
        let _ = end(&exporter, id, None);
    }
    assert!(!exporter.shutdown(PATIENCE));
    drop(exporter);
    until("the file is let go of", || spool::list(&dir.0).unwrap().iter().all(|info| info.is_locked == Some(false)));
    let path = spool::list(&dir.0).unwrap()[0].path.clone();
    let mut bytes = fs::read(&path).unwrap();
    // The third of five spans.
    let at = bytes.windows(12).position(|it| it == [0x12, 8, 0, 0, 0, 0, 0, 0, 0, 3, 0x2a, 4]).unwrap();
    bytes[at + 13] ^= 1;
    fs::write(&path, bytes).unwrap();
    fs::write(dir.0.join("otlp-1-00.spool"), b"something else").unwrap();
    fs::write(dir.0.join("otlp-1-01.spool"), vec![b'x'; 10_000]).unwrap();
    // One that somebody makes at the moment, and one that somebody did not finish long ago.
    let (fresh, old) = (dir.0.join("otlp-1-02.spool.new"), dir.0.join("otlp-1-03.spool.new"));
    fs::write(&fresh, b"").unwrap();
    let long_ago = std::time::SystemTime::now() - Duration::from_secs(4_000);
    fs::File::create(&old).unwrap().set_modified(long_ago).unwrap();
    assert!(spool::list(&dir.0).unwrap().iter().any(|info| info.damaged != 0 && info.ended == 4));

    let server = Server::start();
    let (reporter, messages) = reporter();
    let exporter =
        Exporter::with_spool(destination(server.url()), config(), RESOURCE, reporter, dir.options()).unwrap();
    exporter.recover(PATIENCE, || true);
    assert_eq!(arrived(&server.requests(1)).0, BTreeSet::from([1, 2, 4, 5]));
    let messages: Vec<_> = messages.try_iter().collect();
    assert_eq!(messages.iter().filter(|message| message.contains("was moved to corrupt/")).count(), 3, "{messages:?}");
    assert_eq!(fs::read_dir(dir.0.join("corrupt")).unwrap().count(), 3);
    assert!(fresh.exists() && !old.exists());
    assert!(exporter.shutdown(PATIENCE));
    assert_eq!(dir.files(), 0);
}

#[test]
fn without_a_place_for_the_spool_spans_are_delivered_all_the_same() {
    let dir = Dir::new("nowhere");
    fs::write(&dir.0, b"a file, not a directory").unwrap();
    let server = Server::start();
    let (reporter, messages) = reporter();
    let exporter =
        Exporter::with_spool(destination(server.url()), config(), RESOURCE, reporter, dir.options()).unwrap();
    let started = start(&exporter, 1);
    assert!(started.is_none());
    let _ = end(&exporter, 1, started);
    assert!(exporter.shutdown(PATIENCE));
    let message = messages.recv().unwrap();
    assert!(message.starts_with("there is no spool for http://127.0.0.1:"), "{message}");
    assert!(message.ends_with(": spans are kept in memory only") && !message.contains("tmp"), "{message}");
    assert!(messages.try_recv().is_err(), "told once");
    fs::remove_file(&dir.0).unwrap();
}

/// A disk of a few MiB, if this is root.
#[cfg(target_os = "linux")]
#[test]
fn a_full_disk_is_reported_and_survived() {
    let dir = Dir::new("full");
    fs::create_dir_all(&dir.0).unwrap();
    let mount = Command::new("mount").args(["-t", "tmpfs", "-o", "size=2m", "none"]).arg(&dir.0).output();
    if !mount.is_ok_and(|output| output.status.success()) {
        return;
    }
    let server = Server::start();
    let (reporter, messages) = reporter();
    let options = Some(Spool::new(&dir.0, "otlp"));
    let exporter = Exporter::with_spool(destination(server.url()), config(), RESOURCE, reporter, options).unwrap();
    let small = new(server.url(), dir.options());
    let _ = end(&exporter, 1, None);
    assert!(exporter.shutdown(PATIENCE));
    // What has its room has it for good: the disk fills up, and spans are spooled all the same.
    let rest = fs::write(dir.0.join("rest"), vec![1; 4 << 20]);
    let started = start(&small, 2);
    let count = (3..2_000).filter(|id| matches!(end(&small, *id, None), Pushed::Queued { .. })).count();
    let unspooled = small.stats().unspooled;
    let delivered = small.shutdown(PATIENCE);
    drop((exporter, small));
    let message = messages.recv().unwrap();
    let left = fs::read_dir(&dir.0).unwrap().count();
    let unmounted = Command::new("umount").arg(&dir.0).status();
    assert!(unmounted.is_ok_and(|status| status.success()));
    assert!(rest.is_err() && started.is_some() && delivered && count == 1_997 && unspooled == 0);
    assert!(message.contains("(no storage space)"), "{message}");
    assert!(left <= 2, "what was begun is removed");
}

#[test]
fn a_list_tells_a_file_that_is_recovered_from_one_that_is_written() {
    let dir = Dir::new("list");
    let (mut first, mut said) = child(&dir.0, 1);
    while !matches!(said.next(), Some(('e', _))) {}
    let state = |process: u32| {
        let infos = spool::list(&dir.0).unwrap();
        infos.iter().find(|info| info.process == process).map(|info| (info.is_locked == Some(true), info.is_recovered))
    };
    assert_eq!(state(first.id()), Some((true, false)));
    first.kill().unwrap();
    first.wait().unwrap();
    assert_eq!(state(first.id()), Some((false, false)));
    // Another one takes it over, and never gets an answer.
    let server = Server::start();
    server.script(std::iter::repeat_with(|| Reply::Hang).take(20));
    let (mut second, mut said) = child_to(&server.url(), &dir.0, 1_000_000);
    assert!(said.next().is_some());
    until("it is recovered", || state(first.id()) == Some((true, true)));
    assert_eq!(state(second.id()), Some((true, false)));
    second.kill().unwrap();
    second.wait().unwrap();
    assert_eq!(state(first.id()), Some((false, true)), "nobody has it, but its process is known to be gone");
}

#[test]
fn a_span_larger_than_a_segment_is_sent_and_counted_as_unspooled() {
    let (dir, server) = (Dir::new("large"), Server::start());
    let (reporter, messages) = reporter();
    let options = dir.options();
    let exporter = Exporter::with_spool(destination(server.url()), config(), RESOURCE, reporter, options).unwrap();
    for id in [1, 2] {
        let pushed = exporter.record(&scope(), |out| {
            let mut small = Vec::new();
            encode(id, id + 1_000, &mut small);
            // An eighth of the spool, in an unknown field.
            let field = 200_000_usize;
            let size = small.len() - 2 + 5 + field;
            out.extend([0x12, size as u8 | 0x80, (size >> 7) as u8 | 0x80, (size >> 14) as u8]);
            out.extend(&small[2..]);
            out.extend([0xfa, 0x07, field as u8 | 0x80, (field >> 7) as u8 | 0x80, (field >> 14) as u8]);
            out.resize(out.len() + field, 0);
        });
        assert!(matches!(pushed, Pushed::Queued { .. }), "{pushed:?}");
        assert_eq!(exporter.stats().unspooled, id);
    }
    let _ = end(&exporter, 3, None);
    assert!(exporter.flush(PATIENCE));
    assert_eq!(arrived(&server.requests(1)).0, BTreeSet::from([1, 2, 3]));
    assert_eq!((exporter.stats().sent, exporter.stats().unspooled), (3, 2));
    let told: Vec<_> =
        messages.try_iter().filter(|message| message.contains("a span is too large for the spool")).collect();
    assert_eq!(told.len(), 1, "{told:?}");
}

#[test]
fn a_child_has_a_file_of_its_own_and_leaves_the_parents_alone() {
    let dir = Dir::new("fork");
    let exporter = new(nowhere(), dir.options());
    let started = start(&exporter, 1);
    fork::before();
    // SAFETY: as in tests/fork.rs: the child records a span and ends at once.
    let pid = unsafe { libc::fork() };
    if pid == 0 {
        fork::after_in_child();
        // A token of the parent's means nothing here.
        let _ = end(&exporter, 2, started);
        let open = start(&exporter, 3);
        // SAFETY: ends the child without the parent's exit handlers, as a kill would.
        unsafe { libc::_exit(if open.is_some() { 0 } else { 1 }) };
    }
    let mut status = 0;
    // SAFETY: waits for the child that was just made.
    assert_eq!(unsafe { libc::waitpid(pid, &mut status, 0) }, pid);
    assert_eq!(status, 0);
    let infos = spool::list(&dir.0).unwrap();
    let counts: BTreeSet<_> =
        infos.iter().map(|info| (info.process, info.is_locked == Some(true), info.ended, info.open)).collect();
    let own = (std::process::id(), true, 0, 1);
    assert_eq!(counts, BTreeSet::from([own, (u32::try_from(pid).unwrap(), false, 1, 1)]));
    let server = Server::start();
    let other = new(server.url(), Some(Spool { bytes: 0, ..dir.options().unwrap() }));
    assert!(other.recover(PATIENCE, || true));
    assert_eq!(arrived(&server.requests(1)), (BTreeSet::from([2]), BTreeSet::from([3])));
    fork::after_in_parent();
    let _ = end(&exporter, 1, started);
    assert_eq!(exporter.stats().unspooled, 0);
    exporter.shutdown(PATIENCE);
}

/// A process that has ended 1, …, `spans` spans, and died.
fn died(dir: &Dir, spans: usize) {
    let (mut child, said) = child(&dir.0, 1);
    assert_eq!(said.filter(|(what, _)| *what == 'e').take(spans).count(), spans);
    child.kill().unwrap();
    child.wait().unwrap();
}

fn with(url: String, config: Config, options: Option<Spool>) -> (Exporter, std::sync::mpsc::Receiver<String>) {
    let (reporter, messages) = reporter();
    (Exporter::with_spool(destination(url), config, RESOURCE, reporter, options).unwrap(), messages)
}

#[test]
fn a_process_that_dies_while_another_one_runs_is_recovered_by_that() {
    let (dir, server) = (Dir::new("runs"), Server::start());
    let config = Config { rescan_ns: 10_000_000, ..config() };
    let (exporter, _) = with(server.url(), config, dir.options());
    // There is nothing, by now.
    assert!(exporter.recover(PATIENCE, || true));
    for round in 1..3 {
        let before = exporter.stats().recovered;
        died(&dir, 5);
        until("its file is gone", || dir.files() == 1);
        assert!(exporter.stats().recovered >= before + 5, "round {round}");
    }
    assert_eq!(exporter.stats().sent, exporter.stats().recovered);
}

#[test]
fn the_parent_recovers_a_child_that_died() {
    let (dir, server) = (Dir::new("child"), Server::start());
    let exporter = new(server.url(), dir.options());
    assert!(exporter.recover(PATIENCE, || true));
    fork::before();
    // SAFETY: as in tests/fork.rs: the child records a span and ends at once.
    let pid = unsafe { libc::fork() };
    if pid == 0 {
        fork::after_in_child();
        let _ = start(&exporter, 2);
        // SAFETY: ends the child without the parent's exit handlers, as a kill would.
        unsafe { libc::_exit(0) };
    }
    fork::after_in_parent();
    let mut status = 0;
    // SAFETY: waits for the child that was just made.
    assert_eq!(unsafe { libc::waitpid(pid, &mut status, 0) }, pid);
    assert_eq!(arrived(&server.requests(1)), (BTreeSet::new(), BTreeSet::from([2])));
    until("the child's file is gone", || dir.files() == 1);
}

#[test]
fn what_processes_leave_is_bounded() {
    let (dir, server) = (Dir::new("bounded"), Server::start());
    fs::create_dir_all(&dir.0).unwrap();
    // Of another kind: nobody here takes it over.
    let left = fs::File::create(dir.0.join("honeyhive-1-00.spool")).unwrap();
    left.set_len(1 << 30).unwrap();
    let (exporter, messages) = with(server.url(), config(), dir.options());
    assert!(start(&exporter, 1).is_none());
    for id in 1..=3 {
        assert!(matches!(end(&exporter, id, None), Pushed::Queued { .. }));
    }
    assert!(exporter.flush(PATIENCE));
    assert_eq!((exporter.stats().unspooled, exporter.stats().sent, dir.files()), (3, 3, 1));
    let told: Vec<_> = messages.try_iter().collect();
    assert_eq!(told.len(), 1, "{told:?}");
    assert!(told[0].contains("what processes that died have left takes all the room it may have"), "{told:?}");
    // What is not left, but in use, does not count.
    rustix::fs::flock(&left, rustix::fs::FlockOperation::LockExclusive).unwrap();
    let other = new(server.url(), dir.options());
    assert_eq!(dir.files(), 2);
    assert!(exporter.shutdown(PATIENCE) && other.shutdown(PATIENCE));
}

#[test]
fn what_was_given_up_is_recovered_when_the_destination_takes_something() {
    let (dir, server) = (Dir::new("again"), Server::start());
    died(&dir, 5);
    server.script([Reply::status(503)]);
    let config = Config { give_up_ns: 0, delay_ns: 0, rescan_ns: u64::MAX >> 1, ..config() };
    let (exporter, _) = with(server.url(), config, dir.options());
    assert!(!exporter.recover(PATIENCE, || true));
    let kept = exporter.stats();
    assert!(kept.spooled >= 5 && kept.spooled == kept.recovered && kept.sent == 0, "{kept:?}");
    let _ = end(&exporter, 1_000_000, None);
    until("all is delivered", || exporter.stats().sent == kept.recovered + 1);
    let stats = exporter.stats();
    assert_eq!((stats.spooled, stats.recovered, stats.dropped.total()), (0, kept.recovered, 0));
    until("its file is gone", || dir.files() == 1);
}

#[test]
fn what_another_process_left_survives_a_wrong_key() {
    let (dir, server) = (Dir::new("key"), Server::start());
    died(&dir, 5);
    for status in [401, 403, 404, 500] {
        server.script([Reply::status(status)]);
        let seen = server.seen();
        let (exporter, messages) = with(server.url(), config(), Some(Spool { bytes: 0, ..dir.options().unwrap() }));
        assert!(!exporter.recover(PATIENCE, || true));
        let stats = exporter.stats();
        assert!(stats.spooled >= 5 && stats.dropped.total() == 0, "{stats:?}");
        assert_eq!(dir.files(), 1);
        let message = messages.recv().unwrap();
        assert!(message.contains(&format!("(HTTP {status}): {} spans kept in the spool", stats.spooled)), "{message}");
        // A pause begins, whatever else is accepted.
        let _ = end(&exporter, 1_000_000, None);
        assert!(!exporter.flush(PATIENCE), "it hears of what was refused");
        assert!(exporter.shutdown(PATIENCE));
        assert_eq!(server.seen(), seen + 2);
    }
    let (exporter, _) = with(server.url(), config(), dir.options());
    assert!(exporter.recover(PATIENCE, || true));
    assert!(exporter.stats().sent >= 5);
    assert_eq!(dir.files(), 1);
}

#[test]
fn a_refusal_is_tried_again_after_a_pause() {
    let (dir, server) = (Dir::new("pause"), Server::start());
    died(&dir, 5);
    server.script([Reply::status(403), Reply::status(403)]);
    let config = Config { rescan_ns: 10_000_000, ..config() };
    let (exporter, _) = with(server.url(), config, dir.options());
    until("its file is gone", || dir.files() == 1);
    assert_eq!(server.seen(), 3);
    assert_eq!((exporter.stats().spooled, exporter.stats().sent), (0, exporter.stats().recovered));
}

#[test]
fn a_full_spool_is_told() {
    let dir = Dir::new("room");
    let small = Config { queue_bytes: 10_000, ..config() };
    let (exporter, messages) = with(nowhere(), small, dir.options());
    let mut id = 0;
    let pushed = std::iter::repeat_with(|| {
        id += 1;
        end(&exporter, id, None)
    });
    assert!(pushed.take(100_000).any(|pushed| pushed == Pushed::Dropped(Reason::QueueFull)));
    until("it is told", || {
        messages.try_iter().any(|message| message.contains(" is full: new spans are kept in memory"))
    });

    // Spans that only begin fill it, too.
    let (exporter, messages) = with(nowhere(), config(), dir.options());
    let count = (1..100_000).take_while(|id| start(&exporter, *id).is_some()).count();
    assert!(count > 1_000);
    assert_eq!((exporter.stats().unspooled_starts, exporter.stats().unspooled), (1, 0));
    until("it is told", || {
        messages.try_iter().any(|message| message.contains(" is full: new spans are kept in memory"))
    });
}

#[test]
fn a_file_without_a_header_is_set_aside() {
    let (dir, server) = (Dir::new("blank"), Server::start());
    died(&dir, 5);
    let path = spool::list(&dir.0).unwrap()[0].path.clone();
    let file = fs::File::options().write(true).open(&path).unwrap();
    std::os::unix::fs::FileExt::write_all_at(&file, &[0; 4096], 0).unwrap();
    drop(file);
    fs::write(dir.0.join("otlp-1-00.spool"), b"").unwrap();
    let (exporter, messages) = with(server.url(), config(), dir.options());
    exporter.recover(PATIENCE, || true);
    let name = path.file_name().unwrap().to_str().unwrap().to_owned();
    let told: BTreeSet<_> = messages.try_iter().collect();
    assert_eq!(
        told,
        BTreeSet::from([
            String::from("the spool otlp-1-00.spool was moved to corrupt/: it is too short"),
            format!("the spool {name} was moved to corrupt/: its header is empty"),
        ])
    );
    assert_eq!(fs::read_dir(dir.0.join("corrupt")).unwrap().count(), 2);
    assert_eq!((dir.files(), server.seen()), (1, 0));
}

#[test]
fn a_file_stays_locked_when_its_process_opens_it_and_closes_it() {
    let (dir, server) = (Dir::new("open"), Server::start());
    let (exporter, _) = with(nowhere(), Config { delay_ns: u64::MAX, ..config() }, dir.options());
    let _ = end(&exporter, 1, None);
    // As a backup does, or somebody who counts what is there.
    let path = spool::list(&dir.0).unwrap()[0].path.clone();
    drop(fs::File::options().read(true).write(true).open(&path).unwrap());
    assert!(!fs::read(&path).unwrap().is_empty());
    let (mut other, mut said) = child_to(&server.url(), &dir.0, 1_000_000);
    assert!(said.any(|(what, _)| what == 'e'));
    until("the other one has delivered its own", || server.seen() != 0);
    assert!(!arrived(&server.requests(1)).0.contains(&1), "it took what is somebody else's");
    other.kill().unwrap();
    other.wait().unwrap();
    let infos = spool::list(&dir.0).unwrap();
    assert_eq!(
        infos.iter().find(|info| info.path == path).map(|info| (info.is_locked, info.ended)),
        Some((Some(true), 1))
    );
}

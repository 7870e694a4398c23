//! `fork`, in a program of its own: it needs a main thread that nothing else shares.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test")]

#[cfg(unix)]
mod common;

#[cfg(not(unix))]
fn main() {}

#[cfg(unix)]
fn main() {
    unix::a_child_has_its_own_queue();
    unix::a_request_in_flight_does_not_stop_a_fork();
    unix::forks_amid_work();
}

#[cfg(unix)]
mod unix {
    use std::fs;
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::time::{Duration, Instant};

    use super::common::*;
    use tracebaton_export::{Config, Exporter, fork};

    /// Forks as Python does, and returns the exit code of a child that runs this: 0 if it returns true.
    fn forked(child: impl FnOnce() -> bool) -> i32 {
        fork::before();
        // SAFETY: the child runs `child` and ends with `_exit`. It uses memory allocation, threads and locks, which POSIX
        // does not promise after a fork of a process with threads, but glibc, musl and macOS do for allocation, and
        // which is what Python's own `os.fork` relies on: exactly what this test is about.
        let pid = unsafe { libc::fork() };
        assert!(pid >= 0);
        if pid == 0 {
            // SAFETY: a child that hangs is killed by a signal, which the parent sees.
            unsafe { libc::alarm(30) };
            fork::after_in_child();
            let code =
                if std::panic::catch_unwind(std::panic::AssertUnwindSafe(child)).unwrap_or(false) { 0 } else { 1 };
            // SAFETY: ends the child at once, without running the parent's exit handlers a second time.
            unsafe { libc::_exit(code) };
        }
        fork::after_in_parent();
        let mut status = 0;
        // SAFETY: waits for the child that was just made; `status` is a valid place for its status.
        assert_eq!(unsafe { libc::waitpid(pid, &mut status, 0) }, pid);
        assert!(libc::WIFEXITED(status), "the child was killed");
        libc::WEXITSTATUS(status)
    }

    fn names(server: &Server) -> Vec<String> {
        let mut names: Vec<_> = server.requests(1).iter().flat_map(Request::names).collect();
        names.sort();
        names
    }

    /// The exporter's threads; none where the system does not tell.
    fn threads() -> usize {
        let Ok(tasks) = fs::read_dir("/proc/self/task") else { return 0 };
        let names = tasks.filter_map(|task| fs::read_to_string(task.ok()?.path().join("comm")).ok());
        names.filter(|name| name.trim_end() == "tracebaton-expo").count()
    }

    fn new(server: &Server, config: Config) -> Exporter {
        Exporter::new(destination(server.url()), config, RESOURCE, None).unwrap()
    }

    pub(super) fn a_child_has_its_own_queue() {
        let server = Server::start();
        let exporter = new(&server, Config { delay_ns: u64::MAX, ..config() });
        let unused = new(&server, config());
        record(&exporter, "warm up");
        assert!(exporter.flush(PATIENCE));
        record(&exporter, "queued before");
        assert_eq!(fork::generation(), 0);
        let code = forked(|| {
            assert_eq!(fork::generation(), 1);
            assert_eq!(exporter.stats().sent, 0);
            assert_eq!(exporter.stats().queued, 0);
            record(&exporter, "child");
            assert!(exporter.flush(PATIENCE));
            record(&unused, "child, another exporter");
            assert!(unused.flush(PATIENCE));
            let code = forked(|| {
                assert_eq!(fork::generation(), 2);
                record(&exporter, "grandchild");
                exporter.shutdown(PATIENCE)
            });
            record(&exporter, "child again");
            code == 0 && exporter.shutdown(PATIENCE)
        });
        assert_eq!(code, 0);
        assert_eq!(fork::generation(), 0);
        record(&exporter, "queued after");
        assert!(exporter.flush(PATIENCE));
        assert_eq!(exporter.stats().sent, 3);
        let expected = [
            "child",
            "child again",
            "child, another exporter",
            "grandchild",
            "queued after",
            "queued before",
            "warm up",
        ];
        assert_eq!(names(&server), expected, "each exactly once");

        // The idle thread ends before the fork, and starts again where it is needed.
        fork::before();
        // It has been joined; the system takes a moment to take it off its list.
        until("the thread has ended", || threads() == 0);
        record(&exporter, "between");
        assert!(!exporter.flush(Duration::ZERO));
        fork::after_in_parent();
        assert!(exporter.flush(PATIENCE));
        assert!(names(&server).contains(&"between".to_owned()));
    }

    pub(super) fn forks_amid_work() {
        const FORKS: usize = 30;
        let server = Server::start();
        let exporter = new(&server, Config { batch_bytes: 500, ..config() });
        let done = AtomicBool::new(false);
        let recorded = std::thread::scope(|scope| {
            let work = || {
                let mut recorded = 0;
                while !done.load(Ordering::Relaxed) {
                    record(&exporter, "parent");
                    recorded += 1;
                    if recorded % 50 == 0 {
                        exporter.flush(PATIENCE);
                    }
                }
                recorded
            };
            let threads = [scope.spawn(work), scope.spawn(work)];
            // The table of exporters is locked at any moment, too.
            scope.spawn(|| {
                while !done.load(Ordering::Relaxed) {
                    drop(new(&server, config()));
                }
            });
            for _ in 0..FORKS {
                let code = forked(|| {
                    record(&exporter, "child");
                    exporter.shutdown(PATIENCE)
                });
                assert_eq!(code, 0);
            }
            done.store(true, Ordering::Relaxed);
            threads.into_iter().map(|thread| thread.join().unwrap()).sum::<usize>()
        });
        assert!(exporter.shutdown(PATIENCE));
        let names = names(&server);
        assert_eq!(names.iter().filter(|name| *name == "child").count(), FORKS);
        assert_eq!(names.iter().filter(|name| *name == "parent").count(), recorded);
    }

    pub(super) fn a_request_in_flight_does_not_stop_a_fork() {
        let server = Server::start();
        server.script([Reply::Hang]);
        let exporter = new(&server, config());
        record(&exporter, "stuck");
        assert!(!exporter.flush(Duration::ZERO));
        server.requests(1);
        let begin = Instant::now();
        let code = forked(|| {
            record(&exporter, "child");
            exporter.flush(PATIENCE)
        });
        // The request would take ten seconds.
        assert!(begin.elapsed() < Duration::from_secs(5));
        assert_eq!(code, 0);
        assert_eq!(names(&server), ["child", "stuck"]);
        let begin = Instant::now();
        assert!(!exporter.shutdown(Duration::from_millis(50)));
        drop(exporter);
        assert!(begin.elapsed() < Duration::from_secs(5));
    }
}

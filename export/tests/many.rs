//! A thousand tracers, one after the other, leave no thread and no memory behind. The only test of its program, since it
//! counts the threads and the allocations of the whole process.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test")]

mod common;

use std::alloc::{GlobalAlloc, Layout, System};
use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;

use common::{PATIENCE, RESOURCE, config, destination, record, until};
use tracebaton::flatten::Options;
use tracebaton::registration::Start;
use tracebaton_export::{Api, Destination, Exporter, Sessions};

static LIVE: AtomicUsize = AtomicUsize::new(0);

/// The system's allocator, which counts what is not freed.
struct Counting;

// SAFETY: all is handed on to the system's allocator with the same arguments.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        LIVE.fetch_add(layout.size(), Ordering::Relaxed);
        // SAFETY: as the caller promises.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        LIVE.fetch_sub(layout.size(), Ordering::Relaxed);
        // SAFETY: as the caller promises.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// A server that accepts everything and remembers a number; one thread for each connection.
fn sink(accepts: &'static AtomicBool, requests: &'static AtomicUsize) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            thread::spawn(move || {
                let mut buffer = [0; 4096];
                // The requests of this test are small, and each is sent after the answer to the one before.
                while stream.read(&mut buffer).is_ok_and(|read| read != 0) {
                    if !buffer.windows(4).any(|window| window == b"\r\n\r\n") {
                        continue;
                    }
                    buffer.fill(0);
                    requests.fetch_add(1, Ordering::Relaxed);
                    let status = if accepts.load(Ordering::Relaxed) { "200 OK" } else { "503 Busy" };
                    let answer = format!("HTTP/1.1 {status}\r\ncontent-length: 0\r\n\r\n");
                    if stream.write_all(answer.as_bytes()).is_err() {
                        return;
                    }
                }
            });
        }
    });
    address
}

fn threads() -> usize {
    fs::read_dir("/proc/self/task").unwrap().count()
}

#[test]
fn a_thousand_tracers_leave_nothing_behind() {
    static ACCEPTS: AtomicBool = AtomicBool::new(true);
    static REQUESTS: AtomicUsize = AtomicUsize::new(0);
    let address = sink(&ACCEPTS, &REQUESTS);
    let before = threads();
    let mut at_200 = 0;
    for round in 1..=1_000 {
        // Every other one has a key of its own, and so threads of its own.
        let key = if round % 2 == 0 { format!("key {round}") } else { "key".into() };
        let headers = vec![("authorization".to_owned(), key)];
        let spans = Destination { headers: headers.clone(), ..destination(format!("http://{address}/v1/traces")) };
        let exporter = Exporter::new(spans, config(), RESOURCE, None).unwrap();
        let base_url = format!("http://{address}");
        let api = Api { base_url, headers, timeout: PATIENCE, user_agent: "test".into() };
        let sessions = Sessions::new(api, None).unwrap();
        let start = Start { session_id: &format!("session {round}"), ..Start::default() };
        sessions.register(&start, &Options::default());
        record(&exporter, "span");
        ACCEPTS.store(round % 5 != 0, Ordering::Relaxed);
        match round % 4 {
            0 => drop((exporter, sessions)),
            1 => {
                exporter.flush(std::time::Duration::from_millis(20));
            }
            _ => {
                exporter.shutdown(std::time::Duration::from_millis(20));
                sessions.shutdown_while(std::time::Duration::from_millis(20), || true);
            }
        }
        if round == 200 || round == 1_000 {
            ACCEPTS.store(true, Ordering::Relaxed);
            until("all threads have ended", || threads() == before);
            let live = LIVE.load(Ordering::Relaxed);
            if round == 200 {
                at_200 = live;
            } else {
                let grown = live.saturating_sub(at_200);
                assert!(grown < 20_000, "{grown} bytes more after 800 more tracers");
            }
        }
    }
    assert!(REQUESTS.load(Ordering::Relaxed) >= 1_600);
}

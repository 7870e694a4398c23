//! How often the hot paths allocate: pinned, so that a change that costs an allocation is seen.

#![allow(
    clippy::print_stdout,
    reason = "the counts are the test's result: cargo test --test allocations -- --nocapture"
)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

use tracebaton::baggage::Entry;
use tracebaton::carrier::Collected;
use tracebaton::extract::{extract, extract_collected};
use tracebaton::inject::{Outbound, compose};
use tracebaton::policy::{InboundMode, Policy};
use tracebaton::scope::{SessionScope, TracerId};
use tracebaton::session::honeyhive_session_id;

struct Counting;

thread_local! {
    /// Per thread, as tests run at the same time.
    static COUNT: Cell<usize> = const { Cell::new(0) };
}

// SAFETY: every call goes to the system's allocator unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        COUNT.set(COUNT.get() + 1);
        // SAFETY: the caller's promises are those that the system's allocator asks for.
        unsafe { System.alloc(layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        COUNT.set(COUNT.get() + 1);
        // SAFETY: as above.
        unsafe { System.realloc(pointer, layout, size) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: as above.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// How often `f` allocates or grows an allocation; what it returns is dropped after counting.
#[track_caller]
fn pin<T>(what: &str, expected: usize, f: impl FnOnce() -> T) {
    let before = COUNT.get();
    let result = f();
    let count = COUNT.get() - before;
    drop(result);
    println!("{count:2} {what}");
    assert_eq!(count, expected, "{what}");
}

const TRACEPARENT: (&str, &str) = ("traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01");
const TRACESTATE: (&str, &str) = ("tracestate", "vendor=opaque,other=1");
const BAGGAGE: (&str, &str) =
    ("baggage", "session_id=0f8fad5b-d9cb-469f-a165-70867728950e,source=dev,user.id=42,k=v%20w;p=1");
const OTHERS: [(&str, &str); 4] =
    [("host", "agent"), ("accept", "*/*"), ("content-type", "text/plain"), ("user-agent", "x")];

fn request(headers: &[(&'static str, &'static str)]) -> Vec<(&'static str, &'static str)> {
    OTHERS.iter().chain(headers).copied().collect()
}

#[test]
fn extraction() {
    let policy = Policy::default();
    let none = request(&[]);
    let span = request(&[TRACEPARENT]);
    let traced = request(&[TRACEPARENT, TRACESTATE]);
    let all = request(&[TRACEPARENT, TRACESTATE, BAGGAGE]);
    let ignore = Policy { inbound: InboundMode::Ignore, ..Policy::default() };
    pin("extract nothing", 0, || extract(&none, &policy));
    pin("extract traceparent", 0, || extract(&span, &policy));
    pin("extract an invalid traceparent", 0, || extract(&[("traceparent", "00-x")], &policy));
    pin("extract traceparent, tracestate", 1, || extract(&traced, &policy));
    pin("extract traceparent, tracestate, baggage with session", 3, || extract(&all, &policy));
    pin("extract all under ignore", 0, || extract(&all, &ignore));
    pin("collect and extract traceparent", 0, || {
        extract_collected(&Collected::of(span.iter().map(|(name, value)| (name, *value))), &policy)
    });
}

#[test]
fn injection() {
    let inbound = extract(&request(&[TRACEPARENT, TRACESTATE, BAGGAGE]), &Policy::default());
    let span = inbound.span.as_ref();
    let application = [Entry { name: "app", value: "value", properties: None }];
    let out = Outbound { span, session: inbound.session.as_deref(), source: Some("dev"), ..Outbound::default() };
    let none = Collected::default();
    let mine = Collected::of([("baggage", "mine=1")]);
    pin("compose a span", 0, || compose(&Outbound { span, ..Outbound::default() }, &none));
    pin("compose a span, session and source", 1, || compose(&out, &none));
    let out = Outbound { inbound: Some(&inbound.baggage), ..out };
    pin("compose these and inbound baggage", 1, || compose(&out, &none));
    let out = Outbound { application: &application, ..out };
    pin("compose these, an application's entry and a carrier's baggage", 7, || compose(&out, &mine));
}

#[test]
fn scopes() {
    let policy = Policy::default();
    let inbound = extract(&request(&[BAGGAGE]), &policy);
    let scope = SessionScope::EMPTY.with_inbound(Some(TracerId(1)), &inbound);
    pin("clone a scope", 0, || scope.clone());
    pin("scope with an inbound session", 3, || SessionScope::EMPTY.with_inbound(Some(TracerId(1)), &inbound));
    pin("scope with a session", 3, || scope.with_session(TracerId(1), "s"));
    pin("ask for a session", 0, || scope.session_for(TracerId(1), &policy).is_some());
    pin("a UUID session at HoneyHive", 0, || honeyhive_session_id("0f8fad5b-d9cb-469f-a165-70867728950e"));
    pin("another session at HoneyHive", 1, || honeyhive_session_id("conversation-42"));
}

//! Reading headers allocates as little as the design says: nothing for a traceparent, one text each for the others.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

use tracebaton::baggage::Baggage;
use tracebaton::rule::RuleSet;
use tracebaton::traceparent::Traceparent;
use tracebaton::tracestate::TraceState;

thread_local! {
    static ALLOCATIONS: Cell<usize> = const { Cell::new(0) };
    static BYTES: Cell<usize> = const { Cell::new(0) };
}

struct Counting;

// SAFETY: every call is passed on unchanged to the system's allocator.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.with(|count| count.set(count.get() + 1));
        BYTES.with(|bytes| bytes.set(bytes.get() + layout.size()));
        // SAFETY: the caller keeps the contract of `alloc`.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the caller keeps the contract of `dealloc`, and `pointer` came from `System`.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;

fn allocations<T>(act: impl FnOnce() -> T) -> usize {
    let before = ALLOCATIONS.with(Cell::get);
    let made = act();
    let after = ALLOCATIONS.with(Cell::get);
    drop(made);
    after - before
}

/// How many bytes are allocated, those that are freed again included.
fn bytes<T>(act: impl FnOnce() -> T) -> usize {
    let before = BYTES.with(Cell::get);
    drop(act());
    BYTES.with(Cell::get) - before
}

fn read(values: &[&[u8]]) -> Baggage {
    Baggage::parse(values, Baggage::MAX_MEMBERS, Baggage::MAX_BYTES, &mut RuleSet::default())
}

#[test]
fn reading_allocates_once_for_a_text_that_is_kept() {
    assert_eq!(allocations(|| vec![0u8; 64]), 1, "the counter counts");
    let traceparent = b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    assert_eq!(allocations(|| Traceparent::parse(traceparent)), 0);
    assert_eq!(allocations(|| Traceparent::parse(b"x")), 0);

    assert_eq!(allocations(|| TraceState::parse(b"rojo=00f067aa0ba902b7 , congo=t61rcWkgMzE")), 1);
    assert_eq!(allocations(|| TraceState::parse(b"rojo=1,congo=a=b")), 0);
    assert_eq!(allocations(|| TraceState::parse(b" ,, ")), 0);
    assert_eq!(allocations(|| TraceState::parse_all(&[b"a=1", b"b=2"])), 2);

    let many = vec!["k=v"; 180].join(",");
    assert_eq!(allocations(|| read(&[b"session_id=s-1;ttl=5, project=p%20q ,source=dev"])), 1);
    assert_eq!(allocations(|| read(&[many.as_bytes()])), 1);
    assert_eq!(allocations(|| read(&[b"a=1", b"b=2"])), 2);
    assert_eq!(allocations(|| read(&[b"a=1,bad,b=2"])), 2);
    assert_eq!(allocations(|| read(&[b"bad, bad too"])), 0);
}

#[test]
fn looking_allocates_nothing() {
    let baggage = read(&[b"a=1;p=2,b=x%20y,c=3"]);
    let state = TraceState::parse(b"a=1,b=2,a=3").unwrap();
    assert_eq!(allocations(|| baggage.get("c").is_some()), 0);
    assert_eq!(allocations(|| baggage.iter().filter(|member| member.value() == "1").count()), 1, "what is decoded");
    assert_eq!(allocations(|| baggage.retain(|_| true)), 0);
    assert_eq!(allocations(|| (baggage.clone(), state.clone())), 0);
    assert_eq!(allocations(|| state.iter().count()), 0);
    assert_eq!(allocations(|| state.truncated(512, &mut RuleSet::default())), 0);
}

/// Memory grows with the header and no faster, whatever it is made of. That time does, too, is shown by the benchmark's
/// rows that begin with "linear": a test cannot tell it without a clock.
#[test]
fn memory_is_linear() {
    for shape in ["member=vvvvvvvvvvvvvvvv,", "a=,", "a", "=,", " ,\t,", "a = 1 ; p = 2 ; q,", "a=%e2%82%ac%zz;p=%ff,"]
    {
        let cost = |octets: usize| {
            let text = shape.repeat(octets / shape.len());
            let all = |values: &[&[u8]]| {
                let baggage = Baggage::parse(values, usize::MAX, usize::MAX, &mut RuleSet::default());
                baggage.iter().map(|member| member.value().len() + member.properties().count()).sum::<usize>()
            };
            let lines: Vec<_> = text.as_bytes().chunks(shape.len()).collect();
            (bytes(|| all(&[text.as_bytes()])), bytes(|| all(&lines)))
        };
        let ((small, small_lines), (large, large_lines)) = (cost(4096), cost(65_536));
        // The sizes are whole shapes, and so not quite sixteen times.
        let at_most = |small| 16 * small + 1024;
        assert!(large <= at_most(small) && large_lines <= at_most(small_lines), "{shape}: {small} and {large}");
        assert!(small.max(small_lines) <= 4 * 4096, "{shape}: {small} and {small_lines}");
    }
}

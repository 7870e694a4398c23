//! The WebAssembly backend of the npm package `tracebaton`: core's exchange over linear memory, and delivery that
//! JavaScript drives.
//!
//! Only numbers cross the border: texts, trees and records are in one piece of memory, whose place `reserve` tells, in
//! the layouts of `tracebaton::exchange`. There is no clock, no entropy and no network here: JavaScript passes times
//! and random bytes in, and makes the requests that `poll` has it make.
//!
//! Whatever fails here without an error of its own is a trap: JavaScript then makes a new instance.
#![cfg(target_arch = "wasm32")]
#![no_std]

extern crate alloc;

mod outbox;
mod state;
mod tracers;

use alloc::vec::Vec;

use tracebaton::exchange::tree;
use tracebaton::value::Value;
use wasm_bindgen::prelude::wasm_bindgen;

#[global_allocator]
static ALLOCATOR: dlmalloc::GlobalDlmalloc = dlmalloc::GlobalDlmalloc;

/// A panic, which nothing here should lead to, is a trap. Its message is left out: with it, everything that formats.
#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    core::arch::wasm32::unreachable()
}

/// Makes the shared memory at least this large, keeping what is in it; where it is.
#[wasm_bindgen]
pub fn reserve(bytes: usize) -> *mut u8 {
    state::with(|state| state.memory.reserve(bytes))
}

/// The same for what `submit`, `poll` and `answered` exchange, which may be while an operation's request is written.
#[wasm_bindgen]
pub fn mail(bytes: usize) -> *mut u8 {
    state::with(|state| state.mail.reserve(bytes))
}

/// `Init`, whose request has `length` bytes; behind it stands the session that the tracer has unless its options have
/// another, of `session` bytes: none in runtimes in which each request has one of its own.
#[wasm_bindgen]
pub fn init(length: usize, session: usize) -> i32 {
    state::with(|state| state.answer(|state, out| state.init(length, session, out)))
}

/// Runs another operation on the first `length` bytes: the length of the answer, or less than 0.
#[wasm_bindgen]
pub fn call(op: u32, tracer: u32, length: usize) -> i32 {
    state::with(|state| state.answer(|state, out| state.run(op, tracer, length, out)))
}

/// The sampler's decision on a new span: the memory begins with 24 random bytes, of which the ids are made, and the
/// parent's trace id as 32 hex digits if `parent_flags` is not below 0 (bit 8: it is remote). The answer is the ids as 48
/// hex digits; returned are the span's flags, with bit 8 if it is recorded.
#[wasm_bindgen]
pub fn start(tracer: u32, parent_flags: i32) -> i32 {
    state::with(|state| state.start(tracer, parent_flags))
}

/// Takes the chunk of records that the mail begins with into an outbox, which is made with the first of them.
#[wasm_bindgen]
pub fn submit(outbox: u32, length: usize, now_ms: f64) {
    state::with(|state| state.submit(outbox, length, now_ms));
}

/// Has what is in an outbox sent now. With `last`, it takes no more.
#[wasm_bindgen]
pub fn flush(outbox: u32, tracer: u32, last: bool) {
    state::with(|state| state.flush(outbox, tracer, last));
}

/// What is to be done for the lane of this number of an outbox: -1 if there is no such lane, 0 nothing, 1 to wait until
/// the time that the mail begins with (f64, in milliseconds), 2 to send the request whose tree the mail begins with.
#[wasm_bindgen]
pub fn poll(outbox: u32, lane: usize, now_ms: f64) -> i32 {
    state::with(|state| state.poll(outbox, lane, now_ms))
}

/// What came of a lane's request: its status, or 0 if there was no answer; the pause that it asked for, in milliseconds,
/// or less than 0; spans that it rejected; in the first `length` bytes of the mail what it said about them. `is_protobuf`: these
/// bytes are an OTLP response, which says so itself.
#[wasm_bindgen]
#[allow(clippy::too_many_arguments, reason = "numbers are all that crosses the border")]
pub fn answered(
    outbox: u32,
    lane: usize,
    status: u16,
    after_ms: f64,
    rejected: u32,
    length: usize,
    is_protobuf: bool,
    now_ms: f64,
    random: u32,
) {
    let answer = outbox::Reply { status, after_ms, rejected, length, is_protobuf };
    state::with(|state| state.answered(outbox, lane, &answer, now_ms, random));
}

/// Ends what [`flush`] began: whether all that was in the outbox until then was delivered.
#[wasm_bindgen]
pub fn flushed(outbox: u32, tracer: u32) -> bool {
    state::with(|state| state.flushed(outbox, tracer))
}

/// Forgets an outbox, with what is still in it, which is counted as dropped.
#[wasm_bindgen]
pub fn close(outbox: u32) -> bool {
    state::with(|state| state.close(outbox))
}

/// Says which outbox the next operations are about that tell HoneyHive of sessions.
#[wasm_bindgen]
pub fn choose(outbox: u32) {
    state::with(|state| state.outbox = outbox);
}

/// The lines that the exporter `console` has for the console since this was last asked: whether there are any, and then
/// the mail begins with their list, as a tree.
#[wasm_bindgen]
pub fn lines() -> bool {
    state::with(|state| {
        if state.console.is_empty() {
            return false;
        }
        let mut out = Vec::new();
        tree::write(&mut out, &Value::from(core::mem::take(&mut state.console)));
        state.mail.put(&out);
        true
    })
}

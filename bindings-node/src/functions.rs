//! The functions that JavaScript calls. They are Node's own interface, without wrappers: what a wrapper does for each
//! argument costs more than most of these calls.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::ptr;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use napi::sys;
use tracebaton::exchange::{ABSENT, Error, Op};
use tracebaton::id::{TraceFlags, TraceId};
use tracebaton_export::Wait;

use crate::environment::{Deferred, Environment};
use crate::tracers::{self, Native, Patience};
use crate::{encoder, ids, operations, reports};

type Callback = unsafe extern "C" fn(sys::napi_env, sys::napi_callback_info) -> sys::napi_value;

/// Their names.
pub(crate) const ALL: &[(&str, Callback)] = &[
    ("memory", memory),
    ("reserve", reserve),
    ("call", call),
    ("start", start),
    ("submit", submit),
    ("flush", flush),
    ("shutdown", shutdown),
    ("flushAtExit", flush_at_exit),
    ("onReport", on_report),
];

/// One call from JavaScript.
struct Call<'e, const N: usize> {
    env: sys::napi_env,
    environment: &'e mut Environment,
    arguments: [sys::napi_value; N],
}

impl<const N: usize> Call<'_, N> {
    /// The number at this place: whole, from 0 to 2^32 - 1, or 0 if it is none.
    fn number(&self, at: usize) -> u32 {
        let mut number = 0;
        if let Some(argument) = self.arguments.get(at) {
            // SAFETY: the argument belongs to this call, and there is a place for the number; if it is none, it stays.
            unsafe { sys::napi_get_value_uint32(self.env, *argument, &mut number) };
        }
        number
    }

    fn time(&self, at: usize) -> Duration {
        Duration::from_millis(self.number(at).into())
    }

    fn int(&self, number: i32) -> sys::napi_value {
        let mut value = ptr::null_mut();
        // SAFETY: there is a place for the value.
        unsafe { sys::napi_create_int32(self.env, number, &mut value) };
        value
    }

    fn boolean(&self, value: bool) -> sys::napi_value {
        let mut result = ptr::null_mut();
        // SAFETY: there is a place for the value.
        unsafe { sys::napi_get_boolean(self.env, value, &mut result) };
        result
    }
}

/// Runs a call. A panic, which nothing here should lead to, ends it with `undefined`, and not the process.
///
/// # Safety
///
/// Node calls it: `info` belongs to a call of one of the functions in [`ALL`].
unsafe fn with<const N: usize>(
    env: sys::napi_env,
    info: sys::napi_callback_info,
    run: impl FnOnce(&mut Call<'_, N>) -> sys::napi_value,
) -> sys::napi_value {
    let (mut arguments, mut count, mut data) = ([ptr::null_mut(); N], N, ptr::null_mut());
    // SAFETY: there is room for as many arguments as are asked for; those that are missing are `undefined`.
    let status =
        unsafe { sys::napi_get_cb_info(env, info, &mut count, arguments.as_mut_ptr(), ptr::null_mut(), &mut data) };
    if status != sys::Status::napi_ok || data.is_null() {
        return ptr::null_mut();
    }
    // SAFETY: the data is the environment's state, as `register` set it, and no other call has it: none of them lets
    // JavaScript run.
    let environment = unsafe { &mut *data.cast::<Environment>() };
    let mut call = Call { env, environment, arguments };
    catch_unwind(AssertUnwindSafe(|| run(&mut call))).unwrap_or(ptr::null_mut())
}

/// `memory()`: the shared memory.
unsafe extern "C" fn memory(env: sys::napi_env, info: sys::napi_callback_info) -> sys::napi_value {
    // SAFETY: Node calls this.
    unsafe { with::<0>(env, info, |call| call.environment.memory.value(env)) }
}

/// `reserve(bytes)`: the shared memory, at least so large.
unsafe extern "C" fn reserve(env: sys::napi_env, info: sys::napi_callback_info) -> sys::napi_value {
    // SAFETY: Node calls this.
    unsafe {
        with::<1>(env, info, |call| {
            let bytes = usize::try_from(call.number(0)).unwrap_or_default();
            // Where there is no memory, JavaScript gets what there is, and sees that.
            let _ = call.environment.memory.reserve(env, bytes);
            call.environment.memory.value(env)
        })
    }
}

/// `call(op, tracer, length)`: the length of the answer, or less than 0.
unsafe extern "C" fn call(env: sys::napi_env, info: sys::napi_callback_info) -> sys::napi_value {
    // SAFETY: Node calls this.
    unsafe {
        with::<3>(env, info, |call| {
            let [op, tracer, length] = [call.number(0), call.number(1), call.number(2)];
            let environment = &mut *call.environment;
            let mut answer = std::mem::take(&mut environment.answer);
            answer.clear();
            let run = || match Op::of(op) {
                Some(op) => operations::run(environment, op, tracer, length, &mut answer),
                None => Err(Error::Unknown),
            };
            // A panic is nothing that JavaScript could do anything about: an error it does not know.
            let result = catch_unwind(AssertUnwindSafe(run)).unwrap_or(Err(Error::Unknown));
            let failed = result.is_err();
            if let Err(error) = result {
                answer.clear();
                error.write(&mut answer);
            }
            let environment = &mut *call.environment;
            let memory = &mut environment.memory;
            let mut length = 0;
            if memory.reserve(env, answer.len()).is_ok()
                && let Some(place) = memory.bytes_mut().get_mut(..answer.len())
            {
                place.copy_from_slice(&answer);
                length = i32::try_from(answer.len()).unwrap_or_default();
            }
            environment.answer = answer;
            call.int(if failed { -length } else { length })
        })
    }
}

/// `start(tracer, parentFlags)`: ids of a new span, and its flags with 0x100 if it is recorded.
unsafe extern "C" fn start(env: sys::napi_env, info: sys::napi_callback_info) -> sys::napi_value {
    // SAFETY: Node calls this.
    unsafe {
        with::<2>(env, info, |call| {
            let native = call.environment.native(call.number(0));
            // A number below zero is none, and wraps.
            let given = Some(call.number(1)).filter(|flags| *flags < ABSENT / 2);
            let memory = call.environment.memory.bytes_mut();
            let parent = given.and_then(|given| {
                let trace_id = TraceId::from_hex(memory.get(..32)?)?;
                Some((trace_id, TraceFlags::from_bits((given & 0xff) as u8), given & 0x100 != 0))
            });
            let trace_id = parent.map_or_else(|| TraceId::random(ids::random()), |(trace_id, ..)| trace_id);
            let span_id = tracebaton::SpanId::random(ids::random());
            if let Some(place) = memory.get_mut(..48) {
                let (trace, span) = place.split_at_mut(32);
                trace.copy_from_slice(&trace_id.to_hex());
                span.copy_from_slice(&span_id.to_hex());
            }
            let parent = parent.map(|(_, flags, is_remote)| (flags, is_remote));
            let (flags, recorded) = match &native {
                Some(native) => native.tracer.sample(trace_id, parent),
                None => (parent.map(|(flags, _)| flags).unwrap_or_default(), false),
            };
            if let (Some(native), false) = (&native, recorded) {
                native.count_unsampled(1);
            }
            call.int(i32::from(flags.bits()) | if recorded { 0x100 } else { 0 })
        })
    }
}

/// `submit(chunk, length)`: copies a chunk of records.
unsafe extern "C" fn submit(env: sys::napi_env, info: sys::napi_callback_info) -> sys::napi_value {
    // SAFETY: Node calls this.
    unsafe {
        with::<2>(env, info, |call| {
            let [chunk, _] = call.arguments;
            let length = usize::try_from(call.number(1)).unwrap_or_default();
            let (mut kind, mut size, mut data) = (0, 0, ptr::null_mut());
            let (buffer, offset) = (ptr::null_mut(), ptr::null_mut());
            // There are places for what is asked for; what is no typed array leaves them.
            let status = sys::napi_get_typedarray_info(env, chunk, &mut kind, &mut size, &mut data, buffer, offset);
            if status == sys::Status::napi_ok && kind == sys::TypedarrayType::uint8_array && !data.is_null() {
                // The engine's memory stays while this call runs.
                let bytes = std::slice::from_raw_parts(data.cast::<u8>(), size);
                encoder::submit(bytes.get(..length).unwrap_or(bytes));
            }
            ptr::null_mut()
        })
    }
}

/// `flush(tracer, ms)`: a promise of whether all was delivered.
unsafe extern "C" fn flush(env: sys::napi_env, info: sys::napi_callback_info) -> sys::napi_value {
    // SAFETY: Node calls this.
    unsafe { with::<2>(env, info, |call| promise(call, Wait::Flush)) }
}

/// `shutdown(tracer, ms)`: the same, and nothing more is taken.
unsafe extern "C" fn shutdown(env: sys::napi_env, info: sys::napi_callback_info) -> sys::napi_value {
    // SAFETY: Node calls this.
    unsafe { with::<2>(env, info, |call| promise(call, Wait::Shutdown)) }
}

/// Waits on a thread of its own: Node's few are for files and names, and would be taken for as long as a backend is down.
fn promise(call: &mut Call<'_, 2>, what: Wait) -> sys::napi_value {
    let natives = call.environment.natives(call.number(0));
    let deadline = Instant::now() + call.time(1);
    let (mut deferred, mut promise) = (ptr::null_mut(), ptr::null_mut());
    // SAFETY: there are places for what is returned.
    if unsafe { sys::napi_create_promise(call.env, &mut deferred, &mut promise) } != sys::Status::napi_ok {
        return ptr::null_mut();
    }
    if call.environment.pending == 0 {
        call.environment.mailbox.keep_alive(call.env, true);
    }
    call.environment.pending += 1;
    let mailbox = Arc::clone(&call.environment.mailbox);
    let deferred = Deferred(deferred);
    let settle = move |natives: &[Arc<Native>], deferred: Deferred| {
        let done = deliver(natives, what, Patience::All, deadline);
        mailbox.settle(deferred, done);
    };
    let builder = thread::Builder::new().name("tracebaton-flush".to_owned());
    let (sender, receiver) = std::sync::mpsc::channel();
    let settle = Arc::new(settle);
    let on_thread = Arc::clone(&settle);
    let spawned = builder.spawn(move || {
        if let Ok((natives, deferred)) = receiver.recv() {
            let natives: Vec<Arc<Native>> = natives;
            on_thread(&natives, deferred);
        }
    });
    match spawned {
        Ok(_) => {
            let _ = sender.send((natives, deferred));
        }
        // A process that may have no more threads waits here.
        Err(_) => settle(&natives, deferred),
    }
    promise
}

/// Encodes and delivers what there is.
fn deliver(natives: &[Arc<Native>], what: Wait, patience: Patience, deadline: Instant) -> bool {
    let encoded = encoder::wait_until(deadline);
    encoded & tracers::wait(natives, what, patience, deadline.saturating_duration_since(Instant::now()))
}

/// `flushAtExit(ms, last)`: delivers what the environment's tracers hold, but for those that were shut down. The last time
/// nothing more is taken, and failures are tried again; before, the first one ends it.
unsafe extern "C" fn flush_at_exit(env: sys::napi_env, info: sys::napi_callback_info) -> sys::napi_value {
    // SAFETY: Node calls this.
    unsafe {
        with::<2>(env, info, |call| {
            let mut natives = call.environment.natives(0);
            natives.retain(|native| !native.is_over());
            let (what, patience) = match call.number(1) {
                0 => (Wait::Flush, Patience::UntilFailure),
                _ => (Wait::Shutdown, Patience::All),
            };
            let done = deliver(&natives, what, patience, Instant::now() + call.time(0));
            call.boolean(done)
        })
    }
}

/// `onReport(callback)`: has it called when there are reports, in place of the one before.
unsafe extern "C" fn on_report(env: sys::napi_env, info: sys::napi_callback_info) -> sys::napi_value {
    // SAFETY: Node calls this.
    unsafe {
        with::<1>(env, info, |call| {
            let [callback] = call.arguments;
            let (mut kind, mut reference) = (0, ptr::null_mut());
            let environment = &mut *call.environment;
            let is_function = sys::napi_typeof(env, callback, &mut kind) == sys::Status::napi_ok
                && kind == sys::ValueType::napi_function;
            let status = sys::Status::napi_ok;
            if is_function && sys::napi_create_reference(env, callback, 1, &mut reference) == status {
                let before = std::mem::replace(&mut environment.on_report, reference);
                if before.is_null() {
                    reports::add_reader(&environment.mailbox);
                } else {
                    sys::napi_delete_reference(env, before);
                }
            }
            ptr::null_mut()
        })
    }
}

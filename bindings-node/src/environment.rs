//! What belongs to one environment of Node: the main program, or a worker thread.

use std::collections::HashMap;
use std::ffi::c_void;
use std::ptr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use napi::bindgen_prelude::Object;
use napi::{Env, JsValue, Status, sys};
use tracebaton::exchange::Exchange;
use tracebaton_export::Started;

use crate::tracers::{self, Native, Places};
use crate::{functions, reports};

/// How large the memory is at first, in bytes: requests and answers about one message's headers fit.
const MEMORY: usize = 64 * 1024;

/// The state of an environment, used by its JavaScript thread alone.
pub(crate) struct Environment {
    pub(crate) memory: Memory,
    pub(crate) exchange: Exchange,
    pub(crate) places: Places,
    /// The answer that is being written.
    pub(crate) answer: Vec<u8>,
    /// The tracers that were made or used here.
    pub(crate) known: Vec<Arc<Native>>,
    /// The handles of those that were made here.
    pub(crate) made: Vec<u32>,
    /// Spans that are in a spool since they began, by the token that JavaScript has.
    pub(crate) started: HashMap<u32, Vec<Option<Started>>>,
    pub(crate) last_token: u32,
    pub(crate) mailbox: Arc<Mailbox>,
    /// What is called when there are reports.
    pub(crate) on_report: sys::napi_ref,
    /// The promises that are not settled.
    pub(crate) pending: usize,
}

impl Environment {
    /// The tracer of a handle.
    pub(crate) fn native(&mut self, handle: u32) -> Option<Arc<Native>> {
        if let Some(native) = self.known.iter().find(|native| native.handle == handle) {
            return Some(Arc::clone(native));
        }
        let native = tracers::find(handle)?;
        self.known.push(Arc::clone(&native));
        Some(native)
    }

    /// Forgets a tracer.
    pub(crate) fn forget(&mut self, handle: u32) {
        self.known.retain(|native| native.handle != handle);
        self.made.retain(|made| *made != handle);
        tracers::forget(handle);
    }

    /// The tracers that were made here, or the one of the handle.
    pub(crate) fn natives(&mut self, handle: u32) -> Vec<Arc<Native>> {
        match handle {
            0 => self.made.clone().into_iter().filter_map(|made| self.native(made)).collect(),
            handle => self.native(handle).into_iter().collect(),
        }
    }
}

/// The memory that is shared with JavaScript: an `ArrayBuffer` of the engine's.
pub(crate) struct Memory {
    data: *mut u8,
    length: usize,
    /// Its `Uint8Array`, which keeps it where it is.
    array: sys::napi_ref,
}

impl Memory {
    /// Makes memory of this size.
    pub(crate) fn new(env: sys::napi_env, length: usize) -> Result<Self, Status> {
        let (mut data, mut buffer, mut array, mut reference) =
            (ptr::null_mut(), ptr::null_mut(), ptr::null_mut(), ptr::null_mut());
        // SAFETY: called on the environment's thread, with places for what is returned.
        unsafe {
            check(sys::napi_create_arraybuffer(env, length, &mut data, &mut buffer))?;
            let kind = sys::TypedarrayType::uint8_array;
            check(sys::napi_create_typedarray(env, kind, length, buffer, 0, &mut array))?;
            check(sys::napi_create_reference(env, array, 1, &mut reference))?;
        }
        Ok(Self { data: data.cast(), length, array: reference })
    }

    /// Replaces the memory by larger memory, if it is smaller than that, with the same content.
    pub(crate) fn reserve(&mut self, env: sys::napi_env, length: usize) -> Result<(), Status> {
        if length <= self.length {
            return Ok(());
        }
        let mut larger = Self::new(env, length.checked_next_power_of_two().unwrap_or(length))?;
        let old = self.bytes();
        if let Some(place) = larger.bytes_mut().get_mut(..old.len()) {
            place.copy_from_slice(old);
        }
        let old = std::mem::replace(self, larger);
        // SAFETY: the reference is the old memory's own, which is not used any more.
        unsafe { check(sys::napi_delete_reference(env, old.array)) }
    }

    pub(crate) const fn bytes(&self) -> &[u8] {
        // SAFETY: the engine's memory is there and stays where it is as long as the reference is, which nobody but this
        // structure deletes; the package hands it to nobody who could detach it. JavaScript does not run meanwhile.
        unsafe { std::slice::from_raw_parts(self.data, self.length) }
    }

    pub(crate) const fn bytes_mut(&mut self) -> &mut [u8] {
        // SAFETY: as for `bytes`.
        unsafe { std::slice::from_raw_parts_mut(self.data, self.length) }
    }

    /// The `Uint8Array`.
    pub(crate) fn value(&self, env: sys::napi_env) -> sys::napi_value {
        let mut value = ptr::null_mut();
        // SAFETY: the reference is alive, and there is a place for what is returned.
        unsafe { sys::napi_get_reference_value(env, self.array, &mut value) };
        value
    }
}

/// How other threads reach an environment.
///
/// One function of Node's is enough for everything. It keeps the process alive only while promises are not settled.
pub(crate) struct Mailbox(Mutex<Letters>);

struct Letters {
    /// None once the environment ends.
    function: Option<Function>,
    settled: Vec<(Deferred, bool)>,
    reports: bool,
}

/// A thread-safe function.
#[derive(Clone, Copy)]
struct Function(sys::napi_threadsafe_function);

/// A promise's other side.
pub(crate) struct Deferred(pub(crate) sys::napi_deferred);

// SAFETY: it is made for being called from any thread; that it is still there is what the mailbox's lock is for.
unsafe impl Send for Function {}
// SAFETY: it is a number to every other thread than the environment's.
unsafe impl Send for Deferred {}

impl Mailbox {
    fn letters(&self) -> MutexGuard<'_, Letters> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts something in and has the environment look; whether there still is one.
    fn post(&self, put: impl FnOnce(&mut Letters)) -> bool {
        let mut letters = self.letters();
        let Some(function) = letters.function else { return false };
        put(&mut letters);
        let mode = sys::ThreadsafeFunctionCallMode::nonblocking;
        // SAFETY: the environment takes the function out, under the lock that is held here, before it goes.
        unsafe { sys::napi_call_threadsafe_function(function.0, ptr::null_mut(), mode) == sys::Status::napi_ok }
    }

    /// Has the environment ask for reports.
    pub(crate) fn tell_of_reports(&self) -> bool {
        self.post(|letters| letters.reports = true)
    }

    /// Settles a promise.
    pub(crate) fn settle(&self, deferred: Deferred, value: bool) {
        self.post(|letters| letters.settled.push((deferred, value)));
    }

    /// Says whether the function keeps the process alive. On the environment's thread.
    pub(crate) fn keep_alive(&self, env: sys::napi_env, alive: bool) {
        if let Some(function) = self.letters().function {
            // SAFETY: this is the environment's thread, and the function is there.
            unsafe {
                match alive {
                    true => sys::napi_ref_threadsafe_function(env, function.0),
                    false => sys::napi_unref_threadsafe_function(env, function.0),
                };
            }
        }
    }
}

/// Looks into the mailbox: what Node calls on the environment's thread.
unsafe extern "C" fn open(env: sys::napi_env, _: sys::napi_value, context: *mut c_void, _: *mut c_void) {
    if env.is_null() {
        return;
    }
    // SAFETY: the context is the environment's state, which outlives the function: hooks run in the reverse order.
    let environment = unsafe { &mut *context.cast::<Environment>() };
    let mut letters = environment.mailbox.letters();
    let (settled, reports) = (std::mem::take(&mut letters.settled), std::mem::take(&mut letters.reports));
    drop(letters);
    let last = !settled.is_empty() && environment.pending <= settled.len();
    environment.pending = environment.pending.saturating_sub(settled.len());
    if last {
        environment.mailbox.keep_alive(env, false);
    }
    let on_report = environment.on_report;
    // From here on JavaScript may run, and call us: the state is not touched any more.
    for (deferred, value) in settled {
        // SAFETY: the deferred belongs to this environment, and each is settled once.
        unsafe {
            let mut result = ptr::null_mut();
            sys::napi_get_boolean(env, value, &mut result);
            sys::napi_resolve_deferred(env, deferred.0, result);
        }
    }
    if reports && !on_report.is_null() {
        // SAFETY: the reference is alive, and there are places for what is returned. What it throws is Node's to handle.
        unsafe {
            let (mut callback, mut this, mut result) = (ptr::null_mut(), ptr::null_mut(), ptr::null_mut());
            sys::napi_get_reference_value(env, on_report, &mut callback);
            sys::napi_get_undefined(env, &mut this);
            sys::napi_call_function(env, this, callback, 0, ptr::null(), &mut result);
        }
    }
}

/// The environment ends: nobody may call its function any more.
unsafe extern "C" fn close(data: *mut c_void) {
    // SAFETY: the data is the environment's state, which is freed by the hook that runs after this one.
    let environment = unsafe { &mut *data.cast::<Environment>() };
    reports::remove_reader(&environment.mailbox);
    environment.mailbox.letters().function = None;
}

/// The environment's state goes. Its tracers deliver what they have in the background, if the process goes on.
unsafe extern "C" fn free(data: *mut c_void) {
    // SAFETY: the data was a box, and no function that has it is called any more.
    let mut environment = unsafe { Box::from_raw(data.cast::<Environment>()) };
    for handle in environment.made.clone() {
        environment.forget(handle);
    }
}

pub(crate) const fn check(status: sys::napi_status) -> Result<(), Status> {
    if status == sys::Status::napi_ok { Ok(()) } else { Err(Status::GenericFailure) }
}

/// Makes the state of an environment and the functions that use it.
pub(crate) fn register(env: &Env, exports: &Object<'_>) -> napi::Result<()> {
    let raw = env.raw();
    let failed = |status: Status| napi::Error::new(status, "tracebaton: cannot be loaded");
    let mailbox = Mailbox(Mutex::new(Letters { function: None, settled: Vec::new(), reports: false }));
    let environment = Environment {
        memory: Memory::new(raw, MEMORY).map_err(failed)?,
        exchange: Exchange::default(),
        places: Places::default(),
        answer: Vec::new(),
        known: Vec::new(),
        made: Vec::new(),
        started: HashMap::new(),
        last_token: 0,
        mailbox: Arc::new(mailbox),
        on_report: ptr::null_mut(),
        pending: 0,
    };
    let mailbox = Arc::clone(&environment.mailbox);
    let data: *mut c_void = Box::into_raw(Box::new(environment)).cast();
    // SAFETY: this is the environment's thread; texts are given with their lengths, and there are places for what is
    // returned. Hooks run in the reverse order of their making: `close`, then the function's own, then `free`.
    unsafe {
        check(sys::napi_add_env_cleanup_hook(raw, Some(free), data)).map_err(failed)?;
        let (mut name, mut function) = (ptr::null_mut(), ptr::null_mut());
        let text = "tracebaton";
        check(sys::napi_create_string_utf8(raw, text.as_ptr().cast(), text.len() as isize, &mut name))
            .map_err(failed)?;
        check(sys::napi_create_threadsafe_function(
            raw,
            ptr::null_mut(),
            ptr::null_mut(),
            name,
            0,
            1,
            ptr::null_mut(),
            None,
            data,
            Some(open),
            &mut function,
        ))
        .map_err(failed)?;
        check(sys::napi_unref_threadsafe_function(raw, function)).map_err(failed)?;
        mailbox.letters().function = Some(Function(function));
        check(sys::napi_add_env_cleanup_hook(raw, Some(close), data)).map_err(failed)?;
        for (text, function) in functions::ALL {
            let mut value = ptr::null_mut();
            let length = text.len() as isize;
            check(sys::napi_create_function(raw, text.as_ptr().cast(), length, Some(*function), data, &mut value))
                .map_err(failed)?;
            check(sys::napi_create_string_utf8(raw, text.as_ptr().cast(), length, &mut name)).map_err(failed)?;
            check(sys::napi_set_property(raw, exports.raw(), name, value)).map_err(failed)?;
        }
    }
    Ok(())
}

//! The native backend of the npm package `tracebaton`: core's exchange over one buffer of memory, and delivery on threads
//! of its own.
//!
//! JavaScript sees eight functions, which `js/src/backend.ts` describes; the layouts of what they exchange are those of
//! [`tracebaton::exchange`]. Values never become objects here: a call from JavaScript into Rust costs some 40 ns, and each
//! object or text that is made on the way as much again.
//!
//! Handles of tracers and ids of instrumentations are the process's, since spans are encoded on a thread that serves all.
//! The memory, and the list of the tracers that an environment made, belong to the environment: the main program and each
//! worker thread have one of their own.

mod encoder;
mod environment;
mod functions;
mod ids;
mod operations;
mod reports;
mod stats;
mod tracers;

use napi::Env;
use napi::bindgen_prelude::Object;
use napi_derive::napi;

/// Called by Node when it loads the addon into an environment.
#[napi(module_exports)]
pub fn register(exports: Object<'_>, env: Env) -> napi::Result<()> {
    environment::register(&env, &exports)
}

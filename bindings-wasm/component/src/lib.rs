//! tracebaton for every host that runs WebAssembly: as a component (`wit/`), and as a plain module whose functions
//! take and return bytes (`plain`). Both do what the functions of `propagation`, `members` and `spans` do, which only
//! convert types; the rules are core's.
//!
//! `cargo run -p xtask` builds both files: see the README.
#![cfg_attr(target_arch = "wasm32", no_std)]

extern crate alloc;

mod bindings {
    #![allow(missing_docs, clippy::all, clippy::undocumented_unsafe_blocks, reason = "generated")]
    wit_bindgen::generate!({ path: "wit", world: "context", generate_all });
    // Elsewhere linkers refuse the names of these exports.
    #[cfg(all(feature = "component", target_arch = "wasm32"))]
    export!(Component with_types_in self);
    #[cfg(all(feature = "component", target_arch = "wasm32"))]
    use super::Component;
}

mod convert;
mod members;
#[cfg(feature = "plain")]
pub mod plain;
mod propagation;
mod spans;
#[cfg(feature = "plain")]
mod wire;

/// Has the interfaces' functions; their implementations are in the modules of their names.
struct Component;

/// What the standard library would bring is left out: its panic messages alone are larger than core.
#[cfg(target_arch = "wasm32")]
mod bare {
    #[global_allocator]
    static ALLOCATOR: rlsf::SmallGlobalTlsf = rlsf::SmallGlobalTlsf::new();

    #[panic_handler]
    fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
        core::arch::wasm32::unreachable()
    }
}

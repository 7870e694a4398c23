//! The tracebaton component in the `wasmtime` crate: bindings made of its WIT, and its two imports.

use std::time::{Instant, SystemTime, UNIX_EPOCH};

use wasmtime::component::{Component, HasSelf, Linker};
use wasmtime::{Engine, Result, Store};

wasmtime::component::bindgen!({ path: "../../bindings-wasm/component/wit", world: "context" });

pub use exports::tracebaton::context as interfaces;

/// What the component imports: the system's randomness and clocks. A host that has `wasmtime-wasi` anyway uses that.
pub struct Wasi {
    started: Instant,
}

impl Default for Wasi {
    fn default() -> Self {
        Self { started: Instant::now() }
    }
}

impl wasi::random::random::Host for Wasi {
    fn get_random_u64(&mut self) -> u64 {
        getrandom::u64().expect("the system has random numbers")
    }
}

impl wasi::clocks::wall_clock::Host for Wasi {
    fn now(&mut self) -> wasi::clocks::wall_clock::Datetime {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        wasi::clocks::wall_clock::Datetime { seconds: now.as_secs(), nanoseconds: now.subsec_nanos() }
    }
}

impl wasi::clocks::monotonic_clock::Host for Wasi {
    fn now(&mut self) -> u64 {
        self.started.elapsed().as_nanos() as u64
    }
}

/// The component, compiled, and a linker that has its imports. Both are for the whole process.
pub fn load(path: &str) -> Result<(Component, Linker<Wasi>)> {
    let engine = Engine::default();
    let component = Component::from_file(&engine, path)?;
    let mut linker = Linker::new(&engine);
    Context::add_to_linker::<_, HasSelf<_>>(&mut linker, |wasi: &mut Wasi| wasi)?;
    Ok((component, linker))
}

/// An instance: one for each thread, or for each request.
pub fn instantiate(component: &Component, linker: &Linker<Wasi>) -> Result<(Store<Wasi>, Context)> {
    let mut store = Store::new(component.engine(), Wasi::default());
    let context = Context::instantiate(&mut store, component, linker)?;
    Ok((store, context))
}

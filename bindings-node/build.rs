//! What the linker has to know of an addon.

fn main() {
    napi_build::setup();
    // Node unloads the addons of a worker thread that ends, while threads of ours run on: this one stays.
    if std::env::var("CARGO_CFG_TARGET_OS").is_ok_and(|os| os == "linux" || os == "freebsd") {
        println!("cargo::rustc-cdylib-link-arg=-Wl,-z,nodelete");
    }
}

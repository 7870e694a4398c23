#!/usr/bin/env bash
# The WebAssembly component and the plain module, into build/wasm: see docs/component.md.
source "$(dirname "$0")/lib.sh"

need_wasm
say "building the WebAssembly component"
cargo run --quiet $LOCKED -p xtask -- component plain

#!/usr/bin/env bash
# The npm package's backend for runtimes other than Node, into build/wasm; fails where it is larger than its budget.
source "$(dirname "$0")/lib.sh"

need_wasm
say "building the npm package's WebAssembly"
cargo run --quiet $LOCKED -p xtask -- npm

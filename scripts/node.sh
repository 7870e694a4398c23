#!/usr/bin/env bash
# The npm package: the addon into bindings-node, the WebAssembly into build/wasm, the surface into js/dist. Cargo rebuilds what changed.
source "$(dirname "$0")/lib.sh"

need_rust
need_node
npm_ci js
say "building the addon for Node"
node bindings-node/build.mjs $LOCKED
scripts/wasm.sh
say "building the npm package"
(cd js && npm run --silent build)

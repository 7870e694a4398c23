#!/usr/bin/env bash
# What a release would hold, in dist/. Needs `make build`.
source "$(dirname "$0")/lib.sh"

rm -rf dist
mkdir -p dist
cp "$TRACEBATON" dist/
cp build/wheels/tracebaton-*.whl dist/
scripts/node.sh
node bindings-node/build.mjs --pack dist $LOCKED
node js/scripts/pack.mjs dist
scripts/component.sh
cp build/wasm/tracebaton-context.wasm build/wasm/tracebaton-context-plain.wasm dist/
# Together, so that export is packed against this core and not against one from the registry. Not compiled again: the
# tests build the same sources.
say "packing the crates"
rm -f target/package/*.crate
cargo package $LOCKED --allow-dirty --no-verify -p tracebaton -p tracebaton-export -p tracebaton-cli
cp target/package/*.crate dist/
say "in dist/:"
ls -l dist

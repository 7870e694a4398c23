#!/usr/bin/env bash
# The tracebaton binary and the wheel, in release form; the wheel goes into .venv. Cargo and maturin rebuild what changed.
source "$(dirname "$0")/lib.sh"

say "building $TRACEBATON"
cargo build --release $LOCKED -p tracebaton-cli

say "building the wheel"
# Only the new one may be there: its name says the version, and install_wheel takes what it finds.
rm -rf build/wheels
"$VENV/bin/maturin" build --release $LOCKED --manifest-path bindings-python/Cargo.toml \
    --interpreter "$VENV/bin/python" --out build/wheels
install_wheel "$VENV"

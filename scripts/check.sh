#!/usr/bin/env bash
# Formatting, lints, documentation, types, and what the manifests promise. Everything is tried; the exit code is 0 only
# if everything passed. Needs `make build`.
source "$(dirname "$0")/lib.sh"

readonly BARE_TARGET=thumbv7em-none-eabi
python_sources=(bindings-python/python tests examples)
result=0

# step NAME COMMAND…
step() {
    local name=$1 start=$SECONDS
    shift
    say "$name"
    "$@" && say "$name: ok in $(seconds_since $start) s" || { say "$name: FAILED"; result=1; }
}

# Core stands alone: its dependency tree has one line, itself.
core_alone() {
    local tree
    tree=$(cargo tree $LOCKED -p tracebaton -e normal,build --prefix none) || return
    printf '%s\n' "$tree"
    [ "$(printf '%s\n' "$tree" | wc -l)" = 1 ]
}

# On a target without std, no_std cannot be true by accident.
core_without_std() {
    rustup target add "$BARE_TARGET" && cargo build $LOCKED -p tracebaton --lib --target "$BARE_TARGET"
}

# The stub of the native module says what the module has. pyo3 gives every module an __all__, which nobody imports by.
stub_is_true() {
    "$VENV/bin/python" -m mypy.stubtest tracebaton._native --allowlist <(echo 'tracebaton\._native\.__all__')
}

need_rustup "the $BARE_TARGET target and the oldest supported toolchain"
# pyo3 asks this interpreter; one and the same, so that nothing is built twice.
export PYO3_PYTHON=$PWD/$VENV/bin/python

step "rustfmt" cargo fmt --all --check
step "clippy" cargo clippy $LOCKED --workspace --all-targets --all-features -- -D warnings
step "clippy, core without features" cargo clippy $LOCKED -p tracebaton --all-targets -- -D warnings
# The binary has the name of core's library, and both would be documented at the same place: libraries only.
step "rustdoc" env RUSTDOCFLAGS="-D warnings" cargo doc $LOCKED --workspace --exclude tracebaton-cli --no-deps --all-features
step "core has no dependency" core_alone
step "core without std" core_without_std
step "oldest Rust" scripts/msrv.sh
step "ruff check" "$VENV/bin/ruff" check "${python_sources[@]}"
step "ruff format" "$VENV/bin/ruff" format --check "${python_sources[@]}"
step "mypy" "$VENV/bin/mypy" --strict bindings-python/python/tracebaton bindings-python/python/tracebaton_pytest
step "stubtest" stub_is_true
need_node
npm_ci js
step "tsc" npm --prefix js run --silent check
exit $result

#!/usr/bin/env bash
# Checks that the oldest Rust which each library crate declares builds it.
source "$(dirname "$0")/lib.sh"

need_rustup "the oldest supported toolchains"

# declared MANIFEST: its rust-version, or that of the root manifest where it inherits it.
declared() {
    local version
    version=$(sed -n 's/^rust-version = "\(.*\)"$/\1/p' "$1")
    [ -n "$version" ] || version=$(sed -n 's/^rust-version = "\(.*\)"$/\1/p' Cargo.toml)
    [ -n "$version" ] || fail "neither $1 nor the root Cargo.toml declares a rust-version"
    printf '%s' "$version"
}

# check MANIFEST ARGUMENT…: in a directory of its own, as another compiler's results under target/ would only make both
# start over.
check() {
    local oldest
    oldest=$(declared "$1")
    shift
    rustup run "$oldest" rustc --version 2>/dev/null ||
        rustup toolchain install "$oldest" --profile minimal --no-self-update
    say "Rust $oldest: $*"
    CARGO_TARGET_DIR=target/msrv PYO3_PYTHON=$PWD/$VENV/bin/python cargo "+$oldest" check $LOCKED "$@"
}

check core/Cargo.toml -p tracebaton -p tracebaton-export
check bindings-python/Cargo.toml -p tracebaton-python

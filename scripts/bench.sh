#!/usr/bin/env bash
# Every benchmark, each against its peer: core's, then those in tests/bench with the packages of .venv. Needs
# `make build`.
source "$(dirname "$0")/lib.sh"

say "core"
cargo bench $LOCKED -p tracebaton-bench
benches=(tests/bench/*.py)
[ -f "${benches[0]}" ] || fail "no benchmark in tests/bench"
for bench in "${benches[@]}"; do
    say "$bench"
    "$VENV/bin/python" "$bench"
done

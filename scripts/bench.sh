#!/usr/bin/env bash
# Every benchmark, each against its peer: core's, then those in tests/bench with the packages of .venv, and beside the
# honeyhive package where it can be had. Needs `make build`.
source "$(dirname "$0")/lib.sh"

readonly HONEYHIVE=honeyhive==1.5.1

say "core"
cargo bench $LOCKED -p tracebaton-bench
cargo build $LOCKED --release -p tracebaton-bench --example sink
export SINK=$CARGO_TARGET_DIR/release/examples/sink
need_uv
# In a shell of its own, which ends where something fails: within a condition this one would go on.
if bash -c 'source scripts/lib.sh && make_venv build/venv-honeyhive "$(any_python)" "$0"' "$HONEYHIVE"; then
    export HONEYHIVE_PYTHON=$PWD/build/venv-honeyhive/bin/python
else
    say "$HONEYHIVE cannot be installed: no figures beside ours"
fi
scripts/component.sh
benches=(tests/bench/*.py)
[ -f "${benches[0]}" ] || fail "no benchmark in tests/bench"
result=0
for bench in "${benches[@]}"; do
    say "$bench"
    "$VENV/bin/python" "$bench" || result=1
done
scripts/node.sh
for bench in js/bench/*.mjs; do
    say "$bench"
    node "$bench" || result=1
done
exit $result

#!/usr/bin/env bash
# Fuzzes each target, or those that are named, for so many seconds: run.sh [SECONDS] [TARGET…]
# run.sh --minimise: leaves only those seeds that reach what no other reaches.
set -euo pipefail
cd "$(dirname "$0")"

readonly TARGETS=(traceparent tracestate baggage percent extract inject destination settings otlp spool exchange)
command -v cargo-fuzz >/dev/null || cargo install cargo-fuzz --locked
rustup toolchain list | grep -q ^nightly || rustup toolchain install nightly --profile minimal --no-self-update

if [ "${1:-}" = --minimise ]; then
    for target in "${TARGETS[@]}"; do
        cargo +nightly fuzz cmin "$target" "seeds/$target"
    done
    exit
fi

seconds=${1:-10}
shift || true
[ $# -gt 0 ] || set -- "${TARGETS[@]}"
for target in "$@"; do
    printf '==> %s: %s s\n' "$target" "$seconds"
    mkdir -p "corpus/$target"
    # What is found goes into corpus/, which is not committed; seeds/ stays as it is.
    cargo +nightly fuzz run "$target" "corpus/$target" "seeds/$target" -- -max_total_time="$seconds" -max_len=4096 \
        -timeout=5 -print_final_stats=1 2>&1 | tee "corpus/$target.log" |
        grep -E '^(stat::number_of_executed_units|stat::average_exec_per_sec|==[0-9]+== ERROR|thread .* panicked|SUMMARY)' || true
    if ! grep -q '^stat::number_of_executed_units' "corpus/$target.log" || ls "artifacts/$target"/* >/dev/null 2>&1; then
        tail -40 "corpus/$target.log"
        exit 1
    fi
done

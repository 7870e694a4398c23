#!/usr/bin/env bash
# Generates headers, has every SDK read them, and compares: see README.md. PYTHON names an interpreter that has
# opentelemetry-api (default: .venv).
set -euo pipefail
cd "$(dirname "$0")/../.."

readonly HERE=tests/differential OUT=build/differential
python=${PYTHON:-.venv/bin/python}
"$python" -c 'import opentelemetry.baggage' || { echo "error: $python has no opentelemetry-api" >&2; exit 1; }
command -v node >/dev/null || { echo "error: node is missing" >&2; exit 1; }

mkdir -p "$OUT/node"
cp "$HERE/package.json" "$OUT/node/"
npm install --prefix "$OUT/node" --no-audit --no-fund --no-package-lock --silent

cargo build --release -p tracebaton-differential
differential=${CARGO_TARGET_DIR:-target}/release/tracebaton-differential
"$differential" generate "$OUT/cases.jsonl"
"$python" "$HERE/python_sdk.py" "$OUT/cases.jsonl" "$OUT/python.jsonl"
node "$HERE/node_sdk.mjs" "$OUT/node" "$OUT/cases.jsonl" "$OUT/node.jsonl"
"$differential" compare "$OUT"

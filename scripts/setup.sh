#!/usr/bin/env bash
# The tools: Rust, and .venv with everything that the tests, the checks and the examples need besides tracebaton.
source "$(dirname "$0")/lib.sh"

need_rust
need_wasm
need_uv
make_venv "$VENV" "$(any_python)" \
    -r tests/python/requirements.txt -r tests/python/instrumentors/requirements.txt \
    -r examples/agents/requirements.txt -c tests/python/constraints.txt

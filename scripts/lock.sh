#!/usr/bin/env bash
# Writes tests/python/constraints.txt anew: today's version of every Python package that the tests and examples use, on
# each Python from 3.10; and tests/python/newest_sdk/constraints.txt, which is the same with nothing that holds
# OpenTelemetry back.
source "$(dirname "$0")/lib.sh"

need_uv
"$UV" pip compile -q --upgrade --universal --python-version 3.10 --custom-compile-command "make lock" \
    tests/python/requirements.txt tests/python/instrumentors/requirements.txt examples/agents/requirements.txt \
    -o tests/python/constraints.txt
"$UV" pip compile -q --upgrade --universal --python-version 3.10 --custom-compile-command "make lock" \
    tests/python/newest_sdk/requirements.txt -o tests/python/newest_sdk/constraints.txt

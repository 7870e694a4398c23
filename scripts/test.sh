#!/usr/bin/env bash
# Runs stages one after the other, each with its name and its time: test.sh STAGE… A stage that prepares the others ends
# the run when it fails; after a failed test stage the others still run. The summary repeats what each stage's last
# lines say; the exit code is 0 only if every stage passed.
source "$(dirname "$0")/lib.sh"

stage_setup() { scripts/setup.sh; }
stage_build() { scripts/build.sh; }
# The binding has no tests in Rust: those in Python are its tests.
stage_rust() { cargo test $LOCKED --workspace --exclude tracebaton-python --all-features --no-fail-fast; }
stage_rules() { "$VENV/bin/python" scripts/rules.py; }
stage_python() { "$VENV/bin/python" -m pytest tests/python; }
stage_node() {
    scripts/node.sh && npm_ci js/test/integrations &&
        (cd bindings-node && npm run --silent test) &&
        (cd js && npm run --silent check && npm run --silent test) &&
        (cd js/test/integrations && npm run --silent test)
}
# Cloudflare's runtime, and what programs for it carry.
stage_edge() { scripts/node.sh && npm_ci js/test/edge && (cd js/test/edge && npm run --silent test); }
# Deno, Bun, and a page in Chromium where there is one.
stage_runtimes() { scripts/node.sh && npm_ci js/test/edge && (cd js/test/edge && npm run --silent test:others); }
# Our part in OpenTelemetry's SDK, with the newest one.
stage_sdk() {
    make_venv build/venv-newest-sdk "$(any_python)" \
        -r tests/python/newest_sdk/requirements.txt -c tests/python/newest_sdk/constraints.txt
    install_wheel build/venv-newest-sdk
    build/venv-newest-sdk/bin/python -m pytest tests/python/test_sdk_*.py tests/python/test_provider.py \
        tests/python/test_propagator.py tests/python/test_span.py tests/python/test_otel_citizen.py
}
stage_e2e() {
    scripts/node.sh && npm_ci js/test/integrations && node js/test/integrations/prepare.mjs &&
        TRACEBATON_BIN=$PWD/$TRACEBATON "$VENV/bin/python" -m pytest tests/e2e
}
stage_component() { scripts/component.sh && "$VENV/bin/python" -m pytest tests/component; }
stage_hosts() {
    scripts/component.sh && scripts/component-hosts.sh &&
        TRACEBATON_REBUILD=1 "$VENV/bin/python" -m pytest tests/component --hosts rust,jco,go,java
}
stage_pythons() { scripts/test-pythons.sh; }
stage_differential() { PYTHON=$VENV/bin/python tests/differential/run.sh; }
stage_fuzz() { core/fuzz/run.sh 10; }

# totals LOG: the result lines of cargo and of Node's test runner added up, and pytest's as they are.
totals() {
    awk '
        /^test result: / { runs++; passed += $4; failed += $6; ignored += $8 }
        /^(#|ℹ) (pass|fail|skipped) [0-9]+$/ { node[$2] += $3; node_runs += $2 == "pass" }
        /^=+ .*(passed|failed|error|no tests ran).* =+$/ { print "    " $0 }
        END {
            if (runs) {
                printf "    test result: %s. %d passed; %d failed; %d ignored; in %d programs\n",
                    failed ? "FAILED" : "ok", passed, failed, ignored, runs
            }
            if (node_runs) printf "    node: %d passed; %d failed; %d skipped\n", node["pass"], node["fail"], node["skipped"]
        }' "$1"
}

logs=build/logs
mkdir -p "$logs"
rm -f "$logs"/*.log
summary=
result=0
for stage in "$@"; do
    say "stage $stage"
    start=$SECONDS
    code=0
    "stage_$stage" 2>&1 | tee "$logs/$stage.log" || code=$?
    line=$(printf '%-8s %s in %s s' "$stage" "$([ $code = 0 ] && echo ok || echo "FAILED ($code)")" "$(seconds_since $start)")
    say "stage $line"
    summary+="$line"$'\n'
    [ $code = 0 ] || result=1
    case $stage:$code in
    setup:[1-9]* | build:[1-9]*) break ;;
    esac
    found=$(totals "$logs/$stage.log")
    [ -z "$found" ] || summary+="$found"$'\n'
done

say "summary, after $SECONDS s"
printf '%s' "$summary"
exit $result

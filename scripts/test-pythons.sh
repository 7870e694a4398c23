#!/usr/bin/env bash
# The wheel's tests on every Python from 3.10 to 3.13 that is here, then with the newest packages there are, and with the
# oldest OpenTelemetry that the wheel says it takes. Then the wheels for Pythons without a global lock: built, and tried
# where such a Python is.
source "$(dirname "$0")/lib.sh"

result=0

# run NAME PYTHON ARGUMENT…: the tests in a virtual environment of their own, made with the arguments.
run() {
    local name=$1 python=$2
    shift 2
    say "tests/python with $name"
    make_venv "build/venv-$name" "$python" "$@"
    install_wheel "build/venv-$name"
    "build/venv-$name/bin/python" -m pytest tests/python || result=1
}

need_uv
packages=(-r tests/python/requirements.txt -r tests/python/instrumentors/requirements.txt)
oldest=
for minor in 10 11 12 13; do
    if python=$(python_of $minor); then
        oldest=${oldest:-$python}
        newest=$python
        run "python-3.$minor" "$python" "${packages[@]}" -c tests/python/constraints.txt
    else
        say "no Python 3.$minor here"
    fi
done
[ -n "$oldest" ] || fail "no Python from 3.10 to 3.13 here"
run newest-packages "$newest" "${packages[@]}"
# What old packages warn of is not for us to mend, and the instrumentors want newer ones.
export PYTEST_ADDOPTS="-W default --ignore tests/python/instrumentors"
run oldest-opentelemetry "$oldest" -r tests/python/requirements.txt --overrides tests/python/oldest.txt

# Before 3.15 these have no stable ABI: pyo3 leaves abi3 aside for them, and each has a wheel of its own. maturin knows
# their settings, so that they can be built for without being here.
host=$(rustc -vV | sed -n 's/^host: //p')
for minor in 13 14; do
    say "the wheel for Python 3.${minor}t"
    rm -rf "build/wheels-3.${minor}t"
    "$VENV/bin/maturin" build --release $LOCKED --manifest-path bindings-python/Cargo.toml \
        --interpreter "python3.${minor}t" --target "$host" --out "build/wheels-3.${minor}t" || { result=1; continue; }
    python=$(command -v "python3.${minor}t") || { say "no Python 3.${minor}t here to try it"; continue; }
    make_venv "build/venv-python-3.${minor}t" "$python" opentelemetry-api
    "$UV" pip install -q --python "build/venv-python-3.${minor}t" --no-deps --reinstall "build/wheels-3.${minor}t"/*.whl
    "build/venv-python-3.${minor}t/bin/python" tests/python/free_threaded.py || result=1
done
exit $result

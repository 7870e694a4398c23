# Sourced by the other scripts: where things are, and how what is missing is found or asked for.

set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

# rustup's directory is not on PATH in a shell that was open when rustup was installed, nor in most CI shells.
command -v cargo >/dev/null || PATH="$PATH:${CARGO_HOME:-$HOME/.cargo}/bin"

readonly VENV=.venv
readonly UV=build/boot/bin/uv
readonly UV_VERSION=0.13.9
readonly TRACEBATON=target/release/tracebaton
# One target directory for cargo and maturin, so that what both need is compiled once.
export CARGO_TARGET_DIR=target
# Interpreters come from the machine: uv would fetch them from somewhere that is no package registry.
export UV_PYTHON_DOWNLOADS=never
# Where a proxy has its own certificate, the system knows it, and cargo asks the system, too.
export UV_SYSTEM_CERTS=true

# In CI a lock file that lags behind its manifests is an error; at a desk cargo brings it up to date.
readonly LOCKED=${CI:+--locked}

say() { printf '==> %s\n' "$*"; }

fail() {
    printf 'error: %s\n' "$*" >&2
    exit 1
}

# install_debian WHAT PACKAGE…: installs the packages that have WHAT if that is possible, else says what to do.
install_debian() {
    local what=$1
    shift
    if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
        say "installing $* for $what"
        apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$@"
    else
        fail "$what is missing; on Debian and Ubuntu: sudo apt-get install $*"
    fi
}

# need_rust: cargo is there with the toolchain of rust-toolchain.toml, and so is a C compiler, which links and builds
# SQLite.
need_rust() {
    command -v cargo >/dev/null || fail "cargo is missing; get Rust from https://rustup.rs:
       curl --proto '=https' --tlsv1.2 -sSf https://sh.rustup.rs | sh -s -- -y --profile minimal"
    command -v cc >/dev/null || install_debian "a C compiler" gcc libc6-dev
    # Rustup may be told not to install the toolchain by itself where it is missing.
    if ! cargo --version 2>/dev/null && command -v rustup >/dev/null; then
        rustup toolchain install --no-self-update
    fi
    cargo --version >/dev/null
}

need_rustup() {
    need_rust
    command -v rustup >/dev/null || fail "rustup is missing, and this needs $1; get it from https://rustup.rs"
}

# need_wasm: the standard library for WebAssembly, which takes seconds to fetch.
need_wasm() {
    need_rustup "the wasm32-unknown-unknown target"
    rustup target list --installed | grep -qx wasm32-unknown-unknown || rustup target add wasm32-unknown-unknown
}

# need_node: Node 20 or later with its npm.
need_node() {
    is_node_new() { node -e 'process.exit(+(parseInt(process.versions.node) < 20))' 2>/dev/null && command -v npm >/dev/null; }
    is_node_new || install_debian "Node 20 or later" nodejs npm
    is_node_new || fail "Node is older than 20; get a current one from https://nodejs.org"
}

# npm_ci DIRECTORY: the packages of its lock file, if they are not there already.
npm_ci() {
    cmp -s "$1/package-lock.json" "$1/node_modules/.made-from" && return
    say "installing the npm packages of $1"
    (cd "$1" && npm ci --silent --no-fund --no-audit)
    cp "$1/package-lock.json" "$1/node_modules/.made-from"
}

# python_of MINOR: prints the path of a working Python 3.MINOR, from PATH or pyenv; fails if there is none.
python_of() {
    local candidate
    for candidate in "python3.$1" "${PYENV_ROOT:-$HOME/.pyenv}"/versions/3."$1".*/bin/python; do
        # A pyenv shim is on PATH for every version, whether or not it is active: only running it tells.
        "$candidate" -c "import sys; sys.exit(sys.version_info[:2] != (3, $1))" 2>/dev/null || continue
        "$candidate" -c 'import sys; print(sys.executable)'
        return
    done
    return 1
}

# any_python: prints the path of a Python 3.10 or later: $PYTHON, else python3, else the newest tested one.
any_python() {
    local candidate minor
    for candidate in ${PYTHON:+"$PYTHON"} python3; do
        "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 10))' 2>/dev/null || continue
        "$candidate" -c 'import sys; print(sys.executable)'
        return
    done
    for minor in 13 12 11 10; do
        ! python_of $minor || return 0
    done
    fail "no Python 3.10 or later on PATH or in pyenv; install one, or name it: make PYTHON=/path/to/python3 …"
}

# need_uv: uv, which resolves and installs Python packages in seconds, in a virtual environment of its own.
need_uv() {
    [ "$("$UV" --version 2>/dev/null | cut -d' ' -f2)" != "$UV_VERSION" ] || return 0
    local python
    python=$(any_python)
    "$python" -c 'import ensurepip' 2>/dev/null || install_debian "Python's venv module" python3-venv
    say "installing uv $UV_VERSION into build/boot"
    rm -rf build/boot
    "$python" -m venv build/boot
    build/boot/bin/python -m pip install -q --disable-pip-version-check "uv==$UV_VERSION"
}

# make_venv DIRECTORY PYTHON ARGUMENT…: a virtual environment with what `uv pip install ARGUMENT…` puts there. Nothing
# is done if it was last made from the same Python and arguments, with the same text in the files among them.
make_venv() {
    local directory=$1 python=$2 key argument
    shift 2
    key=$(
        printf '%s\n' "$python" "$UV_VERSION" "$@"
        for argument in "$@"; do [ ! -f "$argument" ] || cat "$argument"; done
    )
    key=$(printf '%s' "$key" | cksum)
    if [ "$(cat "$directory/made-from" 2>/dev/null)" = "$key" ] && "$directory/bin/python" -c '' 2>/dev/null; then
        return
    fi
    say "making $directory with $("$python" --version)"
    rm -rf "$directory"
    "$UV" venv -q --python "$python" "$directory"
    "$UV" pip install -q --python "$directory" "$@"
    printf '%s' "$key" >"$directory/made-from"
}

# install_wheel DIRECTORY: puts the wheel of the last build into a virtual environment, as pip would.
install_wheel() {
    local wheels=(build/wheels/tracebaton-*.whl)
    [ -f "${wheels[0]}" ] || fail "no wheel in build/wheels: run make build"
    "$UV" pip install -q --python "$1" --no-deps --reinstall "${wheels[0]}"
}

# seconds_since START: whole seconds since `$SECONDS` was START.
seconds_since() { printf '%d' $((SECONDS - $1)); }

#!/usr/bin/env bash
# Builds the hosts of the component that `make test` leaves out, since their tools are large: the wasmtime crate, jco, Go
# and Java, each into build/component-hosts. component-hosts.sh [HOST…]. Needs `make component`.
source "$(dirname "$0")/lib.sh"

readonly OUT=$PWD/build/component-hosts
# For the script of the jco example.
export COMPONENT=$PWD/build/wasm/tracebaton-context.wasm
PATH="$PATH:/usr/local/go/bin"

build_rust() {
    CARGO_TARGET_DIR=$OUT/rust cargo build --release --locked --manifest-path examples/component-rust/Cargo.toml
}

build_go() {
    command -v go >/dev/null || install_debian "Go" golang-go
    mkdir -p "$OUT/go"
    (cd examples/wasm-go && go vet ./... && go build -o "$OUT/go/" ./...)
}

build_java() {
    command -v javac >/dev/null || install_debian "a Java compiler" default-jdk-headless
    command -v mvn >/dev/null || install_debian "Maven" maven
    local pom=examples/wasm-java/pom.xml
    if ! cmp -s "$pom" "$OUT/java/pom.xml"; then
        rm -rf "$OUT/java"
        mvn -q -B -f "$pom" dependency:copy-dependencies "-DoutputDirectory=$OUT/java/lib"
        cp "$pom" "$OUT/java/"
    fi
    javac -Xlint:all -Werror -cp "$OUT/java/lib/*" -d "$OUT/java/classes" examples/wasm-java/src/main/java/example/*.java
}

build_jco() {
    command -v npm >/dev/null || install_debian "Node" nodejs npm
    (cd examples/component-jco && npm ci --silent --no-fund --no-audit && npm run --silent transpile)
}

[ $# -gt 0 ] || set -- rust go java jco
for host in "$@"; do
    say "building the host $host"
    "build_$host"
done

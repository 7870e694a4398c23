"""Hosts that are programs of their own: `scripts/component-hosts.sh` builds them; here is how each is started."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from hosts import COMPONENT, OPERATIONS, PLAIN, ROOT, Program, write_types

BUILD = ROOT / "build/component-hosts"
JAVA = ["java", "-cp", f"{BUILD}/java/classes:{BUILD}/java/lib/*"]
NODE = os.environ.get("NODE", "node")

HOSTS = ("rust", "jco", "go", "java")


def commands(what: str) -> dict[str, list[str]]:
    """Each host's program of this name (`service`, `vectors`, `bench`), without its arguments but for the artifact."""
    rust, jco = f"{BUILD}/rust/release", str(ROOT / "examples/component-jco")
    java = {"service": "example.Service", "vectors": "example.Vectors", "bench": "example.Bench"}
    return {
        "rust": [f"{rust}/{'component-rust' if what == 'service' else what}", str(COMPONENT)],
        "jco": [NODE, f"{jco}/{what}.mjs"],
        "go": [f"{BUILD}/go/{'wasm-go' if what == 'service' else what}", str(PLAIN)],
        "java": [*JAVA, java[what], str(PLAIN)],
    }


def start(name: str, known: dict[str, Any], folder: Path) -> Program:
    command = commands("vectors")[name]
    if name == "rust":
        table = folder / "functions.txt"
        rows = [f"{number} {interface} {it}" for it, (interface, number) in OPERATIONS.items() if number is not None]
        table.write_text("\n".join(rows))
        command.append(str(table))
    if name == "jco":
        table = folder / "types.json"
        write_types(known, table)
        command.append(str(table))
    return Program(known, command, plain=name in {"go", "java"}, cwd=ROOT)

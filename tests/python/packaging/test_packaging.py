"""The wheel and the sdist as their users get them: in empty environments, on every Python that is here.

The wheel is the one of the last `make build`.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Mapping
from email.parser import Parser
from pathlib import Path

import pytest
from collector import Collector
from programs import clean_environment

ROOT = Path(__file__).resolve().parents[3]
WHEELS = sorted((ROOT / "build" / "wheels").glob("tracebaton-*.whl"))
README = ROOT / "bindings-python" / "README.md"
OLDEST, NEWEST = 10, 14
SECONDS = 900

pytestmark = [
    pytest.mark.timeout(SECONDS),
    pytest.mark.skipif(not WHEELS, reason="there is no wheel: make build"),
]


def found_pythons() -> dict[str, str]:
    """By version: an interpreter on PATH or in pyenv, of each that the wheel is for."""
    folder = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions"
    found = {}
    for minor in range(OLDEST, NEWEST + 1):
        name = f"python3.{minor}"
        # A shim of pyenv is on PATH for every version, whether or not it is active: only running it tells.
        for candidate in [shutil.which(name), *map(str, sorted(folder.glob(f"3.{minor}.*/bin/python")))]:
            if candidate and said(candidate, "import sys; print(sys.version_info[:2])") == f"(3, {minor})":
                found[f"3.{minor}"] = candidate
                break
    return found


def said(python: str, code: str) -> str:
    done = subprocess.run([python, "-c", code], capture_output=True, encoding="utf-8", check=False)
    return done.stdout.strip()


PYTHONS = found_pythons() or {"this": sys.executable}


def run(command: list[str], folder: Path, more: Mapping[str, str] | None = None) -> str:
    """What a program prints that ends well, in an environment that has nothing of this one's."""
    environment = {
        key: value for key, value in clean_environment(more).items() if key not in ("PYTHONPATH", "PYTHONHOME")
    }
    done = subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, encoding="utf-8", timeout=SECONDS, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def empty_environment(python: str, folder: Path) -> str:
    run([python, "-m", "venv", str(folder)], folder.parent)
    return str(folder / "bin" / "python")


def pip(python: str, folder: Path, *arguments: str, more: Mapping[str, str] | None = None) -> str:
    command = [python, "-m", "pip", "--disable-pip-version-check", "--no-input", "-q", *arguments]
    return run(command, folder, more)


def readme_example() -> str:
    """The example of the package's own page, as it is there."""
    found = re.search(r"^```python\n(.*?)^```$", README.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    assert found is not None
    return found[1]


@pytest.mark.parametrize("version", PYTHONS)
def test_the_wheel_runs_the_readmes_example(version: str, collector: Collector, tmp_path: Path) -> None:
    python = empty_environment(PYTHONS[version], tmp_path / "venv")
    pip(python, tmp_path, "install", str(WHEELS[0]))
    program = tmp_path / "example.py"
    program.write_text(readme_example() + "\nprint(headers())\n", encoding="utf-8")
    # All warnings are errors, but what OpenTelemetry's API does at import on Python 3.11.
    command = [python, "-W", "error", "-W", "ignore:SelectableGroups dict interface:DeprecationWarning", str(program)]
    printed = run(command, tmp_path, {"OTEL_EXPORTER_OTLP_ENDPOINT": collector.url})
    [span] = collector.spans
    assert (span.name, span.project) == ("__main__.headers", "demo")
    assert f"00-{span.trace_id}-{span.span_id}-" in printed
    assert f"session_id={span.session}" in printed

    # With nothing but what it names: neither the SDK nor a framework.
    installed = pip(python, tmp_path, "list", "--format=freeze")
    names = {line.partition("==")[0] for line in installed.split()} - {"pip", "setuptools", "wheel"}
    assert names <= {
        "tracebaton",
        "opentelemetry-api",
        "typing_extensions",
        "importlib_metadata",
        "zipp",
        "Deprecated",
        "wrapt",
    }
    pip(python, tmp_path, "check")
    command_line = str(tmp_path / "venv" / "bin" / "tracebaton-run")
    program.write_text("import honeyhive\nprint(honeyhive.trace.__module__)\n", encoding="utf-8")
    assert run([command_line, str(program)], tmp_path) == "tracebaton._decorate\n"


def test_the_wheel_holds_what_it_should() -> None:
    with zipfile.ZipFile(WHEELS[0]) as wheel:
        names = set(wheel.namelist())
        [metadata] = [name for name in names if name.endswith(".dist-info/METADATA")]
        about = Parser().parsestr(wheel.read(metadata).decode())
    assert "-cp310-abi3-" in WHEELS[0].name
    assert {"tracebaton/py.typed", "tracebaton/_native.pyi", "tracebaton/_native.abi3.so"} <= names
    assert {"tracebaton/_honeyhive/hook/sitecustomize.py", "tracebaton_pytest/__init__.py"} <= names
    # Under tracebaton-run alone: nothing of that name is installed.
    assert not [name for name in names if name.startswith("honeyhive") or "__pycache__" in name]
    assert (about["Requires-Python"], about["License-Expression"]) == (">=3.10", "MIT OR Apache-2.0")
    assert [name.partition(">")[0] for name in about.get_all("Requires-Dist", [])] == ["opentelemetry-api"]
    assert str(about.get_payload()).strip() == README.read_text(encoding="utf-8").strip()


@pytest.mark.skipif(shutil.which("cargo") is None, reason="there is no Rust")
def test_the_sdist_builds_a_wheel_that_works(collector: Collector, tmp_path: Path) -> None:
    """Out of the checkout, so that what it lacks would be missing; without optimisation, which takes time."""
    maturin = str(Path(sys.executable).parent / "maturin")
    manifest = str(ROOT / "bindings-python" / "Cargo.toml")
    run([maturin, "sdist", "--manifest-path", manifest, "--out", str(tmp_path)], tmp_path)
    [sdist] = tmp_path.glob("tracebaton-*.tar.gz")
    with tarfile.open(sdist) as archive:
        inside = {name.partition("/")[2] for name in archive.getnames()}
    assert {"Cargo.lock", "pyproject.toml", "PKG-INFO", "core/src/lib.rs", "export/src/lib.rs"} <= inside

    python = empty_environment(sys.executable, tmp_path / "venv")
    more = {"MATURIN_PEP517_ARGS": "--profile dev", "CARGO_TARGET_DIR": str(ROOT / "target" / "sdist")}
    pip(python, tmp_path, "install", str(sdist), more=more)
    program = tmp_path / "example.py"
    program.write_text(readme_example() + "\nprint(headers())\n", encoding="utf-8")
    run([python, str(program)], tmp_path, {"OTEL_EXPORTER_OTLP_ENDPOINT": collector.url})
    assert [span.name for span in collector.spans] == ["__main__.headers"]

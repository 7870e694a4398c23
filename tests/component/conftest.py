"""The hosts that the tests run in: `--hosts python,plain` unless others are named, or all with `--hosts all`."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import hosts
import programs
import pytest

# What reads the vectors.
sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "vectors"))

HERE = ("python", "plain")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--hosts", default=",".join(HERE), help="names of programs.HOSTS, python, plain, or all")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "host" in metafunc.fixturenames:
        asked = metafunc.config.getoption("--hosts")
        names = [*HERE, *programs.HOSTS] if asked == "all" else asked.split(",")
        metafunc.parametrize("host", names, indirect=True, scope="session")


@pytest.fixture(scope="session")
def known() -> dict[str, Any]:
    return hosts.types()


@pytest.fixture(scope="session")
def host(
    request: pytest.FixtureRequest, known: dict[str, Any], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Any]:
    match request.param:
        case "python":
            yield hosts.Component()
        case "plain":
            yield hosts.Plain(known)
        case name:
            program = programs.start(name, known, tmp_path_factory.mktemp(name))
            yield program
            program.close()

"""What the tests of tracebaton-run share."""

from __future__ import annotations

import os
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest
from launched import Backend, Write, settings


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if os.name == "nt" and item.path.parent.name == "run":
            item.add_marker(pytest.mark.skip(reason="the signals and folders of POSIX"))


@pytest.fixture
def backend() -> Iterator[Backend]:
    backend = Backend()
    yield backend
    backend.close()


@pytest.fixture
def environment(backend: Backend) -> dict[str, str]:
    """The environment of a program that reports to the backend."""
    return settings(backend.url)


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def write(name: str, text: str) -> str:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(textwrap.dedent(text))
        return name

    return write

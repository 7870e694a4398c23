"""The pytest plugin of tracebaton: the fixture `tracebaton_spans`.

A package of its own, since pytest imports its plugins in every run: it takes tracebaton in where a test asks for it.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tracebaton.testing import Recording


@pytest.fixture
def tracebaton_spans() -> Iterator[Recording]:
    """The spans of one test, kept in memory: a `tracebaton.testing.Recording`, whose tracer is the default one."""
    from tracebaton.testing import recording

    with recording() as spans:
        yield spans

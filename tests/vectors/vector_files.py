"""Reading the files of this folder, for what is written in Python."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

VECTORS = Path(__file__).resolve().parent


def written_out(value: Any) -> Any:
    """The value with `$text`, `$join` and `$list` written out, innermost first."""
    if isinstance(value, list):
        return [written_out(item) for item in value]
    if not isinstance(value, dict):
        return value
    inner = {key: written_out(item) for key, item in value.items()}
    match inner:
        case {"$text": [text, times]}:
            return text * times
        case {"$join": parts}:
            return "".join(parts)
        case {"$list": [item, times]}:
            return [item] * times
        case _:
            return inner


def cases_of(name: str) -> list[dict[str, Any]]:
    """The cases of `name.json`."""
    text = (VECTORS / f"{name}.json").read_text(encoding="utf-8")
    return [written_out(case) for case in json.loads(text)["cases"]]


def cases(name: str, wanted: Callable[[dict[str, Any]], bool] = lambda _: True) -> Any:
    """Has pytest call a test with each wanted `case` of `name.json`, of which there must be one."""
    import pytest

    chosen = [case for case in cases_of(name) if wanted(case)]
    assert chosen, name
    return pytest.mark.parametrize("case", [pytest.param(case, id=case["name"]) for case in chosen])

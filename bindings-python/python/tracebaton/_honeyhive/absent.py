"""What to say of names that the `honeyhive` package has and tracebaton has not."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

API_VERSION = "1.5.1"
"""The version of the `honeyhive` package whose names these are."""

_REST_MODULES = frozenset({"honeyhive.api", "honeyhive.cli"})
_REST_NAMES = frozenset({"HoneyHive", "api", "cli"})
_EVALUATION_MODULES = frozenset({"honeyhive.evaluation", "honeyhive.experiments"})
_EVALUATION_NAMES = frozenset(
    {
        "EvaluationConfig",
        "EvaluationContext",
        "EvaluationResult",
        "aevaluator",
        "compare_runs",
        "evaluate",
        "evaluation",
        "evaluator",
        "experiments",
        "get_run_metrics",
        "get_run_result",
    }
)


def sentence(module: str, name: str) -> str:
    """Why `name` cannot be had from `module`, and what to do."""
    what = f"cannot import {name!r} from {module!r} under tracebaton-run: "
    elsewhere = "; run what needs it with the honeyhive package itself, without tracebaton-run"
    if module in _EVALUATION_MODULES or name in _EVALUATION_NAMES:
        return f"{what}it is part of HoneyHive's evaluation, and tracebaton only records and sends traces{elsewhere}"
    if module in _REST_MODULES or name in _REST_NAMES or module == "honeyhive.models":
        return f"{what}it is part of HoneyHive's REST client, and tracebaton only records and sends traces{elsewhere}"
    return f"{what}it is not among the names of honeyhive {API_VERSION} that tracebaton provides{elsewhere}"


def attribute_of(module: str) -> Callable[[str], Any]:
    """The `__getattr__` of a module: says of an absent name what importing it would say."""

    def absent(name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(f"module {module!r} has no attribute {name!r}")
        raise AttributeError(sentence(module, name), name=name)

    return absent

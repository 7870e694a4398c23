"""Answers imports of `honeyhive` in a process that tracebaton-run started.

Imports nothing that Python has not loaded by then, until the program imports `honeyhive`: every Python process below
tracebaton-run loads this, perhaps with another interpreter. That this module is loaded tells tracebaton where it runs.
"""

from __future__ import annotations

import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from importlib.machinery import ModuleSpec
    from types import ModuleType

_NAME = "honeyhive"
_FOLDER = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), _NAME)


class Finder:
    """Finds `honeyhive` and its modules in tracebaton, installed or not."""

    @staticmethod
    def find_spec(
        fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """The import system's question: where a module is; `None` for all but ours."""
        if fullname != _NAME and not fullname.startswith(_NAME + "."):
            return None
        import importlib.machinery
        import importlib.util

        if fullname == _NAME:
            if importlib.util.find_spec("tracebaton") is None:
                raise ImportError(
                    f"this program runs under tracebaton-run, but {sys.executable} has no tracebaton; "
                    "install it there: pip install tracebaton",
                    name=fullname,
                )
            file = os.path.join(_FOLDER, "__init__.py")
            return importlib.util.spec_from_file_location(fullname, file, submodule_search_locations=[_FOLDER])
        spec = importlib.machinery.PathFinder.find_spec(fullname, path)
        if spec is None:
            # `from honeyhive import name` ends here too, for a name that the module does not have.
            from tracebaton._honeyhive.absent import sentence

            module, _, name = fullname.rpartition(".")
            raise ImportError(sentence(module, name), name=fullname)
        return spec


def install() -> None:
    """Puts the finder before all others, so that an installed `honeyhive` is not found."""
    sys.meta_path.insert(0, Finder)

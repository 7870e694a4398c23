"""Runs when Python starts under tracebaton-run; then hands over to the environment's own `sitecustomize`."""

import os
import sys

import _tracebaton_hook

_tracebaton_hook.install()

# Others see the `sys.path` that they would see without us; PYTHONPATH itself stays, for child processes.
_folder = os.path.dirname(__file__)
sys.path[:] = [entry for entry in sys.path if entry != _folder]

_this = sys.modules.pop(__name__)
try:
    import sitecustomize  # noqa: F401
except ImportError as _error:
    if _error.name != __name__:
        raise
finally:
    # The import system wants a module here, whatever came of the other one.
    sys.modules.setdefault(__name__, _this)

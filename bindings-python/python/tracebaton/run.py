"""`tracebaton-run`: runs a program written for the `honeyhive` package on tracebaton, unmodified.

    tracebaton-run script.py [ARGUMENT ...]
    tracebaton-run -m module [ARGUMENT ...]
    tracebaton-run command [ARGUMENT ...]        an installed command, such as flask or gunicorn

This process becomes the program: a new interpreter takes its place under the same process id, so that arguments,
`sys.path`, exit code, tracebacks and signals are the program's own. A folder in front of PYTHONPATH has Python start
there with a hook (`sitecustomize`) that answers imports of `honeyhive`; the environment hands it on to child processes.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import sysconfig
from collections.abc import MutableMapping, Sequence
from pathlib import Path
from typing import NoReturn

HOOK_FOLDER = str(Path(__file__).resolve().parent / "_honeyhive" / "hook")
"""What goes in front of PYTHONPATH."""

_USAGE = """\
usage: tracebaton-run script.py [ARGUMENT ...]
       tracebaton-run -m module [ARGUMENT ...]
       tracebaton-run command [ARGUMENT ...]

Runs a program written for the honeyhive package on tracebaton, unmodified, with its child processes.
HH_API_KEY, HH_PROJECT and HH_API_URL mean what they mean to honeyhive.
Put interpreter options before: python -X dev -m tracebaton.run script.py
"""
_PYTHON_SUFFIXES = (".py", ".pyc", ".pyw", ".pyz")
_NOT_FOUND = 127
_CANNOT_RUN = 126


def main() -> NoReturn:
    """The command `tracebaton-run`: becomes the program that the command line names."""
    _run(sys.argv[1:], [])


def _run(arguments: Sequence[str], options: Sequence[str]) -> NoReturn:
    if not arguments or arguments[0] in ("-h", "--help"):
        print(_USAGE, end="", file=sys.stdout if arguments else sys.stderr)
        sys.exit(0 if arguments else 2)
    if arguments[0].startswith("-") and not arguments[0].startswith("-m"):
        _fail(2, f"unknown option {arguments[0]}; see tracebaton-run --help")
    if arguments[0] == "-m" and len(arguments) == 1:
        _fail(2, "-m needs the name of a module")
    command = command_of(arguments, options)
    if command is None:
        _fail(_NOT_FOUND, f"there is no script and no command {arguments[0]!r}")
    hook_in(os.environ)
    _become(command)


def command_of(arguments: Sequence[str], options: Sequence[str]) -> list[str] | None:
    """The command line of the program: an interpreter's, or the path of an installed command; none if there is none.

    A name without a folder is a command, unless it ends as Python files do. Commands beside this interpreter come
    before those on PATH: they can import tracebaton.
    """
    name = arguments[0]
    interpreter = [sys.executable, *options, *arguments]
    if name.startswith("-m") or name.endswith(_PYTHON_SUFFIXES):
        return interpreter
    if os.path.dirname(name):
        runs_itself = os.path.isfile(name) and os.access(name, os.X_OK)
        return list(arguments) if runs_itself else interpreter
    found = shutil.which(name, path=sysconfig.get_path("scripts")) or shutil.which(name)
    if found is not None:
        return [found, *arguments[1:]]
    return interpreter if os.path.exists(name) else None


def hook_in(environment: MutableMapping[str, str]) -> None:
    """Has Python processes that get this environment answer imports of `honeyhive` from here."""
    before = environment.get("PYTHONPATH", "")
    others = [entry for entry in before.split(os.pathsep) if entry != HOOK_FOLDER] if before else []
    environment["PYTHONPATH"] = os.pathsep.join([HOOK_FOLDER, *others])


def _become(command: list[str]) -> NoReturn:
    sys.stdout.flush()
    sys.stderr.flush()
    if os.name == "nt":
        # There, exec leaves whoever waits for this process with the wrong one. Ctrl-C goes to both.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        sys.exit(subprocess.call(command))
    # Python ignores these, and what is ignored stays so across exec.
    for name in ("SIGPIPE", "SIGXFSZ"):
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), signal.SIG_DFL)
    try:
        os.execv(command[0], command)
    except OSError as error:
        _fail(_CANNOT_RUN, f"cannot run {command[0]!r}: {error.strerror}")


def _fail(code: int, sentence: str) -> NoReturn:
    print(f"tracebaton-run: {sentence}", file=sys.stderr)  # noqa: T201
    sys.exit(code)


if __name__ == "__main__":
    if sys.flags.ignore_environment:
        _fail(2, "cannot work with the options -I and -E, which keep Python from reading PYTHONPATH")
    # The options of this interpreter are the program's: `python -X dev -m tracebaton.run`.
    _run(sys.argv[1:], subprocess._args_from_interpreter_flags())  # type: ignore[attr-defined]

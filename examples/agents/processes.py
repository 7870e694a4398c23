"""Starting programs, waiting until they are ready, and stopping them whatever happens. Standard library only."""

from __future__ import annotations

import contextlib
import os
import queue
import re
import signal
import subprocess
import threading
import time
from pathlib import Path

_TAIL_LINES = 30
_STOP_SECONDS = 10


class Failed(Exception):
    """A program did not do what it was started for. The message ends with the end of what it wrote."""


class Process:
    """A running program. Its stdout is read line by line, its stderr goes to a file."""

    def __init__(self, name: str, command: list[str], environment: dict[str, str], folder: Path) -> None:
        self.name = name
        self._stderr = folder / f"{name}.stderr"
        self._lines: queue.Queue[str | None] = queue.Queue()
        self.output: list[str] = []
        with open(self._stderr, "wb") as stderr:
            try:
                # In its own process group, so that it and its children can be stopped together.
                self._popen = subprocess.Popen(
                    command,
                    env=environment,
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.PIPE,
                    stderr=stderr,
                    encoding="utf-8",
                    errors="replace",
                    start_new_session=True,
                )
            except OSError as error:
                raise Failed(f"{name} could not be started: {error}") from None
        self._reader = threading.Thread(target=self._read, name=f"stdout of {name}", daemon=True)
        self._reader.start()

    @property
    def pid(self) -> int:
        """The id of the process."""
        return self._popen.pid

    def wait_for_address(self, seconds: float) -> str:
        """The URL in the line that the program prints when it is ready: `… listening on URL`."""
        return self.wait_for_line(r"listening on (\S+)", seconds)

    def wait_for_line(self, pattern: str, seconds: float) -> str:
        """What the group of `pattern` holds in the first line of stdout in which the pattern is found."""
        deadline = time.monotonic() + seconds
        while (line := self._next_line(deadline)) is not None:
            if found := re.search(pattern, line):
                return found[1]
        if (code := self._popen.poll()) is not None:
            raise self.failed(f"exited with code {code} before it was ready")
        raise self.failed(f"did not say within {seconds:g} s where it listens")

    def wait_for_exit(self, seconds: float) -> list[str]:
        """The lines that it printed; raises `Failed` if it takes longer or exits with another code than 0."""
        try:
            code = self._popen.wait(seconds)
        except subprocess.TimeoutExpired:
            raise self.failed(f"is still running after {seconds:g} s") from None
        self._reader.join(_STOP_SECONDS)
        if code != 0:
            raise self.failed(f"exited with code {code}")
        return self.output

    def stop(self) -> int:
        """Ends it, with force if it does not obey (or if Ctrl-C comes meanwhile), and returns its exit code."""
        self._signal(signal.SIGTERM)
        try:
            self._popen.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            pass
        finally:
            self._signal(signal.SIGKILL)
        code = self._popen.wait()
        self._reader.join(_STOP_SECONDS)
        return code

    def failed(self, what: str) -> Failed:
        """The error to raise, with the end of the program's stdout and stderr."""
        written = self._stderr.read_text(encoding="utf-8", errors="replace").splitlines()
        tail = [f"  {line}" for line in self.output[-_TAIL_LINES:] + written[-_TAIL_LINES:]]
        return Failed("\n".join([f"{self.name} {what}", *(tail or ["  (it wrote nothing)"])]))

    def _read(self) -> None:
        assert self._popen.stdout is not None
        with self._popen.stdout as stdout:
            for line in stdout:
                self.output.append(line.rstrip("\n"))
                self._lines.put(line)
        self._lines.put(None)

    def _next_line(self, deadline: float) -> str | None:
        """The next line of stdout; none if there will be no more or the deadline passes."""
        try:
            return self._lines.get(timeout=max(0.0, deadline - time.monotonic()))
        except queue.Empty:
            return None

    def _signal(self, number: int) -> None:
        # Not reaped yet, so that the id cannot have become another's.
        if self._popen.poll() is None:
            os.killpg(self._popen.pid, number)


class Stage:
    """The running programs: all that are left are stopped at the end of the `with` block, the last started first."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._ends = contextlib.ExitStack()
        self._left: list[Process] = []

    def __enter__(self) -> Stage:
        return self

    def __exit__(self, *_: object) -> None:
        # Goes on to the next one if stopping one of them raises.
        self._ends.close()

    def start(self, name: str, command: list[str], environment: dict[str, str]) -> Process:
        """Starts a program that this stage will stop."""
        process = Process(name, command, environment, self.folder)
        self._ends.callback(self._end, process)
        return process

    def leave_running(self, process: Process) -> None:
        """Takes a program off the stage: it goes on after the end."""
        self._left.append(process)

    def _end(self, process: Process) -> None:
        if process not in self._left:
            process.stop()

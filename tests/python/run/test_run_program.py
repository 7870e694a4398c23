"""A program under tracebaton-run is what it is without: arguments, `sys.path`, exit codes, signals, tracebacks."""

from __future__ import annotations

import json
import signal
import sys
from pathlib import Path

import pytest
from launched import Backend, Write, run, succeed


def test_an_error_has_the_name_of_its_status(
    backend: Backend, environment: dict[str, str], tmp_path: Path, write: Write
) -> None:
    program = """\
        import sys
        from honeyhive import HoneyHiveTracer, trace
        tracer = HoneyHiveTracer.init(source="failing")

        @trace
        def fails():
            raise LookupError("not here")

        fails()
        """
    result = run([write("failing.py", program)], environment, tmp_path)
    plain = "def fails():\n    raise LookupError('not here')\n\nfails()\n"
    expected = run([write("plain.py", plain)], environment, tmp_path, [sys.executable])
    assert result.returncode == expected.returncode == 1
    assert result.stderr.splitlines()[-1] == expected.stderr.splitlines()[-1] == "LookupError: not here"
    assert "tracebaton-run" not in result.stderr
    assert "sitecustomize" not in result.stderr
    span = backend.raw_span("__main__.fails")
    assert span["status"] == {"code": "STATUS_CODE_ERROR", "message": "LookupError: not here"}


PROBE = """\
    import json, os, sys
    print(json.dumps({
        "argv": sys.argv,
        "path": sys.path,
        "name": __name__,
        "file": os.path.basename(__file__),
        "modules": sorted(name for name in sys.modules if name.partition(".")[0] in ("tracebaton", "opentelemetry")),
        "flags": [sys.flags.dev_mode, sys.flags.optimize],
    }))
    """


@pytest.mark.parametrize("how", [["probe.py"], ["./probe.py"], ["-m", "probe"], ["-m", "package"], ["package"]])
def test_a_program_sees_what_it_sees_without(
    how: list[str], environment: dict[str, str], tmp_path: Path, write: Write
) -> None:
    write("probe.py", PROBE)
    write("package/__main__.py", PROBE)
    arguments = [*how, "one", "-m", "--two", ""]
    expected = json.loads(succeed(arguments, environment, tmp_path, [sys.executable]))
    assert json.loads(succeed(arguments, environment, tmp_path)) == expected
    assert json.loads(succeed(arguments, environment, tmp_path, [sys.executable, "-m", "tracebaton.run"])) == expected
    assert expected["modules"] == []


def test_interpreter_options_are_the_programs(environment: dict[str, str], tmp_path: Path, write: Write) -> None:
    launcher = [sys.executable, "-W", "ignore", "-X", "dev", "-O", "-m", "tracebaton.run"]
    assert json.loads(succeed([write("probe.py", PROBE)], environment, tmp_path, launcher))["flags"] == [True, 1]


@pytest.mark.parametrize(
    ("end", "code"),
    [
        ("sys.exit(7)", 7),
        ("sys.exit('a reason')", 1),
        ("os._exit(9)", 9),
        ("os.kill(os.getpid(), signal.SIGTERM)", -signal.SIGTERM),
        ("os.kill(os.getpid(), signal.SIGINT)", -signal.SIGINT),
    ],
)
def test_the_end_of_the_program_is_the_end_of_the_command(
    end: str, code: int, environment: dict[str, str], tmp_path: Path, write: Write
) -> None:
    program = write("ends.py", f"import honeyhive, os, signal, sys\n{end}\n")
    assert run([program], environment, tmp_path).returncode == code


def test_a_command_of_another_kind_gets_the_signals_that_python_ignores(
    environment: dict[str, str], tmp_path: Path
) -> None:
    assert run(["sh", "-c", "kill -PIPE $$"], environment, tmp_path).returncode == -signal.SIGPIPE


def test_the_environments_own_sitecustomize_runs(environment: dict[str, str], tmp_path: Path, write: Write) -> None:
    write("site/sitecustomize.py", "import sys\nsys.customized = __file__\n")
    program = write("main.py", "import honeyhive, sys, sitecustomize\nprint(sys.customized, sitecustomize.__file__)\n")
    folder = str(tmp_path / "site")
    own = str(tmp_path / "site" / "sitecustomize.py")
    assert succeed([program], {**environment, "PYTHONPATH": folder}, tmp_path) == f"{own} {own}\n"

    write("site/sitecustomize.py", "raise ValueError('broken')\n")
    result = run([write("two.py", "import honeyhive\nprint('ran')\n")], {**environment, "PYTHONPATH": folder}, tmp_path)
    assert result.stdout == "ran\n"
    assert "ValueError: broken" in result.stderr


def test_an_interpreter_without_tracebaton_says_so(environment: dict[str, str], tmp_path: Path, write: Write) -> None:
    # -S leaves site-packages out; the hook is loaded by hand, as `site` would.
    program = """\
        import subprocess, sys
        code = "import sitecustomize, sys; print(len(sys.path)); import honeyhive"
        raise SystemExit(subprocess.call([sys.executable, "-S", "-c", code]))
        """
    result = run([write("bare.py", program)], environment, tmp_path)
    assert result.returncode == 1
    assert "has no tracebaton; install it there" in result.stderr.splitlines()[-1]


@pytest.mark.parametrize(
    ("arguments", "code", "sentence"),
    [
        ([], 2, "usage: tracebaton-run"),
        (["-m"], 2, "-m needs the name of a module"),
        (["--verbose", "x.py"], 2, "unknown option --verbose"),
        (["no-such-command"], 127, "there is no script and no command 'no-such-command'"),
        (["missing.py"], 2, "can't open file"),
    ],
)
def test_a_wrong_command_line(
    arguments: list[str], code: int, sentence: str, environment: dict[str, str], tmp_path: Path
) -> None:
    result = run(arguments, environment, tmp_path)
    assert result.returncode == code
    assert sentence in result.stderr

"""The names of `honeyhive` under tracebaton-run, and that nobody else has them."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest
from launched import Write, run, succeed


def test_the_real_honeyhive_is_not_found(environment: dict[str, str], tmp_path: Path, write: Write) -> None:
    write("honeyhive/__init__.py", "print('the real one')\n")
    program = write("which.py", "import honeyhive\nprint(honeyhive.__version__)\n")
    assert succeed([program], environment, tmp_path) == "1.5.1\n"
    assert succeed(["-c", "import honeyhive"], environment, tmp_path, [sys.executable]) == "the real one\n"


def test_another_process_has_no_honeyhive(environment: dict[str, str], tmp_path: Path) -> None:
    program = "import tracebaton, tracebaton._honeyhive.absent, honeyhive"
    result = run(["-c", program], environment, tmp_path, [sys.executable])
    assert result.stderr.splitlines()[-1] == "ModuleNotFoundError: No module named 'honeyhive'"


def test_the_first_tracer_is_opentelemetrys_global_one(
    environment: dict[str, str], tmp_path: Path, write: Write
) -> None:
    program = """\
        from opentelemetry import trace as api
        from honeyhive import HoneyHiveTracer
        from honeyhive.tracer import get_global_provider

        if {set_first}:
            class Other(api.NoOpTracerProvider):
                pass
            api.set_tracer_provider(Other())
        first, second = HoneyHiveTracer.init({arguments}), HoneyHiveTracer.init()
        assert get_global_provider() is api.get_tracer_provider()
        print([api.get_tracer_provider() is tracer.provider for tracer in (first, second)])
        """
    for set_first, arguments, expected in (
        (False, "", "[True, False]\n"),
        (True, "", "[False, False]\n"),
        (False, "set_global=False", "[False, True]\n"),
    ):
        name = write("globals.py", program.format(set_first=set_first, arguments=arguments))
        result = run([name], environment, tmp_path)
        assert (result.stdout, result.stderr) == (expected, "")
    plain = "import tracebaton\nfrom opentelemetry import trace\nt = tracebaton.Tracer.init()\n"
    plain += "print(trace.get_tracer_provider() is t.provider)\n"
    assert succeed(["-c", plain], environment, tmp_path, [sys.executable]) == "False\n"


@pytest.mark.parametrize(
    ("statement", "reason"),
    [
        ("from honeyhive import HoneyHive", "REST client"),
        ("from honeyhive import evaluate", "evaluation"),
        ("from honeyhive.experiments import evaluate", "evaluation"),
        ("import honeyhive.api.client", "REST client"),
        ("from honeyhive.models import CreateEventRequest", "REST client"),
        ("from honeyhive.tracer import nothing_of_theirs", "not among the names of honeyhive 1.5.1"),
    ],
)
def test_a_name_that_is_absent_says_why(
    statement: str, reason: str, environment: dict[str, str], tmp_path: Path, write: Write
) -> None:
    program = f"""\
        import honeyhive
        try:
            {statement}
        except ImportError as error:
            print(error)
        assert not hasattr(honeyhive, "HoneyHive")
        """
    said = succeed([write("absent.py", program)], environment, tmp_path)
    assert said.startswith("cannot import ")
    assert reason in said
    assert "the honeyhive package itself" in said


def test_the_names_work(environment: dict[str, str], tmp_path: Path, write: Write) -> None:
    program = """\
        import asyncio, logging, pickle
        from honeyhive import (
            DotDict, HoneyHiveTracer, atrace, enrich_span, flush, get_logger, set_default_tracer, trace, trace_class,
        )
        from honeyhive.models import EventType
        from honeyhive.tracer import clear_registry, get_default_tracer, graceful_shutdown_all, shutdown_tracer
        from honeyhive.tracer.processing.context import enrich_span_context, get_current_baggage

        first = HoneyHiveTracer.init(source="first", project="proj")
        second = HoneyHiveTracer.init(source="second")
        assert get_default_tracer() is first
        set_default_tracer(second)
        assert get_default_tracer() is second
        set_default_tracer(None)

        with enrich_span_context("block", event_type=EventType.model) as span:
            assert enrich_span({"one": 1}, metrics={"m": 2.5})
            with enrich_span(two=2) as same:
                assert same is span
            assert not enrich_span(metadata={"x": 1}, tracer=second)
            assert span.attributes["honeyhive_event_type"] == "model"
            assert span.attributes["honeyhive_metadata.one"] == 1
            assert span.attributes["honeyhive_metadata.two"] == 2
            baggage = get_current_baggage()
            assert (baggage["session_id"], baggage["source"]) == (first.session_id, "first"), baggage
            assert baggage["project"] == "proj"
        assert not enrich_span(metadata={"nowhere": 1})

        @atrace(event_type="tool")
        def plain(x):
            return x

        @atrace(event_type="tool")
        async def coroutine(x):
            return x

        assert plain(1) == asyncio.run(coroutine(1)) == 1

        names = []

        class Processor:
            def on_start(self, span, parent_context=None):
                names.append(span.name)
            def on_end(self, span):
                pass
            def shutdown(self):
                pass

        first.provider.add_span_processor(Processor())

        def decorated(cls):
            @cls
            class Shop:
                size = 3
                class Inner:
                    def quiet(self):
                        return "inner"
                def __init__(self):
                    self.stock = 1
                def sell(self, n):
                    self.stock -= n
                    return self.stock
                @classmethod
                def make(cls):
                    return cls()
                @staticmethod
                def add(a, b):
                    return a + b
                @property
                def left(self):
                    return self.stock
                @trace(event_name="own")
                def has_its_own(self):
                    return 1
                async def later(self):
                    return 2
                def _private(self):
                    return 3
            return Shop

        shop = decorated(trace_class(event_type="tool", event_name="shop")).make()
        assert (shop.sell(1), shop.add(1, 2), shop.left, shop.has_its_own(), shop._private()) == (0, 3, 0, 1, 3)
        assert shop.Inner().quiet() == "inner" and shop.make().left == 1 and asyncio.run(shop.later()) == 2
        assert names == ["shop.make", "shop.sell", "shop.add", "own", "shop.make", "shop.later"], names
        names.clear()
        assert decorated(trace_class).add(1, 1) == 2
        assert names == ["__main__.decorated.<locals>.Shop.add"], names
        for wrong in (lambda: trace_class(plain), lambda: trace_class("tool")(plain), lambda: trace_class(nonsense=1)):
            try:
                wrong()
            except TypeError:
                continue
            raise AssertionError("not refused")

        d = DotDict({"a": {"b": 1}}, c=2)
        assert d.a.b == d["a.b"] == d["a"]["b"] == 1 and d.c == 2 and "a.b" in d and "a.x" not in d
        d.a.b = 5
        d["n.m"] = 6
        assert d.to_dict() == {"a": {"b": 5}, "c": 2, "n": {"m": 6}} and type(d.to_dict()["a"]) is dict
        copy = d.copy()
        del copy["a.b"]
        assert d.a.b == 5 and d.get("a.z", 0) == 0 and not hasattr(d, "z")
        assert pickle.loads(pickle.dumps(d)) == d
        assert get_logger("some", verbose=True) is logging.getLogger("some")

        assert flush(first, 10_000) is True and flush() is True
        clear_registry()
        assert get_default_tracer() is None
        third = HoneyHiveTracer.init()
        assert get_default_tracer() is third
        assert shutdown_tracer(third) is True and graceful_shutdown_all() is True
        print("done")
        """
    assert succeed([write("names.py", program)], environment, tmp_path) == "done\n"


# Where each name of the package can be imported from, but for the REST client and evaluation.
DOCUMENTED = {
    "honeyhive": (
        *("HoneyHiveTracer", "trace", "atrace", "trace_class", "enrich_session", "enrich_span", "flush"),
        *("set_default_tracer", "DotDict", "get_logger"),
    ),
    "honeyhive.tracer": (
        *("HoneyHiveTracer", "trace", "atrace", "trace_class", "enrich_session", "enrich_span", "flush"),
        *("set_default_tracer", "get_default_tracer", "clear_registry", "shutdown_tracer", "graceful_shutdown_all"),
        *("set_global_provider", "get_global_provider", "HoneyHiveSpanProcessor"),
    ),
    "honeyhive.tracer.processing": ("enrich_span_context", "inject_context_into_carrier"),
    "honeyhive.tracer.processing.context": (
        *("enrich_span_context", "inject_context_into_carrier", "extract_context_from_carrier"),
        *("with_distributed_trace_context", "get_current_baggage", "setup_baggage_context"),
    ),
    "honeyhive.models": ("EventType",),
}


def test_every_documented_name_can_be_imported(environment: dict[str, str], tmp_path: Path, write: Write) -> None:
    lines = [f"from {module} import {name}\n" for module, names in DOCUMENTED.items() for name in names]
    succeed([write("imports.py", "".join(lines))], environment, tmp_path)


def test_the_documentation_maps_every_name() -> None:
    table = (Path(__file__).resolve().parents[3] / "docs" / "honeyhive.md").read_text(encoding="utf-8")
    for module, names in DOCUMENTED.items():
        for name in (module, *names):
            assert re.search(rf"[`.]@?{re.escape(name)}\b", table), name

"""Helpers for users' tests, the pytest plugin among them."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
from opentelemetry import propagate
from opentelemetry.trace import SpanKind
from tracebaton import Tracer, enrich_span_context, get_tracer, set_default_tracer, testing, trace

TREE = """
    answer (chain)
      look up (tool)
      think (model) ERROR
    later (tool)
"""


@trace(event_type="chain", event_name="answer")
def answer(question: str) -> str:
    with enrich_span_context("look up", event_type="tool", inputs={"key": 1}) as span:
        span.add_event("found", {"n": 2})
    with pytest.raises(ValueError, match="hm"), enrich_span_context("think", event_type="model"):
        raise ValueError("hm")
    return question


def record() -> None:
    answer("why?")
    with enrich_span_context("later", event_type="tool"):
        pass


def test_a_recording_keeps_the_spans() -> None:
    with testing.recording() as spans:
        record()
        spans.assert_tree(TREE)
        assert [span.name for span in spans.spans] == ["look up", "think", "answer", "later"]
        root = spans.named("answer")
        assert root.under("inputs") == {"question": "why?"}
        assert root.under("outputs") == {"result": "why?"}
        assert (root.kind, root.status, root.parent_id) == ("internal", "unset", "")
        assert root.session_id == spans.tracer.session_id
        think = spans.named("think")
        assert (think.status, think.error, think.status_message) == ("error", "hm", "ValueError: hm")
        assert [event.name for event in think.events] == ["exception"]
        assert spans.named("look up").events[0].attributes == {"n": 2}
        assert root.start_ns <= think.start_ns <= think.end_ns <= root.end_ns
        spans.clear()
        assert spans.tree() == ""
        record()
        assert spans.tree(types=False) == "answer\n  look up\n  think ERROR\nlater"


def test_what_was_before_is_there_again(tracer: Tracer) -> None:
    propagator = propagate.get_global_textmap()
    with testing.recording(session_id="tests") as spans:
        assert get_tracer() is spans.tracer
        assert spans.tracer.session_id == "tests"
    assert get_tracer() is tracer
    other = Tracer.init(exporter="none")
    set_default_tracer(other)
    with pytest.raises(ZeroDivisionError), testing.recording():
        raise ZeroDivisionError
    assert get_tracer() is other
    with testing.recording():
        other.shutdown()
    assert get_tracer() is tracer
    assert propagate.get_global_textmap() is propagator


def test_a_tree_that_is_another_one_shows_the_difference() -> None:
    with testing.recording() as spans:
        record()
        with pytest.raises(AssertionError) as failed:
            spans.assert_tree(TREE.replace("look up (tool)", "look it up (tool)").replace("    later (tool)\n", ""))
    assert str(failed.value).splitlines()[1:] == [
        *("--- expected", "+++ recorded", "@@ -1,3 +1,4 @@", " answer (chain)"),
        *("-  look it up (tool)", "+  look up (tool)", "   think (model) ERROR", "+later (tool)"),
    ]


def test_indentation_counts() -> None:
    with testing.recording() as spans:
        with enrich_span_context("a"), enrich_span_context("b"):
            pass
        spans.assert_tree("a\n  b\n", types=False)
        with pytest.raises(AssertionError):
            spans.assert_tree("a\nb", types=False)


def test_kinds_and_values(tracer: Tracer) -> None:
    attributes = {"list": [1, 2.5, "x", True], "none": None, "big": 2**60}
    with tracer.start_span("s", kind=SpanKind.SERVER, attributes=attributes):
        pass
    (span,) = testing.spans_of(tracer)
    assert span.kind == "server"
    assert span.attributes["big"] == 2**60
    assert span.attributes["list"][:1] == [1]


def test_a_name_that_is_not_there_says_which_are() -> None:
    with testing.recording() as spans:
        record()
        record()
        with pytest.raises(
            AssertionError, match=r"2 spans named 'later'; the names are: answer, later, look up, think"
        ):
            spans.named("later")
        with pytest.raises(AssertionError, match="0 spans"):
            spans.named("nothing")
    with pytest.raises(TypeError, match="tracer must be a Tracer, not int"):
        testing.spans_of(5)  # type: ignore[arg-type]


def test_the_plugin_in_a_run_of_pytest(tmp_path: Path) -> None:
    (tmp_path / "test_it.py").write_text(
        textwrap.dedent(
            """
            import sys

            import pytest

            loaded = "tracebaton" in sys.modules  # the plugin alone takes in nothing

            def test_nothing():
                assert not loaded

            @pytest.mark.parametrize("number", [1, 2])
            def test_spans(tracebaton_spans, number):
                import tracebaton

                with tracebaton.enrich_span_context(f"work {number}"):
                    pass
                tracebaton_spans.assert_tree(f"work {number}", types=False)

            def test_difference(tracebaton_spans):
                tracebaton_spans.assert_tree("missing")
            """
        )
    )
    run = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(tmp_path)]
    done = subprocess.run(run, capture_output=True, text=True, timeout=60, cwd=tmp_path, check=False)
    assert done.returncode == 1, done.stdout + done.stderr
    assert "1 failed, 3 passed" in done.stdout
    assert "-missing" in done.stdout
    assert "testing.py" not in done.stdout, "the helpers' own lines are of no interest"

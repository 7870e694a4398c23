"""`@trace`: a span for every call of a function, whatever kind of function it is.

The function runs exactly once whatever happens in tracing. A generator's span lasts until it is exhausted or closed,
and is current only while the generator's own code runs.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import AsyncGenerator, Callable, Generator, Mapping
from typing import Any, TypeVar, overload

from tracebaton import _native
from tracebaton._context import BLOCK_KEY, Block, current, set_current
from tracebaton._enrich import EnrichedBlock
from tracebaton._registry import choose
from tracebaton._span import Span
from tracebaton._tracer import Tracer

_F = TypeVar("_F", bound=Callable[..., Any])
_NO_ARGUMENTS: dict[str, Any] = {}


class _Plan:
    """What `@trace` was told about a function."""

    __slots__ = ("capture", "event_name", "fields", "function", "is_method", "session_id", "signature", "tracer")

    def __init__(
        self,
        function: Callable[..., Any],
        event_name: str | None,
        fields: Mapping[str, Any],
        tracer: Tracer | None,
        session_id: str | None,
        capture: bool | None,
    ) -> None:
        self.function = function
        self.event_name = (
            event_name or f"{function.__module__}.{getattr(function, '__qualname__', type(function).__name__)}"
        )
        self.fields = fields
        self.tracer = tracer
        self.session_id = session_id
        self.capture = capture
        self.signature: inspect.Signature | None
        try:
            self.signature = inspect.signature(function)
        except (TypeError, ValueError):  # some functions in C have none
            self.signature = None
        self.is_method = _is_method(self.signature, function)

    def block(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> EnrichedBlock | None:
        """The block for a call; none if it is not to be traced."""
        try:
            tracer = choose(self.tracer)
            if tracer is None:
                return None
            fields = self.fields
            if self.captures(tracer):
                inputs = self.inputs(args, kwargs)
                given = fields.get("inputs")
                if inputs:
                    fields = {**fields, "inputs": {**inputs, **given} if isinstance(given, Mapping) else inputs}
            return EnrichedBlock(tracer, self.event_name, fields, self.session_id)
        except Exception:
            _native.report("a call could not be traced")
            return None

    def captures(self, tracer: Tracer) -> bool:
        return tracer._captures if self.capture is None else self.capture

    def inputs(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
        """The arguments by name, without `self` or `cls`."""
        if self.signature is None:
            return dict(kwargs)
        try:
            bound = self.signature.bind(*args, **kwargs).arguments
        except TypeError:
            return _NO_ARGUMENTS  # the call itself will say what is wrong
        if self.is_method:
            bound.pop(next(iter(bound)), None)
        return bound

    def output(self, block: EnrichedBlock, result: Any) -> None:
        """Captures the result."""
        tracer = block.tracer
        if tracer is not None and self.captures(tracer):
            try:
                block.span._enrich("honeyhive_outputs.result", result)
            except Exception:
                _native.report("a result could not be captured")


def _is_method(signature: inspect.Signature | None, function: Callable[..., Any]) -> bool:
    first = next(iter(signature.parameters), None) if signature is not None else None
    return first in ("self", "cls") and "." in getattr(function, "__qualname__", "")


def _enter(block: EnrichedBlock) -> Span | None:
    try:
        return block.__enter__()
    except Exception:
        _native.report("a span could not be started")
        return None


def _traced(plan: _Plan) -> Callable[..., Any]:
    function = plan.function

    @functools.wraps(function)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        block = plan.block(args, kwargs)
        if block is None or _enter(block) is None:
            return function(*args, **kwargs)
        try:
            result = function(*args, **kwargs)
        except BaseException as error:
            block.__exit__(type(error), error, None)
            raise
        plan.output(block, result)
        block.__exit__(None, None, None)
        return result

    return wrapper


def _traced_async(plan: _Plan) -> Callable[..., Any]:
    function = plan.function

    @functools.wraps(function)
    async def wrapper(*args: Any, **kwargs: Any) -> Any:
        block = plan.block(args, kwargs)
        if block is None or _enter(block) is None:
            return await function(*args, **kwargs)
        try:
            result = await function(*args, **kwargs)
        except BaseException as error:
            block.__exit__(type(error), error, None)
            raise
        plan.output(block, result)
        block.__exit__(None, None, None)
        return result

    return wrapper


class _Steps:
    """The span of a generator, current only during the generator's own steps: what runs between them is its caller's,
    perhaps in another task or thread."""

    __slots__ = ("_context", "block", "items")

    def __init__(self, block: EnrichedBlock) -> None:
        self.block = block
        self.items = 0
        # Current when the generator begins, for its parent; not for whoever asks for the first item.
        self._context = current()
        block._leave()

    def run(self, step: Callable[..., Any], *args: Any) -> Any:
        """Does one step in the generator's context."""
        with _Step(self):
            return step(*args)

    async def run_async(self, step: Callable[..., Any], *args: Any) -> Any:
        with _Step(self):
            return await step(*args)

    def end(self, error: BaseException | None = None) -> None:
        span = self.block.span
        if error is not None:
            span.fail(error)
        elif span.is_recording():
            span.set_attribute("honeyhive_outputs.items", self.items)
        span.end()


class _Step(Block):
    __slots__ = ("_steps",)

    def __init__(self, steps: _Steps) -> None:
        self._steps = steps

    def __enter__(self) -> None:
        self._previous = current()
        self._context = self._steps._context
        set_current(self._context)

    def __exit__(self, *_: object) -> None:
        now = current()
        # What the generator attached for itself is there again at its next step.
        if now is self._context or now.get(BLOCK_KEY) is not self._previous.get(BLOCK_KEY):
            self._steps._context = now
            set_current(self._previous)


def _traced_generator(plan: _Plan) -> Callable[..., Any]:
    function = plan.function

    @functools.wraps(function)
    def wrapper(*args: Any, **kwargs: Any) -> Generator[Any, Any, Any]:
        block = plan.block(args, kwargs)
        if block is None or _enter(block) is None:
            return (yield from function(*args, **kwargs))
        steps = _Steps(block)
        try:
            generator = function(*args, **kwargs)
            step: Callable[..., Any] = generator.send
            sent: Any = None
            while True:
                try:
                    item = steps.run(step, sent)
                except StopIteration as stop:
                    steps.end()
                    return stop.value
                steps.items += 1
                try:
                    step, sent = generator.send, (yield item)
                except GeneratorExit:
                    steps.run(generator.close)
                    raise
                except BaseException as error:
                    step, sent = generator.throw, error
        except BaseException as error:
            steps.end(error)
            raise

    return wrapper


def _traced_async_generator(plan: _Plan) -> Callable[..., Any]:
    function = plan.function

    @functools.wraps(function)
    async def wrapper(*args: Any, **kwargs: Any) -> AsyncGenerator[Any, Any]:
        block = plan.block(args, kwargs)
        generator = function(*args, **kwargs)
        steps = _Steps(block) if block is not None and _enter(block) is not None else None

        async def run(step: Callable[..., Any], *sent: Any) -> Any:
            return await (step(*sent) if steps is None else steps.run_async(step, *sent))

        try:
            step: Callable[..., Any] = generator.asend
            sent: Any = None
            while True:
                try:
                    item = await run(step, sent)
                except StopAsyncIteration:
                    if steps is not None:
                        steps.end()
                    return
                if steps is not None:
                    steps.items += 1
                try:
                    step, sent = generator.asend, (yield item)
                except GeneratorExit:
                    await run(generator.aclose)
                    raise
                except BaseException as error:
                    step, sent = generator.athrow, error
        except BaseException as error:
            if steps is not None:
                steps.end(error)
            raise

    return wrapper


@overload
def trace(event_type: _F, /) -> _F: ...
@overload
def trace(
    event_type: str | None = None,
    event_name: str | None = None,
    *,
    tracer: Tracer | None = None,
    tracer_instance: Tracer | None = None,
    inputs: Mapping[str, Any] | None = None,
    outputs: object = None,
    metadata: Mapping[str, Any] | None = None,
    metrics: Mapping[str, Any] | None = None,
    feedback: Mapping[str, Any] | None = None,
    config: Mapping[str, Any] | None = None,
    span_config: Mapping[str, Any] | None = None,
    user_properties: Mapping[str, Any] | None = None,
    error: str | None = None,
    attributes: Mapping[str, Any] | None = None,
    event_id: str | None = None,
    user_id: str | None = None,
    session_id: str | None = None,
    session_name: str | None = None,
    source: str | None = None,
    project: str | None = None,
    capture: bool | None = None,
) -> Callable[[_F], _F]: ...
def trace(
    event_type: Any = None,
    event_name: str | None = None,
    *,
    tracer: Tracer | None = None,
    tracer_instance: Tracer | None = None,
    session_id: str | None = None,
    session_name: str | None = None,
    source: str | None = None,
    project: str | None = None,
    span_config: Mapping[str, Any] | None = None,
    capture: bool | None = None,
    **fields: Any,
) -> Any:
    """Records a span for every call of a function: `@trace`, or `@trace(event_type="chain", event_name="answer")`.

    Works on functions, coroutine functions, generators, async generators and methods. Arguments and result are
    captured (`capture=False` turns that off), secrets replaced. An exception is recorded and goes on unchanged. Where
    there is no tracer, the function runs as it is.
    """
    if _is_function(event_type):
        return _decorate(event_type, None, {}, None, None, None)
    for name, value in fields.items():
        if name not in _FIELDS:
            raise TypeError(f"trace() got an unexpected keyword argument {name!r}")
        _check(name, value, _FIELDS[name])
    for name, value, kind in (
        ("event_type", event_type, str),
        ("event_name", event_name, str),
        ("session_id", session_id, str),
        ("session_name", session_name, str),
        ("source", source, str),
        ("project", project, str),
        ("span_config", span_config, Mapping),
        ("capture", capture, bool),
    ):
        _check(name, value, kind)
    if event_type is not None:
        fields["event_type"] = getattr(event_type, "value", event_type)
    if span_config is not None:
        fields["config"] = {**span_config, **(fields.get("config") or {})}
    for name, value in (("session_name", session_name), ("source", source), ("project", project)):
        if value is not None:
            fields[name] = value
    if session_id:
        _native.check_session_id(session_id)
    chosen = tracer if tracer is not None else tracer_instance
    if chosen is not None:
        choose(chosen)

    def decorate(function: _F) -> _F:
        traced: _F = _decorate(function, event_name, fields, chosen, session_id or None, capture)
        return traced

    return decorate


_FIELDS: dict[str, type] = {
    "attributes": Mapping,
    "config": Mapping,
    "error": str,
    "event_id": str,
    "feedback": object,
    "inputs": object,
    "metadata": object,
    "metrics": object,
    "outputs": object,
    "user_id": str,
    "user_properties": object,
}


def _check(name: str, value: object, kind: type) -> None:
    """A value of another type is an error that names its argument."""
    if value is not None and not isinstance(value, kind):
        wanted = {str: "a str", bool: "a bool"}.get(kind, "a mapping")
        raise TypeError(f"{name} must be {wanted}, not {type(value).__name__}")


def _is_function(value: object) -> bool:
    return isinstance(value, (staticmethod, classmethod)) or (callable(value) and not isinstance(value, type))


def _decorate(function: Any, *about: Any) -> Any:
    if isinstance(function, (staticmethod, classmethod)):
        return type(function)(_decorate(function.__func__, *about))
    if not callable(function):
        raise TypeError(f"trace() takes a function, not {type(function).__name__}")
    plan = _Plan(function, *about)
    if inspect.isasyncgenfunction(function):
        return _traced_async_generator(plan)
    if inspect.iscoroutinefunction(function):
        return _traced_async(plan)
    if inspect.isgeneratorfunction(function):
        return _traced_generator(plan)
    return _traced(plan)


class _NoBlock:
    """What `enrich_span_context` is where there is no tracer: the block runs, nothing is recorded."""

    __slots__ = ()

    def __enter__(self) -> Any:
        from opentelemetry.trace import INVALID_SPAN

        return INVALID_SPAN

    def __exit__(self, *_: object) -> None:
        pass

    async def __aenter__(self) -> Any:
        return self.__enter__()

    async def __aexit__(self, *_: object) -> None:
        pass


def enrich_span_context(
    event_name: str,
    *,
    inputs: object = None,
    outputs: object = None,
    metadata: object = None,
    metrics: object = None,
    feedback: object = None,
    config: object = None,
    user_properties: object = None,
    error: str | None = None,
    attributes: Mapping[str, Any] | None = None,
    event_type: str | None = None,
    event_id: str | None = None,
    session_id: str | None = None,
    project: str | None = None,
    source: str | None = None,
    tracer: Tracer | None = None,
    tracer_instance: Tracer | None = None,
) -> Any:
    """A block, for `with` or `async with`, with a span of this name and these fields that is current inside.

    It yields the span. An exception that leaves the block is recorded on it and goes on unchanged.
    """
    if not isinstance(event_name, str):
        raise TypeError(f"event_name must be a str, not {type(event_name).__name__}")
    _check("session_id", session_id, str)
    if session_id:
        # Before the block, so that nothing fails half-way.
        _native.check_session_id(session_id)
    chosen = choose(tracer if tracer is not None else tracer_instance)
    if chosen is None:
        return _NoBlock()
    fields = {
        "inputs": inputs,
        "outputs": outputs,
        "metadata": metadata,
        "metrics": metrics,
        "feedback": feedback,
        "config": config,
        "user_properties": user_properties,
        "error": error,
        "attributes": attributes,
        "event_type": event_type,
        "event_id": event_id,
        "project": project,
        "source": source,
    }
    return EnrichedBlock(chosen, event_name, fields, session_id or None)

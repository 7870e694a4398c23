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
from tracebaton._native import EnrichedBlock
from tracebaton._registry import choose
from tracebaton._span import Span
from tracebaton._tracer import Tracer

_F = TypeVar("_F", bound=Callable[..., Any])
_NO_ARGUMENTS: dict[str, Any] = {}


class _Arguments:
    """The arguments of a function's calls, by name."""

    __slots__ = ("given", "is_method", "parameters", "signature")

    def __init__(self, function: Callable[..., Any], given: Mapping[str, Any] | None) -> None:
        self.given = given
        self.signature: inspect.Signature | None
        try:
            self.signature = inspect.signature(function)
        except (TypeError, ValueError):  # some functions in C have none
            self.signature = None
        self.is_method = _is_method(self.signature, function)
        self.parameters = _Parameters.of(self.signature)

    def names(self) -> list[str] | None:
        """The names where a call may give all of them by position, which needs nothing of this class."""
        parameters = self.parameters
        if self.given or parameters is None or len(parameters.positional) != len(parameters.names):
            return None
        return list(parameters.positional)

    def bind(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
        """Those of a call, without `self` or `cls`, and the inputs that the decorator was given over them."""
        bound = self._bind(args, kwargs)
        return {**bound, **self.given} if bound and self.given else bound

    def _bind(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
        if self.signature is None:
            return dict(kwargs)
        bound = None if self.parameters is None else self.parameters.bind(args, kwargs)
        if bound is None:
            try:
                bound = self.signature.bind(*args, **kwargs).arguments
            except TypeError:
                return _NO_ARGUMENTS  # the call itself will say what is wrong
        if self.is_method:
            bound.pop(next(iter(bound)), None)
        return bound


def _plan(
    function: Callable[..., Any],
    event_name: str | None,
    fields: Mapping[str, Any],
    tracer: Tracer | None,
    session_id: str | None,
    capture: bool | None,
) -> _native.Plan:
    """What `@trace` was told about a function."""
    name = event_name or f"{function.__module__}.{getattr(function, '__qualname__', type(function).__name__)}"
    arguments = _Arguments(function, fields.get("inputs"))
    return _native.Plan(
        name,
        {"event_name": name, **fields},
        tracer,
        session_id,
        capture,
        arguments.names(),
        int(arguments.is_method),
        arguments.bind,
    )


class _Parameters:
    """Binds the arguments of most calls as `Signature.bind` does, which takes a third of the time of a whole span."""

    __slots__ = ("names", "positional", "required")

    def __init__(self, parameters: Mapping[str, inspect.Parameter]) -> None:
        self.positional = tuple(
            name for name, it in parameters.items() if it.kind is inspect.Parameter.POSITIONAL_OR_KEYWORD
        )
        self.names = frozenset(parameters)
        self.required = frozenset(name for name, it in parameters.items() if it.default is inspect.Parameter.empty)

    @classmethod
    def of(cls, signature: inspect.Signature | None) -> _Parameters | None:
        """Those of a function whose every parameter has a name that a caller may use."""
        simple = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
        if signature is None or any(it.kind not in simple for it in signature.parameters.values()):
            return None
        return cls(signature.parameters)

    def bind(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any] | None:
        """The arguments by name; `None` where the call is not one that the function takes."""
        if not kwargs and len(args) == len(self.names) == len(self.positional):
            return dict(zip(self.positional, args))  # noqa: B905
        bound = dict(zip(self.positional, args))  # noqa: B905  # too many of them, or one twice, shows in the length
        bound.update(kwargs)
        names = bound.keys()
        fits = len(bound) == len(args) + len(kwargs) and self.required <= names <= self.names
        return bound if fits else None


def _is_method(signature: inspect.Signature | None, function: Callable[..., Any]) -> bool:
    first = next(iter(signature.parameters), None) if signature is not None else None
    return first in ("self", "cls") and "." in getattr(function, "__qualname__", "")


def _traced(function: Callable[..., Any], plan: _native.Plan) -> Callable[..., Any]:
    begin, end = plan.begin, plan.end

    @functools.wraps(function)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        block = begin(args, kwargs)
        if block is None:
            return function(*args, **kwargs)
        try:
            result = function(*args, **kwargs)
        except BaseException as error:
            block.__exit__(type(error), error, None)
            raise
        end(block, result)
        return result

    return wrapper


def _traced_async(function: Callable[..., Any], plan: _native.Plan) -> Callable[..., Any]:
    begin, end = plan.begin, plan.end

    @functools.wraps(function)
    async def wrapper(*args: Any, **kwargs: Any) -> Any:
        block = begin(args, kwargs)
        if block is None:
            return await function(*args, **kwargs)
        try:
            result = await function(*args, **kwargs)
        except BaseException as error:
            block.__exit__(type(error), error, None)
            raise
        end(block, result)
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
        if not isinstance(span, Span):
            return  # it could not be started
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


def _traced_generator(function: Callable[..., Any], plan: _native.Plan) -> Callable[..., Any]:
    @functools.wraps(function)
    def wrapper(*args: Any, **kwargs: Any) -> Generator[Any, Any, Any]:
        block = plan.begin(args, kwargs)
        if block is None:
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


def _traced_async_generator(function: Callable[..., Any], plan: _native.Plan) -> Callable[..., Any]:
    @functools.wraps(function)
    async def wrapper(*args: Any, **kwargs: Any) -> AsyncGenerator[Any, Any]:
        block = plan.begin(args, kwargs)
        generator = function(*args, **kwargs)
        steps = None
        if block is not None:
            steps = _Steps(block)

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
    plan = _plan(function, *about)
    if inspect.isasyncgenfunction(function):
        return _traced_async_generator(function, plan)
    if inspect.iscoroutinefunction(function):
        return _traced_async(function, plan)
    if inspect.isgeneratorfunction(function):
        return _traced_generator(function, plan)
    return _traced(function, plan)


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
    if session_id is not None:
        # Before the block, so that nothing fails half-way.
        _check("session_id", session_id, str)
        if session_id:
            _native.check_session_id(session_id)
    chosen = choose(tracer if tracer is not None else tracer_instance)
    if chosen is None:
        return _NoBlock()
    # Quicker than a dict of all of them, of which most are none.
    fields: dict[str, Any] = {"event_name": event_name}
    if inputs is not None:
        fields["inputs"] = inputs
    if outputs is not None:
        fields["outputs"] = outputs
    if metadata is not None:
        fields["metadata"] = metadata
    if metrics is not None:
        fields["metrics"] = metrics
    if feedback is not None:
        fields["feedback"] = feedback
    if config is not None:
        fields["config"] = config
    if user_properties is not None:
        fields["user_properties"] = user_properties
    if error is not None:
        fields["error"] = error
    if attributes is not None:
        fields["attributes"] = attributes
    if event_type is not None:
        fields["event_type"] = event_type
    if event_id is not None:
        fields["event_id"] = event_id
    if project is not None:
        fields["project"] = project
    if source is not None:
        fields["source"] = source
    return EnrichedBlock(chosen, event_name, fields, session_id or None)

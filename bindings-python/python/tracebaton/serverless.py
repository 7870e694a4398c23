"""AWS Lambda: every invocation in its caller's trace and session, delivered before the function is frozen.

tracer = Tracer.init()

@lambda_handler
def handler(event, context):
    ...
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import Any, TypeVar, overload

from tracebaton import _native
from tracebaton._http import authority, known_method
from tracebaton._native import Policy
from tracebaton._registry import choose, millis
from tracebaton._tracer import Tracer
from tracebaton.middleware import Middleware

_F = TypeVar("_F", bound=Callable[..., Any])
_RESERVE_MILLIS = 100
"""What is left of an invocation's time when a flush gives up."""


def lambda_carrier(event: object) -> Any:
    """The headers of an event of API Gateway (payload format 1.0 and 2.0), a function URL or a load balancer.

    Where both are there, `multiValueHeaders` has all values of a repeated header, and `headers` the last. An event that
    came another way, such as from a queue, has none.
    """
    if not isinstance(event, Mapping):
        return {}
    return event.get("multiValueHeaders") or event.get("headers") or {}


@overload
def lambda_handler(handler: _F, /) -> _F: ...
@overload
def lambda_handler(
    *,
    tracer: Tracer | None = None,
    policy: Policy | Mapping[str, Any] | None = None,
    spans: bool = True,
    sessions: bool = True,
    flush_millis: float = 2_000,
) -> Callable[[_F], _F]: ...
def lambda_handler(
    handler: Any = None,
    *,
    tracer: Tracer | None = None,
    policy: Policy | Mapping[str, Any] | None = None,
    spans: bool = True,
    sessions: bool = True,
    flush_millis: float = 2_000,
) -> Any:
    """Decorates the handler of a Lambda function.

    `tracer`: the one that is meant when it is invoked, unless one is given. `policy` overrides the tracer's. Each
    invocation has a SERVER span, of event type `chain`; not with `spans=False`. One whose caller sent no session has a
    session of its own; not with `sessions=False`. What an invocation leaves current ends with it: a warm start begins
    anew.

    What has ended is delivered before the handler returns, since the process is frozen then: for `flush_millis`
    milliseconds at most, and never past the time that the invocation has left. The handler's result or exception goes
    on unchanged.
    """
    limit = millis(flush_millis)

    def decorate(function: _F) -> _F:
        if not callable(function):
            raise TypeError(f"lambda_handler() takes a function, not {type(function).__name__}")
        middleware = Middleware(function, tracer, policy=policy, spans=spans, sessions=sessions)

        @functools.wraps(function)
        def invoke(event: Any, context: Any = None, *args: Any, **kwargs: Any) -> Any:
            try:
                carrier, name = lambda_carrier(event), _name(context)
            except Exception:
                carrier, name = None, "invocation"
            request = middleware._request(carrier, name, lambda: _attributes(event, context), lambda: None)
            if request is None:
                return function(event, context, *args, **kwargs)
            error = None
            try:
                result = function(event, context, *args, **kwargs)
                if isinstance(result, dict) and isinstance(result.get("statusCode"), int):
                    request.status(result["statusCode"])
                return result
            except BaseException as raised:
                error = raised
                raise
            finally:
                request._leave()
                request.end(error)
                _deliver(request.tracer, context, limit)

        return invoke  # type: ignore[return-value]  # it takes and returns what the function does

    return decorate if handler is None else decorate(handler)


def _deliver(tracer: Tracer | None, context: Any, limit: int) -> None:
    try:
        remaining = getattr(context, "get_remaining_time_in_millis", None)
        if callable(remaining):
            limit = min(limit, max(int(remaining()) - _RESERVE_MILLIS, 0))
        chosen = choose(tracer)
        if chosen is not None:
            chosen.flush(limit)
    except Exception:
        _native.report("what an invocation recorded could not be delivered")


def _name(context: Any) -> str:
    name = getattr(context, "function_name", None)
    return name if isinstance(name, str) and name else "invocation"


def _attributes(event: Any, context: Any) -> dict[str, Any]:
    found: dict[str, Any] = {
        "honeyhive_event_type": "chain",
        "faas.invocation_id": getattr(context, "aws_request_id", None),
        "cloud.resource_id": getattr(context, "invoked_function_arn", None),
    }
    about = event if isinstance(event, Mapping) else {}
    http = (about.get("requestContext") or {}).get("http") or {}
    method = about.get("httpMethod") or http.get("method")
    if method:
        # A load balancer that hands out all values of a header hands out nothing else.
        given = about.get("headers") or {
            name: values[-1] for name, values in (about.get("multiValueHeaders") or {}).items() if values
        }
        headers = {str(name).lower(): value for name, value in given.items()}
        found["http.request.method"] = known_method(method)
        found["url.path"] = about.get("path") or about.get("rawPath")
        found["user_agent.original"] = headers.get("user-agent")
        found |= authority(headers.get("host"), headers.get("x-forwarded-port"))
    return {key: value for key, value in found.items() if isinstance(value, (str, int))}

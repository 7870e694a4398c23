"""A Django site of two views, which do what the server at hand does; one site to a process is all that Django knows."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import django
from django.conf import settings
from django.http import HttpRequest, JsonResponse
from django.urls import path
from opentelemetry.instrumentation.django import DjangoInstrumentor

if not settings.configured:
    settings.configure(
        ALLOWED_HOSTS=["127.0.0.1"], ROOT_URLCONF=__name__, SECRET_KEY="none", LOGGING_CONFIG=None, MIDDLEWARE=[]
    )
    django.setup()

_server: Any = None


def _agent(request: HttpRequest) -> JsonResponse:
    return JsonResponse(_server.handle(request.headers))


def _agent_of_environ(request: HttpRequest) -> JsonResponse:
    return JsonResponse(_server.handle(request.META))


async def _agent_async(request: HttpRequest) -> JsonResponse:
    return JsonResponse(await _server.handle_async(dict(request.headers)))


urlpatterns = [path("agent", _agent)]


@contextlib.contextmanager
def django_application(server: Any, view: str, factory: Any) -> Iterator[Any]:
    """The application, instrumented, as WSGI or ASGI: `factory` is Django's function that makes it."""
    global _server
    _server = server
    urlpatterns[:] = [path("agent", {"sync": _agent, "environ": _agent_of_environ, "async": _agent_async}[view])]
    # Another test module may have set the process's site up.
    settings.ROOT_URLCONF = __name__
    django.urls.clear_url_caches()
    instrumentor = DjangoInstrumentor()
    instrumentor.instrument(**server.arguments)
    try:
        yield factory()
    finally:
        instrumentor.uninstrument()
        _server = None

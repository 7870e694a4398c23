"""Attributes of HTTP spans, as OpenTelemetry's semantic conventions name them."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlsplit

from opentelemetry.trace.status import StatusCode

_METHODS = frozenset(("CONNECT", "DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT", "QUERY", "TRACE"))
_PORTS = {"http": 80, "https": 443, "ws": 80, "wss": 443}


def known_method(method: object) -> str:
    """The method, in a form of which there are few: spans are named after it."""
    return method if isinstance(method, str) and method in _METHODS else "_OTHER"


def authority(host: object, port: object) -> dict[str, Any]:
    """The attributes of a server's address. `host` may have the port with it, as the header `Host` does."""
    if not isinstance(host, str) or not host:
        return {}
    name, _, digits = host.rpartition(":")
    if name and digits.isdecimal() and (":" not in name or name.endswith("]")):
        host, port = name, digits
    found: dict[str, Any] = {"server.address": host.strip("[]")}
    if str(port).isdecimal():
        found["server.port"] = int(str(port))
    return found


def client_attributes(method: str, url: str) -> dict[str, Any]:
    """The attributes of a request that goes out. User, password, query and fragment of the URL are left out: they are
    where secrets stand."""
    parts = urlsplit(url)
    host = parts.netloc.rpartition("@")[2]
    return {
        "http.request.method": method,
        "url.full": parts._replace(netloc=host, query="", fragment="").geturl(),
        **authority(host, _PORTS.get(parts.scheme)),
    }


def set_status(span: Any, status: int, failing: int) -> None:
    """Puts the status of a response on a span; it is an error from `failing` on."""
    span.set_attribute("http.response.status_code", status)
    if status >= failing:
        span.set_attribute("error.type", str(status))
        span.set_status(StatusCode.ERROR)

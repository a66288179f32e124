"""The conditions of the local principal: without authentication, only this machine is listened to.

A browser sends a page's requests to loopback addresses too. Its Origin gives it away; a name that was made to point
here (DNS rebinding) shows in the Host header.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

import msgspec
from litestar.enums import ScopeType

from subgraph.bodies import headers_of
from subgraph.problems import PROBLEM_JSON, problem

if TYPE_CHECKING:
    from litestar.types import ASGIApp, Receive, Scope, Send

_LOOPBACK: Final = frozenset({"127.0.0.1", "localhost", "::1"})
_GUARDED: Final = frozenset({ScopeType.HTTP, ScopeType.WEBSOCKET})
_FORBIDDEN: Final = 403


def is_loopback(authority: str, scheme: str = "http") -> bool:
    """Whether this host, with or without a port, is the loopback by name."""
    try:
        parts = urlsplit(f"{scheme}://{authority}")
        port = parts.port
    except ValueError:
        return False
    return parts.hostname in _LOOPBACK and "@" not in parts.netloc and port != 0


def _is_local_origin(origin: str) -> bool:
    scheme, slashes, authority = origin.partition("://")
    return bool(slashes) and scheme in {"http", "https"} and "/" not in authority and is_loopback(authority)


def local_only(app: ASGIApp) -> ASGIApp:
    """The application for requests with a loopback Host and no foreign Origin; others get 403."""

    async def guarded(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in _GUARDED:
            await app(scope, receive, send)
            return
        headers = headers_of(scope)
        origin = headers.get("origin")
        if not is_loopback(headers.get("host", "")):
            await _refuse(scope, send, "the Host header must be 127.0.0.1, localhost or [::1]")
        elif origin is not None and not _is_local_origin(origin):
            await _refuse(scope, send, "requests of pages from elsewhere are refused; leave the Origin header out")
        else:
            await app(scope, receive, send)

    return guarded


async def _refuse(scope: Scope, send: Send, detail: str) -> None:
    if scope["type"] == ScopeType.WEBSOCKET:
        # Closed before it is accepted: servers answer 403.
        await send({"type": "websocket.close", "code": 1008, "reason": detail})
        return
    body = msgspec.json.encode(problem(_FORBIDDEN, "not-local", detail))
    headers = [(b"content-type", PROBLEM_JSON.encode()), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": _FORBIDDEN, "headers": headers})
    await send({"type": "http.response.body", "body": body, "more_body": False})

"""Request headers and bodies, read with a limit."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

    from litestar.types import HTTPReceiveMessage, Receive, Scope

LARGEST_BODY: Final = 1024 * 1024
# A client that is still sending can't read the answer, so that much more is taken and thrown away.
DISCARDED: Final = 16 * 1024 * 1024
JSON: Final = "application/json"


class BodyTooLarge(Exception):
    """The body is larger than what is taken."""


class BodyCut(Exception):
    """The client went away before its request was complete."""


def headers_of(scope: Scope) -> Mapping[str, str]:
    """The headers by name in lower case; of repeated ones the last."""
    return {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in scope["headers"]}


def media_type(headers: Mapping[str, str]) -> str:
    """The content type without parameters, in lower case; with a charset other than UTF-8 it is none that we know."""
    kind, *parameters = headers.get("content-type", "").lower().split(";")
    charset = next((p.split("=", 1)[1].strip(' "') for p in parameters if p.strip().startswith("charset=")), "utf-8")
    return kind.strip() if charset in {"utf-8", "utf8"} else f"{kind.strip()}; charset={charset}"


async def read_body(headers: Mapping[str, str], receive: Receive, limit: int = LARGEST_BODY) -> bytes:
    """The whole body.

    Raises:
        BodyTooLarge: it is larger than `limit`, or says that it will be.
        BodyCut: the client went away.
    """
    announced = headers.get("content-length", "")
    too_large = announced.isdecimal() and int(announced) > limit
    if too_large and headers.get("expect", "").lower() == "100-continue":
        # It waits for our word before it sends anything.
        raise BodyTooLarge
    parts: list[bytes] = []
    size = 0
    more = True
    while more and size <= limit + DISCARDED:
        message: HTTPReceiveMessage = await receive()  # type: ignore[assignment]  # on http there are no others
        if message["type"] == "http.disconnect":
            raise BodyCut
        more = message["more_body"]
        size += len(message["body"])
        if size > limit:
            parts.clear()
        else:
            parts.append(message["body"])
    if size > limit:
        raise BodyTooLarge
    return b"".join(parts)

"""GET /metrics: the one thing that this process answers over HTTP itself."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager, suppress
from http import HTTPStatus
from typing import TYPE_CHECKING, Final, NamedTuple

from coherence_grpc.app.listening import check_free
from coherence_grpc.config import is_loopback

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    Page = Callable[[str], tuple[bytes, str]]

PATH: Final = "/metrics"
MAX_HEAD_BYTES: Final = 16_384
# From the first byte of a request to the last one of its answer.
REQUEST_S: Final = 5.0
_TEXT: Final = "text/plain; charset=utf-8"


class _Answer(NamedTuple):
    status: HTTPStatus
    body: bytes
    media_type: str = _TEXT


@asynccontextmanager
async def scraping(address: str | None, page: Page) -> AsyncIterator[str]:
    """Answers with `page` of the Accept header while it is open; its real address, '' when it has none.

    Raises:
        SettingsInvalid: the address can't be had.
    """
    if address is None:
        yield ""
        return
    check_free("metrics", address)
    host, _, port = address.rpartition(":")
    tasks: set[asyncio.Task[None]] = set()

    def begin(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(_serve(reader, writer, page), name="metrics")
        tasks.add(task)
        task.add_done_callback(tasks.discard)

    server = await asyncio.start_server(begin, host.strip("[]"), int(port), limit=MAX_HEAD_BYTES)
    try:
        yield f"{host}:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)


async def _serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, page: Page) -> None:
    """One request, one answer, and the connection ends."""
    try:
        # Who hangs up, says nothing or takes nothing is let go.
        with suppress(TimeoutError, asyncio.IncompleteReadError, asyncio.LimitOverrunError, ConnectionError):
            async with asyncio.timeout(REQUEST_S):
                status, body, media_type = _answer(await reader.readuntil(b"\r\n\r\n"), page)
                head = (
                    f"HTTP/1.1 {status.value} {status.phrase}\r\nContent-Type: {media_type}\r\n"
                    f"Content-Length: {len(body)}\r\nConnection: close\r\n\r\n"
                )
                writer.write(head.encode() + body)
                await writer.drain()
    finally:
        writer.close()


def _answer(request: bytes, page: Page) -> _Answer:
    first, *lines = request.decode("latin-1").split("\r\n")
    method, _, rest = first.partition(" ")
    headers = {name.strip().lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    if rest.split(" ")[0].partition("?")[0] != PATH:
        return _Answer(HTTPStatus.NOT_FOUND, f"metrics are at {PATH}\n".encode())
    if method != "GET":
        return _Answer(HTTPStatus.METHOD_NOT_ALLOWED, b"ask with GET\n")
    # A page of another site that a browser shows may have its name lead here.
    host = headers.get("host", "")
    if not is_loopback(host if ":" in host.rpartition("]")[2] else f"{host}:80"):
        return _Answer(HTTPStatus.MISDIRECTED_REQUEST, b"ask for a loopback address by its own name\n")
    return _Answer(HTTPStatus.OK, *page(headers.get("accept", "")))

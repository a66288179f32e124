"""Answers as server-sent events (graphql-sse, distinct connections): `next` for each, then `complete`.

Lines end in LF alone: there are readers that look for LF LF and see nothing in CR LF.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING, Final

import msgspec

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from litestar.types import Receive, Send

    from subgraph.engine import Answer
    from subgraph.operation import Operation

EVENT_STREAM: Final = "text/event-stream"
HEARTBEAT_S: Final = 12.0
_HEADERS: Final = [
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-store"),
    (b"x-accel-buffering", b"no"),
    (b"x-content-type-options", b"nosniff"),
]
_HEARTBEAT: Final = b":\n\n"
_COMPLETE: Final = b"event: complete\ndata:\n\n"
_encode: Final = msgspec.json.Encoder().encode


async def send_events(
    answers: AsyncGenerator[Answer, None], operation: Operation | None, receive: Receive, send: Send
) -> None:
    """Send the answers until they end or the client leaves; a quiet stream gets comments.

    An event's id is its cursor: a browser that reconnects by itself sends the last one along.
    """
    async with asyncio.TaskGroup() as tasks:
        pump = tasks.create_task(_pump(answers, operation, send))
        watch = tasks.create_task(_until_gone(receive, pump))
        pump.add_done_callback(lambda _: watch.cancel())


async def _pump(answers: AsyncGenerator[Answer, None], operation: Operation | None, send: Send) -> None:
    coming = asyncio.create_task(_next(answers))
    try:
        await _begun(coming, operation)
        await send({"type": "http.response.start", "status": 200, "headers": _HEADERS})
        # The headers are only sent with the first bytes of the body.
        await _write(send, _HEARTBEAT)
        while (answer := await _awaited(coming, send)) is not None:
            await _write(send, _frame(answer, operation))
            coming = asyncio.create_task(_next(answers))
        await send({"type": "http.response.body", "body": _COMPLETE, "more_body": False})
    finally:
        coming.cancel()
        with suppress(asyncio.CancelledError):
            await coming
        await answers.aclose()


async def _begun(coming: asyncio.Task[Answer | None], operation: Operation | None) -> None:
    """Wait until the events flow: who has read the headers will miss nothing that happens from then on."""
    if operation is None:
        return
    opened = asyncio.create_task(operation.opened.wait())
    try:
        await asyncio.wait({coming, opened}, timeout=HEARTBEAT_S, return_when=asyncio.FIRST_COMPLETED)
    finally:
        opened.cancel()


async def _awaited(coming: asyncio.Task[Answer | None], send: Send) -> Answer | None:
    """The next answer, with a comment for each span in which there is none."""
    while not coming.done():
        done, _ = await asyncio.wait({coming}, timeout=HEARTBEAT_S)
        if not done:
            await _write(send, _HEARTBEAT)
    return coming.result()


async def _until_gone(receive: Receive, pump: asyncio.Task[None]) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
    pump.cancel()


async def _next(answers: AsyncGenerator[Answer, None]) -> Answer | None:
    return await anext(answers, None)


async def _write(send: Send, part: bytes) -> None:
    await send({"type": "http.response.body", "body": part, "more_body": True})


def _frame(answer: Answer, operation: Operation | None) -> bytes:
    position = f"id: {operation.position}\n".encode() if operation and operation.position else b""
    return b"event: next\n" + position + b"data: " + _encode(answer.payload) + b"\n\n"

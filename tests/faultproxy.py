"""A TCP proxy that stands before a server and fails as networks do: refused, silent, slow, cut, or a reply lost.

A fault holds for connections that are open and for new ones, until `heal`.
"""

from __future__ import annotations

import asyncio
import socket
import struct
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from typing import TYPE_CHECKING, Final, TypeAlias
from urllib.parse import urlsplit, urlunsplit

from tests.backends.ports import free_port

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Coroutine, Mapping, Sequence

# What ends a transaction on the wire, for `drop_reply`.
POSTGRES_COMMIT: Final = b"COMMIT"
BOLT_COMMIT: Final = b"\x00\x02\xb0\x12\x00\x00"
CHUNK_BYTES: Final = 65_536
# How far reading runs ahead of writing, which bounds the memory of a black hole.
CHUNKS: Final = 256
# Closing with a linger of 0 sends RST, not FIN.
RESET: Final = struct.pack("ii", 1, 0)
# A server whose client's reply was lost is let alone for that long.
LINGER_S: Final = 1.0
_Chunks: TypeAlias = "asyncio.Queue[tuple[float, bytes]]"
_Admit: TypeAlias = "Callable[[_Link, bytes], tuple[bytes, bool]]"


@asynccontextmanager
async def fault_proxy(port: int, host: str = "127.0.0.1") -> AsyncIterator[FaultProxy]:
    """A proxy before that server; nothing of it is left on leaving."""
    proxy = FaultProxy(host, port)
    proxy.heal()
    try:
        yield proxy
    finally:
        await proxy.close()


@asynccontextmanager
async def behind_proxies(
    servers: Mapping[str, str], *names: str
) -> AsyncIterator[tuple[Mapping[str, str], Sequence[FaultProxy]]]:
    """The environment with those servers' addresses replaced by proxies before them, and the proxies."""
    async with AsyncExitStack() as stack:
        proxied, proxies = dict(servers), list[FaultProxy]()
        for name in names:
            parts = urlsplit(servers[name])
            proxy = await stack.enter_async_context(fault_proxy(parts.port or 0))
            place = parts.netloc.removesuffix(f":{parts.port}")
            proxied[name] = urlunsplit(parts._replace(netloc=f"{place}:{proxy.port}"))
            proxies.append(proxy)
        yield proxied, proxies


class FaultProxy:
    """Passes bytes between its `port` on 127.0.0.1 and the server, but for the fault that is set.

    `accepted` counts the connections it has taken, `lost` the replies it has dropped.
    """

    def __init__(self, host: str, port: int) -> None:
        self.port = free_port()
        self.accepted = 0
        self.lost = 0
        self._server = (host, port)
        self._listening: socket.socket | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._accepting: asyncio.Task[None] | None = None
        self._links: set[_Link] = set()
        self._flowing = asyncio.Event()
        self._latency_s = 0.0
        self._reset_after: int | None = None
        self._drop: tuple[bytes, bool] | None = None

    @property
    def open(self) -> int:
        """Connections that stand now."""
        return len(self._links)

    def refuse(self) -> None:
        """Refuse new connections and reset the open ones: the server is gone."""
        self._stop_listening()
        self.cut()

    def cut(self) -> None:
        """Reset the open connections, once; new ones are taken."""
        for link in list(self._links):
            link.reset()

    def black_hole(self) -> None:
        """Let connections stand and be made, and nothing pass; `heal` delivers what was sent meanwhile, as TCP does."""
        self._flowing.clear()

    def delay(self, seconds: float) -> None:
        """Let every byte arrive that much later, in both directions; as many are on their way as are sent."""
        self._latency_s = seconds

    def reset_after(self, reply_bytes: int) -> None:
        """Reset each connection once that many more bytes of replies have passed on it."""
        self._reset_after = reply_bytes
        for link in self._links:
            link.passed = 0

    def drop_reply(self, request: bytes, *, silently: bool = False) -> None:
        """Let the next request that holds these bytes reach the server, and lose what it replies.

        The client's connection is reset when the reply comes, or stays and says nothing more.
        """
        self._drop = request, silently

    def heal(self) -> None:
        """Let everything pass again."""
        self._latency_s, self._reset_after, self._drop = 0.0, None, None
        self._flowing.set()
        if self._listening is None:
            self._listen()

    async def close(self) -> None:
        """End it, with all its connections."""
        self._stop_listening()
        self.cut()
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)

    def _listen(self) -> None:
        self._listening = socket.create_server(("127.0.0.1", self.port))
        self._listening.setblocking(False)
        self._accepting = self._spawn(self._accept(self._listening))

    def _stop_listening(self) -> None:
        if self._listening is not None and self._accepting is not None:
            self._accepting.cancel()
            # The loop must forget the socket before its number goes to another.
            asyncio.get_running_loop().remove_reader(self._listening)
            self._listening.close()
        self._listening = self._accepting = None

    async def _accept(self, listening: socket.socket) -> None:
        while True:
            client, _ = await asyncio.get_running_loop().sock_accept(listening)
            self.accepted += 1
            _ = self._spawn(self._pass(client))

    async def _pass(self, client: socket.socket) -> None:
        near = await asyncio.open_connection(sock=client)
        try:
            far = await asyncio.open_connection(*self._server)
        except OSError:
            _reset(near[1])
            return
        link = _Link(near[1], far[1])
        self._links.add(link)
        if self._listening is None:  # refused since it was taken
            link.reset()
        try:
            there = self._spawn(self._carry(near[0], far[1], link, self._request))
            back = self._spawn(self._carry(far[0], near[1], link, self._reply))
            await asyncio.wait([there, back])
        finally:
            self._links.discard(link)
            near[1].close()
            far[1].close()

    async def _carry(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, link: _Link, admit: _Admit
    ) -> None:
        """One direction of a connection. Reading goes on while earlier bytes are on their way."""
        chunks: _Chunks = asyncio.Queue(CHUNKS)
        reading = self._spawn(self._read(reader, chunks))
        try:
            with suppress(OSError):
                while data := await self._arrived(chunks):
                    admitted, then_reset = admit(link, data)
                    writer.write(admitted)
                    await writer.drain()
                    if then_reset:
                        _reset(writer)
                await self._end(writer, link)
        finally:
            reading.cancel()

    async def _read(self, reader: asyncio.StreamReader, chunks: _Chunks) -> None:
        data = b"not yet at its end"
        while data:
            try:
                data = await reader.read(CHUNK_BYTES)
            except ConnectionError:
                data = b""
            await chunks.put((asyncio.get_running_loop().time() + self._latency_s, data))

    async def _arrived(self, chunks: _Chunks) -> bytes:
        due, data = await chunks.get()
        await asyncio.sleep(max(0.0, due - asyncio.get_running_loop().time()))
        await self._flowing.wait()
        return data

    async def _end(self, writer: asyncio.StreamWriter, link: _Link) -> None:
        if link.dropping:
            # A server that saw the client go would give up what it was asked.
            await asyncio.sleep(LINGER_S)
        if not writer.is_closing():
            writer.write_eof()

    def _request(self, link: _Link, data: bytes) -> tuple[bytes, bool]:
        if self._drop is not None:
            request, silently = self._drop
            seen = link.seen + data
            link.seen = seen[1 - len(request) :]
            if request in seen:
                link.dropping, link.silent, self._drop = True, silently, None
        return data, False

    def _reply(self, link: _Link, data: bytes) -> tuple[bytes, bool]:
        if link.dropping:
            self.lost += not link.lost
            link.lost = True
            return b"", not link.silent
        if self._reset_after is None:
            return data, False
        left = self._reset_after - link.passed
        link.passed += len(data)
        return data[:left], len(data) >= left

    def _spawn(self, work: Coroutine[None, None, None]) -> asyncio.Task[None]:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task


class _Link:
    """A client's connection and ours to the server."""

    def __init__(self, near: asyncio.StreamWriter, far: asyncio.StreamWriter) -> None:
        self._ends = near, far
        self.passed = 0
        # The end of the last request bytes: what we look for may come in two pieces.
        self.seen = b""
        self.dropping = self.silent = self.lost = False

    def reset(self) -> None:
        for writer in self._ends:
            _reset(writer)


def _reset(writer: asyncio.StreamWriter) -> None:
    with suppress(OSError):
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
    writer.transport.abort()

"""The server process: listening, saying so, and ending with its parent or on a signal."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

import uvicorn

from subgraph.app import open_subgraph
from subgraph.bodies import LARGEST_BODY

if TYPE_CHECKING:
    from collections.abc import Iterator

    from subgraph.app import Subgraph
    from subgraph.config import Config

BACKLOG: Final = 2048
# Long enough for readers to take their last event, short enough for the parent's own drain.
FAREWELL_S: Final = 2.0
GRACE_S: Final = 8
# Longer than the backbone bears with a reader that doesn't read: it has to live to learn where it can resume.
PONG_S: Final = 60.0


class Server(uvicorn.Server):
    """Uvicorn that says when it listens and leaves signals to us."""

    def __init__(self, subgraph: Subgraph) -> None:
        super().__init__(
            uvicorn.Config(
                subgraph.asgi,
                http="h11",
                ws="websockets-sansio",
                lifespan="on",
                log_config=None,
                access_log=False,
                proxy_headers=False,
                server_header=False,
                ws_max_size=LARGEST_BODY,
                ws_ping_timeout=PONG_S,
                timeout_graceful_shutdown=GRACE_S,
            )
        )
        self.listening = asyncio.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start, and say so."""
        await super().startup(sockets)
        self.listening.set()

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Take none: subscriptions are ended before the server is."""
        yield


async def serve(config: Config) -> None:
    """Serve until SIGTERM, SIGINT or the end of the parent.

    Raises:
        OSError: the address can't be listened on.
    """
    listener = listen(config)
    async with open_subgraph(config) as subgraph, asyncio.TaskGroup() as tasks:
        server = Server(subgraph)
        running = tasks.create_task(server.serve(sockets=[listener]))
        stopping = _Stopping(config.lifeline_fd, server)
        await server.listening.wait()
        announce(config.ready_fd, listener)
        await stopping.wait()
        subgraph.drain()
        if not stopping.orphaned:
            await _farewell(subgraph)
        server.should_exit = True
        await running


class _Stopping:
    """Why the process ends: a signal, or the end of its parent. A second signal doesn't wait for anyone."""

    def __init__(self, lifeline_fd: int | None, server: Server) -> None:
        self._server = server
        self._told = asyncio.Event()
        self.orphaned = False
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._on_signal)
        if lifeline_fd is not None:
            loop.add_reader(lifeline_fd, self._on_lifeline, lifeline_fd)

    async def wait(self) -> None:
        await self._told.wait()

    def _on_signal(self) -> None:
        self._server.force_exit = self._told.is_set()
        self._told.set()

    def _on_lifeline(self, lifeline_fd: int) -> None:
        if os.read(lifeline_fd, 512):
            return
        asyncio.get_running_loop().remove_reader(lifeline_fd)
        # Without a backbone there is nothing to finish.
        self.orphaned = self._server.force_exit = True
        self._told.set()


def listen(config: Config) -> socket.socket:
    """A socket on the address; port 0 takes a free one."""
    family = socket.AF_INET6 if ":" in config.host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((config.host, config.port))
    except OSError:
        listener.close()
        raise
    return listener


def address_of(listener: socket.socket) -> str:
    """Where it listens, as host:port."""
    host, port = listener.getsockname()[:2]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def announce(ready_fd: int | None, listener: socket.socket) -> None:
    """Tell the parent where the server listens, in one JSON line."""
    if ready_fd is None:
        return
    with os.fdopen(ready_fd, "w") as ready:
        ready.write(json.dumps({"http": address_of(listener)}) + "\n")


async def _farewell(subgraph: Subgraph) -> None:
    try:
        async with asyncio.timeout(FAREWELL_S):
            await subgraph.services.followers.idle.wait()
    except TimeoutError:
        # Who does not take its last event is cut off like everyone else.
        return

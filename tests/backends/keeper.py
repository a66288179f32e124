"""Keeps servers for the processes of one test run, and ends them with the last of these, however it ends.

Each process holds a connection to the keeper's socket: the kernel closes it when the process is gone. A request is a
line of JSON, and so is its answer.
"""

from __future__ import annotations

import asyncio
import fcntl
import json
import os
import shutil
import signal
import socket
import sys
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from tests.backends.parts import Missing
from tests.backends.server import PARTS, DidNotStart, kill, launch, start
from tests.backends.state import State

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tests.backends.server import Server

SOCKET: Final = "socket"
LOCK: Final = "lock"
# Whoever started the keeper connects at once, or is gone.
FIRST_S: Final = 10.0


class Keeper:
    """The servers of a run. Preparing and starting happen once for all that ask."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._state = State(directory)
        self._prepared: dict[str, asyncio.Task[None]] = {}
        self._shared: dict[str, asyncio.Task[Server]] = {}
        self._connections = 0
        self._deserted = asyncio.Event()
        self._ended = asyncio.Event()

    async def keep(self, listening: socket.socket) -> None:
        """Serve until the last connection is closed, or SIGTERM."""
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGTERM, self._deserted.set)
        loop.call_later(FIRST_S, self._leave_if_alone)
        server = await asyncio.start_unix_server(self._attend, sock=listening)
        await self._deserted.wait()
        # Unlinked first: who comes now finds no socket, and starts a keeper anew.
        (self._directory / SOCKET).unlink(missing_ok=True)
        server.close()
        await self._end_all()
        self._ended.set()

    async def _attend(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._connections += 1
        own: list[Server] = []
        try:
            with suppress(ConnectionError):
                while line := await reader.readline():
                    answer = await self._answer(json.loads(line), own)
                    writer.write(json.dumps(answer).encode() + b"\n")
                    await writer.drain()
        finally:
            writer.close()
            for server in own:
                await asyncio.to_thread(self._state.end, server)
            self._connections -= 1
            self._leave_if_alone()

    async def _answer(self, request: Mapping[str, Any], own: list[Server]) -> Mapping[str, object]:
        try:
            return await self._do(request, own)
        except Missing as missing:
            return {"missing": [missing.part, missing.lacks, missing.remedy]}
        except DidNotStart as failure:
            return {"failed": str(failure), "silent": failure.silent}

    async def _do(self, request: Mapping[str, Any], own: list[Server]) -> Mapping[str, object]:
        match request:
            case {"do": "prepare", "part": part}:
                await self._prepare(part)
                self._begin(part)
                return {}
            case {"do": "share", "part": part}:
                self._begin(part)
                return {"variables": (await asyncio.shield(self._shared[part])).variables}
            case {"do": "own", "part": part}:
                await self._prepare(part)
                own.append(server := await asyncio.to_thread(start, part, self._state.note))
                return _row(server)
            case {"do": "again"}:
                own[0] = await asyncio.to_thread(self._again, own[0])
                return _row(own[0])
            case _:
                return await self._part(own)

    async def _part(self, own: list[Server]) -> Mapping[str, object]:
        """Answered once what ends with the one that leaves has ended."""
        while own:
            await asyncio.to_thread(self._state.end, own.pop())
        if self._connections == 1:
            self._deserted.set()
            await self._ended.wait()
        return {}

    def _again(self, server: Server) -> Server:
        kill(server)
        return launch(server.part, server.home, server.port, server.password, self._state.note)

    async def _prepare(self, part: str) -> None:
        if part not in self._prepared:
            self._prepared[part] = asyncio.create_task(asyncio.to_thread(PARTS[part].prepare, _say))
        await asyncio.shield(self._prepared[part])

    def _begin(self, part: str) -> None:
        if part not in self._shared:
            self._shared[part] = asyncio.create_task(self._start(part))

    async def _start(self, part: str) -> Server:
        await self._prepare(part)
        return await asyncio.to_thread(start, part, self._state.note)

    def _leave_if_alone(self) -> None:
        if not self._connections:
            self._deserted.set()

    async def _end_all(self) -> None:
        """Also of those that are just being started."""
        if tasks := [*self._prepared.values(), *self._shared.values()]:
            await asyncio.wait(tasks)
        async with asyncio.TaskGroup() as ending:
            for server in self._state.servers:
                ending.create_task(asyncio.to_thread(self._state.end, server))


def clear_leftovers(runs: Path) -> None:
    """End what runs left whose keeper was killed: nobody holds their lock."""
    for directory in runs.iterdir():
        with suppress(OSError), (directory / LOCK).open("r+") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            state = State(directory)
            for server in list(state.servers):
                state.end(server)
            shutil.rmtree(directory, ignore_errors=True)


def listen(directory: Path) -> socket.socket:
    """A socket in the directory; through a descriptor of it, since the name of a socket must be short."""
    folder = os.open(directory, os.O_RDONLY)
    try:
        (directory / SOCKET).unlink(missing_ok=True)
        listening = socket.socket(socket.AF_UNIX)
        listening.bind(f"/proc/self/fd/{folder}/{SOCKET}")
        listening.listen()
    finally:
        os.close(folder)
    return listening


def main(directory: Path, ready: int) -> None:
    """Keep the servers of the run in that directory, whose lock we have inherited; say so on `ready`."""
    clear_leftovers(directory.parent)
    listening = listen(directory)
    os.write(ready, b"ready\n")
    os.close(ready)
    asyncio.run(Keeper(directory).keep(listening))
    if not State(directory).servers:  # else the next run's keeper tries again
        shutil.rmtree(directory, ignore_errors=True)


def _row(server: Server) -> Mapping[str, object]:
    return {
        "home": str(server.home),
        "port": server.port,
        "password": server.password,
        "pid": server.pid.number,
        "started": server.pid.started,
    }


def _say(line: str) -> None:
    sys.stderr.write(f"{line}\n")
    sys.stderr.flush()


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))

"""A TCP wire between a client and a service that can be cut, as networks are."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

CHUNK: Final = 16 * 1024
STALL_S: Final = 0.3


class Wire:
    """Carries every connection to `target` until it is cut; new ones are carried again, to what is the target then.

    While it is `mute`, what the target answers is lost.
    """

    def __init__(self, target: str) -> None:
        self.target = target
        self._ends: set[asyncio.StreamWriter] = set()
        self.address = ""
        self.mute = False
        self._moved = 0

    @property
    def connected(self) -> bool:
        """It carries something."""
        return bool(self._ends)

    async def stalled(self) -> None:
        """Return when it has carried something and then nothing for a while: whoever reads has stopped."""
        before = -1
        while before != self._moved or not self._moved:
            before = self._moved
            await asyncio.sleep(STALL_S)

    def cut(self) -> None:
        """Break every connection at once, in the middle of whatever is on the wire."""
        broken, self._ends = self._ends, set()
        for end in broken:
            end.transport.abort()

    async def carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Carry one connection both ways until either side ends."""
        try:
            host, _, port = self.target.rpartition(":")
            far_reader, far_writer = await asyncio.open_connection(host, int(port))
        except OSError:
            writer.transport.abort()
            return
        ends = {writer, far_writer}
        self._ends |= ends
        try:
            async with asyncio.TaskGroup() as ways:
                ways.create_task(self._pour(reader, far_writer, lambda: False))
                ways.create_task(self._pour(far_reader, writer, lambda: self.mute))
        finally:
            self._ends -= ends
            for end in ends:
                end.transport.abort()

    async def _pour(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, lost: Callable[[], bool]) -> None:
        with suppress(OSError):
            while data := await reader.read(CHUNK):
                self._moved += len(data)
                if not lost():
                    writer.write(data)
                    await writer.drain()
        # One side has ended, so has the other.
        writer.transport.abort()


@asynccontextmanager
async def wire_to(target: str) -> AsyncIterator[Wire]:
    """A wire to the address, listening on a free port of this machine."""
    wire = Wire(target)
    server = await asyncio.start_server(wire.carry, "127.0.0.1", 0)
    wire.address = f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
    try:
        yield wire
    finally:
        server.close()
        wire.cut()
        await server.wait_closed()

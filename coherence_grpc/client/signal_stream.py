"""One connection of a Publisher: sends what is due and what the credits allow, and takes in what the server says."""

from __future__ import annotations

import asyncio
from enum import Enum
from typing import TYPE_CHECKING, Any, Final, Protocol

import grpc.aio

from coherence.v1 import ingest_pb2 as pb
from coherence_grpc.client.outbox import Limits

if TYPE_CHECKING:
    from typing import TypeAlias

    from coherence_grpc.client.outbox import Outbox

    Call: TypeAlias = grpc.aio.StreamStreamCall[Any, pb.StreamSignalsResponse]

# A server that owes an answer and says nothing for so long is gone, whatever its connection looks like.
OPEN_S: Final = 10.0
SILENCE_S: Final = 30.0
LOOK_S: Final = 1.0
# What a batch takes beside its signals: its number, with room to spare.
BATCH_BYTES: Final = 64
FLUSH: Final = pb.StreamSignalsRequest(flush=pb.StreamFlush()).SerializeToString()


class Ended(Enum):
    """How a connection came to its end, other than by an error."""

    CLOSED = "the server ended the stream"
    SILENT = "the server does not answer"


class Owner(Protocol):
    """Who is told what comes."""

    def on_opened(self) -> None:
        """The server has answered."""

    def on_ack(self, ack: pb.StreamAck) -> None:
        """Batches are stored."""

    def out_of_patience(self) -> bool:
        """The connection is not to go on."""


class SignalStream:
    """To be run once; `work` is set when there may be something to send."""

    def __init__(self, outbox: Outbox, work: asyncio.Event, owner: Owner) -> None:
        self._outbox = outbox
        self._work = work
        self._owner = owner
        self._loop = asyncio.get_running_loop()
        self._limits = Limits(0, 0, 0)
        self._opened = asyncio.Event()
        self._paused_until = 0.0
        self._flushed = 0
        # When the server's time to say something began.
        self._owing_since = self._loop.time()

    @property
    def opened(self) -> bool:
        """The server has answered."""
        return self._opened.is_set()

    async def run(self, call: Call, opening: pb.StreamOpen) -> Ended:
        """Send and hear until the stream ends.

        Raises:
            AioRpcError: the server refused it, or the connection was lost.
        """
        self._outbox.rewind()
        reading = asyncio.create_task(self._read(call))
        writing = asyncio.create_task(self._write(call, opening))
        working = {reading, writing}
        try:
            while not reading.done():
                done, _ = await asyncio.wait(working, timeout=LOOK_S, return_when=asyncio.FIRST_COMPLETED)
                if writing in done:
                    working.discard(writing)
                    writing.result()
                if not reading.done() and (self._silent() or self._owner.out_of_patience()):
                    return Ended.SILENT
            return reading.result()
        finally:
            writing.cancel()
            reading.cancel()
            call.cancel()
            await asyncio.wait({reading, writing})

    async def _write(self, call: Call, opening: pb.StreamOpen) -> None:
        opening.acked_through = self._outbox.acked_through
        try:
            await call.write(pb.StreamSignalsRequest(open=opening).SerializeToString())
            await self._opened.wait()
            while not self._outbox.finished:
                self._work.clear()
                if not await self._send(call):
                    await self._work.wait()
            await call.done_writing()
        except (grpc.aio.AioRpcError, asyncio.InvalidStateError):
            # The call has ended: whoever reads it hears why.
            return

    async def _send(self, call: Call) -> bool:
        """Send one frame that is due, or wait as long as was asked for; false when there is nothing to do."""
        pause_s = self._paused_until - self._loop.time()
        if pause_s > 0:
            await asyncio.sleep(pause_s)
            return True
        outbox = self._outbox
        batch = outbox.next(self._limits)
        if batch is not None:
            if outbox.outstanding == batch.count:
                self._owing_since = self._loop.time()
            await call.write(batch.frame)
            return True
        if outbox.flush_through > max(self._flushed, outbox.settled) and outbox.all_sent:
            self._flushed = outbox.flush_through
            await call.write(FLUSH)
            return True
        return False

    async def _read(self, call: Call) -> Ended:
        while True:
            frame = await call.read()
            if not isinstance(frame, pb.StreamSignalsResponse):
                return Ended.CLOSED
            self._owing_since = max(self._owing_since, self._loop.time())
            match frame.WhichOneof("frame"):
                case "opened":
                    self._open(frame.opened)
                case "ack":
                    self._owner.on_ack(frame.ack)
                case "credit":
                    self._limits = self._limits._replace(credits=frame.credit.credits)
                case "throttle":
                    pause_s = frame.throttle.retry_delay.ToMicroseconds() / 1e6
                    self._owing_since = self._paused_until = self._loop.time() + pause_s
                case "closing":
                    return Ended.CLOSED
            self._work.set()

    def _open(self, opened: pb.StreamOpened) -> None:
        self._limits = Limits(opened.credits, opened.max_batch_signals, opened.max_batch_bytes - BATCH_BYTES)
        self._owner.on_opened()
        self._opened.set()

    def _silent(self) -> bool:
        silent_s = self._loop.time() - self._owing_since
        if not self.opened:
            return silent_s > OPEN_S
        return bool(self._outbox.outstanding) and silent_s > SILENCE_S

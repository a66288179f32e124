"""A client of StreamSignals that sends numbered batches and goes on behind the last Ack, over any number of cuts."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING, Final

import grpc.aio

from coherence.v1.ingest_pb2 import StreamBatch, StreamOpen, StreamSignalsRequest
from tests.e2e.reading import all_signals, timestamp
from tests.e2e.unretried import unretried

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from coherence.v1.ingest_pb2 import StreamSignalsResponse
    from coherence_grpc.client import Client

    Call = grpc.aio.StreamStreamCall[StreamSignalsRequest, StreamSignalsResponse]

LARGEST: Final = 20
BURST: Final = 50


def names(sequence: int) -> Iterator[str]:
    """The signal ids of a batch: batches have 1 to 20 signals."""
    return (f"{sequence:08}-{position:02}" for position in range(1 + sequence % LARGEST))


def batch(sequence: int, start_us: int) -> StreamBatch:
    """The batch of that number: the same one every time."""
    made = StreamBatch(sequence=sequence)
    for signal_id in names(sequence):
        made.signals.add(
            source="stream",
            signal_id=signal_id,
            type="build",
            value=sequence % 100 / 100,
            ts=timestamp(start_us + sequence),
        )
    return made


class Streamer:
    """`acked` is the last Ack it saw; `total` the batches that it wants to get stored, as many as it can if 0.

    It pauses for `pause_s` after every 50 batches.
    """

    def __init__(
        self,
        tenant_id: str,
        start_us: int,
        *,
        acked: int = 0,
        total: int = 0,
        pause_s: float = 0.0,
        on_ack: Callable[[int], None] = lambda _: None,
    ) -> None:
        self.tenant_id = tenant_id
        self.acked = acked
        self.total = total
        self.connections = 0
        self.stored = 0
        self.duplicates = 0
        self._start_us = start_us
        self._pause_s = pause_s
        self._on_ack = on_ack
        self._sent = 0
        self._unacked = 0
        self._credits = 0
        self._more = asyncio.Event()

    @property
    def done(self) -> bool:
        """All that it wanted is acknowledged."""
        return bool(self.total) and self.acked >= self.total

    async def run(self, address: str) -> None:
        """Stream on one connection, until it is cut or the server or we have ended it."""
        self.connections += 1
        async with unretried(address) as stub:
            call: Call = stub.StreamSignals()
            opening = StreamOpen(tenant_id=self.tenant_id, stream_id="resumed", acked_through=self.acked)
            self._sent, self._unacked, self._credits = self.acked, 0, 0
            with suppress(grpc.aio.AioRpcError, asyncio.InvalidStateError):
                await call.write(StreamSignalsRequest(open=opening))
                sending = asyncio.create_task(self._send(call))
                try:
                    async for frame in call:
                        self._take(frame)
                finally:
                    sending.cancel()
                    await asyncio.wait((sending,))

    async def _send(self, call: Call) -> None:
        with suppress(grpc.aio.AioRpcError, asyncio.InvalidStateError):
            while not self.total or self._sent < self.total:
                made = batch(self._sent + 1, self._start_us)
                while self._unacked + len(made.signals) > self._credits:
                    self._more.clear()
                    await self._more.wait()
                self._sent += 1
                self._unacked += len(made.signals)
                await call.write(StreamSignalsRequest(batch=made))
                if self._pause_s and self._sent % BURST == 0:
                    await asyncio.sleep(self._pause_s)
            await call.done_writing()

    def _take(self, frame: StreamSignalsResponse) -> None:
        if frame.HasField("opened"):
            self._credits = frame.opened.credits
        elif frame.HasField("ack"):
            ack = frame.ack
            assert not ack.rejections
            self._unacked -= sum(1 + number % LARGEST for number in range(self.acked + 1, ack.acked_through + 1))
            self.acked = ack.acked_through
            self.stored += ack.stored_count
            self.duplicates += ack.duplicate_count
            self._on_ack(self.acked)
        self._more.set()


async def missing_and_double(client: Client, tenant_id: str, through: int) -> tuple[int, int]:
    """How many signals of the batches up to there are not stored, and how many are more than once."""
    stored = [signal.signal.signal_id for signal in await all_signals(client, tenant_id)]
    wanted = {signal_id for sequence in range(1, through + 1) for signal_id in names(sequence)}
    return len(wanted - set(stored)), len(stored) - len(set(stored))

"""Streams of signals, in a process of their own, with frames that were encoded beforehand: one stream a tenant."""

from __future__ import annotations

import asyncio
from time import monotonic
from typing import TYPE_CHECKING, Any, Final

from bench.load import connected
from bench.requests import frames, tenant
from bench.worker import Job, run_async, say_ready, wait_for_go
from coherence.v1.ingest_pb2 import StreamOpen, StreamSignalsRequest, StreamSignalsResponse

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import grpc.aio

    Call = grpc.aio.StreamStreamCall[bytes, bytes]

STREAM: Final = "/coherence.v1.IngestService/StreamSignals"


class Sender:
    """One stream: sends as fast as the credits allow."""

    def __init__(self, call: Call, bodies: Sequence[bytes], size: int) -> None:
        self._call = call
        self._bodies = bodies
        self._size = size
        self._credits = 0
        self._acked = 0
        self._more = asyncio.Event()
        self.stored = 0
        self.acks = 0
        self.throttles = 0

    async def run(self, opening: bytes) -> None:
        """Send everything and wait until the server has closed the stream."""
        await self._call.write(opening)
        async with asyncio.TaskGroup() as group:
            group.create_task(self._listen())
            group.create_task(self._send())

    async def _send(self) -> None:
        for number, body in enumerate(self._bodies, 1):
            while (number - self._acked) * self._size > self._credits:
                self._more.clear()
                await self._more.wait()
            await self._call.write(body)
        await self._call.done_writing()

    async def _listen(self) -> None:
        async for raw in self._call:
            frame = StreamSignalsResponse.FromString(raw)
            kind = frame.WhichOneof("frame")
            if kind == "ack":
                self._acked = frame.ack.acked_through
                self.stored += frame.ack.stored_count
                self.acks += 1
            elif kind == "opened":
                self._credits = frame.opened.credits
            elif kind == "credit":
                self._credits = frame.credit.credits
            elif kind == "throttle":
                self.throttles += 1
            self._more.set()


async def stream(job: Job) -> Mapping[str, object]:
    """Each frame once; signals a second, and how many the Acks say were stored."""
    size, tenants = job["size"], job["tenants"]
    bodies: list[list[bytes]] = [[] for _ in range(tenants)]
    for number, body in enumerate(
        frames(**{name: job[name] for name in ("size", "count", "first", "start_us", "tenants")})
    ):
        bodies[number % tenants].append(body)
    async with connected(job["address"]) as channel:
        open_stream: Any = channel.stream_stream(STREAM)
        senders = [Sender(open_stream(), own, size) for own in bodies]
        say_ready()
        wait_for_go()
        begun = monotonic()
        async with asyncio.TaskGroup() as group:
            for number, sender in enumerate(senders):
                opening = StreamOpen(tenant_id=tenant(number), stream_id=f"stream-{job['first']}")
                group.create_task(sender.run(StreamSignalsRequest(open=opening).SerializeToString()))
        elapsed_s = monotonic() - begun
    stored = sum(sender.stored for sender in senders)
    return {
        "elapsed_s": elapsed_s,
        "stored": stored,
        "per_second": stored / elapsed_s,
        "acks": sum(sender.acks for sender in senders),
        "throttles": sum(sender.throttles for sender in senders),
    }


if __name__ == "__main__":
    run_async(stream)

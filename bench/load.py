"""Callers of unary methods, in a process of their own, with requests that were encoded beforehand.

`publish` sends each prepared request once; `closed` repeats the given requests for a while; `paced` publishes single
signals at a rate, each carrying in its id the instant it was sent.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from contextlib import asynccontextmanager
from itertools import cycle
from time import monotonic, monotonic_ns
from typing import TYPE_CHECKING, Any, Final

import grpc.aio
from google.protobuf.timestamp_pb2 import Timestamp

from bench.requests import BATCHES, MICROS, ONE_BY_ONE, batches
from bench.spread import spread
from bench.worker import Job, run_async, say_ready, wait_for_go
from coherence.v1.ingest_pb2 import OUTCOME_STORED, PublishSignalRequest, PublishSignalResponse, PublishSignalsResponse
from coherence.v1.signal_pb2 import Signal

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator, Mapping, Sequence

    Call = grpc.aio.UnaryUnaryMultiCallable[bytes, bytes]

# Without a service config nothing is tried again, but for streams that the server refused unseen.
OPTIONS: Final = (
    ("grpc.use_local_subchannel_pool", 1),
    ("grpc.enable_http_proxy", 0),
    ("grpc.max_receive_message_length", 16 * 1024 * 1024),
)
CALL_S: Final = 30.0
MICRO_NS: Final = 1_000
ATTEMPTS: Final = 100
AGAIN_S: Final = 0.1


@asynccontextmanager
async def connected(address: str) -> AsyncIterator[grpc.aio.Channel]:
    """A connection of its own; requests and replies stay bytes."""
    async with grpc.aio.insecure_channel(address, options=OPTIONS) as channel:
        async with asyncio.timeout(CALL_S):
            await channel.channel_ready()
        yield channel


class Callers:
    """Concurrent callers that take the next request as soon as the last one is answered."""

    def __init__(self, call: Call) -> None:
        self._call = call
        self.latencies_us: list[float] = []
        self.failures: Counter[str] = Counter()
        self.replies: list[bytes] = []
        self.keep = False

    async def drive(self, bodies: Iterator[bytes], callers: int) -> float:
        """Send them all; how long it took."""
        begun = monotonic()
        async with asyncio.TaskGroup() as group:
            for _ in range(callers):
                group.create_task(self._one(bodies))
        return monotonic() - begun

    async def _one(self, bodies: Iterator[bytes]) -> None:
        for body in bodies:
            await self.send(body)

    async def send(self, body: bytes) -> bool:
        """One request; True when it was answered, else its refusal is counted."""
        begun = monotonic_ns()
        try:
            reply = await self._call(body, timeout=CALL_S)
        except grpc.aio.AioRpcError as refusal:
            self.failures[f"{refusal.code().name}: {refusal.details()}"] += 1
            return False
        self.latencies_us.append((monotonic_ns() - begun) / MICRO_NS)
        if self.keep:
            self.replies.append(reply)
        return True

    def found(self) -> dict[str, object]:
        """What both kinds of load report."""
        return {
            "calls": len(self.latencies_us),
            "failures": dict(self.failures),
            "latency_ms": spread(self.latencies_us, 1000),
        }


async def publish(job: Job) -> Mapping[str, object]:
    """Each request once; signals a second, and how many the replies say were stored."""
    size = job["size"]
    bodies = list(batches(**{name: job[name] for name in ("size", "count", "first", "start_us", "tenants")}))
    async with connected(job["address"]) as channel:
        callers = Callers(channel.unary_unary(ONE_BY_ONE if size == 1 else BATCHES))
        callers.keep = True
        say_ready()
        wait_for_go()
        elapsed_s = await callers.drive(iter(bodies), job["callers"])
    stored = sum(_stored(reply, size) for reply in callers.replies)
    return callers.found() | {"elapsed_s": elapsed_s, "stored": stored, "per_second": stored / elapsed_s}


def _stored(reply: bytes, size: int) -> int:
    if size > 1:
        return PublishSignalsResponse.FromString(reply).stored_count
    return int(PublishSignalResponse.FromString(reply).outcome == OUTCOME_STORED)


async def closed(job: Job) -> Mapping[str, object]:
    """The same requests over and over for `seconds`; calls a second."""
    bodies = [bytes.fromhex(body) for body in job["bodies"]]
    async with connected(job["address"]) as channel:
        call: Call = channel.unary_unary(job["method"])
        await Callers(call).drive(iter(bodies), 1)
        callers = Callers(call)
        say_ready()
        wait_for_go()
        elapsed_s = await callers.drive(_until(monotonic() + job["seconds"], bodies), job["callers"])
    return callers.found() | {"elapsed_s": elapsed_s, "per_second": len(callers.latencies_us) / elapsed_s}


def _until(end: float, bodies: Sequence[bytes]) -> Iterator[bytes]:
    for body in cycle(bodies):
        if monotonic() > end:
            return
        yield body


async def paced(job: Job) -> Mapping[str, object]:
    """`count` single signals, one every 1/`rate` s whatever the answers take; who is refused tries again."""
    async with connected(job["address"]) as channel:
        callers = Callers(channel.unary_unary(ONE_BY_ONE))
        say_ready()
        wait_for_go()
        begun = monotonic()
        async with asyncio.TaskGroup() as group:
            for number in range(job["count"]):
                await asyncio.sleep(max(0.0, begun + number / job["rate"] - monotonic()))
                group.create_task(_insisted(callers, _timed(job, number)))
        return callers.found() | {"elapsed_s": monotonic() - begun}


async def _insisted(callers: Callers, body: bytes) -> None:
    for _ in range(ATTEMPTS):
        if await callers.send(body):
            return
        await asyncio.sleep(AGAIN_S)


def _timed(job: Job, number: int) -> bytes:
    at = job["start_us"] + number * MICROS // job["rate"]
    return PublishSignalRequest(
        signal=Signal(
            tenant_id=job["tenant"],
            source="paced",
            signal_id=str(monotonic_ns()),
            type="latency",
            value=number % 1000 / 1000,
            ts=Timestamp(seconds=at // MICROS, nanos=at % MICROS * 1000),
        )
    ).SerializeToString()


KINDS: Final[dict[str, Any]] = {"publish": publish, "closed": closed, "paced": paced}


async def work(job: Job) -> Mapping[str, object]:
    """The job of its kind."""
    found: Mapping[str, object] = await KINDS[job["kind"]](job)
    return found


if __name__ == "__main__":
    run_async(work)

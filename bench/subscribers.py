"""Many Subscribe streams of one tenant in a process of their own; each event's id says when it was sent."""

from __future__ import annotations

import asyncio
from array import array
from collections import Counter
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from time import monotonic_ns
from typing import TYPE_CHECKING, Final, NamedTuple

import grpc.aio

from bench.load import connected
from bench.spread import percentile, spread
from bench.worker import Job, run_async, say_ready, wait_for_go_async
from coherence.v1.events_pb2 import EVENT_KIND_SIGNAL_STORED, EventFilter, SubscribeRequest, SubscribeResponse

if TYPE_CHECKING:
    from collections.abc import Mapping

METHOD: Final = "/coherence.v1.EventsService/Subscribe"
OPEN_AT_ONCE: Final = 50
REMEMBERED: Final = 1024
MILLI_NS: Final = 1_000_000


class Frame(NamedTuple):
    """The signals of a frame: their numbers in the log, and when they were sent."""

    kind: str
    seqs: tuple[int, ...]
    sent_ns: tuple[int, ...]


class Frames:
    """Decodes frames; equal bytes, as a hundred subscribers get them, only once."""

    def __init__(self) -> None:
        self._known: dict[bytes, Frame] = {}

    def decoded(self, body: bytes) -> Frame:
        """What a frame says."""
        frame = self._known.get(body)
        if frame is None:
            if len(self._known) >= REMEMBERED:
                self._known.clear()
            frame = self._known[body] = self._decode(body)
        return frame

    @staticmethod
    def _decode(body: bytes) -> Frame:
        response = SubscribeResponse.FromString(body)
        signals = [event.signal for event in response.batch.events if event.HasField("signal")]
        return Frame(
            response.WhichOneof("frame") or "",
            tuple(s.seq for s in signals),
            tuple(int(s.signal.signal_id) for s in signals),
        )


@dataclass(slots=True)
class Subscriber:
    """One stream: what it has seen, and what was wrong with it."""

    expected: int
    opened: asyncio.Event = field(default_factory=asyncio.Event)
    received: int = 0
    last_seq: int = 0
    wrong: int = 0
    ended: str = ""


@dataclass(slots=True)
class Audience:
    """All streams of this process."""

    job: Job
    frames: Frames = field(default_factory=Frames)
    latencies_ns: array[int] = field(default_factory=lambda: array("q"))
    kinds: Counter[str] = field(default_factory=Counter)
    members: list[Subscriber] = field(default_factory=list)

    async def follow(self, channel: grpc.aio.Channel, member: Subscriber) -> None:
        """Read one stream until everything expected was seen."""
        kinds = [EVENT_KIND_SIGNAL_STORED] if self.job["signals_only"] else []
        request = SubscribeRequest(tenant_id=self.job["tenant"], filter=EventFilter(kinds=kinds))
        call: grpc.aio.UnaryStreamMultiCallable[bytes, bytes] = channel.unary_stream(METHOD)
        stream = call(request.SerializeToString())
        try:
            async for body in stream:
                self._take(member, self.frames.decoded(body))
                if member.received >= member.expected:
                    break
            stream.cancel()
        except grpc.aio.AioRpcError as refusal:
            member.ended = f"{refusal.code().name}: {refusal.details()}"
        finally:
            member.opened.set()

    def _take(self, member: Subscriber, frame: Frame) -> None:
        now = monotonic_ns()
        self.kinds[frame.kind] += 1
        if frame.kind == "opened":
            member.opened.set()
        if not frame.seqs:
            return
        if member.received >= self.job["skip"]:
            self.latencies_ns.extend([now - sent for sent in frame.sent_ns])
        member.received += len(frame.seqs)
        for seq in frame.seqs:
            member.wrong += bool(member.last_seq) and seq != member.last_seq + 1
            member.last_seq = seq

    def found(self) -> Mapping[str, object]:
        """Latencies, and what came twice or out of order."""
        ordered = sorted(self.latencies_ns)
        histogram = Counter(latency // MILLI_NS for latency in ordered)
        return {
            "streams": len(self.members),
            "received": sum(member.received for member in self.members),
            "out_of_order": sum(member.wrong for member in self.members),
            "ended": dict(Counter(member.ended for member in self.members if member.ended)),
            "frames": dict(self.kinds),
            "latency_ms": spread(self.latencies_ns, MILLI_NS),
            "p95_ms": percentile(ordered, 0.95) / MILLI_NS if ordered else None,
            "histogram_ms": sorted(histogram.items()),
        }


async def work(job: Job) -> Mapping[str, object]:
    """Open all streams, then read until each has seen `expected` signals or the time is over."""
    audience = Audience(job)
    tasks: list[asyncio.Task[None]] = []
    async with AsyncExitStack() as stack, asyncio.TaskGroup() as group:
        channels = [
            await stack.enter_async_context(connected(job["address"]))
            for _ in range(-(-job["streams"] // job["per_channel"]))
        ]
        for number in range(job["streams"]):
            member = Subscriber(job["expected"])
            audience.members.append(member)
            tasks.append(group.create_task(audience.follow(channels[number % len(channels)], member)))
            if number % OPEN_AT_ONCE == OPEN_AT_ONCE - 1:
                await member.opened.wait()
        for member in audience.members:
            await member.opened.wait()
        say_ready()
        await wait_for_go_async()
        _, late = await asyncio.wait(tasks, timeout=job["within_s"])
        for task in late:
            task.cancel()
    return audience.found()


if __name__ == "__main__":
    run_async(work)

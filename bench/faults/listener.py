"""Many subscribers of one tenant in a process of their own, which go on at another service when theirs is gone.

Each event's id says when it was sent, its type whether all was well then.
"""

from __future__ import annotations

import asyncio
from array import array
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from itertools import cycle, islice
from time import monotonic, monotonic_ns
from typing import TYPE_CHECKING, Final, NamedTuple

import grpc.aio

from bench.faults.replies import RECONNECT
from bench.load import OPTIONS
from bench.spread import percentile, spread
from bench.worker import Job, run_async, say_ready, wait_for_go_async
from coherence.v1.events_pb2 import (
    EVENT_KIND_SIGNAL_STORED,
    POSITION_EARLIEST,
    EventFilter,
    Start,
    SubscribeRequest,
    SubscribeResponse,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

METHOD: Final = "/coherence.v1.EventsService/Subscribe"
STEADY: Final = "steady"
# As many streams as one connection carries without holding each other up.
PER_CHANNEL: Final = 25
REMEMBERED: Final = 1024
AGAIN_S: Final = 0.25
MILLI_NS: Final = 1_000_000


class Frame(NamedTuple):
    """The signals of a frame with the instants at which they were sent (0: not while all was well), and its cursor."""

    seqs: tuple[int, ...]
    sent_ns: tuple[int, ...]
    cursor: str


@dataclass(slots=True)
class Listeners:
    """All of this process. Equal bytes, as most of them get, are decoded once."""

    job: Job
    seen: list[int] = field(default_factory=list)
    wrong: int = 0
    connections: int = 0
    latencies_ns: array[int] = field(default_factory=lambda: array("q"))
    known: dict[bytes, Frame] = field(default_factory=dict)

    async def follow(self, number: int, channels: Sequence[grpc.aio.Channel]) -> None:
        """Read for ever, at one service and then at another."""
        cursor = ""
        for channel in islice(cycle(channels), number % len(channels), None):
            call: grpc.aio.UnaryStreamMultiCallable[bytes, bytes] = channel.unary_stream(METHOD)
            start = Start(cursor=cursor) if cursor else Start(position=POSITION_EARLIEST)
            kinds = EventFilter(kinds=[EVENT_KIND_SIGNAL_STORED])
            request = SubscribeRequest(tenant_id=self.job["tenant"], start=start, filter=kinds)
            stream = call(request.SerializeToString())
            self.connections += 1
            try:
                async for body in stream:
                    frame = self._decoded(body)
                    cursor = frame.cursor or cursor
                    self._take(number, frame)
            except grpc.aio.AioRpcError:
                await asyncio.sleep(AGAIN_S)
            finally:
                stream.cancel()

    def _take(self, number: int, frame: Frame) -> None:
        now = monotonic_ns()
        self.latencies_ns.extend([now - sent for sent in frame.sent_ns if sent])
        for seq in frame.seqs:
            self.wrong += seq != self.seen[number] + 1
            self.seen[number] = seq

    def _decoded(self, body: bytes) -> Frame:
        frame = self.known.get(body)
        if frame is None:
            if len(self.known) >= REMEMBERED:
                self.known.clear()
            frame = self.known[body] = _decode(body)
        return frame

    def found(self, waited_s: float) -> Mapping[str, object]:
        """What each came to, and how late the signals were that were sent while all was well."""
        ordered = sorted(self.latencies_ns)
        return {
            "streams": len(self.seen),
            "whole": sum(seq == self.job["expected"] for seq in self.seen),
            "out_of_order": self.wrong,
            "connections": self.connections,
            "caught_up_s": round(waited_s, 3),
            "steady_ms": spread(ordered, MILLI_NS),
            "steady_p95_ms": round(percentile(ordered, 0.95) / MILLI_NS, 2) if ordered else None,
        }


def _decode(body: bytes) -> Frame:
    response = SubscribeResponse.FromString(body)
    signals = [event.signal for event in response.batch.events if event.HasField("signal")]
    ends = {"opened": response.opened.cursor, "bookmark": response.bookmark.cursor}
    ends |= {"closing": response.closing.resume_cursor}
    kind = response.WhichOneof("frame") or ""
    return Frame(
        tuple(signal.seq for signal in signals),
        tuple(int(one.signal.signal_id) if one.signal.type == STEADY else 0 for one in signals),
        response.batch.events[-1].cursor if response.batch.events else ends.get(kind, ""),
    )


async def work(job: Job) -> Mapping[str, object]:
    """Listen until everything that is `expected` was seen, or the time is over."""
    listeners = Listeners(job, [0] * job["streams"])
    async with AsyncExitStack() as stack, asyncio.TaskGroup() as group:
        tasks = []
        for first in range(0, job["streams"], PER_CHANNEL):
            channels = [
                await stack.enter_async_context(grpc.aio.insecure_channel(address, options=OPTIONS + RECONNECT))
                for address in job["addresses"]
            ]
            numbers = range(first, min(first + PER_CHANNEL, job["streams"]))
            tasks += [group.create_task(listeners.follow(number, channels)) for number in numbers]
        say_ready()
        # What there is to see is known when everything was published.
        await wait_for_go_async()
        begun = monotonic()
        while min(listeners.seen) < job["expected"] and monotonic() < begun + job["within_s"]:  # noqa: ASYNC110 - sums
            await asyncio.sleep(AGAIN_S)
        for task in tasks:
            task.cancel()
    return listeners.found(monotonic() - begun)


if __name__ == "__main__":
    run_async(work)

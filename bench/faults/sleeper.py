"""A subscriber in a process of its own that opens its stream and then takes nothing.

Its connection stays alive, as that of a stuck program does. Woken up, it reads what is left, notes how the stream
ended, and resumes until it has seen everything.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

import grpc.aio

from bench.load import OPTIONS
from bench.worker import Job, run_async, say_ready, wait_for_go
from coherence.v1.events_pb2 import (
    EVENT_KIND_SIGNAL_STORED,
    POSITION_EARLIEST,
    ClosingReason,
    EventFilter,
    Start,
    SubscribeRequest,
    SubscribeResponse,
)
from coherence.v1.events_pb2_grpc import EventsServiceStub
from coherence_grpc.client import refusal_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

# By itself gRPC would take in some 4 MB for a reader that doesn't read.
NARROW: Final = (("grpc.http2.bdp_probe", 0), ("grpc.http2.lookahead_bytes", 16 * 1024))
Stream = grpc.aio.UnaryStreamCall[SubscribeRequest, SubscribeResponse]


@dataclass(slots=True)
class Sleeper:
    """What it has seen, over all its streams."""

    job: Job
    seqs: list[int] = field(default_factory=list)
    cursor: str = ""
    endings: list[str] = field(default_factory=list)

    def opened(self, events: EventsServiceStub) -> Stream:
        """A stream from the beginning, or from where the last one ended."""
        start = Start(cursor=self.cursor) if self.cursor else Start(position=POSITION_EARLIEST)
        return events.Subscribe(
            SubscribeRequest(
                tenant_id=self.job["tenant"], start=start, filter=EventFilter(kinds=[EVENT_KIND_SIGNAL_STORED])
            )
        )

    async def read(self, frames: AsyncIterator[SubscribeResponse]) -> None:
        """Read to the stream's end, or to the last signal."""
        try:
            async for frame in frames:
                self._take(frame)
                if self.job["expected"] in self.seqs[-1:]:
                    return
        except grpc.aio.AioRpcError as error:
            refusal = refusal_of(error)
            self.endings.append(f"{refusal.code} {refusal.reason}")
            self.cursor = refusal.metadata.get("resume_cursor", self.cursor)

    def _take(self, frame: SubscribeResponse) -> None:
        for event in frame.batch.events:
            self.seqs.append(event.signal.seq)
            self.cursor = event.cursor
        if frame.HasField("closing"):
            self.endings.append(f"closing {ClosingReason.Name(frame.closing.reason)}")
            self.cursor = frame.closing.resume_cursor


async def work(job: Job) -> Mapping[str, object]:
    """Open, sleep, read on."""
    sleeper = Sleeper(job)
    async with grpc.aio.insecure_channel(job["address"], options=OPTIONS + NARROW) as channel:
        events = EventsServiceStub(channel)
        stream = sleeper.opened(events)
        frames = aiter(stream)
        await anext(frames)
        say_ready()
        wait_for_go()
        await sleeper.read(frames)
        before = len(sleeper.seqs)
        if job["expected"] not in sleeper.seqs[-1:]:
            stream = sleeper.opened(events)
            await sleeper.read(aiter(stream))
        stream.cancel()
    return {
        "endings": sleeper.endings,
        "seen_before_the_end": before,
        "seen": len(sleeper.seqs),
        # The server can't know whether the frame that was under way when it gave up has arrived: it sends it again.
        "repeated": len(sleeper.seqs) - len(set(sleeper.seqs)),
        "whole": sorted(set(sleeper.seqs)) == list(range(1, job["expected"] + 1)),
    }


if __name__ == "__main__":
    run_async(work)

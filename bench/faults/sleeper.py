"""A subscriber in a process of its own that opens its stream and then, frozen by its parent, takes nothing.

Woken up, it reads what is left, notes how the stream ended, and resumes until it has seen everything.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import grpc.aio

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
from coherence_grpc.client import Client, connect, refusal_of

if TYPE_CHECKING:
    from collections.abc import Mapping

Stream = grpc.aio.UnaryStreamCall[SubscribeRequest, SubscribeResponse]


@dataclass(slots=True)
class Sleeper:
    """What it has seen, over all its streams."""

    job: Job
    seqs: list[int] = field(default_factory=list)
    cursor: str = ""
    endings: list[str] = field(default_factory=list)

    def opened(self, client: Client) -> Stream:
        """A stream from the beginning, or from where the last one ended."""
        start = Start(cursor=self.cursor) if self.cursor else Start(position=POSITION_EARLIEST)
        return client.events.Subscribe(
            SubscribeRequest(
                tenant_id=self.job["tenant"], start=start, filter=EventFilter(kinds=[EVENT_KIND_SIGNAL_STORED])
            )
        )

    async def read(self, stream: Stream) -> None:
        """Read to the stream's end, or to the last signal."""
        try:
            async for frame in stream:
                self._take(frame)
                if self.job["expected"] in self.seqs[-1:]:
                    stream.cancel()
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
    async with connect(job["address"]) as client:
        stream = sleeper.opened(client)
        await stream.read()
        say_ready()
        wait_for_go()
        await sleeper.read(stream)
        before = len(sleeper.seqs)
        if job["expected"] not in sleeper.seqs[-1:]:
            await sleeper.read(sleeper.opened(client))
    return {
        "endings": sleeper.endings,
        "seen_before_the_end": before,
        "seen": len(sleeper.seqs),
        "whole": sleeper.seqs == list(range(1, job["expected"] + 1)),
    }


if __name__ == "__main__":
    run_async(work)

"""A program that puts numbered signals into a Publisher, in a process of its own, and says what memory that took."""

from __future__ import annotations

import os
from time import monotonic
from typing import TYPE_CHECKING, Final

from bench.worker import Job, run_async, say_ready, wait_for_go
from coherence_grpc.client import Signal, connect
from tests.serving import resident_bytes

if TYPE_CHECKING:
    from collections.abc import Mapping

CLOSE_S: Final = 120.0
MB: Final = 1 << 20


async def put(job: Job) -> Mapping[str, object]:
    """Put them all as fast as they are taken, and flush."""
    count, most = job["count"], 0
    resident: list[float] = []
    async with connect(job["address"]) as client:
        say_ready()
        wait_for_go()
        begun = monotonic()
        async with client.publisher(job["tenant"], max_pending=job["max_pending"], close_s=CLOSE_S) as publisher:
            for number in range(count):
                await publisher.put(Signal("ci", "build", 0.5, signal_id=f"n{number}"))
                if number % (count // 10) == count // 10 - 1:
                    resident.append(round(resident_bytes(os.getpid()) / MB, 1))
                    most = max(most, publisher.stats.pending)
    elapsed_s, stats = monotonic() - begun, publisher.stats
    return {
        "seconds": round(elapsed_s, 1),
        "per_second": round(count / elapsed_s),
        "stored": stats.stored,
        "duplicate": stats.duplicate,
        "rejected": stats.rejected,
        "connections": stats.connections,
        "most_pending": most,
        "rss_mb_after_a_tenth": resident[0],
        "rss_mb": max(resident),
    }


if __name__ == "__main__":
    run_async(put)

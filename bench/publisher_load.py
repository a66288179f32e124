"""Publishers of the Python client, in a process of their own: one a tenant, and the signals as a program has them."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from time import monotonic
from typing import TYPE_CHECKING, Final

from bench.requests import signal, tenant
from bench.worker import Job, run_async, say_ready, wait_for_go
from coherence_grpc.client import Client, Signal, connect

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from coherence_grpc.client import PublisherStats

EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


def signals_of(job: Job, number: int) -> Sequence[Signal]:
    """The signals of one tenant: together they are those of as many frames."""
    size, first = job["size"], job["first"]
    starts = range(first + number * size, first + job["count"] * size, job["tenants"] * size)
    return [as_client(n, job["start_us"]) for start in starts for n in range(start, start + size)]


def as_client(number: int, start_us: int) -> Signal:
    """The benchmark's signal as the client has it."""
    made = signal(number, start_us)
    ts = EPOCH + timedelta(microseconds=made.ts.ToMicroseconds())
    return Signal(made.source, made.type, made.value, made.weight, ts, made.signal_id)


async def publish(job: Job) -> Mapping[str, object]:
    """Put every signal once and flush; signals a second."""
    signals = [signals_of(job, number) for number in range(job["tenants"])]
    async with connect(job["address"]) as client:
        await client.get_score(tenant(0))
        say_ready()
        wait_for_go()
        begun = monotonic()
        async with asyncio.TaskGroup() as group:
            putting = [group.create_task(_put(client, number, own)) for number, own in enumerate(signals)]
        elapsed_s = monotonic() - begun
    stored = sum(task.result().stored for task in putting)
    return {"elapsed_s": elapsed_s, "stored": stored, "per_second": stored / elapsed_s}


async def _put(client: Client, number: int, signals: Sequence[Signal]) -> PublisherStats:
    async with client.publisher(tenant(number)) as publisher:
        await publisher.put_all(signals)
    return publisher.stats


if __name__ == "__main__":
    run_async(publish)

"""Unary gRPC calls at a rate, whatever the answers take: each latency counts from when it was meant to be sent."""

from __future__ import annotations

import asyncio
from collections import Counter
from itertools import islice
from time import monotonic
from typing import TYPE_CHECKING, Final

import grpc.aio

from bench.load import connected
from bench.requests import batches
from bench.spread import spread
from bench.worker import Job, run_async, say_ready, wait_for_go

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from bench.load import Call

CALL_S: Final = 10.0


class Steady:
    """What became of the calls."""

    def __init__(self, call: Call) -> None:
        self._call = call
        self.latencies_s: list[float] = []
        self.failures: Counter[str] = Counter()

    async def run(self, bodies: Sequence[bytes], rate: float, count: int) -> None:
        """The bodies in turn, `rate` a second, `count` in all."""
        begun = monotonic()
        async with asyncio.TaskGroup() as group:
            for number in range(count):
                intended = begun + number / rate
                await asyncio.sleep(max(0.0, intended - monotonic()))
                group.create_task(self._send(bodies[number % len(bodies)], intended))

    async def _send(self, body: bytes, intended: float) -> None:
        # The loop's clock is coarse: it may wake a little too soon.
        begun = min(intended, monotonic())
        try:
            await self._call(body, timeout=CALL_S)
        except grpc.aio.AioRpcError as refusal:
            self.failures[f"{refusal.code().name}: {refusal.details()}"] += 1
        else:
            self.latencies_s.append(monotonic() - begun)


def _bodies(job: Job) -> Sequence[bytes]:
    if "bodies" in job:
        return [bytes.fromhex(body) for body in job["bodies"]]
    return list(batches(**{name: job[name] for name in ("size", "count", "first", "start_us", "tenants")}))


async def work(job: Job) -> Mapping[str, object]:
    """Warm up, forget that, then measure; bodies that were made for this are sent once each."""
    bodies = _bodies(job)
    warm_up, count = int(job["warm_up_s"] * job["rate"]), int(job["seconds"] * job["rate"])
    rest = bodies if "bodies" in job else bodies[warm_up:]
    async with connected(job["address"]) as channel:
        call: Call = channel.unary_unary(job["method"])
        await Steady(call).run(list(islice(bodies, warm_up)) or bodies, job["rate"], warm_up)
        steady = Steady(call)
        say_ready()
        wait_for_go()
        await steady.run(rest, job["rate"], count)
    return {
        "sent": count,
        "answered": len(steady.latencies_s),
        "errors": sum(steady.failures.values()),
        "failures": dict(steady.failures),
        "latency_ms": spread(steady.latencies_s, 0.001),
    }


if __name__ == "__main__":
    run_async(work)

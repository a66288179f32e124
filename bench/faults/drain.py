"""R14: SIGTERM under load, again and again, with the shipped client and one follower."""

from __future__ import annotations

import asyncio
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field
from time import monotonic
from typing import TYPE_CHECKING, Final

import grpc.aio

from bench.faults.run import Finding, flaw_of
from bench.report import progress
from bench.spread import spread
from coherence_grpc.client import Client, connect
from tests.builders import fresh
from tests.e2e.following import Follower, over_grpc
from tests.e2e.reading import all_signals, clock_us, named
from tests.e2e.rows import a_row, publish_of
from tests.serving import serving, until

if TYPE_CHECKING:
    from pathlib import Path

    from bench.faults.run import Length
    from tests.e2e.reading import Named

DEMAND: Final = (
    "exit code 0, acknowledged − stored = 0, every stream resumes and misses nothing, refusals only UNAVAILABLE"
)
TENANT: Final = "acme"
CALLERS: Final = 16
LOAD_S: Final = 2.0
CATCH_UP_S: Final = 30.0


@dataclass(slots=True)
class Callers:
    """Publish all the time through restarts, and note what came of it."""

    acknowledged: dict[Named, int] = field(default_factory=dict)
    refused: Counter[str] = field(default_factory=Counter)
    calls: int = 0

    async def publish_for_ever(self, client: Client, now: int) -> None:
        """One signal after the other, each tried as the shipped client tries."""
        while True:
            self.calls += 1
            try:
                reply = await client.ingest.PublishSignal(publish_of(a_row(TENANT, ts=now), fresh("request")))
            except grpc.aio.AioRpcError as refusal:
                self.refused[refusal.code().name] += 1
                await asyncio.sleep(0.05)
            else:
                self.acknowledged[named(reply.key)] = reply.seq


async def drained(length: Length) -> Finding:
    """Drain and restart on the same address while callers go on."""
    directory, callers, follower = length.fresh("drained"), Callers(), Follower()
    codes, drain_s, gaps_s = list[int](), list[float](), list[float]()
    address = await _free_address(directory)
    async with connect(address) as client, asyncio.TaskGroup() as tasks:
        going: list[asyncio.Task[None]] = []
        for run in range(length.runs):
            ended = monotonic()
            async with serving(directory, "--grpc", address) as served:
                gaps_s.append(monotonic() - ended)
                if not going:
                    now = await clock_us(client)
                    going = [tasks.create_task(callers.publish_for_ever(client, now)) for _ in range(CALLERS)]
                    lost = (grpc.aio.AioRpcError,)
                    going.append(tasks.create_task(follower.follow(over_grpc(address, TENANT, []), lost)))
                await asyncio.sleep(LOAD_S)
                begun = monotonic()
                codes.append(await served.stop())
                drain_s.append(monotonic() - begun)
            progress(f"  drain {run + 1}: {drain_s[-1]:.2f} s, exit code {codes[-1]}, refused {dict(callers.refused)}")
        figures = await _compared(directory, address, callers, follower, going)
    figures |= {"drains": length.runs, "exit_codes": codes, "drain_s": spread(drain_s), "restart_s": spread(gaps_s)}
    held = not (any(codes) or figures["lost"] or figures["flaw"]) and bool(figures["follower_whole"])
    return Finding(DEMAND, held and set(callers.refused) <= {"UNAVAILABLE"}, figures)


async def _free_address(directory: Path) -> str:
    async with serving(directory, http=False) as served:
        return served.grpc


async def _compared(
    directory: Path, address: str, callers: Callers, follower: Follower, going: list[asyncio.Task[None]]
) -> dict[str, object]:
    """What is stored, beside what was acknowledged and what the follower saw."""
    for task in going[:CALLERS]:
        task.cancel()
    async with serving(directory, "--grpc", address, http=False), connect(address) as client:
        stored = {named(signal): signal.seq for signal in await all_signals(client, TENANT)}
        with suppress(TimeoutError):
            await until(lambda: len(follower.signals) >= len(stored), within_s=CATCH_UP_S)
        flaw = await flaw_of(client, TENANT)
    going[-1].cancel()
    return {
        "calls": callers.calls,
        "acknowledged": len(callers.acknowledged),
        "refused": dict(callers.refused),
        "lost": sum(stored.get(key) != seq for key, seq in callers.acknowledged.items()),
        "flaw": flaw,
        "follower_whole": follower.signals == list(range(1, len(stored) + 1)),
    }

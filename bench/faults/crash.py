"""R3: the service is killed under concurrent ingest, again and again, over the same data."""

from __future__ import annotations

import asyncio
import random
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

import grpc.aio

from bench.faults.run import Finding, flaw_of
from bench.load import OPTIONS
from bench.report import progress
from bench.spread import spread
from coherence.v1.ingest_pb2_grpc import IngestServiceStub
from coherence_grpc.client import connect
from tests.e2e.reading import Named, all_signals, clock_us, named
from tests.e2e.rows import a_row, batch_of, publish_of
from tests.serving import LeftBehind, serving

if TYPE_CHECKING:
    from bench.faults.run import Length
    from tests.serving import Served

DEMAND: Final = "acknowledged − stored = 0, nothing twice, ledger clean, score exact, no process left; ready ≤ 3 s"
TENANTS: Final = ("north", "east", "south", "west")
CALLERS: Final = 8
BATCH: Final = 20
READY_S: Final = 3.0
EVERY: Final = 20


@dataclass(slots=True)
class History:
    """What was acknowledged, by tenant and key, with its number."""

    acknowledged: dict[tuple[str, Named], int] = field(default_factory=dict)
    ready_s: list[float] = field(default_factory=list)
    left_behind: int = 0


async def killed(length: Length) -> Finding:
    """Kill, restart, go on; compare what was acknowledged with what is there."""
    history, directory = History(), length.fresh("killed")
    for run in range(length.runs):
        async with serving(directory) as served:
            history.ready_s.append(served.ready_s)
            await _killed_under_ingest(served, history)
        if run % EVERY == EVERY - 1:
            progress(f"  {run + 1} kills, {len(history.acknowledged):,} acknowledged")
    lost, flaws = 0, []
    async with serving(directory, http=False) as served, connect(served.grpc) as client:
        for tenant in TENANTS:
            stored = {named(signal): signal.seq for signal in await all_signals(client, tenant)}
            own = ((key, seq) for (owner, key), seq in history.acknowledged.items() if owner == tenant)
            lost += sum(stored.get(key) != seq for key, seq in own)
            flaws.append(await flaw_of(client, tenant))
    figures = {
        "kills": length.runs,
        "acknowledged": len(history.acknowledged),
        "lost": lost,
        "flaws": list(filter(None, flaws)),
        "processes_left": history.left_behind,
        "restart_until_ready_s": spread(history.ready_s),
    }
    held = not (lost or figures["flaws"] or history.left_behind)
    return Finding(DEMAND, held, figures, in_time=max(history.ready_s) <= READY_S)


async def _killed_under_ingest(served: Served, history: History) -> None:
    async with connect(served.grpc) as client:
        now = await clock_us(client)
    # Without retries: a call that fails is not acknowledged.
    async with grpc.aio.insecure_channel(served.grpc, options=OPTIONS) as channel, asyncio.TaskGroup() as callers:
        for number in range(CALLERS):
            tenant = TENANTS[number % len(TENANTS)]
            callers.create_task(_publish_until_it_ends(IngestServiceStub(channel), tenant, now, history))
        await asyncio.sleep(random.uniform(0.05, 0.5))  # noqa: S311 - any moment will do
        await served.kill()
    try:
        await served.all_gone()
    except LeftBehind:
        history.left_behind += 1


async def _publish_until_it_ends(stub: IngestServiceStub, tenant: str, now: int, history: History) -> None:
    with suppress(grpc.aio.AioRpcError):
        while True:
            rows = [a_row(tenant, ts=now - n, value=random.random()) for n in range(BATCH)]  # noqa: S311 - a value
            reply = await stub.PublishSignals(batch_of(rows, tenant))
            for row, result in zip(rows, reply.results, strict=True):
                history.acknowledged[tenant, Named(row["source"], row["signal_id"], row["ts"])] = result.seq
            one = await stub.PublishSignal(publish_of(a_row(tenant, ts=now)))
            history.acknowledged[tenant, named(one.key)] = one.seq

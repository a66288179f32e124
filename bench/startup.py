"""Start-up: until the ready line, empty and with a million signals stored; and what an idle service holds."""

from __future__ import annotations

import asyncio
from time import monotonic
from typing import TYPE_CHECKING, Final

from bench.load import connected
from bench.plan import published
from bench.reads import GET_SCORE
from bench.report import Figure, Target, progress
from bench.requests import tenant
from coherence.v1.score_pb2 import GetScoreRequest, GetScoreResponse
from tests.serving import resident_bytes, serving

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from bench.load import Call
    from bench.plan import Plan
    from tests.serving import Served

FIGURES: Final = (
    "start until ready",
    "restart with 1M signals until ready",
    "first GetScore over 1M signals",
    "idle memory, backbone",
    "idle memory, subgraph",
)
READY: Final = Target(2.0, at_most=True)
MEMORY: Final = Target(150, at_most=True)
MIB: Final = 1024 * 1024


async def start_up(plan: Plan) -> AsyncIterator[Figure]:
    """Best of several starts; memory after a few quiet seconds."""
    ready_s, memory = [], []
    for _ in range(plan.either(7, 1)):
        async with serving(plan.fresh("start")) as service:
            ready_s.append(service.ready_s)
            memory.append(await _memory(plan, service))
        progress(f"  ready after {ready_s[-1]:.2f} s, {memory[-1]} MiB")
    yield Figure(FIGURES[0], value=min(ready_s), unit="s", targets=[READY], samples={"ready_s": ready_s})
    async for figure in _with_many(plan, plan.fresh("many")):
        yield figure
    for name, part in zip(FIGURES[3:], ("backbone", "subgraph"), strict=True):
        held = [found[part] for found in memory if part in found]
        yield Figure(
            name,
            value=max(held) if held else None,
            unit="MiB",
            targets=[MEMORY],
            samples={"MiB": held},
            not_run="" if held else "the process was not found",
        )


async def _with_many(plan: Plan, directory: Path) -> AsyncIterator[Figure]:
    count = plan.either(1000, 10)
    async with serving(directory, http=False, drain=True) as service:
        filled = await published(service.grpc, size=1000, count=count, callers=4, tenants=1)
    progress(f"  {filled['stored']:,} signals stored at {filled['per_second']:,.0f}/s")
    ready_s, first_s, memory = [], [], []
    for _ in range(plan.either(3, 1)):
        async with serving(directory, drain=True) as service:
            ready_s.append(service.ready_s)
            idle = await _memory(plan, service)
            first_s.append(await _first_score(service))
            memory.append({"idle": idle, "with the window": await _memory(plan, service)})
        progress(f"  ready after {ready_s[-1]:.2f} s, first score after {first_s[-1]:.2f} s, {memory[-1]}")
    yield Figure(
        FIGURES[1],
        value=min(ready_s),
        unit="s",
        targets=[READY],
        samples={"ready_s": ready_s},
        details={"signals": filled["stored"], "memory_mib": memory},
    )
    yield Figure(FIGURES[2], value=min(first_s), unit="s", samples={"first_s": first_s})


async def _first_score(service: Served) -> float:
    """How long the first read takes, which loads the window."""
    async with connected(service.grpc) as channel:
        begun = monotonic()
        request = GetScoreRequest(tenant_id=tenant(0)).SerializeToString()
        call: Call = channel.unary_unary(GET_SCORE)
        GetScoreResponse.FromString(await call(request, timeout=10.0))
        return monotonic() - begun


async def _memory(plan: Plan, service: Served) -> dict[str, float]:
    """MiB of the backbone and of the subgraph, after a few quiet seconds."""
    await asyncio.sleep(plan.either(3, 1))
    found = {"backbone": round(resident_bytes(service.process.pid) / MIB, 1)}
    for child in service.children():
        found["subgraph"] = max(found.get("subgraph", 0.0), round(resident_bytes(child.number) / MIB, 1))
    return found

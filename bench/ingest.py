"""Durable ingest through the served process, beside a bare loop over the same requests, in turns.

The loop commits each request by itself, as the simplest program would; that it could also commit as many at once as
the service has callers is a second row: it shows what everything but storing costs.
"""

from __future__ import annotations

from dataclasses import dataclass
from statistics import median
from typing import TYPE_CHECKING, Final

from bench.plan import past_us
from bench.report import Figure, Target, progress
from bench.worker import cpu_seconds, working
from tests.serving import serving

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from pathlib import Path

    from bench.plan import Plan
    from bench.worker import Job
    from tests.serving import Served

TENANTS: Final = 4
RUN_S: Final = 120.0
GROUP_ROWS: Final = 2000


@dataclass(frozen=True, slots=True)
class Load:
    """Requests of one size; `count` of them a round."""

    size: int
    count: int
    quick_count: int
    callers: int
    targets: tuple[Target, ...]

    @property
    def figure(self) -> str:
        """Its name in the table."""
        rpc = "PublishSignal" if self.size == 1 else "PublishSignals"
        return f"{rpc} b={self.size}, {self.callers} callers"

    @property
    def group(self) -> int:
        """How many requests the service can have in one commit."""
        return max(1, min(self.callers, GROUP_ROWS // self.size))


LOADS: Final = (
    Load(1000, 150, 4, 4, (Target(60_000), Target(0.6, of="ratio"))),
    Load(100, 1000, 20, 16, (Target(40_000),)),
    Load(1, 6000, 200, 32, (Target(2_000),)),
)
GROUPED: Final = " / loop with grouped commits"
FIGURES: Final = tuple(name for load in LOADS for name in (load.figure, load.figure + GROUPED))


async def durable_ingest(plan: Plan) -> AsyncIterator[Figure]:
    """Median round of the service beside that of the loop; the first round only warms up."""
    for load in LOADS:
        directory, bare = plan.fresh("ingest"), plan.fresh("bare")
        ours: list[Job] = []
        theirs: dict[int, list[Job]] = {1: [], load.group: []}
        async with serving(directory, http=False) as service:
            for requests in _turns(plan, load):
                ours.append(await _through(service, requests))
                for group, found in theirs.items():
                    found.append(await _bare(bare, group, requests))
                rates = [ours[-1]["per_second"], *(found[-1]["per_second"] for found in theirs.values())]
                progress(f"  b={load.size}: " + " beside ".join(f"{rate:,.0f}" for rate in rates))
        yield _figure(load, load.figure, ours[1:], theirs[1][1:], load.targets)
        yield _figure(load, load.figure + GROUPED, ours[1:], theirs[load.group][1:], ())


def _turns(plan: Plan, load: Load) -> Iterator[Job]:
    """The requests of each round; instants rise from the first to the last, as they do when sources are live."""
    turns, count = plan.either(6, 2), plan.either(load.count, load.quick_count)
    start_us = past_us(turns * count * load.size)
    for turn in range(turns):
        first = turn * count * load.size
        yield {"size": load.size, "count": count, "first": first, "start_us": start_us, "tenants": TENANTS}


async def _through(service: Served, requests: Job) -> Job:
    job = requests | {"kind": "publish", "address": service.grpc, "callers": _callers(requests)}
    async with working("bench.load", job) as load:
        before = cpu_seconds(service.process.pid)
        found = await load.run(RUN_S)
    used_s = cpu_seconds(service.process.pid) - before
    return found | {"service_cpu_us_a_signal": round(used_s / max(1, found["stored"]) * 1e6, 2)}


def _callers(requests: Job) -> int:
    return next(load.callers for load in LOADS if load.size == requests["size"])


async def _bare(directory: Path, group: int, requests: Job) -> Job:
    job = requests | {"path": str(directory / f"group-{group}.db"), "group": group}
    async with working("bench.loop", job) as loop:
        return await loop.run(RUN_S)


def _figure(load: Load, name: str, ours: list[Job], theirs: list[Job], targets: tuple[Target, ...]) -> Figure:
    sent = sum(found["calls"] * load.size for found in ours)
    return Figure(
        name,
        value=median(found["per_second"] for found in ours),
        unit="signals/s",
        reference=median(found["per_second"] for found in theirs),
        reference_name="bare loop",
        targets=targets,
        samples={
            "service": [found["per_second"] for found in ours],
            "bare loop": [found["per_second"] for found in theirs],
        },
        details={"callers": load.callers, "sent": sent, "stored": sum(f["stored"] for f in ours), "rounds": ours},
    )

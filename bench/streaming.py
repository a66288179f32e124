"""StreamSignals beside unary publishing of the same signals, through one served process, in turns."""

from __future__ import annotations

from dataclasses import dataclass
from statistics import median
from typing import TYPE_CHECKING, Final

from bench.plan import past_us
from bench.report import Figure, Target, progress
from bench.worker import cpu_seconds, working
from tests.serving import serving

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from bench.plan import Plan
    from bench.worker import Job
    from tests.serving import Served

TENANTS: Final = 4
RUN_S: Final = 120.0


@dataclass(frozen=True, slots=True)
class Load:
    """Frames of one size; `count` of them a round, and how many callers publish as much without a stream."""

    size: int
    count: int
    quick_count: int
    callers: int
    targets: tuple[Target, ...]

    @property
    def figure(self) -> str:
        """Its name in the table."""
        return f"StreamSignals b={self.size}, {TENANTS} streams"


LOADS: Final = (
    Load(1000, 200, 4, 4, (Target(75_000),)),
    Load(100, 1500, 20, 16, ()),
    Load(1, 20_000, 200, 32, (Target(8_000),)),
)
FIGURES: Final = tuple(load.figure for load in LOADS)


async def streamed_ingest(plan: Plan) -> AsyncIterator[Figure]:
    """Median round of the streams beside that of unary calls; the first round only warms up."""
    for load in LOADS:
        streams: list[Job] = []
        unary: list[Job] = []
        async with serving(plan.fresh("streams"), http=False) as service:
            turns, count = plan.either(6, 2), plan.either(load.count, load.quick_count)
            start_us = past_us(2 * turns * count * load.size)
            for turn in range(turns):
                first = 2 * turn * count * load.size
                same = {"size": load.size, "count": count, "start_us": start_us, "tenants": TENANTS}
                streams.append(await _ran(service, "bench.stream_load", same | {"first": first}))
                called = {"kind": "publish", "callers": load.callers, "first": first + count * load.size}
                unary.append(await _ran(service, "bench.load", same | called))
                rates = (streams[-1]["per_second"], unary[-1]["per_second"])
                progress(f"  b={load.size}: " + " beside ".join(f"{rate:,.0f}" for rate in rates))
        yield _figure(load, streams[1:], unary[1:])


async def _ran(service: Served, module: str, job: Job) -> Job:
    async with working(module, job | {"address": service.grpc}) as load:
        before = cpu_seconds(service.process.pid)
        found = await load.run(RUN_S)
    used_s = cpu_seconds(service.process.pid) - before
    return found | {"service_cpu_us_a_signal": round(used_s / max(1, found["stored"]) * 1e6, 2)}


def _figure(load: Load, streams: list[Job], unary: list[Job]) -> Figure:
    return Figure(
        load.figure,
        value=median(found["per_second"] for found in streams),
        unit="signals/s",
        reference=median(found["per_second"] for found in unary),
        reference_name=f"unary, {load.callers} callers",
        targets=load.targets,
        samples={
            "streams": [found["per_second"] for found in streams],
            "unary": [found["per_second"] for found in unary],
        },
        details={"sent": len(streams) * load.size, "rounds": streams, "unary_rounds": unary},
    )

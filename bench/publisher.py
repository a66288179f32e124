"""The client's Publisher beside a bare stream of the same signals, through one served process, in turns.

The bare stream sends frames that were encoded beforehand; the Publisher takes one signal after the other, encodes and
batches it, keeps it until it is acknowledged, and is what a program would really use.
"""

from __future__ import annotations

from statistics import median
from typing import TYPE_CHECKING, Final

from bench.plan import past_us
from bench.report import Figure, Target, progress
from bench.worker import working
from tests.serving import serving

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from bench.plan import Plan
    from bench.worker import Job
    from tests.serving import Served

TENANTS: Final = 4
SIZE: Final = 1000
RUN_S: Final = 120.0
FIGURE: Final = f"Publisher, {TENANTS} tenants"
FIGURES: Final = (FIGURE,)


async def published_by_client(plan: Plan) -> AsyncIterator[Figure]:
    """Median round of the Publishers beside that of the bare streams; the first round only warms up."""
    ours: list[Job] = []
    bare: list[Job] = []
    turns, count = plan.either(8, 2), plan.either(200, 4)
    start_us = past_us(2 * turns * count * SIZE)
    async with serving(plan.fresh("publisher"), http=False) as service:
        for turn in range(turns):
            first = 2 * turn * count * SIZE
            job = {"size": SIZE, "count": count, "start_us": start_us, "tenants": TENANTS}
            ours.append(await _ran(service, "bench.publisher_load", job | {"first": first}))
            bare.append(await _ran(service, "bench.stream_load", job | {"first": first + count * SIZE}))
            progress(f"  {ours[-1]['per_second']:,.0f} beside {bare[-1]['per_second']:,.0f}")
    yield Figure(
        FIGURE,
        value=median(found["per_second"] for found in ours[1:]),
        unit="signals/s",
        reference=median(found["per_second"] for found in bare[1:]),
        reference_name=f"bare stream b={SIZE}",
        targets=[Target(0.8, of="ratio")],
        samples={
            "publisher": [found["per_second"] for found in ours[1:]],
            "bare stream": [found["per_second"] for found in bare[1:]],
        },
        details={"rounds": ours, "bare_rounds": bare},
    )


async def _ran(service: Served, module: str, job: Job) -> Job:
    async with working(module, job | {"address": service.grpc}) as load:
        return await load.run(RUN_S)

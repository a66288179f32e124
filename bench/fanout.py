"""Fan-out: one tenant's signals at 100 a second to N Subscribe streams, from being sent to being received."""

from __future__ import annotations

from contextlib import AsyncExitStack
from time import monotonic
from typing import TYPE_CHECKING, Final

from bench.plan import past_us
from bench.report import Figure, Target, progress
from bench.worker import cpu_seconds, working
from tests.serving import serving

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from bench.plan import Plan
    from bench.worker import Job

TENANT: Final = "bench-fanout"
RATE: Final = 100
PER_CHANNEL: Final = 80
PER_PROCESS: Final = 500
AUDIENCES: Final = {1: None, 100: 20.0, 1000: 150.0}
FIGURES: Final = tuple(f"fan-out p95, N={n}" for n in AUDIENCES)
LOST: Final = "fan-out lost or out of order"
SLACK_S: Final = 30.0


async def fan_out(plan: Plan) -> AsyncIterator[Figure]:
    """For each size of audience, p95 of the best round; then what got lost in all of them."""
    flaws: dict[str, int] = {}
    for streams, bound_ms in AUDIENCES.items():
        size = min(streams, plan.either(streams, 20))
        rounds = [await _round(plan, size) for _ in range(plan.either(3, 1))]
        for found in rounds:
            flaws[f"N={streams}"] = flaws.get(f"N={streams}", 0) + found["lost"] + found["out_of_order"]
            progress(f"  N={size}: {found['latency_ms']} lost {found['lost']} {found['ended'] or ''}")
        yield Figure(
            f"fan-out p95, N={streams}",
            value=min(found["p95_ms"] for found in rounds),
            unit="ms",
            targets=[Target(bound_ms, at_most=True)] if bound_ms else (),
            samples={"p95_ms": [found["p95_ms"] for found in rounds]},
            details={"streams": size, "rate": RATE, "rounds": rounds},
        )
    yield Figure(LOST, value=sum(flaws.values()), unit="signals", targets=[Target(0, at_most=True)], details=flaws)


async def _round(plan: Plan, streams: int) -> Job:
    """A fresh service, its audience, and a publisher."""
    async with serving(plan.fresh("fan-out"), http=False) as service:
        before, begun = cpu_seconds(service.process.pid), monotonic()
        found = await listened(service.grpc, TENANT, streams, count=plan.either(1200, 100), skip=plan.either(200, 10))
        used_s = cpu_seconds(service.process.pid) - before
    return found | {"service_cores": round(used_s / (monotonic() - begun), 2)}


async def listened(
    address: str, tenant_id: str, streams: int, *, count: int, skip: int, signals_only: bool = True
) -> Job:
    """`streams` subscribers hear `count` signals at 100 a second; the first `skip` of each count as warm-up."""
    job = {
        "address": address,
        "tenant": tenant_id,
        "per_channel": PER_CHANNEL,
        "expected": count,
        "skip": skip,
        "signals_only": signals_only,
        "within_s": count / RATE + SLACK_S,
    }
    paced = {
        "kind": "paced",
        "address": address,
        "tenant": tenant_id,
        "rate": RATE,
        "count": count,
        "start_us": past_us(count * 10),
    }
    async with AsyncExitStack() as stack:
        audiences = [
            await stack.enter_async_context(working("bench.subscribers", job | {"streams": part}))
            for part in _parts(streams)
        ]
        publisher = await stack.enter_async_context(working("bench.load", paced))
        for audience in audiences:
            await audience.go()
        sent = await publisher.run(count / RATE + SLACK_S)
        heard = [await audience.answer(count / RATE + 2 * SLACK_S) for audience in audiences]
    found = _together(heard)
    # What could not be published was not lost on the way to the subscribers.
    return found | {"lost": sent["calls"] * streams - found["received"], "publish": sent}


def _parts(streams: int) -> Sequence[int]:
    whole, rest = divmod(streams, PER_PROCESS)
    return [PER_PROCESS] * whole + ([rest] if rest else [])


def _together(heard: Sequence[Job]) -> Job:
    """The processes' findings as one; the percentiles are those of the slowest process."""
    slowest = max(heard, key=lambda found: found["p95_ms"] or float("inf"))
    summed = {name: sum(found[name] for found in heard) for name in ("streams", "received", "out_of_order")}
    return slowest | summed

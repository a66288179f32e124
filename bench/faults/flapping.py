"""R11: all three servers come and go together; what a service then holds open is compared with what it held before."""

from __future__ import annotations

import asyncio
import json
import os
from contextlib import AsyncExitStack
from pathlib import Path
from signal import SIGUSR1
from time import monotonic
from typing import TYPE_CHECKING, Any, Final

from bench.faults.enduring import ADDRESSES, PARTS, difference
from bench.faults.run import Finding
from bench.report import progress
from bench.servers import environment_of, owned
from coherence_grpc.client import connect
from tests.e2e.bearing import bearing, descriptors, followed, settled
from tests.faultproxy import behind_proxies
from tests.serving import eventually, serving, until

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from bench.faults.run import Length
    from tests.e2e.bearing import Bearing
    from tests.faultproxy import FaultProxy
    from tests.serving import Served

DEMAND: Final = (
    "nothing acknowledged is lost, nothing stored twice, every event seen once, scores exact;"
    " tasks, connections and descriptors return to what they were"
)
INSIDE: Final = Path(__file__).parent / "inside"
HALF_S: Final = 1.0
CATCH_UP_S: Final = 60.0
# Pools keep what a moment of many calls made them open, each up to its limit.
POOLED: Final = 10
# A row on its way, a lease being renewed.
PASSING: Final = 3


async def flapped(length: Length) -> Finding:
    """One second away, one second there, again and again: refused and silent in turns."""
    counted = length.directory / "tasks.json"
    async with AsyncExitStack() as stack:
        own = await stack.enter_async_context(owned(*PARTS))
        names = [ADDRESSES[part] for part in PARTS]
        environment, proxies = await stack.enter_async_context(behind_proxies(environment_of(own), *names))
        inside = {"PYTHONPATH": str(INSIDE), "COUNTED_TASKS": str(counted)}
        served = await stack.enter_async_context(
            serving(length.fresh("flapped"), environment=dict(environment) | inside, http=False)
        )
        async with bearing(served.grpc, readers=[served.grpc]) as well:
            await settled(served.grpc, well)
            await well.finish()
        before = await _held(served, proxies, counted)
        going, events = await _flapping(served, proxies, length.runs)
        after = await _fallen_to(before, served, proxies, counted)
        async with connect(served.grpc) as client:
            found = await difference(client, well.acked | going.acked)
    found["flaws"] += events
    refused = sorted({one.code for one in going.refused})
    figures: dict[str, Any] = {"seconds": length.runs, "calls_refused": len(going.refused), "refused_as": refused}
    figures |= found | {"before": before, "after": after}
    held = not (found["lost"] or found["never_acknowledged"] or found["flaws"]) and _returned(before, after)
    return Finding(DEMAND, held and set(refused) <= {"UNAVAILABLE"}, figures)


async def _flapping(served: Served, proxies: Sequence[FaultProxy], seconds: int) -> tuple[Bearing, list[str]]:
    """The load that went on, and what a follower of it missed."""
    flaws: list[str] = []
    async with bearing(served.grpc, readers=[served.grpc]) as going, followed(served.grpc) as check_events:
        await settled(served.grpc, going)
        begun, flaps = monotonic(), 0
        while monotonic() < begun + seconds:
            for proxy in proxies:
                if flaps % 2:
                    proxy.black_hole()
                else:
                    proxy.refuse()
            await asyncio.sleep(HALF_S)
            for proxy in proxies:
                proxy.heal()
            await asyncio.sleep(HALF_S)
            flaps += 1
        await going.acknowledges_again(monotonic(), within_s=CATCH_UP_S)
        await going.finish(within_s=CATCH_UP_S)
        progress(f"  {flaps} absences, {len(going.acked):,} acknowledged, {len(going.refused):,} calls refused")
        try:
            await check_events()
        except (AssertionError, TimeoutError) as flaw:
            flaws.append(f"events: {flaw}"[:500])
    return going, flaws


async def _held(served: Served, proxies: Sequence[FaultProxy], counted: Path) -> dict[str, Any]:
    """What the service holds open now."""
    _ask(served, counted)
    await until(counted.exists)
    tasks = _tasks(counted)
    return {
        "tasks": sum(tasks.values()),
        "of_these": dict(sorted(tasks.items())),
        "descriptors": descriptors(served.process.pid),
        "connections": {part: proxy.open for part, proxy in zip(PARTS, proxies, strict=True)},
    }


def _ask(served: Served, counted: Path) -> None:
    counted.unlink(missing_ok=True)
    os.kill(served.process.pid, SIGUSR1)


def _tasks(counted: Path) -> dict[str, int]:
    tasks: dict[str, int] = json.loads(counted.read_text())
    return tasks


async def _fallen_to(
    before: Mapping[str, Any], served: Served, proxies: Sequence[FaultProxy], counted: Path
) -> Mapping[str, Any]:
    """What it holds once that is no more than before, or when it has had the time."""
    last: dict[str, Any] = {}

    async def look() -> dict[str, Any]:
        last.update(await _held(served, proxies, counted))
        return last

    try:
        return await eventually(look, lambda after: _returned(before, after), within_s=CATCH_UP_S)
    except TimeoutError:
        return last


def _returned(before: Mapping[str, Any], after: Mapping[str, Any]) -> bool:
    return all(
        (
            after["tasks"] <= before["tasks"] + PASSING,
            after["descriptors"] <= before["descriptors"] + POOLED,
            sum(after["connections"].values()) <= sum(before["connections"].values()) + POOLED,
        )
    )

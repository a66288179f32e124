"""Long logs in Neo4j, read by a process that has just started: windows, pages and events, and the memory they take."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from statistics import median
from typing import TYPE_CHECKING, Final

from bench.plan import past_us
from bench.report import Figure, Target, progress
from bench.requests import tenant
from bench.servers import servers
from bench.spread import percentile, spread
from bench.worker import working
from tests.serving import resident_bytes, serving

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

    from bench.plan import Plan
    from bench.worker import Job
    from tests.serving import Served

TENANTS: Final = 10
ROUNDS: Final = 10
LOAD_S: Final = 180.0
READ_S: Final = 200.0
LOOK_S: Final = 0.02
MIB: Final = 1024 * 1024
WINDOWS: Final = "Neo4j: first GetScore of 100k signals, median"
PAGES: Final = "Neo4j: ListSignals, page of 1000 of 100k, p95"
LISTED: Final = "Neo4j: ListSignals, 100k signals by pages"
EVENTS: Final = "Neo4j: Subscribe from EARLIEST, 100k signals"
GROWTH: Final = "Neo4j: memory gained while reading 900k signals twice"
FIGURES: Final = (WINDOWS, PAGES, LISTED, EVENTS, GROWTH)


class Watermark:
    """The most memory a process held."""

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self.start = self.most = resident_bytes(pid)

    @asynccontextmanager
    async def watching(self) -> AsyncIterator[None]:
        """It is looked at now and then."""
        watch = asyncio.create_task(self._watch())
        try:
            yield
        finally:
            watch.cancel()

    async def _watch(self) -> None:
        while True:
            self.most = max(self.most, resident_bytes(self._pid))
            await asyncio.sleep(LOOK_S)

    @property
    def gained_mib(self) -> float:
        """More than at first."""
        return (self.most - self.start) / MIB


async def read_history(plan: Plan) -> AsyncIterator[Figure]:
    """Loaded once through the service; a new process reads. What the first tenant's reads warm up does not count."""
    count = plan.either(100, 2)
    size = plan.either(1000, 100)
    names, signals = [tenant(n) for n in range(TENANTS)], count * size
    async with servers("neo4j") as environment:
        directory = plan.fresh("history")
        async with serving(directory, http=False, environment=environment, drain=True) as service:
            loaded = await _load(service, count, size)
        async with serving(directory, http=False, environment=environment) as service:
            windows = await _read(service, "score", names, signals)
            first, rest = names[:1], names[1:]
            warm = {kind: await _read(service, kind, first, signals) for kind in ("pages", "events")}
            memory = Watermark(service.process.pid)
            async with memory.watching():
                pages = await _read(service, "pages", rest, signals)
                events = await _read(service, "events", rest, signals)
    yield _windows(windows, loaded)
    yield _pages(pages)
    yield _rate(LISTED, pages)
    yield _rate(EVENTS, events)
    yield Figure(
        GROWTH,
        value=memory.gained_mib,
        unit="MiB",
        reference=memory.start / MIB,
        reference_name="held before",
        targets=[Target(32, at_most=True)],
        details={"most_mib": memory.most / MIB, "warm_up": {kind: list(found) for kind, found in warm.items()}},
    )


async def _load(service: Served, count: int, size: int) -> list[float]:
    """`count` batches a tenant; the rates of the rounds."""
    rounds = min(ROUNDS, count)
    requests, rates = count * TENANTS // rounds, list[float]()
    start_us = past_us(count * TENANTS * size)
    for turn in range(rounds):
        job = {"kind": "publish", "address": service.grpc, "size": size, "count": requests, "callers": 4}
        job |= {"tenants": TENANTS, "first": turn * requests * size, "start_us": start_us}
        async with working("bench.load", job) as load:
            found = await load.run(LOAD_S)
        if found["stored"] != requests * size:
            message = f"only {found['stored']} of {requests * size} signals were stored: {found['failures']}"
            raise RuntimeError(message)
        rates.append(found["per_second"])
        progress(f"  loaded {(turn + 1) * requests * size:,} signals, {rates[-1]:,.0f} a second")
    return rates


async def _read(service: Served, kind: str, names: list[str], signals: int) -> Mapping[str, Job]:
    job = {"kind": kind, "address": service.grpc, "names": names, "signals": signals}
    async with working("bench.reader", job) as reader:
        found: Mapping[str, Job] = await reader.run(READ_S)
    wrong = {name: one for name, one in found.items() if one["signals"] != signals or one.get("out_of_order", 0)}
    if wrong:
        message = f"{kind}: not all of {signals} signals in order: {wrong}"
        raise RuntimeError(message)
    progress(f"  {kind}: " + ", ".join(f"{one['elapsed_s']:.2f} s" for one in found.values()))
    return found


def _windows(found: Mapping[str, Job], loaded: list[float]) -> Figure:
    took_ms = [one["elapsed_s"] * 1000 for one in found.values()]
    return Figure(
        WINDOWS,
        value=median(took_ms),
        unit="ms",
        targets=[Target(350, at_most=True)],
        samples={"tenants": took_ms},
        details={"spread_ms": spread(took_ms), "loaded_per_second": loaded},
    )


def _pages(found: Mapping[str, Job]) -> Figure:
    took_ms = [took_s * 1000 for one in found.values() for took_s in one["samples_s"]]
    return Figure(
        PAGES,
        value=percentile(sorted(took_ms), 0.95),
        unit="ms",
        targets=[Target(350, at_most=True)],
        samples={"pages": took_ms},
        details=spread(took_ms),
    )


def _rate(name: str, found: Mapping[str, Job]) -> Figure:
    rates = [one["signals"] / one["elapsed_s"] for one in found.values()]
    return Figure(name, value=median(rates), unit="signals/s", samples={"tenants": rates})

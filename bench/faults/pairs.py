"""R5, R6, R7 and R22 with two services on the same servers."""

from __future__ import annotations

from collections import Counter
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Final

from bench.faults.replies import replies_lost, stored_once
from bench.faults.run import Finding
from bench.report import progress
from bench.servers import servers
from tests.e2e.on_servers import CURSOR_KEYS
from tests.e2e.pairs import clocks_apart, pair, stopped_inside

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

    from bench.faults.run import Length

STOPPED_DEMAND: Final = (
    "stopped for 15 s inside a write: it held leases, nothing is lost or doubled, no row goes back; the other waits"
    " for at most the transaction's limit of 2 s and the time until the server looks"
)
CLOCKS_DEMAND: Final = "clocks 10 s apart: no published row goes back, nothing refused, lost or stored twice"
STOPPED_S: Final = 15.0
HELD_UP_S: Final = 5.0
APART_S: Final = 10


@asynccontextmanager
async def all_servers() -> AsyncIterator[Mapping[str, str]]:
    """Neo4j, PostgreSQL and Redis, for services that read each other's cursors."""
    async with servers("postgres", "redis", "neo4j") as environment:
        yield {**environment, "COHERENCE_CURSOR_KEYS": CURSOR_KEYS}


async def replies_lost_on_servers(length: Length) -> Finding:
    """R5 with the real stores behind the service."""
    async with all_servers() as environment:
        return await replies_lost(length, environment)


async def same_key_on_two(length: Length) -> Finding:
    """R6 with the callers spread over two services."""
    async with all_servers() as environment, pair(length.fresh("pair"), environment) as (one, two):
        return await stored_once(length, [one.grpc, two.grpc])


async def stopped(length: Length) -> Finding:
    """A holder stopped inside Neo4j's write transaction, and between PostgreSQL's answer and its reading it."""
    found: dict[str, list[object]] = {}
    held = in_time = True
    for run in range(length.runs):
        place = ("append.written", "publish.written")[run % 2]
        async with all_servers() as environment:
            beside = await stopped_inside(place, length.fresh(place), environment, stopped_s=STOPPED_S)
        progress(f"  {place}: {beside}")
        shown = beside._asdict() | {"refused": dict(beside.refused), "unread": dict(beside.unread)}
        found.setdefault(place, []).append(shown)
        held &= bool(beside.held and beside.acknowledged) and not beside.unread
        in_time &= beside.longest_s <= HELD_UP_S
    return Finding(STOPPED_DEMAND, held, dict(found), in_time=in_time)


async def clocks(length: Length) -> Finding:
    """Tenants move between a service ten seconds ahead and one that is right, by kills of the first."""
    async with all_servers() as environment:
        refused = await clocks_apart(length.fresh("clocks"), environment, seconds=APART_S, kills=length.runs)
    # Kills and a busy machine cost calls; a clock must not.
    wrong = [one for one in refused if one.code not in {"UNAVAILABLE", "DEADLINE_EXCEEDED"}]
    codes = Counter(f"{one.code} {one.reason}" for one in refused)
    figures = {"kills": length.runs, "calls_lost": dict(codes), "refused_for_the_clock": wrong}
    return Finding(CLOCKS_DEMAND, not wrong, figures)

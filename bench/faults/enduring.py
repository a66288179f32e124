"""A service on servers of its own under load, one of which is taken away in one way after the other."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime
from time import monotonic, time_ns
from typing import TYPE_CHECKING, Any, Final

import grpc.aio

from bench.faults.outages import Victim
from bench.faults.run import flaw_of
from bench.report import progress
from bench.servers import environment_of, owned, switched
from bench.spread import spread
from coherence.v1.score_pb2 import ListScoresRequest
from coherence_grpc.client import connect
from tests.e2e.bearing import TENANTS, bearing, descriptors, followed, settled
from tests.e2e.reading import Named, all_signals, named
from tests.faultproxy import behind_proxies
from tests.serving import eventually, serving

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence

    from bench.faults.outages import Outage
    from bench.faults.run import Length
    from coherence_grpc.client import Client
    from tests.backends.sharing import Own
    from tests.e2e.bearing import Bearing
    from tests.serving import Served

PARTS: Final = ("postgres", "redis", "neo4j")
ADDRESSES: Final = {"postgres": "POSTGRES_URI", "redis": "REDIS_URL", "neo4j": "NEO4J_URI"}
# A row follows within 100 ms; one that is behind says so after two seconds.
GRACE_S: Final = 3.0
SETTLE_S: Final = 60.0
QUIET_S: Final = 3.0
# What the log says of a store's breaker, as it begins and as it ends.
OPENED: Final = ("a store fails and", "a store says nothing and")
CLOSED: Final = "a store answers again"


@dataclass(slots=True)
class Enduring:
    """What goes on through all outages. `writer` takes what is published."""

    victims: Mapping[str, Victim]
    writer: Served
    going: Bearing
    check_events: Callable[[], Awaitable[None]]
    costs: dict[str, dict[str, Any]] = field(default_factory=dict)

    async def suffer(self, victim: Victim, name: str, outage: Outage, seconds: int) -> None:
        """Take the server away for so long, give it back, and note what that cost until all is as before."""
        begun, wall_us = monotonic(), time_ns() // 1000
        async with outage(victim):
            away = monotonic()
            await asyncio.sleep(max(0.0, begun + seconds - away))
            back = monotonic()
        healed, healed_us = monotonic(), time_ns() // 1000
        due = self._heads()
        await self.going.acknowledges_again(healed, within_s=SETTLE_S)
        again = monotonic()
        async with connect(self.writer.grpc) as client:
            await eventually(lambda: _published(client, due), within_s=SETTLE_S)
        caught_up = monotonic()
        # A server that has just started is slow to answer: it must not be blamed on the next outage.
        await eventually(self._quiet, within_s=SETTLE_S)
        cost = self._cost(begun, back) | {
            "acknowledged_again_after_s": round(again - healed, 3),
            "caught_up_after_s": round(caught_up - healed, 3),
            "last_refusal_after_s": round(max([healed, *(one.at for one in self.going.refused)]) - healed, 3),
            "breakers": _breakers(self.writer, wall_us, healed_us),
        }
        self.costs[name] = cost
        progress(f"  {name} for {back - begun:.1f} s: {json.dumps(cost)}")

    async def _quiet(self) -> bool:
        """Nothing was refused for a while."""
        return all(one.at < monotonic() - QUIET_S for one in self.going.refused[-1:])

    def _heads(self) -> Mapping[str, int]:
        """The last number that was acknowledged, of each tenant."""
        return {one.tenant: one.seq for one in self.going.acks}

    def _cost(self, begin: float, end: float) -> dict[str, Any]:
        """What became of that which was asked between the two."""
        acks = [one for one in self.going.acks if begin <= one.at - one.seconds <= end]
        refused = [one for one in self.going.refused if begin <= one.at - one.seconds <= end]
        reads = [one for one in self.going.reads if begin <= one.at - one.seconds <= end]
        untold = self.going.untold(grace_s=GRACE_S)
        return {
            "acknowledged": sum(one.at <= end for one in acks),
            "acknowledged_s": spread([one.seconds for one in acks]),
            "refused": dict(Counter(f"{one.code} {one.reason}" for one in refused)),
            "refused_without_hint": sum(one.retry_after_s is None or not one.pushback for one in refused),
            "refused_s": spread([one.seconds for one in refused]),
            "reads": len(reads),
            "reads_s": spread([one.seconds for one in reads]),
            "reads_refused": dict(Counter(one.code for one in reads if one.code)),
            "reads_stale": sum(one.stale for one in reads),
            "reads_behind_and_silent_about_it": sum(begin <= one.at - one.seconds for one in untold),
        }


@asynccontextmanager
async def enduring(length: Length, *proxied: str, processes: int = 1, **switches: str) -> AsyncIterator[Enduring]:
    """One process or more on servers of their own, of which the last is read and followed, and the first written to."""
    async with AsyncExitStack() as stack:
        own: Mapping[str, Own] = await stack.enter_async_context(owned(*PARTS))
        names = [ADDRESSES[part] for part in proxied]
        environment, proxies = await stack.enter_async_context(behind_proxies(environment_of(own), *names))
        services: list[Served] = []
        for _ in range(processes):
            directory = length.fresh("served")
            await switched(directory, **switches)
            shared = dict(environment) | {"COHERENCE_CURSOR_KEYS": f"1:{'5a' * 32}"}
            services.append(await stack.enter_async_context(serving(directory, environment=shared, http=False)))
        writer, reader = services[0], services[-1]
        going = await stack.enter_async_context(bearing(writer.grpc, readers=[reader.grpc]))
        check_events = await stack.enter_async_context(followed(reader.grpc))
        await settled(writer.grpc, going)
        victims = {part: Victim(own[part], proxy) for part, proxy in zip(proxied, proxies, strict=True)}
        yield Enduring(victims, writer, going, check_events)


async def compared(enduring_: Enduring) -> dict[str, Any]:
    """What is stored, beside what was acknowledged and what the follower saw, once every caller has its answer."""
    going = enduring_.going
    await going.finish(within_s=SETTLE_S)
    async with connect(enduring_.writer.grpc) as client:
        found = await difference(client, going.acked)
    try:
        await enduring_.check_events()
    except (AssertionError, TimeoutError) as flaw:
        found["flaws"].append(f"events: {flaw}"[:500] or "events: not whole")
    return found | {"descriptors": descriptors(enduring_.writer.process.pid)}


async def difference(client: Client, acked: Mapping[tuple[str, Named], int]) -> dict[str, Any]:
    """Signals that were acknowledged and are not there, and the other way round; and what is wrong with the logs.

    The rows may be behind for as long as the lease of a killed process lasts: they are waited for.
    """
    due = {tenant: max(seq for (owner, _), seq in acked.items() if owner == tenant) for tenant, _ in acked}
    await eventually(lambda: _published(client, due), within_s=SETTLE_S)
    lost = extra = 0
    flaws: list[str] = []
    for tenant in TENANTS:
        stored = {named(signal): signal.seq for signal in await all_signals(client, tenant)}
        own = {key: seq for (owner, key), seq in acked.items() if owner == tenant}
        lost += sum(stored.get(key) != seq for key, seq in own.items())
        extra += len(stored.keys() - own.keys())
        flaws.append(await flaw_of(client, tenant))
    return {"acknowledged": len(acked), "lost": lost, "never_acknowledged": extra, "flaws": list(filter(None, flaws))}


async def _published(client: Client, due: Mapping[str, int]) -> bool:
    """Every tenant's row has seen that entry."""
    try:
        rows = (await client.score.ListScores(ListScoresRequest())).scores
    except grpc.aio.AioRpcError:
        return False
    seen = {row.tenant_id: row.as_of_seq for row in rows}
    return all(seen.get(tenant, 0) >= seq for tenant, seq in due.items())


def _breakers(served: Served, begin_us: int, end_us: int) -> Sequence[Mapping[str, object]]:
    """Which store's breaker opened how long after the outage began, and closed how long after it had ended."""
    found: list[Mapping[str, object]] = []
    for line in map(json.loads, filter(lambda text: text.startswith("{"), served.stderr.splitlines())):
        at_us = int(datetime.fromisoformat(line["time"]).timestamp() * 1e6)
        if line["message"].startswith(OPENED) and begin_us <= at_us:
            found.append({"store": line["store"], "opened_after_s": round((at_us - begin_us) / 1e6, 3)})
        elif line["message"].startswith(CLOSED) and begin_us <= at_us:
            found.append({"store": line["store"], "closed_after_healing_s": round((at_us - end_us) / 1e6, 3)})
    return found

"""Two services on the same servers: what they hold and publish, and who reads from one and goes on at the other."""

from __future__ import annotations

import asyncio
import os
from collections import Counter
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from signal import SIGCONT
from time import monotonic
from typing import TYPE_CHECKING, Final, NamedTuple

import grpc.aio
from psycopg import AsyncConnection

from coherence.v1.events_pb2 import EVENT_KIND_SCORE_STATUS_CHANGED, SubscribeResponse
from coherence_grpc.client import connect
from coherence_grpc.failpoints import VARIABLE
from tests.e2e.bearing import assert_nothing_is_lost_or_twice, bearing, settled
from tests.e2e.cutting import published_up_to
from tests.e2e.following import Follower, over_grpc
from tests.e2e.reading import all_events, score_of
from tests.e2e.wire import wire_to
from tests.serving import eventually, serving, until
from tests.validators import Truth, check, seen_on_the_wire

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping, Sequence

    from tests.e2e.bearing import Refused
    from tests.serving import Served

SHARDS: Final = 64
SHARED_S: Final = 20.0
CAUGHT_UP_S: Final = 30.0
HELD: Final = "SELECT holder, count(*) FROM shard_leases WHERE holder <> '' AND expires_at > now() GROUP BY holder"
# Rows in place come after the history's: they are its last version, or that brought up to date.
PUBLISHED: Final = """
SELECT tenant_id, version, signal_epoch, as_of_seq, window_end, computed_at FROM (
    SELECT tenant_id, version, signal_epoch, as_of_seq, window_end, computed_at, 0 AS place
    FROM coherence_score_history
    UNION ALL
    SELECT tenant_id, version, signal_epoch, as_of_seq, window_end, computed_at, 1 FROM coherence_scores
) published ORDER BY tenant_id, version, place
"""


@asynccontextmanager
async def pair(
    directory: Path,
    servers: Mapping[str, str],
    *,
    first: Mapping[str, str] | None = None,
    second: Mapping[str, str] | None = None,
) -> AsyncIterator[tuple[Served, Served]]:
    """Two services, each with something of its own in its environment, once they share the work."""
    for name in ("one", "two"):
        (directory / name).mkdir()
    async with (
        serving(directory / "one", environment={**servers, **(first or {})}, http=False) as one,
        serving(directory / "two", environment={**servers, **(second or {})}, http=False) as two,
    ):
        await shared(servers, one, two)
        yield one, two


async def shared(servers: Mapping[str, str], *services: Served) -> None:
    """Return when each of the services holds its share of the shards."""
    fair = {service.process.pid: SHARDS // len(services) for service in services}
    await eventually(lambda: leases(servers), lambda held: held == fair, within_s=SHARED_S)


async def leases(servers: Mapping[str, str]) -> Mapping[int, int]:
    """How many shards each process holds, by its number."""
    async with await AsyncConnection.connect(servers["POSTGRES_URI"], autocommit=True) as connection:
        rows = await (await connection.execute(HELD)).fetchall()
    return {int(holder.split(":")[1]): shards for holder, shards in rows}


async def steps_back(servers: Mapping[str, str]) -> list[str]:
    """Published rows that are older in some respect than the one before them, or skip a version."""
    async with await AsyncConnection.connect(servers["POSTGRES_URI"], autocommit=True) as connection:
        rows = await (await connection.execute(PUBLISHED)).fetchall()
    assert rows
    return [
        f"{after[0]}: {before[1:]}, then {after[1:]}"
        for before, after in pairwise(rows)
        if before[0] == after[0]
        and (after[1] - before[1] not in {0, 1} or any(a < b for a, b in zip(after[2:], before[2:], strict=True)))
    ]


class Beside(NamedTuple):
    """What went on beside a stopped process: the shards it held when it stopped, and what the other one answered.

    `longest_s` is the longest time without an acknowledgement.
    """

    held: int
    acknowledged: int
    longest_s: float
    refused: Counter[str]
    unread: Counter[str]


async def stopped_inside(place: str, directory: Path, servers: Mapping[str, str], *, stopped_s: float) -> Beside:
    """Stop one of two services at that place, with both at work for the same tenants, and let it go on later.

    Nothing is lost or stored twice for that, no published row is older than the one before it, scores are exact.
    """
    async with (
        pair(directory, servers, first={VARIABLE: f"{place}=stop"}) as (one, two),
        bearing(two.grpc, readers=[two.grpc]) as going,
        bearing(one.grpc) as stopping,
    ):
        await until(lambda: is_stopped(one.process.pid))
        begun = monotonic()
        held = (await leases(servers)).get(one.process.pid, 0)
        await asyncio.sleep(stopped_s - (monotonic() - begun))
        os.kill(one.process.pid, SIGCONT)
        over = monotonic()
        await settled(two.grpc, going)
        await going.finish()
        await stopping.finish()

        await assert_nothing_is_lost_or_twice(two.grpc, going.acked | stopping.acked)
        assert await steps_back(servers) == []

    times = [begun, *(ack.at for ack in going.acks if begun < ack.at < over), over]
    longest = max(after - before for before, after in pairwise(times))
    refused = Counter(f"{one.code} {one.reason}" for one in going.refused)
    return Beside(held, len(times) - 2, longest, refused, Counter(read.code for read in going.reads if read.code))


async def clocks_apart(directory: Path, servers: Mapping[str, str], *, seconds: int, kills: int) -> Sequence[Refused]:
    """Tenants go from a service whose clock is ahead to one whose clock is right, and back; what was refused meanwhile.

    The first time they go because they are shared, then because a service is killed, while the callers of the other
    go on. Nothing is lost or stored twice, and no published row is older than the one before it.
    """
    ahead, right = directory / "ahead", directory / "right"
    ahead.mkdir()
    right.mkdir()
    wrong = {**servers, VARIABLE: f"clock=+{seconds}"}
    async with AsyncExitStack() as stack, wire_to("127.0.0.1:1") as wire:
        fast = await stack.enter_async_context(serving(ahead, environment=wrong, http=False))
        wire.target = fast.grpc
        going = await stack.enter_async_context(bearing(wire.address))
        await settled(wire.address, going)
        exact = await stack.enter_async_context(serving(right, environment=servers, http=False))
        beside = await stack.enter_async_context(bearing(exact.grpc, readers=[exact.grpc]))
        await shared(servers, fast, exact)
        await beside.acknowledges_again(monotonic())
        for _ in range(kills):
            await fast.kill()
            await shared(servers, exact)
            await beside.acknowledges_again(monotonic())
            fast = await stack.enter_async_context(serving(ahead, environment=wrong, http=False))
            wire.target = fast.grpc
            await shared(servers, fast, exact)
            await going.acknowledges_again(monotonic())
        await going.finish()
        await beside.finish()
        await assert_nothing_is_lost_or_twice(exact.grpc, going.acked | beside.acked)
        assert await steps_back(servers) == []
        return [*going.refused, *beside.refused]


def is_stopped(pid: int) -> bool:
    """The process stands still until somebody continues it."""
    return Path("/proc", str(pid), "stat").read_text().rpartition(")")[2].split()[0] == "T"


@dataclass(slots=True)
class Audience:
    """Subscribers of one tenant from its beginning, each with all that it was ever sent."""

    tenant: str
    followers: list[Follower] = field(default_factory=list)
    histories: list[list[SubscribeResponse]] = field(default_factory=list)

    async def check(self, address: str) -> Truth:
        """Each has seen everything, in order and once; what there was to see."""
        async with connect(address) as client:
            head = (await score_of(client, self.tenant)).as_of_seq
            (published,) = await eventually(lambda: published_up_to(client, self.tenant, head), within_s=CAUGHT_UP_S)
            changes = await all_events(client, self.tenant, EVENT_KIND_SCORE_STATUS_CHANGED)
        await until(lambda: all(self._is_there(one, head, published.version) for one in self.followers))
        truth = Truth(head, [event.score.version for event in changes], published.version)
        for history in self.histories:
            check(seen_on_the_wire(history), truth)
        return truth

    @staticmethod
    def _is_there(follower: Follower, head: int, version: int) -> bool:
        return follower.signals[-1:] == [head] and follower.version == version


@asynccontextmanager
async def audience(tenant: str, addresses: Sequence[str]) -> AsyncIterator[Audience]:
    """A subscriber for each of the addresses, which connects there again whenever its connection is lost."""
    heard = Audience(tenant)
    async with asyncio.TaskGroup() as tasks:
        following = []
        for address in addresses:
            follower, history = Follower(), list[SubscribeResponse]()
            heard.followers.append(follower)
            heard.histories.append(history)
            again = over_grpc(address, tenant, history)
            following.append(tasks.create_task(follower.follow(again, (grpc.aio.AioRpcError,))))
        try:
            yield heard
        finally:
            for task in following:
                task.cancel()

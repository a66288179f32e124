"""Publishing while a subscriber is cut off again and again."""

from __future__ import annotations

import asyncio
import random
from itertools import count
from typing import TYPE_CHECKING, Final, NamedTuple

from coherence.v1.events_pb2 import (
    EVENT_KIND_SCORE_STATUS_CHANGED,
    POSITION_EARLIEST,
    GetCursorRequest,
    Start,
)
from coherence.v1.score_pb2 import ListScoresRequest, Score
from tests.e2e.following import Follower, word_of
from tests.e2e.reading import all_events
from tests.e2e.rows import a_row, batch_of
from tests.serving import eventually, until

if TYPE_CHECKING:
    from collections.abc import Sequence

    from coherence_grpc.client import Client
    from tests.e2e.following import Connect
    from tests.e2e.wire import Wire

# Each weighs five times what came before it, so that it alone decides the status.
FLIPS: Final = [(float(number % 2), 1e-9 * 5**number) for number in range(17)]


class Cut(NamedTuple):
    """A follower that was cut off and has caught up, and what there was to see."""

    follower: Follower
    head: int
    changes: Sequence[int]
    statuses: Sequence[str]
    version: int


async def cut_while_followed(
    client: Client, tenant: str, wire: Wire, connect: Connect, lost: tuple[type[Exception], ...], *, cuts: int
) -> Cut:
    """Publish while a follower of all events is cut off again and again, until it has caught up.

    Signal ids are their numbers.
    """
    follower, enough = Follower(await earliest(client, tenant)), asyncio.Event()
    async with asyncio.TaskGroup() as tasks:
        following = tasks.create_task(follower.follow(connect, lost))
        publishing = tasks.create_task(_publish_until(enough, client, tenant, follower, cuts))
        await _cut(wire, follower, cuts)
        enough.set()
        head = await publishing
        (published,) = await eventually(lambda: published_up_to(client, tenant, head))
        changes = await all_events(client, tenant, EVENT_KIND_SCORE_STATUS_CHANGED)
        # A follower of one kind of events has none of the other.
        await until(lambda: head in (follower.signals or [head])[-1:])
        await until(lambda: follower.version in {0, published.version})
        following.cancel()
    statuses = [word_of(event.score) for event in changes]
    return Cut(follower, head, [event.score.version for event in changes], statuses, published.version)


async def earliest(client: Client, tenant: str) -> str:
    """A cursor before everything."""
    request = GetCursorRequest(tenant_id=tenant, start=Start(position=POSITION_EARLIEST))
    return (await client.events.GetCursor(request)).cursor


async def _cut(wire: Wire, follower: Follower, cuts: int) -> None:
    for _ in range(cuts):
        async with asyncio.timeout(10):
            await follower.listening.wait()
            await until(lambda: wire.connected)
        await asyncio.sleep(random.uniform(0.0, 0.05))  # noqa: S311 - any moment will do
        follower.listening.clear()
        wire.cut()


async def _publish_until(enough: asyncio.Event, client: Client, tenant: str, follower: Follower, cuts: int) -> int:
    """Muted signals all the time, and now and then one that turns the status; the last number."""
    turns, numbers, last = list(FLIPS), count(1), 0
    while turns or not enough.is_set():
        muted = random.randint(1, 5)  # noqa: S311 - any number will do
        rows = [a_row(tenant, signal_id=str(next(numbers)), weight=0.0) for _ in range(muted)]
        due = follower.connections >= (len(FLIPS) - len(turns)) * cuts // len(FLIPS)
        if turns and (due or enough.is_set()):
            value, weight = turns.pop(0)
            rows.append(a_row(tenant, signal_id=str(next(numbers)), value=value, weight=weight))
        last = (await client.ingest.PublishSignals(batch_of(rows, tenant))).results[-1].seq
    return last


async def published_up_to(client: Client, tenant: str, head: int) -> Sequence[Score]:
    """The tenant's published score, once it covers the whole log."""
    request = ListScoresRequest(page_size=1000)
    while True:
        page = await client.score.ListScores(request)
        for score in page.scores:
            if score.tenant_id == tenant and score.as_of_seq == head:
                return [score]
        if not page.next_page_token:
            return []
        request.page_token = page.next_page_token

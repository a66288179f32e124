"""What is followed until somebody says stop: several tenants' events as one stream, and what is said of a loss."""

from __future__ import annotations

import asyncio
from contextlib import aclosing, asynccontextmanager
from math import inf
from typing import TYPE_CHECKING, Final, TypeVar

from coherence.v1.events_pb2 import (
    EVENT_KIND_POLICY_UPDATED,
    EVENT_KIND_SCORE_STATUS_CHANGED,
    EVENT_KIND_SIGNAL_REPLACED,
    EVENT_KIND_SIGNAL_STORED,
    EventFilter,
    Gap,
    SubscribeRequest,
)
from coherence.v1.score_pb2 import WatchScoreRequest

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Sequence

    from coherence.v1.events_pb2 import Event, EventKind, Start
    from coherence.v1.score_pb2 import WatchScoreResponse
    from coherence_grpc.client import Client, Refused
    from coherence_grpc.client.following import EventFeed

# Events read ahead of the one being shown.
AHEAD: Final = 1_000
LABEL: Final = "coherence watch"
_WITHOUT_UPDATES: Final = (
    EVENT_KIND_SIGNAL_STORED,
    EVENT_KIND_SIGNAL_REPLACED,
    EVENT_KIND_SCORE_STATUS_CHANGED,
    EVENT_KIND_POLICY_UPDATED,
)
_Item = TypeVar("_Item")


async def follow_scores(
    client: Client, tenants: Sequence[str], *, status_changes_only: bool, lost: Callable[[str], None]
) -> AsyncIterator[WatchScoreResponse]:
    """The current scores, then every update; what a new connection repeats is left out."""
    request = WatchScoreRequest(tenant_ids=tenants, status_changes_only=status_changes_only)
    seen: dict[str, tuple[int, int]] = {}
    async for update, resumed in client.score_feed(request, _telling(client, lost), patience_s=inf).items():
        score = update.score
        position = (score.version, score.as_of_seq)
        if resumed and seen[score.tenant_id] == position:
            continue
        seen[score.tenant_id] = position
        yield update


async def follow_events(
    client: Client, tenants: Sequence[str], start: Start, *, status_changes_only: bool, lost: Callable[[str], None]
) -> AsyncIterator[Event]:
    """The events of all these tenants, each tenant's in order and none twice or left out."""
    kinds = _WITHOUT_UPDATES if status_changes_only else ()
    feeds = [
        _shown(tenant, client.events.feed(_request(tenant, start, kinds), _telling(client, lost), patience_s=inf), lost)
        for tenant in tenants
    ]
    async with _merged(feeds) as merged:
        while True:
            item = await merged.get()
            if isinstance(item, BaseException):
                raise item
            yield item


def _request(tenant_id: str, start: Start, kinds: Sequence[EventKind.ValueType]) -> SubscribeRequest:
    return SubscribeRequest(tenant_id=tenant_id, start=start, filter=EventFilter(kinds=kinds), client_label=LABEL)


async def _shown(tenant_id: str, feed: EventFeed, lost: Callable[[str], None]) -> AsyncIterator[Event]:
    async with aclosing(feed.items()) as items:
        async for item in items:
            if isinstance(item, Gap):
                lost(f"{tenant_id}: entries {item.from_seq:,} to {item.to_seq:,} can't be shown: {item.reason}")
            else:
                yield item


def _telling(client: Client, lost: Callable[[str], None]) -> Callable[[Refused], None]:
    return lambda _: lost(f"connection to {client.address} lost; trying again")


@asynccontextmanager
async def _merged(feeds: Sequence[AsyncIterator[_Item]]) -> AsyncIterator[asyncio.Queue[_Item | BaseException]]:
    """A queue of what all the feeds bring; an exception in it is the end."""
    queue: asyncio.Queue[_Item | BaseException] = asyncio.Queue(AHEAD)

    async def pump(feed: AsyncIterator[_Item]) -> None:
        try:
            async for item in feed:
                await queue.put(item)
        except Exception as error:  # noqa: BLE001 - raised again by the reader of the queue
            await queue.put(error)

    pumps = [asyncio.create_task(pump(feed)) for feed in feeds]
    try:
        yield queue
    finally:
        for task in pumps:
            task.cancel()
        await asyncio.wait(pumps)

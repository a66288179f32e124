"""Streams that outlive their connection: each goes on where the last one ended."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Final, TypeVar

import grpc.aio

from coherence.v1.events_pb2 import (
    EVENT_KIND_POLICY_UPDATED,
    EVENT_KIND_SCORE_STATUS_CHANGED,
    EVENT_KIND_SIGNAL_REPLACED,
    EVENT_KIND_SIGNAL_STORED,
    EventFilter,
    Start,
    SubscribeRequest,
)
from coherence.v1.score_pb2 import WatchScoreRequest
from coherence_grpc.cli.importing.refusals import may_pass
from coherence_grpc.client import refusal_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterable, AsyncIterator, Callable, Sequence

    from coherence.v1.events_pb2 import Closing, Event, SubscribeResponse
    from coherence.v1.score_pb2 import WatchScoreResponse
    from coherence_grpc.client import Client, Refusal

FIRST_PAUSE_S: Final = 0.2
LONGEST_PAUSE_S: Final = 5.0
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
    async for update in _kept_open(lambda: client.score.WatchScore(request), client.address, lost):
        score = update.score
        position = (score.version, score.as_of_seq)
        if update.initial and seen.get(score.tenant_id) == position:
            continue
        seen[score.tenant_id] = position
        yield update


async def follow_events(
    client: Client, tenants: Sequence[str], start: Start, *, status_changes_only: bool, lost: Callable[[str], None]
) -> AsyncIterator[Event]:
    """The events of all these tenants, each tenant's in order and none twice or left out."""
    kinds = _WITHOUT_UPDATES if status_changes_only else ()
    feeds = [_Resuming(client, tenant, start, EventFilter(kinds=kinds), lost).events() for tenant in tenants]
    async with _merged(feeds) as merged:
        while True:
            item = await merged.get()
            if isinstance(item, BaseException):
                raise item
            yield item


class _Resuming:
    """One tenant's subscription, with the position it has come to."""

    def __init__(
        self, client: Client, tenant_id: str, start: Start, wanted: EventFilter, lost: Callable[[str], None]
    ) -> None:
        self._client = client
        self._tenant_id = tenant_id
        self._start = start
        self._filter = wanted
        self._lost = lost

    async def events(self) -> AsyncIterator[Event]:
        """Every event, over as many streams as it takes."""
        async for event in _kept_open(self._stream, self._client.address, self._lost):
            if event is not None:
                yield event

    async def _stream(self) -> AsyncIterator[Event | None]:
        """The events of one stream; None for a frame that only moves the position."""
        request = SubscribeRequest(
            tenant_id=self._tenant_id, start=self._start, filter=self._filter, client_label=LABEL
        )
        try:
            async for frame in self._client.events.Subscribe(request):
                for event in frame.batch.events:
                    # Before it is handed on: whoever gets it has seen it.
                    self._start = Start(cursor=event.cursor)
                    yield event
                if frame.HasField("closing"):
                    await self._close(frame.closing)
                    return
                if not frame.HasField("batch"):
                    self._move(frame)
                    yield None
        except grpc.aio.AioRpcError as error:
            cursor = refusal_of(error).metadata.get("resume_cursor")
            if cursor:
                self._start = Start(cursor=cursor)
            raise

    def _move(self, frame: SubscribeResponse) -> None:
        """To where the frame says that everything was sent."""
        self._start = Start(cursor=(frame.opened.cursor or frame.bookmark.cursor or frame.gap.cursor))
        if frame.HasField("gap"):
            gap = frame.gap
            self._lost(f"{self._tenant_id}: entries {gap.from_seq:,} to {gap.to_seq:,} can't be shown: {gap.reason}")

    async def _close(self, closing: Closing) -> None:
        self._start = Start(cursor=closing.resume_cursor)
        await asyncio.sleep(closing.retry_delay.ToMicroseconds() / 1e6)


async def _kept_open(
    opened: Callable[[], AsyncIterable[_Item]], address: str, lost: Callable[[str], None]
) -> AsyncIterator[_Item]:
    """The items of one stream after the other. The first connection must succeed, later ones are tried for ever."""
    pause = 0.0
    connected = False
    while True:
        try:
            async for item in opened():
                connected, pause = True, 0.0
                yield item
        except grpc.aio.AioRpcError as error:
            refusal = refusal_of(error)
            if not connected or not _resumable(refusal):
                raise
            if not pause:
                lost(f"connection to {address} lost; trying again")
            pause = refusal.retry_after_s or min(max(2 * pause, FIRST_PAUSE_S), LONGEST_PAUSE_S)
        await asyncio.sleep(pause or FIRST_PAUSE_S)


def _resumable(refusal: Refusal) -> bool:
    return may_pass(refusal) or "resume_cursor" in refusal.metadata


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

"""A subscriber that writes down what it sees, loses its connection, and goes on where it was."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, aclosing, asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, NamedTuple

import grpc.aio

from coherence.v1.events_pb2 import (
    EVENT_KIND_SIGNAL_STORED,
    POSITION_EARLIEST,
    Event,
    Start,
    SubscribeRequest,
    SubscribeResponse,
)
from coherence.v1.events_pb2_grpc import EventsServiceStub
from coherence.v1.score_pb2 import Score, Status

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Iterator

RETRY_S: Final = 0.01


class Sighting(NamedTuple):
    """A position, and what came before it: signal `seq`, or score `version` with its status."""

    cursor: str
    seq: int = 0
    version: int = 0
    status: str = ""


Connect = Callable[[str], AbstractAsyncContextManager[AsyncIterator[Sighting]]]


@dataclass(slots=True)
class Follower:
    """What was seen, in the order in which it came, over all connections; `cursor` is where the next one goes on.

    `version` is that of the newest score, `statuses` the words as they followed one another.
    """

    cursor: str = ""
    signals: list[int] = field(default_factory=list)
    statuses: list[str] = field(default_factory=list)
    version: int = 0
    connections: int = 0
    listening: asyncio.Event = field(default_factory=asyncio.Event)

    async def follow(self, connect: Connect, lost: tuple[type[Exception], ...]) -> None:
        """Read for ever, connecting anew whenever the connection is lost."""
        while True:
            self.listening.clear()
            with suppress(*lost):
                async with connect(self.cursor) as sightings:
                    self.connections += 1
                    async for sighting in sightings:
                        self.listening.set()
                        self._write_down(sighting)
            await asyncio.sleep(RETRY_S)

    def _write_down(self, sighting: Sighting) -> None:
        self.cursor = sighting.cursor or self.cursor
        if sighting.seq:
            self.signals.append(sighting.seq)
        self.version = max(self.version, sighting.version)
        if sighting.status and sighting.status not in self.statuses[-1:]:
            self.statuses.append(sighting.status)


def over_grpc(address: str, tenant: str, history: list[SubscribeResponse]) -> Connect:
    """Subscribe, from the beginning or after a cursor; every frame is added to `history`."""

    @asynccontextmanager
    async def connect(cursor: str) -> AsyncIterator[AsyncIterator[Sighting]]:
        start = Start(cursor=cursor) if cursor else Start(position=POSITION_EARLIEST)
        options = [("grpc.use_local_subchannel_pool", 1), ("grpc.enable_http_proxy", 0)]
        async with grpc.aio.insecure_channel(address, options=options) as channel:
            call = EventsServiceStub(channel).Subscribe(SubscribeRequest(tenant_id=tenant, start=start))
            async with aclosing(_sightings(call, history)) as sightings:
                yield sightings

    return connect


async def _sightings(
    call: grpc.aio.UnaryStreamCall[SubscribeRequest, SubscribeResponse], history: list[SubscribeResponse]
) -> AsyncGenerator[Sighting, None]:
    try:
        async for frame in call:
            history.append(frame)
            for sighting in seen_in(frame):
                yield sighting
    finally:
        call.cancel()


def seen_in(frame: SubscribeResponse) -> Iterator[Sighting]:
    """What one frame of Subscribe shows."""
    match frame.WhichOneof("frame"):
        case "opened":
            yield Sighting(frame.opened.cursor)
        case "batch":
            yield from map(_of_event, frame.batch.events)
        case "bookmark":
            yield Sighting(frame.bookmark.cursor)
        case "closing":
            yield Sighting(frame.closing.resume_cursor)


def _of_event(event: Event) -> Sighting:
    if event.kind == EVENT_KIND_SIGNAL_STORED:
        return Sighting(event.cursor, seq=event.signal.seq)
    return Sighting(event.cursor, version=event.score.version, status=word_of(event.score))


def word_of(score: Score) -> str:
    """The status as GraphQL says it."""
    return Status.Name(score.status).removeprefix("STATUS_")

"""A subscriber that writes down what it sees, loses its connection, and goes on where it was."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, aclosing, asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

import grpc.aio

from coherence.v1.events_pb2 import (
    EVENT_KIND_SCORE_STATUS_CHANGED,
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


class Sighting(NamedTuple):
    """A position, and what came before it: signal `seq`, or score `version` that covers entries up to `as_of`.

    `changed` says that the score came as a change of status.
    """

    cursor: str
    seq: int = 0
    version: int = 0
    status: str = ""
    changed: bool = False
    as_of: int = 0


Connect = Callable[[str], AbstractAsyncContextManager[AsyncIterator[Sighting]]]


@dataclass(slots=True)
class Follower:
    """What was seen, in the order in which it came, over all connections; `cursor` is where the next one goes on.

    `changes` are the versions that came as changes of status; `statuses` the words as they followed one another;
    `early` scores that came before a signal that they cover.
    """

    cursor: str = ""
    signals: list[int] = field(default_factory=list)
    changes: list[int] = field(default_factory=list)
    statuses: list[str] = field(default_factory=list)
    early: list[Sighting] = field(default_factory=list)
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

    def _write_down(self, sighting: Sighting) -> None:
        self.cursor = sighting.cursor or self.cursor
        if sighting.seq:
            self.signals.append(sighting.seq)
        if sighting.changed:
            self.changes.append(sighting.version)
        if sighting.status not in self.statuses[-1:] and sighting.status:
            self.statuses.append(sighting.status)
        if sighting.as_of > (self.signals[-1] if self.signals else 0):
            self.early.append(sighting)


def over_grpc(address: str, tenant: str) -> Connect:
    """Subscribe, from the beginning or after a cursor."""

    @asynccontextmanager
    async def connect(cursor: str) -> AsyncIterator[AsyncIterator[Sighting]]:
        start = Start(cursor=cursor) if cursor else Start(position=POSITION_EARLIEST)
        options = [("grpc.use_local_subchannel_pool", 1), ("grpc.enable_http_proxy", 0)]
        async with grpc.aio.insecure_channel(address, options=options) as channel:
            call = EventsServiceStub(channel).Subscribe(SubscribeRequest(tenant_id=tenant, start=start))
            async with aclosing(_sightings(call)) as sightings:
                yield sightings

    return connect


async def _sightings(
    call: grpc.aio.UnaryStreamCall[SubscribeRequest, SubscribeResponse],
) -> AsyncGenerator[Sighting, None]:
    try:
        async for frame in call:
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
    changed = event.kind == EVENT_KIND_SCORE_STATUS_CHANGED
    return Sighting(event.cursor, 0, event.score.version, word_of(event.score), changed, event.score.as_of_seq)


def word_of(score: Score) -> str:
    """The status as GraphQL says it."""
    return Status.Name(score.status).removeprefix("STATUS_")

"""Streams that outlive their connection: each goes on where the last one ended."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from typing import TYPE_CHECKING, Final, TypeAlias, TypeVar

import grpc.aio

from coherence.v1.events_pb2 import Start, SubscribeRequest
from coherence_grpc.client.failures import failure_of, may_pass

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Callable
    from typing import Any

    from coherence.v1.events_pb2 import Event, Gap, SubscribeResponse
    from coherence.v1.score_pb2 import Score, WatchScoreResponse
    from coherence_grpc.client.failures import Refused

FIRST_PAUSE_S: Final = 0.2
LONGEST_PAUSE_S: Final = 5.0
_Frame = TypeVar("_Frame")
Opened: TypeAlias = "Callable[[], Awaitable[grpc.aio.UnaryStreamCall[Any, _Frame]]]"
OnLost: TypeAlias = "Callable[[Refused], None]"


class Reconnecting:
    """How a stream comes back: the first connection must succeed, one that was lost is tried again for `patience_s`.

    `on_lost` is told once of each loss. A refusal for good is raised; that a token has expired is none when the next
    connection takes a new one.
    """

    def __init__(self, *, patience_s: float, renewable: bool = False, on_lost: OnLost | None = None) -> None:
        self._patience_s = patience_s
        self._renewable = renewable
        self._on_lost = on_lost
        self._lost_at: float | None = None
        self._pause_s = 0.0
        self.connections = 0

    async def frames(self, opened: Opened[_Frame]) -> AsyncGenerator[_Frame, None]:
        """The frames of one stream after the other; `connections` counts those that brought one."""
        while True:
            call = await opened()
            answered = False
            try:
                async for frame in call:
                    if not answered:
                        answered = True
                        self._found()
                    yield frame
            except grpc.aio.AioRpcError as error:
                self._lost(failure_of(error), answered=answered)
            finally:
                call.cancel()
            await asyncio.sleep(self._pause_s or FIRST_PAUSE_S)

    def _found(self) -> None:
        self.connections += 1
        self._lost_at, self._pause_s = None, 0.0

    def _lost(self, failure: Refused, *, answered: bool) -> None:
        now = asyncio.get_running_loop().time()
        if not self.connections or not self._resumable(failure, answered=answered):
            raise failure
        if self._lost_at is None:
            self._lost_at = now
            if self._on_lost is not None:
                self._on_lost(failure)
        elif now - self._lost_at > self._patience_s:
            raise failure
        self._pause_s = failure.retry_after_s or min(max(2 * self._pause_s, FIRST_PAUSE_S), LONGEST_PAUSE_S)

    def _resumable(self, failure: Refused, *, answered: bool) -> bool:
        if failure.code == "UNAUTHENTICATED":
            return self._renewable and answered
        return may_pass(failure.refusal) or "resume_cursor" in failure.refusal.metadata


class EventFeed:
    """One tenant's events over as many streams as it takes; `start` is where the next one begins."""

    def __init__(
        self,
        subscribe: Callable[[SubscribeRequest], Awaitable[grpc.aio.UnaryStreamCall[Any, SubscribeResponse]]],
        request: SubscribeRequest,
        reconnecting: Reconnecting,
    ) -> None:
        self._subscribe = subscribe
        self._request = request
        self._reconnecting = reconnecting

    @property
    def cursor(self) -> str:
        """The position after what was handed out, or filtered out since; '' before the first frame."""
        return self._request.start.cursor

    async def items(self) -> AsyncGenerator[Event | Gap, None]:
        """Every event once and in order, and the ranges that can't be sent any more."""
        async with aclosing(self._reconnecting.frames(lambda: self._subscribe(self._request))) as frames:
            async for frame in frames:
                for event in frame.batch.events:
                    # Before it is handed on: whoever gets it has seen it.
                    self._move(event.cursor)
                    yield event
                match frame.WhichOneof("frame"):
                    case "opened":
                        self._move(frame.opened.cursor)
                    case "bookmark":
                        self._move(frame.bookmark.cursor)
                    case "gap":
                        self._move(frame.gap.cursor)
                        yield frame.gap
                    case "closing":
                        self._move(frame.closing.resume_cursor)
                        await asyncio.sleep(frame.closing.retry_delay.ToMicroseconds() / 1e6)

    def _move(self, cursor: str) -> None:
        if cursor:
            self._request.start.CopyFrom(Start(cursor=cursor))


class ScoreFeed:
    """Scores over as many streams as it takes."""

    def __init__(self, opened: Opened[WatchScoreResponse], reconnecting: Reconnecting) -> None:
        self._opened = opened
        self._reconnecting = reconnecting
        self._connection: dict[str, int] = {}
        self._newest: dict[str, Score] = {}

    async def items(self) -> AsyncGenerator[tuple[WatchScoreResponse, bool], None]:
        """Every update, and whether it is the tenant's first since the connection was lost.

        A current score with another held status than the last one that came is a change, although the new stream calls
        it the initial one.
        """
        async with aclosing(self._reconnecting.frames(self._opened)) as frames:
            async for update in frames:
                score = update.score
                before = self._newest.get(score.tenant_id)
                resumed = before is not None and self._connection[score.tenant_id] != self._reconnecting.connections
                if before is not None and update.initial:
                    update.status_changed = score.held_status != before.held_status
                self._newest[score.tenant_id] = score
                self._connection[score.tenant_id] = self._reconnecting.connections
                yield update, resumed

"""Event streams of the backbone, followed for one subscription each, and ended in a way that can be resumed."""

from __future__ import annotations

import asyncio
from collections import Counter
from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING, Any, Final

import grpc.aio

from coherence.v1.events_pb2 import (
    CLOSING_REASON_LAGGED,
    CLOSING_REASON_MAX_AGE,
    Closing,
    Event,
    EventFilter,
    EventKind,
    Gap,
    Start,
    SubscribeRequest,
    SubscribeResponse,
)
from coherence.v1.events_pb2_grpc import EventsServiceStub
from coherence_grpc.client import Refusal, refusal_of
from coherence_grpc.client.policy import CHANNEL_OPTIONS
from subgraph.refusals import Refused, presentable

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Sequence

    from subgraph.backbone import Caller

# The server takes 100 streams a connection; one is the channel's own health watch.
STREAMS_A_CHANNEL: Final = 90
DRAIN_RETRY_S: Final = 1.0
GAP: Final = "EVENTS_GAP"

_CLOSING: Final = {
    CLOSING_REASON_LAGGED: ("RESOURCE_EXHAUSTED", "SUBSCRIBER_LAGGED", "events came faster than they were taken"),
    CLOSING_REASON_MAX_AGE: ("UNAVAILABLE", "MAX_AGE", "the subscription has reached its maximum age"),
}
_PASSING: Final = frozenset({"UNAVAILABLE", "DEADLINE_EXCEEDED", "RESOURCE_EXHAUSTED"})
_DRAINING: Final = ("UNAVAILABLE", "DRAINING", "the service is shutting down or moving")


class Ended(Refused):
    """A subscription is over though its client did not end it; `resume_cursor` is where the next one goes on.

    `code` is set where the error table has no word.
    """

    def __init__(self, refusal: Refusal, resume_cursor: str, code: str = "") -> None:
        super().__init__(refusal)
        self.resume_cursor = resume_cursor
        self.code = code


class Follower:
    """One subscription's stream; `position` is the cursor after the last event that was handed out."""

    def __init__(
        self, call: grpc.aio.UnaryStreamCall[SubscribeRequest, SubscribeResponse], start: str, opened: asyncio.Event
    ) -> None:
        self._call = call
        self._draining = False
        self._opened = opened
        self.position = start

    def drain(self) -> None:
        """End the subscription with an error that says where to resume."""
        self._draining = True
        self._call.cancel()

    async def events(self) -> AsyncGenerator[Event, None]:
        """The events, until the client leaves or `Ended` is raised."""
        try:
            async for frame in self._call:
                for event in self._events_of(frame):
                    self.position = event.cursor
                    yield event
        except grpc.aio.AioRpcError as error:
            raise self._broken(presentable(refusal_of(error))) from error
        except asyncio.CancelledError:
            if not self._draining:
                raise
        finally:
            self._call.cancel()
        raise self._ended(*_DRAINING, DRAIN_RETRY_S)

    def _events_of(self, frame: SubscribeResponse) -> Sequence[Event]:
        match frame.WhichOneof("frame"):
            case "batch":
                return frame.batch.events
            case "opened":
                self._opened.set()
                self.position = self.position or frame.opened.cursor
            case "bookmark":
                self.position = frame.bookmark.cursor
            case "gap":
                raise self._gap(frame.gap)
            case "closing":
                raise self._closing(frame.closing)
        return ()

    def _broken(self, refusal: Refusal) -> Refused:
        # Asked for what can't be had, there is nothing to resume.
        return Ended(refusal, self.position) if self._opened.is_set() or refusal.code in _PASSING else Refused(refusal)

    def _gap(self, gap: Gap) -> Ended:
        message = (
            f"entries {gap.from_seq} to {gap.to_seq} can't be sent any more ({gap.reason}); "
            "subscribe again with after = resumeCursor to go on behind them"
        )
        detail = {"from_seq": str(gap.from_seq), "to_seq": str(gap.to_seq)}
        return Ended(Refusal("OUT_OF_RANGE", "", message, (), detail, 0.0), gap.cursor, GAP)

    def _closing(self, closing: Closing) -> Ended:
        code, reason, why = _CLOSING.get(closing.reason, _DRAINING)
        self.position = closing.resume_cursor or self.position
        return self._ended(code, reason, why, closing.retry_delay.ToMicroseconds() / 1e6)

    def _ended(self, code: str, reason: str, why: str, retry_after_s: float) -> Ended:
        message = f"{why}; subscribe again with after = resumeCursor"
        return Ended(Refusal(code, reason, message, (), {}, retry_after_s), self.position)


class Followers:
    """All open subscriptions, over as many channels as they need."""

    def __init__(self, address: str) -> None:
        self._address = address
        self._channels: dict[grpc.aio.Channel, EventsServiceStub] = {}
        self._streams: Counter[grpc.aio.Channel] = Counter()
        self._open: set[Follower] = set()
        self._draining = False
        # Set while no subscription is open.
        self.idle = asyncio.Event()
        self.idle.set()

    @asynccontextmanager
    async def follow(
        self,
        caller: Caller,
        tenant_id: str,
        kinds: Sequence[EventKind.ValueType],
        after: str,
        opened: asyncio.Event,
    ) -> AsyncIterator[Follower]:
        """A stream of the tenant's events of these kinds, after a cursor or from now on.

        `opened` is set once nothing that happens can be missed any more.
        """
        request = SubscribeRequest(
            tenant_id=tenant_id,
            filter=EventFilter(kinds=kinds),
            start=Start(cursor=after) if after else None,
            client_label="subgraph",
        )
        channel, stub = self._roomiest()
        self._streams[channel] += 1
        follower = Follower(stub.Subscribe(request, metadata=caller.metadata), after, opened)
        self._open.add(follower)
        self.idle.clear()
        if self._draining:
            follower.drain()
        try:
            yield follower
        finally:
            self._open.discard(follower)
            self._streams[channel] -= 1
            if not self._open:
                self.idle.set()

    def drain(self) -> None:
        """End every subscription, and those that still come, with an error that says where to resume."""
        self._draining = True
        for follower in list(self._open):
            follower.drain()

    async def close(self) -> None:
        """Close the channels."""
        async with AsyncExitStack() as stack:
            for channel in self._channels:
                stack.push_async_callback(channel.close)

    def _roomiest(self) -> tuple[grpc.aio.Channel, EventsServiceStub]:
        for channel, stub in self._channels.items():
            if self._streams[channel] < STREAMS_A_CHANNEL:
                return channel, stub
        # With the global pool, channels to one address share one connection and its limit of streams.
        options: list[tuple[str, Any]] = [*CHANNEL_OPTIONS, ("grpc.use_local_subchannel_pool", 1)]
        channel = grpc.aio.insecure_channel(self._address, options=options)
        stub = self._channels[channel] = EventsServiceStub(channel)
        return channel, stub

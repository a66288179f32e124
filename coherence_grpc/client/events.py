"""A tenant's events as an iterator that resumes by itself."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Literal, TypeAlias

from coherence.v1 import events_pb2 as pb
from coherence.v1.events_pb2_grpc import EventsServiceStub
from coherence.v1.score_pb2 import Status as StatusMessage
from coherence_grpc.client.following import EventFeed, Reconnecting
from coherence_grpc.client.instants import timestamp
from coherence_grpc.client.messages import event_of, gap_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence
    from datetime import datetime

    import grpc.aio

    from coherence_grpc.client.credentials import Identity
    from coherence_grpc.client.following import OnLost
    from coherence_grpc.client.model import Event, EventKind, Gap, Status

Place: TypeAlias = 'Literal["earliest", "latest"] | datetime'
LABEL: Final = "coherence client"


class EventStream:
    """Iterates over events and gaps. `cursor` is the position reached, also past what was filtered out.

    An iteration over a lost connection goes on after the last event that it handed out: none is missed and none comes
    twice.
    """

    def __init__(self, feed: EventFeed) -> None:
        self._feed = feed
        self._items = feed.items()

    @property
    def cursor(self) -> str:
        """Where to go on from, in another process too; '' before the first answer."""
        return self._feed.cursor

    def __aiter__(self) -> AsyncIterator[Event | Gap]:
        return self

    async def __anext__(self) -> Event | Gap:
        async for item in self._items:
            if isinstance(item, pb.Gap):
                return gap_of(item)
            event = event_of(item)
            if event is not None:
                return event
        raise StopAsyncIteration

    async def aclose(self) -> None:
        """End the subscription."""
        await self._items.aclose()


class Events(EventsServiceStub):
    """The stub of EventsService, which is called to iterate: `async for event in client.events("acme")`."""

    def __init__(self, calls: grpc.aio.Channel, identity: Identity, patience_s: float) -> None:
        super().__init__(calls)
        self._identity = identity
        self._patience_s = patience_s

    def __call__(
        self,
        tenant_id: str,
        *,
        after: str | None = None,
        start: Place = "latest",
        kinds: Sequence[EventKind] = (),
        sources: Sequence[str] = (),
        types: Sequence[str] = (),
        min_value: float | None = None,
        max_value: float | None = None,
        statuses: Sequence[Status] = (),
        on_lost: OnLost | None = None,
    ) -> EventStream:
        """A tenant's events after the cursor `after`, or from `start` on; the filters narrow them.

        A lost connection is taken up again, and `on_lost` is told; a range that retention erased comes as a Gap.

        Raises:
            CursorExpired: `after` is not in the log any more.
            Refused: the first connection fails, a later refusal is for good, or the service stays away.
        """
        request = pb.SubscribeRequest(
            tenant_id=tenant_id,
            start=pb.Start(cursor=after) if after else _start(start),
            filter=pb.EventFilter(
                kinds=[pb.EventKind.Value(f"EVENT_KIND_{kind}") for kind in kinds],
                sources=sources,
                types=types,
                min_value=min_value,
                max_value=max_value,
                statuses=[StatusMessage.Value(f"STATUS_{status}") for status in statuses],
            ),
            client_label=LABEL,
        )
        return EventStream(self.feed(request, on_lost))

    def feed(
        self, request: pb.SubscribeRequest, on_lost: OnLost | None, *, patience_s: float | None = None
    ) -> EventFeed:
        """The same, of messages."""
        patience_s = self._patience_s if patience_s is None else patience_s
        reconnecting = Reconnecting(patience_s=patience_s, renewable=self._identity.renewable, on_lost=on_lost)
        return EventFeed(self._subscribed, request, reconnecting)

    async def _subscribed(
        self, request: pb.SubscribeRequest
    ) -> grpc.aio.UnaryStreamCall[pb.SubscribeRequest, pb.SubscribeResponse]:
        return self.Subscribe(request, metadata=await self._identity.metadata())


def _start(place: Place) -> pb.Start:
    if place == "earliest":
        return pb.Start(position=pb.POSITION_EARLIEST)
    if place == "latest":
        return pb.Start(position=pb.POSITION_LATEST)
    return pb.Start(time=timestamp(place))

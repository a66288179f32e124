"""EventsService."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from coherence.v1.events_pb2_grpc import EventsServiceServicer
from coherence_grpc.convert import events
from coherence_grpc.convert.calls import cutter, stream_age_s, timeout_s
from coherence_grpc.errors import CoherenceError, SubscriberLagged

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from coherence.v1 import events_pb2 as pb
    from coherence_grpc.convert.calls import Context
    from coherence_grpc.events import Hub
    from coherence_grpc.tokens import Cursor, Signer

_log = logging.getLogger(__name__)


class EventsServicer(EventsServiceServicer):
    """Streams what happens to a tenant."""

    def __init__(self, hub: Hub, signer: Signer) -> None:
        self._hub = hub
        self._signer = signer

    async def Subscribe(self, request: pb.SubscribeRequest, context: Context) -> AsyncIterator[pb.SubscribeResponse]:
        """Frames, until the subscriber leaves or the server closes the stream."""
        wanted = events.subscription(request, self._signer)
        tenant_id, label, cut = request.tenant_id, request.client_label, cutter()

        def lagged(cursor: Cursor) -> None:
            _log.info("subscriber lagged", extra={"fields": {"tenant_id": tenant_id, "client_label": label}})
            cut(self._lagged(tenant_id, cursor))

        subscription = self._hub.subscribe(tenant_id, **wanted._asdict(), max_age_s=stream_age_s(), on_lagged=lagged)
        async with subscription:
            try:
                async for frame in subscription:
                    yield events.subscribe_response(tenant_id, frame, self._signer)
            except CoherenceError as error:
                if subscription.resume_cursor is not None:
                    resume_cursor = self._signer.cursor(tenant_id, subscription.resume_cursor)
                    error.metadata.setdefault("resume_cursor", resume_cursor)
                raise

    async def PullEvents(self, request: pb.PullEventsRequest, context: Context) -> pb.PullEventsResponse:
        """The next events."""
        start, narrow, max_events, wait_s = events.pull(request, self._signer)
        pulled = await self._hub.pull(
            request.tenant_id, start=start, filter=narrow, max_events=max_events, wait_s=min(wait_s, timeout_s())
        )
        return events.pull_events_response(request.tenant_id, pulled, self._signer)

    async def GetCursor(self, request: pb.GetCursorRequest, context: Context) -> pb.GetCursorResponse:
        """A cursor, and the range that can be read."""
        positions = await self._hub.position(request.tenant_id, events.place(request, self._signer))
        return events.get_cursor_response(request.tenant_id, positions, self._signer)

    def _lagged(self, tenant_id: str, cursor: Cursor) -> SubscriberLagged:
        message = "no frame was taken for too long; resume from resume_cursor, and take frames as they come"
        return SubscriberLagged(message, metadata={"resume_cursor": self._signer.cursor(tenant_id, cursor)})

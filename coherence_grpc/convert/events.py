"""Event requests, and frames as they travel.

What many subscribers are sent is encoded once: an event keeps its bytes in `wire`, a batch those of its whole frame.
Encoded messages are put together by concatenation, as the encoding allows.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple, cast

from coherence.v1 import events_pb2 as pb
from coherence_grpc.convert.instants import duration, seconds_of, timestamp
from coherence_grpc.convert.policies import score_policy
from coherence_grpc.convert.records import signal_of, stored_signal
from coherence_grpc.convert.scores import STATUS_WORDS, score
from coherence_grpc.convert.validation import checked, instant
from coherence_grpc.events import (
    Batch,
    Bookmark,
    Closing,
    ClosingReason,
    Event,
    EventFilter,
    EventKind,
    Frame,
    Gap,
    Opened,
    Position,
    Positions,
    Pulled,
    Start,
)
from coherence_grpc.score import quantise

if TYPE_CHECKING:
    from coherence_grpc.tokens import Signer

COALESCE_S: Final = 0.1
HEARTBEAT_S: Final = 10.0
MAX_EVENTS: Final = 100

_KINDS: Final = {
    EventKind.SIGNAL_STORED: pb.EVENT_KIND_SIGNAL_STORED,
    EventKind.SIGNAL_REPLACED: pb.EVENT_KIND_SIGNAL_REPLACED,
    EventKind.SCORE_UPDATED: pb.EVENT_KIND_SCORE_UPDATED,
    EventKind.SCORE_STATUS_CHANGED: pb.EVENT_KIND_SCORE_STATUS_CHANGED,
    EventKind.POLICY_UPDATED: pb.EVENT_KIND_POLICY_UPDATED,
}
_KIND_WORDS: Final = {number: word for word, number in _KINDS.items()}
_CLOSINGS: Final = {
    ClosingReason.DRAINING: pb.CLOSING_REASON_DRAINING,
    ClosingReason.LAGGED: pb.CLOSING_REASON_LAGGED,
    ClosingReason.MAX_AGE: pb.CLOSING_REASON_MAX_AGE,
}
# Tags of length-delimited fields: `events` is field 1 of EventBatch and of PullEventsResponse, `batch` 2 of a frame.
_EVENTS_TAG: Final = b"\x0a"
_BATCH_TAG: Final = b"\x12"


class Wanted(NamedTuple):
    """A subscription as it is asked for."""

    start: Start
    filter: EventFilter
    coalesce_s: float
    max_batch: int
    heartbeat_s: float


def subscription(request: pb.SubscribeRequest, signer: Signer) -> Wanted:
    """What the subscriber wants.

    Raises:
        FilterInvalid: the request is malformed.
        CursorForeign: its cursor was not issued for the tenant.
    """
    checked(request)
    return Wanted(
        start=_start(request, signer),
        filter=_filter(request.filter),
        coalesce_s=seconds_of(request.coalesce_window) if request.HasField("coalesce_window") else COALESCE_S,
        max_batch=request.max_batch or MAX_EVENTS,
        heartbeat_s=seconds_of(request.heartbeat_interval) if request.HasField("heartbeat_interval") else HEARTBEAT_S,
    )


def pull(request: pb.PullEventsRequest, signer: Signer) -> tuple[Start, EventFilter, int, float]:
    """Start, filter, how many events at most, and how long to wait for the first.

    Raises:
        FilterInvalid, CursorForeign: as for a subscription.
    """
    checked(request)
    return (
        _start(request, signer),
        _filter(request.filter),
        request.max_events or MAX_EVENTS,
        seconds_of(request.wait),
    )


def place(request: pb.GetCursorRequest, signer: Signer) -> Start:
    """The place that a cursor is asked for.

    Raises:
        FilterInvalid, CursorForeign: as for a subscription.
    """
    checked(request)
    return _start(request, signer)


def subscribe_response(tenant_id: str, frame: Frame, signer: Signer) -> pb.SubscribeResponse:
    """The frame; a batch comes as bytes, which the serializer lets through."""
    match frame:
        case Batch():
            return cast("pb.SubscribeResponse", _batch_frame(frame, signer))
        case Bookmark(cursor, at):
            bookmark = pb.Bookmark(cursor=signer.cursor(tenant_id, cursor), server_time=timestamp(at))
            return pb.SubscribeResponse(bookmark=bookmark)
        case Opened(cursor, earliest):
            opened = pb.Opened(
                cursor=signer.cursor(tenant_id, cursor), earliest_cursor=signer.cursor(tenant_id, earliest)
            )
            return pb.SubscribeResponse(opened=opened)
        case Gap():
            return pb.SubscribeResponse(gap=_gap(tenant_id, frame, signer))
        case Closing(reason, cursor, retry_delay_s):
            closing = pb.Closing(
                reason=_CLOSINGS[reason],
                resume_cursor=signer.cursor(tenant_id, cursor),
                retry_delay=duration(retry_delay_s),
            )
            return pb.SubscribeResponse(closing=closing)


def pull_events_response(tenant_id: str, pulled: Pulled, signer: Signer) -> pb.PullEventsResponse:
    """The events, as bytes, which the serializer lets through."""
    rest = pb.PullEventsResponse(
        next_cursor=signer.cursor(tenant_id, pulled.cursor),
        gaps=[_gap(tenant_id, gap, signer) for gap in pulled.gaps],
        has_more=pulled.has_more,
    )
    encoded = b"".join([_wire(event, signer) for event in pulled.events])
    return cast("pb.PullEventsResponse", encoded + rest.SerializeToString())


def get_cursor_response(tenant_id: str, positions: Positions, signer: Signer) -> pb.GetCursorResponse:
    """The cursor, and the range that can be read."""
    return pb.GetCursorResponse(
        cursor=signer.cursor(tenant_id, positions.cursor),
        earliest_cursor=signer.cursor(tenant_id, positions.earliest),
        latest_cursor=signer.cursor(tenant_id, positions.latest),
        earliest_seq=positions.earliest_seq,
        latest_seq=positions.latest_seq,
    )


def event(event: Event, signer: Signer) -> pb.Event:
    """One thing that happened."""
    cursor = signer.cursor(event.tenant_id, event.cursor)
    return pb.Event(
        cursor=cursor,
        tenant_id=event.tenant_id,
        kind=_KINDS[event.kind],
        occurred_time=timestamp(event.occurred_at),
        recorded_time=timestamp(event.recorded_at),
        signal=None if event.signal is None else stored_signal(event.signal, cursor),
        score=None if event.score is None else score(event.score, cursor),
        policy=None if event.policy is None else score_policy(event.tenant_id, event.policy),
        traceparent=event.traceparent,
        superseded=None if event.superseded is None else signal_of(event.tenant_id, event.superseded),
    )


def _batch_frame(batch: Batch, signer: Signer) -> bytes:
    if not isinstance(batch.wire, bytes):
        batch.wire = _delimited(_BATCH_TAG, b"".join([_wire(event, signer) for event in batch.events]))
    return batch.wire


def _wire(happened: Event, signer: Signer) -> bytes:
    """The event as an element of `events`."""
    if not isinstance(happened.wire, bytes):
        happened.wire = _delimited(_EVENTS_TAG, event(happened, signer).SerializeToString())
    return happened.wire


def _delimited(tag: bytes, payload: bytes) -> bytes:
    length, size = bytearray(), len(payload)
    while size > 0x7F:  # noqa: PLR2004 - seven bits a byte
        length.append(size & 0x7F | 0x80)
        size >>= 7
    length.append(size)
    return tag + bytes(length) + payload


def _gap(tenant_id: str, gap: Gap, signer: Signer) -> pb.Gap:
    return pb.Gap(
        from_seq=gap.from_seq, to_seq=gap.to_seq, cursor=signer.cursor(tenant_id, gap.cursor), reason=gap.reason
    )


def _start(request: pb.SubscribeRequest | pb.PullEventsRequest | pb.GetCursorRequest, signer: Signer) -> Start:
    start = request.start
    match start.WhichOneof("at"):
        case "cursor":
            return signer.read_cursor(request.tenant_id, start.cursor)
        case "time":
            return instant(start.time, "start.time")
        case "position" if start.position == pb.POSITION_EARLIEST:
            return Position.EARLIEST
        case _:
            return Position.LATEST


def _filter(narrow: pb.EventFilter) -> EventFilter:
    return EventFilter(
        kinds=frozenset(_KIND_WORDS[kind] for kind in narrow.kinds),
        sources=frozenset(narrow.sources),
        types=frozenset(narrow.types),
        min_value_q=quantise(narrow.min_value) if narrow.HasField("min_value") else None,
        max_value_q=quantise(narrow.max_value) if narrow.HasField("max_value") else None,
        statuses=frozenset(STATUS_WORDS[status] for status in narrow.statuses),
    )

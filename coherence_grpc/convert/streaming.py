"""Frames of StreamSignals into what the use case takes, and what it sends into frames."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from coherence.v1 import ingest_pb2 as pb
from coherence.v1 import signal_pb2
from coherence_grpc.convert.instants import duration
from coherence_grpc.convert.plain import is_plain_batch
from coherence_grpc.convert.publishing import drafts_of, on_conflict, tags_of
from coherence_grpc.convert.refusals import status_of
from coherence_grpc.convert.validation import checked, malformed_items
from coherence_grpc.errors import StreamInvalid
from coherence_grpc.ingest import Publication
from coherence_grpc.ingest.streamed import (
    Ack,
    Batch,
    Closing,
    ClosingReason,
    Credit,
    Flush,
    Opened,
    Opening,
    Received,
    Sent,
    Throttle,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from typing import Self

    from coherence_grpc.tokens import Signer

# How long a stream may stay without its first frame.
OPEN_S: Final = 10.0
MAX_BATCH_SIGNALS: Final = 1000
MAX_BATCH_BYTES: Final = 1024 * 1024
_REASONS: Final = {
    ClosingReason.DRAINING: pb.STREAM_CLOSING_REASON_DRAINING,
    ClosingReason.MAX_AGE: pb.STREAM_CLOSING_REASON_MAX_AGE,
    ClosingReason.COMPLETE: pb.STREAM_CLOSING_REASON_COMPLETE,
}
_FLUSH: Final = Flush()
_FIRST: Final = "send open first, with tenant_id and stream_id"


async def opened(frames: AsyncIterator[pb.StreamSignalsRequest]) -> Opening:
    """The first frame.

    Raises:
        StreamInvalid: it does not come, is another one, or malformed.
    """
    try:
        async with asyncio.timeout(OPEN_S):
            frame = await anext(frames)
    except TimeoutError:
        message = f"no frame came within {OPEN_S:.0f} s; {_FIRST}"
        raise StreamInvalid(message) from None
    except StopAsyncIteration:
        message = f"the stream ended before its first frame; {_FIRST}"
        raise StreamInvalid(message) from None
    if frame.WhichOneof("frame") != "open":
        message = f"the first frame must be open; {_FIRST}"
        raise StreamInvalid(message)
    checked(frame, StreamInvalid)
    given = frame.open
    return Opening(
        given.tenant_id,
        given.stream_id,
        given.acked_through,
        tags_of(given),
        given.backfill,
        on_conflict(given),
    )


class Incoming:
    """The frames after the first, as they come.

    Raises, for a frame that is malformed or out of turn:
        StreamInvalid: naming what is wrong with it.
    """

    def __init__(self, frames: AsyncIterator[pb.StreamSignalsRequest], opening: Opening) -> None:
        self._frames = frames
        self._opening = opening

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Received:
        frame = await anext(self._frames)
        kind = frame.WhichOneof("frame")
        if kind == "batch":
            return _batch(frame.batch, self._opening)
        if kind == "flush":
            return _FLUSH
        message = "after open a frame must be batch or flush" if kind else "the frame is empty; send batch or flush"
        raise StreamInvalid(message)


def _batch(batch: pb.StreamBatch, opening: Opening) -> Batch:
    tenant_id, sequence, signals = opening.tenant_id, batch.sequence, batch.signals
    plain = is_plain_batch(batch, tenant_id)
    malformed = {} if plain else malformed_items(batch, batch, "signals", StreamInvalid)
    drafts, positions = drafts_of(signals, tenant_id, malformed)
    return Batch(
        sequence,
        Publication(
            tenant_id=tenant_id,
            drafts=drafts,
            positions=positions,
            refused=malformed,
            request_id=opening.request_id(sequence),
            tags=opening.tags,
            backfill=opening.backfill,
            validate_only=False,
            on_conflict=opening.on_conflict,
        ),
    )


def stream_signals_response(tenant_id: str, sent: Sent, signer: Signer) -> pb.StreamSignalsResponse:
    """The frame."""
    match sent:
        case Ack():
            return pb.StreamSignalsResponse(ack=_ack(tenant_id, sent, signer))
        case Opened():
            return pb.StreamSignalsResponse(
                opened=pb.StreamOpened(
                    acked_through=sent.acked_through,
                    credits=sent.credits,
                    max_batch_signals=MAX_BATCH_SIGNALS,
                    max_batch_bytes=MAX_BATCH_BYTES,
                )
            )
        case Credit():
            return pb.StreamSignalsResponse(credit=pb.StreamCredit(credits=sent.credits))
        case Throttle():
            throttle = pb.StreamThrottle(retry_delay=duration(sent.retry_delay_s), reason=sent.reason)
            return pb.StreamSignalsResponse(throttle=throttle)
        case Closing():
            closing = pb.StreamClosing(acked_through=sent.acked_through, reason=_REASONS[sent.reason])
            return pb.StreamSignalsResponse(closing=closing)


def _ack(tenant_id: str, ack: Ack, signer: Signer) -> pb.StreamAck:
    return pb.StreamAck(
        acked_through=ack.acked_through,
        stored_count=ack.stored,
        duplicate_count=ack.duplicates,
        replaced_count=ack.replaced,
        rejections=[
            pb.StreamRejection(sequence=sequence, index=position, error=status_of(error))
            for sequence, position, error in ack.rejections
        ],
        revision=None if ack.head is None else signal_pb2.Revision(token=signer.revision(tenant_id, ack.head)),
    )

"""Streams of signals, for IngestService."""

from __future__ import annotations

from typing import TYPE_CHECKING

from coherence_grpc.convert import streaming
from coherence_grpc.convert.calls import caller, cutter, stream_age_s

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator

    from coherence.v1 import ingest_pb2 as pb
    from coherence_grpc.ingest import Streams
    from coherence_grpc.tokens import Signer


class SignalStreams:
    """Serves StreamSignals."""

    def __init__(self, streams: Streams, signer: Signer) -> None:
        self._streams = streams
        self._signer = signer

    async def serve(
        self, frames: AsyncIterator[pb.StreamSignalsRequest]
    ) -> AsyncGenerator[pb.StreamSignalsResponse, None]:
        """Answers the frames of one stream."""
        opening = await streaming.opened(frames)
        incoming = streaming.Incoming(frames, opening)
        stream = self._streams.open(opening, incoming, caller(), max_age_s=stream_age_s(), on_stuck=cutter())
        async with stream:
            async for sent in stream:
                yield streaming.stream_signals_response(opening.tenant_id, sent, self._signer)

"""Streams of signals, for IngestService."""

from __future__ import annotations

from typing import TYPE_CHECKING

from coherence.v1 import ingest_pb2 as pb
from coherence_grpc.errors import FeatureDisabled

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


class SignalStreams:
    """Serves StreamSignals."""

    async def serve(self, frames: AsyncIterator[pb.StreamSignalsRequest]) -> AsyncIterator[pb.StreamSignalsResponse]:
        """Answers the frames of one stream."""
        async for _ in frames:
            message = "StreamSignals is not there yet"
            raise FeatureDisabled(message)
        yield pb.StreamSignalsResponse()

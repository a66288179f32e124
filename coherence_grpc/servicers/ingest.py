"""IngestService."""

from __future__ import annotations

from contextlib import aclosing
from typing import TYPE_CHECKING

from coherence.v1.ingest_pb2_grpc import IngestServiceServicer
from coherence_grpc.convert import pages, publishing, records, scored
from coherence_grpc.convert.calls import caller, timeout_s
from coherence_grpc.convert.validation import checked

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from coherence.v1 import ingest_pb2 as pb
    from coherence_grpc.convert.calls import Context
    from coherence_grpc.ingest import Ingest, Publication, Published, Records
    from coherence_grpc.materialize import ScoredWrites
    from coherence_grpc.model import Score
    from coherence_grpc.servicers.cursors import Cursors
    from coherence_grpc.servicers.streaming import SignalStreams
    from coherence_grpc.tokens import Signer


class IngestServicer(IngestServiceServicer):
    """Stores signals and shows what is stored."""

    def __init__(
        self,
        ingest: Ingest,
        records: Records,
        cursors: Cursors,
        signer: Signer,
        streams: SignalStreams,
        scored: ScoredWrites,
    ) -> None:
        self._streams = streams
        self._scored = scored
        self._ingest = ingest
        self._records = records
        self._cursors = cursors
        self._signer = signer

    async def PublishSignal(self, request: pb.PublishSignalRequest, context: Context) -> pb.PublishSignalResponse:
        """Stores one signal."""
        publication = publishing.publication_of_one(request)
        waits = scored.waits_for_score(request)
        published = await self._publish(publication, waits=waits)
        response = publishing.publish_signal_response(publication, published, self._signer)
        if waits:
            scored.add_score(response, await self._score(publication, published), self._signer)
        return response

    async def PublishSignals(self, request: pb.PublishSignalsRequest, context: Context) -> pb.PublishSignalsResponse:
        """Stores signals of one tenant."""
        publication = publishing.publication(request)
        waits = scored.waits_for_score(request)
        published = await self._publish(publication, waits=waits)
        response = publishing.publish_signals_response(publication, published, self._signer)
        if waits:
            scored.add_score(response, await self._score(publication, published), self._signer)
        return response

    async def _publish(self, publication: Publication, *, waits: bool) -> Published:
        if waits:
            await self._scored.admit(publication.tenant_id, caller())
        return await self._ingest.publish(publication, caller(), timeout_s=timeout_s())

    async def _score(self, publication: Publication, published: Published) -> Score | None:
        return await self._scored.after(publication.tenant_id, published.head, timeout_s=timeout_s())

    async def StreamSignals(
        self, request_iterator: AsyncIterator[pb.StreamSignalsRequest], context: Context
    ) -> AsyncIterator[pb.StreamSignalsResponse]:
        """Stores signals as they come."""
        async with aclosing(self._streams.serve(request_iterator)) as responses:
            async for response in responses:
                yield response

    async def GetSignal(self, request: pb.GetSignalRequest, context: Context) -> pb.GetSignalResponse:
        """One stored signal by its key."""
        signal, head = await self._records.get(records.signal_key(request))
        (cursor,) = await self._cursors.after([signal])
        return records.get_signal_response(signal, cursor, head, self._signer)

    async def ListSignals(self, request: pb.ListSignalsRequest, context: Context) -> pb.ListSignalsResponse:
        """A page of stored signals."""
        query = records.signal_query(request)
        before = pages.signals_before(request, self._signer)
        limit = pages.page_size(request) + 1
        signals, head = await self._records.listing(request.tenant_id, query, before=before, limit=limit)
        cursors = await self._cursors.after(signals)
        return records.list_signals_response(request, signals, cursors, head, self._signer)

    async def GetProvenance(self, request: pb.GetProvenanceRequest, context: Context) -> pb.GetProvenanceResponse:
        """Who stored what, and its links of the chain."""
        checked(request)
        record, links = await self._records.provenance(request.tenant_id, request.provenance_id)
        return records.get_provenance_response(record, links)

    async def VerifyLedger(self, request: pb.VerifyLedgerRequest, context: Context) -> pb.VerifyLedgerResponse:
        """Whether a range of the log is as it was written."""
        checked(request)
        expected = request.expected_head_hash or None
        verdict, head, next_seq = await self._records.verify(
            request.tenant_id, request.from_seq, request.to_seq, expected
        )
        return records.verify_ledger_response(verdict, head, next_seq)

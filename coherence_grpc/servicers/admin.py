"""AdminService."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from coherence.v1.admin_pb2_grpc import AdminServiceServicer
from coherence_grpc.convert import records
from coherence_grpc.convert.validation import checked

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from coherence.v1 import admin_pb2 as pb
    from coherence_grpc.convert.calls import Context
    from coherence_grpc.ingest import Records

DEFAULT_BATCH: Final = 1000


class AdminServicer(AdminServiceServicer):
    """Operates the stores while they serve."""

    def __init__(self, records: Records) -> None:
        self._records = records

    async def Prune(self, request: pb.PruneRequest, context: Context) -> AsyncIterator[pb.PruneResponse]:
        """Erases what outlived its retention, batch by batch."""
        checked(request)
        batch = request.batch_size or DEFAULT_BATCH
        async for progress in self._records.prune(request.tenant_id or None, dry_run=request.dry_run, batch=batch):
            yield records.prune_response(progress)

"""MetaService."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from coherence.v1.meta_pb2_grpc import MetaServiceServicer
from coherence_grpc.convert import server
from coherence_grpc.convert.calls import caller

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from coherence.v1 import meta_pb2 as pb
    from coherence_grpc.convert.calls import Context
    from coherence_grpc.convert.server import Facts
    from coherence_grpc.ingest import Records
    from coherence_grpc.ports import Clock


@dataclass(slots=True)
class Server:
    """What this server is; `facts` are gathered when first asked for, `http_address` is known once it listens."""

    facts: Callable[[], Facts]
    switches: Callable[[], tuple[Mapping[str, str], str]]
    http_address: str = ""


class MetaServicer(MetaServiceServicer):
    """Says what this server is."""

    def __init__(self, info: Server, records: Records, clock: Clock) -> None:
        self._info = info
        self._records = records
        self._clock = clock

    async def GetServerInfo(self, request: pb.GetServerInfoRequest, context: Context) -> pb.GetServerInfoResponse:
        """Version, clock, limits, parts and switches."""
        retained = await self._records.retained(caller())
        switches, runtime_hash = self._info.switches()
        return server.server_info(
            self._info.facts(),
            self._clock,
            retained,
            switches=switches,
            runtime_hash=runtime_hash,
            http_address=self._info.http_address,
        )

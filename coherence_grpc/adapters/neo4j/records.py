"""Provenance records as the graph holds them, and the ledger that is checked against them."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Any, Final

from coherence_grpc.adapters.neo4j.graph import OPERATION_S
from coherence_grpc.adapters.neo4j.instants import microseconds
from coherence_grpc.ledger import encode_signal, provenance_digest
from coherence_grpc.model import (
    GENESIS,
    LedgerRow,
    License,
    Provenance,
    Purpose,
    Residency,
    Retention,
    Tags,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from coherence_grpc.adapters.neo4j.graph import Graph
    from coherence_grpc.adapters.neo4j.heads import Heads

CHUNK_ROWS: Final = 2000

RECORD: Final = f"""[
    p.provenance_id, p.request_id, p.request_hash, p.purpose, p.retention, p.license, p.residency, p.principal,
    p.transport, {microseconds("p.received_at")}, p.traceparent, p.backfill
]"""
# A signal's payload is not kept: it is encoded anew, so what a window reads is what was hashed.
LEDGER: Final = f"""
MATCH (e:Entry)
WHERE e.tenant_id = $tenant_id AND e.seq >= $first AND e.seq <= $last
WITH e ORDER BY e.tenant_id, e.seq
WITH collect([
    e.seq, e.epoch, e.kind, e.superseded, {microseconds("e.recorded_at")}, e.entry_hash, e.head_hash, e.provenance_id,
    e.payload, e.source, e.signal_id, e.type, e.value_q, e.weight_q, {microseconds("e.ts")}
]) AS rows, collect(DISTINCT e.provenance_id) AS records
RETURN rows, COLLECT {{
    UNWIND records AS provenance_id
    MATCH (p:Provenance {{provenance_id: provenance_id}})
    RETURN {RECORD}
}}
"""
STORED_BY: Final = """
MATCH (p:Provenance {provenance_id: $provenance_id}) WHERE p.tenant_id = $tenant_id
RETURN p.first_seq, p.stored
"""
HASH_BEFORE: Final = "MATCH (e:Entry {tenant_id: $tenant_id, seq: $first - 1}) RETURN e.head_hash"


class Ledger:
    """The entries with all that their hashes cover."""

    def __init__(self, graph: Graph, heads: Heads) -> None:
        self._graph = graph
        self._heads = heads

    async def stored_by(self, tenant_id: str, provenance_id: str, limit: int) -> list[LedgerRow]:
        """The entries of a record: a write numbers its own without a gap."""
        found = await self._graph.ask(STORED_BY, tenant_id=tenant_id, provenance_id=provenance_id)
        if not found:
            return []
        first, stored = found
        await self._heads.settled(tenant_id)
        rows = await self._rows(tenant_id, first, first + min(limit, stored) - 1)
        return [row for its_id, row in rows if its_id == provenance_id]

    async def read(self, tenant_id: str, first: int, limit: int) -> tuple[bytes, list[LedgerRow]]:
        """The chain's hash before `first`, and the entries from there as they are, up to the settled head."""
        head = await self._heads.settled(tenant_id)
        previous = GENESIS
        if first > 1:
            found = await self._graph.ask(HASH_BEFORE, tenant_id=tenant_id, first=first)
            previous = found[0] if found else b""
        rows = await self._rows(tenant_id, first, min(first + limit - 1, head.seq))
        return previous, [row for _, row in rows]

    async def _rows(self, tenant_id: str, first: int, last: int) -> list[tuple[str, LedgerRow]]:
        found: list[tuple[str, LedgerRow]] = []
        for begin in range(first, last + 1, CHUNK_ROWS):
            end = min(begin + CHUNK_ROWS - 1, last)
            rows, records = await self._graph.ask(
                LEDGER, limit_s=OPERATION_S, tenant_id=tenant_id, first=begin, last=end
            )
            digests = {record[0]: _digest(tenant_id, record) for record in records}
            found += [_ledger_row(digests, *row) for row in rows]
        return found


def provenance_of(tenant_id: str, record: Sequence[Any]) -> Provenance:
    """The record of a row of `RECORD`."""
    provenance_id, request_id, request_hash, purpose, retention, license_, residency, *rest = record
    principal, transport, received_at, traceparent, backfill = rest
    return Provenance(
        provenance_id=provenance_id,
        tenant_id=tenant_id,
        request_id=request_id,
        request_hash=request_hash,
        tags=Tags(Purpose(purpose), Retention(retention), License(license_), Residency(residency)),
        principal=principal,
        transport=transport,
        received_at=received_at,
        traceparent=traceparent,
        backfill=backfill,
    )


def _digest(tenant_id: str, record: Sequence[Any]) -> bytes:
    # Made from the record as it stands, so that a changed record shows; what can't be hashed is a change too.
    try:
        return provenance_digest(provenance_of(tenant_id, record))
    except (ValueError, TypeError, AttributeError):
        return b""


def _ledger_row(
    digests: Mapping[str, bytes],
    seq: int,
    epoch: int,
    kind: int,
    superseded: bytes | None,
    recorded_at: int,
    entry_hash: bytes,
    head_hash: bytes,
    provenance_id: str,
    payload: bytes | None,
    *signal: Any,  # noqa: ANN401 - what an intruder left
) -> tuple[str, LedgerRow]:
    digest = digests.get(provenance_id, b"")
    body = payload if payload is not None else _payload(signal)
    return provenance_id, LedgerRow(
        seq, epoch, kind, body, superseded or b"", recorded_at, digest, entry_hash, head_hash
    )


def _payload(signal: Sequence[Any]) -> bytes | None:
    """The signal's encoding; None when all of it was erased."""
    if all(part is None for part in signal):
        return None
    try:
        return encode_signal(*signal)
    except (struct.error, AttributeError, TypeError):
        return b""

"""Signals as columns, and a row for each here: a hundred thousand records would take ten times as long."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from coherence_grpc.adapters.neo4j.instants import microseconds
from coherence_grpc.model import Item, StoredSignal

if TYPE_CHECKING:
    from collections.abc import Container, Sequence

_ITEM: Final = len(Item._fields)
# What a pruning takes away meanwhile may have lost its properties already: then it has no source.
COLUMNS: Final = f"""
WITH s WHERE s.source IS NOT NULL
WITH collect(s.source) AS sources, collect(s.signal_id) AS signal_ids, collect(s.type) AS types,
     collect(s.value_q) AS values, collect(s.weight_q) AS weights, collect({microseconds("s.ts")}) AS instants,
     collect(s.seq) AS seqs, collect(s.provenance_id) AS provenance_ids,
     collect({microseconds("s.recorded_at")}) AS recorded, collect(s.head_hash) AS hashes,
     collect(DISTINCT s.provenance_id) AS records
RETURN sources, signal_ids, types, values, weights, instants, seqs, provenance_ids, recorded, hashes, COLLECT {{
    UNWIND records AS provenance_id
    MATCH (p:Provenance {{provenance_id: provenance_id}}) WHERE p.backfill
    RETURN provenance_id
}}
"""


def signals_of(tenant_id: str, columns: Sequence[Any]) -> list[StoredSignal]:
    """The signals of the columns, in their order; the last column names the records that are backfills."""
    *rows, backfilled = columns
    found = frozenset(backfilled)
    return [_signal(tenant_id, found, *row) for row in zip(*rows, strict=True)]


def _signal(tenant_id: str, backfilled: Container[str], *row: Any) -> StoredSignal:  # noqa: ANN401 - a driver's types
    seq, provenance_id, recorded_at, head_hash = row[_ITEM:]
    item = Item(*row[:_ITEM])
    return StoredSignal(tenant_id, item, seq, provenance_id, recorded_at, head_hash, provenance_id in backfilled)

"""Reading what a window is made of, and single signals by the numbers of their entries."""

from __future__ import annotations

import json
from array import array
from typing import TYPE_CHECKING, Final

import apsw

from coherence_grpc.adapters.embedded.reads import head
from coherence_grpc.adapters.embedded.windows import CHUNK_END, CHUNK_ROWS, Groups, check_complete, outside
from coherence_grpc.ledger import decode_signal
from coherence_grpc.model import StoredSignal
from coherence_grpc.ports import WindowParts

if TYPE_CHECKING:
    from collections.abc import Sequence

# As a window's columns; the entry that knows a signal's record is found by its number (2 µs a signal).
_PARTS: Final = """
SELECT json_group_array(ts), json_group_array(value_q), json_group_array(weight_q), json_group_array(seq),
       json_group_array(record), json_group_array(name)
FROM (
    SELECT s.ts, s.value_q, s.weight_q, s.seq, e.record, length(s.source) || ' ' || s.source || s.type AS name
    FROM signals s JOIN entries e ON e.tenant = s.tenant AND e.seq = s.seq
"""
_INSIDE: Final = _PARTS + "WHERE s.tenant = ? AND s.ts >= ? AND s.ts <= ? ORDER BY s.ts)"
_AHEAD: Final = _PARTS + "WHERE s.tenant = ? AND s.ts > ? AND s.weight_q > 0 ORDER BY s.ts LIMIT ?)"
_NUMBERED: Final = """
SELECT e.payload, e.seq, p.provenance_id, e.recorded_at, e.head_hash, p.backfill
FROM entries e JOIN provenance p ON p.record = e.record
WHERE e.tenant = ? AND e.seq IN carray(?) AND e.kind IN (1, 2) AND e.payload IS NOT NULL ORDER BY e.seq
"""


def parts(connection: apsw.Connection, tenant: int, epoch: int, start: int, end: int, ahead: int) -> WindowParts:
    """The signals of the window in chunks, those ahead, and counts of what lies outside."""
    check_complete(connection, tenant, start)
    ts, value_q, weight_q, seq, record, group = (array("q") for _ in range(6))
    groups = Groups()

    def take(query: str, *bounds: int) -> None:
        found: tuple[str, ...] = connection.execute(query, (tenant, *bounds)).get
        *columns, names = map(json.loads, found)
        for column, values in zip((ts, value_q, weight_q, seq, record), columns, strict=True):
            column.fromlist(values)
        group.extend(map(groups.__getitem__, names))

    after: int | None = start
    while after is not None:
        beyond = connection.execute(CHUNK_END, (tenant, after, end, CHUNK_ROWS)).get
        take(_INSIDE, after, end if beyond is None else beyond)
        after = None if beyond is None else beyond + 1
    take(_AHEAD, end, ahead)
    not_yet_due, aged_out = outside(connection, tenant, start, end)
    at_head = head(connection, tenant, epoch)
    return WindowParts(ts, value_q, weight_q, seq, record, group, groups.listed(), not_yet_due, aged_out, at_head)


def numbered(connection: apsw.Connection, tenant_id: str, tenant: int, seqs: Sequence[int]) -> list[StoredSignal]:
    """The signals of the entries."""
    if not seqs:
        return []
    rows = connection.execute(_NUMBERED, (tenant, apsw.carray(array("q", seqs))))
    return [
        StoredSignal(tenant_id, decode_signal(payload), seq, provenance_id, recorded_at, head_hash, bool(backfill))
        for payload, seq, provenance_id, recorded_at, head_hash, backfill in rows
    ]

"""Reading what a window is made of, and single signals by the numbers of their entries."""

from __future__ import annotations

from array import array
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from coherence_grpc.adapters.neo4j.columns import Numbers
from coherence_grpc.adapters.neo4j.graph import OPERATION_S
from coherence_grpc.adapters.neo4j.instants import LATEST, bounded, instant, microseconds
from coherence_grpc.adapters.neo4j.keeping import KEPT
from coherence_grpc.adapters.neo4j.signal_rows import COLUMNS as SIGNAL_COLUMNS
from coherence_grpc.adapters.neo4j.signal_rows import signals_of
from coherence_grpc.adapters.neo4j.windows import outside
from coherence_grpc.ports import Group, WindowParts

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from coherence_grpc.adapters.neo4j.graph import Graph
    from coherence_grpc.adapters.neo4j.taking import Ask
    from coherence_grpc.adapters.neo4j.windows import Windows
    from coherence_grpc.model import Head, StoredSignal

CHUNK_ROWS: Final = 50_000

# In the order of the index, as a window's columns. What is being erased may have no words any more.
PARTS: Final = f"""{KEPT}
WITH {instant("$start")} AS start, {instant("$end")} AS end
MATCH (s:Signal)
USING INDEX SEEK s:Signal(tenant_id, ts, seq, value_q, weight_q)
WHERE s.tenant_id = $tenant_id AND s.ts >= start AND s.ts <= end AND s.seq <= $head_seq
  AND s.value_q IS NOT NULL AND s.weight_q >= $least
  AND CASE WHEN s.ts = start THEN s.seq > $after_seq ELSE true END
WITH s ORDER BY s.tenant_id, s.ts, s.seq LIMIT $rows
RETURN collect({microseconds("s.ts")}), collect(s.value_q), collect(s.weight_q), collect(s.seq),
       collect(coalesce(s.provenance_id, '')), collect(coalesce(s.source, '')), collect(coalesce(s.type, ''))
"""
NUMBERED: Final = f"""
UNWIND $seqs AS seq
MATCH (s:Entry {{tenant_id: $tenant_id, seq: seq}}) WHERE s.value_q IS NOT NULL
WITH s ORDER BY s.seq
{SIGNAL_COLUMNS}
"""
_TS, _WEIGHT, _SEQ = 0, 2, 3


class _Found(NamedTuple):
    """Rows as the server hands them out: ts, value, weight, number, record, source and type of each signal."""

    head: Head
    inside: Sequence[Sequence[Any]]
    ahead: Sequence[Sequence[Any]]
    aged_out: int
    not_yet_due: int


class Parts:
    """Windows taken apart."""

    def __init__(self, graph: Graph, windows: Windows) -> None:
        self._graph = graph
        self._windows = windows

    async def parts(self, tenant_id: str, *, start: int, end: int, ahead: int) -> WindowParts:
        """The signals of the window in chunks, those ahead, and counts of what lies outside."""
        scope = {"tenant_id": tenant_id, "start": bounded(start), "end": bounded(end)}

        async def scan(ask: Ask, head: Head) -> _Found:
            inside = await _rows(ask, tenant_id, start, end, head=head)
            later = await _rows(ask, tenant_id, end + 1, LATEST, head=head, least=1, most=ahead)
            return _Found(head, inside, later, *await outside(ask, scope, head))

        async def mend(found: _Found, missed: Sequence[StoredSignal]) -> _Found:
            rows = [_row(one) for one in missed]
            weighted = [row for row in rows if row[_TS] > end and row[_WEIGHT]]
            within = [row for row in rows if start <= row[_TS] <= end]
            counts = await self._windows.outside_at(scope, found.head)
            return _Found(found.head, _merged(found.inside, within), _merged(found.ahead, weighted)[:ahead], *counts)

        return _parts(await self._windows.stable(tenant_id, start, scan, mend, complete=True))

    async def numbered(self, tenant_id: str, seqs: Sequence[int]) -> list[StoredSignal]:
        """The signals of the entries."""
        return signals_of(
            tenant_id, await self._graph.ask(NUMBERED, limit_s=OPERATION_S, tenant_id=tenant_id, seqs=sorted(set(seqs)))
        )


async def _rows(
    ask: Ask, tenant_id: str, start: int, end: int, *, head: Head, least: int = 0, most: int | None = None
) -> list[Sequence[Any]]:
    """The signals with a weight of at least so much, at most so many of them, chunk by chunk."""
    found: list[Sequence[Any]] = []
    place, after_seq = bounded(start), 0
    while most is None or len(found) < most:
        rows = CHUNK_ROWS if most is None else min(CHUNK_ROWS, most - len(found))
        columns = await ask(
            PARTS,
            tenant_id=tenant_id,
            head_seq=head.seq,
            start=place,
            end=bounded(end),
            after_seq=after_seq,
            least=least,
            rows=rows,
        )
        found.extend(zip(*columns, strict=True))
        if len(columns[0]) < rows:
            break
        place, after_seq = found[-1][_TS], found[-1][_SEQ]
    return found


def _row(signal: StoredSignal) -> Sequence[Any]:
    item = signal.item
    return item.ts, item.value_q, item.weight_q, signal.seq, signal.provenance_id, item.source, item.type


def _merged(rows: Sequence[Sequence[Any]], missed: Iterable[Sequence[Any]]) -> list[Sequence[Any]]:
    """Those missed too, each once, in the order of a window."""
    by_number = {row[_SEQ]: row for row in (*rows, *missed)}
    return sorted(by_number.values(), key=lambda row: (row[_TS], row[_SEQ]))


def _parts(found: _Found) -> WindowParts:
    ts, value_q, weight_q, seq, record, group = (array("q") for _ in range(6))
    records, groups = Numbers[str](), Numbers[tuple[str, str]]()
    for row in (*found.inside, *found.ahead):
        ts.append(row[_TS])
        value_q.append(row[1])
        weight_q.append(row[_WEIGHT])
        seq.append(row[_SEQ])
        record.append(records[row[4]])
        group.append(groups[row[5], row[6]])
    return WindowParts(
        ts,
        value_q,
        weight_q,
        seq,
        record,
        group,
        [Group(*names) for names in groups],
        found.not_yet_due,
        found.aged_out,
        found.head,
    )

"""Reading the logs, single signals and provenance."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, Literal

from coherence_grpc.adapters.neo4j.graph import OPERATION_S
from coherence_grpc.adapters.neo4j.instants import LATEST, bounded, instant, microseconds
from coherence_grpc.adapters.neo4j.records import RECORD, provenance_of
from coherence_grpc.adapters.neo4j.signal_rows import COLUMNS, signals_of
from coherence_grpc.adapters.neo4j.taking import superseded, taken
from coherence_grpc.ledger import decode_signal
from coherence_grpc.model import GENESIS, Entry, EntryKind, Item
from coherence_grpc.ports import Retained

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from coherence_grpc.adapters.neo4j.graph import Graph, Statements
    from coherence_grpc.adapters.neo4j.heads import Heads
    from coherence_grpc.model import Head, Key, Provenance, StoredSignal
    from coherence_grpc.ports import SignalQuery

CHUNK_ENTRIES: Final = 5000
# Each question halves what is left five times.
PROBES: Final = 32
_SIGNAL_KINDS: Final = frozenset({EntryKind.STORED, EntryKind.REPLACED})

# collect() leaves out what is null, so each column has a word for it: an erased body has the value -1, a payload that
# is not there is false.
TAIL: Final = f"""
MATCH (t:Tenant {{tenant_id: $tenant_id}})
WITH t.head_seq AS head_seq
CALL () {{
    MATCH (e:Entry)
    WHERE e.tenant_id = $tenant_id AND e.seq > $after AND e.seq <= $upto
    WITH e ORDER BY e.tenant_id, e.seq
    RETURN collect(e.seq) AS seqs, collect(e.kind) AS kinds,
           collect(coalesce(e.source, '')) AS sources, collect(coalesce(e.signal_id, '')) AS signal_ids,
           collect(coalesce(e.type, '')) AS types, collect(coalesce(e.value_q, -1)) AS values,
           collect(coalesce(e.weight_q, -1)) AS weights, collect(coalesce({microseconds("e.ts")}, -1)) AS instants,
           collect(coalesce(e.payload, false)) AS payloads, collect(coalesce(e.superseded, false)) AS superseded,
           collect(e.provenance_id) AS provenance_ids,
           collect({microseconds("e.recorded_at")}) AS recorded, collect(e.head_hash) AS hashes,
           collect(DISTINCT e.provenance_id) AS records
}}
RETURN head_seq, COLLECT {{
    UNWIND records AS provenance_id
    MATCH (p:Provenance {{provenance_id: provenance_id}})
    RETURN [provenance_id, p.backfill, p.traceparent]
}}, seqs, kinds, sources, signal_ids, types, values, weights, instants, payloads, superseded, provenance_ids, recorded,
   hashes
"""
_PROVENANCE_ID: Final = 10
RECORDED: Final = f"""
UNWIND $seqs AS seq
MATCH (e:Entry {{tenant_id: $tenant_id, seq: seq}})
RETURN collect([e.seq, {microseconds("e.recorded_at")}])
"""
FIRST_READABLE: Final = """
MATCH (t:Tenant {tenant_id: $tenant_id})
CALL (t) {
    MATCH (e:Entry)
    WHERE e.tenant_id = t.tenant_id AND e.seq >= coalesce(t.readable_from, 1)
      AND e.kind IN [1, 2] AND e.value_q IS NOT NULL
    WITH e ORDER BY e.tenant_id, e.seq LIMIT 1
    RETURN e.seq AS first
}
RETURN first
"""
SIGNAL: Final = f"""
MATCH (s:Signal {{tenant_id: $tenant_id, source: $source, signal_id: $signal_id, ts: {instant("$ts")}}})
USING INDEX SEEK s:Signal(tenant_id, source, signal_id, ts)
{COLUMNS}
"""
# The index is walked backwards from the position.
LISTING: Final = f"""
WITH {instant("$ts")} AS ts
MATCH (s:Signal)
USING INDEX SEEK s:Signal(tenant_id, ts)
WHERE s.tenant_id = $tenant_id AND s.ts >= {instant("$start")} AND s.ts <= ts AND s.seq <= $head_seq
  AND CASE WHEN s.ts = ts AND $before IS NOT NULL
      THEN s.source < $before[0] OR s.source = $before[0] AND s.signal_id < $before[1] ELSE true END
  AND ($sources IS NULL OR s.source IN $sources) AND ($types IS NULL OR s.type IN $types)
WITH s ORDER BY s.tenant_id DESC, s.ts DESC, s.source DESC, s.signal_id DESC LIMIT $limit
{COLUMNS}
"""
PROVENANCE: Final = f"""
MATCH (p:Provenance {{provenance_id: $provenance_id}}) WHERE p.tenant_id = $tenant_id
RETURN {RECORD}
"""
HASH_AT: Final = "MATCH (e:Entry {tenant_id: $tenant_id, seq: $seq}) RETURN e.head_hash"
_OLDEST: Final = f"""
CALL (t) {{
    MATCH (s:Signal)
    USING INDEX SEEK s:Signal(tenant_id, ts)
    WHERE s.tenant_id = t.tenant_id AND s.ts IS NOT NULL
    WITH s ORDER BY s.tenant_id, s.ts LIMIT 1
    RETURN min({microseconds("s.ts")}) AS oldest
}}
RETURN count(*), sum(t.head_seq), min(oldest)
"""
RETAINED_ALL: Final = f"MATCH (t:Tenant) WHERE t.head_seq > 0 {_OLDEST}"
RETAINED: Final = f"""
UNWIND $tenant_ids AS tenant_id
MATCH (t:Tenant {{tenant_id: tenant_id}}) WHERE t.head_seq > 0
{_OLDEST}
"""


class Reads:
    """Everything but windows."""

    def __init__(self, graph: Graph, heads: Heads) -> None:
        self._graph = graph
        self._heads = heads

    async def tail(self, tenant_id: str, *, after: int, limit: int) -> list[Entry]:
        """Entries behind `after`, chunk by chunk."""
        found: list[Entry] = []
        while len(found) < limit:
            place = after + len(found)
            upto = place + min(limit - len(found), CHUNK_ENTRIES)
            chunk = await self._chunk(tenant_id, place, upto)
            found += chunk
            if len(chunk) < upto - place:
                break
        return found

    async def _chunk(self, tenant_id: str, after: int, upto: int) -> list[Entry]:
        head_seq, entries = await self._entries(tenant_id, after, upto)
        if len(entries) < min(upto, head_seq) - after:
            # The commit that moved the head is still being shown.
            await self._heads.settle(tenant_id)
            _, entries = await self._entries(tenant_id, after, upto)
        return entries

    async def _entries(self, tenant_id: str, after: int, upto: int) -> tuple[int, list[Entry]]:
        """The head, and the entries up to the first one that is not shown whole."""
        found = await self._graph.ask(TAIL, limit_s=OPERATION_S, tenant_id=tenant_id, after=after, upto=upto)
        if not found:
            return 0, []
        head_seq, records, *columns = found
        by_id = {provenance_id: rest for provenance_id, *rest in records}
        entries: list[Entry] = []
        for expected, row in enumerate(zip(*columns, strict=True), after + 1):
            record = by_id.get(row[_PROVENANCE_ID])
            if row[0] != expected or record is None:
                break
            entries.append(_entry(tenant_id, record, *row))
        return head_seq, entries

    async def seq_at(self, tenant_id: str, recorded_at: int) -> int:
        """The last entry recorded before the instant: recorded_at never falls along the log."""
        head = await self._heads.settled(tenant_id)
        before, beyond = 0, head.seq + 1
        while beyond - before > 1:
            step = max((beyond - before) // PROBES, 1)
            (found,) = await self._graph.ask(RECORDED, tenant_id=tenant_id, seqs=list(range(before + 1, beyond, step)))
            before = max((seq for seq, recorded in found if recorded < recorded_at), default=before)
            beyond = min((seq for seq, recorded in found if recorded >= recorded_at), default=beyond)
        return before

    async def first_readable(self, tenant_id: str) -> int:
        """The oldest signal entry with a body."""
        found = await self._graph.ask(FIRST_READABLE, tenant_id=tenant_id)
        return int(found[0]) if found else 0

    async def signal(self, key: Key) -> StoredSignal | None:
        """The signal under the key."""
        if key.ts != bounded(key.ts):
            return None
        found = signals_of(key.tenant_id, await self._graph.ask(SIGNAL, **key._asdict()))
        if not found and (await taken(self._graph.ask, key.tenant_id)).replacing:
            # The commit that replaces it may be shown in part: what it was is gone, what it will be is not there.
            await self._heads.settle(key.tenant_id)
            found = signals_of(key.tenant_id, await self._graph.ask(SIGNAL, **key._asdict()))
        return next(iter(found), None)

    async def listing(
        self, tenant_id: str, query: SignalQuery, before: tuple[int, str, str] | None, limit: int
    ) -> tuple[list[StoredSignal], Head]:
        """Signals that match, newest first, and the head."""
        end = LATEST if query.end is None else query.end
        scope = {
            "tenant_id": tenant_id,
            "start": bounded(0 if query.start is None else query.start),
            "ts": bounded(end if before is None else min(end, before[0])),
            "before": None if before is None or end < before[0] else list(before[1:]),
            "sources": list(query.sources) or None,
            "types": list(query.types) or None,
            "limit": limit,
        }
        head = await self._heads.settled(tenant_id)
        columns = await self._graph.ask(LISTING, limit_s=OPERATION_S, head_seq=head.seq, **scope)
        if await self._replaced_since(tenant_id, head):

            async def while_held(transaction: Statements) -> tuple[Head, Sequence[Any]]:
                head = await self._heads.look_held(transaction, tenant_id)
                return head, await transaction.ask(LISTING, head_seq=head.seq, **scope)

            head, columns = await self._graph.transact(while_held, rows=limit)
        return signals_of(tenant_id, columns), head

    async def _replaced_since(self, tenant_id: str, head: Head) -> bool:
        """Signals that are numbered up to the head may have been missed by who read at it."""
        if not (await taken(self._graph.ask, tenant_id)).replacing:
            return False
        await self._heads.settle(tenant_id)
        return bool(await superseded(self._graph.ask, tenant_id, head.seq))

    async def provenance(self, tenant_id: str, provenance_id: str) -> Provenance | None:
        """The record of that id."""
        found = await self._graph.ask(PROVENANCE, tenant_id=tenant_id, provenance_id=provenance_id)
        return provenance_of(tenant_id, found[0]) if found else None

    async def hash_at(self, tenant_id: str, seq: int) -> bytes | None:
        """The chain's hash after the entry."""
        if not seq:
            return GENESIS
        found = await self._graph.ask(HASH_AT, tenant_id=tenant_id, seq=seq)
        if not found and (await self._heads.settled(tenant_id)).seq >= seq:
            found = await self._graph.ask(HASH_AT, tenant_id=tenant_id, seq=seq)
        return found[0] if found else None

    async def retained(self, tenant_ids: Collection[str] | None) -> Retained:
        """Counts of the heads, and the oldest ts of all."""
        if tenant_ids is None:
            found = await self._graph.ask(RETAINED_ALL, limit_s=OPERATION_S)
        else:
            found = await self._graph.ask(RETAINED, limit_s=OPERATION_S, tenant_ids=list(tenant_ids))
        return Retained(*found)


def _entry(
    tenant_id: str,
    record: Sequence[Any],
    seq: int,
    kind: int,
    source: str,
    signal_id: str,
    type_: str,
    value_q: int,
    weight_q: int,
    ts: int,
    payload: bytes | Literal[False],
    superseded: bytes | Literal[False],
    provenance_id: str,
    recorded_at: int,
    head_hash: bytes,
) -> Entry:
    carries_signal = kind in _SIGNAL_KINDS
    readable = carries_signal and value_q >= 0
    backfill, traceparent = record
    return Entry(
        tenant_id=tenant_id,
        seq=seq,
        kind=EntryKind(kind),
        item=Item(source, signal_id, type_, value_q, weight_q, ts) if readable else None,
        erased=not readable and payload is False,
        provenance_id=provenance_id,
        recorded_at=recorded_at,
        head_hash=head_hash,
        backfill=backfill,
        traceparent=traceparent,
        superseded=decode_signal(superseded) if carries_signal and superseded is not False else None,
        payload=b"" if carries_signal or payload is False else bytes(payload),
    )

"""Erasing the bodies of signals that outlived their retention.

What is to go is said first, in a commit of its own, so that no reader takes a window for whole that loses signals
while it is read. All else is one transaction.
"""

from __future__ import annotations

from itertools import groupby
from typing import TYPE_CHECKING, Final, NamedTuple

from coherence_grpc.adapters.neo4j.append import lock_heads
from coherence_grpc.adapters.neo4j.graph import OPERATION_S
from coherence_grpc.adapters.neo4j.instants import instant, microseconds
from coherence_grpc.adapters.neo4j.numbering import Log
from coherence_grpc.adapters.neo4j.own import Own, extend
from coherence_grpc.ledger import encode_pruned
from coherence_grpc.model import DAY, RETENTION_US, EntryKind
from coherence_grpc.ports import Pruned

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from coherence_grpc.adapters.neo4j.graph import Graph, Statements
    from coherence_grpc.adapters.neo4j.heads import Heads
    from coherence_grpc.model import Provenance

REASON: Final = "retention"
# A larger batch would hold up who writes to the tenant for too long.
BATCH_ROWS: Final = 2000

_EXPIRED: Final = f"""
MATCH (s:Signal)
USING INDEX SEEK s:Signal(tenant_id, ts)
WHERE s.tenant_id = $tenant_id AND s.ts <= {instant("$latest")}
  AND {microseconds("s.ts")} <= $ends[s.retention]
"""
COUNT: Final = f"{_EXPIRED} RETURN count(*)"
FIND: Final = f"""
{_EXPIRED}
WITH s ORDER BY s.tenant_id, s.ts LIMIT $rows
RETURN collect(s.seq), collect({microseconds("s.ts")})
"""
ANNOUNCE: Final = f"""
MATCH (t:Tenant {{tenant_id: $tenant_id}})
SET t.lock = 'prune'
WITH t WHERE t.erasing_ts IS NULL OR t.erasing_ts < {instant("$upto")}
SET t.erasing_ts = {instant("$upto")}
"""
# Another process may have erased or replaced some of them meanwhile. With each comes all that the signal was before.
STILL_THERE: Final = f"""
UNWIND $seqs AS seq
MATCH (s:Entry {{tenant_id: $tenant_id, seq: seq}}) WHERE s:Signal
RETURN collect([s.seq, {microseconds("s.ts")}, COLLECT {{
    MATCH (e:Superseded {{tenant_id: s.tenant_id, source: s.source, signal_id: s.signal_id, ts: s.ts}})
    USING INDEX SEEK e:Superseded(tenant_id, source, signal_id, ts)
    RETURN e.seq
}}])
"""
ERASE: Final = """
UNWIND $seqs AS seq
MATCH (e:Entry {tenant_id: $tenant_id, seq: seq})
OPTIONAL MATCH (e)<-[emits:EMITS]-(:Tenant)
DELETE emits
REMOVE e:Signal:Superseded, e.source, e.signal_id, e.type, e.value_q, e.weight_q, e.ts, e.retention,
       e.superseded, e.superseded_seq
"""
REMEMBER: Final = f"""
MATCH (t:Tenant {{tenant_id: $tenant_id}})
SET t.erased_ts = CASE WHEN t.erased_ts > {instant("$upto")} THEN t.erased_ts ELSE {instant("$upto")} END
WITH t
CALL (t) {{
    MATCH (e:Entry)
    WHERE e.tenant_id = t.tenant_id AND e.seq >= coalesce(t.readable_from, 1)
      AND e.kind IN [1, 2] AND e.value_q IS NOT NULL
    WITH e ORDER BY e.tenant_id, e.seq LIMIT 1
    RETURN max(e.seq) AS first
}}
SET t.readable_from = coalesce(first, t.head_seq + 1)
"""


class _Due(NamedTuple):
    """What a batch erases: so many signals, these entries up to this ts; `left`: not all that it was to."""

    signals: int
    seqs: Sequence[int]
    upto: int
    left: bool


class _Erased(NamedTuple):
    """How many signals went, whether some are left, and the number of the newest entry then."""

    signals: int
    left: bool
    seq: int


async def expired_count(graph: Graph, tenant_id: str, now: int) -> int:
    """How many signals of the tenant outlived their retention by a day."""
    ends = _ends(now)
    latest = max(ends.values())
    if latest < 0:
        return 0
    (count,) = await graph.ask(COUNT, limit_s=OPERATION_S, tenant_id=tenant_id, ends=ends, latest=latest)
    return int(count)


async def prune(graph: Graph, heads: Heads, tenant_id: str, provenance: Provenance, *, now: int, limit: int) -> Pruned:
    """Erases a batch and says so in the log."""
    ends = _ends(now)
    latest = max(ends.values())
    if latest < 0:
        return Pruned(0, more=False)
    rows = min(limit, BATCH_ROWS)
    seqs, instants = await graph.ask(
        FIND, limit_s=OPERATION_S, tenant_id=tenant_id, ends=ends, latest=latest, rows=rows + 1
    )
    more, seqs, instants = len(seqs) > rows, seqs[:rows], instants[:rows]
    if not seqs:
        return Pruned(0, more=False)

    async def announce(transaction: Statements) -> None:
        await transaction.change(ANNOUNCE, tenant_id=tenant_id, upto=instants[-1])

    async def erase(transaction: Statements) -> _Erased:
        return await _erase(transaction, heads.epoch, tenant_id, provenance, now=now, seqs=seqs)

    await graph.transact(announce)
    erased = await graph.transact(erase, rows=BATCH_ROWS)
    heads.committed({tenant_id: erased.seq})
    return Pruned(erased.signals, more or erased.left)


async def _erase(
    transaction: Statements, epoch: int, tenant_id: str, provenance: Provenance, *, now: int, seqs: Sequence[int]
) -> _Erased:
    found, _ = await lock_heads(transaction, {tenant_id: ()}, epoch=epoch, lock=provenance.provenance_id)
    log = Log(tenant_id, found[tenant_id], epoch=epoch, now=now)
    (there,) = await transaction.ask(STILL_THERE, tenant_id=tenant_id, seqs=list(seqs))
    if not there:
        return _Erased(0, left=False, seq=log.seq)
    due = _due(there)
    await transaction.change(ERASE, tenant_id=tenant_id, seqs=due.seqs)
    payload = encode_pruned(_runs(sorted(due.seqs)), REASON)
    await extend(transaction, log, Own(tenant_id, EntryKind.PRUNED, payload, provenance), epoch=epoch)
    await transaction.change(REMEMBER, tenant_id=tenant_id, upto=due.upto)
    return _Erased(due.signals, due.left, log.seq)


def _due(there: Sequence[tuple[int, int, Sequence[int]]]) -> _Due:
    """As many signals as a batch can hold, each after all that it was: of none of them anything is left behind."""
    seqs: list[int] = []
    upto = 0
    for signals, (seq, ts, before) in enumerate(there):
        room = BATCH_ROWS - len(seqs)
        upto = max(upto, ts)
        if len(before) >= room:
            return _Due(signals, [*seqs, *sorted(before)[:room]], upto, left=True)
        seqs += [*before, seq]
    return _Due(len(there), seqs, upto, left=False)


def _ends(now: int) -> Mapping[str, int]:
    """The newest ts that has outlived each retention by a day; none has outlived one that is unlimited."""
    return {tag.value: now - lifetime - DAY for tag, lifetime in RETENTION_US.items() if lifetime is not None}


def _runs(seqs: Iterable[int]) -> Iterator[tuple[int, int]]:
    for _, run in groupby(enumerate(seqs), key=lambda pair: pair[1] - pair[0]):
        numbers = [seq for _, seq in run]
        yield numbers[0], numbers[-1]

"""Reading windows of weighted signals: as columns, or as exact sums.

A reading takes what is numbered up to a settled head, so what commits add changes nothing for it. Only pruning and
replacing take signals away, and say so beforehand. Who finds that it read what a pruning may have taken reads again
while it holds the head; what was replaced since the head is put back.
"""

from __future__ import annotations

from operator import mul
from typing import TYPE_CHECKING, Any, Final, TypeVar

from coherence_grpc.adapters.neo4j.columns import Columns
from coherence_grpc.adapters.neo4j.graph import OPERATION_S
from coherence_grpc.adapters.neo4j.instants import LATEST, bounded, instant, microseconds
from coherence_grpc.adapters.neo4j.keeping import KEPT
from coherence_grpc.adapters.neo4j.taking import superseded, taken
from coherence_grpc.errors import WindowIncomplete
from coherence_grpc.model import EntryKind
from coherence_grpc.ports import WindowTotals
from coherence_grpc.score import WindowSum

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, Sequence

    from coherence_grpc.adapters.neo4j.graph import Graph, Statements
    from coherence_grpc.adapters.neo4j.heads import Heads
    from coherence_grpc.adapters.neo4j.taking import Ask, Taken
    from coherence_grpc.model import Head, StoredSignal
    from coherence_grpc.ports import WindowColumns

    Scan = Callable[["Ask", Head], Awaitable["T"]]
    Mend = Callable[["T", Sequence[StoredSignal]], Awaitable["T"]]

T = TypeVar("T")

CHUNK_ROWS: Final = 50_000

# The index holds all five properties; a lookup through the shorter one would read every node. An instant is made once:
# in the condition it would be made for every row.
_WINDOW: Final = f"""
WITH {instant("$start")} AS start
MATCH (s:Signal)
USING INDEX SEEK s:Signal(tenant_id, ts, seq, value_q, weight_q)
WHERE s.tenant_id = $tenant_id AND s.ts >= start AND s.seq <= $head_seq AND s.value_q IS NOT NULL AND s.weight_q > 0
"""
# In the order of the index; where the last chunk ended within an instant, this one goes on. Of an OR the planner may
# make two lookups, whose rows are in no order; of a CASE it does not.
_CHUNK: Final = f"""
WITH {instant("$start")} AS start, {instant("$end")} AS end
MATCH (s:Signal)
USING INDEX SEEK s:Signal(tenant_id, ts, seq, value_q, weight_q)
WHERE s.tenant_id = $tenant_id AND s.ts >= start AND s.ts <= end AND s.seq <= $head_seq
  AND s.value_q IS NOT NULL AND s.weight_q > 0
  AND CASE WHEN s.ts = start THEN s.seq > $after_seq ELSE true END
WITH s ORDER BY s.tenant_id, s.ts, s.seq LIMIT $rows
"""
_NUMBERS: Final = f"collect({microseconds('s.ts')}), collect(s.value_q), collect(s.weight_q), collect(s.seq)"
COLUMNS: Final = f"{KEPT}{_CHUNK}RETURN {_NUMBERS}"
# What is being erased may have no words any more.
GROUPED: Final = f"""{KEPT}
{_CHUNK}
RETURN {_NUMBERS}, collect(coalesce(s.source, '')), collect(coalesce(s.type, ''))
"""
# A product of value and weight reaches 10²¹, so both are split: every partial sum is exact up to 2²⁸ rows.
SUMS: Final = f"""
{_WINDOW} AND s.ts <= {instant("$end")}
RETURN count(*),
       sum(s.value_q / 32768 * (s.weight_q / 1048576)), sum(s.value_q / 32768 * (s.weight_q % 1048576)),
       sum(s.value_q % 32768 * (s.weight_q / 1048576)), sum(s.value_q % 32768 * (s.weight_q % 1048576)),
       sum(s.weight_q / 1048576), sum(s.weight_q % 1048576),
       {microseconds("min(s.ts)")}, {microseconds("max(s.ts)")}
"""
NEXT: Final = f"""
{_WINDOW} AND s.ts > start
WITH s ORDER BY s.tenant_id, s.ts LIMIT 1
RETURN {microseconds("s.ts")}
"""
_OUTSIDE: Final = """
MATCH (s:Signal)
USING INDEX SEEK s:Signal(tenant_id, ts, seq, value_q, weight_q)
WHERE s.tenant_id = $tenant_id AND s.seq <= $head_seq AND s.value_q IS NOT NULL AND s.weight_q IS NOT NULL
"""
BEFORE: Final = f"{_OUTSIDE} AND s.ts < {instant('$start')} RETURN count(*)"
AFTER: Final = f"{_OUTSIDE} AND s.ts > {instant('$end')} RETURN count(*)"
# What was stored since the head that a reading is of.
ADDED: Final = f"""
WITH {instant("$start")} AS start, {instant("$end")} AS end
MATCH (e:Entry)
WHERE e.tenant_id = $tenant_id AND e.seq > $head_seq AND e.seq <= $upto AND e.kind = {EntryKind.STORED:d}
RETURN count(CASE WHEN e.ts < start THEN e END), count(CASE WHEN e.ts > end THEN e END)
"""


class Windows:
    """Readings of one head each."""

    def __init__(self, graph: Graph, heads: Heads) -> None:
        self._graph = graph
        self._heads = heads

    async def columns(
        self, tenant_id: str, *, start: int, end: int | None = None, grouped: bool = False
    ) -> WindowColumns:
        """The weighted signals from `start` on, in chunks, with their groups if asked for."""
        last = LATEST if end is None else end

        async def scan(ask: Ask, head: Head) -> Columns:
            columns = Columns(head, grouped=grouped)
            scope = {"tenant_id": tenant_id, "head_seq": head.seq, "end": bounded(last), "rows": CHUNK_ROWS}
            place, after_seq = bounded(start), 0
            query = GROUPED if grouped else COLUMNS
            while columns.extend(await ask(query, **scope, start=place, after_seq=after_seq)) == CHUNK_ROWS:
                place, after_seq = columns.ts[-1], columns.seq[-1]
            if end is not None:
                columns.upcoming = await _next(ask, tenant_id, end, head)
            return columns

        async def mend(columns: Columns, missed: Sequence[StoredSignal]) -> Columns:
            weighted = [one for one in missed if one.item.weight_q]
            columns.insert(one for one in weighted if start <= one.item.ts <= last)
            if end is not None:
                columns.upcoming = _first_after(end, columns.upcoming, weighted)
            return columns

        return (await self.stable(tenant_id, start, scan, mend, complete=end is not None)).window()

    async def totals(self, tenant_id: str, *, start: int, end: int) -> WindowTotals:
        """The sums of the window, and when time alone will change them."""

        async def scan(ask: Ask, head: Head) -> WindowTotals:
            scope = {"tenant_id": tenant_id, "head_seq": head.seq}
            sums = await ask(SUMS, **scope, start=bounded(start), end=bounded(end))
            return totals_of(sums, await _next(ask, tenant_id, end, head), end - start, head)

        async def mend(_: WindowTotals, __: Sequence[StoredSignal]) -> WindowTotals:
            # A sum does not tell what it is the sum of.
            return _summed(await self.columns(tenant_id, start=start, end=end), end - start)

        return await self.stable(tenant_id, start, scan, mend, complete=True)

    async def outside_at(self, scope: Mapping[str, Any], head: Head) -> tuple[int, int]:
        """As `outside`, of what the log had at the head, whatever was replaced since."""

        async def count(transaction: Statements) -> tuple[int, int]:
            now = await self._heads.look_held(transaction, scope["tenant_id"])
            aged_out, not_yet_due = await outside(transaction.ask, scope, now)
            # A replacement changes none of the counts.
            early, late = await transaction.ask(ADDED, **scope, head_seq=head.seq, upto=now.seq)
            return aged_out - early, not_yet_due - late

        return await self._graph.transact(count)

    async def stable(self, tenant_id: str, start: int, scan: Scan[T], mend: Mend[T], *, complete: bool) -> T:
        """What the scan finds at a settled head; `complete`: nothing of it may have been erased.

        `mend` makes good that the scan may have missed signals which were replaced since the head.
        """

        async def ask(query: str, **parameters: Any) -> Sequence[Any]:  # noqa: ANN401 - of the query
            return await self._graph.ask(query, limit_s=OPERATION_S, **parameters)

        head = await self._heads.settled(tenant_id)
        found = await scan(ask, head)
        known = await taken(ask, tenant_id)
        missed: Sequence[StoredSignal] = ()
        if known.replacing:
            await self._heads.settle(tenant_id)
            missed = await superseded(ask, tenant_id, head.seq)
            known = await taken(ask, tenant_id)
        if complete:
            _check_complete(start, known)
        if start > known.erasing:
            return await mend(found, missed) if missed else found

        async def while_held(transaction: Statements) -> T:
            head = await self._heads.look_held(transaction, tenant_id)
            if complete:
                _check_complete(start, await taken(transaction.ask, tenant_id))
            return await scan(transaction.ask, head)

        return await self._graph.transact(while_held)


async def _next(ask: Ask, tenant_id: str, end: int, head: Head) -> int | None:
    """The ts of the first weighted signal after the window."""
    found = await ask(NEXT, tenant_id=tenant_id, head_seq=head.seq, start=bounded(end))
    return found[0] if found else None


def _first_after(end: int, upcoming: int | None, missed: Sequence[StoredSignal]) -> int | None:
    later = [one.item.ts for one in missed if one.item.ts > end]
    return min(later if upcoming is None else [upcoming, *later], default=None)


async def outside(ask: Ask, scope: Mapping[str, Any], head: Head) -> tuple[int, int]:
    """How many signals there are before the window, and after it."""
    (before,) = await ask(BEFORE, **scope, head_seq=head.seq)
    (after,) = await ask(AFTER, **scope, head_seq=head.seq)
    return before, after


def totals_of(sums: Sequence[Any], upcoming: int | None, length: int, head: Head) -> WindowTotals:
    """What the record of `SUMS` says of a window of that length; `upcoming` is the first later ts."""
    count, hh, hl, lh, ll, weight_h, weight_l, *ends = sums
    if not count:
        return WindowTotals(WindowSum(), None, upcoming, head)
    exact = WindowSum((hh << 35) + (hl << 15) + (lh << 20) + ll, (weight_h << 20) + weight_l, count)
    return _totals(exact, ends, upcoming, length, head)


def _summed(window: WindowColumns, length: int) -> WindowTotals:
    """What the columns of a window of that length amount to."""
    if not window.ts:
        return WindowTotals(WindowSum(), None, window.upcoming, window.head)
    sums = WindowSum(sum(map(mul, window.value_q, window.weight_q)), sum(window.weight_q), len(window.ts))
    return _totals(sums, (window.ts[0], window.ts[-1]), window.upcoming, length, window.head)


def _totals(sums: WindowSum, ends: Sequence[int], upcoming: int | None, length: int, head: Head) -> WindowTotals:
    oldest, newest = ends
    leaving = oldest + length + 1
    return WindowTotals(sums, newest, leaving if upcoming is None else min(leaving, upcoming), head)


def _check_complete(start: int, erased: Taken) -> None:
    if start <= erased.erased:
        message = (
            "signals of that window were erased when their retention ended, so its score can't be recomputed;"
            " ask for an instant whose window begins after metadata erased_ts_us"
        )
        raise WindowIncomplete(message, metadata={"erased_ts_us": str(erased.erased)})

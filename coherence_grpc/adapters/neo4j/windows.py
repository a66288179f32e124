"""Reading windows of weighted signals: as columns, as exact sums, or signal by signal.

A reading takes what is numbered up to a settled head, so commits change nothing for it; only pruning takes signals
away. It says so beforehand, in a commit of its own: who finds that it read what a pruning may have taken reads again
while it holds the head.
"""

from __future__ import annotations

from array import array
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeVar

from coherence_grpc.adapters.neo4j.graph import OPERATION_S
from coherence_grpc.adapters.neo4j.instants import bounded, instant, microseconds
from coherence_grpc.adapters.neo4j.keeping import KEPT
from coherence_grpc.adapters.neo4j.signal_rows import COLUMNS as SIGNAL_COLUMNS
from coherence_grpc.adapters.neo4j.signal_rows import signals_of
from coherence_grpc.errors import WindowIncomplete
from coherence_grpc.ports import Weighed, WindowColumns, WindowTotals
from coherence_grpc.score import WindowSum

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence
    from typing import Protocol

    from coherence_grpc.adapters.neo4j.graph import Graph, Statements
    from coherence_grpc.adapters.neo4j.heads import Heads
    from coherence_grpc.model import Head, StoredSignal

    class Ask(Protocol):
        """Asks for the one record that a query finds."""

        async def __call__(self, query: str, **parameters: Any) -> Sequence[Any]:  # noqa: ANN401 - of the query
            """The values of the record; empty when there is none."""
            ...

    Scan = Callable[["Ask", Head], Awaitable["T"]]

T = TypeVar("T")

CHUNK_ROWS: Final = 50_000
CHUNK_SIGNALS: Final = 10_000

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
COLUMNS: Final = f"""{KEPT}
{_WINDOW} AND CASE WHEN s.ts = start THEN s.seq > $after_seq ELSE true END
WITH s ORDER BY s.tenant_id, s.ts, s.seq LIMIT $rows
RETURN collect({microseconds("s.ts")}), collect(s.value_q), collect(s.weight_q), last(collect(s.seq))
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
WEIGHED: Final = f"""
WITH {instant("$start")} AS start
MATCH (s:Signal)
USING INDEX SEEK s:Signal(tenant_id, ts)
WHERE s.tenant_id = $tenant_id AND s.ts >= start AND s.ts <= {instant("$end")} AND s.seq <= $head_seq
  AND CASE WHEN s.ts = start
      THEN s.source > $source OR s.source = $source AND s.signal_id > $signal_id ELSE true END
WITH s ORDER BY s.tenant_id, s.ts, s.source, s.signal_id LIMIT $rows
{SIGNAL_COLUMNS}
"""
_OUTSIDE: Final = """
MATCH (s:Signal)
USING INDEX SEEK s:Signal(tenant_id, ts, seq, value_q, weight_q)
WHERE s.tenant_id = $tenant_id AND s.seq <= $head_seq AND s.value_q IS NOT NULL AND s.weight_q IS NOT NULL
"""
BEFORE: Final = f"{_OUTSIDE} AND s.ts < {instant('$start')} RETURN count(*)"
AFTER: Final = f"{_OUTSIDE} AND s.ts > {instant('$end')} RETURN count(*)"
ERASED: Final = f"""{KEPT}
MATCH (t:Tenant {{tenant_id: $tenant_id}})
RETURN coalesce({microseconds("t.erased_ts")}, -1), coalesce({microseconds("t.erasing_ts")}, -1)
"""


class Erased(NamedTuple):
    """The highest ts that was erased, and that a pruning began to erase; -1: none."""

    done: int = -1
    begun: int = -1


class Windows:
    """Readings of one head each."""

    def __init__(self, graph: Graph, heads: Heads) -> None:
        self._graph = graph
        self._heads = heads

    async def columns(self, tenant_id: str, *, start: int) -> WindowColumns:
        """The weighted signals from `start` on, in chunks."""

        async def scan(ask: Ask, head: Head) -> WindowColumns:
            window = WindowColumns(array("q"), array("q"), array("q"), head)
            place, after_seq = bounded(start), 0
            while True:
                *columns, last = await ask(
                    COLUMNS, tenant_id=tenant_id, start=place, after_seq=after_seq, head_seq=head.seq, rows=CHUNK_ROWS
                )
                for column, values in zip(window[:3], columns, strict=True):
                    column.fromlist(values)
                if len(columns[0]) < CHUNK_ROWS:
                    return window
                place, after_seq = window.ts[-1], last

        return await self._stable(tenant_id, start, scan, complete=False)

    async def totals(self, tenant_id: str, *, start: int, end: int) -> WindowTotals:
        """The sums of the window, and when time alone will change them."""

        async def scan(ask: Ask, head: Head) -> WindowTotals:
            scope = {"tenant_id": tenant_id, "head_seq": head.seq}
            sums = await ask(SUMS, **scope, start=bounded(start), end=bounded(end))
            upcoming = await ask(NEXT, **scope, start=bounded(end))
            return totals_of(sums, upcoming[0] if upcoming else None, end - start, head)

        return await self._stable(tenant_id, start, scan, complete=True)

    async def weighed(self, tenant_id: str, *, start: int, end: int) -> Weighed:
        """The signals of the window one by one, and how many lie outside."""

        async def scan(ask: Ask, head: Head) -> Weighed:
            signals = await _signals(ask, tenant_id, start, end, head.seq)
            scope = {"tenant_id": tenant_id, "head_seq": head.seq}
            (aged_out,) = await ask(BEFORE, **scope, start=bounded(start))
            (not_yet_due,) = await ask(AFTER, **scope, end=bounded(end))
            return Weighed(signals, not_yet_due, aged_out, head)

        return await self._stable(tenant_id, start, scan, complete=True)

    async def _stable(self, tenant_id: str, start: int, scan: Scan[T], *, complete: bool) -> T:
        """What the scan finds at a settled head; `complete`: nothing of it may have been erased."""

        async def ask(query: str, **parameters: Any) -> Sequence[Any]:  # noqa: ANN401 - of the query
            return await self._graph.ask(query, limit_s=OPERATION_S, **parameters)

        found = await scan(ask, await self._heads.settled(tenant_id))
        erased = await _erased(ask, tenant_id)
        if complete:
            _check_complete(start, erased)
        if start > erased.begun:
            return found

        async def while_held(transaction: Statements) -> T:
            head = await self._heads.look_held(transaction, tenant_id)
            if complete:
                _check_complete(start, await _erased(transaction.ask, tenant_id))
            return await scan(transaction.ask, head)

        return await self._graph.transact(while_held)


async def _signals(ask: Ask, tenant_id: str, start: int, end: int, head_seq: int) -> list[StoredSignal]:
    signals: list[StoredSignal] = []
    place = bounded(start), "", ""
    while True:
        ts, source, signal_id = place
        columns = await ask(
            WEIGHED,
            tenant_id=tenant_id,
            head_seq=head_seq,
            start=ts,
            end=bounded(end),
            rows=CHUNK_SIGNALS,
            source=source,
            signal_id=signal_id,
        )
        chunk = signals_of(tenant_id, columns)
        signals += chunk
        if len(chunk) < CHUNK_SIGNALS:
            return signals
        place = chunk[-1].item.ts, chunk[-1].item.source, chunk[-1].item.signal_id


async def _erased(ask: Ask, tenant_id: str) -> Erased:
    return Erased(*await ask(ERASED, tenant_id=tenant_id))


def totals_of(sums: Sequence[Any], upcoming: int | None, length: int, head: Head) -> WindowTotals:
    """What the record of `SUMS` says of a window of that length; `upcoming` is the first later ts."""
    count, hh, hl, lh, ll, weight_h, weight_l, oldest, newest = sums
    if not count:
        return WindowTotals(WindowSum(), None, upcoming, head)
    exact = WindowSum((hh << 35) + (hl << 15) + (lh << 20) + ll, (weight_h << 20) + weight_l, count)
    leaving = oldest + length + 1
    return WindowTotals(exact, newest, leaving if upcoming is None else min(leaving, upcoming), head)


def _check_complete(start: int, erased: Erased) -> None:
    if start <= erased.done:
        message = (
            "signals of that window were erased when their retention ended, so its score can't be recomputed;"
            " ask for an instant whose window begins after metadata erased_ts_us"
        )
        raise WindowIncomplete(message, metadata={"erased_ts_us": str(erased.done)})

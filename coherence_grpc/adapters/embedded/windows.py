"""Reading windows of weighted signals: as columns, or as exact sums."""

from __future__ import annotations

import json
from array import array
from typing import TYPE_CHECKING, Final

from coherence_grpc.adapters.embedded.reads import LATEST, head
from coherence_grpc.errors import WindowIncomplete
from coherence_grpc.ports import Group, WindowColumns, WindowTotals
from coherence_grpc.score import WindowSum

if TYPE_CHECKING:
    import apsw

CHUNK_ROWS: Final = 20_000

# SQLite makes an array of each column of a chunk without touching the interpreter, which rows one by one would hold up
# a million times (0.35 s for a million signals, busy loop or not, against 0.8 s beside a busy loop).
CHUNK_END: Final = "SELECT ts FROM signals WHERE tenant = ? AND ts >= ? AND ts <= ? ORDER BY ts LIMIT 1 OFFSET ?"
_CHUNK: Final = """
SELECT json_group_array(ts), json_group_array(value_q), json_group_array(weight_q) FROM (
    SELECT ts, value_q, weight_q FROM signals WHERE tenant = ? AND ts >= ? AND ts <= ? AND weight_q > 0 ORDER BY ts
)
"""
# The length of the source tells it from the type.
_GROUPED_CHUNK: Final = """
SELECT json_group_array(ts), json_group_array(value_q), json_group_array(weight_q), json_group_array(name) FROM (
    SELECT ts, value_q, weight_q, length(source) || ' ' || source || type AS name
    FROM signals WHERE tenant = ? AND ts >= ? AND ts <= ? AND weight_q > 0 ORDER BY ts
)
"""
_ERASED_TS: Final = "SELECT erased_ts FROM heads WHERE tenant = ?"
# A product of value and weight reaches 10²¹, so both are split: every partial sum is exact up to 2²⁸ rows.
_SUMS: Final = """
SELECT count(*),
       sum((value_q >> 15) * (weight_q >> 20)), sum((value_q >> 15) * (weight_q & 1048575)),
       sum((value_q & 32767) * (weight_q >> 20)), sum((value_q & 32767) * (weight_q & 1048575)),
       sum(weight_q >> 20), sum(weight_q & 1048575), min(ts), max(ts)
FROM signals WHERE tenant = ? AND ts BETWEEN ? AND ? AND weight_q > 0
"""
_NEXT: Final = "SELECT ts FROM signals WHERE tenant = ? AND ts > ? AND weight_q > 0 ORDER BY ts LIMIT 1"
_BEFORE: Final = "SELECT count(*) FROM signals WHERE tenant = ? AND ts < ?"
_AFTER: Final = "SELECT count(*) FROM signals WHERE tenant = ? AND ts > ?"


class Groups(dict[str, int]):
    """Numbers the groups as they come up, by their names of the statement above."""

    def __missing__(self, name: str) -> int:
        number = self[name] = len(self)
        return number

    def listed(self) -> list[Group]:
        """The groups by number."""
        return [_group(name) for name in self]


def _group(name: str) -> Group:
    length, _, words = name.partition(" ")
    return Group(words[: int(length)], words[int(length) :])


def columns(
    connection: apsw.Connection, tenant: int, epoch: int, start: int, end: int | None = None, grouped: bool = False
) -> WindowColumns:
    """The weighted signals from `start` on, up to `end` if there is one, and the head."""
    if end is not None:
        check_complete(connection, tenant, start)
    last = LATEST if end is None else end
    ts, value_q, weight_q, group = array("q"), array("q"), array("q"), array("q")
    groups = Groups()
    after: int | None = start
    while after is not None:
        beyond = connection.execute(CHUNK_END, (tenant, after, last, CHUNK_ROWS)).get
        until = last if beyond is None else beyond
        chunk = connection.execute(_GROUPED_CHUNK if grouped else _CHUNK, (tenant, after, until)).get
        for column, values in zip((ts, value_q, weight_q), chunk, strict=False):
            column.fromlist(json.loads(values))
        if grouped:
            group.extend(map(groups.__getitem__, json.loads(chunk[-1])))
        after = None if beyond is None else beyond + 1
    return WindowColumns(
        ts,
        value_q,
        weight_q,
        head(connection, tenant, epoch),
        group if grouped else None,
        groups.listed(),
        None if end is None else connection.execute(_NEXT, (tenant, end)).get,
    )


def totals(connection: apsw.Connection, tenant: int, epoch: int, start: int, end: int) -> WindowTotals:
    """The sums of the window, and when time alone will change them."""
    check_complete(connection, tenant, start)
    count, hh, hl, lh, ll, weight_h, weight_l, oldest, newest = connection.execute(_SUMS, (tenant, start, end)).get
    upcoming = connection.execute(_NEXT, (tenant, end)).get
    at_head = head(connection, tenant, epoch)
    if not count:
        return WindowTotals(WindowSum(), None, upcoming, at_head)
    sums = WindowSum((hh << 35) + (hl << 15) + (lh << 20) + ll, (weight_h << 20) + weight_l, count)
    leaving = oldest + (end - start) + 1
    return WindowTotals(sums, newest, leaving if upcoming is None else min(leaving, upcoming), at_head)


def outside(connection: apsw.Connection, tenant: int, start: int, end: int) -> tuple[int, int]:
    """How many signals there are after the window and before it."""
    return connection.execute(_AFTER, (tenant, end)).get, connection.execute(_BEFORE, (tenant, start)).get


def check_complete(connection: apsw.Connection, tenant: int, start: int) -> None:
    """Return when nothing of a window that begins there was erased.

    Raises:
        WindowIncomplete: something was.
    """
    erased_ts = connection.execute(_ERASED_TS, (tenant,)).get
    if erased_ts is not None and start <= erased_ts:
        message = (
            "signals of that window were erased when their retention ended, so its score can't be recomputed;"
            " ask for an instant whose window begins after metadata erased_ts_us"
        )
        raise WindowIncomplete(message, metadata={"erased_ts_us": str(erased_ts)})

"""The rows of published scores and of their history: how they are put in place, found and thinned."""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING, Any, Final

import apsw

from coherence_grpc.model import DAY, SECOND
from coherence_grpc.ports import PortfolioOrder
from coherence_grpc.score_row import COLUMNS, row_of, score_of
from coherence_grpc.shards import shard_of

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Sequence

    from coherence_grpc.model import Score
    from coherence_grpc.ports import ScoreQuery

RAW_HISTORY: Final = 7 * DAY
_MINUTE: Final = 60 * SECOND
_LAST: Final = 2**63 - 1

_SELECT: Final = f"SELECT {', '.join(COLUMNS)} FROM "  # noqa: S608 - our own words
_VALUES: Final = f"({', '.join(COLUMNS)}) VALUES ({', '.join('?' * len(COLUMNS))})"
_IN_PLACE: Final = "SELECT version, signal_epoch, as_of_seq, window_end FROM scores WHERE tenant_id = ?"
_PUT: Final = "INSERT OR REPLACE INTO scores " + _VALUES
_KEEP: Final = "INSERT INTO score_history " + _VALUES
_GET: Final = _SELECT + "scores WHERE tenant_id IN carray(?)"
_RANKS: Final = {
    PortfolioOrder.WORST_FIRST: "rank",
    PortfolioOrder.BEST_FIRST: "best_rank",
    PortfolioOrder.LAST_CHANGED: "changed_rank",
}
# What is sorted by, beyond where, and the tenant as a prefix narrows it: a `+` keeps the planner to the order's index.
_ORDERED: Final = {
    PortfolioOrder.TENANT_ID: ("tenant_id", "tenant_id > ?2", "tenant_id"),
    **{
        order: (f"{rank}, tenant_id", f"({rank}, tenant_id) > (?1, ?2)", "+tenant_id") for order, rank in _RANKS.items()
    },
}
# No letter of a tenant's id comes after `~`.
_PORTFOLIO: Final = {
    order: f"""{_SELECT} scores
WHERE {beyond} AND (?3 OR status IN carray(?4)) AND (?5 OR coalesce(held_status, status) IN carray(?6))
  AND (?7 OR tenant_id IN carray(?8)) AND {tenant} >= ?9 AND {tenant} < ?9 || '~'
  AND (?10 IS NULL OR score_ppm >= ?10) AND (?11 IS NULL OR score_ppm <= ?11)
ORDER BY {by} LIMIT ?12
"""
    for order, (by, beyond, tenant) in _ORDERED.items()
}
_BEFORE_ALL: Final = (-(2**62), "")
_SHOWN_AT: Final = (
    _SELECT + "score_history WHERE tenant_id = ? AND window_end <= ? ORDER BY window_end DESC, version DESC LIMIT 1"
)
_CHANGES: Final = (
    _SELECT
    + """score_history WHERE status_changed AND tenant_id = ? AND window_end > ? AND window_end <= ?
ORDER BY window_end, version LIMIT ?
"""
)
_DUE: Final = "SELECT tenant_id, valid_until FROM scores WHERE valid_until <= ? ORDER BY valid_until"
_HISTORY: Final = _SELECT + "score_history WHERE tenant_id = ? AND version > ? ORDER BY version LIMIT ?"
_VERSION_AT: Final = """
SELECT version FROM score_history WHERE tenant_id = ? AND window_end < ?
ORDER BY window_end DESC, version DESC LIMIT 1
"""
# A row goes when its predecessor had its statuses and its successor its minute. Rows before ?1 were thinned already.
_THINNABLE: Final = """
SELECT h.tenant_id, h.version FROM scores s JOIN score_history h ON h.tenant_id = s.tenant_id
WHERE h.window_end >= ?1 AND h.window_end < ?2 AND NOT h.status_changed
  AND (h.status, coalesce(h.held_status, h.status)) = (
    SELECT p.status, coalesce(p.held_status, p.status) FROM score_history p
    WHERE p.tenant_id = h.tenant_id AND p.version < h.version ORDER BY p.version DESC LIMIT 1)
  AND h.window_end / ?3 = (
    SELECT n.window_end / ?3 FROM score_history n
    WHERE n.tenant_id = h.tenant_id AND n.version > h.version ORDER BY n.version LIMIT 1)
LIMIT ?4
"""
_DROP: Final = "DELETE FROM score_history WHERE tenant_id = ? AND version = ?"
_THINNED: Final = "SELECT value FROM meta WHERE name = 'thinned_until'"
_SET_THINNED: Final = "INSERT OR REPLACE INTO meta VALUES ('thinned_until', ?)"


def put(cursor: apsw.Cursor, scores: Sequence[Score]) -> list[bool]:
    """Puts each row in place that does not lose against the one there."""
    return [_put(cursor, score) for score in scores]


def _put(cursor: apsw.Cursor, score: Score) -> bool:
    there = cursor.execute(_IN_PLACE, (score.tenant_id,)).fetchone()
    version, *fence = there or (0,)
    if fence and [score.signal_epoch, score.as_of_seq, score.window_end] < fence:
        return False
    if score.version != version + 1 and not (there and score.version == version):
        return False
    row = _row(score)
    cursor.execute(_PUT, row)
    if score.version > version:
        cursor.execute(_KEEP, row)
    return True


def get(connection: apsw.Connection, tenant_ids: Collection[str]) -> list[Score]:
    """The rows in place of these tenants, of which there is one at least."""
    return [score_of(row) for row in connection.execute(_GET, (apsw.carray(tuple(tenant_ids)),))]


def portfolio(
    connection: apsw.Connection,
    query: ScoreQuery,
    tenants: Collection[str] | None,
    after: tuple[int, str] | None,
    limit: int,
    order: PortfolioOrder,
) -> list[Score]:
    """Rows that match, in that order."""
    named = (query.statuses, query.held_statuses, tenants or ())
    # An array has at least one member.
    statuses, held, ids = (apsw.carray(tuple(map(str, words)) or ("",)) for words in named)
    narrow = (not query.statuses, statuses, not query.held_statuses, held, tenants is None, ids)
    words = (*(after or _BEFORE_ALL), *narrow, query.prefix, query.min_ppm, query.max_ppm, limit)
    return [score_of(row) for row in connection.execute(_PORTFOLIO[order], words)]


def shown_at(connection: apsw.Connection, asked: Sequence[tuple[str, int]]) -> list[Score | None]:
    """What was published last at or before each instant."""
    found = (connection.execute(_SHOWN_AT, one).fetchone() for one in asked)
    return [None if row is None else score_of(row) for row in found]


def changes(connection: apsw.Connection, tenant_id: str, start: int, end: int, limit: int) -> list[Score]:
    """What was published with another held status than the row before, oldest first."""
    return [score_of(row) for row in connection.execute(_CHANGES, (tenant_id, start, end, limit))]


def due(connection: apsw.Connection, before: int, limit: int, shards: Collection[int] | None) -> list[str]:
    """Tenants of the shards whose row is valid no longer than that."""
    return [tenant_id for tenant_id, _ in islice(_due(connection, before, shards), limit)]


def next_due(connection: apsw.Connection, shards: Collection[int] | None) -> int | None:
    """The first instant at which a row of the shards stops being valid."""
    return next((instant for _, instant in _due(connection, _LAST, shards)), None)


def _due(connection: apsw.Connection, before: int, shards: Collection[int] | None) -> Iterator[tuple[str, int]]:
    for tenant_id, instant in connection.execute(_DUE, (before,)):
        if shards is None or shard_of(tenant_id) in shards:
            yield tenant_id, instant


def history(connection: apsw.Connection, tenant_id: str, after_version: int, limit: int) -> list[Score]:
    """What was published, oldest first."""
    return [score_of(row) for row in connection.execute(_HISTORY, (tenant_id, after_version, limit))]


def version_at(connection: apsw.Connection, tenant_id: str, instant: int) -> int:
    """The version before the instant."""
    version: int | None = connection.execute(_VERSION_AT, (tenant_id, instant)).get
    return version or 0


def thin(cursor: apsw.Cursor, now: int, limit: int) -> int:
    """Drops rows of the history that are neither a change nor the last of their minute."""
    end = now - RAW_HISTORY
    begin = cursor.execute(_THINNED).get or 0
    dropped = cursor.execute(_THINNABLE, (begin, end, _MINUTE, limit)).fetchall()
    cursor.executemany(_DROP, dropped)
    done = end - end % _MINUTE
    if len(dropped) < limit and done > begin:
        cursor.execute(_SET_THINNED, (done,))
    return len(dropped)


def _row(score: Score) -> Sequence[Any]:
    row = list(row_of(score))
    # An integer of SQLite's has 64 bits.
    row[COLUMNS.index("weight_q")] = str(score.weight_q)
    return row

"""Erasing the bodies of signals that outlived their retention; all of it runs in the writer's thread."""

from __future__ import annotations

from array import array
from itertools import groupby
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import apsw

from coherence_grpc.adapters.embedded.append import RETENTIONS, Log
from coherence_grpc.ledger import encode_pruned, provenance_digest
from coherence_grpc.model import DAY, RETENTION_US, EntryKind

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from coherence_grpc.adapters.embedded.append import HeadRow
    from coherence_grpc.model import Provenance

REASON: Final = "retention"

# ?2, ?3 and ?4 are the newest ts that has outlived each retention, by the number it is stored under.
_EXPIRED: Final = """
FROM signals WHERE tenant = ?1 AND ts <= max(?2, ?3, ?4)
AND ((retention = 0 AND ts <= ?2) OR (retention = 1 AND ts <= ?3) OR (retention = 2 AND ts <= ?4))
"""
_COUNT: Final = "SELECT count(*)" + _EXPIRED
_FIND: Final = "SELECT seq, ts, source, signal_id" + _EXPIRED + "ORDER BY ts LIMIT ?5"
# What a signal took the place of, and what that did in turn.
_SUPERSEDED: Final = """
WITH RECURSIVE superseded(seq) AS (
    SELECT superseded_seq FROM supersessions WHERE tenant = ?1 AND seq IN carray(?2)
    UNION ALL
    SELECT s.superseded_seq FROM superseded o JOIN supersessions s ON s.tenant = ?1 AND s.seq = o.seq
)
SELECT seq FROM superseded
"""
_UNLINK: Final = "DELETE FROM supersessions WHERE tenant = ? AND seq IN carray(?)"
_ERASE: Final = "UPDATE entries SET payload = NULL, superseded = NULL WHERE tenant = ? AND seq IN carray(?)"
_DROP: Final = "DELETE FROM signals WHERE tenant = ? AND ts = ? AND source = ? AND signal_id = ?"
_REMEMBER: Final = """
UPDATE heads SET erased_ts = max(coalesce(erased_ts, ?2), ?2), readable_from = coalesce((
    SELECT e.seq FROM entries e
    WHERE e.tenant = ?1 AND e.seq >= readable_from AND e.kind IN (1, 2) AND e.payload IS NOT NULL
    ORDER BY e.seq LIMIT 1
), seq + 1) WHERE tenant = ?1
"""


class Erased(NamedTuple):
    """What a batch erased, whether more is left, and the head after the entry that says so, if there is one."""

    number: int
    more: bool
    head: HeadRow | None


def expired_count(connection: apsw.Connection, tenant: int, now: int) -> int:
    """How many signals of the tenant outlived their retention by a day."""
    count: int = connection.execute(_COUNT, (tenant, *_limits(now))).get
    return count


def erase(cursor: apsw.Cursor, log: Log, record: int, provenance: Provenance, *, now: int, limit: int) -> Erased:
    """Erases a batch and says so in the log."""
    found: list[Any] = cursor.execute(_FIND, (log.tenant, *_limits(now), limit + 1)).fetchall()
    more, found = len(found) > limit, found[:limit]
    if not found:
        return Erased(0, more=False, head=None)
    seqs = _entries(cursor, log.tenant, [seq for seq, *_ in found])
    cursor.execute(_ERASE, (log.tenant, _packed(seqs)))
    cursor.execute(_UNLINK, (log.tenant, _packed(seqs)))
    cursor.executemany(_DROP, [(log.tenant, *key) for _, *key in found])
    log.extend(record, provenance_digest(provenance), EntryKind.PRUNED, [encode_pruned(_ranges(seqs), REASON)])
    log.add_record(record, provenance, log.seq, 1, b"")
    head = log.move_head()
    cursor.execute(_REMEMBER, (log.tenant, found[-1][1]))
    return Erased(len(found), more, head)


def _entries(cursor: apsw.Cursor, tenant: int, seqs: Sequence[int]) -> list[int]:
    """These entries, and those that they superseded: none outlives its signal."""
    superseded = cursor.execute(_SUPERSEDED, (tenant, _packed(seqs)))
    return sorted([*seqs, *(seq for (seq,) in superseded)])


def _packed(seqs: Sequence[int]) -> apsw.CArrayBinding:
    # A carray is read as it is: the numbers are packed as 64-bit integers.
    return apsw.carray(array("q", seqs))


def _limits(now: int) -> Iterator[int]:
    lifetimes = (RETENTION_US[retention] for retention in RETENTIONS)
    return (now - lifetime - DAY for lifetime in lifetimes if lifetime is not None)


def _ranges(seqs: Iterable[int]) -> Iterator[tuple[int, int]]:
    for _, run in groupby(enumerate(seqs), key=lambda pair: pair[1] - pair[0]):
        numbers = [seq for _, seq in run]
        yield numbers[0], numbers[-1]

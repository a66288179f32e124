"""Reading the logs and the signals: each function runs in one snapshot, in a reader's thread."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import apsw

from coherence_grpc.ledger import decode_signal, provenance_digest
from coherence_grpc.model import (
    GENESIS,
    Entry,
    EntryKind,
    Head,
    Item,
    LedgerRow,
    License,
    Provenance,
    Purpose,
    Residency,
    Retention,
    StoredSignal,
    Tags,
)
from coherence_grpc.policy import UNWRITTEN, version_of

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from coherence_grpc.model import Key
    from coherence_grpc.policy import PolicyVersion
    from coherence_grpc.ports import SignalQuery

LATEST: Final = 2**63 - 1

_HEAD: Final = "SELECT seq, head_hash FROM heads WHERE tenant = ?"
_TAIL: Final = """
SELECT e.seq, e.kind, e.payload, e.superseded, p.provenance_id, e.recorded_at, e.head_hash, p.backfill, p.traceparent
FROM entries e JOIN provenance p ON p.record = e.record
WHERE e.tenant = ? AND e.seq > ? ORDER BY e.seq LIMIT ?
"""
_POLICIES: Final = """
SELECT e.seq, e.payload, e.recorded_at, p.provenance_id FROM policies v
JOIN entries e ON e.tenant = v.tenant AND e.seq = v.seq
JOIN provenance p ON p.record = e.record
WHERE v.tenant = ? AND v.seq <= ? ORDER BY v.seq DESC LIMIT ?
"""
_RECORDED_AT: Final = "SELECT recorded_at FROM entries WHERE tenant = ? AND seq = ?"
_FIRST_READABLE: Final = """
SELECT e.seq FROM heads h JOIN entries e ON e.tenant = h.tenant AND e.seq >= h.readable_from
WHERE h.tenant = ? AND e.kind IN (1, 2) AND e.payload IS NOT NULL ORDER BY e.seq LIMIT 1
"""
SIGNAL_COLUMNS: Final = """
SELECT s.source, s.signal_id, s.type, s.value_q, s.weight_q, s.ts,
       s.seq, p.provenance_id, e.recorded_at, e.head_hash, p.backfill
FROM signals s
JOIN entries e ON e.tenant = s.tenant AND e.seq = s.seq
JOIN provenance p ON p.record = e.record
"""
_SIGNAL: Final = SIGNAL_COLUMNS + "WHERE s.tenant = ? AND s.ts = ? AND s.source = ? AND s.signal_id = ?"
# The key is walked backwards from the position; the lists are arrays, so one text serves any number of words.
_LISTING: Final = f"""
{SIGNAL_COLUMNS}
WHERE s.tenant = ? AND s.ts >= ? AND s.ts <= ? AND (s.ts, s.source, s.signal_id) < (?, ?, ?)
  AND (? OR s.source IN carray(?)) AND (? OR s.type IN carray(?))
ORDER BY s.ts DESC, s.source DESC, s.signal_id DESC LIMIT ?
"""
_PROVENANCE_COLUMNS: Final = """
SELECT provenance_id, request_id, request_hash, purpose, retention, license, residency, principal, transport,
       received_at, traceparent, backfill
FROM provenance
"""
_PROVENANCE: Final = _PROVENANCE_COLUMNS + "WHERE provenance_id = ? AND tenant = ?"
_RECORD: Final = _PROVENANCE_COLUMNS + "WHERE record = ?"
_STORED_BY: Final = "SELECT record, first_seq, stored FROM provenance WHERE provenance_id = ? AND tenant = ?"
_LEDGER: Final = """
SELECT seq, epoch, kind, payload, superseded, recorded_at, record, entry_hash, head_hash FROM entries
WHERE tenant = ? AND seq >= ? ORDER BY seq LIMIT ?
"""
_HASH_AT: Final = "SELECT head_hash FROM entries WHERE tenant = ? AND seq = ?"
_OLDEST: Final = "SELECT min(ts) FROM signals WHERE tenant = ?"


def head(connection: apsw.Connection, tenant: int, epoch: int) -> Head:
    """The head as the snapshot has it."""
    row = connection.execute(_HEAD, (tenant,)).fetchone()
    return Head(epoch, *row) if row else Head(epoch, 0, GENESIS)


def tail(connection: apsw.Connection, tenant_id: str, tenant: int, after: int, limit: int) -> list[Entry]:
    """Entries behind `after`."""
    return [_entry(tenant_id, *row) for row in connection.execute(_TAIL, (tenant, after, limit))]


def _entry(
    tenant_id: str,
    seq: int,
    kind: int,
    payload: bytes | None,
    superseded: bytes | None,
    provenance_id: str,
    recorded_at: int,
    head_hash: bytes,
    backfill: int,
    traceparent: str,
) -> Entry:
    body = payload or b""
    carries_signal = kind in {EntryKind.STORED, EntryKind.REPLACED}
    return Entry(
        tenant_id=tenant_id,
        seq=seq,
        kind=EntryKind(kind),
        item=decode_signal(body) if carries_signal and body else None,
        erased=payload is None,
        provenance_id=provenance_id,
        recorded_at=recorded_at,
        head_hash=head_hash,
        backfill=bool(backfill),
        traceparent=traceparent,
        superseded=None if superseded is None else decode_signal(superseded),
        payload=b"" if carries_signal else body,
    )


def seq_at(connection: apsw.Connection, tenant: int, recorded_at: int) -> int:
    """The last entry recorded before the instant; recorded_at never falls along the log, so halving finds it."""
    before, beyond = 0, head(connection, tenant, 0).seq + 1
    while beyond - before > 1:
        middle = (before + beyond) // 2
        if connection.execute(_RECORDED_AT, (tenant, middle)).get < recorded_at:
            before = middle
        else:
            beyond = middle
    return before


def first_readable(connection: apsw.Connection, tenant: int) -> int:
    """The oldest signal entry with a body."""
    seq: int | None = connection.execute(_FIRST_READABLE, (tenant,)).get
    return seq or 0


def policy(connection: apsw.Connection, tenant: int, at: int | None) -> PolicyVersion:
    """The newest policy up to entry `at`."""
    found = policies(connection, tenant, None if at is None else at + 1, 1)
    return found[0] if found else UNWRITTEN


def policies(connection: apsw.Connection, tenant: int, before: int | None, limit: int) -> list[PolicyVersion]:
    """The policies before the entry, newest first."""
    newest = LATEST if before is None else before - 1
    return [version_of(*row) for row in connection.execute(_POLICIES, (tenant, newest, limit))]


def signal(connection: apsw.Connection, tenant: int, key: Key) -> StoredSignal | None:
    """The signal under the key."""
    row = connection.execute(_SIGNAL, (tenant, key.ts, key.source, key.signal_id)).fetchone()
    return stored_signal(key.tenant_id, row) if row else None


def stored_signal(tenant_id: str, row: Sequence[Any]) -> StoredSignal:
    """A row of the columns above; what a driver returns has no types."""
    seq, provenance_id, recorded_at, head_hash, backfill = row[6:]
    return StoredSignal(tenant_id, Item(*row[:6]), seq, provenance_id, recorded_at, head_hash, bool(backfill))


def listing(
    connection: apsw.Connection,
    tenant_id: str,
    tenant: int,
    epoch: int,
    query: SignalQuery,
    before: tuple[int, str, str] | None,
    limit: int,
) -> tuple[list[StoredSignal], Head]:
    """Signals that match, newest first, and the head of the same snapshot."""
    start = -LATEST if query.start is None else query.start
    end = LATEST if query.end is None else query.end
    position = before or (LATEST, "", "")
    words = (*_any_or(query.sources), *_any_or(query.types))
    rows = connection.execute(_LISTING, (tenant, start, end, *position, *words, limit))
    found = [stored_signal(tenant_id, row) for row in rows]
    return found, head(connection, tenant, epoch)


def _any_or(words: Collection[str]) -> tuple[bool, apsw.CArrayBinding]:
    # An array has at least one member.
    return not words, apsw.carray(tuple(words) or ("",))


def provenance(connection: apsw.Connection, tenant_id: str, tenant: int, provenance_id: str) -> Provenance | None:
    """The record of that id."""
    row = connection.execute(_PROVENANCE, (provenance_id, tenant)).fetchone()
    return _provenance(tenant_id, *row) if row else None


def _provenance(
    tenant_id: str,
    provenance_id: str,
    request_id: str,
    request_hash: bytes,
    purpose: str,
    retention: str,
    license_: str,
    residency: str,
    principal: str,
    transport: str,
    received_at: int,
    traceparent: str,
    backfill: int,
) -> Provenance:
    return Provenance(
        provenance_id=provenance_id,
        tenant_id=tenant_id,
        request_id=request_id,
        request_hash=request_hash,
        tags=Tags(Purpose(purpose), Retention(retention), License(license_), Residency(residency)),
        principal=principal,
        transport=transport,
        received_at=received_at,
        traceparent=traceparent,
        backfill=bool(backfill),
    )


def provenance_rows(
    connection: apsw.Connection, tenant_id: str, tenant: int, provenance_id: str, limit: int
) -> list[LedgerRow]:
    """The entries of a record: a write numbers its own without a gap."""
    found = connection.execute(_STORED_BY, (provenance_id, tenant)).fetchone()
    if found is None:
        return []
    record, first_seq, stored = found
    rows = _ledger_rows(connection, tenant_id, tenant, first_seq, min(limit, stored))
    return [row for number, row in rows if number == record]


def ledger(
    connection: apsw.Connection, tenant_id: str, tenant: int, first: int, limit: int
) -> tuple[bytes, list[LedgerRow]]:
    """The chain's hash before `first`, and the entries from there as they are."""
    previous = hash_at(connection, tenant, first - 1) or b""
    return previous, [row for _, row in _ledger_rows(connection, tenant_id, tenant, first, limit)]


def _ledger_rows(
    connection: apsw.Connection, tenant_id: str, tenant: int, first: int, limit: int
) -> list[tuple[int, LedgerRow]]:
    digests: dict[int, bytes] = {}
    found: list[tuple[int, LedgerRow]] = []
    rows: list[Any] = connection.execute(_LEDGER, (tenant, first, limit)).fetchall()
    for row in rows:
        seq, epoch, kind, payload, superseded, recorded_at, record, entry_hash, head_hash = row
        digest = digests.get(record)
        if digest is None:
            digest = digests[record] = _digest(connection, tenant_id, record)
        entry = LedgerRow(seq, epoch, kind, payload, superseded or b"", recorded_at, digest, entry_hash, head_hash)
        found.append((record, entry))
    return found


def _digest(connection: apsw.Connection, tenant_id: str, record: int) -> bytes:
    # Made from the record as it stands, so that a changed record shows. A value outside its set is a change too.
    row = connection.execute(_RECORD, (record,)).fetchone()
    try:
        return provenance_digest(_provenance(tenant_id, *row)) if row else b""
    except ValueError:
        return b""


def hash_at(connection: apsw.Connection, tenant: int, seq: int) -> bytes | None:
    """The chain's hash after the entry."""
    if not seq:
        return GENESIS
    hashed: bytes | None = connection.execute(_HASH_AT, (tenant, seq)).get
    return hashed


def oldest_ts(connection: apsw.Connection, tenants: Collection[int]) -> int | None:
    """The ts of the oldest signal of all these."""
    oldest = [connection.execute(_OLDEST, (tenant,)).get for tenant in tenants]
    return min((ts for ts in oldest if ts is not None), default=None)

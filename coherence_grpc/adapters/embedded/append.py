"""Writing to the logs: what one transaction does with the writes of a group, in order of arrival."""

from __future__ import annotations

from itertools import chain as concatenate
from types import MappingProxyType
from typing import TYPE_CHECKING, Final, NamedTuple

import apsw

from coherence_grpc.errors import CoherenceError
from coherence_grpc.ledger import EntryHasher, chain, decode_signal, encode_signal, provenance_digest
from coherence_grpc.model import GENESIS, Appended, EntryKind, Head, Item, OnConflict, Outcome, Result, Retention
from coherence_grpc.replies import conflict, decode_reply, encode_reply, refused, reused

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from coherence_grpc.model import Provenance, Write

# By number in the table of signals, so that pruning needs no second table: add, never reorder.
RETENTIONS: Final = (Retention.SHORT, Retention.STANDARD, Retention.LONG, Retention.UNLIMITED)
_NONE: Final[Mapping[int, Superseded]] = MappingProxyType({})
# From here on one statement for all rows is faster than one each: its rows never touch the interpreter.
_BULK_ROWS: Final = 8

FIND_REQUEST: Final = """
SELECT record, provenance_id, request_hash, first_seq, stored, reply FROM provenance
WHERE tenant = ? AND request_id = ?
"""
_ADD_SIGNAL: Final = "INSERT OR IGNORE INTO signals VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)"
# The entry of a signal of the same write is not there yet: then the record is the write's own.
_FIND_SIGNAL: Final = """
SELECT s.seq, s.value_q, s.weight_q, s.type, p.provenance_id FROM signals s
LEFT JOIN entries e ON e.tenant = s.tenant AND e.seq = s.seq
LEFT JOIN provenance p ON p.record = e.record
WHERE s.tenant = ? AND s.ts = ? AND s.source = ? AND s.signal_id = ?
"""
_REPLACE_SIGNAL: Final = """
UPDATE signals SET seq = ?, value_q = ?, weight_q = ?, type = ?, retention = ?
WHERE tenant = ? AND ts = ? AND source = ? AND signal_id = ?
"""
_ADD_SUPERSESSION: Final = "INSERT INTO supersessions VALUES (?, ?, ?)"
_ADD_ENTRY: Final = "INSERT INTO entries VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
# ?7 holds each entry's hash and the head after it, 64 bytes a row.
_ADD_ENTRIES: Final = """
INSERT INTO entries
SELECT ?1, ?2 + rowid, ?3, ?4, value, NULL, ?5, ?6, substr(?7, rowid * 64 - 63, 32), substr(?7, rowid * 64 - 31, 32)
FROM carray(?8)
"""
_ADD_RECORD: Final = "INSERT INTO provenance VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
_MOVE_HEAD: Final = """
INSERT INTO heads (tenant, tenant_id, seq, head_hash, recorded_at) VALUES (?, ?, ?, ?, ?)
ON CONFLICT (tenant) DO UPDATE
SET seq = excluded.seq, head_hash = excluded.head_hash, recorded_at = excluded.recorded_at
"""
_NOTE: Final = "UPDATE heads SET score_epoch = ?, score_version = ? WHERE tenant = ?"
_STORED_RANGE: Final = "SELECT payload FROM entries WHERE tenant = ? AND seq >= ? ORDER BY seq LIMIT ?"
_STORED_ENTRY: Final = """
SELECT e.payload, p.provenance_id FROM entries e JOIN provenance p ON p.record = e.record
WHERE e.tenant = ? AND e.seq = ?
"""


class HeadRow(NamedTuple):
    """A tenant's number in this file and where its log stands."""

    tenant: int
    seq: int
    head_hash: bytes
    recorded_at: int


class Superseded(NamedTuple):
    """What a signal takes the place of, and the number of its entry."""

    seq: int
    item: Item


class _Added(NamedTuple):
    """What became of each signal of a write; the new entries, and by position what the REPLACED among them replace."""

    results: Sequence[Result]
    stored: list[Item]
    payloads: list[bytes]
    replaced: dict[int, Superseded]


class _Done(NamedTuple):
    """What a write did, but for the head that its whole group leads to."""

    write: Write
    results: Sequence[Result]
    first_seq: int
    stored: Sequence[Item]
    hashes: Sequence[bytes]
    superseded: Mapping[int, Item]


class Log:
    """The end of one tenant's log within a transaction."""

    __slots__ = ("_cursor", "_epoch", "head_hash", "recorded_at", "seq", "tenant", "tenant_id")

    def __init__(self, cursor: apsw.Cursor, epoch: int, tenant_id: str, head: HeadRow, now: int) -> None:
        self._cursor = cursor
        self._epoch = epoch
        self.tenant_id = tenant_id
        self.tenant, self.seq, self.head_hash, newest = head
        self.recorded_at = max(now, newest)

    def extend(
        self,
        record: int,
        digest: bytes,
        kind: EntryKind,
        payloads: Sequence[bytes],
        replaced: Mapping[int, Superseded] = _NONE,
    ) -> list[bytes]:
        """Puts entries behind the end, those at positions in `replaced` as REPLACED; the chain's hash after each."""
        entry_hash = EntryHasher(self._epoch, self.tenant_id, self.recorded_at, digest).entry_hash
        first, head = self.seq + 1, self.head_hash
        before = {first + position: encode_signal(*old.item) for position, old in replaced.items()}
        own: list[bytes] = []
        heads: list[bytes] = []
        for seq, payload in enumerate(payloads, first):
            if seq in before:
                hashed = entry_hash(seq, EntryKind.REPLACED, payload, before[seq])
            else:
                hashed = entry_hash(seq, kind, payload)
            head = chain(head, hashed)
            own.append(hashed)
            heads.append(head)
        if len(payloads) >= _BULK_ROWS and not before:
            self._add_alike(record, kind, payloads, own, heads)
        else:
            self._add_one_by_one(record, kind, before, zip(payloads, own, heads, strict=True))
            rows = [(self.tenant, first + position, old.seq) for position, old in replaced.items()]
            self._cursor.executemany(_ADD_SUPERSESSION, rows)
        self.seq += len(payloads)
        self.head_hash = head
        return heads

    def _add_alike(
        self, record: int, kind: EntryKind, payloads: Sequence[bytes], own: Sequence[bytes], heads: Sequence[bytes]
    ) -> None:
        hashes = b"".join(concatenate.from_iterable(zip(own, heads, strict=True)))
        same = (self.tenant, self.seq, self._epoch, int(kind), record, self.recorded_at)
        self._cursor.execute(_ADD_ENTRIES, (*same, hashes, apsw.carray(tuple(payloads))))

    def _add_one_by_one(
        self, record: int, kind: EntryKind, before: Mapping[int, bytes], entries: Iterable[tuple[bytes, bytes, bytes]]
    ) -> None:
        for seq, (payload, hashed, head) in enumerate(entries, self.seq + 1):
            superseded = before.get(seq)
            own_kind = kind if superseded is None else EntryKind.REPLACED
            body = (self.tenant, seq, self._epoch, int(own_kind), payload, superseded)
            self._cursor.execute(_ADD_ENTRY, (*body, record, self.recorded_at, hashed, head))

    def add_record(self, record: int, provenance: Provenance, first_seq: int, stored: int, reply: bytes) -> None:
        """Keeps the provenance of entries and what the request was told."""
        tags = provenance.tags
        self._cursor.execute(
            _ADD_RECORD,
            (
                record,
                self.tenant,
                provenance.provenance_id,
                provenance.request_id,
                provenance.request_hash,
                tags.purpose.value,
                tags.retention.value,
                tags.license.value,
                tags.residency.value,
                provenance.principal,
                provenance.transport,
                provenance.received_at,
                provenance.traceparent,
                provenance.backfill,
                first_seq,
                stored,
                reply,
            ),
        )

    def move_head(self) -> HeadRow:
        """Writes down where the log now stands."""
        row = HeadRow(self.tenant, self.seq, self.head_hash, self.recorded_at)
        self._cursor.execute(_MOVE_HEAD, (self.tenant, self.tenant_id, *row[1:]))
        return row


class Batch:
    """The writes of one transaction. `heads`, `notes` and `next_record` are what holds once it is committed."""

    def __init__(
        self,
        cursor: apsw.Cursor,
        *,
        epoch: int,
        heads: Mapping[str, HeadRow],
        next_record: int,
        now: int,
    ) -> None:
        self._cursor = cursor
        self._changes = cursor.connection.changes
        self._epoch = epoch
        self._known = heads
        self._now = now
        self.heads: dict[str, HeadRow] = {}
        self.notes: dict[str, tuple[int, int]] = {}
        self.next_record = next_record
        self._next_tenant = len(heads) + 1

    def apply(self, writes: Sequence[Write]) -> list[Appended | CoherenceError]:
        """What became of each write, in order; each tenant's rows are written together."""
        tenants: dict[str, list[int]] = {}
        for index, write in enumerate(writes):
            tenants.setdefault(write.tenant_id, []).append(index)
        answers: dict[int, Appended | CoherenceError] = {}
        for tenant_id, indexes in tenants.items():
            applied = self._apply(tenant_id, [writes[index] for index in indexes])
            answers.update(zip(indexes, applied, strict=True))
        return [answers[index] for index in range(len(writes))]

    def note(self, published: Mapping[str, tuple[int, int]]) -> None:
        """Writes beside the tenants' heads which scores were published: (score epoch, version)."""
        self.notes = dict(published)
        for tenant_id, note in self.notes.items():
            row = self.heads.get(tenant_id) or self._known.get(tenant_id)
            if row is None:
                row = self.heads[tenant_id] = HeadRow(self._next_tenant, 0, GENESIS, 0)
                self._next_tenant += 1
                self._cursor.execute(_MOVE_HEAD, (row.tenant, tenant_id, *row[1:]))
            self._cursor.execute(_NOTE, (*note, row.tenant))

    def _apply(self, tenant_id: str, writes: Iterable[Write]) -> list[Appended | CoherenceError]:
        known = self._known.get(tenant_id)
        before = known or HeadRow(self._next_tenant, 0, GENESIS, 0)
        log = Log(self._cursor, self._epoch, tenant_id, before, self._now)
        done = [self._write(log, write) for write in writes]
        if log.seq > before.seq:
            self.heads[tenant_id] = log.move_head()
            self._next_tenant += known is None
        head = Head(self._epoch, log.seq, log.head_hash)
        return [
            one if isinstance(one, CoherenceError) else Appended(*one[:-1], log.recorded_at, head, one.superseded)
            for one in done
        ]

    def _write(self, log: Log, write: Write) -> _Done | CoherenceError:
        provenance = write.provenance
        request = (
            self._cursor.execute(FIND_REQUEST, (log.tenant, provenance.request_id)).fetchone() if log.seq else None
        )
        if request is None:
            return self._store(log, write)
        _, provenance_id, request_hash, first_seq, stored, reply = request
        if request_hash != provenance.request_hash:
            return reused(provenance)
        return _Done(write, self._replay(log, write, provenance_id, first_seq, stored, reply), 0, (), (), {})

    def _store(self, log: Log, write: Write) -> _Done:
        provenance = write.provenance
        first_seq = log.seq + 1
        results, stored, payloads, replaced = self._add_signals(log, write)
        if not stored:
            return _Done(write, results, 0, (), (), {})
        record = self.next_record
        self.next_record += 1
        hashes = log.extend(record, provenance_digest(provenance), EntryKind.STORED, payloads, replaced)
        plain = len(stored) == len(results)
        log.add_record(record, provenance, first_seq, len(stored), b"" if plain else encode_reply(results))
        superseded = {position: old.item for position, old in replaced.items()}
        return _Done(write, results, first_seq, stored, hashes, superseded)

    def _add_signals(self, log: Log, write: Write) -> _Added:
        # The hot loop: its rows are most of what a write costs.
        execute, changes, tenant = self._cursor.execute, self._changes, log.tenant
        provenance_id = write.provenance.provenance_id
        retention = RETENTIONS.index(write.provenance.tags.retention)
        results: list[Result | None] = [None] * (len(write.items) + len(write.refused))
        stored: list[Item] = []
        payloads: list[bytes] = []
        replaced: dict[int, Superseded] = {}
        seq = log.seq + 1
        for item, payload, position in zip(write.items, write.payloads, write.positions, strict=True):
            source, signal_id, type_, value_q, weight_q, ts = item
            execute(_ADD_SIGNAL, (tenant, ts, source, signal_id, seq, value_q, weight_q, type_, retention))
            if changes():
                results[position] = Result(Outcome.STORED, seq, provenance_id, item)
            else:
                old, first_provenance_id = self._known_signal(tenant, item)
                if old.item == item or write.on_conflict is OnConflict.REJECT:
                    results[position] = _unchanged(item, old, first_provenance_id or provenance_id)
                    continue
                execute(_REPLACE_SIGNAL, (seq, value_q, weight_q, type_, retention, tenant, ts, source, signal_id))
                results[position] = Result(Outcome.REPLACED, seq, provenance_id, item)
                replaced[len(stored)] = old
            stored.append(item)
            payloads.append(payload)
            seq += 1
        for position, error in write.refused.items():
            results[position] = refused(error)
        return _Added([result for result in results if result is not None], stored, payloads, replaced)

    def _known_signal(self, tenant: int, item: Item) -> tuple[Superseded, str | None]:
        """The signal under the key of the item, and the id of its record if that is written down already."""
        key = (tenant, item.ts, item.source, item.signal_id)
        seq, value_q, weight_q, type_, provenance_id = self._cursor.execute(_FIND_SIGNAL, key).get
        return Superseded(seq, item._replace(value_q=value_q, weight_q=weight_q, type=type_)), provenance_id

    def _replay(
        self, log: Log, write: Write, provenance_id: str, first_seq: int, stored: int, reply: bytes
    ) -> list[Result]:
        duplicates, refusals = decode_reply(reply)
        given = dict(zip(write.positions, write.items, strict=True))
        bodies = self._cursor.execute(_STORED_RANGE, (log.tenant, first_seq, stored)).fetchall()
        entries = enumerate(bodies, first_seq)
        results: list[Result] = []
        for index in range(len(duplicates) + len(refusals) + stored):
            if index in refusals:
                results.append(refused(refusals[index]))
                continue
            if index in duplicates:
                seq = duplicates[index]
                payload, first_provenance_id = self._cursor.execute(_STORED_ENTRY, (log.tenant, seq)).get
            else:
                seq, (payload,) = next(entries)
                first_provenance_id = provenance_id
            # Of an erased body only the caller knows the content.
            item = given.get(index) if payload is None else decode_signal(payload)
            results.append(Result(Outcome.DUPLICATE, seq, first_provenance_id, item))
        return results


def _unchanged(item: Item, old: Superseded, provenance_id: str) -> Result:
    """What became of an item whose key is taken and stays as it is."""
    if old.item == item:
        return Result(Outcome.DUPLICATE, old.seq, provenance_id, item)
    return refused(conflict(item, old.seq))

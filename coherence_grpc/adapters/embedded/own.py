"""Entries that the server makes itself, but for PRUNED; all of it runs in the writer's thread."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from coherence_grpc.adapters.embedded import reads
from coherence_grpc.adapters.embedded.append import FIND_REQUEST
from coherence_grpc.ledger import provenance_digest
from coherence_grpc.model import Entry, EntryKind
from coherence_grpc.replies import etag_mismatch, reused

if TYPE_CHECKING:
    import apsw

    from coherence_grpc.adapters.embedded.append import HeadRow, Log
    from coherence_grpc.model import Provenance

_ADD_POLICY: Final = "INSERT INTO policies VALUES (?, ?)"


class Own(NamedTuple):
    """The entry, and the head after it; None when it was there already."""

    entry: Entry
    head: HeadRow | None


def add(
    cursor: apsw.Cursor,
    log: Log,
    record: int,
    provenance: Provenance,
    *,
    kind: EntryKind,
    payload: bytes,
    based_on: int | None,
) -> Own:
    """Puts the entry behind the log, unless the request did before.

    Raises:
        RequestIdReused, EtagMismatch: as the port says.
    """
    known = cursor.execute(FIND_REQUEST, (log.tenant, provenance.request_id)).fetchone()
    if known is not None:
        _, _, request_hash, first_seq, *_ = known
        if request_hash != provenance.request_hash:
            raise reused(provenance)
        (entry,) = reads.tail(cursor.connection, log.tenant_id, log.tenant, first_seq - 1, 1)
        return Own(entry, None)
    newest = reads.policy(cursor.connection, log.tenant, None)
    if based_on is not None and newest.seq != based_on:
        raise etag_mismatch(log.tenant_id, newest.etag)
    (head_hash,) = log.extend(record, provenance_digest(provenance), kind, [payload])
    log.add_record(record, provenance, log.seq, 1, b"")
    if kind is EntryKind.POLICY:
        cursor.execute(_ADD_POLICY, (log.tenant, log.seq))
    entry = Entry(
        tenant_id=log.tenant_id,
        seq=log.seq,
        kind=kind,
        item=None,
        erased=False,
        provenance_id=provenance.provenance_id,
        recorded_at=log.recorded_at,
        head_hash=head_hash,
        backfill=provenance.backfill,
        traceparent=provenance.traceparent,
        payload=payload,
    )
    return Own(entry, log.move_head())

"""Entries that the server makes itself, and the policies among them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from coherence_grpc.adapters.neo4j.append import lock_heads, record_of
from coherence_grpc.adapters.neo4j.instants import instant, microseconds
from coherence_grpc.adapters.neo4j.keeping import KEPT
from coherence_grpc.adapters.neo4j.numbering import Log, New
from coherence_grpc.ledger import provenance_digest
from coherence_grpc.model import Entry, EntryKind
from coherence_grpc.policy import UNWRITTEN, version_of
from coherence_grpc.replies import etag_mismatch, reused

if TYPE_CHECKING:
    from coherence_grpc.adapters.neo4j.graph import Statements
    from coherence_grpc.adapters.neo4j.taking import Ask
    from coherence_grpc.model import Provenance
    from coherence_grpc.policy import PolicyVersion

# No log is so long.
BEYOND: Final = 2**63 - 1

ADD: Final = f"""{KEPT}
MATCH (t:Tenant {{tenant_id: $tenant_id}})
CREATE (p:Provenance)
SET p = $record, p.received_at = {instant("$received_at")}
CREATE (e:Entry {{
    tenant_id: $tenant_id, seq: $seq, epoch: $epoch, kind: $kind, recorded_at: {instant("$recorded_at")},
    provenance_id: $record.provenance_id, payload: $payload, entry_hash: $entry_hash, head_hash: $head_hash
}})
FOREACH (_ IN CASE WHEN $kind = {EntryKind.POLICY:d} THEN [e] ELSE [] END | SET e:Policy)
SET t.head_seq = $seq, t.head_hash = $head_hash, t.head_time = {instant("$recorded_at")}
"""
# The index is walked backwards from the number.
POLICIES: Final = f"""{KEPT}
MATCH (e:Policy)
USING INDEX SEEK e:Policy(tenant_id, seq)
WHERE e.tenant_id = $tenant_id AND e.seq < $before
WITH e ORDER BY e.tenant_id DESC, e.seq DESC LIMIT $limit
RETURN collect([e.seq, e.payload, {microseconds("e.recorded_at")}, e.provenance_id])
"""


class Own(NamedTuple):
    """An entry that carries no signal."""

    tenant_id: str
    kind: EntryKind
    payload: bytes
    provenance: Provenance


class Added(NamedTuple):
    """The number of an entry; None for the entry itself: it was there already."""

    seq: int
    entry: Entry | None


async def add(transaction: Statements, own: Own, *, epoch: int, now: int, based_on: int | None) -> Added:
    """Puts the entry behind the log, unless its request did before.

    Raises:
        RequestIdReused, EtagMismatch: as the port says.
        StoreDown: the log was rebuilt since it was opened.
    """
    tenant_id, provenance = own.tenant_id, own.provenance
    heads, requests = await lock_heads(
        transaction, {tenant_id: (provenance.request_id,)}, epoch=epoch, lock=provenance.provenance_id
    )
    known = requests.get((tenant_id, provenance.request_id))
    if known is not None:
        if known.request_hash != provenance.request_hash:
            raise reused(provenance)
        return Added(known.first_seq, None)
    if based_on is not None:
        newest = await newest_policy(transaction.ask, tenant_id)
        if newest.seq != based_on:
            raise etag_mismatch(tenant_id, newest.etag)
    log = Log(tenant_id, heads[tenant_id], epoch=epoch, now=now)
    await extend(transaction, log, own, epoch=epoch)
    return Added(log.seq, _entry(own, log))


async def extend(transaction: Statements, log: Log, own: Own, *, epoch: int) -> None:
    """Puts the entry behind the log, whose head is locked, and its provenance beside it."""
    new = New(own.kind, own.payload)
    ((entry_hash, head_hash),) = log.hashes(provenance_digest(own.provenance), [new])
    await transaction.change(
        ADD,
        tenant_id=own.tenant_id,
        record=record_of(own.provenance, log.seq, 1, b""),
        received_at=own.provenance.received_at,
        seq=log.seq,
        epoch=epoch,
        kind=int(own.kind),
        recorded_at=log.recorded_at,
        payload=own.payload,
        entry_hash=entry_hash,
        head_hash=head_hash,
    )


def _entry(own: Own, log: Log) -> Entry:
    """The entry at the end of the log."""
    return Entry(
        tenant_id=own.tenant_id,
        seq=log.seq,
        kind=own.kind,
        item=None,
        erased=False,
        provenance_id=own.provenance.provenance_id,
        recorded_at=log.recorded_at,
        head_hash=log.head_hash,
        backfill=own.provenance.backfill,
        traceparent=own.provenance.traceparent,
        payload=own.payload,
    )


async def newest_policy(ask: Ask, tenant_id: str, *, at: int | None = None) -> PolicyVersion:
    """The newest policy, or the newest up to entry `at`."""
    found = await policies(ask, tenant_id, before=None if at is None else at + 1, limit=1)
    return found[0] if found else UNWRITTEN


async def policies(ask: Ask, tenant_id: str, *, before: int | None, limit: int) -> list[PolicyVersion]:
    """The policies before the entry, newest first."""
    (found,) = await ask(POLICIES, tenant_id=tenant_id, before=BEYOND if before is None else before, limit=limit)
    return [version_of(seq, bytes(payload), recorded_at, record) for seq, payload, recorded_at, record in found]

"""Writing to the logs: lock the heads and look up what is known, number and hash here, write what is new."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, NamedTuple

from coherence_grpc.adapters.neo4j.instants import instant, microseconds
from coherence_grpc.adapters.neo4j.keeping import KEPT
from coherence_grpc.adapters.neo4j.numbering import Batch, Facts, HeadRow, Request, Stored
from coherence_grpc.errors import StoreDown
from coherence_grpc.failpoints import failpoint
from coherence_grpc.model import GENESIS, EntryKind, Item
from coherence_grpc.replies import decode_reply
from coherence_grpc.shards import shard_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from coherence_grpc.adapters.neo4j.graph import Statements
    from coherence_grpc.adapters.neo4j.numbering import Growth
    from coherence_grpc.errors import CoherenceError
    from coherence_grpc.model import Appended, Provenance, Write

# Locks each head before it is read, in the order of the tenants: reading first loses updates, another order deadlocks.
# A tenant that is new is made here, so that the next one to write to it waits.
LOCK: Final = f"""{KEPT}
MATCH (m:Meta {{name: 'signals'}})
UNWIND $tenants AS row
MERGE (t:Tenant {{tenant_id: row.tenant_id}})
ON CREATE SET t.head_seq = 0, t.head_hash = $genesis, t.shard = row.shard
SET t.lock = $lock
WITH m, t, row
CALL (t, row) {{
    UNWIND row.request_ids AS request_id
    MATCH (p:Provenance {{tenant_id: t.tenant_id, request_id: request_id}})
    RETURN collect([p.request_id, p.provenance_id, p.request_hash, p.first_seq, p.stored, p.reply]) AS requests
}}
WITH m.epoch AS epoch, [
    t.tenant_id, t.head_seq, t.head_hash,
    coalesce({microseconds("t.head_time")}, 0), coalesce({microseconds("t.newest_ts")}, -1),
    coalesce(t.replacing, false), requests
] AS log
RETURN epoch, collect(log)
"""
# Without the hint a read may take the index of tenant and ts, and look at every signal of an instant.
FIND_SIGNALS: Final = f"""{KEPT}
UNWIND $keys AS key
MATCH (s:Signal {{tenant_id: key[0], source: key[1], signal_id: key[2], ts: {instant("key[3]")}}})
USING INDEX SEEK s:Signal(tenant_id, source, signal_id, ts)
RETURN collect([key, s.seq, s.type, s.value_q, s.weight_q, s.provenance_id])
"""
FIND_ENTRIES: Final = f"""
UNWIND $entries AS entry
MATCH (e:Entry {{tenant_id: entry[0], seq: entry[1]}})
RETURN collect([
    entry, e.provenance_id, e.source, e.signal_id, e.type, e.value_q, e.weight_q, {microseconds("e.ts")}
])
"""
EXTEND: Final = f"""{KEPT}
UNWIND $logs AS log
MATCH (t:Tenant {{tenant_id: log.tenant_id}})
SET t.head_seq = log.seq, t.head_hash = log.head_hash, t.head_time = {instant("log.recorded_at")},
    t.newest_ts = {instant("log.newest_ts")}
WITH t, log, {instant("log.recorded_at")} AS recorded_at
UNWIND log.writes AS write
CREATE (p:Provenance)
SET p = write.record, p.received_at = {instant("write.received_at")}
WITH t, log, recorded_at, write
UNWIND write.rows AS row
CREATE (t)-[:EMITS]->(:Entry:Signal {{
    tenant_id: log.tenant_id, seq: row[6], epoch: $epoch, kind: $kind, recorded_at: recorded_at,
    provenance_id: write.record.provenance_id, retention: write.record.retention,
    source: row[0], signal_id: row[1], type: row[2], value_q: row[3], weight_q: row[4], ts: {instant("row[5]")},
    entry_hash: row[7], head_hash: row[8]
}})
"""


# Before the first signal of a tenant is replaced, in a commit of its own: who reads and does not find this here read
# nothing of a replacement, however little of its commit was shown yet.
ANNOUNCE: Final = f"""{KEPT}
UNWIND $tenant_ids AS tenant_id
MERGE (t:Tenant {{tenant_id: tenant_id}})
ON CREATE SET t.head_seq = 0, t.head_hash = $genesis, t.shard = $shards[tenant_id]
SET t.replacing = true
"""
# What a signal was until now. It goes before the new one comes, whose key is the same.
SUPERSEDE: Final = f"""{KEPT}
UNWIND $superseded AS row
MATCH (e:Entry {{tenant_id: row[0], seq: row[1]}})
MATCH (e)<-[emits:EMITS]-(:Tenant)
DELETE emits
REMOVE e:Signal
SET e:Superseded, e.superseded_seq = row[2]
"""
# One that is superseded within its own transaction never is its signal.
REPLACE: Final = f"""{KEPT}
UNWIND $logs AS log
MATCH (t:Tenant {{tenant_id: log.tenant_id}})
WITH t, log, {instant("log.recorded_at")} AS recorded_at
UNWIND log.writes AS write
WITH t, log, recorded_at, write
UNWIND write.others AS row
CREATE (e:Entry {{
    tenant_id: log.tenant_id, seq: row[6], epoch: $epoch, kind: row[9], recorded_at: recorded_at,
    provenance_id: write.record.provenance_id, retention: write.record.retention,
    source: row[0], signal_id: row[1], type: row[2], value_q: row[3], weight_q: row[4], ts: {instant("row[5]")},
    entry_hash: row[7], head_hash: row[8], superseded: row[10], superseded_seq: row[11]
}})
FOREACH (_ IN CASE WHEN row[11] IS NULL THEN [t] ELSE [] END | SET e:Signal CREATE (t)-[:EMITS]->(e))
FOREACH (_ IN CASE WHEN row[11] IS NULL THEN [] ELSE [t] END | SET e:Superseded)
"""


class Committed(NamedTuple):
    """What a transaction did: the answers, and how far each log reached in it.

    Nothing was done when tenants are `unannounced`, whose readers have to be told first that signals are replaced.
    """

    answers: Sequence[Appended | CoherenceError]
    seqs: Mapping[str, int]
    unannounced: Sequence[str] = ()


async def append(transaction: Statements, writes: Sequence[Write], *, epoch: int, now: int, lock: str) -> Committed:
    """Applies the writes in one transaction.

    Raises:
        StoreDown: the log was rebuilt since it was opened.
    """
    heads, requests = await lock_heads(transaction, _request_ids(writes), epoch=epoch, lock=lock)
    fresh = [write for write in writes if (write.tenant_id, write.provenance.request_id) not in requests]
    signals = await _signals(transaction, heads, fresh)
    entries = await _entries(transaction, requests)
    batch = Batch(Facts(heads, requests, signals, entries), epoch=epoch, now=now)
    answers = batch.apply(writes)
    unannounced = [tenant_id for tenant_id, log in batch.logs.items() if log.unannounced]
    unannounced = [tenant_id for tenant_id, log in batch.logs.items() if log.unannounced]
    growth = [log.growth for log in batch.logs.values()]
    if not unannounced:
        await _extend(transaction, [one for one in growth if one.writes], epoch)
    return Committed(answers, {tenant_id: log.seq for tenant_id, log in batch.logs.items()}, unannounced)


async def _extend(transaction: Statements, growth: Sequence[Growth], epoch: int) -> None:
    if not growth:
        return
    superseded = [[one.tenant_id, *pair] for one in growth for pair in one.superseded.items()]
    if superseded:
        await transaction.change(SUPERSEDE, superseded=superseded)
    logs = [_log(one) for one in growth]
    await transaction.change(EXTEND, logs=logs, epoch=epoch, kind=int(EntryKind.STORED))
    if any(write.others for one in growth for write in one.writes):
        await transaction.change(REPLACE, logs=logs, epoch=epoch)
    failpoint("append.written")


async def announce(transaction: Statements, tenant_ids: Sequence[str]) -> None:
    """Tells who reads these logs that signals of theirs are replaced from now on."""
    shards = {tenant_id: shard_of(tenant_id) for tenant_id in tenant_ids}
    await transaction.change(ANNOUNCE, tenant_ids=sorted(tenant_ids), shards=shards, genesis=GENESIS)


async def lock_heads(
    transaction: Statements, request_ids: Mapping[str, Iterable[str]], *, epoch: int, lock: str
) -> tuple[Mapping[str, HeadRow], Mapping[tuple[str, str], Request]]:
    """The tenants' heads, locked until the transaction ends, and what is remembered of the requests.

    Raises:
        StoreDown: the log was rebuilt since it was opened.
    """
    tenants = [
        {"tenant_id": tenant_id, "shard": shard_of(tenant_id), "request_ids": sorted(set(ids))}
        for tenant_id, ids in sorted(request_ids.items())
    ]
    found = await transaction.ask(LOCK, tenants=tenants, genesis=GENESIS, lock=lock)
    if not found or found[0] != epoch:
        message = "the log was rebuilt or replaced while it was in use; nothing was stored, restart the server"
        raise StoreDown(message)
    heads: dict[str, HeadRow] = {}
    requests: dict[tuple[str, str], Request] = {}
    for tenant_id, *head, known in found[1]:
        heads[tenant_id] = HeadRow(*head)
        for request_id, provenance_id, request_hash, first_seq, stored, reply in known:
            requests[tenant_id, request_id] = Request(
                provenance_id, request_hash, first_seq, stored, decode_reply(reply)
            )
    return heads, requests


def _request_ids(writes: Sequence[Write]) -> Mapping[str, Iterable[str]]:
    found: dict[str, list[str]] = {}
    for write in writes:
        found.setdefault(write.tenant_id, []).append(write.provenance.request_id)
    return found


async def _signals(
    transaction: Statements, heads: Mapping[str, HeadRow], writes: Sequence[Write]
) -> Mapping[tuple[str, str, str, int], Stored]:
    # What is newer than all that was ever stored can't be there: a feed in order is never looked up.
    keys = {
        (write.tenant_id, item.source, item.signal_id, item.ts)
        for write in writes
        for item in write.items
        if item.ts <= heads[write.tenant_id].newest_ts
    }
    if not keys:
        return {}
    (found,) = await transaction.ask(FIND_SIGNALS, keys=[list(key) for key in keys])
    return {tuple(key): Stored(*stored) for key, *stored in found}


async def _entries(
    transaction: Statements, requests: Mapping[tuple[str, str], Request]
) -> Mapping[tuple[str, int], tuple[str, Item | None]]:
    wanted = [
        [tenant_id, seq]
        for (tenant_id, _), request in requests.items()
        for seq in request.reply.indexes(request.first_seq, request.stored)
        if isinstance(seq, int)
    ]
    if not wanted:
        return {}
    (found,) = await transaction.ask(FIND_ENTRIES, entries=wanted)
    return {
        (tenant_id, seq): (provenance_id, None if None in item else Item(*item))
        for (tenant_id, seq), provenance_id, *item in found
    }


def _log(growth: Growth) -> dict[str, Any]:
    return {
        "tenant_id": growth.tenant_id,
        "seq": growth.seq,
        "head_hash": growth.head_hash,
        "recorded_at": growth.recorded_at,
        "newest_ts": growth.newest_ts,
        "writes": [
            {
                "record": record_of(write.provenance, write.first_seq, write.stored, write.reply),
                "received_at": write.provenance.received_at,
                "rows": write.rows,
                "others": write.others,
            }
            for write in growth.writes
        ],
    }


def record_of(provenance: Provenance, first_seq: int, stored: int, reply: bytes) -> dict[str, Any]:
    """The properties of a provenance node, but for the instant that it was received at."""
    tags = provenance.tags
    return {
        "provenance_id": provenance.provenance_id,
        "tenant_id": provenance.tenant_id,
        "request_id": provenance.request_id,
        "request_hash": provenance.request_hash,
        "purpose": tags.purpose.value,
        "retention": tags.retention.value,
        "license": tags.license.value,
        "residency": tags.residency.value,
        "principal": provenance.principal,
        "transport": provenance.transport,
        "traceparent": provenance.traceparent,
        "backfill": provenance.backfill,
        "first_seq": first_seq,
        "stored": stored,
        "reply": reply,
    }

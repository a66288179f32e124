"""The reference of ingest on Neo4j: a bare script in a process of its own, without gRPC, use cases or replies.

It parses the same bytes, locks the head, computes the same entry and chain hashes and writes the same nodes, relations
and properties under the same constraints, a transaction a request. It neither validates nor looks for duplicates nor
keeps a window.
"""

from __future__ import annotations

from hashlib import sha256
from time import perf_counter, time_ns
from typing import TYPE_CHECKING, Any, Final

from neo4j import GraphDatabase

from bench.requests import batches
from bench.worker import Job, answer, job, say_ready, wait_for_go
from coherence.v1.ingest_pb2 import PublishSignalsRequest
from coherence_grpc.ledger import EntryHasher, chain, encode_signal
from coherence_grpc.model import GENESIS, QUANTUM, EntryKind

if TYPE_CHECKING:
    from collections.abc import Sequence

    from neo4j import ManagedTransaction, Session

REQUESTS: Final = ("size", "count", "first", "start_us", "tenants")
KIND: Final = int(EntryKind.STORED)
MICROS: Final = 1_000_000
EPOCH: Final = 1
ENROL: Final = """
UNWIND $tenants AS tenant_id
MERGE (t:Tenant {tenant_id: tenant_id})
ON CREATE SET t.head_seq = 0, t.head_hash = $genesis, t.shard = 0
"""
LOCK: Final = """
MATCH (t:Tenant {tenant_id: $tenant_id})
SET t.lock = $lock
RETURN t.head_seq, t.head_hash
"""
EXTEND: Final = """
WITH datetime.fromEpoch($at / 1000000, $at % 1000000 * 1000) AS at
MATCH (t:Tenant {tenant_id: $tenant_id})
SET t.head_seq = $seq, t.head_hash = $head_hash, t.head_time = at,
    t.newest_ts = datetime.fromEpoch($newest_ts / 1000000, $newest_ts % 1000000 * 1000)
CREATE (p:Provenance)
SET p = $record, p.received_at = at
WITH t, at
UNWIND $rows AS row
CREATE (t)-[:EMITS]->(:Entry:Signal {
    tenant_id: $tenant_id, seq: row[6], epoch: $epoch, kind: $kind, recorded_at: at,
    provenance_id: $record.provenance_id, retention: $record.retention,
    source: row[0], signal_id: row[1], type: row[2], value_q: row[3], weight_q: row[4],
    ts: datetime.fromEpoch(row[5] / 1000000, row[5] % 1000000 * 1000),
    entry_hash: row[7], head_hash: row[8]
})
"""
TAGS: Final = {
    "purpose": "benchmarking",
    "retention": "standard-365d",
    "license": "Restricted-TOS",
    "residency": "US",
    "principal": "raw",
    "transport": "raw",
    "traceparent": "",
    "backfill": False,
    "reply": b"",
}


def tenant_of(request: PublishSignalsRequest) -> str:
    """A tenant beside the service's own: two writers to one log would only wait for each other."""
    return f"raw-{request.tenant_id}"


def store(transaction: ManagedTransaction, request: PublishSignalsRequest, digest: bytes) -> None:
    """One request in one transaction."""
    tenant_id = tenant_of(request)
    found = transaction.run(LOCK, tenant_id=tenant_id, lock=request.request_id).single(strict=True)
    seq, head = found.values()
    at = time_ns() // 1000
    hasher = EntryHasher(EPOCH, tenant_id, at, digest)
    first_seq, rows = seq + 1, list[list[Any]]()
    for signal in request.signals:
        seq += 1
        value_q, weight_q = round(signal.value * QUANTUM), round(signal.weight * QUANTUM)
        ts = signal.ts.seconds * MICROS + signal.ts.nanos // 1000
        item = (signal.source, signal.signal_id, signal.type, value_q, weight_q, ts)
        own = hasher.entry_hash(seq, KIND, encode_signal(*item))
        head = chain(head, own)
        rows.append([*item, seq, own, head])
    record = TAGS | {
        "provenance_id": f"raw-{request.request_id}",
        "tenant_id": tenant_id,
        "request_id": request.request_id,
        "request_hash": digest,
        "first_seq": first_seq,
        "stored": len(rows),
    }
    transaction.run(
        EXTEND,
        tenant_id=tenant_id,
        seq=seq,
        head_hash=head,
        at=at,
        newest_ts=rows[-1][5],
        record=record,
        rows=rows,
        epoch=EPOCH,
        kind=KIND,
    ).consume()


def run(session: Session, bodies: Sequence[bytes]) -> float:
    """Store them all; how long it took."""
    begun = perf_counter()
    for body in bodies:
        session.execute_write(store, PublishSignalsRequest.FromString(body), sha256(body).digest())
    return perf_counter() - begun


def work(asked: Job) -> dict[str, float]:
    """Prepare, wait for go, store; signals a second."""
    bodies = list(batches(**{name: asked[name] for name in REQUESTS}))
    tenants = sorted({tenant_of(PublishSignalsRequest.FromString(body)) for body in bodies})
    with (
        GraphDatabase.driver(asked["uri"], auth=(asked["user"], asked["password"])) as driver,
        driver.session(database="neo4j") as session,
    ):
        session.run(ENROL, tenants=tenants, genesis=GENESIS).consume()
        say_ready()
        wait_for_go()
        elapsed_s = run(session, bodies)
    return {"elapsed_s": elapsed_s, "per_second": asked["size"] * asked["count"] / elapsed_s}


if __name__ == "__main__":
    answer(work(job()))

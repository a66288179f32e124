"""The reference of ingest: a bare loop in a process of its own, without gRPC, use cases or replies.

It parses the same bytes, writes the same rows to the same tables, computes the same entry and chain hashes and commits
as durably, `group` requests a commit. It neither validates nor looks for duplicates nor keeps a window.
"""

from __future__ import annotations

from hashlib import sha256
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Final

import apsw

from bench.requests import batches
from bench.worker import Job, answer, job, say_ready, wait_for_go
from coherence.v1.ingest_pb2 import PublishSignalRequest, PublishSignalsRequest
from coherence_grpc.adapters.embedded.opening import open_writer
from coherence_grpc.adapters.embedded.schema import SIGNALS
from coherence_grpc.ledger import EntryHasher, chain, encode_signal
from coherence_grpc.model import GENESIS, QUANTUM, EntryKind

if TYPE_CHECKING:
    from collections.abc import Sequence

    from coherence.v1.signal_pb2 import Signal

HEAD: Final = "INSERT INTO heads (tenant, tenant_id, seq, head_hash, recorded_at) VALUES (?, ?, 0, ?, 0)"
MOVED: Final = "UPDATE heads SET seq = ?, head_hash = ?, recorded_at = ? WHERE tenant = ?"
RECORD: Final = "INSERT INTO provenance VALUES (?, ?, ?, ?, ?, '', '', '', '', '', '', ?, '', 0, ?, ?, x'')"
ENTRY: Final = "INSERT INTO entries VALUES (?, ?, 1, 1, ?, NULL, ?, ?, ?, ?)"
STORED: Final = "INSERT INTO signals VALUES (?, ?, ?, ?, ?, ?, ?, ?, 1)"
KIND: Final = int(EntryKind.STORED)
WAL_BYTES: Final = 64 * 2**20
MICROS: Final = 1_000_000
REQUESTS: Final = ("size", "count", "first", "start_us", "tenants")


class Loop:
    """One writing connection, and where each tenant's log stands."""

    def __init__(self, path: Path) -> None:
        self._connection = open_writer(path, SIGNALS)
        self._cursor = self._connection.cursor()
        self._wal = path.with_name(path.name + "-wal")
        self._heads: dict[str, tuple[int, int, bytes]] = {
            tenant_id: (tenant, seq, head_hash)
            for tenant, tenant_id, seq, head_hash in self._cursor.execute(
                "SELECT tenant, tenant_id, seq, head_hash FROM heads"
            )
        }
        self._record = next(self._cursor.execute("SELECT coalesce(max(record), 0) FROM provenance"))[0]

    def run(self, bodies: Sequence[bytes], *, single: bool, group: int) -> float:
        """Store them all, `group` requests a commit; how long it took."""
        begun = perf_counter()
        for first in range(0, len(bodies), group):
            self._cursor.execute("BEGIN IMMEDIATE")
            for body in bodies[first : first + group]:
                self._store(body, single=single)
            self._cursor.execute("COMMIT")
            if self._wal.stat().st_size > WAL_BYTES:
                self._connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_TRUNCATE)
        return perf_counter() - begun

    def _store(self, body: bytes, *, single: bool) -> None:
        tenant_id, request_id, signals, at = _parsed(body, single=single)
        tenant, seq, head = self._heads.get(tenant_id) or self._enrol(tenant_id)
        self._record += 1
        digest = sha256(body).digest()
        hasher = EntryHasher(1, tenant_id, at, digest)
        entries, rows, first = [], [], seq + 1
        for signal in signals:
            seq += 1
            source, signal_id, type_ = signal.source, signal.signal_id, signal.type
            value_q, weight_q = round(signal.value * QUANTUM), round(signal.weight * QUANTUM)
            ts = signal.ts.seconds * MICROS + signal.ts.nanos // 1000
            payload = encode_signal(source, signal_id, type_, value_q, weight_q, ts)
            entry_hash = hasher.entry_hash(seq, KIND, payload)
            head = chain(head, entry_hash)
            entries.append((tenant, seq, payload, self._record, at, entry_hash, head))
            rows.append((tenant, ts, source, signal_id, seq, value_q, weight_q, type_))
        self._cursor.execute(RECORD, (self._record, tenant, request_id, request_id, digest, at, first, len(rows)))
        self._cursor.executemany(ENTRY, entries)
        self._cursor.executemany(STORED, rows)
        self._cursor.execute(MOVED, (seq, head, at, tenant))
        self._heads[tenant_id] = (tenant, seq, head)

    def _enrol(self, tenant_id: str) -> tuple[int, int, bytes]:
        head = len(self._heads) + 1, 0, GENESIS
        self._cursor.execute(HEAD, (head[0], tenant_id, GENESIS))
        return head


def _parsed(body: bytes, *, single: bool) -> tuple[str, str, Sequence[Signal], int]:
    if single:
        one = PublishSignalRequest.FromString(body)
        return one.signal.tenant_id, one.request_id, (one.signal,), one.signal.ts.seconds * MICROS
    batch = PublishSignalsRequest.FromString(body)
    return batch.tenant_id, batch.request_id, batch.signals, batch.signals[0].ts.seconds * MICROS


def work(asked: Job) -> dict[str, float]:
    """Prepare, wait for go, store; signals a second."""
    bodies = list(batches(**{name: asked[name] for name in REQUESTS}))
    loop = Loop(Path(asked["path"]))
    say_ready()
    wait_for_go()
    elapsed_s = loop.run(bodies, single=asked["size"] == 1, group=asked["group"])
    return {"elapsed_s": elapsed_s, "per_second": asked["size"] * asked["count"] / elapsed_s}


if __name__ == "__main__":
    answer(work(job()))

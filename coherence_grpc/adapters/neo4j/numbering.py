"""What becomes of the writes of one transaction, given what the graph knows: outcomes, numbers and hashes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, NamedTuple

from coherence_grpc.errors import CoherenceError
from coherence_grpc.ledger import EntryHasher, chain, provenance_digest
from coherence_grpc.model import Appended, EntryKind, Head, Item, Outcome, Result
from coherence_grpc.replies import Reply, conflict, encode_reply, refused, reused

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from coherence_grpc.model import Provenance, Write


class HeadRow(NamedTuple):
    """Where a tenant's log stands, and the newest ts that was ever stored in it (-1: none)."""

    seq: int
    head_hash: bytes
    recorded_at: int
    newest_ts: int


class Stored(NamedTuple):
    """What is stored under a key."""

    seq: int
    type: str
    value_q: int
    weight_q: int
    provenance_id: str


class Request(NamedTuple):
    """What is remembered of a request that stored something."""

    provenance_id: str
    request_hash: bytes
    first_seq: int
    stored: int
    reply: Reply


class Facts(NamedTuple):
    """What the graph knows of the writes.

    Signals are found by tenant, source, signal_id and ts, requests by tenant and request_id, entries by tenant and
    seq: each with its provenance and its signal, which is None when its body was erased.
    """

    heads: Mapping[str, HeadRow]
    requests: Mapping[tuple[str, str], Request]
    signals: Mapping[tuple[str, str, str, int], Stored]
    entries: Mapping[tuple[str, int], tuple[str, Item | None]]


class Addition(NamedTuple):
    """What one write adds: its record and a row for each new entry."""

    provenance: Provenance
    first_seq: int
    rows: Sequence[Sequence[Any]]
    reply: bytes


class Growth(NamedTuple):
    """What a transaction adds to one log, and where that then stands."""

    tenant_id: str
    seq: int
    head_hash: bytes
    recorded_at: int
    newest_ts: int
    writes: Sequence[Addition]


class _Done(NamedTuple):
    """What a write did, but for the head that its whole group leads to."""

    write: Write
    results: Sequence[Result]
    first_seq: int
    stored: Sequence[Item]
    hashes: Sequence[bytes]


class Log:
    """The end of one tenant's log within a transaction."""

    def __init__(self, tenant_id: str, head: HeadRow, *, epoch: int, now: int) -> None:
        self._tenant_id = tenant_id
        self._epoch = epoch
        self.seq, self.head_hash, newest, self._newest_ts = head
        self.recorded_at = max(now, newest)
        self._additions: list[Addition] = []

    @property
    def growth(self) -> Growth:
        """What was added to it."""
        return Growth(self._tenant_id, self.seq, self.head_hash, self.recorded_at, self._newest_ts, self._additions)

    @property
    def head(self) -> Head:
        """Where it stands."""
        return Head(self._epoch, self.seq, self.head_hash)

    def hashes(self, digest: bytes, kind: EntryKind, payloads: Sequence[bytes]) -> list[tuple[bytes, bytes]]:
        """Puts entries behind the end; the hash of each, and the chain's after it."""
        entry_hash = EntryHasher(self._epoch, self._tenant_id, self.recorded_at, digest).entry_hash
        head = self.head_hash
        found = []
        for seq, payload in enumerate(payloads, self.seq + 1):
            own = entry_hash(seq, kind, payload)
            head = chain(head, own)
            found.append((own, head))
        self.seq += len(payloads)
        self.head_hash = head
        return found

    def add(
        self, provenance: Provenance, kind: EntryKind, items: Sequence[Item], payloads: Sequence[bytes], reply: bytes
    ) -> list[bytes]:
        """Puts a write's signals behind the end; the chain's hash after each."""
        first_seq = self.seq + 1
        hashes = self.hashes(provenance_digest(provenance), kind, payloads)
        rows = [
            [*item, seq, own, head]
            for seq, (item, (own, head)) in enumerate(zip(items, hashes, strict=True), first_seq)
        ]
        self._additions.append(Addition(provenance, first_seq, rows, reply))
        self._newest_ts = max(self._newest_ts, *(item.ts for item in items))
        return [head for _, head in hashes]


class Batch:
    """The writes of one transaction; `logs` is what it makes of each tenant's log."""

    KIND: Final = EntryKind.STORED

    def __init__(self, facts: Facts, *, epoch: int, now: int) -> None:
        self._requests = dict(facts.requests)
        self._signals = dict(facts.signals)
        self._entries = dict(facts.entries)
        self.logs = {tenant_id: Log(tenant_id, head, epoch=epoch, now=now) for tenant_id, head in facts.heads.items()}

    def apply(self, writes: Sequence[Write]) -> list[Appended | CoherenceError]:
        """What became of each write, in order."""
        done = [self._write(write) for write in writes]
        return [one if isinstance(one, CoherenceError) else self._appended(one) for one in done]

    def _appended(self, done: _Done) -> Appended:
        log = self.logs[done.write.tenant_id]
        return Appended(*done, log.recorded_at, log.head)

    def _write(self, write: Write) -> _Done | CoherenceError:
        provenance = write.provenance
        known = self._requests.get((write.tenant_id, provenance.request_id))
        if known is None:
            return self._store(write)
        if known.request_hash != provenance.request_hash:
            return reused(provenance)
        return _Done(write, self._replay(write, known), 0, (), ())

    def _store(self, write: Write) -> _Done:
        log = self.logs[write.tenant_id]
        first_seq = log.seq + 1
        results, stored, payloads = self._sort(write, first_seq)
        if not stored:
            return _Done(write, results, 0, (), ())
        reply = b"" if len(stored) == len(results) else encode_reply(results)
        hashes = log.add(write.provenance, self.KIND, stored, payloads, reply)
        self._remember(write, first_seq, stored, results)
        return _Done(write, results, first_seq, stored, hashes)

    def _sort(self, write: Write, seq: int) -> tuple[list[Result], list[Item], list[bytes]]:
        tenant_id, provenance_id = write.tenant_id, write.provenance.provenance_id
        results: list[Result | None] = [None] * (len(write.items) + len(write.refused))
        stored: list[Item] = []
        payloads: list[bytes] = []
        for item, payload, position in zip(write.items, write.payloads, write.positions, strict=True):
            source, signal_id, type_, value_q, weight_q, ts = item
            key = (tenant_id, source, signal_id, ts)
            known = self._signals.get(key)
            if known is None:
                self._signals[key] = Stored(seq, type_, value_q, weight_q, provenance_id)
                results[position] = Result(Outcome.STORED, seq, provenance_id, item)
                stored.append(item)
                payloads.append(payload)
                seq += 1
            elif known[1:4] == (type_, value_q, weight_q):
                results[position] = Result(Outcome.DUPLICATE, known.seq, known.provenance_id, item)
            else:
                results[position] = refused(conflict(item, known.seq))
        for position, error in write.refused.items():
            results[position] = refused(error)
        return [result for result in results if result is not None], stored, payloads

    def _remember(self, write: Write, first_seq: int, stored: Sequence[Item], results: Sequence[Result]) -> None:
        """Lets a later write of the transaction find the request again."""
        provenance = write.provenance
        for result in results:
            if result.outcome is not None:
                self._entries[write.tenant_id, result.seq] = result.provenance_id, result.item
        reply = Reply(
            {index: result.seq for index, result in enumerate(results) if result.outcome is Outcome.DUPLICATE},
            {index: result.error for index, result in enumerate(results) if result.error is not None},
        )
        self._requests[write.tenant_id, provenance.request_id] = Request(
            provenance.provenance_id, provenance.request_hash, first_seq, len(stored), reply
        )

    def _replay(self, write: Write, known: Request) -> list[Result]:
        given = dict(zip(write.positions, write.items, strict=True))
        results = []
        for index, was in enumerate(known.reply.indexes(known.first_seq, known.stored)):
            if isinstance(was, CoherenceError):
                results.append(refused(was))
                continue
            provenance_id, item = self._entries[write.tenant_id, was]
            # Of an erased body only the caller knows the content.
            results.append(Result(Outcome.DUPLICATE, was, provenance_id, item or given.get(index)))
        return results

"""What becomes of the writes of one transaction, given what the graph knows: outcomes, numbers and hashes."""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from coherence_grpc.errors import CoherenceError
from coherence_grpc.ledger import EntryHasher, chain, encode_signal, provenance_digest
from coherence_grpc.model import Appended, EntryKind, Head, Item, OnConflict, Outcome, Result
from coherence_grpc.replies import Reply, conflict, encode_reply, refused, reused

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from coherence_grpc.model import Provenance, Write

# Where a row has the number of its entry: behind the signal.
_SEQ: Final = len(Item._fields)
_NONE: Final[Mapping[int, Item]] = MappingProxyType({})


class HeadRow(NamedTuple):
    """Where a tenant's log stands, and the newest ts that was ever stored in it (-1: none).

    `replacing`: readers know that signals of the tenant are replaced.
    """

    seq: int
    head_hash: bytes
    recorded_at: int
    newest_ts: int
    replacing: bool


class Stored(NamedTuple):
    """What is stored under a key."""

    seq: int
    type: str
    value_q: int
    weight_q: int
    provenance_id: str

    def item(self, new: Item) -> Item:
        """The signal; `new` has the same key."""
        return new._replace(type=self.type, value_q=self.value_q, weight_q=self.weight_q)


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
    """What one write adds: its record, and a row for each of the `stored` new entries.

    `rows` are of signals with new keys. `others` are of those that take another's place, and of those whose place is
    taken within the transaction: such a row goes on with the kind, the payload that it supersedes or None, and the
    number of the entry that supersedes it or None.
    """

    provenance: Provenance
    first_seq: int
    stored: int
    rows: Sequence[Sequence[Any]]
    others: Sequence[Sequence[Any]]
    reply: bytes


class Growth(NamedTuple):
    """What a transaction adds to one log, and where that then stands.

    `superseded` has, by the number of each entry that was there and is its signal's no more, that of the one which took
    its place.
    """

    tenant_id: str
    seq: int
    head_hash: bytes
    recorded_at: int
    newest_ts: int
    writes: Sequence[Addition]
    superseded: Mapping[int, int]


class New(NamedTuple):
    """An entry that is to be numbered: what its hash covers beside its place."""

    kind: EntryKind
    payload: bytes
    superseded: bytes = b""


class _Sorted(NamedTuple):
    """What becomes of a write's signals, and by position in `stored` what a signal takes the place of."""

    results: Sequence[Result]
    stored: list[Item]
    payloads: list[bytes]
    superseded: dict[int, Stored]


class _Done(NamedTuple):
    """What a write did, but for the head that its whole group leads to."""

    write: Write
    results: Sequence[Result]
    first_seq: int = 0
    stored: Sequence[Item] = ()
    hashes: Sequence[bytes] = ()
    superseded: Mapping[int, Item] = _NONE


class Log:
    """The end of one tenant's log within a transaction."""

    def __init__(self, tenant_id: str, head: HeadRow, *, epoch: int, now: int) -> None:
        self._tenant_id = tenant_id
        self._epoch = epoch
        self.seq, self.head_hash, newest, self._newest_ts, self._replacing = head
        self.recorded_at = max(now, newest)
        self._before = self.seq
        self._additions: list[Addition] = []
        self._superseded: dict[int, int] = {}
        self._payloads: dict[int, bytes] = {}

    @property
    def growth(self) -> Growth:
        """What was added to it."""
        there = {seq: by for seq, by in self._superseded.items() if seq <= self._before}
        additions = [self._told_apart(one) for one in self._additions] if self._superseded else self._additions
        return Growth(self._tenant_id, self.seq, self.head_hash, self.recorded_at, self._newest_ts, additions, there)

    def _told_apart(self, addition: Addition) -> Addition:
        rows, others = [], []
        for row in addition.rows:
            seq = row[_SEQ]
            payload, by = self._payloads.get(seq), self._superseded.get(seq)
            if payload is None and by is None:
                rows.append(row)
            else:
                kind = EntryKind.STORED if payload is None else EntryKind.REPLACED
                others.append([*row, int(kind), payload, by])
        return addition._replace(rows=rows, others=others)

    @property
    def head(self) -> Head:
        """Where it stands."""
        return Head(self._epoch, self.seq, self.head_hash)

    @property
    def unannounced(self) -> bool:
        """Signals are replaced in it, which no reader expects."""
        return bool(self._superseded) and not self._replacing

    def hashes(self, digest: bytes, entries: Iterable[New]) -> list[tuple[bytes, bytes]]:
        """Puts entries behind the end; the hash of each, and the chain's after it."""
        entry_hash = EntryHasher(self._epoch, self._tenant_id, self.recorded_at, digest).entry_hash
        head = self.head_hash
        found = []
        for seq, entry in enumerate(entries, self.seq + 1):
            own = entry_hash(seq, *entry)
            head = chain(head, own)
            found.append((own, head))
        self.seq += len(found)
        self.head_hash = head
        return found

    def add(
        self,
        provenance: Provenance,
        items: Sequence[Item],
        payloads: Sequence[bytes],
        superseded: Mapping[int, Stored],
        reply: bytes,
    ) -> list[bytes]:
        """Puts a write's signals behind the end; the chain's hash after each.

        By position in `items`, `superseded` has what a signal takes the place of.
        """
        first_seq = self.seq + 1
        for position, old in superseded.items():
            self._superseded[old.seq] = first_seq + position
            self._payloads[first_seq + position] = encode_signal(*old.item(items[position]))
        hashes = self.hashes(provenance_digest(provenance), self._entries(payloads))
        rows = [
            [*item, seq, own, head]
            for seq, (item, (own, head)) in enumerate(zip(items, hashes, strict=True), first_seq)
        ]
        self._additions.append(Addition(provenance, first_seq, len(rows), rows, (), reply))
        self._newest_ts = max(self._newest_ts, *(item.ts for item in items))
        return [head for _, head in hashes]

    def _entries(self, payloads: Sequence[bytes]) -> Iterator[New]:
        for seq, payload in enumerate(payloads, self.seq + 1):
            if seq in self._payloads:
                yield New(EntryKind.REPLACED, payload, self._payloads[seq])
            else:
                yield New(EntryKind.STORED, payload)


class Batch:
    """The writes of one transaction; `logs` is what it makes of each tenant's log."""

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
        return Appended(*done[:-1], log.recorded_at, log.head, done.superseded)

    def _write(self, write: Write) -> _Done | CoherenceError:
        provenance = write.provenance
        known = self._requests.get((write.tenant_id, provenance.request_id))
        if known is None:
            return self._store(write)
        if known.request_hash != provenance.request_hash:
            return reused(provenance)
        return _Done(write, self._replay(write, known))

    def _store(self, write: Write) -> _Done:
        log = self.logs[write.tenant_id]
        first_seq = log.seq + 1
        results, stored, payloads, superseded = self._sort(write, first_seq)
        if not stored:
            return _Done(write, results)
        reply = b"" if len(stored) == len(results) else encode_reply(results)
        hashes = log.add(write.provenance, stored, payloads, superseded, reply)
        self._remember(write, first_seq, stored, results)
        items = {position: old.item(stored[position]) for position, old in superseded.items()}
        return _Done(write, results, first_seq, stored, hashes, items)

    def _sort(self, write: Write, seq: int) -> _Sorted:
        tenant_id, provenance_id = write.tenant_id, write.provenance.provenance_id
        results: list[Result | None] = [None] * (len(write.items) + len(write.refused))
        found = _Sorted([], [], [], {})
        for item, payload, position in zip(write.items, write.payloads, write.positions, strict=True):
            source, signal_id, type_, value_q, weight_q, ts = item
            key = (tenant_id, source, signal_id, ts)
            known = self._signals.get(key)
            if known is not None:
                if known[1:4] == (type_, value_q, weight_q):
                    results[position] = Result(Outcome.DUPLICATE, known.seq, known.provenance_id, item)
                    continue
                if write.on_conflict is OnConflict.REJECT:
                    results[position] = refused(conflict(item, known.seq))
                    continue
                found.superseded[len(found.stored)] = known
            outcome = Outcome.STORED if known is None else Outcome.REPLACED
            self._signals[key] = Stored(seq, type_, value_q, weight_q, provenance_id)
            results[position] = Result(outcome, seq, provenance_id, item)
            found.stored.append(item)
            found.payloads.append(payload)
            seq += 1
        for position, error in write.refused.items():
            results[position] = refused(error)
        return found._replace(results=[result for result in results if result is not None])

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

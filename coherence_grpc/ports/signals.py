"""The append-only log."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, Protocol

if TYPE_CHECKING:
    from array import array
    from collections.abc import Collection, Mapping, Sequence

    from coherence_grpc.errors import CoherenceError
    from coherence_grpc.model import (
        Appended,
        Entry,
        EntryKind,
        Head,
        Key,
        LedgerRow,
        Provenance,
        Score,
        StoredSignal,
        Write,
    )
    from coherence_grpc.policy import PolicyVersion
    from coherence_grpc.score import WindowSum


class Group(NamedTuple):
    """What rules tell signals apart by."""

    source: str
    type: str


class WindowColumns(NamedTuple):
    """The weighted signals of a window as columns sorted by ts, and the head they were read at (one snapshot).

    Where they were asked for, `group` has each signal's index in `groups`, which may be in any order; otherwise both
    are empty. `upcoming` is the ts of the first weighted signal after the window, when the window has an end.
    """

    ts: array[int]
    value_q: array[int]
    weight_q: array[int]
    head: Head
    group: array[int] | None = None
    groups: Sequence[Group] = ()
    upcoming: int | None = None


class WindowTotals(NamedTuple):
    """A closed window summed up by the store, and the head it was read at (one snapshot).

    `newest_ts` is that of the newest weighted signal in the window. `next_change` is the first instant after the
    window's end at which time alone changes the sums: the oldest weighted ts in the window leaves, or a later one
    enters; None when nothing will.
    """

    sums: WindowSum
    newest_ts: int | None
    next_change: int | None
    head: Head


class WindowParts(NamedTuple):
    """The signals of a window, muted ones included, and some of the weighted ones after it, as columns sorted by ts.

    `group` has each signal's index in `groups`, which may be in any order; signals of one provenance record have the
    same number in `record`. Of the weighted signals after the window as many are there as were asked for, the first
    ones. `not_yet_due` and `aged_out` count all signals after and before the window, and `head` is the one all of it
    was read at.
    """

    ts: array[int]
    value_q: array[int]
    weight_q: array[int]
    seq: array[int]
    record: array[int]
    group: array[int]
    groups: Sequence[Group]
    not_yet_due: int
    aged_out: int
    head: Head


class SignalQuery(NamedTuple):
    """Narrows a listing: empty or None does not narrow; both instants are included."""

    sources: Collection[str] = ()
    types: Collection[str] = ()
    start: int | None = None
    end: int | None = None


class Retained(NamedTuple):
    """What a store holds: counts over the tenants asked for; None where there are no signals."""

    tenants: int
    entries: int
    oldest_ts: int | None


class Pruned(NamedTuple):
    """What one batch of pruning erased (or would): `more` says that another batch is due."""

    erased: int
    more: bool


class SignalStore(Protocol):
    """The append-only log: one gapless sequence of entries per tenant, and the signals they amount to.

    Every method raises StoreDown when the store can't be reached, StoreTimeout when `timeout_s` passes, and
    StorageFull when there is no room to write.
    """

    @property
    def epoch(self) -> int:
        """Raised when the log was replaced, restored or rebuilt; part of every position."""
        ...

    async def append(self, writes: Sequence[Write], *, now: int) -> Sequence[Appended | CoherenceError]:
        """Commit the writes, of any tenants, in one transaction and say what became of each, in order.

        A key not seen before takes its tenant's next number (STORED). A key already there with the same type, value
        and weight is DUPLICATE and names the first entry and its provenance; with another payload its result is a
        Conflict and nothing of it is stored. The same key twice, in one write or in two: the first decides.
        Under OnConflict.REPLACE a key already there with another payload takes the tenant's next number with an entry
        of the kind REPLACED, which keeps the payload it supersedes; the signal is then the new one (REPLACED).
        A request id seen before for the tenant with the same request_hash gets its first results, STORED and REPLACED
        turned into DUPLICATE with the same seq, refusals repeated, and writes nothing; with another hash the answer to
        that write is RequestIdReused. A write that stores nothing is not remembered, nor its provenance.
        Every new entry gets the write's provenance, `recorded_at` = `now` or the tenant's newest recorded_at if that
        is later, and the hashes of ledger.py, in the same transaction.
        Returns only after the commit; nothing of a failed call is visible, not even after a restart. A caller that is
        cancelled leaves the commit alone. An exception that is no CoherenceError is about the data of one of the
        writes, and the store can't say whose: nothing is stored, and each can be appended alone.

        Raises:
            OutcomeUnknown: the store was lost after the commit was sent.
        Source: ADR-003, ADR-005, AC-ING-02, AC-ING-03, AC-ING-04.
        """
        ...

    async def append_own(
        self,
        tenant_id: str,
        kind: EntryKind,
        payload: bytes,
        provenance: Provenance,
        *,
        now: int,
        based_on: int | None = None,
    ) -> Entry:
        """Put an entry that carries no signal (POLICY, RECOMPUTE) behind the tenant's log, and return it.

        Numbered, timed, hashed and committed as `append` does, under `provenance`. A request id seen before for the
        tenant with the same request_hash gets the entry of the first time and writes nothing. A POLICY entry is the
        tenant's policy from then on. `based_on` is the number of the POLICY entry that the caller takes for the newest
        one, 0 for none; None: whatever it is.

        Raises:
            EtagMismatch: the newest POLICY entry is another; nothing is written. Metadata `etag` names it.
            RequestIdReused: the request id belongs to another request.
            OutcomeUnknown: as `append`.
        """
        ...

    async def policy(self, tenant_id: str, *, at: int | None = None) -> PolicyVersion:
        """The newest policy of the tenant, or the newest with seq ≤ `at`; `policy.UNWRITTEN` when there is none."""
        ...

    async def policies(self, tenant_id: str, *, before: int | None, limit: int) -> Sequence[PolicyVersion]:
        """The tenant's policies with seq < `before` (None: all), newest first, at most `limit`; none is ever erased."""
        ...

    async def head(self, tenant_id: str) -> Head:
        """Where the tenant's log stands; seq 0 and the zero hash when it was never written to."""
        ...

    async def heads(self, tenant_ids: Collection[str]) -> Mapping[str, Head]:
        """The heads of all these tenants, from one snapshot."""
        ...

    async def tenants(self) -> Sequence[str]:
        """Every tenant with a log, ascending."""
        ...

    async def moved(self, *, since: int) -> Mapping[str, Head]:
        """The heads of the tenants whose newest entry was recorded at the instant or after it."""
        ...

    async def tail(self, tenant_id: str, *, after: int, limit: int) -> Sequence[Entry]:
        """Entries with seq > `after`, ascending and without holes, at most `limit`; erased ones come marked."""
        ...

    async def seq_at(self, tenant_id: str, recorded_at: int) -> int:
        """The number of the last entry recorded before the instant; 0 when there is none."""
        ...

    async def first_readable(self, tenant_id: str) -> int:
        """The number of the oldest signal entry whose body is there; 0 when there is none."""
        ...

    async def window(
        self, tenant_id: str, *, start: int, end: int | None = None, grouped: bool = False
    ) -> WindowColumns:
        """The weighted signals with ts ≥ `start`, future ones included, or up to `end`, ascending by ts.

        With `grouped` they carry their sources and types.

        Raises:
            WindowIncomplete: `end` is given, and `start` is at or before the tenant's highest erased ts.
        """
        ...

    async def totals(self, tenant_id: str, *, start: int, end: int) -> WindowTotals:
        """Exact sums over `start` ≤ ts ≤ `end`, at any size and at the limits of value and weight.

        Raises:
            WindowIncomplete: `start` is at or before the tenant's highest erased ts.
        """
        ...

    async def parts(self, tenant_id: str, *, start: int, end: int, ahead: int) -> WindowParts:
        """What the window from `start` to `end`, both included, is made of, and the first `ahead` signals after it.

        Raises:
            WindowIncomplete: as `totals`.
        """
        ...

    async def numbered(self, tenant_id: str, seqs: Sequence[int]) -> Sequence[StoredSignal]:
        """The signals that the entries of these numbers hold, ascending, also those that were replaced since.

        Entries that hold none, or whose body was erased, are left out.
        """
        ...

    async def get(self, key: Key) -> StoredSignal | None:
        """The signal under the key; None when there is none or its body was erased."""
        ...

    async def listing(
        self, tenant_id: str, query: SignalQuery, *, before: tuple[int, str, str] | None, limit: int
    ) -> tuple[Sequence[StoredSignal], Head]:
        """Signals that match, descending by (ts, source, signal_id), strictly below `before`; and the head."""
        ...

    async def provenance(self, tenant_id: str, provenance_id: str) -> Provenance | None:
        """The record, exactly as written; None when the tenant has none of that id."""
        ...

    async def provenance_rows(self, tenant_id: str, provenance_id: str, *, limit: int) -> Sequence[LedgerRow]:
        """The entries that the record's request stored, ascending, at most `limit`."""
        ...

    async def ledger(self, tenant_id: str, *, first: int, limit: int) -> tuple[bytes, Sequence[LedgerRow]]:
        """The chain's hash before entry `first`, and the entries from there, ascending, at most `limit`.

        Missing entries are simply not there, and nothing is checked: this is what verification reads.
        """
        ...

    async def hash_at(self, tenant_id: str, seq: int) -> bytes | None:
        """The chain's hash after the entry; the zero hash for 0; None beyond the head."""
        ...

    async def prune(self, tenant_id: str, *, now: int, provenance: Provenance, limit: int, dry_run: bool) -> Pruned:
        """Erase at most `limit` bodies of signals that outlived their own retention tag by a day.

        The entries keep their hashes, the signals are gone, the tenant's highest erased ts is remembered and a PRUNED
        entry with the erased ranges joins the log under `provenance`, all in one transaction. A dry run counts all of
        them and writes nothing.
        """
        ...

    async def retained(self, tenant_ids: Collection[str] | None) -> Retained:
        """What is stored for these tenants; None means all."""
        ...

    def note_published(self, score: Score) -> None:
        """Remember beside the head that this score was published; it is written with a later commit, within 2 s.

        A note of an older (epoch, version) than the one remembered changes nothing.
        """
        ...

    async def published(self) -> Mapping[str, tuple[int, int]]:
        """The (score epoch, version) last remembered of each tenant."""
        ...

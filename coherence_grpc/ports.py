"""What the use cases need from the outside, in the domain's words. Each sentence here is a conformance test.

Whoever opens a part closes it: stores are async context managers of their adapters, and who is given one doesn't close
it. `timeout_s` is how long the caller can wait.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, Protocol

if TYPE_CHECKING:
    from array import array
    from collections.abc import Callable, Collection, Mapping, Sequence

    from coherence_grpc.errors import CoherenceError
    from coherence_grpc.model import (
        Appended,
        Caller,
        Entry,
        Head,
        Key,
        LedgerRow,
        Provenance,
        Score,
        Status,
        StoredSignal,
        Write,
    )
    from coherence_grpc.score import WindowSum


class Clock(Protocol):
    """Domain time, in microseconds; it never goes back."""

    @property
    def speed(self) -> float:
        """Domain seconds per machine second; 1 in production."""
        ...

    @property
    def simulated(self) -> bool:
        """Domain time is not the system's time."""
        ...

    def now(self) -> int:
        """The present instant: at least every instant issued or observed before."""
        ...

    def observe(self, instant: int) -> None:
        """`now` is at least `instant` from here on: what was recorded before a restart is not in the future."""
        ...

    def machine_seconds(self, domain_us: int) -> float:
        """How long `domain_us` of domain time takes on the machine."""
        ...


class WindowColumns(NamedTuple):
    """The weighted signals of a window as columns sorted by ts, and the head they were read at (one snapshot)."""

    ts: array[int]
    value_q: array[int]
    weight_q: array[int]
    head: Head


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


class Weighed(NamedTuple):
    """The signals of a window with their keys, as columns in ts order, and counts of those that don't count."""

    signals: Sequence[StoredSignal]
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
        A request id seen before for the tenant with the same request_hash gets its first results, STORED turned into
        DUPLICATE with the same seq, refusals repeated, and writes nothing; with another hash the answer to that write
        is RequestIdReused. A write that stores nothing is not remembered, nor its provenance.
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

    async def window(self, tenant_id: str, *, start: int) -> WindowColumns:
        """The weighted signals with ts ≥ `start`, future ones included, ascending by ts."""
        ...

    async def totals(self, tenant_id: str, *, start: int, end: int) -> WindowTotals:
        """Exact sums over `start` ≤ ts ≤ `end`, at any size and at the limits of value and weight.

        Raises:
            WindowIncomplete: `start` is at or before the tenant's highest erased ts.
        """
        ...

    async def weighed(self, tenant_id: str, *, start: int, end: int) -> Weighed:
        """The signals of the window, muted ones included, ascending by ts, with counts of what lies outside.

        Raises:
            WindowIncomplete: as `totals`.
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


class ScoreQuery(NamedTuple):
    """Narrows a portfolio: empty or None does not narrow; bounds are in ppm, included, and leave out UNKNOWN."""

    statuses: Collection[Status] = ()
    min_ppm: int | None = None
    max_ppm: int | None = None


class ScoreStore(Protocol):
    """The published score of each tenant, and the history of what was published.

    Raises as SignalStore does.
    """

    @property
    def epoch(self) -> int:
        """Raised when the scores were rebuilt or restored; part of every position."""
        ...

    async def publish(self, scores: Sequence[Score]) -> Sequence[bool]:
        """Put the rows in place, in one transaction; False for each that lost against a newer row.

        A row loses when (signal epoch, as_of_seq, window_end) is below that of the row in place, or when its version
        is not the next one; a row with the version in place replaces the row's other columns and adds no history.
        A new version adds one history row; versions rise by one from 1.
        """
        ...

    async def get(self, tenant_ids: Collection[str]) -> Mapping[str, Score]:
        """The rows in place; tenants without one are left out."""
        ...

    async def portfolio(
        self,
        query: ScoreQuery,
        *,
        tenants: Collection[str] | None,
        after: tuple[int, str] | None,
        limit: int,
    ) -> Sequence[Score]:
        """Rows that match, ascending by (score_ppm, tenant_id) with UNKNOWN last as 1,000,001 ppm, beyond `after`.

        `tenants` None means all.
        """
        ...

    async def due(self, *, before: int, limit: int) -> Sequence[str]:
        """Tenants whose valid_until is at or before the instant, earliest first."""
        ...

    async def next_due(self) -> int | None:
        """The earliest valid_until of all; None when no row has one."""
        ...

    async def history(self, tenant_id: str, *, after_version: int, limit: int) -> Sequence[Score]:
        """Published rows with version > `after_version`, ascending; status_changed as when they were published."""
        ...

    async def version_at(self, tenant_id: str, instant: int) -> int:
        """The last version published with window_end before the instant; 0 when there is none."""
        ...

    async def thin(self, *, now: int, limit: int) -> int:
        """Drop history rows older than 7 days except the last of each minute and status changes; how many went."""
        ...


class ShardLeases(Protocol):
    """Which shards of tenants this process materialises; a shard has one holder at a time.

    A lease that is not renewed in time is anybody's. Two holders for a moment, one of them late, do no harm: rows
    are fenced.
    """

    def holds(self, tenant_id: str) -> bool:
        """The tenant's shard is held by this process, as far as it knows: False once its lease may have run out."""
        ...

    def listen(self, on_changed: Callable[[], None]) -> None:
        """`on_changed` is called when shards were won or lost."""
        ...


class News(NamedTuple):
    """Entries that joined a tenant's log in some process; `to_seq` 0 says only that there may be some."""

    tenant_id: str
    from_seq: int
    to_seq: int


class Doorbell(Protocol):
    """Tells other processes that a log or a score moved. It may lose, repeat and reorder: nobody depends on it.

    No method waits or raises: while nobody can be told, everybody finds out by asking the stores.
    """

    def ring(self, news: News) -> None:
        """Tell the others soon."""
        ...

    def listen(self, on_news: Callable[[News], None]) -> None:
        """`on_news` is called with what other processes rang, and with what this one did."""
        ...


class DedupeMarks(Protocol):
    """Remembers for a while which keys were stored, so that a retry need not ask the log. Never the truth.

    No method raises; while the marks can't be had, nothing is known.
    """

    async def known(self, epoch: int, keys: Sequence[Key], payloads: Sequence[bytes]) -> Sequence[int]:
        """For each key the entry that stored it with just this payload; 0 when that is not known for sure."""
        ...

    async def mark(self, epoch: int, keys: Sequence[Key], payloads: Sequence[bytes], seqs: Sequence[int]) -> None:
        """Remember what was committed; an older entry does not take the place of a newer one."""
        ...


class ScoreCache(Protocol):
    """Published rows, a moment old at most. Never the truth; no method raises."""

    async def get(self, tenant_ids: Sequence[str]) -> Mapping[str, Score]:
        """The rows that are there; a row whose valid_until has passed may be among them."""
        ...

    async def put(self, scores: Sequence[Score]) -> None:
        """Keep the rows; one that would lose in the score store against the one in place changes nothing."""
        ...


class RateLimiter(Protocol):
    """Counts requests of all processes together."""

    async def admit(self, tenant_id: str, *, cost: int = 1) -> float:
        """0 when the request may go on; otherwise the seconds after which one of this cost could.

        A request that is not admitted uses nothing up, neither of the tenant's share nor of the whole.
        """
        ...


class Authoriser(Protocol):
    """Who may do what. Fails closed."""

    async def decide(self, caller: Caller, scope: str, tenant_id: str | None) -> None:
        """Return when the caller may use the scope, on the tenant if one is named.

        Raises:
            ScopeMissing, PolicyDenied: otherwise, before anything is looked up.
        """
        ...

    async def visible_tenants(self, caller: Caller) -> frozenset[str] | None:
        """The tenants a list may show; None means all."""
        ...

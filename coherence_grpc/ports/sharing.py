"""What processes on the same stores tell one another, and how they share the work."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping, Sequence

    from coherence_grpc.model import Key, Score


class ShardLeases(Protocol):
    """Which shards of tenants this process materialises; a shard has one holder at a time.

    A lease that is not renewed in time is anybody's. Two holders for a moment, one of them late, do no harm: rows
    are fenced.
    """

    def holds(self, tenant_id: str) -> bool:
        """The tenant's shard is held by this process, as far as it knows: False once its lease may have run out."""
        ...

    @property
    def shards(self) -> Collection[int] | None:
        """The shards of shards.SHARDS that are held, as far as it knows; None: every one."""
        ...

    def listen(self, on_changed: Callable[[], None]) -> None:
        """`on_changed` is called when shards were won or lost."""
        ...


class News(NamedTuple):
    """Entries that joined a tenant's log in some process, or the version of its score that was published there.

    With neither (`to_seq` 0 and `version` 0) it says only that there may be some.
    """

    tenant_id: str
    from_seq: int
    to_seq: int
    version: int = 0


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
    """Remembers for a while what was stored under which key, so that a retry need not lock the log. Never the truth.

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

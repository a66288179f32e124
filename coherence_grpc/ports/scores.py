"""Published scores."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, Protocol

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from coherence_grpc.model import Score, Status


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

    async def due(self, *, before: int, limit: int, shards: Collection[int] | None = None) -> Sequence[str]:
        """Tenants whose valid_until is at or before the instant, earliest first.

        With `shards` (of shards.SHARDS) only tenants of these; a row of a release that did not write its shard is of
        any.
        """
        ...

    async def next_due(self, *, shards: Collection[int] | None = None) -> int | None:
        """The earliest valid_until of all, or of those `shards` as in `due`; None when no row has one."""
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

"""Published scores."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, NamedTuple, Protocol

from coherence_grpc.score import UNKNOWN_RANK

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from coherence_grpc.model import Score, Status


class ScoreQuery(NamedTuple):
    """Narrows a portfolio: empty or None does not narrow; bounds are in ppm, included, and leave out UNKNOWN."""

    statuses: Collection[Status] = ()
    min_ppm: int | None = None
    max_ppm: int | None = None
    held_statuses: Collection[Status] = ()
    prefix: str = ""


class PortfolioOrder(StrEnum):
    """In what order a portfolio is listed; ties by tenant_id."""

    WORST_FIRST = "WORST_FIRST"
    BEST_FIRST = "BEST_FIRST"
    TENANT_ID = "TENANT_ID"
    LAST_CHANGED = "LAST_CHANGED"


def rank_of(score: Score, order: PortfolioOrder) -> int:
    """What a portfolio is sorted by, ascending, before tenant_id; UNKNOWN comes last where scores are sorted."""
    match order:
        case PortfolioOrder.TENANT_ID:
            return 0
        case PortfolioOrder.LAST_CHANGED:
            return -((score.held and score.held.since) or 0)
        case PortfolioOrder.BEST_FIRST:
            return UNKNOWN_RANK if score.score_ppm is None else -score.score_ppm
        case PortfolioOrder.WORST_FIRST:
            return UNKNOWN_RANK if score.score_ppm is None else score.score_ppm


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
        order: PortfolioOrder = PortfolioOrder.WORST_FIRST,
    ) -> Sequence[Score]:
        """Rows that match, ascending by (`rank_of`, tenant_id), beyond `after`, which is such a pair.

        `tenants` None means all.
        """
        ...

    async def shown_at(self, asked: Sequence[tuple[str, int]]) -> Sequence[Score | None]:
        """For each (tenant, instant) the row published last with window_end at or before the instant, of the history.

        None where there is none.
        """
        ...

    async def changes(self, tenant_id: str, *, start: int, end: int, limit: int) -> Sequence[Score]:
        """Rows of the history with status_changed and `start` < window_end ≤ `end`, ascending, at most `limit`."""
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

"""The ScoreStore on SQLite."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Final

from coherence_grpc.adapters.embedded import score_table
from coherence_grpc.adapters.embedded.database import Database
from coherence_grpc.adapters.embedded.opening import epoch_of, refusing
from coherence_grpc.adapters.embedded.schema import SCORES
from coherence_grpc.ports import PortfolioOrder

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Collection, Mapping, Sequence
    from pathlib import Path

    import apsw

    from coherence_grpc.model import Score
    from coherence_grpc.ports import ScoreQuery, ScoreStore

FILE: Final = "scores.db"
# Up to so many rows the event loop is sooner done with them than with asking a thread.
_FEW: Final = 16


@asynccontextmanager
async def open_score_store(directory: Path) -> AsyncIterator[ScoreStore]:
    """The store in `directory`, made or migrated as need be.

    Raises:
        DataRefused: the file is damaged, not ours or can't be written.
        MigrationPending: a newer version wrote it.
    """
    path = directory / FILE
    database = Database(path, SCORES)
    try:
        with refusing(path, SCORES):
            store = EmbeddedScores(database)
        yield store
    finally:
        await database.close()


class EmbeddedScores:
    """Rows that were read or published are kept in memory, and change only after a commit."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._epoch = epoch_of(database.writer)
        self._rows: dict[str, Score] = {}

    @property
    def epoch(self) -> int:
        """The file's epoch."""
        return self._epoch

    async def publish(self, scores: Sequence[Score]) -> Sequence[bool]:
        """One transaction, which outlives a cancelled caller."""
        self._database.check_open()
        return await self._database.owner.owned(self._publish(scores))

    async def _publish(self, scores: Sequence[Score]) -> Sequence[bool]:
        def work(cursor: apsw.Cursor) -> list[bool]:
            return score_table.put(cursor, scores)

        def committed(won: Sequence[bool]) -> None:
            self._rows.update({score.tenant_id: score for score, in_place in zip(scores, won, strict=True) if in_place})

        return await self._database.transact(work, committed, on_loop=len(scores) <= _FEW)

    async def get(self, tenant_ids: Collection[str]) -> Mapping[str, Score]:
        """From memory where it was read before."""
        self._database.check_open()
        missing = [tenant_id for tenant_id in tenant_ids if tenant_id not in self._rows]
        if missing:
            few = len(missing) <= _FEW
            found = (
                self._database.read_here(score_table.get, missing)
                if few
                else await self._database.read(score_table.get, missing)
            )
            for score in found:
                # A row published meanwhile is newer.
                self._rows.setdefault(score.tenant_id, score)
        return {tenant_id: self._rows[tenant_id] for tenant_id in tenant_ids if tenant_id in self._rows}

    async def portfolio(
        self,
        query: ScoreQuery,
        *,
        tenants: Collection[str] | None,
        after: tuple[int, str] | None,
        limit: int,
        order: PortfolioOrder = PortfolioOrder.WORST_FIRST,
    ) -> Sequence[Score]:
        """A range of the order's index."""
        return await self._database.read(score_table.portfolio, query, tenants, after, limit, order)

    async def shown_at(self, asked: Sequence[tuple[str, int]]) -> Sequence[Score | None]:
        """One row each of the index by time."""
        return await self._database.read(score_table.shown_at, asked)

    async def changes(self, tenant_id: str, *, start: int, end: int, limit: int) -> Sequence[Score]:
        """A range of the index of changes."""
        return await self._database.read(score_table.changes, tenant_id, start, end, limit)

    async def due(self, *, before: int, limit: int, shards: Collection[int] | None = None) -> Sequence[str]:
        """A range of the index by valid_until, walked past other shards: the file's one process holds them all."""
        return await self._database.read(score_table.due, before, limit, shards)

    async def next_due(self, *, shards: Collection[int] | None = None) -> int | None:
        """The beginning of that index."""
        return self._database.read_here(score_table.next_due, shards)

    async def history(self, tenant_id: str, *, after_version: int, limit: int) -> Sequence[Score]:
        """A range of the history."""
        return await self._database.read(score_table.history, tenant_id, after_version, limit)

    async def version_at(self, tenant_id: str, instant: int) -> int:
        """One row of the index by time."""
        return await self._database.read(score_table.version_at, tenant_id, instant)

    async def thin(self, *, now: int, limit: int) -> int:
        """One transaction in the writer's thread, from where the last one came to."""
        self._database.check_open()
        return await self._database.owner.owned(
            self._database.transact(lambda cursor: score_table.thin(cursor, now, limit), lambda _: None)
        )

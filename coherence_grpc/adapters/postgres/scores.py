"""The ScoreStore on PostgreSQL. Nothing is kept in memory: other processes publish too."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Final

from coherence_grpc.adapters.postgres import queries
from coherence_grpc.adapters.postgres.connecting import OPERATION_S, connected
from coherence_grpc.adapters.postgres.database import Database, fetch
from coherence_grpc.adapters.postgres.failures import late
from coherence_grpc.adapters.postgres.migrating import check
from coherence_grpc.adapters.postgres.score_rows import columns
from coherence_grpc.failpoints import failpoint
from coherence_grpc.model import DAY, SECOND, Status
from coherence_grpc.ports import PortfolioOrder
from coherence_grpc.score_row import score_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Collection, Mapping, Sequence

    from coherence_grpc.adapters.postgres.connecting import Connection
    from coherence_grpc.breaker import Breaker
    from coherence_grpc.model import Score
    from coherence_grpc.ports import ScoreQuery

UNKNOWN_RANK: Final = 1_000_001
RAW_HISTORY: Final = 7 * DAY
# The shard of a row that was written by a release that didn't say; and an instant that none is after.
UNSAID: Final = -1
LAST: Final = 2**63 - 1
_MINUTE: Final = 60 * SECOND
_BEFORE_ALL: Final = (-(2**62), "")

_log = logging.getLogger(__name__)


@asynccontextmanager
async def open_score_store(uri: str, *, namespace: str = "public") -> AsyncIterator[PostgresScores]:
    """The store in that schema of the database.

    Raises:
        SettingsInvalid: the address, the user or a right of the user is wrong.
        StoreDown, StoreTimeout: the server can't be reached.
        MigrationPending: the schema is behind this release.
    """
    async with connected(uri, namespace) as connection:
        await check(connection, namespace)
        [(epoch,)] = await fetch(connection, queries.EPOCH, {})
    database = Database(uri, namespace)
    try:
        await database.open()
        yield PostgresScores(database, epoch)
    finally:
        await database.close()


class PostgresScores:
    """Every row as the server has it."""

    def __init__(self, database: Database, epoch: int) -> None:
        self._database = database
        self._epoch = epoch
        self._publishing = asyncio.Lock()

    @property
    def breaker(self) -> Breaker:
        """What keeps calls from a server that fails."""
        return self._database.breaker

    @property
    def epoch(self) -> int:
        """As last heard from the server: it is raised there when the scores are rebuilt."""
        return self._epoch

    async def publish(self, scores: Sequence[Score]) -> Sequence[bool]:
        """One transaction, which outlives a cancelled caller; publications of this process keep their order."""
        return await self._database.owner.owned(self._publish(scores)) if scores else []

    async def _publish(self, scores: Sequence[Score]) -> Sequence[bool]:
        rounds = _rounds(scores)

        async def work(connection: Connection) -> list[list[str]]:
            if len(rounds) == 1:
                return [await self._place(connection, scores)]
            async with connection.transaction():
                return [await self._place(connection, [scores[at] for at in one.values()]) for one in rounds]

        async with self._turn():
            placed = await self._database.run(work, limit_s=OPERATION_S, writes=True)
        won = [False] * len(scores)
        for one, tenant_ids in zip(rounds, placed, strict=True):
            for tenant_id in tenant_ids:
                won[one[tenant_id]] = True
        return won

    @asynccontextmanager
    async def _turn(self) -> AsyncIterator[None]:
        try:
            async with asyncio.timeout(OPERATION_S):
                await self._publishing.acquire()
        except TimeoutError:
            raise late(sent=False) from None
        try:
            yield
        finally:
            self._publishing.release()

    async def _place(self, connection: Connection, scores: Sequence[Score]) -> list[str]:
        [(epoch, placed)] = await fetch(connection, queries.PUBLISH, columns(scores))
        failpoint("publish.written")
        self._heard(epoch)
        return list(placed)

    def _heard(self, epoch: int) -> None:
        if epoch > self._epoch:
            _log.warning("the scores were rebuilt beside this process", extra={"fields": {"epoch": epoch}})
            self._epoch = epoch

    async def get(self, tenant_ids: Collection[str]) -> Mapping[str, Score]:
        """One round trip for all of them."""
        if not tenant_ids:
            return {}
        rows = await self._database.rows(queries.GET, {"tenant_ids": list(tenant_ids)})
        return {score.tenant_id: score for score in map(score_of, rows)}

    async def portfolio(
        self,
        query: ScoreQuery,
        *,
        tenants: Collection[str] | None,
        after: tuple[int, str] | None,
        limit: int,
        order: PortfolioOrder = PortfolioOrder.WORST_FIRST,
    ) -> Sequence[Score]:
        """A range of the order's index, or the tenants' rows sorted."""
        rank, tenant_id = after or _BEFORE_ALL
        bounded = query.min_ppm is not None or query.max_ppm is not None
        highest = UNKNOWN_RANK - 1 if bounded else UNKNOWN_RANK
        parameters = {
            "rank": rank,
            "tenant_id": tenant_id,
            "lowest": query.min_ppm or 0,
            "highest": highest if query.max_ppm is None else min(query.max_ppm, highest),
            "statuses": [status.value for status in query.statuses or Status],
            "held": [status.value for status in query.held_statuses or Status],
            "tenants": list(tenants or ()),
            "prefix": query.prefix,
            "limit": limit,
        }
        statement = queries.portfolio(order, bounded=bounded, of=tenants is not None, beginning=bool(query.prefix))
        return list(map(score_of, await self._database.rows(statement, parameters)))

    async def shown_at(self, asked: Sequence[tuple[str, int]]) -> Sequence[Score | None]:
        """One round trip, and one entry each of the index by time."""
        if not asked:
            return []
        tenants, instants = map(list, zip(*asked, strict=True))
        rows = await self._database.rows(queries.SHOWN_AT, {"tenants": tenants, "instants": instants})
        return [None if row[0] is None else score_of(row) for row in rows]

    async def changes(self, tenant_id: str, *, start: int, end: int, limit: int) -> Sequence[Score]:
        """A range of the index of changes."""
        parameters = {"tenant_id": tenant_id, "start": start, "end": end, "limit": limit}
        return list(map(score_of, await self._database.rows(queries.CHANGES, parameters)))

    async def due(self, *, before: int, limit: int, shards: Collection[int] | None = None) -> Sequence[str]:
        """A range of the index by valid_until, or one of each shard."""
        if shards is None:
            rows = await self._database.rows(queries.DUE, {"before": before, "limit": limit})
        else:
            rows = await self._database.rows(queries.DUE_OF, _of(shards, before, limit))
        return [tenant_id for (tenant_id,) in rows]

    async def next_due(self, *, shards: Collection[int] | None = None) -> int | None:
        """The beginning of that index, or of each shard's range."""
        if shards is None:
            [(epoch, instant)] = await self._database.rows(queries.NEXT_DUE, {})
        else:
            [(epoch, instant)] = await self._database.rows(queries.NEXT_DUE_OF, _of(shards, LAST, 1))
        self._heard(epoch)
        return None if instant is None else int(instant)

    async def history(self, tenant_id: str, *, after_version: int, limit: int) -> Sequence[Score]:
        """A range of the history."""
        parameters = {"tenant_id": tenant_id, "after_version": after_version, "limit": limit}
        return list(map(score_of, await self._database.rows(queries.HISTORY, parameters)))

    async def version_at(self, tenant_id: str, instant: int) -> int:
        """One entry of the index by time."""
        rows = await self._database.rows(queries.VERSION_AT, {"tenant_id": tenant_id, "instant": instant})
        return rows[0][0] if rows else 0

    async def thin(self, *, now: int, limit: int) -> int:
        """One transaction, from where the last one came to."""
        end = now - RAW_HISTORY

        async def work(connection: Connection) -> int:
            [(dropped,)] = await fetch(connection, queries.THIN, {"end": end, "minute": _MINUTE, "limit": limit})
            if dropped < limit:
                # Stopped in between, the next call looks again at what it kept.
                await fetch(connection, queries.THINNED, {"done": end - end % _MINUTE})
            return int(dropped)

        return await self._database.run(work, limit_s=OPERATION_S, writes=True)


def _of(shards: Collection[int], before: int, limit: int) -> Mapping[str, object]:
    return {"shards": [*sorted(shards), UNSAID], "before": before, "limit": limit}


def _rounds(scores: Sequence[Score]) -> list[dict[str, int]]:
    """Where each tenant's row stands, once a round: a statement puts one row of a tenant in place."""
    rounds: list[dict[str, int]] = []
    seen: Counter[str] = Counter()
    for at, score in enumerate(scores):
        nth = seen[score.tenant_id]
        seen[score.tenant_id] += 1
        if nth == len(rounds):
            rounds.append({})
        rounds[nth][score.tenant_id] = at
    return rounds

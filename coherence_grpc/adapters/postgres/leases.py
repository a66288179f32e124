"""Shard leases: rows that name a holder and run out by the server's clock."""

from __future__ import annotations

import asyncio
import logging
from contextlib import asynccontextmanager, suppress
from math import ceil, inf
from time import monotonic
from typing import TYPE_CHECKING, Any, Final

from coherence_grpc.adapters.postgres.connecting import connected
from coherence_grpc.adapters.postgres.database import Database, fetch
from coherence_grpc.adapters.postgres.migrating import check
from coherence_grpc.errors import CoherenceError
from coherence_grpc.shards import SHARDS, shard_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Collection, Sequence

    from coherence_grpc.adapters.postgres.connecting import Connection
    from coherence_grpc.ports import ShardLeases

# With a lease of 4 s a renewal a second: three may fail.
_RENEWALS: Final = 4
# A renewal must not use up the time of the next ones.
_CALL_S: Final = 1.0
_CONNECTIONS: Final = 1
# For so long a shard may be nobody's: each looks so often whether others came or went, or left something.
LOOK_S: Final = 0.1

_SHARDS: Final = """
INSERT INTO shard_leases (shard) SELECT generate_series(0, %(shards)s - 1) ON CONFLICT (shard) DO NOTHING
"""
# One statement, so that a process that is stopped holds no lock. Nothing waits for a lock, so two can't wait for each
# other: a row that somebody else changes at the moment is left out. A row's holder and time are looked at again when
# it is written. Answers with the shards held now.
_RENEW: Final = """
WITH present AS (
    INSERT INTO shard_holders (holder, expires_at) VALUES (%(holder)s, now() + %(ttl_s)s * INTERVAL '1 second')
    ON CONFLICT (holder) DO UPDATE SET expires_at = excluded.expires_at
), gone AS (
    DELETE FROM shard_holders WHERE holder IN (
        SELECT holder FROM shard_holders WHERE holder <> %(holder)s AND expires_at < now() - INTERVAL '1 minute'
        FOR UPDATE SKIP LOCKED)
), fair AS (
    SELECT ceil(%(shards)s::numeric / (1 + count(*)))::bigint AS share FROM shard_holders
    WHERE holder <> %(holder)s AND expires_at > now()
), held AS (
    SELECT shard FROM shard_leases WHERE holder = %(holder)s AND shard < %(shards)s FOR UPDATE SKIP LOCKED
), ranked AS (
    SELECT shard, row_number() OVER (ORDER BY shard) <= share AS kept FROM held, fair
), free AS (
    SELECT shard FROM shard_leases WHERE holder <> %(holder)s AND expires_at <= now() AND shard < %(shards)s
    ORDER BY shard LIMIT greatest(0, (SELECT share FROM fair) - (SELECT count(*) FROM held))
    FOR UPDATE SKIP LOCKED
), changed AS (
    UPDATE shard_leases lease SET
        holder = CASE WHEN kept THEN %(holder)s ELSE '' END,
        expires_at = CASE WHEN kept THEN now() + %(ttl_s)s * INTERVAL '1 second' ELSE '-infinity' END
    FROM (SELECT shard, kept FROM ranked UNION ALL SELECT shard, true FROM free) wanted
    WHERE lease.shard = wanted.shard AND (lease.holder = %(holder)s OR lease.expires_at <= now())
    RETURNING lease.shard, kept
)
SELECT ARRAY(SELECT shard FROM changed WHERE kept)
"""
# Reads and locks nothing: how many others are there, and how many shards nobody has.
_LOOK: Final = """
SELECT (SELECT count(*) FROM shard_holders WHERE holder <> %(holder)s AND expires_at > now()), (
    SELECT count(*) FROM shard_leases WHERE holder <> %(holder)s AND expires_at <= now() AND shard < %(shards)s)
"""
_RELEASE: Final = """
WITH gone AS (DELETE FROM shard_holders WHERE holder = %(holder)s)
UPDATE shard_leases SET holder = '', expires_at = '-infinity' WHERE holder = %(holder)s RETURNING shard
"""

_log = logging.getLogger(__name__)


@asynccontextmanager
async def open_leases(
    uri: str, *, namespace: str = "public", holder: str, shards: int = SHARDS, ttl_s: float = 4.0
) -> AsyncIterator[ShardLeases]:
    """Leases of `shards` shards for the process that calls itself `holder`: a name that no other one has.

    Of n holders that are there each has at most shards / n, rounded up. What is given back or was released at the end
    has its new holder in a moment; what a dead one held, when it runs out.

    Raises:
        SettingsInvalid, StoreDown, StoreTimeout, MigrationPending: as for the score store.
    """
    async with connected(uri, namespace) as connection:
        await check(connection, namespace)
        await connection.execute(_SHARDS, {"shards": shards})
    database = Database(uri, namespace, connections=_CONNECTIONS)
    leases = PostgresLeases(database, holder, shards, ttl_s)
    try:
        await database.open()
        await leases.renew()
        renewing = asyncio.create_task(leases.keep_renewing())
        try:
            yield leases
        finally:
            renewing.cancel()
            with suppress(asyncio.CancelledError):
                await renewing
            await leases.release()
    finally:
        await database.close()


class PostgresLeases:
    """What this process holds, as far as it knows: a lease counts from before its renewal was sent."""

    def __init__(self, database: Database, holder: str, shards: int, ttl_s: float) -> None:
        self._database = database
        self._shards = shards
        self._ttl_s = ttl_s
        self._parameters = {"holder": holder, "shards": shards, "ttl_s": ttl_s}
        self._held: frozenset[int] = frozenset()
        self._until = -inf
        self._renew_at = -inf
        self._running_out: asyncio.TimerHandle | None = None
        self._listeners: list[Callable[[], None]] = []
        self._failing = False

    def holds(self, tenant_id: str) -> bool:
        """The tenant's shard is among those held, and their lease has not run out."""
        return shard_of(tenant_id, self._shards) in self.shards

    @property
    def shards(self) -> Collection[int]:
        """Those held, until their lease has run out."""
        return self._held if monotonic() < self._until else frozenset()

    def listen(self, on_changed: Callable[[], None]) -> None:
        """Called in the event loop."""
        self._listeners.append(on_changed)

    async def renew(self) -> None:
        """Renews what is held, gives back what is too much, takes what is free and fair."""
        sent = monotonic()
        [(held,)] = await self._execute(_RENEW)
        self._until, self._renew_at = sent + self._ttl_s, sent + self._ttl_s / _RENEWALS
        if self._running_out is not None:
            self._running_out.cancel()
        self._running_out = asyncio.get_running_loop().call_later(self._until - monotonic(), self._now_holding, ())
        self._now_holding(held)

    async def keep_renewing(self) -> None:
        """Renews until cancelled, whatever happens, and sooner when shards are to change hands."""
        pause = LOOK_S
        while True:
            await asyncio.sleep(pause)
            try:
                if monotonic() >= self._renew_at or await self._has_its_share_changed():
                    await self.renew()
                pause = min(LOOK_S, self._ttl_s / _RENEWALS)
                self._failing = False
            except Exception as error:  # noqa: BLE001 - logged and tried again: else no shard is held for good
                pause = self._ttl_s / _RENEWALS
                if not self._failing:
                    _log.warning("renewing the leases of shards failed, trying again: %s", error, exc_info=_bug(error))
                self._failing = True

    async def _has_its_share_changed(self) -> bool:
        [(others, free)] = await self._database.rows(_LOOK, self._parameters, limit_s=_CALL_S)
        share = ceil(self._shards / (1 + others))
        if len(self._held) <= share:
            return bool(free) and len(self._held) < share
        # Let go of before it is given back: whoever takes it then is the only one.
        self._now_holding(sorted(self._held)[:share])
        return True

    async def release(self) -> None:
        """Lets others have the shards at once; if that fails, they have them when the leases run out."""
        if self._running_out is not None:
            self._running_out.cancel()
        self._now_holding(())
        try:
            await self._execute(_RELEASE)
        except CoherenceError as error:
            _log.warning("the leases of shards were not released and run out in %s s: %s", self._ttl_s, error)

    async def _execute(self, statement: str) -> Sequence[Any]:
        async def work(connection: Connection) -> Sequence[Any]:
            return await fetch(connection, statement, self._parameters)

        return await self._database.run(work, limit_s=_CALL_S, writes=True)

    def _now_holding(self, shards: Collection[int]) -> None:
        held = frozenset(shards)
        if held == self._held:
            return
        self._held = held
        for notify in self._listeners:
            notify()


def _bug(error: Exception) -> Exception | None:
    return None if isinstance(error, CoherenceError) else error

"""Emptying the score store, so that every score is computed anew."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from psycopg.errors import InsufficientPrivilege

from coherence_grpc.adapters.postgres.connecting import connected
from coherence_grpc.adapters.postgres.database import fetch
from coherence_grpc.adapters.postgres.failures import TITLE
from coherence_grpc.adapters.postgres.migrating import check
from coherence_grpc.errors import SettingsInvalid

if TYPE_CHECKING:
    from coherence_grpc.adapters.postgres.connecting import Connection

REBUILD_S: Final = 30.0
# The lock comes first: a publication that waited for it sees the new epoch, and loses.
_EMPTY: Final = "TRUNCATE coherence_scores, coherence_score_history"
_RAISE: Final = """
UPDATE coherence_meta SET epoch = greatest(epoch + 1, %(at_least)s), thinned_until = 0 RETURNING epoch
"""


async def rebuild(uri: str, *, namespace: str = "public", at_least: int = 0) -> int:
    """Forgets all scores and their history and raises the epoch, which it returns: `at_least` that.

    Raises:
        SettingsInvalid: the address or the user is wrong, or the user does not own the tables.
        MigrationPending: the schema is behind this release.
        StoreDown, StoreTimeout: the server can't be reached, or somebody holds the tables.
    """
    async with connected(uri, namespace, limit_s=REBUILD_S) as connection:
        await check(connection, namespace)
        try:
            async with connection.transaction():
                return await _rebuild(connection, at_least)
        except InsufficientPrivilege:
            message = f"the user of the {TITLE} may not empty the scores; rebuild as the user that migrates"
            raise SettingsInvalid(message) from None


async def _rebuild(connection: Connection, at_least: int) -> int:
    await connection.execute(_EMPTY)
    [(epoch,)] = await fetch(connection, _RAISE, {"at_least": at_least})
    return int(epoch)

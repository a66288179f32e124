"""Forgetting which scores were published, when they are to be computed anew."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from coherence_grpc.adapters.neo4j.graph import connected
from coherence_grpc.adapters.neo4j.migrating import PATIENCE, epoch_of

if TYPE_CHECKING:
    from coherence_grpc.adapters.neo4j.graph import Statements

REBUILD_S: Final = 600.0

# Committed by the thousand: all of a large graph at once takes more memory than a transaction may have.
_FORGET: Final = """
MATCH (t:Tenant) WHERE t.score_version IS NOT NULL
CALL (t) { REMOVE t.score_epoch, t.score_version } IN TRANSACTIONS OF 1000 ROWS
"""
_DROP: Final = "MATCH (c:CoherenceScore) CALL (c) { DETACH DELETE c } IN TRANSACTIONS OF 1000 ROWS"
_RAISE: Final = """
MATCH (m:Meta {name: 'signals'})
SET m.lock = 'rebuild'
WITH m
SET m.epoch = CASE WHEN m.epoch + 1 > $at_least THEN m.epoch + 1 ELSE $at_least END
"""
_EPOCH: Final = "MATCH (m:Meta {name: 'signals'}) RETURN m.epoch"


async def rebuild(uri: str, user: str, password: str, *, at_least: int, database: str = "neo4j") -> int:
    """Forgets the published scores and raises the epoch, to `at_least` or higher; what it is then.

    A server that uses the log stores nothing any more until it is started again. Stopped in between, it can be run
    again.

    Raises:
        MigrationPending: the graph is behind this release.
        SettingsInvalid: the address, the user or the password is wrong.
        StoreDown, StoreTimeout: the server can't be reached.
    """
    async with connected(uri, user, password, database=database, patience=PATIENCE) as graph:
        await epoch_of(graph)
        await graph.ask(_FORGET, limit_s=REBUILD_S)
        await graph.ask(_DROP, limit_s=REBUILD_S)

        async def raise_epoch(transaction: Statements) -> int:
            await transaction.change(_RAISE, at_least=at_least)
            (epoch,) = await transaction.ask(_EPOCH)
            return int(epoch)

        return await graph.transact(raise_epoch)

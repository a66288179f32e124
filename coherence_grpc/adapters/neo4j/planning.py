"""Having the server plan what the first callers will ask, before they do.

It plans a statement when it hears it for the first time, and again for a text or a list of another order of length, and
for a transaction that changed something before: some 50 ms each, ten times that on a server that has just started. Six
of them lie between a process's first signal and the row of its score.
"""

from __future__ import annotations

import asyncio
import logging
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any, Final
from uuid import uuid4

from coherence_grpc.adapters.neo4j.append import EXTEND, FIND_SIGNALS, lock_heads
from coherence_grpc.adapters.neo4j.failures import FAILURES
from coherence_grpc.adapters.neo4j.heads import HEADS, HOLD
from coherence_grpc.adapters.neo4j.notes import KEEP
from coherence_grpc.adapters.neo4j.taking import TAKEN
from coherence_grpc.adapters.neo4j.windows import COLUMNS
from coherence_grpc.errors import CoherenceError
from coherence_grpc.model import GENESIS, EntryKind

if TYPE_CHECKING:
    from collections.abc import Sequence

    from coherence_grpc.adapters.neo4j.graph import Graph, Statements

# Whoever opens a store waits so long for it; it goes on beside what comes then.
PATIENCE_S: Final = 2.0
# As much time as a work of so many rows has: nothing is asked of them, but planning takes its time.
ROWS: Final = 3000
# One plan serves texts and lists of 2 to 10, another one those of 11 to 100, and so on.
SHORT, LONG = 9, 33
GROUPS: Final = (1, 2, 11)
KEYS: Final = (1, 2, 11, 101, 1001)
# As long as the one that a transaction has.
_LOCK: Final = uuid4().hex

_log = logging.getLogger(__name__)


async def plan(graph: Graph, epoch: int) -> None:
    """Returns when all are planned, or when that takes too long; the graph stays as it is."""

    async def quietly() -> None:
        try:
            await _plan(graph, epoch)
        except (CoherenceError, *FAILURES) as error:
            said = error.message if isinstance(error, CoherenceError) else type(error).__name__
            _log.info("the first calls will wait until their statements are planned: %s", said)

    with suppress(TimeoutError):
        async with asyncio.timeout(PATIENCE_S):
            await graph.owned(quietly)


async def _plan(graph: Graph, epoch: int) -> None:
    # Nobody has tenants of such names, so nobody waits for their locks; and what is changed is not committed.
    unique = f"-{uuid4().hex}"
    groups = [[f"{unique}{n}" for n in range(size)] for size in GROUPS]
    await graph.transact(partial(_read, unique=unique, groups=groups), rows=ROWS)
    for names in groups:
        await graph.transact(partial(_append, names=names, epoch=epoch), rows=ROWS)
        await graph.transact(partial(_keep, names=names), rows=ROWS)
    await graph.transact(partial(_find, unique=unique, epoch=epoch), rows=ROWS)


async def _read(transaction: Statements, *, unique: str, groups: Sequence[Sequence[str]]) -> None:
    for tenant_id in (unique[:SHORT], unique[:LONG]):
        await transaction.ask(TAKEN, tenant_id=tenant_id)
        await transaction.ask(COLUMNS, tenant_id=tenant_id, start=0, end=0, after_seq=0, head_seq=0, rows=1)
    for names in groups:
        await transaction.ask(HEADS, tenant_ids=names)
        await transaction.ask(HOLD, tenant_ids=names)


async def _append(transaction: Statements, *, names: Sequence[str], epoch: int) -> None:
    await lock_heads(transaction, {name: (name,) for name in names}, epoch=epoch, lock=_LOCK)
    nothing = {"seq": 0, "recorded_at": 0, "newest_ts": 0, "writes": []}
    logs = [{"tenant_id": name, **nothing} for name in names]
    await transaction.ask(EXTEND, logs=logs, epoch=epoch, kind=int(EntryKind.STORED))


async def _find(transaction: Statements, *, unique: str, epoch: int) -> None:
    await lock_heads(transaction, {unique: (unique,)}, epoch=epoch, lock=_LOCK)
    for size in KEYS:
        await transaction.ask(FIND_SIGNALS, keys=[[unique, "", "", n] for n in range(size)])


async def _keep(transaction: Statements, *, names: Sequence[str]) -> None:
    facts: dict[str, Any] = {"shard": 0, "score_epoch": 0, "version": 0, "updated_at": 0, "properties": {}}
    await transaction.ask(KEEP, scores=[{"tenant_id": name, **facts} for name in names], genesis=GENESIS)

"""Which scores were published: noted beside the heads and kept behind HAS_SCORE, soon and in the background."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Any, Final

from coherence_grpc.adapters.neo4j.failures import FAILURES
from coherence_grpc.adapters.neo4j.instants import instant
from coherence_grpc.adapters.neo4j.keeping import KEPT
from coherence_grpc.errors import CoherenceError
from coherence_grpc.model import GENESIS
from coherence_grpc.shards import shard_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from coherence_grpc.adapters.neo4j.graph import Graph, Statements
    from coherence_grpc.model import Score

NOTES_S: Final = 1.0
# Tenants are locked while their scores are written, and who writes to one of them waits.
BATCH: Final = 100

# Each locks its tenant before it looks at the version, in the order of the tenants as everybody does.
KEEP: Final = f"""{KEPT}
UNWIND $scores AS score
MERGE (t:Tenant {{tenant_id: score.tenant_id}})
ON CREATE SET t.head_seq = 0, t.head_hash = $genesis, t.shard = score.shard
SET t.lock = 'score'
WITH t, score
WHERE t.score_version IS NULL OR t.score_epoch < score.score_epoch
   OR t.score_epoch = score.score_epoch AND t.score_version <= score.version
SET t.score_epoch = score.score_epoch, t.score_version = score.version
MERGE (c:CoherenceScore {{tenant_id: score.tenant_id}})
MERGE (t)-[:HAS_SCORE]->(c)
SET c += score.properties, c.updated_at = {instant("score.updated_at")}
"""
PUBLISHED: Final = """
MATCH (t:Tenant) WHERE t.score_version IS NOT NULL
RETURN collect([t.tenant_id, t.score_epoch, t.score_version])
"""

_log = logging.getLogger(__name__)


class Notes:
    """The newest score of each tenant that was told here; what is not written yet is written within two seconds."""

    def __init__(self, graph: Graph) -> None:
        self._graph = graph
        self._newest: dict[str, tuple[int, int]] = {}
        self._unwritten: dict[str, Score] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._writing = asyncio.Lock()

    def note(self, score: Score) -> None:
        """Remembers the score unless a newer one is remembered."""
        note = (score.score_epoch, score.version)
        if note < self._newest.get(score.tenant_id, note):
            return
        self._newest[score.tenant_id] = note
        self._unwritten[score.tenant_id] = score
        self._set_timer()

    def _set_timer(self) -> None:
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(NOTES_S, self._due)

    def _due(self) -> None:
        self._timer = None
        self._graph.spawn(self.write())

    async def settle(self) -> None:
        """Writes what is only noted yet."""
        await self.write()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    async def write(self) -> None:
        """Writes the notes; what can't be written now stays noted and is tried again."""
        async with self._writing:
            tenant_ids = sorted(self._unwritten)
            for begin in range(0, len(tenant_ids), BATCH):
                scores = [self._unwritten[tenant_id] for tenant_id in tenant_ids[begin : begin + BATCH]]
                try:
                    await self._write(scores)
                except (CoherenceError, *FAILURES) as error:
                    said = error.message if isinstance(error, CoherenceError) else type(error).__name__
                    _log.warning("which scores were published could not be written yet: %s", said)
                    self._set_timer()
                    return

    async def _write(self, scores: Sequence[Score]) -> None:
        rows = [_row(score) for score in scores]

        async def keep(transaction: Statements) -> None:
            await transaction.change(KEEP, scores=rows, genesis=GENESIS)

        await self._graph.transact(keep)
        for score in scores:
            if self._unwritten.get(score.tenant_id) is score:
                del self._unwritten[score.tenant_id]

    async def published(self) -> Mapping[str, tuple[int, int]]:
        """The newest (score epoch, version) of each tenant, written or only noted yet."""
        (found,) = await self._graph.ask(PUBLISHED)
        newest = {tenant_id: (epoch, version) for tenant_id, epoch, version in found}
        for tenant_id, note in self._newest.items():
            newest[tenant_id] = max(note, newest.get(tenant_id, note))
        return newest


def _row(score: Score) -> dict[str, Any]:
    return {
        "tenant_id": score.tenant_id,
        "shard": shard_of(score.tenant_id),
        "score_epoch": score.score_epoch,
        "version": score.version,
        "updated_at": score.window_end,
        "properties": {
            # Six decimals, as everywhere; none while the status is UNKNOWN.
            "score": None if score.score_ppm is None else score.score_ppm / 10**6,
            "status": score.status.value,
            "held_status": None if score.held is None else score.held.status.value,
            "signal_count": score.signal_count,
            "as_of_seq": score.as_of_seq,
            "signal_epoch": score.signal_epoch,
            "score_epoch": score.score_epoch,
            "version": score.version,
        },
    }

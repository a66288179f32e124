"""Published rows, and those last seen while the score store is away."""

from __future__ import annotations

from time import monotonic
from typing import TYPE_CHECKING, Final, NamedTuple

from coherence_grpc.errors import StoreDown, StoreTimeout
from coherence_grpc.materialize.heard import Heard

if TYPE_CHECKING:
    from coherence_grpc.model import Score
    from coherence_grpc.ports import ScoreStore

MANY: Final = 4096


class Seen(NamedTuple):
    """A tenant's row. `remembered_s`: how long ago it was in the store for certain, when that can't be asked now."""

    row: Score | None
    remembered_s: float | None = None


class Rows:
    """Reads rows of the score store and remembers them, and what is published here, for bad times."""

    def __init__(self, scores: ScoreStore) -> None:
        self._scores = scores
        self._seen: dict[str, tuple[Score, float]] = {}
        self._heard = Heard()

    @property
    def epoch(self) -> int:
        """The score store's."""
        return self._scores.epoch

    async def last(self, tenant_id: str) -> Seen:
        """The tenant's row; while the store is away the one last seen here, if there was one."""
        try:
            row = (await self._scores.get((tenant_id,))).get(tenant_id)
        except (StoreDown, StoreTimeout):
            return self._remembered(tenant_id)
        if row is not None:
            self.remember(row)
        return Seen(row)

    def remember(self, row: Score) -> None:
        """The row is in the store now."""
        if row.tenant_id not in self._seen and len(self._seen) >= MANY:
            self._seen.clear()
        self._seen[row.tenant_id] = row, monotonic()

    def moved(self, tenant_id: str, seq: int) -> None:
        """The tenant's log has entry `seq`: soon its row should have seen it."""
        self._heard.moved(tenant_id, seq)

    def behind(self, row: Score) -> bool:
        """The row has not seen what the log had a moment ago."""
        return row.as_of_seq < self._heard.due(row.tenant_id)

    def _remembered(self, tenant_id: str) -> Seen:
        if tenant_id not in self._seen:
            return Seen(None)
        row, at = self._seen[tenant_id]
        return Seen(row, monotonic() - at)

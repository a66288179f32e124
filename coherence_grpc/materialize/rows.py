"""Published rows, and those last seen while the score store is away."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from coherence_grpc.errors import StoreDown, StoreTimeout

if TYPE_CHECKING:
    from coherence_grpc.model import Score
    from coherence_grpc.ports import ScoreStore

MANY: Final = 4096


class Rows:
    """Reads rows of the score store and remembers them for bad times."""

    def __init__(self, scores: ScoreStore) -> None:
        self._scores = scores
        self._seen: dict[str, Score] = {}

    @property
    def epoch(self) -> int:
        """The score store's."""
        return self._scores.epoch

    async def last(self, tenant_id: str) -> Score | None:
        """The tenant's row; while the store is away the one last seen here, if there was one."""
        try:
            row = (await self._scores.get((tenant_id,))).get(tenant_id)
        except (StoreDown, StoreTimeout):
            return self._seen.get(tenant_id)
        if row is not None:
            if len(self._seen) >= MANY:
                self._seen.clear()
            self._seen[tenant_id] = row
        return row

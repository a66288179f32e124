"""Scores that were answered a moment ago: most readers ask for the same few tenants, many times between two writes."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable

    from coherence_grpc.model import Appended, Score
    from coherence_grpc.ports import Clock

# So far behind the present an answer's window may end; its score is exact nonetheless.
FRESH_S: Final = 0.01
FRESH_US: Final = 10_000
MANY: Final = 4096


class _Answer(NamedTuple):
    given_at: float
    window_end: int
    valid_until: int | None
    encoded: bytes


class RecentScores:
    """Encoded answers, each good for 10 ms unless a write, a publication or the passing of time changes it before."""

    def __init__(self, clock: Clock, enabled: Callable[[], bool]) -> None:
        self._clock = clock
        self._enabled = enabled
        self._loop = asyncio.get_running_loop()
        self._answers: dict[str, _Answer] = {}
        self._changes = 0

    def appended(self, appended: Appended) -> None:
        """A write was committed: its tenant's next read sees it. To be called before the write is acknowledged."""
        self._forget(appended.write.tenant_id)

    def published(self, score: Score) -> None:
        """A score was published: no read goes back behind its version. To be called before anybody hears of it."""
        self._forget(score.tenant_id)

    def mark(self) -> int:
        """Taken before a score is evaluated: what changes meanwhile is not missed."""
        return self._changes

    def get(self, tenant_id: str) -> bytes | None:
        """The tenant's answer, if it still holds."""
        answer = self._answers.get(tenant_id)
        if answer is None or self._loop.time() - answer.given_at > FRESH_S or not self._enabled():
            return None
        now = self._clock.now()
        if now - answer.window_end > FRESH_US or (answer.valid_until is not None and now >= answer.valid_until):
            return None
        return answer.encoded

    def put(self, score: Score, encoded: bytes, mark: int) -> None:
        """Keep the answer, unless anything has changed since the mark."""
        if mark != self._changes:
            return
        if len(self._answers) >= MANY:
            self._answers.clear()
        self._answers[score.tenant_id] = _Answer(self._loop.time(), score.window_end, score.valid_until, encoded)

    def _forget(self, tenant_id: str) -> None:
        self._changes += 1
        self._answers.pop(tenant_id, None)

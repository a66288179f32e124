"""Scores that nothing has changed since they were answered: for their next reader only the times are written anew."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from coherence_grpc.model import SECOND, WINDOW, ScoreSource

if TYPE_CHECKING:
    from collections.abc import Callable

    from coherence.v1.score_pb2 import GetScoreResponse
    from coherence_grpc.model import Appended, Score
    from coherence_grpc.ports import Clock

# A response takes about 2 kB.
MANY: Final = 4096


class _Answer(NamedTuple):
    response: GetScoreResponse
    window_end: int
    valid_until: int | None


class UnchangedScores:
    """Responses, each good until a write or a publication of its tenant, or until time changes the score."""

    def __init__(self, clock: Clock, enabled: Callable[[], bool]) -> None:
        self._clock = clock
        self._enabled = enabled
        self._answers: dict[str, _Answer] = {}
        self._changes = 0

    def appended(self, appended: Appended) -> None:
        """A write was committed: its tenant's next read sees it. To be called before the write is acknowledged."""
        self._forget(appended.write.tenant_id)

    def published(self, score: Score) -> None:
        """A score was published: no read goes back behind its version. To be called before anybody hears of it."""
        self._forget(score.tenant_id)

    def moved(self, tenant_id: str) -> None:
        """The log of the tenant has an entry that no request stored: its policy changed, or it is computed anew."""
        self._forget(tenant_id)

    def mark(self) -> int:
        """Taken before a score is evaluated: what changes meanwhile is not missed."""
        return self._changes

    def get(self, tenant_id: str) -> bytes | None:
        """The tenant's response as of now, encoded; None when it has to be evaluated."""
        answer = self._answers.get(tenant_id)
        if answer is None or not self._enabled():
            return None
        now = self._clock.now()
        if answer.valid_until is not None and now >= answer.valid_until:
            return None
        score = answer.response.score
        # As an evaluation would have it: a window never ends before that of the row.
        end = max(now, answer.window_end)
        for stamp, instant in (
            (score.window_start_time, end - WINDOW),
            (score.window_end_time, end),
            (score.computed_time, now),
        ):
            seconds, rest = divmod(instant, SECOND)
            stamp.seconds = seconds
            stamp.nanos = rest * 1000
        return answer.response.SerializeToString()

    def put(self, score: Score, response: GetScoreResponse, mark: int) -> None:
        """Keep the response, which is nobody else's from now on, unless anything has changed since the mark.

        One that is stale is not kept: the next reader may have a better one; nor one under a policy, of which time may
        change more than the times.
        """
        if mark != self._changes or score.stale or score.policy_etag or score.source is not ScoreSource.MATERIALIZED:
            return
        if len(self._answers) >= MANY:
            self._answers.clear()
        self._answers[score.tenant_id] = _Answer(response, score.window_end, score.valid_until)

    def _forget(self, tenant_id: str) -> None:
        self._changes += 1
        self._answers.pop(tenant_id, None)

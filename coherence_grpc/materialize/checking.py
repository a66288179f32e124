"""Whether the two stores tell one story, and what to do when they don't."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from coherence_grpc.errors import DataRefused
from coherence_grpc.ports import ScoreQuery
from coherence_grpc.score import UNKNOWN_RANK

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from coherence_grpc.model import Head, Score
    from coherence_grpc.ports import ScoreStore, SignalStore

_PAGE: Final = 1000
_REMEDY: Final = (
    "run `coherence rebuild-scores --data DIR` under the settings of the service: the scores are computed anew from"
    " the signals"
)


async def check_stores(signals: SignalStore, scores: ScoreStore) -> None:
    """Returns when each score follows from the log, and the log knows of no later one.

    Raises:
        DataRefused: one of them is behind the other: a file was restored or replaced on its own.
    """
    notes = dict(await signals.published())
    async for page in _pages(scores):
        heads = await signals.heads([score.tenant_id for score in page])
        for score in page:
            if not await _follows(signals, score, heads[score.tenant_id]):
                _refuse(f"the score of tenant {score.tenant_id!r} is of entry {score.as_of_seq}, which the log lacks")
            _check_note(scores, score.tenant_id, score.version, notes.pop(score.tenant_id, (0, 0)))
    for tenant_id, note in notes.items():
        _check_note(scores, tenant_id, 0, note)


async def _pages(scores: ScoreStore) -> AsyncIterator[Sequence[Score]]:
    after: tuple[int, str] | None = None
    while page := await scores.portfolio(ScoreQuery(), tenants=None, after=after, limit=_PAGE):
        yield page
        last = page[-1]
        after = (UNKNOWN_RANK if last.score_ppm is None else last.score_ppm, last.tenant_id)


async def _follows(signals: SignalStore, score: Score, head: Head) -> bool:
    if score.signal_epoch != head.epoch or score.as_of_seq > head.seq:
        return False
    if score.as_of_seq == head.seq:
        return score.head_hash == head.head_hash
    return score.head_hash == await signals.hash_at(score.tenant_id, score.as_of_seq)


def _check_note(scores: ScoreStore, tenant_id: str, version: int, note: tuple[int, int]) -> None:
    if note > (scores.epoch, version):
        _refuse(f"version {note[1]} of the score of tenant {tenant_id!r} was published, and the score store lacks it")


def _refuse(problem: str) -> None:
    message = f"{problem}: one store was restored or replaced without the other; {_REMEDY}"
    raise DataRefused(message)

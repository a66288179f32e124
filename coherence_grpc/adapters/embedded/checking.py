"""Whether the two files tell one story, and what to do when they don't."""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING, Final, NamedTuple

from coherence_grpc.adapters.embedded import scores as scores_file
from coherence_grpc.adapters.embedded import signals as signals_file
from coherence_grpc.adapters.embedded.directory import lock_directory
from coherence_grpc.adapters.embedded.opening import epoch_of, open_writer, set_epoch
from coherence_grpc.adapters.embedded.schema import SCORES, SIGNALS
from coherence_grpc.adapters.embedded.score_table import UNKNOWN_RANK
from coherence_grpc.errors import DataRefused
from coherence_grpc.ports import ScoreQuery

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence
    from pathlib import Path

    import apsw

    from coherence_grpc.model import Head, Score
    from coherence_grpc.ports import ScoreStore, SignalStore

_PAGE: Final = 1000
_REMEDY: Final = "run `coherence rebuild-scores --data DIR`: the scores are computed anew from the signals"
_NEWEST_NOTE: Final = "SELECT coalesce(max(score_epoch), 0) FROM heads"
_FORGET_NOTES: Final = "UPDATE heads SET score_epoch = NULL, score_version = NULL"
_NEWEST_SEEN: Final = "SELECT coalesce(max(signal_epoch), 0) FROM scores"
_EMPTY: Final = "DELETE FROM scores; DELETE FROM score_history; DELETE FROM meta WHERE name = 'thinned_until'"


class Epochs(NamedTuple):
    """The epochs of the two stores."""

    signals: int
    scores: int


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
    message = f"{problem}: one file was restored or replaced without the other; {_REMEDY}"
    raise DataRefused(message)


def rebuild_scores(directory: Path) -> Epochs:
    """Empties the score store and raises both epochs; the scores are computed anew when they are asked for.

    A score store that can't be read is replaced. Positions issued before expire.

    Raises:
        DataRefused: a server uses the directory, or its signal store can't be opened.
    """
    with lock_directory(directory):
        path = directory / signals_file.FILE
        if not path.exists():
            message = f"{directory} holds no {path.name}; name the data directory of a server, or restore a backup"
            raise DataRefused(message)
        with closing(open_writer(path, SIGNALS)) as signals, closing(_open_scores(directory)) as scores:
            epochs = Epochs(
                max(epoch_of(signals), scores.execute(_NEWEST_SEEN).get) + 1,
                max(epoch_of(scores), signals.execute(_NEWEST_NOTE).get) + 1,
            )
            # Stopped in between, the notes are of an older epoch than the scores and say nothing.
            with scores:
                scores.execute(_EMPTY)
                set_epoch(scores, epochs.scores)
            with signals:
                signals.execute(_FORGET_NOTES)
                set_epoch(signals, epochs.signals)
            return epochs


def _open_scores(directory: Path) -> apsw.Connection:
    path = directory / scores_file.FILE
    try:
        return open_writer(path, SCORES)
    except DataRefused:
        for name in (path.name, f"{path.name}-wal", f"{path.name}-shm"):
            (directory / name).unlink(missing_ok=True)
        return open_writer(path, SCORES)

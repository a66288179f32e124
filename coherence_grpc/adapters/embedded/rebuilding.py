"""Scores thrown away, to be computed anew from the signals: when a file was lost, or restored on its own."""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING, Final, NamedTuple

from coherence_grpc.adapters.embedded import scores as scores_file
from coherence_grpc.adapters.embedded import signals as signals_file
from coherence_grpc.adapters.embedded.directory import lock_directory
from coherence_grpc.adapters.embedded.opening import epoch_of, open_writer, set_epoch
from coherence_grpc.adapters.embedded.schema import SCORES, SIGNALS
from coherence_grpc.errors import DataRefused

if TYPE_CHECKING:
    from pathlib import Path

    import apsw

_NEWEST_NOTE: Final = "SELECT coalesce(max(score_epoch), 0) FROM heads"
_FORGET_NOTES: Final = "UPDATE heads SET score_epoch = NULL, score_version = NULL"
_NEWEST_SEEN: Final = "SELECT coalesce(max(signal_epoch), 0) FROM scores"
_EMPTY: Final = "DELETE FROM scores; DELETE FROM score_history; DELETE FROM meta WHERE name = 'thinned_until'"


class Epochs(NamedTuple):
    """The epochs of the two stores."""

    signals: int
    scores: int


def rebuild_scores(directory: Path) -> Epochs:
    """Empties the score store and raises both epochs; the scores are computed anew when they are asked for.

    A score store that can't be read is replaced. Positions issued before expire.

    Raises:
        DataRefused: a server uses the directory, or its signal store can't be opened.
    """
    with lock_directory(directory):
        _check_signals(directory)
        with closing(open_writer(directory / signals_file.FILE, SIGNALS)) as signals:
            newest_note = signals.execute(_NEWEST_NOTE).get
        # Stopped in between, the notes are of an older epoch than the scores and say nothing.
        seen, scores = _empty_scores(directory, at_least=newest_note + 1)
        return Epochs(_raise_signals(directory, at_least=seen + 1), scores)


def empty_scores(directory: Path, *, at_least: int) -> int:
    """Empties the score file alone; its epoch afterwards, which is raised, to `at_least` or higher.

    Raises:
        DataRefused: a server uses the directory.
    """
    with lock_directory(directory):
        return _empty_scores(directory, at_least=at_least)[1]


def forget_notes(directory: Path, *, at_least: int) -> int:
    """Forgets which scores were published; the signal file's epoch afterwards, raised to `at_least` or higher.

    Raises:
        DataRefused: a server uses the directory, or its signal store can't be opened.
    """
    with lock_directory(directory):
        _check_signals(directory)
        return _raise_signals(directory, at_least=at_least)


def _check_signals(directory: Path) -> None:
    path = directory / signals_file.FILE
    if not path.exists():
        message = f"{directory} holds no {path.name}; name the data directory of a server, or restore a backup"
        raise DataRefused(message)


def _empty_scores(directory: Path, *, at_least: int) -> tuple[int, int]:
    """The newest signal epoch that the scores had seen, and the score file's new one."""
    with closing(_open_scores(directory)) as scores:
        seen = scores.execute(_NEWEST_SEEN).get
        epoch = max(epoch_of(scores) + 1, at_least)
        with scores:
            scores.execute(_EMPTY)
            set_epoch(scores, epoch)
        return seen, epoch


def _raise_signals(directory: Path, *, at_least: int) -> int:
    with closing(open_writer(directory / signals_file.FILE, SIGNALS)) as signals:
        epoch = max(epoch_of(signals) + 1, at_least)
        with signals:
            signals.execute(_FORGET_NOTES)
            set_epoch(signals, epoch)
        return epoch


def _open_scores(directory: Path) -> apsw.Connection:
    path = directory / scores_file.FILE
    try:
        return open_writer(path, SCORES)
    except DataRefused:
        for name in (path.name, f"{path.name}-wal", f"{path.name}-shm"):
            (directory / name).unlink(missing_ok=True)
        return open_writer(path, SCORES)

"""One tenant in memory: its window, the log position that covers, and the row published last."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from coherence_grpc.model import WINDOW, EntryKind, Head, Score, ScoreSource, Status
from coherence_grpc.score import status_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from coherence_grpc.materialize.window import Window
    from coherence_grpc.model import Appended, Entry


class Live:
    """A tenant's window, exact up to entry `seq` of its log.

    `aged` says that time has moved it since the last publication. `hold_until` is the machine time before which only a
    change of status is published. `row_known` is False when a publication failed half-way: the row must be read again.
    """

    __slots__ = ("_epoch", "_head_hash", "_window", "aged", "hold_until", "row", "row_known", "seq", "tenant_id")

    def __init__(self, tenant_id: str, window: Window, head: Head, row: Score | None) -> None:
        self.tenant_id = tenant_id
        self.row = row
        self.row_known = True
        self.seq = head.seq
        self.aged = False
        self.hold_until = 0.0
        self._window = window
        self._epoch = head.epoch
        self._head_hash = head.head_hash

    def apply(self, appended: Appended) -> bool:
        """Takes in what was committed; False, and nothing done, when entries between are missing."""
        known = self.seq + 1 - appended.first_seq
        if known < 0:
            return False
        stored = appended.stored[known:] if known else appended.stored
        if stored:
            self._advance(appended.recorded_at)
            self._window.add(stored)
            self.seq += len(stored)
            self._head_hash = appended.hashes[-1]
        return True

    def apply_entries(self, entries: Sequence[Entry]) -> None:
        """Takes in entries of the log, which must continue at `seq` + 1."""
        for entry in entries:
            if entry.kind is EntryKind.STORED and entry.item is not None:
                self._advance(entry.recorded_at)
                self._window.add((entry.item,))
            self.seq, self._head_hash = entry.seq, entry.head_hash

    def evaluate(self, now: int, score_epoch: int) -> Score:
        """The score at `now`, or at the window's end if that is later: a row never goes back in time."""
        row, window = self.row, self._window
        self._advance(now)
        sums = window.sums()
        score_ppm = sums.score_ppm()
        return Score(
            tenant_id=self.tenant_id,
            score_ppm=score_ppm,
            status=status_of(score_ppm),
            signal_count=sums.count,
            weight_q=sums.weight,
            window_start=window.now - WINDOW,
            window_end=window.now,
            data_time=window.data_time,
            valid_until=window.valid_until,
            as_of_seq=self.seq,
            head_hash=self._head_hash,
            signal_epoch=self._epoch,
            score_epoch=score_epoch,
            version=0 if row is None else row.version,
            # Not `now`: another process's clock, by which the row in place was made, may be ahead of ours.
            computed_at=window.now,
            source=ScoreSource.MATERIALIZED,
        )

    def status_moved(self, now: int) -> bool:
        """Whether the status at `now` is another than the row's."""
        self._advance(now)
        return self._window.sums().status() is not self._shown

    def publication(self, score: Score, *, backfill: bool) -> Score | None:
        """The row to publish for `score`; None when the row in place says the same.

        The same score and status keep the version: then only the row's other columns are brought up to date.
        `backfill` says that all signals since the last publication were backfilled.
        """
        row, aged = self.row, self.aged
        self.aged = False
        if row is None or (row.score_ppm, row.status) != (score.score_ppm, score.status):
            return replace(
                score,
                version=score.version + 1,
                status_changed=score.status is not self._shown,
                backfill=backfill and not aged,
            )
        if _facts(row) == _facts(score):
            return None
        return replace(score, status_changed=row.status_changed, backfill=row.backfill)

    @property
    def _shown(self) -> Status:
        return Status.UNKNOWN if self.row is None else self.row.status

    def _advance(self, instant: int) -> None:
        if self._window.advance(instant):
            self.aged = True


def _facts(score: Score) -> tuple[object, ...]:
    return (
        score.signal_epoch,
        score.as_of_seq,
        score.head_hash,
        score.valid_until,
        score.signal_count,
        score.weight_q,
        score.data_time,
    )

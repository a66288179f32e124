"""One tenant in memory: its window, the log position that covers, and the row published last."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final

from coherence_grpc.held import follow
from coherence_grpc.materialize.sweep import next_change
from coherence_grpc.model import EntryKind, Head, Held, Score, ScoreSource, Status

if TYPE_CHECKING:
    from collections.abc import Sequence

    from coherence_grpc.materialize.sweep import AnyWindow
    from coherence_grpc.model import Appended, Entry, Item
    from coherence_grpc.policy import PolicyVersion
    from coherence_grpc.rules import Verdict

# Entries after which the window is read again.
_ASKING: Final = frozenset((EntryKind.POLICY, EntryKind.RECOMPUTE))


class Live:
    """A tenant's window, exact up to entry `seq` of its log.

    `aged` says that time has moved it since the last publication. `hold_until` is the machine time before which only a
    change of status is published. `row_known` is False when a publication failed half-way: the row must be read again.
    `outdated` says that the window has to be read again: the policy changed, a recomputation was asked for, or what a
    signal took the place of is not known any more.
    """

    __slots__ = (
        "_epoch",
        "_head_hash",
        "_held",
        "_version",
        "_window",
        "aged",
        "hold_until",
        "outdated",
        "row",
        "row_known",
        "seq",
        "tenant_id",
    )

    def __init__(
        self,
        tenant_id: str,
        window: AnyWindow,
        head: Head,
        row: Score | None,
        version: PolicyVersion,
        held: Held | None,
    ) -> None:
        self.tenant_id = tenant_id
        self.row = row
        self.row_known = True
        self.aged = False
        self.hold_until = 0.0
        self._held = held
        self.renew(window, head, version)

    def renew(self, window: AnyWindow, head: Head, version: PolicyVersion) -> None:
        """Goes on with a window that was read again; what is held stays."""
        self.seq = head.seq
        self.outdated = False
        self._window = window
        self._version = version
        self._epoch = head.epoch
        self._head_hash = head.head_hash

    @property
    def now(self) -> int:
        """The end of its window."""
        return self._window.now

    @property
    def held(self) -> Held | None:
        """What is held, as far as it was looked at."""
        return self._held

    def apply(self, appended: Appended) -> bool:
        """Takes in what was committed; False, and nothing done, when entries between are missing."""
        known = self.seq + 1 - appended.first_seq
        if known < 0:
            return False
        stored = appended.stored[known:] if known else appended.stored
        if stored:
            self._advance(appended.recorded_at)
            if appended.superseded:
                for index, item in enumerate(stored, known):
                    self._take_in(item, appended.superseded.get(index))
            else:
                self._window.add(stored)
            self.seq += len(stored)
            self._head_hash = appended.hashes[-1]
            self._look()
        return True

    def apply_entries(self, entries: Sequence[Entry]) -> None:
        """Takes in entries of the log, which must continue at `seq` + 1."""
        for entry in entries:
            if entry.kind in _ASKING or (entry.kind is EntryKind.REPLACED and entry.superseded is None):
                # Up to now the policy there was decides what is held.
                self._advance(entry.recorded_at)
                self._hold(self._window.verdict())
                self.outdated = True
            elif entry.item is not None:
                self._advance(entry.recorded_at)
                self._take_in(entry.item, entry.superseded)
                self._look()
            self.seq, self._head_hash = entry.seq, entry.head_hash

    def evaluate(self, now: int, score_epoch: int) -> Score:
        """The score at `now`, or at the window's end if that is later: a row never goes back in time."""
        row, window = self.row, self._window
        self._advance(now)
        verdict = window.verdict()
        held = self._hold(verdict)
        return Score(
            tenant_id=self.tenant_id,
            score_ppm=verdict.score_ppm,
            status=verdict.status,
            signal_count=verdict.signal_count,
            weight_q=verdict.weight_q,
            window_start=window.now - window.policy.window_us,
            window_end=window.now,
            data_time=window.data_time,
            valid_until=next_change(window, held),
            as_of_seq=self.seq,
            head_hash=self._head_hash,
            signal_epoch=self._epoch,
            score_epoch=score_epoch,
            version=0 if row is None else row.version,
            # Not `now`: another process's clock, by which the row in place was made, may be ahead of ours.
            computed_at=window.now,
            source=ScoreSource.MATERIALIZED,
            policy_etag=self._version.score_etag,
            held=held,
        )

    def status_moved(self, now: int) -> bool:
        """Whether the status at `now`, or the held one, is another than the row's."""
        self._advance(now)
        verdict = self._window.verdict()
        status = Status.UNKNOWN if self.row is None else self.row.status
        return verdict.status is not status or self._hold(verdict).status is not shown(self.row)

    def publication(self, score: Score, *, backfill: bool) -> Score | None:
        """The row to publish for `score`; None when the row in place says the same.

        The same score, status and held status keep the version: then only the row's other columns are brought up to
        date. `backfill` says that all signals since the last publication were backfilled.
        """
        row, aged = self.row, self.aged
        self.aged = False
        if row is None or _shows(row) != _shows(score):
            return replace(
                score,
                version=score.version + 1,
                status_changed=shown(score) is not shown(row),
                backfill=backfill and not aged,
            )
        if _facts(row) == _facts(score):
            return None
        return replace(score, status_changed=row.status_changed, backfill=row.backfill)

    def _take_in(self, item: Item, superseded: Item | None) -> None:
        if superseded is not None and not self._window.remove(superseded):
            # It was erased meanwhile, or the window is not what the log says: the log knows.
            self.outdated = True
        self._window.add((item,))

    def _look(self) -> None:
        """What is held follows every change where it depends on what was before."""
        if self._window.policy.remembers:
            self._hold(self._window.verdict())

    def _hold(self, verdict: Verdict) -> Held:
        self._held = follow(self._held, self._window.policy, verdict, self._window.now)
        return self._held

    def _advance(self, instant: int) -> None:
        if self._window.policy.remembers:
            # Each change on the way may be one of those that decide what is held.
            while (due := next_change(self._window, self._held)) is not None and due <= instant:
                self.aged = self._window.advance(due) or self.aged
                self._look()
        if self._window.advance(instant):
            self.aged = True


def shown(row: Score | None) -> Status:
    """The status that a row shows: the held one; a row of a release that held nothing shows its status."""
    if row is None:
        return Status.UNKNOWN
    return row.status if row.held is None else row.held.status


def _shows(score: Score) -> tuple[object, ...]:
    return score.score_ppm, score.status, shown(score)


def _facts(score: Score) -> tuple[object, ...]:
    return (
        score.signal_epoch,
        score.as_of_seq,
        score.head_hash,
        score.valid_until,
        score.signal_count,
        score.weight_q,
        score.data_time,
        score.policy_etag,
        score.held,
    )

"""The course of a score over a range of time: what it was at given instants, and when what was held changed.

What the sweep finds instant by instant, in one pass that only stops where the outcome can be another one.
"""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING, NamedTuple

from coherence_grpc.held import dwell_ends, follow, lasted
from coherence_grpc.materialize.plain_pass import PlainPass
from coherence_grpc.materialize.ruled_pass import RuledPass
from coherence_grpc.materialize.sweep import Swept
from coherence_grpc.policy import PPM

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from coherence_grpc.model import Held, Status
    from coherence_grpc.policy import ScorePolicy
    from coherence_grpc.ports import WindowColumns
    from coherence_grpc.rules import Verdict


class Span(NamedTuple):
    """A stretch of time with one held status: `end` is the first instant after it, or the last of the range."""

    status: Status
    start: int
    end: int


class Course:
    """What happened from `start` to `end`: a point for each of the samples, and every change of what is held.

    `samples` are ascending instants of the range. `held` is what was held before `start`; None: nothing. `columns` must
    reach from `start` − window to `end`, with groups unless the policy is plain.
    """

    def __init__(
        self,
        columns: WindowColumns,
        policy: ScorePolicy,
        *,
        start: int,
        end: int,
        samples: Sequence[int] = (),
        held: Held | None = None,
    ) -> None:
        self._policy = policy
        self._end = end
        self._samples = samples
        self._turns = turns(columns, policy, start=start, end=end, samples=samples)
        self._began = [start]
        self._statuses: list[Status] = []
        self.points: list[Swept] = []
        self.held = held

    def take(self, limit: int) -> bool:
        """Goes on by so many turns; whether that was the last of them."""
        count = 0
        for instant, verdict in islice(self._turns, limit):
            count += 1
            self._wait_until(instant)
            self.held = follow(self.held, self._policy, verdict, instant)
            self._note(instant)
            taken = len(self.points)
            if taken < len(self._samples) and self._samples[taken] == instant:
                self.points.append(Swept(instant, verdict, self.held))
        if count < limit:
            self._wait_until(self._end)
        return count < limit

    def finished(self) -> Course:
        """Itself, after the last turn."""
        while not self.take(PPM):
            pass
        return self

    @property
    def change_count(self) -> int:
        """How often what is held changed, after the start."""
        return len(self._statuses) - 1

    @property
    def spans(self) -> Iterator[Span]:
        """The range cut where what is held changed."""
        yield from map(Span, self._statuses, self._began, [*self._began[1:], self._end])

    def _wait_until(self, instant: int) -> None:
        """What lasted takes effect when it is due, not when somebody looks."""
        while self.held is not None and (due := dwell_ends(self.held, self._policy)) is not None and due <= instant:
            self.held = lasted(self.held, self._policy, due)
            self._note(due)

    def _note(self, instant: int) -> None:
        if self.held is None or (self._statuses and self._statuses[-1] is self.held.status):
            return
        if self._statuses and self._began[-1] < instant:
            self._began.append(instant)
            self._statuses.append(self.held.status)
        elif not self._statuses:
            self._statuses.append(self.held.status)
        else:
            # Of two at the same instant the later one is what is held.
            self._replace(self.held.status)

    def _replace(self, status: Status) -> None:
        self._statuses[-1] = status
        if len(self._statuses) > 1 and self._statuses[-2] is status:
            del self._statuses[-1], self._began[-1]


def turns(
    columns: WindowColumns, policy: ScorePolicy, *, start: int, end: int, samples: Sequence[int] = ()
) -> Iterator[tuple[int, Verdict]]:
    """The verdict at `start`, at each sample and wherever what follows from it may change, up to `end`."""
    forced = sorted({start, *samples})
    # Made when first asked for a turn: whoever asks may be a thread.
    sweep = PlainPass if policy.plain else RuledPass
    yield from sweep(columns, policy, start).turns(forced, end)

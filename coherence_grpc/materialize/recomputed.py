"""A score's history as the signals stored by now make it, under one policy."""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING

from coherence_grpc.materialize.course import Course
from coherence_grpc.materialize.history import MOST_SPANS, HistoryPage, Point, Position
from coherence_grpc.materialize.sweeping import Stretch
from coherence_grpc.materialize.versions import version_named

if TYPE_CHECKING:
    from coherence_grpc.materialize.history import HistoryQuery, Range
    from coherence_grpc.materialize.sweep import Swept
    from coherence_grpc.materialize.sweeping import Sweeps
    from coherence_grpc.policy import PolicyVersion
    from coherence_grpc.ports import SignalStore


class RecomputedHistory:
    """Sweeps a range once for its first page, and for another page only the stretch that this shows."""

    def __init__(self, signals: SignalStore, sweeps: Sweeps) -> None:
        self._signals = signals
        self._sweeps = sweeps

    async def page(self, query: HistoryQuery, asked: Range, after: Position | None, limit: int) -> HistoryPage:
        """The points beyond `after`, at most `limit`. At the start of the range nothing is held back.

        Raises:
            FilterInvalid: the range reaches over more signals than one call may sweep.
            ScorePolicyUnknown: the tenant never had that policy.
            WindowIncomplete: signals of the range, or of the window before it, were erased.
        """
        version = await self._version(query, after)
        passed = 0 if after is None else after.passed
        following = min(passed + limit, asked.samples)
        samples = [asked.start + number * asked.step for number in range(passed, following)]
        # The point before is where the last page ended, and what was held there is known.
        start = asked.start if after is None else asked.start + (passed - 1) * asked.step
        end = asked.end if after is None else samples[-1]
        policy = version.policy
        stretch = Stretch(
            query.tenant_id, start - policy.window_us, end, policy.window_us, not policy.plain, "start_time"
        )
        columns, _ = await self._sweeps.read(stretch)
        held = None if after is None else after.held
        course = Course(columns, policy, start=start, end=end, samples=samples, held=held)
        await self._sweeps.run(course, len(columns.ts), policy)
        last = course.points[-1].held
        more = following < asked.samples
        return HistoryPage(
            [_point(point, version) for point in course.points],
            list(islice(course.spans, MOST_SPANS)) if after is None else (),
            course.change_count if after is None else 0,
            Position(asked, following, last, version.seq) if more else None,
        )

    async def _version(self, query: HistoryQuery, after: Position | None) -> PolicyVersion:
        if query.policy_etag:
            return await version_named(self._signals, query.tenant_id, query.policy_etag)
        # All pages are under the policy that was in force for the first.
        return await self._signals.policy(query.tenant_id, at=None if after is None else after.policy_seq)


def _point(point: Swept, version: PolicyVersion) -> Point:
    instant, verdict, held = point
    return Point(instant, verdict.score_ppm, verdict.status, held.status, verdict.signal_count, 0, version.score_etag)

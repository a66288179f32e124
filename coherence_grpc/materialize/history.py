"""A tenant's score over a range of time."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, Final, NamedTuple, NoReturn

from coherence_grpc.errors import FieldError, FilterInvalid
from coherence_grpc.materialize.course import Span
from coherence_grpc.model import DAY, Status

if TYPE_CHECKING:
    from collections.abc import Sequence

    from coherence_grpc.materialize.recomputed import RecomputedHistory
    from coherence_grpc.model import Held, Score
    from coherence_grpc.ports import Clock, ScoreStore

LONGEST: Final = 400 * DAY
DEFAULT_RANGE: Final = DAY
# Into how many steps a range is cut by default.
STEPS: Final = 100
MOST_SPANS: Final = 10_000
_CHANGES: Final = 10_000


class Basis(StrEnum):
    """What a history is made of."""

    RECORDED = "RECORDED"
    RECOMPUTED = "RECOMPUTED"


class HistoryQuery(NamedTuple):
    """What is asked for; None takes the default. `step` None: every published score, or a 100th of the range."""

    tenant_id: str
    start: int | None = None
    end: int | None = None
    step: int | None = None
    basis: Basis = Basis.RECORDED
    policy_etag: str = ""


class Range(NamedTuple):
    """Instants from `start` to `end`, both included, with a point every `step`; 0: every published score is one."""

    start: int
    end: int
    step: int

    @property
    def samples(self) -> int:
        """How many points there are, of a range with a step."""
        return (self.end - self.start) // self.step + 1


class Position(NamedTuple):
    """Where a history goes on: the range of its first page, and how many samples, or which version, were before.

    Recomputed also what is held there, and the number of the policy it was recomputed under.
    """

    range: Range
    passed: int
    held: Held | None = None
    policy_seq: int = 0


class Point(NamedTuple):
    """The score at one instant; `version` 0: of none that was published."""

    instant: int
    score_ppm: int | None
    status: Status
    held: Status
    signal_count: int
    version: int
    policy_etag: str


class HistoryPage(NamedTuple):
    """Points, and where they go on; `spans` and `change_count` of the whole range on the first page."""

    points: Sequence[Point]
    spans: Sequence[Span]
    change_count: int
    next: Position | None


class History:
    """Reads what was shown; what is recomputed it leaves to `recomputed`."""

    def __init__(self, scores: ScoreStore, clock: Clock, recomputed: RecomputedHistory) -> None:
        self._recomputed = recomputed
        self._scores = scores
        self._clock = clock

    async def page(self, query: HistoryQuery, after: Position | None, limit: int) -> HistoryPage:
        """The points beyond `after`, at most `limit`; before the first score that was published it is UNKNOWN.

        Raises:
            FilterInvalid: the range is not one that can be shown.
            ScorePolicyUnknown, WindowIncomplete: as RecomputedHistory.page.
        """
        asked = after.range if after is not None else self._range(query)
        if query.basis is Basis.RECOMPUTED:
            return await self._recomputed.page(query, asked, after, limit)
        if query.policy_etag:
            _refuse("policy_etag", "applies to the basis RECOMPUTED only; leave it out")
        passed = 0 if after is None else after.passed
        points, following = await self._points(query.tenant_id, asked, passed, limit)
        spans: Sequence[Span] = ()
        changes = 0
        if after is None:
            spans, changes = await self._spans(query.tenant_id, asked)
        return HistoryPage(points, spans, changes, None if following is None else Position(asked, following))

    def _range(self, query: HistoryQuery) -> Range:
        now = self._clock.now()
        end = now if query.end is None else query.end
        start = end - DEFAULT_RANGE if query.start is None else query.start
        if end > now:
            _refuse("end_time", "is ahead of the server's clock; choose a past instant, or leave it out")
        if start > end:
            _refuse("start_time", "is after end_time; choose an earlier one")
        if end - start > LONGEST:
            _refuse("start_time", "is more than 400 days before end_time; choose a shorter range")
        if query.step is not None:
            return Range(start, end, query.step)
        return Range(start, end, 0 if query.basis is Basis.RECORDED else max(1, (end - start) // STEPS))

    async def _points(
        self, tenant_id: str, asked: Range, passed: int, limit: int
    ) -> tuple[Sequence[Point], int | None]:
        if asked.step:
            return await self._sampled(tenant_id, asked, passed, limit)
        return await self._published(tenant_id, asked, passed, limit)

    async def _sampled(
        self, tenant_id: str, asked: Range, passed: int, limit: int
    ) -> tuple[Sequence[Point], int | None]:
        following = min(passed + limit, asked.samples)
        instants = [asked.start + number * asked.step for number in range(passed, following)]
        shown = await self._scores.shown_at([(tenant_id, instant) for instant in instants])
        points = [_point(instant, row) for instant, row in zip(instants, shown, strict=True)]
        return points, following if following < asked.samples else None

    async def _published(
        self, tenant_id: str, asked: Range, passed: int, limit: int
    ) -> tuple[Sequence[Point], int | None]:
        after = passed or await self._scores.version_at(tenant_id, asked.start)
        rows = await self._scores.history(tenant_id, after_version=after, limit=limit + 1)
        within = [row for row in rows if row.window_end <= asked.end]
        points = [_point(row.window_end, row) for row in within[:limit]]
        return points, points[-1].version if len(within) > limit else None

    async def _spans(self, tenant_id: str, asked: Range) -> tuple[Sequence[Span], int]:
        (shown,) = await self._scores.shown_at([(tenant_id, asked.start)])
        held, since, version, count = _held(shown), asked.start, 0, 0
        spans: list[Span] = []
        # Of changes at one instant a page may have had some: they are asked for again, and known by their version.
        start = asked.start
        while rows := await self._scores.changes(tenant_id, start=start, end=asked.end, limit=_CHANGES):
            for row in rows:
                if row.version <= version or _held(row) is held:
                    continue
                if row.window_end > since:
                    _add(spans, Span(held, since, row.window_end))
                held, since, count = _held(row), row.window_end, count + 1
            if len(rows) < _CHANGES or rows[-1].version <= version:
                break
            start, version = rows[-1].window_end - 1, rows[-1].version
        _add(spans, Span(held, since, asked.end))
        return spans[:MOST_SPANS], count


def _add(spans: list[Span], span: Span) -> None:
    # What changed and changed back at one instant lasted on.
    if spans and spans[-1].status is span.status:
        spans[-1] = spans[-1]._replace(end=span.end)
    else:
        spans.append(span)


def _point(instant: int, row: Score | None) -> Point:
    if row is None:
        return Point(instant, None, Status.UNKNOWN, Status.UNKNOWN, 0, 0, "")
    return Point(instant, row.score_ppm, row.status, _held(row), row.signal_count, row.version, row.policy_etag)


def _held(row: Score | None) -> Status:
    if row is None:
        return Status.UNKNOWN
    return row.status if row.held is None else row.held.status


def _refuse(path: str, problem: str) -> NoReturn:
    message = f"{path} {problem}"
    raise FilterInvalid(message, fields=[FieldError(path, problem)])

"""What a score would be with more signals, under another policy, or both. Nothing is written."""

from __future__ import annotations

import asyncio
from itertools import islice
from typing import TYPE_CHECKING, Final, NamedTuple

from coherence_grpc.errors import FieldError, FilterInvalid, SignalInvalid, StoreTimeout
from coherence_grpc.materialize.computed import LARGE, Reading, held_alone, score_of
from coherence_grpc.materialize.course import Course
from coherence_grpc.materialize.policies import check_policy
from coherence_grpc.materialize.supposing import columns_since, suppose
from coherence_grpc.materialize.sweep import window_over
from coherence_grpc.materialize.sweeping import Stretch
from coherence_grpc.materialize.upcoming import next_counting
from coherence_grpc.model import SECOND, Item, Key
from coherence_grpc.policy import PolicyVersion

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from coherence_grpc.errors import CoherenceError
    from coherence_grpc.materialize.rows import Rows
    from coherence_grpc.materialize.sweeping import Sweeps
    from coherence_grpc.model import Draft, Head, Score, Status
    from coherence_grpc.policy import ScorePolicy
    from coherence_grpc.ports import Clock, SignalStore, WindowColumns

MOST_DIFFERENCES: Final = 1000
# As for a signal that is published.
MAX_AHEAD: Final = 300 * SECOND
# How often what is read may change between two reads.
ATTEMPTS: Final = 5
LOOKUPS: Final = 16


class WhatIf(NamedTuple):
    """What is supposed: signals, a Draft without ts dated `as_of`; a policy, None for the one in force.

    `as_of` None: now. Statuses are compared over the `lookback` before it, in microseconds; 0: not at all.
    """

    tenant_id: str
    signals: Sequence[Item | Draft]
    policy: ScorePolicy | None
    as_of: int | None
    lookback: int


class Difference(NamedTuple):
    """A stretch of time with two different held statuses: `end` is the first instant after it, or the last compared."""

    start: int
    end: int
    actual: Status
    simulated: Status


class Simulated(NamedTuple):
    """The score as it is and as it would be; changes of the held status since `compared_from`."""

    actual: Score
    simulated: Score
    actual_changes: int
    simulated_changes: int
    differences: Sequence[Difference]
    truncated: bool
    compared_from: int
    head: Head


class _Side(NamedTuple):
    """One of the two that are compared."""

    columns: WindowColumns
    version: PolicyVersion


class _Moment(NamedTuple):
    """The instant that is asked about, the time it is now, and the number of the last published row."""

    instant: int
    now: int
    version: int


class Simulation:
    """Says what would be."""

    def __init__(self, signals: SignalStore, rows: Rows, clock: Clock, sweeps: Sweeps) -> None:
        self._signals = signals
        self._rows = rows
        self._clock = clock
        self._sweeps = sweeps

    async def simulate(self, what_if: WhatIf, *, timeout_s: float) -> Simulated:
        """Both scores, and when the statuses of the past would have differed.

        What was held is found out from the statuses since the first instant compared, at which nothing is held back;
        where signals of the lookback were erased that is the first whose window is complete.

        Raises:
            FilterInvalid: `as_of` is ahead of the clock, or the lookback reaches over too many signals.
            SignalInvalid: a signal is dated too far ahead, or two have the same key.
            ScorePolicyInvalid: the rules contradict one another.
            WindowIncomplete: signals of the window as of then were erased.
            StoreTimeout: the time was up.
        """
        if what_if.policy is not None:
            check_policy(what_if.policy)
        try:
            async with asyncio.timeout(timeout_s):
                return await self._simulate(what_if)
        except TimeoutError as error:
            message = "what would be could not be computed in the time the call had; choose a shorter lookback"
            raise StoreTimeout(message, retry_after_s=1.0) from error

    async def _simulate(self, what_if: WhatIf) -> Simulated:
        row = (await self._rows.last(what_if.tenant_id)).row
        now = self._clock.now()
        if what_if.as_of is not None and what_if.as_of > now:
            problem = "is ahead of the server's clock; choose a past instant, or leave it out"
            raise _invalid(FilterInvalid, "as_of_time", problem)
        instant = what_if.as_of
        if instant is None:
            instant = now if row is None else max(now, row.window_end)
        actual, simulated, compared_from = await self._sides(what_if, instant, _items(what_if, instant, now))
        over = None if compared_from == instant else (compared_from, instant)
        was = await self._course(actual, over)
        would_be = was if actual == simulated else await self._course(simulated, over)
        moment = _Moment(instant, now, 0 if row is None else row.version)
        differences = list(islice(_differences(was, would_be), MOST_DIFFERENCES + 1))
        return Simulated(
            await self._score(what_if.tenant_id, actual, was, moment),
            await self._score(what_if.tenant_id, simulated, would_be, moment),
            0 if was is None else was.change_count,
            0 if would_be is None else would_be.change_count,
            differences[:MOST_DIFFERENCES],
            len(differences) > MOST_DIFFERENCES,
            compared_from,
            actual.columns.head,
        )

    async def _score(self, tenant_id: str, side: _Side, course: Course | None, moment: _Moment) -> Score:
        reading = await _read(side, moment.instant)
        held = held_alone(side.version.policy, reading.verdict)
        if course is not None and course.held is not None:
            # Nobody knows since when, if it was held already at the first instant compared.
            held = course.held if course.change_count else course.held._replace(since=None)
        return score_of(
            tenant_id,
            reading,
            moment.instant,
            version=side.version,
            held=held,
            now=moment.now,
            score_epoch=self._rows.epoch,
            number=moment.version,
        )

    async def _sides(self, what_if: WhatIf, instant: int, items: Sequence[Item]) -> tuple[_Side, _Side, int]:
        """What is, and what is supposed, both of one head; and the first instant that can be compared."""
        for _ in range(ATTEMPTS):
            version = await self._signals.policy(what_if.tenant_id)
            policy = version.policy if what_if.policy is None else what_if.policy
            window_us = max(version.policy.window_us, policy.window_us)
            start = instant - what_if.lookback - window_us
            ruled = not (version.policy.plain and policy.plain)
            stretch = Stretch(what_if.tenant_id, start, instant, window_us, ruled, "lookback")
            columns, complete_from = await self._sweeps.read(stretch, shorten=True)
            known = await self._signals.policy(what_if.tenant_id, at=columns.head.seq)
            gone = await self._stored(
                what_if.tenant_id, [item for item in items if complete_from <= item.ts <= instant]
            )
            supposed = await _supposed(columns, items, gone)
            if known.seq == version.seq and supposed is not None:
                simulated = version if policy == version.policy else PolicyVersion(0, policy, "", None, "")
                actual = _Side(await self._ahead(what_if, columns, version.policy), version)
                would_be = _Side(await self._ahead(what_if, supposed, policy), simulated)
                return actual, would_be, complete_from + window_us
        message = "the signals that are supposed were stored and changed while they were looked at; try again"
        raise StoreTimeout(message, retry_after_s=1.0)

    async def _ahead(self, what_if: WhatIf, columns: WindowColumns, policy: ScorePolicy) -> WindowColumns:
        return await next_counting(self._signals, what_if.tenant_id, columns, policy)

    async def _stored(self, tenant_id: str, items: Sequence[Item]) -> Sequence[Item]:
        """The stored signals whose keys the items have."""
        places = asyncio.Semaphore(LOOKUPS)

        async def look(item: Item) -> Item | None:
            async with places:
                found = await self._signals.get(Key(tenant_id, item.source, item.signal_id, item.ts))
            return None if found is None else found.item

        async with asyncio.TaskGroup() as lookups:
            tasks = [lookups.create_task(look(item)) for item in items if item.signal_id]
        return [found for task in tasks if (found := task.result()) is not None]

    async def _course(self, side: _Side, over: tuple[int, int] | None) -> Course | None:
        if over is None:
            return None
        start, end = over
        course = Course(side.columns, side.version.policy, start=start, end=end)
        return await self._sweeps.run(course, len(side.columns.ts), side.version.policy)


async def _supposed(columns: WindowColumns, items: Sequence[Item], gone: Sequence[Item]) -> WindowColumns | None:
    if not items or len(columns.ts) < LARGE:
        return suppose(columns, items, gone) if items else columns
    return await asyncio.to_thread(suppose, columns, items, gone)


def _items(what_if: WhatIf, instant: int, now: int) -> Sequence[Item]:
    """The signals with their instants, each key once; one without an id can't be stored, and has none."""
    found: dict[tuple[str, str, int], Item] = {}
    items: list[Item] = []
    for index, (source, signal_id, type_, value_q, weight_q, ts) in enumerate(what_if.signals):
        item = Item(source, signal_id, type_, value_q, weight_q, instant if ts is None else ts)
        if item.ts > now + MAX_AHEAD:
            problem = f"is more than {MAX_AHEAD // SECOND} s ahead of the server's clock; correct it, or leave it out"
            raise _invalid(SignalInvalid, f"signals[{index}].ts", problem)
        first = found.setdefault((source, signal_id, item.ts), item) if signal_id else item
        if first is item:
            items.append(item)
        elif first != item:
            problem = "has the key of another with another payload; send one of them"
            raise _invalid(SignalInvalid, f"signals[{index}]", problem)
    return items


async def _read(side: _Side, instant: int) -> Reading:
    if len(side.columns.ts) < LARGE:
        return _reading(side, instant)
    return await asyncio.to_thread(_reading, side, instant)


def _reading(side: _Side, instant: int) -> Reading:
    policy = side.version.policy
    window = window_over(columns_since(side.columns, instant - policy.window_us), policy, instant)
    changes = [change for change in (window.valid_until, side.columns.upcoming) if change is not None]
    return Reading(window.verdict(), window.data_time, min(changes, default=None), side.columns.head)


def _differences(actual: Course | None, simulated: Course | None) -> Iterator[Difference]:
    if actual is None or simulated is None or actual is simulated:
        return
    others = simulated.spans
    other = next(others)
    for span in actual.spans:
        while True:
            start, end = max(span.start, other.start), min(span.end, other.end)
            if start < end and span.status is not other.status:
                yield Difference(start, end, span.status, other.status)
            if other.end > span.end:
                break
            following = next(others, None)
            if following is None:
                break
            other = following


def _invalid(kind: type[CoherenceError], path: str, problem: str) -> CoherenceError:
    return kind(f"{path} {problem}", fields=[FieldError(path, problem)])

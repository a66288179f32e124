"""Long stretches of signals, read in parts of bounded size and swept beside the event loop."""

from __future__ import annotations

import asyncio
from array import array
from typing import TYPE_CHECKING, Final, NamedTuple

from coherence_grpc.errors import FieldError, FilterInvalid, WindowIncomplete
from coherence_grpc.ports import WindowColumns

if TYPE_CHECKING:
    from collections.abc import Sequence

    from coherence_grpc.materialize.course import Course
    from coherence_grpc.policy import ScorePolicy
    from coherence_grpc.ports import Group, SignalStore

# What one call may sweep: a second of a processor, and some 30 MB.
MOST_PLAIN: Final = 1_000_000
# Under the richest policy two to three seconds.
MOST_RULED: Final = 250_000
# Sweeping fewer takes about a millisecond: no thread is worth it.
FEW_PLAIN: Final = 2_000
FEW_RULED: Final = 200
# Turns between two looks at whether somebody still waits.
TURNS: Final = 2_000
AT_ONCE: Final = 2
# The next part read is at most so many times as long as the one before.
_GROWTH: Final = 8
_PART: Final = 100_000


class Stretch(NamedTuple):
    """Which signals are wanted: those from `start` to `end`, the last `window_us` of them in one snapshot.

    `path` names the field of the request that can ask for less.
    """

    tenant_id: str
    start: int
    end: int
    window_us: int
    ruled: bool
    path: str


class Sweeps:
    """Reads and sweeps, a few at a time."""

    def __init__(self, signals: SignalStore) -> None:
        self._signals = signals
        self._places = asyncio.Semaphore(AT_ONCE)

    async def read(self, wanted: Stretch, *, shorten: bool = False) -> tuple[WindowColumns, int]:
        """The signals, and from which instant on there are all of them. The head is that of the last window.

        With `shorten` it is the wanted start or, where signals were erased, the instant after the newest of them.

        Raises:
            FilterInvalid: there are more signals than one call may sweep.
            WindowIncomplete: some were erased; with `shorten` only if they were in the last window.
        """
        most = MOST_RULED if wanted.ruled else MOST_PLAIN
        begin = max(wanted.start, wanted.end - wanted.window_us)
        parts = [await self._part(wanted, begin, wanted.end)]
        start, count, length = wanted.start, len(parts[0].ts), max(1, wanted.end - begin)
        while begin > start and count <= most:
            length = _next_length(length, len(parts[-1].ts))
            try:
                parts.append(await self._part(wanted, max(start, begin - length), begin - 1))
            except WindowIncomplete as error:
                erased = int(error.metadata["erased_ts_us"])
                if not shorten or erased < start or erased >= begin:
                    raise
                start = erased + 1
                continue
            begin = max(start, begin - length)
            count += len(parts[-1].ts)
        if count > most:
            raise _too_many(wanted, most)
        if len(parts) == 1 or count < FEW_PLAIN:
            return joined(parts[::-1]), start
        return await asyncio.to_thread(joined, parts[::-1]), start

    async def run(self, course: Course, signal_count: int, policy: ScorePolicy) -> Course:
        """The course, finished; one that takes long doesn't hold up the event loop, and ends with whoever waits."""
        if signal_count < (FEW_PLAIN if policy.plain else FEW_RULED):
            return course.finished()
        async with self._places:
            while not await asyncio.to_thread(course.take, TURNS):
                pass
        return course

    async def _part(self, wanted: Stretch, start: int, end: int) -> WindowColumns:
        return await self._signals.window(wanted.tenant_id, start=start, end=end, grouped=wanted.ruled)


def joined(parts: Sequence[WindowColumns]) -> WindowColumns:
    """Columns that follow one another as one; the head is that of the last."""
    if len(parts) == 1:
        return parts[0]
    # Of one store, so of one type each.
    ts, value_q, weight_q = (array(column.typecode) for column in parts[0][:3])
    group = array("I")
    numbers: dict[Group, int] = {}
    for part in parts:
        ts.extend(part.ts)
        value_q.extend(part.value_q)
        weight_q.extend(part.weight_q)
        renumbered = [numbers.setdefault(one, len(numbers)) for one in part.groups]
        group.extend(map(renumbered.__getitem__, part.group or ()))
    last = parts[-1]
    grouped = last.group is not None
    return WindowColumns(ts, value_q, weight_q, last.head, group if grouped else None, list(numbers), last.upcoming)


def _next_length(length: int, count: int) -> int:
    """How long a part to read next, after one of this length with so many signals."""
    return min(_GROWTH * length, length * _PART // max(1, count) + 1)


def _too_many(wanted: Stretch, most: int) -> FilterInvalid:
    rules = " under a policy that tells them apart" if wanted.ruled else ""
    problem = f"reaches over more than {most:,} signals, the most that one call recomputes{rules}; choose a later one"
    if wanted.path == "lookback":
        problem = problem.replace("a later one", "a shorter one")
    return FilterInvalid(f"{wanted.path} {problem}", fields=[FieldError(wanted.path, problem)])

"""Scores computed from the store's signals for one call, each shared by all who ask for it at the same time."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final, NamedTuple, TypeAlias

from coherence_grpc.deadline import unhurried
from coherence_grpc.held import dwell_ends, follow
from coherence_grpc.materialize.ruled import RuledWindow
from coherence_grpc.materialize.upcoming import next_counting
from coherence_grpc.model import Held, Score, ScoreSource
from coherence_grpc.rules import plain_verdict, stale_at

if TYPE_CHECKING:
    from coherence_grpc.materialize.rows import Rows
    from coherence_grpc.model import Head
    from coherence_grpc.policy import PolicyVersion, ScorePolicy
    from coherence_grpc.ports import Clock, SignalStore, WindowColumns
    from coherence_grpc.rules import Verdict

# Weighing more signals one by one takes over a millisecond: then a thread does it.
LARGE: Final = 1000


class Reading(NamedTuple):
    """What the store's signals of one window amount to under a policy, and the head they were read at.

    `next_change` is the first instant after the window at which signals come or go.
    """

    verdict: Verdict
    data_time: int | None
    next_change: int | None
    head: Head


# A tenant, an instant (None: now) and a version of its policy (None: the one in force).
_Question: TypeAlias = "tuple[str, int | None, PolicyVersion | None]"


class _Flight(NamedTuple):
    """One computation; until it has begun, others may join it."""

    begun: asyncio.Event
    task: asyncio.Task[Score]


class ComputedScores:
    """Computes scores from the store, one computation at a time for the same tenant and instant."""

    def __init__(self, signals: SignalStore, rows: Rows, clock: Clock) -> None:
        self._signals = signals
        self._rows = rows
        self._clock = clock
        self._newest: dict[_Question, _Flight] = {}
        self.count = 0

    async def get(self, tenant_id: str, as_of: int | None = None, version: PolicyVersion | None = None) -> Score:
        """The tenant's score as of the instant; None: now, or the published row's window end if that is later.

        Under a version of its policy; None: the one in force.

        Raises:
            WindowIncomplete: signals of the window were erased.
        """
        key = (tenant_id, as_of, version)
        flight = self._newest.get(key)
        if flight is None or flight.begun.is_set():
            # One that has begun may have read the log before this caller's own write.
            begun, after = asyncio.Event(), None if flight is None else flight.task
            flight = _Flight(begun, asyncio.create_task(self._fly(key, begun, after), context=unhurried()))
            flight.task.add_done_callback(_retrieve)
            self._newest[key] = flight
        return await asyncio.shield(flight.task)

    async def _fly(self, key: _Question, begun: asyncio.Event, after: asyncio.Task[Score] | None) -> Score:
        if after is not None:
            await asyncio.wait((after,))
        begun.set()
        try:
            return await self._compute(*key)
        finally:
            if self._newest[key].begun is begun:
                del self._newest[key]

    async def _compute(self, tenant_id: str, as_of: int | None, version: PolicyVersion | None) -> Score:
        self.count += 1
        row = (await self._rows.last(tenant_id)).row
        now = self._clock.now()
        instant = as_of
        if instant is None:
            instant = now if row is None else max(now, row.window_end)
        version, reading = await read(self._signals, tenant_id, instant, version)
        shown = None if row is None else row.held or Held(row.status, None)
        if as_of is not None or shown is None:
            held = held_alone(version.policy, reading.verdict)
        else:
            held = follow(shown, version.policy, reading.verdict, instant)
        return score_of(
            tenant_id,
            reading,
            instant,
            version=version,
            held=held,
            now=now,
            score_epoch=self._rows.epoch,
            number=0 if row is None else row.version,
        )


async def read(
    signals: SignalStore, tenant_id: str, instant: int, version: PolicyVersion | None
) -> tuple[PolicyVersion, Reading]:
    """The window up to `instant` under the version; None: under the one in force at the head it is read at."""
    if version is not None:
        return version, await _reading(signals, tenant_id, instant, version.policy)
    version = await signals.policy(tenant_id)
    while True:
        reading = await _reading(signals, tenant_id, instant, version.policy)
        current = await signals.policy(tenant_id, at=reading.head.seq)
        if current.seq == version.seq:
            return version, reading
        version = current


async def _reading(signals: SignalStore, tenant_id: str, instant: int, policy: ScorePolicy) -> Reading:
    start = instant - policy.window_us
    if policy.plain:
        totals = await signals.totals(tenant_id, start=start, end=instant)
        verdict = plain_verdict(policy, totals.sums, data_time=totals.newest_ts, now=instant)
        return Reading(verdict, totals.newest_ts, totals.next_change, totals.head)
    columns = await signals.window(tenant_id, start=start, end=instant, grouped=True)
    columns = await next_counting(signals, tenant_id, columns, policy)
    if len(columns.ts) < LARGE:
        return ruled_reading(columns, policy, instant)
    return await asyncio.to_thread(ruled_reading, columns, policy, instant)


def ruled_reading(columns: WindowColumns, policy: ScorePolicy, instant: int) -> Reading:
    """What the columns amount to under a policy that needs their groups."""
    window = RuledWindow.of(columns, policy, instant)
    changes = [change for change in (window.valid_until, columns.upcoming) if change is not None]
    return Reading(window.verdict(), window.data_time, min(changes, default=None), columns.head)


def held_alone(policy: ScorePolicy, verdict: Verdict) -> Held | None:
    """What is held when nothing is known of before: the status itself, unless that depends on what was before."""
    return None if policy.remembers else Held(verdict.status, None)


def score_of(
    tenant_id: str,
    reading: Reading,
    instant: int,
    *,
    version: PolicyVersion,
    held: Held | None,
    now: int,
    score_epoch: int,
    number: int,
) -> Score:
    """The score that a reading of the window up to `instant` amounts to; `number` is that of the last published row."""
    verdict, policy = reading.verdict, version.policy
    changes = (reading.next_change, stale_at(policy, reading.data_time, instant), dwell_ends(held, policy))
    return Score(
        tenant_id=tenant_id,
        score_ppm=verdict.score_ppm,
        status=verdict.status,
        signal_count=verdict.signal_count,
        weight_q=verdict.weight_q,
        window_start=instant - policy.window_us,
        window_end=instant,
        data_time=reading.data_time,
        valid_until=min((change for change in changes if change is not None), default=None),
        as_of_seq=reading.head.seq,
        head_hash=reading.head.head_hash,
        signal_epoch=reading.head.epoch,
        score_epoch=score_epoch,
        version=number,
        computed_at=max(now, instant),
        source=ScoreSource.COMPUTED,
        policy_etag=version.score_etag,
        held=held,
    )


def _retrieve(task: asyncio.Task[Score]) -> None:
    # Whoever asked may be gone when it fails.
    if not task.cancelled():
        task.exception()

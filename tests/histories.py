"""Histories of many tenants at random, lived in lockstep on real stores, and each compared with a recompute.

One step moves the clock, and each tenant publishes, replaces, changes its policy or does nothing. After it the score
of the incremental engine must be that of fractions over all signals there are; now and then also the score as of now
from the store, what an explanation adds up to, and both sides of a simulation that supposes nothing.
"""

from __future__ import annotations

import asyncio
from fractions import Fraction
from random import Random
from typing import TYPE_CHECKING, Final, NamedTuple

from coherence_grpc.materialize import Explanations, Materializer, Simulation, Sweeps, WhatIf
from coherence_grpc.materialize.windows import LOOKBACK
from coherence_grpc.model import QUANTUM, SECOND, Appended, EntryKind, OnConflict, Outcome
from coherence_grpc.policy import DEFAULT, ScorePolicy, encode_policy
from tests import generated
from tests.builders import ManualClock, a_provenance, a_write
from tests.oracle import Segment, held_over, inside, mean_of, segments, truth

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from contextlib import AbstractAsyncContextManager

    from coherence_grpc.model import Item, Score, Status
    from coherence_grpc.ports import ScoreStore, SignalStore
    from tests.oracle import Truth

MOVES: Final = (0, 1, SECOND, 7 * SECOND, 61 * SECOND, 600 * SECOND, 3600 * SECOND, 30_000 * SECOND)
# As many as an explanation can be asked for: all there are.
_ALL: Final = 100
TRACED: Final = 5
AT_ONCE: Final = 8


class Said(NamedTuple):
    """What of a score every way to compute it must agree on."""

    score_ppm: int | None
    status: str
    signal_count: int
    weight_q: int
    data_time: int | None


def said(score: Score) -> Said:
    return Said(score.score_ppm, score.status, score.signal_count, score.weight_q, score.data_time)


def said_by(known: Truth) -> Said:
    return Said(known.score_ppm, known.status, known.signal_count, known.weight_q, known.data_time)


class History:
    """One tenant: what it did, and so what its score must be made of.

    `course` has what held at each instant since the process that is asked has heard of the tenant: what is held follows
    from it. That takes long: only some histories have one.
    """

    def __init__(self, seed: int, prefix: str) -> None:
        self.traced = seed % TRACED == 0
        self.course: list[Segment] = []
        self.tenant_id = f"{prefix}{seed}"
        self.random = Random(seed)  # noqa: S311 - test data
        self.policy = DEFAULT
        self.items: list[Item] = []

    def passes(self, now: int) -> None:
        """Time passes up to the instant."""
        if self.course:
            self.course += segments(self.items, self.policy, self.course[-1].instant, now)[1:]

    def looked_at(self, now: int) -> None:
        """The process looks, for the first time or after something happened."""
        if self.course:
            self.course.append(Segment(now, truth(self.items, self.policy, now), self.policy))
        else:
            start = now - LOOKBACK if self.policy.remembers else now
            self.course += segments(self.items, self.policy, start, now)

    def held(self, now: int) -> Status:
        """What is held at the instant, which is the last that was looked at."""
        return list(held_over(self.course, now).values())[-1]

    def published(self, now: int) -> Sequence[Item]:
        """Signals of about now, of the past and dated ahead; some of them in the place of others."""
        window_us = self.policy.window_us
        fresh = [
            item._replace(signal_id=f"s{len(self.items) + number}")
            for number, item in enumerate(generated.items_from(self.random, now - window_us, window_us, most=5))
        ]
        again = self.random.sample(range(len(self.items)), min(len(self.items), self.random.choice((0, 0, 1, 3))))
        others = []
        for place in again:
            old = self.items[place]
            new = generated.an_item(self.random, old.ts, old.signal_id)._replace(source=old.source)
            self.items[place] = new
            others.append(new)
        self.items += fresh
        return [*fresh, *others]

    def changed(self) -> ScorePolicy:
        """Other rules, at times the default ones."""
        plain = self.random.randrange(4) == 0
        self.policy = DEFAULT if self.random.randrange(6) == 0 else generated.a_policy(self.random, plain=plain)
        return self.policy


class Lockstep:
    """The histories of some seeds on stores, whose clock stands still between two steps."""

    def __init__(
        self, signals: SignalStore, scores: ScoreStore, clock: ManualClock, seeds: Sequence[int], prefix: str = "h"
    ) -> None:
        self._clock = clock
        self._random = Random(seeds[0])  # noqa: S311 - test data
        self.histories = [History(seed, prefix) for seed in seeds]
        self.open(signals, scores)

    def open(self, signals: SignalStore, scores: ScoreStore) -> None:
        """Goes on as a process that has just started on these stores."""
        for history in self.histories:
            history.course.clear()
        self._signals = signals
        self._materializer = Materializer(signals, scores, self._clock, enabled=lambda: True, on_published=[])
        self._explanations = Explanations(signals, self._materializer, self._clock)
        self._simulation = Simulation(signals, self._materializer.rows, self._clock, Sweeps(signals))

    async def step(self) -> None:
        """Something happens to every tenant."""
        self._clock.advance(self._random.choice(MOVES))
        now = self._clock.now()
        for history in self.histories:
            history.passes(now)
        doing = {history.tenant_id: history.random.randrange(6) for history in self.histories}
        publishing = [history for history in self.histories if doing[history.tenant_id] < 4]
        batches = [(history, items) for history in publishing if (items := history.published(now))]
        writes = [
            a_write(*items, tenant_id=history.tenant_id, on_conflict=OnConflict.REPLACE) for history, items in batches
        ]
        for appended in await self._signals.append(writes, now=now) if writes else ():
            assert isinstance(appended, Appended)
            assert all(result.outcome in {*Outcome} for result in appended.results)
            self._materializer.appended(appended)
        for history in self.histories:
            if doing[history.tenant_id] == 4:
                entry = await self._signals.append_own(
                    history.tenant_id,
                    EntryKind.POLICY,
                    encode_policy(history.changed()),
                    a_provenance(tenant_id=history.tenant_id),
                    now=now,
                )
                self._materializer.moved(history.tenant_id, entry.seq)

    async def check(self, *, every_way: bool = False) -> None:
        """The score of each tenant, in one way or in all there are, is that of fractions."""
        places = asyncio.Semaphore(AT_ONCE)

        async def check_one(history: History) -> None:
            async with places:
                known = truth(history.items, history.policy, self._clock.now())
                live = await self._materializer.evaluate(history.tenant_id)
                # One never heard of is not kept.
                if history.traced and live.as_of_seq:
                    history.looked_at(self._clock.now())
                    assert live.held is not None
                    assert live.held.status is history.held(self._clock.now()), history.tenant_id
                assert said(live) == said_by(known), history.tenant_id
                if every_way:
                    await self._check_every_way(history, live, known)

        async with asyncio.TaskGroup() as checks:
            for history in self.histories:
                checks.create_task(check_one(history))

    async def _check_every_way(self, history: History, live: Score, known: Truth) -> None:
        now = self._clock.now()
        as_of = await self._materializer.as_of(history.tenant_id, now)
        assert said(as_of) == said_by(known), history.tenant_id
        assert (as_of.as_of_seq, as_of.head_hash, as_of.policy_etag) == (
            live.as_of_seq,
            live.head_hash,
            live.policy_etag,
        )
        explained = await self._explanations.get(history.tenant_id, top_n=_ALL)
        assert said(explained.score) == said_by(known), history.tenant_id
        counted = inside(history.items, history.policy, now)
        if counted:
            distance = float(mean_of(counted, history.policy) / QUANTUM - Fraction(1))
            for groups in (explained.sources, explained.types, explained.contributions):
                assert abs(sum(group.push for group in groups) - distance) < 1e-9, history.tenant_id
        if not history.policy.remembers:
            assert live.valid_until == as_of.valid_until == explained.score.valid_until, history.tenant_id
        what_if = WhatIf(history.tenant_id, (), None, None, 2 * history.policy.window_us)
        simulated = await self._simulation.simulate(what_if, timeout_s=30.0)
        assert simulated.actual == simulated.simulated
        assert history.policy.remembers or simulated.actual.valid_until == live.valid_until, history.tenant_id
        assert said(simulated.actual) == said_by(known), history.tenant_id


async def live_through(lockstep: Lockstep, steps: int) -> None:
    """So many steps, the last of them checked in every way."""
    for _ in range(steps - 1):
        await lockstep.step()
        await lockstep.check()
    await lockstep.step()
    await lockstep.check(every_way=True)


async def live(
    open_signals: Callable[[ManualClock], AbstractAsyncContextManager[SignalStore]],
    open_scores: Callable[[], AbstractAsyncContextManager[ScoreStore]],
    seeds: Sequence[int],
) -> None:
    """Lives through the histories of the seeds, with a restart of the process and one of the stores in between."""
    clock = ManualClock()
    async with open_signals(clock) as signals, open_scores() as scores:
        lockstep = Lockstep(signals, scores, clock, seeds)
        await live_through(lockstep, 3)
        lockstep.open(signals, scores)
        await lockstep.check()
    async with open_signals(clock) as signals, open_scores() as scores:
        lockstep.open(signals, scores)
        await live_through(lockstep, 3)

"""Keeps every tenant's score up to date: with each commit, and with time."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Self

from coherence_grpc.materialize.computed import ComputedScores
from coherence_grpc.materialize.leases import EveryShard
from coherence_grpc.materialize.publisher import Moved, Publisher
from coherence_grpc.materialize.rows import Rows
from coherence_grpc.materialize.windows import Windows

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from coherence_grpc.model import Appended, Score
    from coherence_grpc.policy import PolicyVersion
    from coherence_grpc.ports import Clock, ScoreStore, ShardLeases, SignalStore


class Materializer:
    """One live score per tenant; an async context manager that publishes while it is open, and what is left at the end.

    A score moves when a signal arrives, when a future-dated one comes due and when one ages out. Rows are published at
    most once in 100 ms a tenant, a change of status at once; `on_published` is called with every new version.
    While `enabled` says no, nothing is published and scores are computed from the store; afterwards it catches up.
    """

    def __init__(
        self,
        signals: SignalStore,
        scores: ScoreStore,
        clock: Clock,
        *,
        enabled: Callable[[], bool],
        on_published: Sequence[Callable[[Score], None]],
        leases: ShardLeases | None = None,
    ) -> None:
        leases = leases or EveryShard()
        self._leases = leases
        self._scores = scores
        self._clock = clock
        self._enabled = enabled
        self._windows = Windows(signals, scores, clock)
        self.rows = Rows(scores)
        self._computed = ComputedScores(signals, self.rows, clock)
        self._publisher = Publisher(
            signals,
            scores,
            clock,
            self._windows,
            leases,
            enabled=enabled,
            on_written=self.rows.remember,
            on_published=on_published,
        )
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        self._task = asyncio.create_task(self._publisher.run(), name="publication")
        return self

    async def __aexit__(self, *_: object) -> None:
        self._publisher.close()
        if self._task is not None:
            await asyncio.shield(self._task)
        await self._windows.aclose()

    @property
    def enabled(self) -> bool:
        """Publication is switched on."""
        return self._enabled()

    @property
    def keeping_up(self) -> bool:
        """Rows follow the log within 100 ms: switched on, caught up with what was there before, and not failing."""
        return self._publisher.running

    def appended(self, appended: Appended) -> None:
        """Applies a commit. Commits of a tenant must come in the order of its log."""
        self._windows.appended(appended)
        self.rows.moved(appended.write.tenant_id, appended.first_seq + len(appended.stored) - 1)
        moved = Moved.BACKFILL if appended.write.provenance.backfill else Moved.LIVE
        self._publisher.touch(appended.write.tenant_id, moved)

    def moved(self, tenant_id: str, seq: int) -> None:
        """Another process appended up to entry `seq`."""
        self._windows.follow(tenant_id, seq)
        self.rows.moved(tenant_id, seq)
        self._publisher.touch(tenant_id, Moved.LIVE)

    def keeps(self, tenant_id: str) -> bool:
        """This process keeps the tenant's score: `evaluate` is as good as what is published, or newer."""
        return self._enabled() and self._leases.holds(tenant_id)

    @property
    def computations(self) -> int:
        """How often the store was asked to sum signals up."""
        return self._computed.count

    async def computed(self, tenant_id: str) -> Score:
        """The tenant's score now, computed from the stored signals."""
        return await self._computed.get(tenant_id)

    async def evaluate(self, tenant_id: str, *, seq: int = 0) -> Score:
        """The tenant's score now, with every commit before the call, and entry `seq` if that is in the log.

        A tenant never heard of is UNKNOWN with 0 signals.
        """
        if not self._enabled():
            return await self.computed(tenant_id)
        live = await self._windows.catch_up(tenant_id, seq)
        return live.evaluate(self._clock.now(), self._scores.epoch)

    def known(self, tenant_id: str) -> Score | None:
        """As `evaluate`, without waiting for anything; None when there is something to wait for."""
        live = self._windows.get_now(tenant_id) if self.keeps(tenant_id) else None
        return None if live is None else live.evaluate(self._clock.now(), self._scores.epoch)

    async def as_of(self, tenant_id: str, instant: int, version: PolicyVersion | None = None) -> Score:
        """The tenant's score as of the instant, computed from all signals stored by now.

        Under a version of its policy; None: the one in force.

        Raises:
            WindowIncomplete: signals of that window were erased.
        """
        return await self._computed.get(tenant_id, instant, version)

"""Explaining scores, now and as of past instants."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from coherence_grpc.errors import StoreDown, StoreTimeout
from coherence_grpc.materialize.acting import formula
from coherence_grpc.materialize.asking import check_past
from coherence_grpc.materialize.computed import score_of
from coherence_grpc.materialize.explanation import Contribution, Explanation, explain
from coherence_grpc.materialize.versions import version_named
from coherence_grpc.materialize.weighing import AHEAD
from coherence_grpc.model import Held

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from coherence_grpc.materialize.explanation import ContributionGroup, Parts
    from coherence_grpc.materialize.materializer import Materializer
    from coherence_grpc.model import Score, StoredSignal
    from coherence_grpc.policy import PolicyVersion
    from coherence_grpc.ports import Clock, SignalStore, WindowParts

# Taking a larger window apart takes over a millisecond: then a thread does it.
LARGE: Final = 250


class Explanations:
    """Says what the scores of tenants are made of."""

    def __init__(
        self,
        signals: SignalStore,
        materializer: Materializer,
        clock: Clock,
        *,
        read_mode: Callable[[], str] = lambda: "cache",
    ) -> None:
        self._signals = signals
        self._materializer = materializer
        self._clock = clock
        self._read_mode = read_mode

    async def get(self, tenant_id: str, *, top_n: int, as_of: int | None = None, policy_etag: str = "") -> Explanation:
        """What the score is made of, now or as of a past instant: at most `top_n` signals and groups of each kind.

        The score is the one that a read of the same instant gets. `policy_etag` is as for a read.

        Raises:
            FilterInvalid, ScorePolicyUnknown, WindowIncomplete: as reading the score.
        """
        check_past(self._clock, as_of, policy_etag)
        named = await version_named(self._signals, tenant_id, policy_etag) if policy_etag else None
        shown = await self._shown(tenant_id, live=as_of is None)
        now = self._clock.now()
        instant = as_of
        if instant is None:
            instant = now if shown is None else max(now, shown.window_end)
        held = None if shown is None or as_of is not None else shown.held or Held(shown.status, None)
        while True:
            version, parts = await self._read(tenant_id, instant, named)
            apart = await _explained(parts, version, instant, top_n, held)
            seqs = [part.seq for part in apart.contributions]
            signals = {one.seq: one for one in await self._signals.numbered(tenant_id, [*seqs, *apart.records])}
            # What was erased meanwhile can't be named; then the next reading says so, or does without.
            if signals.keys() >= {*seqs, *apart.records}:
                break
        score = score_of(
            tenant_id,
            apart.reading,
            instant,
            version=version,
            held=apart.held,
            now=now,
            score_epoch=self._materializer.rows.epoch,
            number=0 if shown is None else shown.version,
        )
        return Explanation(
            score=score,
            formula=formula(version.policy),
            version=version,
            contributions=[Contribution(signals[part.seq], *part[1:]) for part in apart.contributions],
            sources=apart.sources,
            types=apart.types,
            provenances=_named(apart, signals),
            excluded=apart.excluded,
            rules=apart.rules,
            next_moves=apart.next_moves,
        )

    async def _shown(self, tenant_id: str, *, live: bool) -> Score | None:
        """What readers were told last: the live score where a read gets that, else the published row."""
        if live and self._read_mode() == "cache" and self._materializer.keeps(tenant_id):
            try:
                return await self._materializer.evaluate(tenant_id)
            except (StoreDown, StoreTimeout):
                # Its window could not be read; what was published may still do.
                pass
        return (await self._materializer.rows.last(tenant_id)).row

    async def _read(
        self, tenant_id: str, instant: int, named: PolicyVersion | None
    ) -> tuple[PolicyVersion, WindowParts]:
        """The policy and the window under it, both of one head unless the policy was named."""
        version = named or await self._signals.policy(tenant_id)
        while True:
            start = instant - version.policy.window_us
            parts = await self._signals.parts(tenant_id, start=start, end=instant, ahead=AHEAD)
            current = named or await self._signals.policy(tenant_id, at=parts.head.seq)
            if current.seq == version.seq:
                return version, parts
            version = current


async def _explained(parts: WindowParts, version: PolicyVersion, instant: int, top_n: int, held: Held | None) -> Parts:
    if len(parts.ts) < LARGE:
        return explain(parts, version.policy, instant, top_n, held)
    return await asyncio.to_thread(explain, parts, version.policy, instant, top_n, held)


def _named(apart: Parts, signals: Mapping[int, StoredSignal]) -> Sequence[ContributionGroup]:
    """The provenance records by their ids, as one signal of each has it."""
    return [
        group._replace(name=signals[seq].provenance_id)
        for seq, group in zip(apart.records, apart.provenances, strict=True)
    ]

"""Scores, what they are made of, and the tenants they belong to."""

from typing import Annotated, Final, Self

import strawberry
from google.protobuf.timestamp_pb2 import Timestamp

from coherence.v1 import score_pb2
from coherence.v1.ingest_pb2 import ListSignalsRequest
from subgraph.instants import micros_of
from subgraph.operation import Operation
from subgraph.schema.fields import resolved
from subgraph.schema.scalars import DateTime, Long, instant_or_none
from subgraph.schema.signals import Signal, SignalConnection, SignalFilterInput

Info = strawberry.Info[Operation, None]
_STATUS: Final = "STATUS_"
_SOURCE: Final = "SCORE_SOURCE_"
_EXCLUSION: Final = "EXCLUSION_REASON_"


@strawberry.type(description="What one signal does to the score.")
class CoherenceContribution:
    """One signal's part."""

    signal: Signal = strawberry.field(description="The signal.")
    weight_share: float = strawberry.field(description="Its part of the weight in the window, 0 to 1.")
    push: float = strawberry.field(
        description="weightShare x (value - 1): how far it pushes the score below 1. All pushes add up to score - 1."
    )
    delta_if_removed: float | None = strawberry.field(
        description="By how much the score would change without it; null when nothing would remain."
    )

    @classmethod
    def of(cls, part: score_pb2.Contribution) -> Self:
        """The contribution."""
        delta = part.delta_if_removed if part.HasField("delta_if_removed") else None
        return cls(
            signal=Signal.of(part.signal), weight_share=part.weight_share, push=part.push, delta_if_removed=delta
        )


@strawberry.type(description="What all signals of one source or one type do to the score.")
class CoherenceContributionGroup:
    """A source's or type's part."""

    name: str = strawberry.field(description="The source or the type.")
    signal_count: int = strawberry.field(description="Weighted signals in the window.")
    weight_share: float = strawberry.field(description="Part of the weight in the window, 0 to 1.")
    mean: float = strawberry.field(description="Weighted mean of the group alone.")
    push: float = strawberry.field(description="Sum of the pushes of its signals.")

    @classmethod
    def of(cls, group: score_pb2.ContributionGroup) -> Self:
        """The group."""
        return cls(
            name=group.name,
            signal_count=group.signal_count,
            weight_share=group.weight_share,
            mean=group.mean,
            push=group.push,
        )


@strawberry.type(description="How many stored signals don't count, and why.")
class CoherenceExclusion:
    """Signals left out."""

    reason: str = strawberry.field(description="MUTED (weight 0), NOT_YET_DUE (dated ahead) or AGED_OUT (too old).")
    signal_count: int = strawberry.field(description="How many.")

    @classmethod
    def of(cls, excluded: score_pb2.Exclusion) -> Self:
        """The exclusion."""
        word = score_pb2.ExclusionReason.Name(excluded.reason).removeprefix(_EXCLUSION)
        return cls(reason=word, signal_count=excluded.signal_count)


@strawberry.type(description="What a score is made of: which signals push it down, and by how much.")
class CoherenceExplanation:
    """A score taken apart."""

    score: "CoherenceScore" = strawberry.field(description="The score that is explained.")
    formula: str = strawberry.field(description="How it is computed, for people.")
    contributions: list[CoherenceContribution] = strawberry.field(description="The strongest pushes first.")
    sources: list[CoherenceContributionGroup] = strawberry.field(description="By source, the strongest push first.")
    types: list[CoherenceContributionGroup] = strawberry.field(description="By type, the strongest push first.")
    excluded: list[CoherenceExclusion] = strawberry.field(description="What does not count.")

    @classmethod
    def of(cls, answer: score_pb2.ExplainScoreResponse, as_of: Timestamp | None) -> Self:
        """The explanation."""
        return cls(
            score=CoherenceScore.of(answer.score, as_of=as_of),
            formula=answer.formula,
            contributions=[CoherenceContribution.of(part) for part in answer.contributions],
            sources=[CoherenceContributionGroup.of(group) for group in answer.sources],
            types=[CoherenceContributionGroup.of(group) for group in answer.types],
            excluded=[CoherenceExclusion.of(excluded) for excluded in answer.excluded],
        )


@strawberry.type(
    description="A tenant's coherence: the exact weighted mean of its signals over 24 hours, rounded once to six "
    "decimals. It moves with signals and with time."
)
class CoherenceScore:
    """One tenant's score at one instant."""

    tenant_id: strawberry.ID = strawberry.field(description="The tenant.")
    score: float = strawberry.field(
        description="0 to 1 with six decimals. 0 also when the status is UNKNOWN: look at status or signalCount."
    )
    status: str = strawberry.field(
        description="HEALTHY (0.75 and above), WARN (0.5 and above), CRITICAL, or UNKNOWN: no weighted signal in "
        "the window, so there is no score."
    )
    updated_at: DateTime = strawberry.field(description="The instant at which it was evaluated: the window's end.")
    signal_count: int = strawberry.field(description="Weighted signals in the window; muted ones don't count.")
    weight_sum: float = strawberry.field(description="Sum of their weights.")
    window_start: DateTime = strawberry.field(description="First instant of the window, included.")
    window_end: DateTime = strawberry.field(description="Last instant of the window, included.")
    data_time: DateTime | None = strawberry.field(description="ts of the newest weighted signal in the window.")
    data_age_seconds: float | None = strawberry.field(description="How old that signal is at the window's end.")
    valid_until: DateTime | None = strawberry.field(
        description="From this instant on time alone changes the score; null when nothing will."
    )
    as_of_seq: Long = strawberry.field(description="It covers every entry of the tenant's log up to this number.")
    version: Long = strawberry.field(description="Number of the tenant's last published score; never decreases.")
    source: str = strawberry.field(description="CACHE, MATERIALIZED or COMPUTED.")
    stale: bool = strawberry.field(description="Something newer is known, but could not be evaluated.")
    cursor: str = strawberry.field(
        description="Resume position: subscribe with it as `after` to get what came later. Empty with asOf."
    )
    as_of: strawberry.Private[Timestamp | None] = None

    @resolved("Which signals push the score down, and by how much.")
    async def explanation(
        self,
        info: Info,
        top: Annotated[
            int | None, strawberry.argument(description="How many contributions and groups, 1 to 100.")
        ] = strawberry.UNSET,
    ) -> CoherenceExplanation:
        """The score taken apart."""
        request = score_pb2.ExplainScoreRequest(tenant_id=self.tenant_id, top_n=top or 0, as_of_time=self.as_of)
        answer = await info.context.backbone.explain_score(request, info.context.caller)
        return CoherenceExplanation.of(answer, self.as_of)

    @resolved("The tenant, as an entity of the supergraph.")
    def tenant(self) -> "Tenant":
        """The tenant."""
        return Tenant(tenant_id=self.tenant_id)

    @classmethod
    def of(cls, score: score_pb2.Score, *, cursor: str = "", as_of: Timestamp | None = None) -> Self:
        """The score, with the cursor of the event that brought it where there is one."""
        data_time = instant_or_none(score, "data_time")
        age_us = None if data_time is None else micros_of(score.window_end_time) - micros_of(data_time)
        return cls(
            tenant_id=strawberry.ID(score.tenant_id),
            score=score.score,
            status=score_pb2.Status.Name(score.status).removeprefix(_STATUS),
            updated_at=DateTime(score.window_end_time),
            signal_count=score.signal_count,
            weight_sum=score.weight_sum,
            window_start=DateTime(score.window_start_time),
            window_end=DateTime(score.window_end_time),
            data_time=data_time,
            data_age_seconds=None if age_us is None else age_us / 1e6,
            valid_until=instant_or_none(score, "valid_until_time"),
            as_of_seq=Long(score.as_of_seq),
            version=Long(score.version),
            source=score_pb2.ScoreSource.Name(score.source).removeprefix(_SOURCE),
            stale=score.stale,
            cursor=cursor or score.cursor,
            as_of=as_of,
        )


@strawberry.type(description="A page of scores, the lowest first, UNKNOWN last.")
class CoherenceScoreConnection:
    """A page of scores."""

    nodes: list[CoherenceScore] = strawberry.field(description="The scores of this page.")
    end_cursor: str | None = strawberry.field(description="Hand it back as `after` for the next page.")
    has_next_page: bool = strawberry.field(description="There are more.")


@strawberry.federation.type(keys=["tenantId"], description="Someone whose coherence is watched.")
class Tenant:
    """A tenant, as other subgraphs refer to it."""

    tenant_id: strawberry.ID = strawberry.field(description="Lower-case letters, digits, `_` and `-`, 1 to 64.")

    @resolved("Its score now; UNKNOWN for a tenant never heard of.")
    async def coherence(self, info: Info) -> CoherenceScore:
        """The tenant's score."""
        return CoherenceScore.of(await info.context.score(self.tenant_id))

    @resolved("Its stored signals, newest ts first.")
    async def signals(
        self,
        info: Info,
        first: Annotated[
            int | None, strawberry.argument(description="At most this many, 1 to 1000.")
        ] = strawberry.UNSET,
        after: Annotated[
            str | None, strawberry.argument(description="endCursor of the page before.")
        ] = strawberry.UNSET,
        filter: Annotated[  # noqa: A002 - its name in GraphQL
            SignalFilterInput | None, strawberry.argument(description="Narrows them.")
        ] = strawberry.UNSET,
    ) -> SignalConnection:
        """A page of the tenant's signals."""
        request = ListSignalsRequest(
            tenant_id=self.tenant_id,
            filter=filter.message() if filter else None,
            page_size=first or 0,
            page_token=after or "",
        )
        page = await info.context.backbone.list_signals(request, info.context.caller)
        info.context.saw(self.tenant_id, page.revision.token)
        return SignalConnection(
            nodes=[Signal.of(stored) for stored in page.signals],
            end_cursor=page.next_page_token or None,
            has_next_page=bool(page.next_page_token),
        )

"""Scores, what they are made of, and the tenants they belong to."""

from typing import Annotated, Final, Self

import strawberry
from google.protobuf.timestamp_pb2 import Timestamp

from coherence.v1 import score_pb2
from coherence.v1.ingest_pb2 import ListSignalsRequest
from subgraph.instants import micros_of
from subgraph.operation import Operation
from subgraph.schema import history
from subgraph.schema.explanations import CoherenceExplanation
from subgraph.schema.fields import given, resolved
from subgraph.schema.history import CoherenceScorePoint
from subgraph.schema.scalars import DateTime, Long, instant_or_none
from subgraph.schema.signals import Signal, SignalConnection, SignalFilterInput
from subgraph.schema.words import status_word

Info = strawberry.Info[Operation, None]
_SOURCE: Final = "SCORE_SOURCE_"
_TREND: Final = "TREND_"


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
        "the window, so there is no score. A policy may have other thresholds."
    )
    held_status: str | None = strawberry.field(
        description="What is shown and alerted on: status after the policy's hysteresis and dwell. Null when it is not "
        "known, with asOf."
    )
    held_since: DateTime | None = strawberry.field(description="Since when it has been held, where that is known.")
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
    policy_etag: str = strawberry.field(description="Policy under which it was computed; empty for the default rules.")
    trend: str | None = strawberry.field(
        description="UP, DOWN or FLAT: at least 0.01 above, below or not that far from the score shown an hour "
        "earlier. In the portfolio only, and null when there is nothing to compare."
    )
    stale: bool = strawberry.field(description="Something newer is known, but could not be evaluated.")
    cursor: str = strawberry.field(
        description="Resume position: subscribe with it as `after` to get what came later. Empty with asOf."
    )
    as_of: strawberry.Private[Timestamp | None] = None
    asked_etag: strawberry.Private[str] = ""

    @resolved("Which signals push the score down, and by how much.")
    async def explanation(
        self,
        info: Info,
        top: Annotated[
            int | None, strawberry.argument(description="How many contributions and groups, 1 to 100.")
        ] = strawberry.UNSET,
    ) -> CoherenceExplanation:
        """The score taken apart."""
        request = score_pb2.ExplainScoreRequest(
            tenant_id=self.tenant_id, top_n=top or 0, as_of_time=self.as_of, policy_etag=self.asked_etag
        )
        answer = await info.context.backbone.explain_score(request, info.context.caller)
        return CoherenceExplanation.of(answer, self.as_of, self.asked_etag)

    @resolved("The tenant, as an entity of the supergraph.")
    def tenant(self) -> "Tenant":
        """The tenant."""
        return Tenant(tenant_id=self.tenant_id)

    @classmethod
    def of(
        cls, score: score_pb2.Score, *, cursor: str = "", as_of: Timestamp | None = None, asked_etag: str = ""
    ) -> Self:
        """The score, with the cursor of the event that brought it where there is one."""
        data_time = instant_or_none(score, "data_time")
        age_us = None if data_time is None else micros_of(score.window_end_time) - micros_of(data_time)
        return cls(
            tenant_id=strawberry.ID(score.tenant_id),
            score=score.score,
            status=status_word(score.status) or "",
            held_status=status_word(score.held_status),
            held_since=instant_or_none(score, "held_since_time"),
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
            policy_etag=score.policy_etag,
            trend=score_pb2.Trend.Name(score.trend).removeprefix(_TREND) if score.trend else None,
            stale=score.stale,
            cursor=cursor or score.cursor,
            as_of=as_of,
            asked_etag=asked_etag,
        )


@strawberry.type(description="A page of scores, in the order asked for.")
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

    @resolved("Its score over time: at most `first` points.")
    async def coherence_history(
        self,
        info: Info,
        start: history.From = strawberry.UNSET,
        to: history.To = strawberry.UNSET,
        step_seconds: history.StepSeconds = strawberry.UNSET,
        basis: history.Basis = strawberry.UNSET,
        policy_etag: history.PolicyEtag = strawberry.UNSET,
        first: history.First = strawberry.UNSET,
    ) -> list[CoherenceScorePoint]:
        """Points of the tenant's history."""
        request = history.history_request(
            self.tenant_id, start, to, step_seconds, given(basis), given(policy_etag), given(first), None
        )
        page = await info.context.backbone.list_score_history(request, info.context.caller)
        return [CoherenceScorePoint.of(point) for point in page.points]

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

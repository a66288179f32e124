"""What can be read."""

from typing import Annotated, Final

import strawberry

from coherence.v1.ingest_pb2 import GetProvenanceRequest
from coherence.v1.score_pb2 import (
    GetScorePolicyRequest,
    GetScoreRequest,
    ListScorePolicyVersionsRequest,
    ListScoresRequest,
    ScoreFilter,
    ScoreOrder,
    SimulateScoreRequest,
)
from coherence_grpc.errors import FieldError
from subgraph.refusals import invalid
from subgraph.schema import history
from subgraph.schema.fields import given, resolved
from subgraph.schema.history import CoherenceHistory
from subgraph.schema.policies import CoherencePolicy, CoherencePolicyVersionConnection, PolicyInput
from subgraph.schema.provenance import SignalProvenance
from subgraph.schema.scalars import DateTime
from subgraph.schema.scores import CoherenceScore, CoherenceScoreConnection, Info, Tenant
from subgraph.schema.simulation import CoherenceSimulation, HypotheticalSignalInput
from subgraph.schema.words import duration, one_of, statuses

MOST_TENANTS: Final = 1000
ORDERS: Final = ("WORST_FIRST", "BEST_FIRST", "TENANT_ID", "LAST_CHANGED")

AsOf = Annotated[
    DateTime | None,
    strawberry.argument(description="Recompute the score as of this past instant, from everything stored by now."),
]


@strawberry.input(description="Narrows the portfolio; what is left out does not narrow.")
class CoherencePortfolioFilter:
    """Narrows the portfolio."""

    statuses: list[str] | None = strawberry.field(
        default=strawberry.UNSET, description="Any of these: HEALTHY, WARN, CRITICAL, UNKNOWN."
    )
    min_score: float | None = strawberry.field(
        default=strawberry.UNSET, description="At least this; leaves out UNKNOWN."
    )
    max_score: float | None = strawberry.field(
        default=strawberry.UNSET, description="At most this; leaves out UNKNOWN."
    )

    held_statuses: list[str] | None = strawberry.field(
        default=strawberry.UNSET, description="Any of these as held status."
    )
    tenant_id_prefix: str | None = strawberry.field(default=strawberry.UNSET, description="Tenants whose id begins so.")

    def message(self) -> ScoreFilter:
        """The filter on the wire.

        Raises:
            Refused: there is no such status.
        """
        return ScoreFilter(
            statuses=statuses(given(self.statuses), "filter.statuses"),
            held_statuses=statuses(given(self.held_statuses), "filter.heldStatuses"),
            min_score=given(self.min_score),
            max_score=given(self.max_score),
            tenant_id_prefix=given(self.tenant_id_prefix) or "",
        )


@strawberry.type(description="What can be read.")
class Query:
    """The queries."""

    @resolved("A tenant's score now, or as of a past instant. UNKNOWN for one never heard of.")
    async def tenant_coherence(
        self,
        info: Info,
        tenant_id: Annotated[strawberry.ID, strawberry.argument(description="The tenant.")],
        as_of: AsOf = strawberry.UNSET,
        policy_etag: Annotated[
            str | None,
            strawberry.argument(
                description="With asOf: under this version of the policy, `default` for the default rules; default the "
                "one in force."
            ),
        ] = strawberry.UNSET,
    ) -> CoherenceScore:
        """One tenant's score."""
        instant, etag = given(as_of), given(policy_etag) or ""
        if not etag:
            return CoherenceScore.of(await info.context.score(tenant_id, instant), as_of=instant)
        request = GetScoreRequest(tenant_id=tenant_id, as_of_time=instant, policy_etag=etag)
        answer = await info.context.backbone.get_score(request, info.context.caller)
        return CoherenceScore.of(answer.score, as_of=instant, asked_etag=etag)

    @resolved("Scores of up to 1000 tenants, in the order asked; null, with an error, for one that is refused.")
    def tenants_coherence(
        self,
        info: Info,
        tenant_ids: Annotated[list[strawberry.ID], strawberry.argument(description="The tenants, at most 1000.")],
    ) -> list[CoherenceScore | None]:
        """Several tenants' scores."""
        if len(tenant_ids) > MOST_TENANTS:
            problem = f"must be at most {MOST_TENANTS} tenants, not {len(tenant_ids)}; ask in parts"
            message = f"tenantIds {problem}"
            raise invalid(message, FieldError("tenantIds", problem))
        return [_score(info, tenant_id) for tenant_id in tenant_ids]  # type: ignore[misc]  # GraphQL awaits them itself

    @resolved("The tenants the caller may see: lowest score first, UNKNOWN last, unless another order is asked for.")
    async def coherence_portfolio(
        self,
        info: Info,
        filter: Annotated[  # noqa: A002 - its name in GraphQL
            CoherencePortfolioFilter | None, strawberry.argument(description="Narrows them.")
        ] = strawberry.UNSET,
        first: Annotated[
            int | None, strawberry.argument(description="At most this many, 1 to 1000.")
        ] = strawberry.UNSET,
        after: Annotated[
            str | None, strawberry.argument(description="endCursor of the page before.")
        ] = strawberry.UNSET,
        order: Annotated[
            str | None,
            strawberry.argument(description="WORST_FIRST (default), BEST_FIRST, TENANT_ID or LAST_CHANGED."),
        ] = strawberry.UNSET,
    ) -> CoherenceScoreConnection:
        """A page of the portfolio."""
        word = one_of(order, ORDERS, "order") if order else "UNSPECIFIED"
        request = ListScoresRequest(
            filter=filter.message() if filter else None,
            page_size=first or 0,
            page_token=after or "",
            order=ScoreOrder.Value(f"SCORE_ORDER_{word}"),
        )
        page = await info.context.backbone.list_scores(request, info.context.caller)
        return CoherenceScoreConnection(
            nodes=[CoherenceScore.of(score) for score in page.scores],
            end_cursor=page.next_page_token or None,
            has_next_page=bool(page.next_page_token),
        )

    @resolved("A tenant's score over time: as it was published, or recomputed.")
    async def coherence_history(
        self,
        info: Info,
        tenant_id: Annotated[strawberry.ID, strawberry.argument(description="The tenant.")],
        start: history.From = strawberry.UNSET,
        to: history.To = strawberry.UNSET,
        step_seconds: history.StepSeconds = strawberry.UNSET,
        basis: history.Basis = strawberry.UNSET,
        policy_etag: history.PolicyEtag = strawberry.UNSET,
        first: history.First = strawberry.UNSET,
        after: Annotated[
            str | None, strawberry.argument(description="endCursor of the page before.")
        ] = strawberry.UNSET,
    ) -> CoherenceHistory:
        """A page of a history."""
        request = history.history_request(
            tenant_id, start, to, step_seconds, given(basis), given(policy_etag), given(first), given(after)
        )
        return CoherenceHistory.of(await info.context.backbone.list_score_history(request, info.context.caller))

    @resolved("What a tenant's score would be with more signals, under another policy, or both. Writes nothing.")
    async def simulate_coherence(
        self,
        info: Info,
        tenant_id: Annotated[strawberry.ID, strawberry.argument(description="The tenant.")],
        signals: Annotated[
            list[HypotheticalSignalInput] | None,
            strawberry.argument(description="Signals as if they had been stored too, at most 1000."),
        ] = strawberry.UNSET,
        policy: Annotated[
            PolicyInput | None,
            strawberry.argument(
                description="The policy in place of the one in force; what is left out has its default."
            ),
        ] = strawberry.UNSET,
        as_of: Annotated[
            DateTime | None, strawberry.argument(description="As of this instant; default now.")
        ] = strawberry.UNSET,
        lookback_seconds: Annotated[
            float | None,
            strawberry.argument(
                description="Over how much of the past statuses are compared; default 7 days, 0 for the scores only."
            ),
        ] = strawberry.UNSET,
    ) -> CoherenceSimulation:
        """What would be."""
        request = SimulateScoreRequest(
            tenant_id=tenant_id,
            signals=[signal.message() for signal in given(signals) or ()],
            policy=policy.message(tenant_id) if policy else None,
            as_of_time=given(as_of),
            lookback=duration(given(lookback_seconds), "lookbackSeconds"),
        )
        return CoherenceSimulation.of(await info.context.backbone.simulate_score(request, info.context.caller))

    @resolved("The rules by which a tenant is scored, or a version of them.")
    async def coherence_policy(
        self,
        info: Info,
        tenant_id: Annotated[strawberry.ID, strawberry.argument(description="The tenant.")],
        etag: Annotated[
            str | None, strawberry.argument(description="This version; default the one in force.")
        ] = strawberry.UNSET,
    ) -> CoherencePolicy:
        """A policy."""
        request = GetScorePolicyRequest(tenant_id=tenant_id, etag=given(etag) or "")
        answer = await info.context.backbone.get_score_policy(request, info.context.caller)
        info.context.saw(tenant_id, answer.revision.token)
        return CoherencePolicy.of(answer.policy)

    @resolved("The versions of a tenant's policy, newest first.")
    async def coherence_policy_versions(
        self,
        info: Info,
        tenant_id: Annotated[strawberry.ID, strawberry.argument(description="The tenant.")],
        first: Annotated[
            int | None, strawberry.argument(description="At most this many, 1 to 1000.")
        ] = strawberry.UNSET,
        after: Annotated[
            str | None, strawberry.argument(description="endCursor of the page before.")
        ] = strawberry.UNSET,
    ) -> CoherencePolicyVersionConnection:
        """A page of versions."""
        request = ListScorePolicyVersionsRequest(tenant_id=tenant_id, page_size=first or 0, page_token=after or "")
        page = await info.context.backbone.list_score_policy_versions(request, info.context.caller)
        return CoherencePolicyVersionConnection.of(page)

    @resolved("A tenant with its score and its signals.")
    def tenant(self, tenant_id: Annotated[strawberry.ID, strawberry.argument(description="The tenant.")]) -> Tenant:
        """One tenant."""
        return Tenant(tenant_id=tenant_id)

    @resolved("Who stored what, when and under which tags. Null, with NOT_FOUND, without a record.")
    async def provenance(
        self,
        info: Info,
        tenant_id: Annotated[strawberry.ID, strawberry.argument(description="The tenant.")],
        provenance_id: Annotated[strawberry.ID, strawberry.argument(description="From a signal or a publish result.")],
    ) -> SignalProvenance | None:
        """One request's record."""
        request = GetProvenanceRequest(tenant_id=tenant_id, provenance_id=provenance_id)
        return SignalProvenance.of(await info.context.backbone.get_provenance(request, info.context.caller))


async def _score(info: Info, tenant_id: str) -> CoherenceScore:
    return CoherenceScore.of(await info.context.score(tenant_id))

"""What can be read."""

from typing import Annotated, Final

import strawberry

from coherence.v1.ingest_pb2 import GetProvenanceRequest
from coherence.v1.score_pb2 import ListScoresRequest, ScoreFilter, Status
from coherence_grpc.errors import FieldError
from subgraph.refusals import invalid
from subgraph.schema.fields import given, resolved
from subgraph.schema.provenance import SignalProvenance
from subgraph.schema.scalars import DateTime
from subgraph.schema.scores import CoherenceScore, CoherenceScoreConnection, Info, Tenant

MOST_TENANTS: Final = 1000
STATUSES: Final = ("HEALTHY", "WARN", "CRITICAL", "UNKNOWN")

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

    def message(self) -> ScoreFilter:
        """The filter on the wire.

        Raises:
            Refused: there is no such status.
        """
        unknown = [word for word in self.statuses or () if word not in STATUSES]
        if unknown:
            problem = f"must be one of {', '.join(STATUSES)}, not {unknown[0][:64]!r}"
            message = f"filter.statuses {problem}"
            raise invalid(message, FieldError("filter.statuses", problem))
        statuses = [Status.Value(f"STATUS_{word}") for word in self.statuses or ()]
        return ScoreFilter(statuses=statuses, min_score=given(self.min_score), max_score=given(self.max_score))


@strawberry.type(description="What can be read.")
class Query:
    """The queries."""

    @resolved("A tenant's score now, or as of a past instant. UNKNOWN for one never heard of.")
    async def tenant_coherence(
        self,
        info: Info,
        tenant_id: Annotated[strawberry.ID, strawberry.argument(description="The tenant.")],
        as_of: AsOf = strawberry.UNSET,
    ) -> CoherenceScore:
        """One tenant's score."""
        instant = given(as_of)
        return CoherenceScore.of(await info.context.score(tenant_id, instant), as_of=instant)

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

    @resolved("The tenants the caller may see: lowest score first, UNKNOWN last.")
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
    ) -> CoherenceScoreConnection:
        """A page of the portfolio."""
        request = ListScoresRequest(
            filter=filter.message() if filter else None, page_size=first or 0, page_token=after or ""
        )
        page = await info.context.backbone.list_scores(request, info.context.caller)
        return CoherenceScoreConnection(
            nodes=[CoherenceScore.of(score) for score in page.scores],
            end_cursor=page.next_page_token or None,
            has_next_page=bool(page.next_page_token),
        )

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

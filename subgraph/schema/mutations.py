"""What can be written: signals, by the same path as from every other transport."""

from typing import Annotated

import strawberry

from coherence.v1.score_pb2 import RecomputeScoreRequest, UpdateScorePolicyRequest
from coherence_grpc.errors import FieldError
from subgraph.publishing import MOST_SIGNALS, publish
from subgraph.refusals import invalid
from subgraph.schema.fields import given, resolved
from subgraph.schema.policies import CoherencePolicy, PolicyInput
from subgraph.schema.publishing import PublishCoherenceSignalInput, PublishReport
from subgraph.schema.scalars import Long
from subgraph.schema.scores import Info


@strawberry.type(description="What can be written.")
class Mutation:
    """The mutations."""

    @resolved(
        "Stores a signal for good. True when it is stored, by this request or an earlier one with the same "
        "content; otherwise an error that says why."
    )
    async def publish_coherence_signal(
        self,
        info: Info,
        input: Annotated[PublishCoherenceSignalInput, strawberry.argument(description="The signal.")],  # noqa: A002 - its name in GraphQL
    ) -> bool:
        """One signal stored."""
        answer = await info.context.backbone.publish_signal(input.request(), info.context.caller)
        info.context.wrote(input.tenant_id, answer.revision.token)
        return True

    @resolved(
        "Stores up to 1000 signals of any tenants. Not atomic: a bad one is refused by itself, the others are stored."
    )
    async def publish_coherence_signals(
        self,
        info: Info,
        inputs: Annotated[list[PublishCoherenceSignalInput], strawberry.argument(description="1 to 1000 signals.")],
    ) -> PublishReport:
        """Many signals stored, each with its outcome."""
        if not 1 <= len(inputs) <= MOST_SIGNALS:
            problem = f"must be 1 to {MOST_SIGNALS} signals, not {len(inputs)}; publish in parts"
            message = f"inputs {problem}"
            raise invalid(message, FieldError("inputs", problem), reason="SIGNAL_INVALID")
        signals = [signal.submitted(place) for place, signal in enumerate(inputs)]
        report = await publish(info.context.backbone, info.context.caller, signals)
        for tenant_id, token in report.revisions.items():
            info.context.wrote(tenant_id, token)
        return PublishReport.of(report)

    @resolved(
        "Changes the rules by which a tenant is scored. With an etag that is not that of the rules in force: an error "
        "with the code CONFLICT, and nothing is changed. Takes the scope coherence:admin."
    )
    async def update_coherence_policy(
        self,
        info: Info,
        tenant_id: Annotated[strawberry.ID, strawberry.argument(description="The tenant.")],
        policy: Annotated[
            PolicyInput,
            strawberry.argument(description="What is left out stays; null goes back to the default."),
        ],
        etag: Annotated[
            str | None,
            strawberry.argument(description="The version that this change is made on; default whatever is in force."),
        ] = strawberry.UNSET,
        validate_only: Annotated[
            bool | None, strawberry.argument(description="Check only: answers as if changed, and writes nothing.")
        ] = strawberry.UNSET,
    ) -> CoherencePolicy:
        """Other rules."""
        request = UpdateScorePolicyRequest(
            tenant_id=tenant_id,
            policy=policy.message(tenant_id),
            update_mask=policy.mask(),
            etag=given(etag) or "",
            validate_only=bool(given(validate_only)),
        )
        answer = await info.context.backbone.update_score_policy(request, info.context.caller)
        info.context.wrote(tenant_id, answer.revision.token)
        return CoherencePolicy.of(answer.policy)

    @resolved(
        "Has a tenant's score computed anew from its stored signals: the number of the entry in its log. Takes the "
        "scope coherence:admin."
    )
    async def recompute_coherence(
        self, info: Info, tenant_id: Annotated[strawberry.ID, strawberry.argument(description="The tenant.")]
    ) -> Long:
        """A score computed anew."""
        request = RecomputeScoreRequest(tenant_id=tenant_id)
        answer = await info.context.backbone.recompute_score(request, info.context.caller)
        info.context.wrote(tenant_id, answer.revision.token)
        return Long(answer.seq)

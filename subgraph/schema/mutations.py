"""What can be written: signals, by the same path as from every other transport."""

from typing import Annotated

import strawberry

from coherence_grpc.errors import FieldError
from subgraph.publishing import MOST_SIGNALS, publish
from subgraph.refusals import invalid
from subgraph.schema.fields import resolved
from subgraph.schema.publishing import PublishCoherenceSignalInput, PublishReport
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

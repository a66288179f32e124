"""What can be followed live, and resumed."""

from collections.abc import AsyncGenerator
from typing import Annotated, Final

import strawberry

from coherence.v1.events_pb2 import (
    EVENT_KIND_SCORE_STATUS_CHANGED,
    EVENT_KIND_SCORE_UPDATED,
    EVENT_KIND_SIGNAL_REPLACED,
    EVENT_KIND_SIGNAL_STORED,
)
from subgraph.schema.fields import subscribed
from subgraph.schema.scores import CoherenceScore, Info
from subgraph.schema.signals import Signal

_SIGNALS: Final = (EVENT_KIND_SIGNAL_STORED, EVENT_KIND_SIGNAL_REPLACED)
_SCORES: Final = (EVENT_KIND_SCORE_UPDATED, EVENT_KIND_SCORE_STATUS_CHANGED)

After = Annotated[
    str | None,
    strawberry.argument(
        description="Resume after this cursor: the last one received, or resumeCursor of the error that ended the "
        "subscription. Left out: only what comes from now on."
    ),
]


@strawberry.type(description="What can be followed live. A subscription that the server ends says where to resume.")
class Subscription:
    """The subscriptions."""

    @subscribed("A tenant's signals as they are stored, each once and in order.")
    async def coherence_events(
        self,
        info: Info,
        tenant_id: Annotated[strawberry.ID, strawberry.argument(description="The tenant.")],
        after: After = strawberry.UNSET,
    ) -> AsyncGenerator[Signal, None]:
        """The tenant's signals."""
        async for event in info.context.events(tenant_id, _SIGNALS, after or ""):
            yield Signal.of(event.signal, cursor=event.cursor)

    @subscribed("A tenant's scores as they are published; latest wins, a change of status is never skipped.")
    async def coherence_score_changes(
        self,
        info: Info,
        tenant_id: Annotated[strawberry.ID, strawberry.argument(description="The tenant.")],
        after: After = strawberry.UNSET,
    ) -> AsyncGenerator[CoherenceScore, None]:
        """The tenant's scores."""
        async for event in info.context.events(tenant_id, _SCORES, after or ""):
            yield CoherenceScore.of(event.score, cursor=event.cursor)

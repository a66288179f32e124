"""One GraphQL operation under way: who asks, what it has loaded, and which revisions it has seen."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from coherence_grpc.client import refusal_of_status
from subgraph.instants import micros_of
from subgraph.refusals import Refused, presentable, renamed

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Sequence

    from google.protobuf.timestamp_pb2 import Timestamp

    from coherence.v1.events_pb2 import Event, EventKind
    from coherence.v1.score_pb2 import BatchScore, Score
    from subgraph.backbone import Backbone, Caller
    from subgraph.following import Followers
    from subgraph.loading import ScoreBatcher
    from subgraph.revisions import Revisions


@dataclass(frozen=True, slots=True)
class Services:
    """What operations are answered with; one set a process."""

    backbone: Backbone
    scores: ScoreBatcher
    followers: Followers
    revisions: Revisions


@dataclass(slots=True)
class Operation:
    """The context of one operation: never of a socket, so that the next operation reads anew.

    `asked_revision` is what the request brought along; `resume_from` the Last-Event-ID of a reconnecting reader, which
    is newer than what it first subscribed with. `seen` holds the newest revision by tenant, `position` the cursor of
    the event in hand, `opened` is set once a subscription's events flow.
    """

    services: Services
    caller: Caller
    asked_revision: str = ""
    resume_from: str = ""
    seen: dict[str, str] = field(default_factory=dict)
    position: str = ""
    opened: asyncio.Event = field(default_factory=asyncio.Event)
    _loaded: dict[tuple[str, int | None], asyncio.Future[BatchScore]] = field(default_factory=dict)

    @property
    def backbone(self) -> Backbone:
        """The RPCs."""
        return self.services.backbone

    async def score(self, tenant_id: str, as_of: Timestamp | None = None) -> Score:
        """The tenant's score; asked for once an operation, together with the others of this turn."""
        key = (tenant_id, None if as_of is None else micros_of(as_of))
        answer = self._loaded.get(key)
        if answer is None:
            written = "" if as_of else self.services.revisions.last_written(self.caller, tenant_id)
            asked = "" if as_of else self.asked_revision
            answer = self.services.scores.load(self.caller, tenant_id, as_of=as_of, written=written, asked=asked)
            self._loaded[key] = answer
        # An operation that is given up must not take the answer from the others that wait for it.
        result = await asyncio.shield(answer)
        if result.HasField("error"):
            # The batch is ours: where in it the tenant stood says nothing to the caller.
            raise Refused(renamed(presentable(refusal_of_status(result.error)), _without_place))
        self.saw(tenant_id, result.revision.token)
        return result.score

    async def events(
        self, tenant_id: str, kinds: Sequence[EventKind.ValueType], after: str
    ) -> AsyncGenerator[Event, None]:
        """The tenant's events of these kinds, after a cursor or from now on."""
        start = self.resume_from or after
        async with self.services.followers.follow(self.caller, tenant_id, kinds, start, self.opened) as follower:
            events = follower.events()
            try:
                async for event in events:
                    self.position = event.cursor
                    yield event
            finally:
                await events.aclose()

    def saw(self, tenant_id: str, token: str) -> None:
        """A read of the tenant returned this revision."""
        if token:
            self.seen[tenant_id] = token

    def wrote(self, tenant_id: str, token: str) -> None:
        """A write to the tenant returned this revision: the caller's next reads will have seen it."""
        if token:
            self.seen[tenant_id] = token
            self.services.revisions.wrote(self.caller, tenant_id, token)


def _without_place(path: str) -> str:
    return "tenant_id" if path.startswith("tenant_ids[") else path

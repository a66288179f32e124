"""Scores by the batch: what is asked within one turn of the event loop goes out in as few calls as can be."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Final, NamedTuple

from coherence.v1.score_pb2 import BatchGetScoresRequest, BatchGetScoresResponse, BatchScore, Consistency
from coherence.v1.signal_pb2 import Revision

if TYPE_CHECKING:
    from collections.abc import Sequence

    from google.protobuf.timestamp_pb2 import Timestamp

    from subgraph.backbone import Backbone, Caller

TENANTS_A_CALL: Final = 100


class Group(NamedTuple):
    """What may share a call: reads of one token, at one instant, under one revision that the caller named."""

    authorization: str
    as_of: tuple[int, int] | None
    asked_revision: str


class Wanted:
    """One tenant's score, waited for by everyone who asked for it in this turn."""

    __slots__ = ("answer", "caller", "revision")

    def __init__(self, caller: Caller, answer: asyncio.Future[BatchScore]) -> None:
        self.caller = caller
        self.answer = answer
        self.revision = ""


class ScoreBatcher:
    """Turns reads of single scores into BatchGetScores: n tenants cost ceil(n / 100) calls.

    Nothing is kept between turns. Reads of different tokens never share a call.
    """

    def __init__(self, backbone: Backbone) -> None:
        self._backbone = backbone
        self._pending: dict[Group, dict[str, Wanted]] = {}
        self._calls: set[asyncio.Task[BatchGetScoresResponse]] = set()

    def load(
        self, caller: Caller, tenant_id: str, *, as_of: Timestamp | None, written: str, asked: str
    ) -> asyncio.Future[BatchScore]:
        """The tenant's score, as fresh as the revisions that the caller wrote or asked for."""
        loop = asyncio.get_running_loop()
        if not self._pending:
            loop.call_soon(self._flush)
        group = Group(caller.authorization, None if as_of is None else (as_of.seconds, as_of.nanos), asked)
        wants = self._pending.setdefault(group, {})
        wanted = wants.get(tenant_id)
        if wanted is None:
            wanted = wants[tenant_id] = Wanted(caller, loop.create_future())
        wanted.revision = asked or written or wanted.revision
        return wanted.answer

    def _flush(self) -> None:
        pending, self._pending = self._pending, {}
        for group, wants in pending.items():
            everyone = list(wants.items())
            for start in range(0, len(everyone), TENANTS_A_CALL):
                part = everyone[start : start + TENANTS_A_CALL]
                task = asyncio.create_task(self._call(group, part))
                self._calls.add(task)
                task.add_done_callback(partial(self._answered, [wanted for _, wanted in part]))

    async def _call(self, group: Group, part: Sequence[tuple[str, Wanted]]) -> BatchGetScoresResponse:
        wants = [wanted for _, wanted in part]
        request = BatchGetScoresRequest(
            tenant_ids=[tenant_id for tenant_id, _ in part], consistency=_consistency(wants)
        )
        if group.as_of is not None:
            request.as_of_time.seconds, request.as_of_time.nanos = group.as_of
        return await self._backbone.batch_get_scores(request, _speaker(wants))

    def _answered(self, wants: Sequence[Wanted], call: asyncio.Task[BatchGetScoresResponse]) -> None:
        self._calls.discard(call)
        error = None if call.cancelled() else call.exception()
        results = () if call.cancelled() or error else call.result().results
        for place, wanted in enumerate(wants):
            if wanted.answer.done():
                continue
            if error is not None:
                wanted.answer.set_exception(error)
            elif place < len(results):
                wanted.answer.set_result(results[place])
            else:
                wanted.answer.cancel()


def _consistency(wants: Sequence[Wanted]) -> Consistency | None:
    revisions = {wanted.revision for wanted in wants if wanted.revision}
    if not revisions:
        return None
    if len(wants) == 1:
        return Consistency(at_least_as_fresh=Revision(token=revisions.pop()))
    # A call carries one revision, which belongs to one tenant. Everything committed covers them all.
    return Consistency(fully_consistent=Consistency.FullyConsistent())


def _speaker(wants: Sequence[Wanted]) -> Caller:
    """Who makes the call: a trace is continued only where one caller alone is behind it."""
    first = wants[0].caller
    return first if all(wanted.caller == first for wanted in wants) else replace(first, traceparent="")

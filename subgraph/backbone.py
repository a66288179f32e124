"""The backbone's RPCs as the subgraph uses them: on behalf of a caller, each refusal a `Refused`."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, TypeVar

import grpc.aio

from coherence.v1.meta_pb2 import GetServerInfoRequest, GetServerInfoResponse
from coherence_grpc.client import refusal_of
from subgraph.refusals import Refused, invalid, presentable

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from coherence.v1.ingest_pb2 import (
        GetProvenanceRequest,
        GetProvenanceResponse,
        ListSignalsRequest,
        ListSignalsResponse,
        PublishSignalRequest,
        PublishSignalResponse,
        PublishSignalsRequest,
        PublishSignalsResponse,
    )
    from coherence.v1.score_pb2 import (
        BatchGetScoresRequest,
        BatchGetScoresResponse,
        ExplainScoreRequest,
        ExplainScoreResponse,
        GetScorePolicyRequest,
        GetScorePolicyResponse,
        GetScoreRequest,
        GetScoreResponse,
        ListScoreHistoryRequest,
        ListScoreHistoryResponse,
        ListScorePolicyVersionsRequest,
        ListScorePolicyVersionsResponse,
        ListScoresRequest,
        ListScoresResponse,
        RecomputeScoreRequest,
        RecomputeScoreResponse,
        SimulateScoreRequest,
        SimulateScoreResponse,
        UpdateScorePolicyRequest,
        UpdateScorePolicyResponse,
    )
    from coherence_grpc.client import Client

_Response = TypeVar("_Response")
TRACEPARENT: Final = re.compile(r"[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}")
_PRINTABLE: Final = re.compile(r"[\x20-\x7e]*")


@dataclass(frozen=True, slots=True)
class Caller:
    """On whose behalf a call is made, and by which transport the request came in: http or graphql."""

    transport: str
    authorization: str = ""
    traceparent: str = ""

    @property
    def metadata(self) -> tuple[tuple[str, str], ...]:
        """What travels with every call."""
        pairs = [("x-coherence-transport", self.transport)]
        if self.authorization:
            pairs.append(("authorization", self.authorization))
        if self.traceparent:
            pairs.append(("traceparent", self.traceparent))
        return tuple(pairs)


def caller_of(headers: Mapping[str, str], transport: str) -> Caller:
    """The caller that these headers (names in lower case) describe; a malformed traceparent is left out.

    Raises:
        Refused: the authorization header can't be forwarded.
    """
    authorization = headers.get("authorization", "")
    if not _PRINTABLE.fullmatch(authorization):
        message = "the authorization header holds characters that no header may hold; send a valid token"
        raise invalid(message, reason="TOKEN_INVALID")
    traceparent = headers.get("traceparent", "")
    return Caller(transport, authorization, traceparent if TRACEPARENT.fullmatch(traceparent) else "")


class Backbone:
    """One method a unary RPC; every one raises Refused with words fit for the caller."""

    def __init__(self, client: Client) -> None:
        self._client = client

    async def batch_get_scores(self, request: BatchGetScoresRequest, caller: Caller) -> BatchGetScoresResponse:
        """Scores of up to 100 tenants, each with its own verdict."""
        return await _answer(self._client.score.BatchGetScores, request, caller)

    async def list_scores(self, request: ListScoresRequest, caller: Caller) -> ListScoresResponse:
        """A page of the portfolio."""
        return await _answer(self._client.score.ListScores, request, caller)

    async def explain_score(self, request: ExplainScoreRequest, caller: Caller) -> ExplainScoreResponse:
        """What a score is made of."""
        return await _answer(self._client.score.ExplainScore, request, caller)

    async def get_score(self, request: GetScoreRequest, caller: Caller) -> GetScoreResponse:
        """One tenant's score."""
        return await _answer(self._client.score.GetScore, request, caller)

    async def list_score_history(self, request: ListScoreHistoryRequest, caller: Caller) -> ListScoreHistoryResponse:
        """A page of a score's history."""
        return await _answer(self._client.score.ListScoreHistory, request, caller)

    async def simulate_score(self, request: SimulateScoreRequest, caller: Caller) -> SimulateScoreResponse:
        """What a score would be."""
        return await _answer(self._client.score.SimulateScore, request, caller)

    async def get_score_policy(self, request: GetScorePolicyRequest, caller: Caller) -> GetScorePolicyResponse:
        """A policy, or a version of it."""
        return await _answer(self._client.score.GetScorePolicy, request, caller)

    async def list_score_policy_versions(
        self, request: ListScorePolicyVersionsRequest, caller: Caller
    ) -> ListScorePolicyVersionsResponse:
        """A page of a policy's versions."""
        return await _answer(self._client.score.ListScorePolicyVersions, request, caller)

    async def update_score_policy(self, request: UpdateScorePolicyRequest, caller: Caller) -> UpdateScorePolicyResponse:
        """A policy changed, or why not."""
        return await _answer(self._client.score.UpdateScorePolicy, request, caller)

    async def recompute_score(self, request: RecomputeScoreRequest, caller: Caller) -> RecomputeScoreResponse:
        """A score to be computed anew."""
        return await _answer(self._client.score.RecomputeScore, request, caller)

    async def list_signals(self, request: ListSignalsRequest, caller: Caller) -> ListSignalsResponse:
        """A page of a tenant's signals."""
        return await _answer(self._client.ingest.ListSignals, request, caller)

    async def get_provenance(self, request: GetProvenanceRequest, caller: Caller) -> GetProvenanceResponse:
        """Who stored what, and when."""
        return await _answer(self._client.ingest.GetProvenance, request, caller)

    async def publish_signal(self, request: PublishSignalRequest, caller: Caller) -> PublishSignalResponse:
        """One signal stored, or refused."""
        return await _answer(self._client.ingest.PublishSignal, request, caller)

    async def publish_signals(self, request: PublishSignalsRequest, caller: Caller) -> PublishSignalsResponse:
        """Signals of one tenant, each stored or refused."""
        return await _answer(self._client.ingest.PublishSignals, request, caller)

    async def server_info(self, caller: Caller) -> GetServerInfoResponse:
        """What the backbone is, with its runtime switches."""
        return await _answer(self._client.meta.GetServerInfo, GetServerInfoRequest(), caller)


async def _answer(
    method: Callable[..., Awaitable[_Response]],
    request: Any,  # noqa: ANN401 - the request of the method; generated stubs don't tie the two
    caller: Caller,
) -> _Response:
    try:
        return await method(request, metadata=caller.metadata)
    except grpc.aio.AioRpcError as error:
        raise Refused(presentable(refusal_of(error))) from error

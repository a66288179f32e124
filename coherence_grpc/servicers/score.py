"""ScoreService."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from coherence.v1.score_pb2_grpc import ScoreServiceServicer
from coherence_grpc.convert import explanations, pages, scores
from coherence_grpc.convert.calls import caller, cutter, stream_age_s, timeout_s
from coherence_grpc.convert.validation import checked
from coherence_grpc.errors import SubscriberLagged
from coherence_grpc.events import ClosingReason

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from coherence.v1 import score_pb2 as pb
    from coherence_grpc.convert.calls import Context
    from coherence_grpc.events import Hub
    from coherence_grpc.materialize import Explanations, Portfolio, Scores
    from coherence_grpc.servicers.cursors import Cursors
    from coherence_grpc.servicers.histories import HistoryAnswers
    from coherence_grpc.servicers.policies import PolicyAnswers
    from coherence_grpc.servicers.simulations import SimulationAnswers
    from coherence_grpc.servicers.unchanged import UnchangedScores
    from coherence_grpc.tokens import Signer


class ScoreServicer(ScoreServiceServicer):
    """Answers with scores, and why."""

    def __init__(
        self,
        scores: Scores,
        unchanged: UnchangedScores,
        hub: Hub,
        cursors: Cursors,
        signer: Signer,
        *,
        explanations: Explanations,
        portfolio: Portfolio,
        policies: PolicyAnswers,
        history: HistoryAnswers,
        simulation: SimulationAnswers,
    ) -> None:
        self._explanations = explanations
        self._portfolio = portfolio
        self._policies = policies
        self._history = history
        self._simulation = simulation
        self._scores = scores
        self._unchanged = unchanged
        self._hub = hub
        self._cursors = cursors
        self._signer = signer

    async def GetScore(self, request: pb.GetScoreRequest, context: Context) -> pb.GetScoreResponse:
        """One tenant's score."""
        plain = scores.is_plain(request)
        answer = self._unchanged.get(request.tenant_id) if plain else None
        if answer is not None:
            return scores.encoded_response(answer)
        checked(request)
        mark = self._unchanged.mark()
        score, head = await self._scores.get(
            request.tenant_id,
            as_of=scores.as_of(request),
            policy_etag=request.policy_etag,
            at_least=scores.at_least(request, self._signer),
            timeout_s=timeout_s(),
        )
        response = scores.get_score_response(request, score, head, self._signer)
        if not plain:
            return response
        encoded = response.SerializeToString()
        self._unchanged.put(score, response, mark)
        return scores.encoded_response(encoded)

    async def BatchGetScores(self, request: pb.BatchGetScoresRequest, context: Context) -> pb.BatchGetScoresResponse:
        """Many scores, each with its own verdict."""
        checked(request)
        results = await self._scores.batch(
            request.tenant_ids,
            caller(),
            as_of=scores.as_of(request),
            at_least=request.consistency.at_least_as_fresh.token,
            timeout_s=timeout_s(),
        )
        return scores.batch_get_scores_response(request, results, self._signer)

    async def ListScores(self, request: pb.ListScoresRequest, context: Context) -> pb.ListScoresResponse:
        """A page of the portfolio."""
        query = scores.score_query(request)
        after = pages.scores_after(request, self._signer)
        order = scores.portfolio_order(request)
        found = await self._portfolio.page(query, caller(), after, pages.page_size(request) + 1, order)
        return scores.list_scores_response(request, found, self._signer)

    async def WatchScore(self, request: pb.WatchScoreRequest, context: Context) -> AsyncIterator[pb.WatchScoreResponse]:
        """The current scores, then every update."""
        checked(request)
        cut = cutter()
        watch = self._hub.watch(
            request.tenant_ids,
            status_changes_only=request.status_changes_only,
            on_lagged=lambda: cut(SubscriberLagged("no score was taken for too long; watch again")),
        )
        expiry = asyncio.get_running_loop().call_later(stream_age_s(), watch.close, ClosingReason.MAX_AGE)
        try:
            async with watch:
                await watch.open()
                for tenant_id in request.tenant_ids:
                    score, _ = await self._scores.get(tenant_id, timeout_s=timeout_s())
                    yield scores.watch_score_response(score, self._signer, initial=True)
                async for score in watch:
                    yield scores.watch_score_response(score, self._signer, initial=False)
        finally:
            expiry.cancel()

    async def ExplainScore(self, request: pb.ExplainScoreRequest, context: Context) -> pb.ExplainScoreResponse:
        """What a score is made of."""
        checked(request)
        explanation = await self._explanations.get(
            request.tenant_id,
            top_n=request.top_n or explanations.DEFAULT_TOP,
            as_of=scores.as_of(request),
            policy_etag=request.policy_etag,
        )
        cursors = await self._cursors.after([part.signal for part in explanation.contributions])
        return explanations.explain_score_response(request, explanation, cursors, self._signer)

    async def ListScoreHistory(
        self, request: pb.ListScoreHistoryRequest, context: Context
    ) -> pb.ListScoreHistoryResponse:
        """A score over time."""
        return await self._history.list(request)

    async def SimulateScore(self, request: pb.SimulateScoreRequest, context: Context) -> pb.SimulateScoreResponse:
        """What a score would be."""
        return await self._simulation.simulate(request)

    async def GetScorePolicy(self, request: pb.GetScorePolicyRequest, context: Context) -> pb.GetScorePolicyResponse:
        """The rules by which a tenant is scored."""
        return await self._policies.get(request)

    async def ListScorePolicyVersions(
        self, request: pb.ListScorePolicyVersionsRequest, context: Context
    ) -> pb.ListScorePolicyVersionsResponse:
        """The rules as they were."""
        return await self._policies.versions(request)

    async def UpdateScorePolicy(
        self, request: pb.UpdateScorePolicyRequest, context: Context
    ) -> pb.UpdateScorePolicyResponse:
        """Other rules."""
        return await self._policies.update(request)

    async def RecomputeScore(self, request: pb.RecomputeScoreRequest, context: Context) -> pb.RecomputeScoreResponse:
        """A score computed anew."""
        return await self._policies.recompute(request)

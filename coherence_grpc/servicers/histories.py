"""Score histories, for ScoreService."""

from __future__ import annotations

from typing import TYPE_CHECKING

from coherence_grpc.convert import histories, pages

if TYPE_CHECKING:
    from coherence.v1 import score_pb2 as pb
    from coherence_grpc.materialize import History
    from coherence_grpc.tokens import Signer


class HistoryAnswers:
    """Answers how scores were."""

    def __init__(self, history: History, signer: Signer) -> None:
        self._history = history
        self._signer = signer

    async def list(self, request: pb.ListScoreHistoryRequest) -> pb.ListScoreHistoryResponse:
        """A page of points, with the spans."""
        query = histories.history_query(request)
        after = pages.history_after(request, self._signer)
        page = await self._history.page(query, after, pages.page_size(request))
        return histories.list_score_history_response(request, page, self._signer)

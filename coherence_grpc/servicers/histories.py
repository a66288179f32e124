"""Score histories, for ScoreService."""

from __future__ import annotations

from typing import TYPE_CHECKING

from coherence_grpc.errors import FeatureDisabled

if TYPE_CHECKING:
    from coherence.v1 import score_pb2 as pb


class HistoryAnswers:
    """Answers how scores were, and how they would have been."""

    async def list(self, request: pb.ListScoreHistoryRequest) -> pb.ListScoreHistoryResponse:
        """A page of points, with the spans."""
        message = "ListScoreHistory is not there yet"
        raise FeatureDisabled(message)

"""What-if, for ScoreService."""

from __future__ import annotations

from typing import TYPE_CHECKING

from coherence_grpc.errors import FeatureDisabled

if TYPE_CHECKING:
    from coherence.v1 import score_pb2 as pb


class SimulationAnswers:
    """Answers what would be."""

    async def simulate(self, request: pb.SimulateScoreRequest) -> pb.SimulateScoreResponse:
        """What would be with more signals, or under another policy."""
        message = "SimulateScore is not there yet"
        raise FeatureDisabled(message)

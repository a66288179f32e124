"""Score policies, for ScoreService."""

from __future__ import annotations

from typing import TYPE_CHECKING

from coherence_grpc.errors import FeatureDisabled

if TYPE_CHECKING:
    from coherence.v1 import score_pb2 as pb


class PolicyAnswers:
    """Answers what is asked about score policies, and changes them."""

    async def get(self, request: pb.GetScorePolicyRequest) -> pb.GetScorePolicyResponse:
        """The policy in force, or a version of it."""
        message = "GetScorePolicy is not there yet"
        raise FeatureDisabled(message)

    async def versions(self, request: pb.ListScorePolicyVersionsRequest) -> pb.ListScorePolicyVersionsResponse:
        """A page of the versions."""
        message = "ListScorePolicyVersions is not there yet"
        raise FeatureDisabled(message)

    async def update(self, request: pb.UpdateScorePolicyRequest) -> pb.UpdateScorePolicyResponse:
        """Changes it."""
        message = "UpdateScorePolicy is not there yet"
        raise FeatureDisabled(message)

    async def recompute(self, request: pb.RecomputeScoreRequest) -> pb.RecomputeScoreResponse:
        """Computes a score anew."""
        message = "RecomputeScore is not there yet"
        raise FeatureDisabled(message)

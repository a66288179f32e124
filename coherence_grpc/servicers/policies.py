"""Score policies, for ScoreService."""

from __future__ import annotations

from typing import TYPE_CHECKING

from coherence_grpc.convert import pages, policies
from coherence_grpc.convert.calls import caller, timeout_s
from coherence_grpc.convert.validation import checked

if TYPE_CHECKING:
    from coherence.v1 import score_pb2 as pb
    from coherence_grpc.materialize import Policies
    from coherence_grpc.tokens import Signer


class PolicyAnswers:
    """Answers what is asked about score policies, and changes them."""

    def __init__(self, policies: Policies, signer: Signer) -> None:
        self._policies = policies
        self._signer = signer

    async def get(self, request: pb.GetScorePolicyRequest) -> pb.GetScorePolicyResponse:
        """The policy in force, or a version of it."""
        checked(request)
        version, head = await self._policies.get(request.tenant_id, request.etag)
        return policies.get_score_policy_response(request, version, head, self._signer)

    async def versions(self, request: pb.ListScorePolicyVersionsRequest) -> pb.ListScorePolicyVersionsResponse:
        """A page of the versions."""
        checked(request)
        before = pages.policies_before(request, self._signer)
        limit = pages.page_size(request) + 1
        versions = await self._policies.versions(request.tenant_id, before=before, limit=limit)
        return policies.list_score_policy_versions_response(request, versions, self._signer)

    async def update(self, request: pb.UpdateScorePolicyRequest) -> pb.UpdateScorePolicyResponse:
        """Changes it."""
        change = policies.policy_change(request)
        version, head = await self._policies.update(change, caller(), timeout_s=timeout_s())
        return policies.update_score_policy_response(request, version, head, self._signer)

    async def recompute(self, request: pb.RecomputeScoreRequest) -> pb.RecomputeScoreResponse:
        """Computes a score anew."""
        checked(request)
        entry, head = await self._policies.recompute(
            request.tenant_id, request.request_id, caller(), timeout_s=timeout_s()
        )
        return policies.recompute_score_response(entry, head, self._signer)

"""What a score is made of, as it is told."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from coherence.v1 import score_pb2 as pb
from coherence_grpc.convert.records import revision, stored_signal
from coherence_grpc.convert.scores import current_score, score
from coherence_grpc.materialize import Contribution, ContributionGroup, Exclusion, Explanation
from coherence_grpc.model import Head

if TYPE_CHECKING:
    from collections.abc import Sequence

    from coherence_grpc.tokens import Cursor, Signer

DEFAULT_TOP: Final = 10
_REASONS: Final = {
    Exclusion.MUTED: pb.EXCLUSION_REASON_MUTED,
    Exclusion.NOT_YET_DUE: pb.EXCLUSION_REASON_NOT_YET_DUE,
    Exclusion.AGED_OUT: pb.EXCLUSION_REASON_AGED_OUT,
}


def explain_score_response(
    request: pb.ExplainScoreRequest, explanation: Explanation, cursors: Sequence[Cursor], signer: Signer
) -> pb.ExplainScoreResponse:
    """The explanation; `cursors` are the positions after its contributions."""
    value = explanation.score
    head = Head(value.signal_epoch, value.as_of_seq, value.head_hash)
    return pb.ExplainScoreResponse(
        score=score(value) if request.HasField("as_of_time") else current_score(value, signer),
        formula=explanation.formula,
        contributions=[
            _contribution(part, signer.cursor(request.tenant_id, cursor))
            for part, cursor in zip(explanation.contributions, cursors, strict=True)
        ],
        sources=[_group(group) for group in explanation.sources],
        types=[_group(group) for group in explanation.types],
        excluded=[
            pb.Exclusion(reason=_REASONS[reason], signal_count=count)
            for reason, count in explanation.excluded.items()
            if count
        ],
        revision=revision(request.tenant_id, head, signer),
    )


def _contribution(part: Contribution, cursor: str) -> pb.Contribution:
    return pb.Contribution(
        signal=stored_signal(part.signal, cursor),
        weight_share=part.weight_share,
        push=part.push,
        delta_if_removed=part.delta_if_removed,
    )


def _group(group: ContributionGroup) -> pb.ContributionGroup:
    return pb.ContributionGroup(
        name=group.name,
        signal_count=group.signal_count,
        weight_share=group.weight_share,
        mean=group.mean,
        push=group.push,
    )

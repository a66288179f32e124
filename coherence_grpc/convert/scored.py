"""Writes that are answered when the score has seen them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from coherence.v1 import ingest_pb2 as pb
from coherence_grpc.convert.scores import current_score

if TYPE_CHECKING:
    from coherence_grpc.model import Score
    from coherence_grpc.tokens import Signer


def waits_for_score(request: pb.PublishSignalRequest | pb.PublishSignalsRequest) -> bool:
    """The caller wants to be answered when the score has seen the write. A check alone writes nothing."""
    return request.durability == pb.DURABILITY_SCORED and not request.validate_only


def add_score(
    response: pb.PublishSignalResponse | pb.PublishSignalsResponse, score: Score | None, signer: Signer
) -> None:
    """What the write made of the score; None: that is still to come."""
    if score is None:
        response.score_pending = True
    else:
        response.score.CopyFrom(current_score(score, signer))

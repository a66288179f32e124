"""Requests for a score's history, and pages of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from coherence.v1 import score_pb2 as pb
from coherence_grpc.convert.instants import timestamp
from coherence_grpc.convert.pages import history_page
from coherence_grpc.convert.scores import PPM, STATUSES
from coherence_grpc.convert.validation import checked, instant
from coherence_grpc.materialize.history import Basis, HistoryQuery

if TYPE_CHECKING:
    from coherence_grpc.materialize.course import Span
    from coherence_grpc.materialize.history import HistoryPage, Point
    from coherence_grpc.tokens import Signer

_BASES: Final = {
    pb.HISTORY_BASIS_UNSPECIFIED: Basis.RECORDED,
    pb.HISTORY_BASIS_RECORDED: Basis.RECORDED,
    pb.HISTORY_BASIS_RECOMPUTED: Basis.RECOMPUTED,
}


def history_query(request: pb.ListScoreHistoryRequest) -> HistoryQuery:
    """What is asked for.

    Raises:
        FilterInvalid: the request is malformed.
    """
    checked(request)
    return HistoryQuery(
        tenant_id=request.tenant_id,
        start=instant(request.start_time, "start_time") if request.HasField("start_time") else None,
        end=instant(request.end_time, "end_time") if request.HasField("end_time") else None,
        step=request.step.ToMicroseconds() if request.HasField("step") else None,
        basis=_BASES[request.basis],
        policy_etag=request.policy_etag,
    )


def list_score_history_response(
    request: pb.ListScoreHistoryRequest, page: HistoryPage, signer: Signer
) -> pb.ListScoreHistoryResponse:
    """A page."""
    return pb.ListScoreHistoryResponse(
        points=map(_point, page.points),
        spans=map(_span, page.spans),
        status_change_count=page.change_count,
        next_page_token="" if page.next is None else history_page(request, signer, page.next),
    )


def _point(point: Point) -> pb.ScorePoint:
    return pb.ScorePoint(
        time=timestamp(point.instant),
        score=None if point.score_ppm is None else point.score_ppm / PPM,
        status=STATUSES[point.status],
        held_status=STATUSES[point.held],
        signal_count=point.signal_count,
        version=point.version,
        policy_etag=point.policy_etag,
    )


def _span(span: Span) -> pb.StatusSpan:
    return pb.StatusSpan(
        held_status=STATUSES[span.status], start_time=timestamp(span.start), end_time=timestamp(span.end)
    )

"""Score requests, scores and what they are made of."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, cast

from coherence.v1 import score_pb2 as pb
from coherence_grpc.convert.instants import timestamp
from coherence_grpc.convert.pages import page_size, scores_page
from coherence_grpc.convert.records import revision
from coherence_grpc.convert.refusals import status_of
from coherence_grpc.convert.validation import checked, instant
from coherence_grpc.errors import CoherenceError
from coherence_grpc.materialize import Trend
from coherence_grpc.model import QUANTUM, ScoreSource, Status
from coherence_grpc.ports import PortfolioOrder, ScoreQuery
from coherence_grpc.tokens import PREFIX_BYTES, Cursor

if TYPE_CHECKING:
    from collections.abc import Sequence

    from coherence_grpc.materialize import Listed
    from coherence_grpc.model import Head, Score
    from coherence_grpc.tokens import Revision, Signer

PPM: Final = 10**6
STATUSES: Final = {
    Status.HEALTHY: pb.STATUS_HEALTHY,
    Status.WARN: pb.STATUS_WARN,
    Status.CRITICAL: pb.STATUS_CRITICAL,
    Status.UNKNOWN: pb.STATUS_UNKNOWN,
}
STATUS_WORDS: Final = {number: word for word, number in STATUSES.items()}
_SOURCES: Final = {
    ScoreSource.CACHE: pb.SCORE_SOURCE_CACHE,
    ScoreSource.MATERIALIZED: pb.SCORE_SOURCE_MATERIALIZED,
    ScoreSource.COMPUTED: pb.SCORE_SOURCE_COMPUTED,
}
_ORDERS: Final = {
    pb.SCORE_ORDER_UNSPECIFIED: PortfolioOrder.WORST_FIRST,
    pb.SCORE_ORDER_WORST_FIRST: PortfolioOrder.WORST_FIRST,
    pb.SCORE_ORDER_BEST_FIRST: PortfolioOrder.BEST_FIRST,
    pb.SCORE_ORDER_TENANT_ID: PortfolioOrder.TENANT_ID,
    pb.SCORE_ORDER_LAST_CHANGED: PortfolioOrder.LAST_CHANGED,
}
_TRENDS: Final = {
    None: pb.TREND_UNSPECIFIED,
    Trend.UP: pb.TREND_UP,
    Trend.DOWN: pb.TREND_DOWN,
    Trend.FLAT: pb.TREND_FLAT,
}


def score(score: Score, cursor: str = "") -> pb.Score:
    """A score; `cursor` is left out of one as of a past instant."""
    held = score.held
    return pb.Score(
        tenant_id=score.tenant_id,
        score=None if score.score_ppm is None else score.score_ppm / PPM,
        status=STATUSES[score.status],
        signal_count=score.signal_count,
        weight_sum=score.weight_q / QUANTUM,
        window_start_time=timestamp(score.window_start),
        window_end_time=timestamp(score.window_end),
        data_time=None if score.data_time is None else timestamp(score.data_time),
        as_of_seq=score.as_of_seq,
        head_hash=score.head_hash,
        signal_epoch=score.signal_epoch,
        score_epoch=score.score_epoch,
        version=score.version,
        valid_until_time=None if score.valid_until is None else timestamp(score.valid_until),
        policy_etag=score.policy_etag,
        computed_time=timestamp(score.computed_at),
        source=_SOURCES[score.source],
        stale=score.stale,
        cursor=cursor,
        held_status=pb.STATUS_UNSPECIFIED if held is None else STATUSES[held.status],
        held_since_time=None if held is None or held.since is None else timestamp(held.since),
    )


def current_score(value: Score, signer: Signer) -> pb.Score:
    """A score of the present, with the position after it."""
    prefix = value.head_hash[:PREFIX_BYTES]
    cursor = Cursor(value.signal_epoch, value.as_of_seq, prefix, value.score_epoch, value.version)
    return score(value, signer.cursor(value.tenant_id, cursor))


def as_of(
    request: pb.GetScoreRequest | pb.BatchGetScoresRequest | pb.ExplainScoreRequest | pb.SimulateScoreRequest,
) -> int | None:
    """The past instant that is asked for; None for the present.

    Raises:
        FilterInvalid: it is no valid Timestamp.
    """
    return instant(request.as_of_time, "as_of_time") if request.HasField("as_of_time") else None


def at_least(request: pb.GetScoreRequest, signer: Signer) -> Revision | None:
    """The revision that must have been seen; None for none. A read sees every acknowledged write in any case.

    Raises:
        CursorForeign: it was not issued for the tenant.
    """
    token = request.consistency.at_least_as_fresh.token
    return signer.read_revision(request.tenant_id, token) if token else None


def is_plain(request: pb.GetScoreRequest) -> bool:
    """The request asks for the present, as quick as may be."""
    return not (request.HasField("consistency") or request.HasField("as_of_time") or request.policy_etag)


def encoded_response(encoded: bytes) -> pb.GetScoreResponse:
    """A response that is encoded already, which the serializer lets through."""
    return cast("pb.GetScoreResponse", encoded)


def get_score_response(request: pb.GetScoreRequest, value: Score, head: Head, signer: Signer) -> pb.GetScoreResponse:
    """The score that was asked for."""
    return pb.GetScoreResponse(score=_asked(request, value, signer), revision=revision(request.tenant_id, head, signer))


def batch_get_scores_response(
    request: pb.BatchGetScoresRequest, results: Sequence[tuple[Score, Head] | CoherenceError], signer: Signer
) -> pb.BatchGetScoresResponse:
    """One item per tenant, in request order."""
    items = []
    for tenant_id, result in zip(request.tenant_ids, results, strict=True):
        if isinstance(result, CoherenceError):
            items.append(pb.BatchScore(tenant_id=tenant_id, error=status_of(result)))
        else:
            value, head = result
            items.append(
                pb.BatchScore(
                    tenant_id=tenant_id,
                    score=_asked(request, value, signer),
                    revision=revision(tenant_id, head, signer),
                )
            )
    return pb.BatchGetScoresResponse(results=items)


def score_query(request: pb.ListScoresRequest) -> ScoreQuery:
    """What the portfolio is narrowed to; bounds are exact to the ppm.

    Raises:
        FilterInvalid: the request is malformed.
    """
    checked(request)
    narrow = request.filter
    return ScoreQuery(
        statuses=frozenset(STATUS_WORDS[status] for status in narrow.statuses),
        min_ppm=_ppm_at_least(narrow.min_score) if narrow.HasField("min_score") else None,
        max_ppm=_ppm_at_most(narrow.max_score) if narrow.HasField("max_score") else None,
        held_statuses=frozenset(STATUS_WORDS[status] for status in narrow.held_statuses),
        prefix=narrow.tenant_id_prefix,
    )


def portfolio_order(request: pb.ListScoresRequest) -> PortfolioOrder:
    """The order that is asked for."""
    return _ORDERS[request.order]


def list_scores_response(
    request: pb.ListScoresRequest, listed: Sequence[Listed], signer: Signer
) -> pb.ListScoresResponse:
    """A page: of one score more than asked for, the last only says that there is another page."""
    size = page_size(request)
    more = len(listed) > size
    return pb.ListScoresResponse(
        scores=[_with_trend(one, signer) for one in listed[:size]],
        next_page_token=scores_page(request, signer, listed[size - 1].score, portfolio_order(request)) if more else "",
    )


def watch_score_response(value: Score, signer: Signer, *, initial: bool) -> pb.WatchScoreResponse:
    """One update, or where the watch starts."""
    return pb.WatchScoreResponse(
        score=current_score(value, signer), initial=initial, status_changed=value.status_changed and not initial
    )


def _with_trend(listed: Listed, signer: Signer) -> pb.Score:
    found = current_score(listed.score, signer)
    found.trend = _TRENDS[listed.trend]
    return found


def _asked(request: pb.GetScoreRequest | pb.BatchGetScoresRequest, value: Score, signer: Signer) -> pb.Score:
    return score(value) if request.HasField("as_of_time") else current_score(value, signer)


def _ppm_at_least(bound: float) -> int:
    """The least ppm whose score is not below the bound."""
    ppm = round(bound * PPM)
    return ppm if ppm / PPM >= bound else ppm + 1


def _ppm_at_most(bound: float) -> int:
    """The greatest ppm whose score is not above the bound."""
    ppm = round(bound * PPM)
    return ppm if ppm / PPM <= bound else ppm - 1

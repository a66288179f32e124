"""What-if: what is supposed, and what would be."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from coherence.v1 import score_pb2 as pb
from coherence_grpc.convert.instants import timestamp
from coherence_grpc.convert.policies import rules
from coherence_grpc.convert.publishing import drafts_of
from coherence_grpc.convert.records import revision
from coherence_grpc.convert.scores import STATUSES, as_of, score
from coherence_grpc.convert.validation import THOROUGH_BYTES, field_errors, path_of, refused, validator
from coherence_grpc.errors import FieldError, FilterInvalid, ScorePolicyInvalid, SignalInvalid
from coherence_grpc.ingest.identifiers import content_id
from coherence_grpc.ledger import encode_signal
from coherence_grpc.materialize import WhatIf
from coherence_grpc.model import DAY, SECOND, Draft
from coherence_grpc.policy import PPM

if TYPE_CHECKING:
    from collections.abc import Sequence

    from coherence_grpc.errors import CoherenceError
    from coherence_grpc.materialize import Difference, Simulated
    from coherence_grpc.model import Item, Score
    from coherence_grpc.tokens import Signer

DEFAULT_LOOKBACK: Final = 7 * DAY
# Whose business a field is, by what its path begins with.
_KINDS: Final[dict[str, type[CoherenceError]]] = {"signals": SignalInvalid, "policy": ScorePolicyInvalid}


def what_if(request: pb.SimulateScoreRequest) -> WhatIf:
    """What is supposed.

    Raises:
        FilterInvalid, SignalInvalid, ScorePolicyInvalid: the request, a signal or a rule is malformed.
    """
    _check(request)
    return WhatIf(
        tenant_id=request.tenant_id,
        signals=_signals(request),
        policy=rules(request.policy) if request.HasField("policy") else None,
        as_of=as_of(request),
        lookback=_lookback(request),
    )


def simulate_score_response(
    request: pb.SimulateScoreRequest, simulated: Simulated, signer: Signer
) -> pb.SimulateScoreResponse:
    """What would be."""
    return pb.SimulateScoreResponse(
        actual=score(simulated.actual),
        simulated=score(simulated.simulated),
        score_delta=_delta(simulated.actual, simulated.simulated),
        actual_change_count=simulated.actual_changes,
        simulated_change_count=simulated.simulated_changes,
        differences=map(_difference, simulated.differences),
        differences_truncated=simulated.truncated,
        compared_from_time=timestamp(simulated.compared_from),
        revision=revision(request.tenant_id, simulated.head, signer),
    )


def _check(request: pb.SimulateScoreRequest) -> None:
    found = validator().collect_violations(request, fail_fast=True)
    if not found:
        return
    if request.ByteSize() <= THOROUGH_BYTES:
        found = validator().collect_violations(request)
    first = path_of(found[0]).partition(".")[0].partition("[")[0]
    raise refused(_KINDS.get(first, FilterInvalid), field_errors(found))


def _signals(request: pb.SimulateScoreRequest) -> Sequence[Item | Draft]:
    """The signals, quantised; one with an instant gets the id that it would have been stored under."""
    malformed: dict[int, CoherenceError] = {}
    drafts, _ = drafts_of(request.signals, request.tenant_id, malformed)
    if malformed:
        raise refused(SignalInvalid, [field for index in sorted(malformed) for field in malformed[index].fields])
    return [_identified(draft) for draft in drafts]


def _identified(draft: Item | Draft) -> Item | Draft:
    source, signal_id, type_, value_q, weight_q, ts = draft
    if not isinstance(draft, Draft) or ts is None or signal_id:
        return draft
    return draft._replace(signal_id=content_id(encode_signal(source, signal_id, type_, value_q, weight_q, ts)))


def _lookback(request: pb.SimulateScoreRequest) -> int:
    if not request.HasField("lookback"):
        return DEFAULT_LOOKBACK
    seconds, nanos = request.lookback.seconds, request.lookback.nanos
    if not 0 <= nanos < SECOND * 1000:
        problem = "must be a Duration with 0 to 999999999 nanos of the sign of its seconds"
        raise refused(FilterInvalid, [FieldError("lookback", problem)])
    return seconds * SECOND + nanos // 1000


def _delta(actual: Score, simulated: Score) -> float | None:
    if actual.score_ppm is None or simulated.score_ppm is None:
        return None
    return (simulated.score_ppm - actual.score_ppm) / PPM


def _difference(difference: Difference) -> pb.StatusDifference:
    return pb.StatusDifference(
        start_time=timestamp(difference.start),
        end_time=timestamp(difference.end),
        actual_status=STATUSES[difference.actual],
        simulated_status=STATUSES[difference.simulated],
    )

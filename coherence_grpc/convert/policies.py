"""Score policies: the rules as they travel, and what is asked of them."""

from __future__ import annotations

from dataclasses import fields
from fractions import Fraction
from typing import TYPE_CHECKING, Any, Final

from coherence.v1 import score_pb2 as pb
from coherence_grpc.convert.instants import duration, timestamp
from coherence_grpc.convert.pages import page_size, policies_page
from coherence_grpc.convert.records import revision
from coherence_grpc.convert.scores import STATUS_WORDS, STATUSES
from coherence_grpc.convert.validation import checked, refused
from coherence_grpc.errors import FieldError, ScorePolicyInvalid
from coherence_grpc.materialize import PolicyChange
from coherence_grpc.model import QUANTUM, SECOND
from coherence_grpc.policy import PPM, ScorePolicy, Veto
from coherence_grpc.score import quantise

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from google.protobuf.duration_pb2 import Duration

    from coherence_grpc.model import Entry, Head
    from coherence_grpc.policy import PolicyVersion
    from coherence_grpc.tokens import Signer

_SPANS: Final = {
    "window": "window_us",
    "half_life": "half_life_us",
    "dwell": "dwell_us",
    "stale_after": "stale_after_us",
}
_FRACTIONS: Final = {
    "healthy_threshold": "healthy_ppm",
    "warn_threshold": "warn_ppm",
    "hysteresis": "hysteresis_ppm",
    "source_share_cap": "source_cap_ppm",
}
# What a mask may name, and the attribute that it stands for.
RULES: Final = {
    **_SPANS,
    **_FRACTIONS,
    "minimum_signals": "minimum_signals",
    "vetoes": "vetoes",
    "type_weights": "type_weights",
}
# What the server sets is no part of a change, named or not.
_SET_BY_SERVER: Final = frozenset({"tenant_id", "etag", "update_time", "seq"})
_EVERYTHING: Final = frozenset(field.name for field in fields(ScorePolicy))
_MAX_NANOS: Final = 999_999_999


def rules(policy: pb.ScorePolicy) -> ScorePolicy:
    """The rules; what is left out takes its default. Durations are cut off at the microsecond.

    Raises:
        ScorePolicyInvalid: a number is too small to be kept, or a Duration is none. The shape was checked before.
    """
    present = _present(policy)
    wrong = list(_unkept(policy, present))
    if wrong:
        raise refused(ScorePolicyInvalid, wrong)
    given: dict[str, Any] = {
        attribute: _span_us(getattr(policy, name)) for name, attribute in _SPANS.items() if name in present
    }
    given |= {attribute: _ppm(getattr(policy, name)) for name, attribute in _FRACTIONS.items() if name in present}
    if policy.HasField("minimum_signals"):
        given["minimum_signals"] = policy.minimum_signals
    return ScorePolicy(
        vetoes=tuple(Veto(veto.type, quantise(veto.below), STATUS_WORDS[veto.cap_status]) for veto in policy.vetoes),
        type_weights=tuple(sorted((type_, _ppm(weight)) for type_, weight in policy.type_weights.items())),
        **given,
    )


def score_policy(tenant_id: str, version: PolicyVersion) -> pb.ScorePolicy:
    """A version of the tenant's policy, with every field that has a default."""
    policy = version.policy
    message = pb.ScorePolicy(
        tenant_id=tenant_id,
        etag=version.etag,
        update_time=None if version.recorded_at is None else timestamp(version.recorded_at),
        seq=version.seq,
        minimum_signals=policy.minimum_signals,
        vetoes=[pb.Veto(type=v.type, below=v.below_q / QUANTUM, cap_status=STATUSES[v.cap]) for v in policy.vetoes],
        type_weights={type_: weight_ppm / PPM for type_, weight_ppm in policy.type_weights},
    )
    for name, attribute in _SPANS.items():
        us = getattr(policy, attribute)
        if us is not None:
            getattr(message, name).CopyFrom(duration(us / SECOND))
    for name, attribute in _FRACTIONS.items():
        ppm = getattr(policy, attribute)
        if ppm is not None:
            setattr(message, name, ppm / PPM)
    return message


def policy_change(request: pb.UpdateScorePolicyRequest) -> PolicyChange:
    """What is to change.

    Raises:
        ScorePolicyInvalid: the request is malformed.
    """
    checked(request, ScorePolicyInvalid)
    return PolicyChange(
        tenant_id=request.tenant_id,
        wanted=rules(request.policy),
        fields=_masked(request),
        etag=request.etag,
        request_id=request.request_id,
        validate_only=request.validate_only,
    )


def get_score_policy_response(
    request: pb.GetScorePolicyRequest, version: PolicyVersion, head: Head, signer: Signer
) -> pb.GetScorePolicyResponse:
    """The policy that was asked for."""
    return pb.GetScorePolicyResponse(
        policy=score_policy(request.tenant_id, version), revision=revision(request.tenant_id, head, signer)
    )


def list_score_policy_versions_response(
    request: pb.ListScorePolicyVersionsRequest, versions: Sequence[PolicyVersion], signer: Signer
) -> pb.ListScorePolicyVersionsResponse:
    """A page: of one version more than asked for, the last only says that there is another page."""
    size = page_size(request)
    shown = versions[:size]
    return pb.ListScorePolicyVersionsResponse(
        versions=[
            pb.ScorePolicyVersion(policy=score_policy(request.tenant_id, version), provenance_id=version.provenance_id)
            for version in shown
        ],
        next_page_token=policies_page(request, signer, shown[-1]) if len(versions) > size else "",
    )


def update_score_policy_response(
    request: pb.UpdateScorePolicyRequest, version: PolicyVersion, head: Head, signer: Signer
) -> pb.UpdateScorePolicyResponse:
    """The policy as changed."""
    return pb.UpdateScorePolicyResponse(
        policy=score_policy(request.tenant_id, version), revision=revision(request.tenant_id, head, signer)
    )


def recompute_score_response(entry: Entry, head: Head, signer: Signer) -> pb.RecomputeScoreResponse:
    """The entry that has the score computed anew."""
    return pb.RecomputeScoreResponse(
        seq=entry.seq, provenance_id=entry.provenance_id, revision=revision(entry.tenant_id, head, signer)
    )


def _masked(request: pb.UpdateScorePolicyRequest) -> frozenset[str]:
    """The attributes that change."""
    paths = request.update_mask.paths
    if "*" in paths:
        return _EVERYTHING
    unknown = [path for path in paths if path not in RULES and path not in _SET_BY_SERVER]
    if unknown:
        problem = (
            f"names {unknown[0][:32]!r}, which is no rule; name whole fields of ScorePolicy, or leave the mask out"
        )
        raise refused(ScorePolicyInvalid, [FieldError("update_mask", problem)])
    named = paths or _present(request.policy)
    return frozenset(RULES[name] for name in named if name in RULES)


def _present(policy: pb.ScorePolicy) -> frozenset[str]:
    return frozenset(descriptor.name for descriptor, _ in policy.ListFields())


def _unkept(policy: pb.ScorePolicy, present: frozenset[str]) -> Iterator[FieldError]:
    """What has the right shape, and would be something else once it is kept."""
    for name in _SPANS:
        if name in present and not _is_duration(getattr(policy, name)):
            yield FieldError(
                f"policy.{name}", "must be a Duration with 0 to 999999999 nanos of the sign of its seconds"
            )
    for index, veto in enumerate(policy.vetoes):
        if not quantise(veto.below):
            yield FieldError(f"policy.vetoes[{index}].below", f"must be at least a billionth, not {veto.below}")
    for type_, weight in sorted(policy.type_weights.items()):
        if weight and not _ppm(weight):
            problem = f"must be 0, which mutes the type, or at least a millionth, not {weight}"
            yield FieldError(f"policy.type_weights[{type_}]", problem)


def _is_duration(value: Duration) -> bool:
    return abs(value.nanos) <= _MAX_NANOS and value.seconds * value.nanos >= 0


def _span_us(value: Duration) -> int:
    return value.seconds * SECOND + value.nanos // 1000


def _ppm(number: float) -> int:
    """The number times 10⁶, rounded half-even on its exact binary value; finite numbers only."""
    return round(Fraction(number) * PPM)

"""What a score is made of, as it is told."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from coherence.v1 import score_pb2 as pb
from coherence_grpc.convert.instants import timestamp
from coherence_grpc.convert.policies import score_policy
from coherence_grpc.convert.records import revision, stored_signal
from coherence_grpc.convert.scores import STATUSES, current_score, score
from coherence_grpc.materialize import (
    Contribution,
    ContributionGroup,
    Exclusion,
    Explanation,
    MoveReason,
    NextMove,
    Rule,
    RuleAction,
)
from coherence_grpc.model import Head
from coherence_grpc.policy import PPM

if TYPE_CHECKING:
    from collections.abc import Sequence

    from coherence_grpc.tokens import Cursor, Signer

DEFAULT_TOP: Final = 10
_REASONS: Final = {
    Exclusion.MUTED: pb.EXCLUSION_REASON_MUTED,
    Exclusion.TYPE_MUTED: pb.EXCLUSION_REASON_TYPE_MUTED,
    Exclusion.NOT_YET_DUE: pb.EXCLUSION_REASON_NOT_YET_DUE,
    Exclusion.AGED_OUT: pb.EXCLUSION_REASON_AGED_OUT,
}
_RULES: Final = {
    Rule.TYPE_WEIGHT: pb.POLICY_RULE_TYPE_WEIGHT,
    Rule.HALF_LIFE: pb.POLICY_RULE_HALF_LIFE,
    Rule.SOURCE_CAP: pb.POLICY_RULE_SOURCE_CAP,
    Rule.VETO: pb.POLICY_RULE_VETO,
    Rule.MINIMUM_SIGNALS: pb.POLICY_RULE_MINIMUM_SIGNALS,
    Rule.STALE_AFTER: pb.POLICY_RULE_STALE_AFTER,
    Rule.HYSTERESIS: pb.POLICY_RULE_HYSTERESIS,
    Rule.DWELL: pb.POLICY_RULE_DWELL,
}
_MOVES: Final = {
    MoveReason.EXPIRY: pb.MOVE_REASON_EXPIRY,
    MoveReason.ACTIVATION: pb.MOVE_REASON_ACTIVATION,
    MoveReason.STALE: pb.MOVE_REASON_STALE,
    MoveReason.DWELL: pb.MOVE_REASON_DWELL,
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
        provenances=[_group(group) for group in explanation.provenances],
        policy=score_policy(request.tenant_id, explanation.version),
        rules=[_rule(action) for action in explanation.rules],
        next_moves=[_move(move) for move in explanation.next_moves],
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
        delta_if_removed=group.delta_if_removed,
        capped=group.capped,
    )


def _rule(action: RuleAction) -> pb.RuleAction:
    return pb.RuleAction(rule=_RULES[action.rule], detail=action.detail, subject=action.subject)


def _move(move: NextMove) -> pb.NextMove:
    return pb.NextMove(
        time=timestamp(move.instant),
        reason=_MOVES[move.reason],
        signal_count=move.signal_count,
        score=None if move.score_ppm is None else move.score_ppm / PPM,
        status=STATUSES[move.status],
        held_status=pb.STATUS_UNSPECIFIED if move.held_status is None else STATUSES[move.held_status],
    )

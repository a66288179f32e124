"""What scores are made of: contributions, groups, the rules that acted, and the moves to come."""

from typing import TYPE_CHECKING, Annotated, Final, Self

import strawberry
from google.protobuf.timestamp_pb2 import Timestamp

from coherence.v1 import score_pb2
from subgraph.schema.policies import CoherencePolicy
from subgraph.schema.scalars import DateTime
from subgraph.schema.signals import Signal
from subgraph.schema.words import status_word

if TYPE_CHECKING:
    from subgraph.schema.scores import CoherenceScore

_EXCLUSION: Final = "EXCLUSION_REASON_"
_RULE: Final = "POLICY_RULE_"
_REASON: Final = "MOVE_REASON_"


@strawberry.type(description="What one signal does to the score.")
class CoherenceContribution:
    """One signal's part."""

    signal: Signal = strawberry.field(description="The signal.")
    weight_share: float = strawberry.field(
        description="Its part of the weight that counts in the window, 0 to 1: after type weight, half-life and cap."
    )
    push: float = strawberry.field(
        description="weightShare x (value - 1): how far it pushes the score below 1. All pushes add up to score - 1."
    )
    delta_if_removed: float | None = strawberry.field(
        description="By exactly how much the score would move without it, every rule applied anew; null when no score "
        "would remain."
    )

    @classmethod
    def of(cls, part: score_pb2.Contribution) -> Self:
        """The contribution."""
        delta = part.delta_if_removed if part.HasField("delta_if_removed") else None
        return cls(
            signal=Signal.of(part.signal), weight_share=part.weight_share, push=part.push, delta_if_removed=delta
        )


@strawberry.type(description="What all signals of one source, type or provenance record do to the score.")
class CoherenceContributionGroup:
    """A source's, type's or record's part."""

    name: str = strawberry.field(description="The source, the type or the provenance id.")
    signal_count: int = strawberry.field(description="Weighted signals in the window.")
    weight_share: float = strawberry.field(description="Part of the weight that counts in the window, 0 to 1.")
    mean: float = strawberry.field(description="Mean of its signals by the weight with which they count.")
    push: float = strawberry.field(description="Sum of the pushes of its signals.")
    delta_if_removed: float | None = strawberry.field(
        description="By exactly how much the score would move without all of them; null when no score would remain."
    )
    capped: bool = strawberry.field(description="The cap of one source's share holds this source down.")

    @classmethod
    def of(cls, group: score_pb2.ContributionGroup) -> Self:
        """The group."""
        return cls(
            name=group.name,
            signal_count=group.signal_count,
            weight_share=group.weight_share,
            mean=group.mean,
            push=group.push,
            delta_if_removed=group.delta_if_removed if group.HasField("delta_if_removed") else None,
            capped=group.capped,
        )


@strawberry.type(description="How many stored signals don't count, and why.")
class CoherenceExclusion:
    """Signals left out."""

    reason: str = strawberry.field(
        description="MUTED (weight 0), TYPE_MUTED (the policy gives its type weight 0), NOT_YET_DUE (dated ahead) or "
        "AGED_OUT (too old)."
    )
    signal_count: int = strawberry.field(description="How many.")

    @classmethod
    def of(cls, excluded: score_pb2.Exclusion) -> Self:
        """The exclusion."""
        word = score_pb2.ExclusionReason.Name(excluded.reason).removeprefix(_EXCLUSION)
        return cls(reason=word, signal_count=excluded.signal_count)


@strawberry.type(description="A rule of the policy that changed the outcome.")
class CoherenceRuleAction:
    """A rule that acted."""

    rule: str = strawberry.field(
        description="TYPE_WEIGHT, HALF_LIFE, SOURCE_CAP, VETO, MINIMUM_SIGNALS, STALE_AFTER, HYSTERESIS or DWELL."
    )
    detail: str = strawberry.field(description="What it did, for people.")
    subject: str | None = strawberry.field(description="The type or source it was about, if it was about one.")

    @classmethod
    def of(cls, action: score_pb2.RuleAction) -> Self:
        """The action."""
        word = score_pb2.PolicyRule.Name(action.rule).removeprefix(_RULE)
        return cls(rule=word, detail=action.detail, subject=action.subject or None)


@strawberry.type(description="What the score will be from an instant on when nothing arrives until then.")
class CoherenceNextMove:
    """A move to come."""

    time: DateTime = strawberry.field(description="When.")
    reason: str = strawberry.field(
        description="EXPIRY (signals leave the window), ACTIVATION (signals dated ahead come due), STALE (the newest "
        "is too old) or DWELL (a new status has lasted long enough)."
    )
    signal_count: int = strawberry.field(description="How many signals come or go for that reason.")
    score: float | None = strawberry.field(description="The score then; null when UNKNOWN.")
    status: str = strawberry.field(description="The status then.")
    held_status: str | None = strawberry.field(description="The held status then; null when it is not known.")

    @classmethod
    def of(cls, move: score_pb2.NextMove) -> Self:
        """The move."""
        return cls(
            time=DateTime(move.time),
            reason=score_pb2.MoveReason.Name(move.reason).removeprefix(_REASON),
            signal_count=move.signal_count,
            score=move.score if move.HasField("score") else None,
            status=status_word(move.status) or "",
            held_status=status_word(move.held_status),
        )


@strawberry.type(description="What a score is made of: which signals push it down, and by how much.")
class CoherenceExplanation:
    """A score taken apart."""

    score: Annotated["CoherenceScore", strawberry.lazy("subgraph.schema.scores")] = strawberry.field(
        description="The score that is explained."
    )
    formula: str = strawberry.field(description="How it is computed, for people.")
    contributions: list[CoherenceContribution] = strawberry.field(description="The strongest pushes first.")
    sources: list[CoherenceContributionGroup] = strawberry.field(description="By source, the strongest push first.")
    types: list[CoherenceContributionGroup] = strawberry.field(description="By type, the strongest push first.")
    provenances: list[CoherenceContributionGroup] = strawberry.field(
        description="By provenance record, the strongest push first."
    )
    excluded: list[CoherenceExclusion] = strawberry.field(description="What does not count.")
    policy: CoherencePolicy = strawberry.field(description="The rules in force.")
    rules: list[CoherenceRuleAction] = strawberry.field(
        description="The rules that changed the outcome, in the order in which they apply."
    )
    next_moves: list[CoherenceNextMove] = strawberry.field(
        description="The next instants at which time alone moves the score, earliest first."
    )

    @classmethod
    def of(cls, answer: score_pb2.ExplainScoreResponse, as_of: Timestamp | None, policy_etag: str) -> Self:
        """The explanation."""
        # The two types name one another.
        from subgraph.schema.scores import CoherenceScore

        return cls(
            score=CoherenceScore.of(answer.score, as_of=as_of, asked_etag=policy_etag),
            formula=answer.formula,
            contributions=[CoherenceContribution.of(part) for part in answer.contributions],
            sources=[CoherenceContributionGroup.of(group) for group in answer.sources],
            types=[CoherenceContributionGroup.of(group) for group in answer.types],
            provenances=[CoherenceContributionGroup.of(group) for group in answer.provenances],
            excluded=[CoherenceExclusion.of(excluded) for excluded in answer.excluded],
            policy=CoherencePolicy.of(answer.policy),
            rules=[CoherenceRuleAction.of(action) for action in answer.rules],
            next_moves=[CoherenceNextMove.of(move) for move in answer.next_moves],
        )

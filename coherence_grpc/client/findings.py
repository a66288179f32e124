"""Richer answers about scores: why, since when, and what if."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Final

from coherence.v1 import score_pb2 as pb
from coherence_grpc.client.instants import instant
from coherence_grpc.client.messages import maybe_status, score_of, status_of, stored_of
from coherence_grpc.client.policies import policy_of

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from coherence_grpc.client.model import Score, Status, StoredSignal
    from coherence_grpc.client.policies import ScorePolicy


class Exclusion(StrEnum):
    """Why a stored signal does not count."""

    MUTED = "MUTED"
    NOT_YET_DUE = "NOT_YET_DUE"
    AGED_OUT = "AGED_OUT"
    TYPE_MUTED = "TYPE_MUTED"


class Rule(StrEnum):
    """A rule of a policy."""

    TYPE_WEIGHT = "TYPE_WEIGHT"
    HALF_LIFE = "HALF_LIFE"
    SOURCE_CAP = "SOURCE_CAP"
    VETO = "VETO"
    MINIMUM_SIGNALS = "MINIMUM_SIGNALS"
    STALE_AFTER = "STALE_AFTER"
    HYSTERESIS = "HYSTERESIS"
    DWELL = "DWELL"


class MoveReason(StrEnum):
    """Why a score will move by itself."""

    EXPIRY = "EXPIRY"
    ACTIVATION = "ACTIVATION"
    STALE = "STALE"
    DWELL = "DWELL"


# A word that came after this version is None.
_EXCLUSIONS: Final = {pb.ExclusionReason.Value(f"EXCLUSION_REASON_{word}"): word for word in Exclusion}
_RULES: Final = {pb.PolicyRule.Value(f"POLICY_RULE_{word}"): word for word in Rule}
_MOVE_REASONS: Final = {pb.MoveReason.Value(f"MOVE_REASON_{word}"): word for word in MoveReason}


@dataclass(frozen=True, slots=True)
class Contribution:
    """What one signal does: `push` = weight_share × (value − 1); all pushes add up to score − 1.

    `delta_if_removed` is None when no score would remain.
    """

    signal: StoredSignal
    weight_share: float
    push: float
    delta_if_removed: float | None


@dataclass(frozen=True, slots=True)
class Group:
    """What all signals of one source, type or provenance record do; `mean` is that of the group alone."""

    name: str
    signal_count: int
    weight_share: float
    mean: float
    push: float
    delta_if_removed: float | None
    capped: bool


@dataclass(frozen=True, slots=True)
class RuleAction:
    """A rule that changed the outcome; `subject` is the type or source it was about, or ''."""

    rule: Rule | None
    detail: str
    subject: str


@dataclass(frozen=True, slots=True)
class NextMove:
    """What the score will be from an instant on when nothing arrives until then."""

    time: datetime
    reason: MoveReason | None
    signal_count: int
    score: float | None
    status: Status
    held_status: Status | None


@dataclass(frozen=True, slots=True)
class Explanation:
    """Why a score is what it is: the strongest pushes first."""

    score: Score
    formula: str
    contributions: tuple[Contribution, ...]
    sources: tuple[Group, ...]
    types: tuple[Group, ...]
    provenances: tuple[Group, ...]
    excluded: tuple[tuple[Exclusion | None, int], ...]
    rules: tuple[RuleAction, ...]
    next_moves: tuple[NextMove, ...]
    policy: ScorePolicy | None
    revision: str


@dataclass(frozen=True, slots=True)
class Point:
    """The score at one instant; `version` is 0 where it was recomputed."""

    time: datetime
    score: float | None
    status: Status
    held_status: Status | None
    signal_count: int
    version: int
    policy_etag: str


@dataclass(frozen=True, slots=True)
class Span:
    """A stretch of time with one held status: from `start` until just before `end`."""

    held_status: Status
    start: datetime
    end: datetime


@dataclass(frozen=True, slots=True)
class History:
    """A tenant's score over time, earliest first; not `complete` when there are more points than were asked for."""

    points: tuple[Point, ...]
    spans: tuple[Span, ...]
    status_change_count: int
    complete: bool


@dataclass(frozen=True, slots=True)
class Difference:
    """A stretch of time in which the held status would have been another."""

    start: datetime
    end: datetime
    actual: Status
    simulated: Status


@dataclass(frozen=True, slots=True)
class Simulation:
    """What would be, beside what is; `differences_truncated` says that there are more than are listed."""

    actual: Score
    simulated: Score
    score_delta: float | None
    actual_change_count: int
    simulated_change_count: int
    differences: tuple[Difference, ...]
    differences_truncated: bool
    compared_from: datetime
    revision: str


@dataclass(frozen=True, slots=True)
class Recomputed:
    """The entry that asked for a score to be computed anew; a read with this revision sees that it was."""

    seq: int
    provenance_id: str
    revision: str


def explanation_of(message: pb.ExplainScoreResponse) -> Explanation:
    """Why a score is what it is."""
    return Explanation(
        score_of(message.score, message.revision.token),
        message.formula,
        tuple(map(_contribution_of, message.contributions)),
        tuple(map(_group_of, message.sources)),
        tuple(map(_group_of, message.types)),
        tuple(map(_group_of, message.provenances)),
        tuple((_EXCLUSIONS.get(each.reason), each.signal_count) for each in message.excluded),
        tuple(map(_rule_action_of, message.rules)),
        tuple(map(_next_move_of, message.next_moves)),
        policy_of(message.policy) if message.HasField("policy") else None,
        message.revision.token,
    )


def history_of(pages: Sequence[pb.ListScoreHistoryResponse], limit: int) -> History:
    """The pages of one history together."""
    points = [_point_of(point) for page in pages for point in page.points]
    return History(
        tuple(points[:limit]),
        tuple(Span(status_of(s.held_status), instant(s.start_time), instant(s.end_time)) for s in pages[0].spans),
        pages[0].status_change_count,
        complete=not pages[-1].next_page_token and len(points) <= limit,
    )


def simulation_of(message: pb.SimulateScoreResponse) -> Simulation:
    """What would be, beside what is."""
    return Simulation(
        score_of(message.actual),
        score_of(message.simulated),
        message.score_delta if message.HasField("score_delta") else None,
        message.actual_change_count,
        message.simulated_change_count,
        tuple(
            Difference(
                instant(each.start_time),
                instant(each.end_time),
                status_of(each.actual_status),
                status_of(each.simulated_status),
            )
            for each in message.differences
        ),
        message.differences_truncated,
        instant(message.compared_from_time),
        message.revision.token,
    )


def _contribution_of(message: pb.Contribution) -> Contribution:
    delta = message.delta_if_removed if message.HasField("delta_if_removed") else None
    return Contribution(stored_of(message.signal), message.weight_share, message.push, delta)


def _group_of(message: pb.ContributionGroup) -> Group:
    return Group(
        message.name,
        message.signal_count,
        message.weight_share,
        message.mean,
        message.push,
        message.delta_if_removed if message.HasField("delta_if_removed") else None,
        message.capped,
    )


def _rule_action_of(message: pb.RuleAction) -> RuleAction:
    return RuleAction(_RULES.get(message.rule), message.detail, message.subject)


def _next_move_of(message: pb.NextMove) -> NextMove:
    return NextMove(
        instant(message.time),
        _MOVE_REASONS.get(message.reason),
        message.signal_count,
        message.score if message.HasField("score") else None,
        status_of(message.status),
        maybe_status(message.held_status),
    )


def _point_of(message: pb.ScorePoint) -> Point:
    return Point(
        instant(message.time),
        message.score if message.HasField("score") else None,
        status_of(message.status),
        maybe_status(message.held_status),
        message.signal_count,
        message.version,
        message.policy_etag,
    )

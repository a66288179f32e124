"""What a score would be."""

from typing import Self

import strawberry

from coherence.v1 import score_pb2
from coherence.v1.signal_pb2 import Signal
from subgraph.schema.fields import given
from subgraph.schema.history import CoherenceScorePoint
from subgraph.schema.scalars import DateTime
from subgraph.schema.words import status_word


@strawberry.input(description="A signal as if it had been stored.")
class HypotheticalSignalInput:
    """A signal that is not stored."""

    type: str = strawberry.field(description="What kind of observation.")
    value: float = strawberry.field(description="0 (incoherent) to 1 (coherent).")
    weight: float | None = strawberry.field(default=strawberry.UNSET, description="0 to 1000, default 1.")
    source: str = strawberry.field(description="Who would emit it.")
    ts: DateTime | None = strawberry.field(default=strawberry.UNSET, description="When; default the instant asked for.")
    signal_id: strawberry.ID | None = strawberry.field(
        default=strawberry.UNSET,
        description="With source and ts of a stored signal it counts in the place of that one.",
    )

    def message(self) -> Signal:
        """The signal on the wire."""
        return Signal(
            source=self.source,
            signal_id=self.signal_id or "",
            type=self.type,
            value=self.value,
            weight=given(self.weight),
            ts=given(self.ts),
        )


@strawberry.type(description="A stretch of time with two different held statuses.")
class CoherenceStatusDifference:
    """A difference."""

    start: DateTime = strawberry.field(description="First instant.")
    end: DateTime = strawberry.field(description="First instant after it, or the end of the range.")
    actual_status: str = strawberry.field(description="As it is.")
    simulated_status: str = strawberry.field(description="As it would have been.")

    @classmethod
    def of(cls, difference: score_pb2.StatusDifference) -> Self:
        """The difference."""
        return cls(
            start=DateTime(difference.start_time),
            end=DateTime(difference.end_time),
            actual_status=status_word(difference.actual_status) or "",
            simulated_status=status_word(difference.simulated_status) or "",
        )


@strawberry.type(description="What a score would be. Nothing was written.")
class CoherenceSimulation:
    """A simulation."""

    actual: CoherenceScorePoint = strawberry.field(description="As it is, recomputed.")
    simulated: CoherenceScorePoint = strawberry.field(description="As it would be.")
    score_delta: float | None = strawberry.field(description="simulated - actual; null unless both have a score.")
    actual_change_count: int = strawberry.field(description="How often the held status changed over the past.")
    simulated_change_count: int = strawberry.field(description="How often it would have changed.")
    differences: list[CoherenceStatusDifference] = strawberry.field(
        description="When held statuses would have differed, earliest first."
    )
    differences_truncated: bool = strawberry.field(description="There are more differences than are listed.")
    compared_from: DateTime = strawberry.field(description="First instant that was compared.")

    @classmethod
    def of(cls, answer: score_pb2.SimulateScoreResponse) -> Self:
        """The simulation."""
        return cls(
            actual=CoherenceScorePoint.of_score(answer.actual),
            simulated=CoherenceScorePoint.of_score(answer.simulated),
            score_delta=answer.score_delta if answer.HasField("score_delta") else None,
            actual_change_count=answer.actual_change_count,
            simulated_change_count=answer.simulated_change_count,
            differences=[CoherenceStatusDifference.of(difference) for difference in answer.differences],
            differences_truncated=answer.differences_truncated,
            compared_from=DateTime(answer.compared_from_time),
        )

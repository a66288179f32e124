"""A score over time."""

from typing import Annotated, Final, Self

import strawberry

from coherence.v1 import score_pb2
from subgraph.schema.fields import given
from subgraph.schema.scalars import DateTime, Long
from subgraph.schema.words import duration, one_of, status_word

BASES: Final = ("RECORDED", "RECOMPUTED")

From = Annotated[
    DateTime | None,
    strawberry.argument(name="from", description="First instant; default 24 hours before `to`."),
]
To = Annotated[DateTime | None, strawberry.argument(description="Last instant; default now.")]
StepSeconds = Annotated[
    float | None,
    strawberry.argument(
        description="One point at the first instant and one every so often after it, at least 1. Left out: RECORDED "
        "every published score, RECOMPUTED a 100th of the range."
    ),
]
Basis = Annotated[
    str | None,
    strawberry.argument(
        description="RECORDED (default): what was published then. RECOMPUTED: what the signals stored by now amount to."
    ),
]
PolicyEtag = Annotated[
    str | None,
    strawberry.argument(
        description="RECOMPUTED under this version of the policy, `default` for the default rules; default the one in "
        "force."
    ),
]
First = Annotated[int | None, strawberry.argument(description="At most this many points, 1 to 1000; default 100.")]


@strawberry.type(description="The score at one instant.")
class CoherenceScorePoint:
    """A point."""

    time: DateTime = strawberry.field(description="The instant.")
    score: float | None = strawberry.field(description="0 to 1 with six decimals; null when the status is UNKNOWN.")
    status: str = strawberry.field(description="From the rounded score.")
    held_status: str | None = strawberry.field(description="After hysteresis and dwell; null when it is not known.")
    signal_count: int = strawberry.field(description="Weighted signals in the window.")
    version: Long = strawberry.field(description="RECORDED: number of the published score; 0 otherwise.")
    policy_etag: str = strawberry.field(description="Policy under which it was computed; empty for the default rules.")

    @classmethod
    def of(cls, point: score_pb2.ScorePoint) -> Self:
        """The point."""
        return cls(
            time=DateTime(point.time),
            score=point.score if point.HasField("score") else None,
            status=status_word(point.status) or "",
            held_status=status_word(point.held_status),
            signal_count=point.signal_count,
            version=Long(point.version),
            policy_etag=point.policy_etag,
        )

    @classmethod
    def of_score(cls, score: score_pb2.Score) -> Self:
        """The score as a point at its window's end."""
        return cls(
            time=DateTime(score.window_end_time),
            score=score.score if score.HasField("score") else None,
            status=status_word(score.status) or "",
            held_status=status_word(score.held_status),
            signal_count=score.signal_count,
            version=Long(0),
            policy_etag=score.policy_etag,
        )


@strawberry.type(description="A stretch of time with one held status.")
class CoherenceStatusSpan:
    """A span."""

    held_status: str = strawberry.field(description="The held status.")
    start: DateTime = strawberry.field(description="First instant within the range.")
    end: DateTime = strawberry.field(description="First instant after it, or the end of the range.")

    @classmethod
    def of(cls, span: score_pb2.StatusSpan) -> Self:
        """The span."""
        return cls(
            held_status=status_word(span.held_status) or "",
            start=DateTime(span.start_time),
            end=DateTime(span.end_time),
        )


@strawberry.type(description="A page of a score's history, earliest first.")
class CoherenceHistory:
    """A page of the history."""

    points: list[CoherenceScorePoint] = strawberry.field(description="The points of this page.")
    spans: list[CoherenceStatusSpan] = strawberry.field(
        description="The whole range cut where the held status changed; on the first page."
    )
    status_change_count: int = strawberry.field(
        description="How often the held status changed within the range; on the first page."
    )
    end_cursor: str | None = strawberry.field(description="Hand it back as `after` for the next page.")
    has_next_page: bool = strawberry.field(description="There are more.")

    @classmethod
    def of(cls, page: score_pb2.ListScoreHistoryResponse) -> Self:
        """The page."""
        return cls(
            points=[CoherenceScorePoint.of(point) for point in page.points],
            spans=[CoherenceStatusSpan.of(span) for span in page.spans],
            status_change_count=page.status_change_count,
            end_cursor=page.next_page_token or None,
            has_next_page=bool(page.next_page_token),
        )


def history_request(
    tenant_id: str,
    start: DateTime | None,
    end: DateTime | None,
    step_seconds: float | None,
    basis: str | None,
    policy_etag: str | None,
    first: int | None,
    after: str | None,
) -> score_pb2.ListScoreHistoryRequest:
    """What is asked for, on the wire.

    Raises:
        Refused: a word or a duration is none.
    """
    word = one_of(basis, BASES, "basis") if basis else "UNSPECIFIED"
    return score_pb2.ListScoreHistoryRequest(
        tenant_id=tenant_id,
        start_time=given(start),
        end_time=given(end),
        step=duration(given(step_seconds), "stepSeconds"),
        basis=score_pb2.HistoryBasis.Value(f"HISTORY_BASIS_{word}"),
        policy_etag=policy_etag or "",
        page_size=first or 0,
        page_token=after or "",
    )

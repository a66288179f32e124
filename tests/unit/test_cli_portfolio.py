"""How commands show a score: what it is, what is held, and where it is going."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from coherence.v1 import score_pb2 as pb
from coherence_grpc.cli.instants import timestamp
from coherence_grpc.cli.views import score_record, scores_table, statuses_text
from tests.builders import NOON
from tests.unit.drawing import drawn

if TYPE_CHECKING:
    from coherence.v1.score_pb2 import Status, Trend


def a_row(
    *,
    status: Status.ValueType = pb.STATUS_WARN,
    held: Status.ValueType = pb.STATUS_WARN,
    trend: Trend.ValueType = pb.TREND_UNSPECIFIED,
    stale: bool = False,
) -> pb.Score:
    return pb.Score(
        tenant_id="acme",
        score=0.6,
        status=status,
        held_status=held,
        held_since_time=timestamp(NOON),
        trend=trend,
        stale=stale,
        window_end_time=timestamp(NOON),
    )


@pytest.mark.parametrize(
    ("row", "text"),
    [
        (a_row(), "WARN"),
        (a_row(held=pb.STATUS_UNSPECIFIED), "WARN"),
        (a_row(held=pb.STATUS_HEALTHY), "WARN held HEALTHY"),
        (a_row(held=pb.STATUS_HEALTHY, stale=True), "WARN held HEALTHY stale"),
    ],
    ids=["the same", "unknown", "another", "stale"],
)
def test_the_held_status_is_shown_where_it_is_another(row: pb.Score, text: str) -> None:
    assert statuses_text(row).plain == text


@pytest.mark.parametrize(
    ("trend", "cells"),
    [
        (pb.TREND_UP, ["acme", "0.600000", "▲", "WARN"]),
        (pb.TREND_DOWN, ["acme", "0.600000", "▼", "WARN"]),
        (pb.TREND_FLAT, ["acme", "0.600000", "▬", "WARN"]),
        (pb.TREND_UNSPECIFIED, ["acme", "0.600000", "WARN"]),
    ],
)
def test_an_arrow_shows_where_a_score_is_going(trend: Trend.ValueType, cells: list[str]) -> None:
    lines = drawn(scores_table([a_row(trend=trend)]))

    assert lines[2].split()[: len(cells)] == cells


def test_json_says_what_is_held_and_where_the_score_is_going_or_null() -> None:
    said = score_record(a_row(held=pb.STATUS_HEALTHY, trend=pb.TREND_DOWN))
    unsaid = score_record(pb.Score(tenant_id="acme", status=pb.STATUS_UNKNOWN))

    assert (said["held_status"], said["held_since_time"], said["trend"]) == ("HEALTHY", "2013-02-08T00:00:00Z", "DOWN")
    assert (unsaid["held_status"], unsaid["held_since_time"], unsaid["trend"]) == (None, None, None)

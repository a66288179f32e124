"""The picture of a score over time."""

from __future__ import annotations

import pytest

from coherence.v1 import score_pb2 as pb
from coherence_grpc.cli.history import MOST_SPANS, Span, held_by_cell, picture, points_table, spans_table
from coherence_grpc.cli.instants import parse_duration, timestamp
from tests.builders import NOON
from tests.unit.drawing import drawn

HOUR = 3_600_000_000


def a_point(value: float | None) -> pb.ScorePoint:
    return pb.ScorePoint(
        time=timestamp(NOON),
        score=value,
        status=pb.STATUS_WARN,
        held_status=pb.STATUS_HEALTHY,
        signal_count=1_234,
    )


def test_a_bar_is_as_high_as_the_score_and_missing_where_there_is_none() -> None:
    spans = [Span("HEALTHY", NOON, NOON + 5 * HOUR)]

    bars, _, _ = picture([a_point(value) for value in (0.0, 0.5, 1.0, None, 0.99)], spans, 5)

    assert bars.plain == "▁▅█ █"


def test_the_band_shows_what_was_held_and_the_legend_what_the_signs_mean() -> None:
    spans = [
        Span("UNKNOWN", NOON, NOON + HOUR),
        Span("HEALTHY", NOON + HOUR, NOON + 3 * HOUR),
        Span("WARN", NOON + 3 * HOUR, NOON + 4 * HOUR),
        Span("CRITICAL", NOON + 4 * HOUR, NOON + 6 * HOUR),
    ]

    _, band, legend = picture([], spans, 6)

    assert band.plain == "·──▒██"
    assert legend.plain.split(": ")[1].split("  ")[:4] == ["─ HEALTHY", "▒ WARN", "█ CRITICAL", "· UNKNOWN"]


@pytest.mark.parametrize(
    ("spans", "cells", "words"),
    [
        # However short, the worst of a cell is drawn.
        (
            [Span("HEALTHY", 0, 499), Span("CRITICAL", 499, 500), Span("WARN", 500, 1000)],
            2,
            ["CRITICAL", "WARN"],
        ),
        ([Span("WARN", 0, 500), Span("HEALTHY", 500, 1000)], 2, ["WARN", "HEALTHY"]),
        ([Span("HEALTHY", 0, 1000), Span("CRITICAL", 1000, 1000)], 2, ["HEALTHY", "CRITICAL"]),
        ([Span("WARN", 7, 7)], 1, ["WARN"]),
    ],
    ids=["short", "halves", "at the end", "an instant"],
)
def test_each_cell_shows_the_worst_that_was_held(spans: list[Span], cells: int, words: list[str]) -> None:
    assert held_by_cell(spans, spans[0].start, spans[-1].end, cells) == words


def test_the_last_stretches_are_listed_with_how_long_they_lasted() -> None:
    spans = [Span("WARN" if n % 2 else "HEALTHY", NOON + n * HOUR, NOON + (n + 1) * HOUR) for n in range(50)]

    lines = drawn(spans_table(spans))

    assert len(lines) == MOST_SPANS + 2
    assert lines[-1].split() == ["WARN", "2013-02-10T01:00:00Z", "2013-02-10T02:00:00Z", "1", "h", "00", "min"]


def test_a_point_is_a_row_with_its_status_and_what_was_held() -> None:
    lines = drawn(points_table([a_point(0.6), a_point(None)]))

    assert lines[2].split() == ["2013-02-08T00:00:00Z", "0.600000", "WARN", "HEALTHY", "1,234"]
    assert lines[3].split()[1] == "–"


@pytest.mark.parametrize(
    ("text", "seconds"), [("90s", 90), ("15m", 900), ("6h", 21_600), ("1d", 86_400), ("0s", 0), ("400d", 34_560_000)]
)
def test_a_duration_is_a_number_and_a_unit(text: str, seconds: int) -> None:
    assert parse_duration(text) == seconds * 1_000_000


@pytest.mark.parametrize("text", ["", "15", "m", "1.5h", "-1s", "1w", "15 m", "1h30m", "９m", "1234567890s"])
def test_what_is_no_duration_is_refused_with_how_to_write_it(text: str) -> None:
    with pytest.raises(ValueError, match="write it like 90s, 15m, 6h or 1d"):
        parse_duration(text)

"""The demo's plan and its lines."""

from __future__ import annotations

import pytest

from coherence.v1.score_pb2 import STATUS_CRITICAL, STATUS_UNKNOWN, Score
from coherence_grpc.cli.demo.board import counts_of, hour_line, sparkline
from coherence_grpc.cli.demo.calls import calls
from coherence_grpc.cli.demo.feed import HOUR, START, Feed, hours_between
from coherence_grpc.cli.importing.flights import Departure


def a_departure(*, ts: int = START, late: int = 0, tenant_id: str = "ua", signal_id: str = "UA1") -> Departure:
    return Departure(tenant_id, "EWR", signal_id, 1.0, 1.0, ts, ts + late)


def test_departures_are_handed_out_once_in_the_order_in_which_they_became_known() -> None:
    delayed = a_departure(signal_id="delayed", late=3 * HOUR)
    punctual = a_departure(signal_id="punctual", ts=START + HOUR)
    feed = Feed([delayed, punctual], start=START)

    assert feed.due(START) == {}
    assert feed.due(START + HOUR) == {"ua": [punctual]}
    assert feed.due(START + 4 * HOUR) == {"ua": [delayed]}
    assert feed.handed_out == 2


def test_what_no_window_can_hold_is_left_out_unless_it_is_still_to_take_off() -> None:
    yesterday = a_departure(ts=START - 24 * HOUR, signal_id="in the first window")
    before = a_departure(ts=START - 24 * HOUR - 1, signal_id="before it")
    late = a_departure(ts=START - 25 * HOUR, late=26 * HOUR, signal_id="very late")
    beyond = a_departure(ts=START + 2 * HOUR, signal_id="after the end")

    feed = Feed([yesterday, before, late, beyond], start=START, until=START + HOUR)

    assert feed.due(START + 100 * HOUR) == {"ua": [yesterday, late]}


@pytest.mark.parametrize(
    ("after", "until", "hours"),
    [(-1, 0, [0]), (0, HOUR - 1, []), (0, HOUR, [1]), (HOUR, HOUR, []), (HOUR - 1, 3 * HOUR + 5, [1, 2, 3])],
)
def test_every_full_hour_is_met_once(after: int, until: int, hours: list[int]) -> None:
    assert [hour // HOUR for hour in hours_between(START + after, START + until)] == [START // HOUR + h for h in hours]


def test_an_hour_is_a_line_with_each_status_and_its_count() -> None:
    counts = counts_of([Score(status=STATUS_CRITICAL)] * 15 + [Score(status=STATUS_UNKNOWN)])

    line = hour_line(START, counts)

    assert line == "2013-02-08T00:00Z  HEALTHY 0   WARN 0   CRITICAL 15  UNKNOWN 1"


def test_a_sparkline_goes_from_low_to_high_with_gaps_where_there_was_no_score() -> None:
    assert sparkline([0.0, 0.49, None, 0.76, 1.0]) == "▁▄ ▇█"


def test_the_calls_to_copy_name_the_real_addresses() -> None:
    commands = [call.command for call in calls("127.0.0.1:50051", "127.0.0.1:4000", "b6")]

    assert [("127.0.0.1:50051" in c, "127.0.0.1:4000" in c, "b6" in c) for c in commands] == [
        (True, False, True),
        (False, True, True),
        (True, False, True),
    ]

"""Instants as people write and read them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coherence_grpc.cli.instants import micros, parse_instant, render, render_age, render_minute, timestamp

LAST = parse_instant("9999-12-31T23:59:59.999999Z")
FIRST = parse_instant("0001-01-01T00:00:00Z")


@pytest.mark.parametrize(
    ("text", "us"),
    [
        ("1970-01-01T00:00:00Z", 0),
        ("2013-02-08T00:00:00Z", 1_360_281_600_000_000),
        ("2013-02-08t01:00:00+01:00", 1_360_281_600_000_000),
        ("2013-02-08T00:00Z", 1_360_281_600_000_000),
        ("2013-02-08T00:00:00.25Z", 1_360_281_600_250_000),
        ("2013-02-08T00:00:00.1234569Z", 1_360_281_600_123_456),
        ("1969-12-31T23:59:59.999999Z", -1),
    ],
)
def test_an_rfc_3339_instant_is_read_to_the_microsecond(text: str, us: int) -> None:
    assert parse_instant(text) == us


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("2013-02-08T00:00:00", "has no time zone"),
        ("2013-02-08", "is not an RFC 3339 instant"),
        ("2013-02-08 00:00:00Z", "is not an RFC 3339 instant"),
        ("20130208T000000Z", "is not an RFC 3339 instant"),
        ("2013-W06-5T00:00:00Z", "is not an RFC 3339 instant"),
        ("2013-02-08T24:00:00Z", "is not an RFC 3339 instant"),
        ("2013-02-08T00:00:60Z", "is not an RFC 3339 instant"),
        ("2013-02-29T00:00:00Z", "is not a real instant"),
        ("０013-02-08T00:00:00Z", "is not an RFC 3339 instant"),
        ("", "is not an RFC 3339 instant"),
        ("now", "is not an RFC 3339 instant"),
    ],
)
def test_anything_else_is_refused_with_what_to_write(text: str, problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        parse_instant(text)


@given(st.integers(FIRST, LAST))
def test_what_is_rendered_reads_back_as_the_same_instant(us: int) -> None:
    assert parse_instant(render(us)) == us
    assert micros(timestamp(us)) == us


def test_a_minute_is_rendered_as_the_demo_prints_it() -> None:
    assert render_minute(parse_instant("2013-02-09T05:00:00Z")) == "2013-02-09T05:00Z"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (-1, "0 s"),
        (0, "0 s"),
        (59, "59 s"),
        (60, "1 min"),
        (3_600, "1 h 00 min"),
        (11_100, "3 h 05 min"),
        (90_000, "1 d 01 h"),
    ],
)
def test_a_span_reads_as_people_say_it(seconds: int, text: str) -> None:
    assert render_age(seconds * 1_000_000) == text

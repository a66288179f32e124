"""What comes in as text: JSON, instants, pushed signals, configuration."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from google.protobuf.timestamp_pb2 import Timestamp
from hypothesis import given
from hypothesis import strategies as st

from coherence.v1.signal_pb2 import Signal
from coherence_grpc.client import Refusal
from subgraph import strict_json
from subgraph.config import Config, ConfigInvalid, read_config
from subgraph.guard import is_loopback
from subgraph.instants import InstantInvalid, format_instant, micros_of, parse_instant
from subgraph.push.decoding import items_of_json, items_of_lines, read_item
from tests.subgraph.running import a_pushed_signal


@pytest.mark.parametrize(
    ("raw", "why"),
    [
        (b"", "not JSON"),
        (b"{", "not JSON"),
        (b'{"a":1}{"a":2}', "not JSON"),
        (b"\xef\xbb\xbf{}", "not JSON"),
        (b"\xff", "not UTF-8"),
        (b'"\xed\xa0\x80"', "not UTF-8"),
        (b'{"a":1,"b":{"a":1,"a":1}}', "twice"),
        (b"[NaN]", "NaN"),
        (b"[-Infinity]", "-Infinity"),
        (b'["\\uD83D"]', "surrogate"),
        (b"[" * 100_000, "nested"),
        (b'{"a":' * 100_000, "nested"),
        (b"9" * 5_000, "digits"),
    ],
)
def test_r17_what_is_not_json_is_refused_with_its_reason(raw: bytes, why: str) -> None:
    with pytest.raises(strict_json.JsonInvalid, match=why):
        strict_json.decode(raw)


@given(st.recursive(st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(), st.lists))
def test_what_is_json_is_read_as_it_is(value: Any) -> None:  # noqa: ANN401 - any JSON
    text = json.dumps(value, allow_nan=False) if _finite(value) else "null"

    assert strict_json.decode(text.encode()) == json.loads(text)


def _finite(value: Any) -> bool:  # noqa: ANN401 - any JSON
    return all(map(_finite, value)) if isinstance(value, list) else value not in {float("inf"), float("-inf")}


@pytest.mark.parametrize(
    ("text", "in_utc"),
    [
        ("2013-02-08T12:00:00Z", "2013-02-08T12:00:00Z"),
        ("2013-02-08t12:00:00z", "2013-02-08T12:00:00Z"),
        ("2013-02-08 12:00:00.5+01:30", "2013-02-08T10:30:00.500000Z"),
        ("2013-02-08T12:00:00.123456999Z", "2013-02-08T12:00:00.123456Z"),
        ("1960-01-01T00:00:00.000001Z", "1960-01-01T00:00:00.000001Z"),
        ("9999-12-31T23:59:59Z", "9999-12-31T23:59:59Z"),
    ],
)
def test_ac_api_06_an_instant_is_read_with_any_offset_and_written_in_utc(text: str, in_utc: str) -> None:
    assert format_instant(parse_instant(text)) == in_utc


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("2013-02-08T12:00:00", "no offset"),
        ("2013-02-30T12:00:00Z", "no such day"),
        ("2013-02-08T23:59:60Z", "no such"),
        ("0001-01-01T00:00:00+01:00", "no such"),
        ("2013-02-08T12:00:00+24:00", "no such"),
        ("2013-W06-5T12:00:00Z", "RFC 3339"),
        ("20130208T120000Z", "RFC 3339"),
        ("٢٠١٣-02-08T12:00:00Z", "RFC 3339"),
        ("2013-02-08", "RFC 3339"),
        ("yesterday", "RFC 3339"),
        ("", "RFC 3339"),
    ],
)
def test_r17_what_names_no_instant_is_refused_with_a_remedy(text: str, why: str) -> None:
    with pytest.raises(InstantInvalid, match=why):
        parse_instant(text)


@given(st.datetimes(timezones=st.timezones()))
def test_an_instant_comes_back_as_it_went(when: Any) -> None:  # noqa: ANN401 - a datetime
    try:
        stamp = parse_instant(when.isoformat())
    except InstantInvalid:
        # A zone's ancient offset has seconds, which RFC 3339 can't say; or it leads out of the years.
        return
    assert micros_of(parse_instant(format_instant(stamp))) == micros_of(stamp)
    assert micros_of(stamp) == (when - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)


def test_a_pushed_signal_is_the_signal_on_the_wire() -> None:
    given_signal = a_pushed_signal("acme", signal_id="s", weight=2, ts="2013-02-08T12:00:00Z")

    signal = read_item(given_signal)

    assert signal == Signal(
        tenant_id="acme",
        source="ci",
        type="build",
        value=0.5,
        weight=2,
        signal_id="s",
        ts=Timestamp(seconds=1360324800),
    )


def test_contradiction_35_a_weight_left_out_or_null_is_no_weight_at_all() -> None:
    for row in (a_pushed_signal("acme"), a_pushed_signal("acme", weight=None)):
        signal = read_item(row)
        assert isinstance(signal, Signal)
        assert not signal.HasField("weight")


@pytest.mark.parametrize(
    ("row", "field", "why"),
    [
        (a_pushed_signal("acme", value="0.5"), "value", "the string '0.5'"),
        (a_pushed_signal("acme", value=True), "value", "a boolean"),
        (a_pushed_signal("acme", value=10**400), "value", "finite"),
        (a_pushed_signal("acme", value=None), "value", "required"),
        (a_pushed_signal("acme", weight=[1]), "weight", "an array"),
        (a_pushed_signal("acme", source=7), "source", "a number"),
        (a_pushed_signal("acme", type={}), "type", "an object"),
        (a_pushed_signal("acme", ts=1360324800), "ts", "a string such as"),
        (a_pushed_signal("acme", ts="2013-02-08T12:00:00"), "ts", "no offset"),
        (a_pushed_signal("acme", valeu=1), "valeu", "not a field"),
        (7, "", "must be a JSON object"),
    ],
)
def test_r17_a_bad_field_is_named_with_what_to_send(row: Any, field: str, why: str) -> None:  # noqa: ANN401 - any JSON
    refusal = read_item(row)

    assert isinstance(refusal, Refusal)
    assert (refusal.code, refusal.reason) == ("INVALID_ARGUMENT", "SIGNAL_INVALID")
    assert [wrong.path for wrong in refusal.fields] == [field]
    assert why in refusal.message


def test_a_flaw_inside_an_array_or_a_line_is_of_its_item_alone() -> None:
    good = json.dumps(a_pushed_signal("acme"))
    twice, nan, cut = good[:-1] + ',"value":1}', good.replace("0.5", "NaN"), good[:-1]

    items, listed = items_of_json(f"[{good},{twice},{nan}]".encode())
    lines = items_of_lines(f"{good}\r\n\n{cut}\n{nan}\n".encode())

    assert listed
    assert [isinstance(item, Signal) for item in items] == [True, False, False]
    assert [isinstance(item, Signal) for item in lines] == [True, False, False]


@pytest.mark.parametrize(
    ("authority", "local"),
    [
        ("127.0.0.1:4000", True),
        ("localhost", True),
        ("LOCALHOST:1", True),
        ("[::1]:4000", True),
        ("example.com", False),
        ("127.0.0.1.example.com", False),
        ("localhost@example.com", False),
        ("127.0.0.1@example.com:80", False),
        ("[::1", False),
        ("localhost:99999", False),
        ("", False),
    ],
)
def test_the_local_principal_is_there_for_loopback_names_only(authority: str, local: bool) -> None:
    assert is_loopback(authority) is local


def test_the_environment_is_read_once_and_named_when_it_is_wrong() -> None:
    told = {"COHERENCE_GRPC": "127.0.0.1:9", "COHERENCE_HTTP": "[::1]:0", "COHERENCE_LIFELINE_FD": "7"}

    assert read_config({}) == Config()
    assert read_config(told) == Config(grpc="127.0.0.1:9", host="::1", port=0, lifeline_fd=7)
    for name, text in {
        "COHERENCE_HTTP": "4000",
        "COHERENCE_READY_FD": "x",
        "COHERENCE_PROFILE": "test",
        "COHERENCE_LOG": "loud",
    }.items():
        with pytest.raises(ConfigInvalid, match=name):
            read_config({name: text})

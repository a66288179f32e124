"""JSON objects and rows of cells as signals."""

from __future__ import annotations

import json

import pytest

from coherence.v1.signal_pb2 import Signal
from coherence_grpc.cli.instants import timestamp
from coherence_grpc.cli.records import RecordInvalid, signal_of_cells, signal_of_json

GOOD = {"tenant_id": "acme", "source": "ci", "signal_id": "a-1", "type": "build", "value": 0.5, "weight": 2}


def a_line(**fields: object) -> bytes:
    return json.dumps({**GOOD, "ts": "2013-02-08T00:00:00.5Z", **fields}).encode()


def test_a_json_object_becomes_the_signal_it_describes() -> None:
    signal = signal_of_json(a_line())

    assert signal == Signal(**GOOD, ts=timestamp(1_360_281_600_500_000))  # type: ignore[arg-type]  # a literal of mixed types


def test_null_is_the_same_as_left_out() -> None:
    signal = signal_of_json(a_line(weight=None, signal_id=None, ts=None))

    assert not signal.HasField("weight")
    assert not signal.HasField("ts")
    assert signal.signal_id == ""


@pytest.mark.parametrize(
    ("line", "field", "problem"),
    [
        (a_line(value="0.5"), "value", "is text; write a number without quotes"),
        (a_line(value=True), "value", "is a boolean; write a number without quotes"),
        (a_line(source=7), "source", "is a number; write it as text in quotes"),
        (a_line(source=["ci"]), "source", "is an array; write it as text in quotes"),
        (a_line(ts=1_360_281_600), "ts", "is a number; write an RFC 3339 instant in quotes"),
        (a_line(ts="2013-02-08T00:00:00"), "ts", "'2013-02-08T00:00:00' has no time zone; add Z for UTC, or"),
        (a_line(ts="tomorrow"), "ts", "'tomorrow' is not an RFC 3339 instant; write it like 2013-02-08T00:00:00Z"),
        (a_line(mass=2), "'mass'", "is not a field of a signal; the fields are tenant_id, source,"),
        (b'{"value": 0.5, "value": 0.6}', "'value'", "is there twice; keep one"),
        (b'{"value": NaN}', "", "holds NaN, which is not JSON; write a finite number"),
        (b'{"value": -Infinity}', "", "holds -Infinity, which is not JSON; write a finite number"),
        (b'{"value": 1e400}', "value", "is not a finite number"),
        (b'{"weight": ' + b"9" * 400 + b"}", "weight", "is not a finite number"),
        (b"[1, 2]", "", "is an array; a signal is a JSON object"),
        (b"null", "", "is null; a signal is a JSON object"),
        (b"{'value': 0.5}", "", "is not JSON: Expecting property name"),
        (b"[" * 100_000, "", "is nested too deeply; a signal is one flat JSON object"),
        (b'{"source": "\xff"}', "", "is not UTF-8; save the file as UTF-8"),
        (b'{"source": "\\ud800"}', "source", "holds half a character"),
    ],
)
def test_what_is_not_a_signal_is_refused_with_the_field_and_the_remedy(line: bytes, field: str, problem: str) -> None:
    with pytest.raises(RecordInvalid) as refused:
        signal_of_json(line)

    assert refused.value.field == field
    assert refused.value.problem.startswith(problem)


def test_a_long_field_name_is_not_repeated_in_full() -> None:
    with pytest.raises(RecordInvalid) as refused:
        signal_of_json(json.dumps({"x" * 10_000: 1}))

    assert len(refused.value.field) < 50


def test_values_out_of_range_are_left_to_the_server_which_has_the_rule() -> None:
    assert signal_of_json(a_line(value=1.1)).value == 1.1
    assert signal_of_json(a_line(ts="9999-12-31T23:59:59Z")).ts.seconds == 253_402_300_799


def test_empty_cells_are_left_out() -> None:
    signal = signal_of_cells({"source": "ci", "type": "build", "value": "1", "weight": "", "ts": "", "signal_id": ""})

    assert signal == Signal(source="ci", type="build", value=1.0)


@pytest.mark.parametrize("cell", ["0,5", "1_0", "nan", "inf", "0x1", "half", "٠٫٥"])
def test_a_cell_that_is_no_number_is_refused(cell: str) -> None:
    with pytest.raises(RecordInvalid, match="write a number"):
        signal_of_cells({"value": cell})

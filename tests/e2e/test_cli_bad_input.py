"""R17 for the command line: bad input is refused by line and field, the good lines beside it are stored."""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING, Final, NamedTuple

import pytest

from tests.e2e.commanding import json_lines, records, run
from tests.e2e.rows import a_row

if TYPE_CHECKING:
    from tests.serving import Served

pytestmark = pytest.mark.anyio


class BadLine(NamedTuple):
    """A line, and what its refusal says."""

    line: str
    said: str


def a_bad(said: str, **fields: object) -> BadLine:
    row = {"source": "ci", "type": "build", "value": 0.5, **fields}
    return BadLine(json.dumps(row), said)


BAD: Final = [
    a_bad("NaN", value=math.nan),
    a_bad("Infinity", value=math.inf),
    a_bad("value", value=-0.1),
    a_bad("value", value=1.1),
    a_bad("value", value=None),
    a_bad("value is text; write a number without quotes", value="0.5"),
    a_bad("weight", weight=-1),
    a_bad("weight", weight=1001),
    a_bad("source", source=""),
    a_bad("source", source="x" * 10_000),
    a_bad("source", source="a\x00b"),
    a_bad("source holds half a character", source="\ud800"),
    a_bad("signal_id", signal_id="x" * 10_000),
    a_bad("signal_id", signal_id="\x1b[31mred"),
    a_bad("type", type=""),
    a_bad("ts", ts="9999-12-31T00:00:00Z"),
    a_bad("1970", ts="1960-01-01T00:00:00Z"),
    a_bad("ts '2026-01-01T00:00:00' has no time zone", ts="2026-01-01T00:00:00"),
    a_bad("'colour' is not a field of a signal", colour="red"),
    BadLine('{"source":"ci","source":"ci","type":"build","value":1}', "'source' is there twice"),
    BadLine("[" * 100_000, "is nested too deeply"),
    BadLine("value=1", "is not JSON"),
]


async def test_r17_every_bad_line_is_named_with_its_field_and_the_good_ones_are_stored(
    service: Served, tenant: str
) -> None:
    good = json.dumps(a_row(tenant))
    lines = "\n".join([good, *(bad.line for bad in BAD), good.replace("0.8", "0.7").replace("signal-", "other-")])

    results = await records(service, "publish", "--tenant", tenant, "-", stdin=lines, exit_code=1)
    (score,) = await records(service, "score", tenant)

    assert [one["line"] for one in results] == list(range(1, len(BAD) + 3))
    assert [one["outcome"] for one in results] == ["STORED", *["REFUSED"] * len(BAD), "STORED"]
    for bad, one in zip(BAD, results[1:-1], strict=True):
        assert bad.said in one["error"]["message"], one
        assert len(one["error"]["message"]) < 1_500
    assert score["signal_count"] == 2


async def test_r17_a_bad_tenant_refuses_its_own_lines_only(service: Served, tenant: str) -> None:
    rows = [a_row(tenant), a_row("ACME"), a_row("x" * 10_000), a_row(tenant)]

    said = await run(service, "publish", "-", stdin=json_lines(rows))

    assert said.exit_code == 1
    assert said.stdout == "2 STORED, 2 REFUSED\n"
    assert [line.partition(":")[0] for line in said.stderr.splitlines()] == ["line 2", "line 3"]
    assert all("tenant_id" in line for line in said.stderr.splitlines())


@pytest.mark.parametrize(
    ("option", "value", "said"),
    [
        ("--value", "nan", "signal.value"),
        ("--value", "-0.1", "signal.value"),
        ("--weight", "1001", "signal.weight"),
        ("--source", "", "signal.source"),
        ("--id", "x" * 10_000, "signal.signal_id"),
        ("--type", "\x1b[31mred", "signal.type"),
        ("--ts", "9999-12-31T00:00:00Z", "signal.ts"),
        ("--ts", "1960-01-01T00:00:00Z", "signal.ts"),
    ],
)
async def test_r17_a_bad_option_is_refused_by_field(
    service: Served, tenant: str, option: str, value: str, said: str
) -> None:
    given = {"--tenant": tenant, "--source": "ci", "--type": "build", "--value": "0.5", option: value}

    answer = await run(service, "publish", *(part for pair in given.items() for part in pair))

    assert answer.exit_code == 1
    assert said in answer.stderr
    assert "next:  " in answer.stderr
    assert len(answer.stderr) < 1_500
    assert "\x1b" not in answer.stderr


async def test_r17_bytes_that_are_not_utf8_are_refused_as_an_option(service: Served, tenant: str) -> None:
    answer = await run(
        service, "publish", "--tenant", tenant, "--source", "\udcff", "--type", "build", "--value", "0.5"
    )

    assert answer.exit_code == 2
    assert "source holds half a character" in answer.stderr

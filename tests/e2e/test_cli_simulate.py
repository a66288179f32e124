"""`coherence simulate` against a real server."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.e2e.commanding import json_lines, record, records, run
from tests.e2e.rows import a_row

if TYPE_CHECKING:
    from pathlib import Path

    from tests.serving import Served

pytestmark = pytest.mark.anyio


async def stored(service: Served, tenant: str, value: float = 0.9) -> None:
    await records(service, "publish", "-", stdin=json_lines([a_row(tenant, value=value)]))


async def test_signals_by_options_and_lines_are_supposed_and_not_stored(service: Served, tenant: str) -> None:
    await stored(service, tenant)
    lines = json_lines([{"source": "ci", "type": "build", "value": 0.0}])

    found = await record(
        service, "simulate", tenant, "-", "--signal", "source=ci, type=build, value=0.3, weight=2", stdin=lines
    )
    score = await record(service, "score", tenant)

    assert (found["actual"]["score"], found["simulated"]["score"], found["score_delta"]) == (0.9, 0.375, -0.525)
    assert (found["actual"]["signal_count"], found["simulated"]["signal_count"]) == (1, 3)
    assert (found["actual_change_count"], found["differences_truncated"]) == (1, False)
    assert score["signal_count"] == 1


async def test_rules_by_options_change_those_in_force(service: Served, tenant: str) -> None:
    await stored(service, tenant, value=0.6)
    await record(service, "policy", "set", tenant, "--set", "healthy_threshold=0.55")

    as_it_is = await record(service, "simulate", tenant)
    stricter = await record(service, "simulate", tenant, "--set", "warn_threshold=0.52", "--lookback", "1d")
    by_default = await record(service, "simulate", tenant, "--default")

    assert as_it_is["actual"] == as_it_is["simulated"]
    assert (as_it_is["differences"], as_it_is["score_delta"]) == ([], 0)
    assert stricter["simulated"]["status"] == "HEALTHY"
    assert by_default["simulated"]["status"] == "WARN"
    (difference,) = by_default["differences"]
    assert (difference["actual_status"], difference["simulated_status"]) == ("HEALTHY", "WARN")


async def test_rules_come_from_a_file_too(service: Served, tenant: str, tmp_path: Path) -> None:
    await stored(service, tenant)
    file = tmp_path / "policy.toml"
    file.write_text("minimum_signals = 2\n")

    found = await record(service, "simulate", tenant, "--policy", str(file))

    assert (found["simulated"]["status"], found["score_delta"]) == ("UNKNOWN", None)


async def test_it_is_a_picture_in_the_terminal(service: Served, tenant: str) -> None:
    await stored(service, tenant)

    said = await run(service, "simulate", tenant, "--set", "minimum_signals=2")
    same = await run(service, "simulate", tenant)
    alone = await run(service, "simulate", tenant, "--lookback", "0s")

    headline, *lines = said.stdout.splitlines()
    assert headline.startswith(f"{tenant}  as of ")
    assert any(line.split()[:5] == ["as", "it", "is", "0.900000", "HEALTHY"] for line in lines)
    assert any(line.split()[:6] == ["as", "it", "would", "be", "–", "UNKNOWN"] for line in lines)
    assert "1 status change; 0 would have been" in said.stdout
    assert "would have been" in said.stdout
    assert lines[-1] == "nothing was written"
    assert "until then the held status would have been the same" in same.stdout
    assert "compared from" not in alone.stdout


@pytest.mark.parametrize(
    ("arguments", "exit_code", "message"),
    [
        (["--signal", "source"], 2, "is not FIELD=VALUE"),
        (["--signal", "source=ci,colour=red"], 2, "colour"),
        (["--signal", "source=ci,type=build,value=2"], 1, "signals[0].value"),
        (["--set", "dwell=-1"], 2, "dwell"),
        (["--set", "warn_threshold=0.9"], 1, "policy.warn_threshold"),
        (["--default", "--policy", "p.json"], 2, "leave one of the two out"),
        (["--policy", "-", "-"], 2, "both to come from stdin"),
        (["--at", "2100-01-01T00:00:00Z"], 1, "as_of_time is ahead"),
        (["--lookback", "500d"], 1, "lookback"),
    ],
)
async def test_what_can_not_be_supposed_is_refused_with_the_next_step(
    service: Served, tenant: str, arguments: list[str], exit_code: int, message: str
) -> None:
    said = await run(service, "simulate", tenant, *arguments)

    assert said.exit_code == exit_code
    assert message in said.stderr


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ([{"source": "ci", "type": "build"}, {"source": 3}], "line 2: source"),
        ([{"tenant_id": "another", "source": "ci", "type": "build", "value": 1}], "is a signal of tenant 'another'"),
        ([{"source": "ci", "type": "build", "value": 1}] * 1001, "more than 1,000 signals"),
    ],
)
async def test_a_line_that_can_not_be_supposed_is_named(
    service: Served, tenant: str, lines: list[object], message: str
) -> None:
    said = await run(service, "simulate", tenant, "-", stdin=json_lines(lines))

    assert (said.exit_code, message in said.stderr) == (2, True)

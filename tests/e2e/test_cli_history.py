"""`coherence history` against a real server."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.e2e.commanding import json_lines, record, records, run
from tests.e2e.rows import a_row
from tests.serving import eventually

if TYPE_CHECKING:
    from tests.serving import Served

pytestmark = pytest.mark.anyio


async def moved(service: Served, tenant: str) -> None:
    """HEALTHY, then CRITICAL."""
    for count, row in enumerate((a_row(tenant, value=0.9), a_row(tenant, value=0.1) | {"weight": 100}), start=1):
        await records(service, "publish", "-", stdin=json_lines([row]))
        await eventually(
            lambda: record(service, "history", tenant),
            lambda found, count=count: found["status_change_count"] == count,  # type: ignore[misc]
        )


async def test_a_history_lists_what_was_published_and_when_what_was_held_changed(service: Served, tenant: str) -> None:
    await moved(service, tenant)

    found = await record(service, "history", tenant)
    stepped = await record(service, "history", tenant, "--step", "1h")

    assert [point["version"] for point in found["points"]] == [1, 2]
    assert [point["status"] for point in found["points"]] == ["HEALTHY", "CRITICAL"]
    assert [span["held_status"] for span in found["spans"]] == ["UNKNOWN", "HEALTHY", "CRITICAL"]
    assert [span["start_time"] for span in found["spans"][1:]] == [point["time"] for point in found["points"]]
    assert [point["status"] for point in stepped["points"]] == ["UNKNOWN"] * 24 + ["CRITICAL"]


async def test_a_history_is_a_picture_in_the_terminal(service: Served, tenant: str) -> None:
    await moved(service, tenant)

    said = await run(service, "history", tenant)
    stepped = await run(service, "history", tenant, "--step", "6h")

    headline, bars, band, *rest = said.stdout.splitlines()
    assert said.exit_code == 0
    assert headline.startswith(f"{tenant}  ")
    assert headline.endswith("2 status changes  recorded")
    assert len(bars) <= len(band) == 96
    assert band == "·" * 95 + "█"
    assert [line.split()[0] for line in rest[4:]] == ["UNKNOWN", "HEALTHY", "CRITICAL"]
    assert [line.split()[1] for line in stepped.stdout.splitlines()[-5:-1]] == ["–"] * 4


async def test_a_history_can_be_recomputed_under_a_version_of_the_policy(service: Served, tenant: str) -> None:
    await moved(service, tenant)
    asked = ("history", tenant, "--basis", "recomputed", "--policy", "default")

    found = await record(service, *asked, "--step", "12h")
    said = await run(service, *asked)

    assert found["basis"] == "RECOMPUTED"
    assert [span["held_status"] for span in found["spans"]] == ["UNKNOWN", "HEALTHY", "CRITICAL"]
    assert [(point["status"], point["version"]) for point in found["points"]][::2] == [("UNKNOWN", 0), ("CRITICAL", 0)]
    assert said.stdout.splitlines()[0].endswith("2 status changes  recomputed")


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["--step", "soon"], 2, "is not a duration; write it like 90s, 15m, 6h or 1d"),
        (["--from", "2013-02-08"], 2, "is not an RFC 3339 instant"),
        (["--to", "2999-01-01T00:00:00Z"], 1, "end_time is ahead of the server's clock"),
        (["--policy", "default"], 1, "policy_etag applies to the basis RECOMPUTED only"),
    ],
)
async def test_a_history_that_cannot_be_shown_says_what_to_write(
    service: Served, tenant: str, arguments: list[str], code: int, said: str
) -> None:
    refused = await run(service, "history", tenant, *arguments)

    assert refused.exit_code == code
    assert said in refused.stderr

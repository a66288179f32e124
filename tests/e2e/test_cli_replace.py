"""Signals that take the place of stored ones, and writes that wait for their score, from the command line."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import pytest

from coherence_grpc.adapters.embedded import wall_us
from coherence_grpc.cli.instants import render
from coherence_grpc.model import SECOND
from tests.e2e.commanding import json_lines, record, records, run
from tests.e2e.rows import a_row

if TYPE_CHECKING:
    from pathlib import Path

    from tests.serving import Served

pytestmark = pytest.mark.anyio

TS: Final = render(wall_us() - 300 * SECOND)


def one(tenant: str, value: float) -> tuple[str, ...]:
    """The same signal, with this value."""
    words = {"tenant": tenant, "source": "ci", "type": "build", "id": "one", "ts": TS}
    return ("publish", *(part for name, word in words.items() for part in (f"--{name}", word)), "--value", str(value))


async def test_a_signal_is_replaced_where_that_is_asked_for(service: Served, tenant: str) -> None:
    await record(service, *one(tenant, 0.2))

    refused = await run(service, *one(tenant, 0.9))
    replaced = await record(service, *one(tenant, 0.9), "--replace")
    again = await record(service, *one(tenant, 0.9), "--replace")

    assert refused.exit_code == 1
    assert (replaced["outcome"], replaced["seq"]) == ("REPLACED", 2)
    assert (again["outcome"], again["seq"]) == ("DUPLICATE", 2)
    verdict = await record(service, "provenance", "verify", tenant)
    assert (verdict["valid"], verdict["checked_count"]) == (True, 2)


async def test_a_write_is_answered_with_its_score_where_that_is_asked_for(service: Served, tenant: str) -> None:
    published = await record(service, *one(tenant, 0.2), "--scored")
    said = await run(service, *one(tenant, 0.9), "--replace", "--scored")
    plain = await record(service, *one(tenant, 0.9))

    assert published["score_pending"] is False
    assert (published["score"]["score"], published["score"]["as_of_seq"]) == (0.2, 1)
    assert said.stdout.splitlines()[1] == f"{tenant}  0.900000  HEALTHY  1 signal"
    assert "score" not in plain


async def test_lines_replace_and_are_answered_with_a_score_of_each_tenant(
    service: Served, tenant: str, tmp_path: Path
) -> None:
    path = tmp_path / "signals.jsonl"
    others = a_row(f"{tenant}-other", signal_id="other", ts=TS)
    path.write_text(json_lines([a_row(tenant, signal_id="one", ts=TS, value=0.2), others]))
    await records(service, "publish", str(path))
    path.write_text(json_lines([a_row(tenant, signal_id="one", ts=TS, value=0.9), others]))

    shown = await records(service, "publish", str(path), "--replace", "--scored")
    said = await run(service, "publish", str(path), "--replace")

    assert [line.get("outcome") for line in shown] == ["REPLACED", "DUPLICATE", None, None]
    assert sorted(line["score"]["tenant_id"] for line in shown[2:]) == [tenant, f"{tenant}-other"]
    assert said.stdout.startswith("2 DUPLICATE")


async def test_an_import_replaces_once_however_often_it_is_run(service: Served, tenant: str, tmp_path: Path) -> None:
    path = tmp_path / "signals.jsonl"
    rows = [a_row(tenant, signal_id=f"s-{number}", ts=TS) for number in range(3)]
    path.write_text(json_lines(rows))
    await record(service, "import", str(path))
    rows[0]["value"], rows[1]["value"] = 0.01, 0.02
    path.write_text(json_lines([*rows, a_row(tenant, signal_id="new", ts=TS)]))

    rejecting = await run(service, "import", str(path))
    first = await record(service, "import", str(path), "--replace")
    again = await record(service, "import", str(path), "--replace")

    assert rejecting.exit_code == 1
    counts = [(summary["stored"], summary["replaced"], summary["duplicates"]) for summary in (first, again)]
    assert counts == [(0, 2, 2), (0, 0, 4)]
    shown = await run(service, "import", str(path), "--replace")
    assert "replaced" in shown.stdout

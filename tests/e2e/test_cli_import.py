"""Imports against a real server: what is stored, what is rejected, and how one goes on where it stopped."""

from __future__ import annotations

import asyncio
import json
import signal
from typing import TYPE_CHECKING

import pytest

from tests.e2e.commanding import json_lines, lines_of, record, records, run
from tests.e2e.rows import a_row
from tests.serving import COMMAND, Served, serving, until

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.anyio

BATCH = 1_000


@pytest.fixture
def signals(tmp_path: Path, tenant: str) -> Path:
    """Three and a half batches of a tenant."""
    path = tmp_path / "signals.jsonl"
    path.write_text(json_lines(a_row(tenant, signal_id=f"s-{number}") for number in range(7 * BATCH // 2)))
    return path


async def test_a_file_is_stored_once_however_often_it_is_imported(service: Served, tenant: str, signals: Path) -> None:
    first = await record(service, "import", str(signals))
    again = await record(service, "import", str(signals))
    verdict = await record(service, "provenance", "verify", tenant)

    assert (first["rows"], first["stored"], first["duplicates"], first["batches"]) == (3_500, 3_500, 0, 4)
    assert (again["stored"], again["duplicates"]) == (0, 3_500)
    assert verdict["checked_count"] == 3_500
    assert sorted(path.name for path in signals.parent.iterdir()) == ["signals.jsonl"]


async def test_rejected_rows_are_written_down_with_line_and_reason(
    service: Served, tenant: str, tmp_path: Path
) -> None:
    path = tmp_path / "signals.jsonl"
    rows = [a_row(tenant), a_row(tenant, value=1.5), a_row("ACME"), a_row(tenant, value="0.5"), a_row(tenant)]
    path.write_text(json_lines(rows))

    (summary,) = await records(service, "import", str(path), exit_code=1)

    rejects = lines_of(tmp_path / "signals.jsonl.rejects.jsonl")
    assert (summary["stored"], summary["rejected"]) == (2, 3)
    assert sorted((one["line"], one["reason"]) for one in rejects) == [
        (2, "SIGNAL_INVALID"),
        (3, "SIGNAL_INVALID"),
        (4, "SIGNAL_INVALID"),
    ]
    assert json.loads(next(one["text"] for one in rejects if one["line"] == 2)) == rows[1]


async def test_a_csv_is_mapped_and_tagged_as_told(service: Served, tenant: str, tmp_path: Path) -> None:
    path = tmp_path / "runs.csv"
    path.write_text(f"team,pass rate,size\n{tenant},0.25,3\n{tenant},0.75,1\n{tenant},,\n")
    mapping = ("--map", "tenant_id=team", "--map", "value=pass rate", "--map", "weight=size")
    fixed = ("--set", "source=ci", "--set", "type=build")

    said = await run(service, "import", str(path), *mapping, *fixed, "--retention", "short-30d", "--backfill")
    explained = await record(service, "explain", tenant)
    shown = await record(service, "provenance", "show", tenant, explained["contributions"][0]["provenance_id"])

    assert said.exit_code == 1
    assert "rejected rows, with line and reason: " in said.stderr
    assert explained["score"]["score"] == 0.375
    assert (shown["transport"], shown["retention"], shown["backfill"]) == ("import", "short-30d", True)


async def test_a_dry_run_checks_everything_and_stores_nothing(service: Served, tenant: str, signals: Path) -> None:
    said = await run(service, "import", str(signals), "--dry-run")
    (score,) = await records(service, "score", tenant)

    assert "dry run: nothing was stored" in said.stdout
    assert score["as_of_seq"] == 0


async def test_an_import_that_was_stopped_goes_on_where_it_was(service: Served, tenant: str, signals: Path) -> None:
    state = await _stop_midway(service, signals)
    kept = json.loads(state.read_text())["counts"]["stored"]

    said = await run(service, "import", str(signals))
    verdict = await record(service, "provenance", "verify", tenant)

    assert 0 < kept < 3_500
    assert said.exit_code == 0
    assert f"going on after {kept:,} rows" in said.stderr
    assert verdict["checked_count"] == 3_500
    assert not state.exists()


async def test_an_import_starts_over_on_a_server_that_does_not_have_what_was_sent(
    service: Served, signals: Path, tmp_path: Path
) -> None:
    await _stop_midway(service, signals)

    async with serving(tmp_path / "another", http=False) as another:
        said = await run(another, "import", str(signals), "--json")

    assert "starting over" in said.stderr
    assert json.loads(said.stdout)["stored"] == 3_500


async def test_an_import_stops_where_the_server_can_not_be_reached(signals: Path) -> None:
    said = await run(None, "import", str(signals), "--address", "127.0.0.1:1")

    assert said.exit_code == 3
    assert "can't be reached" in said.stderr


async def _stop_midway(served: Served, signals: Path) -> Path:
    """Ctrl-C after the first batches."""
    state = signals.with_name("signals.jsonl.import-state.json")
    process = await asyncio.create_subprocess_exec(
        COMMAND,
        *("import", str(signals), "--rate", str(2 * BATCH), "--address", served.grpc),
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        await until(state.exists, within_s=30)
        process.send_signal(signal.SIGINT)
        assert await process.wait() == 130
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    return state

"""Commands on a data directory that nothing serves."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING

import pytest

from coherence_grpc.client import connect
from tests.e2e.commanding import record, run
from tests.e2e.reading import score_of
from tests.e2e.rows import a_row, batch_of
from tests.serving import serving

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.anyio


@pytest.fixture
async def directory(tmp_path: Path, tenant: str) -> Path:
    """What a service left that had stored three signals."""
    async with serving(tmp_path, http=False, drain=True) as served, connect(served.grpc) as client:
        await client.ingest.PublishSignals(batch_of([a_row(tenant) for _ in range(3)], tenant))
        await score_of(client, tenant)
    return tmp_path


def change(path: Path, statement: str) -> None:
    with closing(sqlite3.connect(path)) as file, file:
        file.execute(statement)


async def test_doctor_recomputes_the_ledger_and_the_scores(directory: Path) -> None:
    said = await run(None, "doctor", "--offline", "--data", str(directory))

    assert said.exit_code == 0
    assert "intact: 3 entries of 1 tenant" in said.stdout
    assert "1 as recomputed from the signals" in said.stdout


async def test_doctor_names_the_entry_that_was_tampered_with(directory: Path, tenant: str) -> None:
    change(directory / "signals.db", "UPDATE entries SET recorded_at = recorded_at + 1 WHERE seq = 2")

    said = await run(None, "doctor", "--offline", "--data", str(directory))

    assert said.exit_code == 1
    assert f"{tenant} breaks at 2" in said.stdout


@pytest.mark.slow
async def test_doctor_finds_a_score_that_does_not_follow_from_its_signals_and_rebuild_scores_mends_it(
    directory: Path, tenant: str
) -> None:
    change(directory / "scores.db", "UPDATE scores SET score_ppm = 1")

    before = await run(None, "doctor", "--offline", "--data", str(directory))
    rebuilt = await run(None, "rebuild-scores", "--data", str(directory))
    async with serving(directory, http=False, drain=True) as served:
        score = await record(served, "score", tenant)
    after = await run(None, "doctor", "--offline", "--data", str(directory))

    assert (before.exit_code, "the stored score is not what its signals give" in before.stdout) == (1, True)
    assert (rebuilt.exit_code, "epochs now 2 (signals) and 2 (scores)" in rebuilt.stdout) == (0, True)
    assert score["score"] == 0.8
    assert after.exit_code == 0


async def test_a_directory_in_use_or_without_data_is_refused(directory: Path, tmp_path: Path) -> None:
    async with serving(directory, http=False):
        rebuild = await run(None, "rebuild-scores", "--data", str(directory))
        doctor = await run(None, "doctor", "--offline", "--data", str(directory))
    nowhere = await run(None, "doctor", "--offline", "--data", str(tmp_path / "nowhere"))

    assert (rebuild.exit_code, "is in use by another process" in rebuild.stderr) == (1, True)
    assert (doctor.exit_code, "is in use by another process" in doctor.stdout) == (1, True)
    assert (nowhere.exit_code, "holds no signals.db" in nowhere.stdout) == (1, True)

"""The benchmark's harness works; what it measures is for people to judge."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from bench.__main__ import GROUPS

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[2]
RUN_S = 240
SERVERS = ("neo4j", "postgres", "redis", "history")
EMBEDDED = tuple(name for name in GROUPS if name not in SERVERS)


@pytest.mark.timeout(RUN_S + 30)
@pytest.mark.parametrize("groups", [EMBEDDED, SERVERS], ids=["embedded", "servers"])
def test_every_figure_of_a_quick_bench_is_measured_or_says_why_not(tmp_path: Path, groups: tuple[str, ...]) -> None:
    chosen = [word for name in groups for word in ("--only", name)]
    command = [sys.executable, "-m", "bench", "--quick", "--json", "--results", str(tmp_path), *chosen]

    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=RUN_S, check=False)

    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert json.loads(next(tmp_path.glob("*.json")).read_text()) == report
    assert {"commit", "machine", "versions", "figures"} <= report.keys()
    for figure in report["figures"]:
        assert (figure["value"] is None) == bool(figure["not_run"]), figure["name"]
        if figure["reference"] is not None:
            assert figure["ratio"] == pytest.approx(figure["value"] / figure["reference"])
    names = [figure["name"] for figure in report["figures"]]
    assert len(set(names)) == len(names)
    measured = [figure for figure in report["figures"] if not figure["not_run"].startswith("Missing: ")]
    assert sum(figure["value"] is not None for figure in measured) >= len(measured) / 2, done.stderr

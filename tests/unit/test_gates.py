"""The gates that make a run of the tests mean something."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.conformance.counting import PORTS, Collected, problems, summary

if TYPE_CHECKING:
    from collections.abc import Sequence

ROOT = Path(__file__).resolve().parents[2]


def commands_of(target: str) -> Sequence[str]:
    listed = subprocess.run(
        ["make", "--dry-run", "--always-make", target], cwd=ROOT, capture_output=True, text=True, check=True
    )
    return listed.stdout.splitlines()


def test_ac_test_06_the_tests_fail_below_ninety_percent_of_branches() -> None:
    gate = [line for line in commands_of("test") if "--fail-under=90" in line]

    assert gate
    assert "branch = true" in (ROOT / "pyproject.toml").read_text()


def test_ac_test_01_the_tests_fail_below_every_branch_of_the_score() -> None:
    gate = [line for line in commands_of("test") if "--fail-under=100" in line]

    assert "coherence_grpc/score.py" in gate[0]


@pytest.mark.parametrize(("covered", "passes"), [(True, True), (False, False)])
def test_ac_test_06_the_gate_refuses_what_is_not_covered(tmp_path: Path, *, covered: bool, passes: bool) -> None:
    module = tmp_path / "half.py"
    module.write_text("def f(x):\n    if x:\n        return 1\n    return 2\n\nf(1)\n" + ("f(0)\n" if covered else ""))
    run = [sys.executable, "-m", "coverage"]
    subprocess.run([*run, "run", "--branch", module.name], cwd=tmp_path, check=True, capture_output=True)

    report = subprocess.run([*run, "report", "--fail-under=90"], cwd=tmp_path, check=False, capture_output=True)

    assert (report.returncode == 0) is passes


def test_ci_runs_the_checks_and_the_command_of_the_readme() -> None:
    script = (ROOT / ".ci/run").read_text()

    assert "make check" in script
    assert "make test" in script
    assert "$ make test" in (ROOT / "README.md").read_text()


def every_home_put_to(*names: str) -> Collected:
    found = Collected()
    for port, (_, homes) in PORTS.items():
        found.cases[port] = {home: set(names) for home in homes}
    return found


def test_ac_test_02_the_check_names_the_conformance_case_that_an_adapter_is_not_put_to() -> None:
    even, uneven, empty = every_home_put_to("a", "b"), every_home_put_to("a", "b"), every_home_put_to()
    uneven.cases["SignalStore"]["neo4j"].remove("b")
    uneven.homeless.append("test_reads.py::c")

    assert list(problems(even)) == []
    assert list(problems(uneven)) == [
        "SignalStore on neo4j is not put to b",
        "test_reads.py::c is put to one adapter alone; give it a home",
    ]
    assert len(list(problems(empty))) == len(PORTS)
    assert next(iter(summary(uneven.cases))).split() == ["SignalStore", "2", "on", "embedded,", "1", "on", "neo4j"]

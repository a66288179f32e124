"""House rules that no linter knows: `python -m tests.house` checks them and prints the acceptance map."""

from __future__ import annotations

import re
import subprocess
import sys
from collections import defaultdict
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

from tests.conformance import counting

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

ROOT: Final = Path(__file__).resolve().parent.parent
IDS: Final = 50
ROW: Final = re.compile(r"^\| ([A-Z]+-\d\d) \| (.+?) \| (held|part|later) \| (.*?) ?\|$")
TEST: Final = re.compile(r"def (test_\w*?ac_([a-z]+)_(\d\d)\w*)\(")
LARGEST: Final = 5


class Acceptance(NamedTuple):
    """One row of docs/acceptance.md."""

    state: str
    part: str


def acceptance() -> Mapping[str, Acceptance]:
    """The ids of docs/acceptance.md."""
    rows = map(ROW.match, (ROOT / "docs/acceptance.md").read_text().splitlines())
    return {row[1]: Acceptance(row[3], row[4]) for row in rows if row}


def tests_by_id() -> Mapping[str, Sequence[str]]:
    """The tests whose names carry an id, as file::name."""
    found: dict[str, list[str]] = defaultdict(list)
    for path in sorted((ROOT / "tests").rglob("test_*.py")):
        for name, epic, number in TEST.findall(path.read_text()):
            found[f"{epic.upper()}-{number}"].append(f"{path.relative_to(ROOT)}::{name}")
    return found


def print_map(ids: Mapping[str, Acceptance], tests: Mapping[str, Sequence[str]]) -> None:
    """The map from acceptance ids to tests."""
    print("acceptance map")  # noqa: T201 - this is a command
    for name, row in ids.items():
        note = f" ({row.part})" if row.part else ""
        print(f"  {name:8} {row.state}{note}")  # noqa: T201 - this is a command
        for test in tests.get(name, ()):
            print(f"           {test}")  # noqa: T201 - this is a command


def acceptance_problems(ids: Mapping[str, Acceptance], tests: Mapping[str, Sequence[str]]) -> Iterator[str]:
    """Ids without a row, without a test, or unknown."""
    if len(ids) != IDS:
        yield f"docs/acceptance.md has {len(ids)} ids, not {IDS}"
    for name, row in ids.items():
        if row.state != "later" and name not in tests:
            yield f"{name} is {row.state} in docs/acceptance.md, but no test carries its id"
    for name in tests.keys() - ids.keys():
        yield f"{tests[name][0]} carries the unknown id {name}"


def adr_problems() -> Iterator[str]:
    """Decision records with a number twice, or without a rollback."""
    seen: dict[str, str] = {}
    for path in sorted((ROOT / "docs/adr").glob("*.md")):
        number = path.name[:4]
        if number in seen:
            yield f"docs/adr: {path.name} has the number of {seen[number]}"
        seen[number] = path.name
        text = path.read_text()
        missing = [part for part in ("## Decision", "## Rollback") if part not in text]
        yield from (f"docs/adr/{path.name} has no {part!r}" for part in missing)


def lock_problems() -> Iterator[str]:
    """Locks that name an address, or a package without a hash."""
    for path in sorted((ROOT / "requirements").glob("*.txt")):
        text = path.read_text()
        if "://" in text or "index-url" in text:
            yield f"requirements/{path.name} names an address: run make lock"
        for block in re.split(r"\n(?=\S)", text):
            if block.strip() and "--hash=sha256:" not in block:
                yield f"requirements/{path.name}: {block.splitlines()[0]} has no hash"


def documented(source: str, pattern: str, page: str) -> Iterator[str]:
    """Names that `pattern` finds in `source` and that don't stand in `page`."""
    text = (ROOT / page).read_text()
    names = set(re.findall(pattern, (ROOT / source).read_text()))
    if not names:
        yield f"{source} names nothing like {pattern}"
    for name in sorted(names):
        if name not in text and name.replace("_", "-") not in text:
            yield f"{name} of {source} does not stand in {page}"


def leftovers() -> Iterator[str]:
    """Marks for later in tracked code."""
    marks = "TO" + "DO|FIX" + "ME|X" + "XX"
    tracked = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    for name in tracked.split():
        if name.endswith((".py", ".proto", ".graphql")) and not name.startswith("gen/"):
            path = ROOT / name
            if path.exists() and re.search(rf"\b({marks})\b", path.read_text()):
                yield f"{name} has a mark for later"


def report_sizes() -> None:
    """The largest files: a report, not a gate."""
    folders = ("coherence_grpc", "subgraph", "tests", "bench")
    sizes = sorted(
        ((len(p.read_text().splitlines()), p) for f in folders for p in (ROOT / f).rglob("*.py")), reverse=True
    )
    print("largest files")  # noqa: T201 - this is a command
    for lines, path in sizes[:LARGEST]:
        print(f"  {lines:5} {path.relative_to(ROOT)}")  # noqa: T201 - this is a command


def print_cases(cases: Mapping[str, Mapping[str, set[str]]]) -> None:
    """How many conformance cases each adapter of a port is put to."""
    print("conformance cases")  # noqa: T201 - this is a command
    for line in counting.summary(cases):
        print(f"  {line}")  # noqa: T201 - this is a command


def main() -> int:
    """Prints the map, the conformance cases and the sizes; 1 when a rule is broken."""
    ids, tests, conformance = acceptance(), tests_by_id(), counting.collected()
    print_map(ids, tests)
    print_cases(conformance.cases)
    report_sizes()
    problems = [
        *acceptance_problems(ids, tests),
        *adr_problems(),
        *lock_problems(),
        *documented("protos/coherence/v1/errors.proto", r"ERROR_REASON_(?!UNSPECIFIED)([A-Z_]+) =", "docs/errors.md"),
        *documented("coherence_grpc/config/settings.py", r'Setting\("([a-z_]+)"', "docs/configuration.md"),
        *documented("coherence_grpc/config/runtime.py", r'"([a-z_]+)": Switch\(', "docs/configuration.md"),
        *documented("coherence_grpc/telemetry/metrics.py", r'"(coherence_[a-z_]+)"', "docs/metrics.md"),
        *counting.problems(conformance),
        *documented("coherence_grpc/failpoints.py", r'"([a-z]+\.[a-z]+)": "', "docs/configuration.md"),
        *leftovers(),
    ]
    for problem in problems:
        print(f"house rule broken: {problem}", file=sys.stderr)  # noqa: T201 - this is a command
    return bool(problems)


if __name__ == "__main__":
    sys.exit(main())

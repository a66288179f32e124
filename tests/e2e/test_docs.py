"""What the documentation shows is run: every command and script, against a served instance, with what it prints.

Fenced blocks marked `console` hold commands after `$ ` and, below each, what it prints; `bash` blocks are scripts,
`python` blocks programs. The addresses they name are those of the instance that the test serves. What is shown may be
a part of the output; its numbers, ids and instants differ from run to run, the rest has to be the same. A comment
`<!-- not run: reason -->` before a block says why it isn't run.
"""

from __future__ import annotations

import asyncio
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

import pytest

from tests.serving import Served, serving

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

pytestmark = [pytest.mark.anyio, pytest.mark.slow]

ROOT: Final = Path(__file__).resolve().parents[2]
PAGES: Final = sorted([ROOT / "README.md", *ROOT.joinpath("docs").rglob("*.md")])
BLOCK: Final = re.compile(
    r"(?:<!-- not run: (?P<reason>.+?) -->\s*\n)?^```(?P<language>console|bash|python)\n(?P<body>.*?)^```$",
    re.MULTILINE | re.DOTALL,
)
COMMAND_S: Final = 60.0
VOLATILE: Final = [
    (re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z"), "INSTANT"),
    (re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}"), "UUID"),
    (re.compile(r"\b[0-9a-f]{12,}\b"), "HASH"),
    (re.compile(r"\bAQ[\w-]{20,}"), "TOKEN"),
    (re.compile(r"[+-]?\d+(\.\d+)?"), "N"),
    (re.compile(r"[▏▎▍▌▋▊▉█]+"), "BAR"),
    (re.compile(r"─+"), "RULE"),
    (re.compile(r"\s+"), " "),
]


class Step(NamedTuple):
    """Something to run: argv, and what it prints when the page shows that."""

    line: int
    argv: tuple[str, ...]
    shown: str | None
    not_run: str


@pytest.mark.timeout(300)
@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
async def test_what_the_page_shows_can_be_run(page: Path, tmp_path: Path, subtests: pytest.Subtests) -> None:
    steps = _steps_in(page)
    if not steps:
        return
    async with serving(tmp_path / "data") as served:
        for step in steps:
            with subtests.test(f"{page.name}:{step.line}"):
                if step.not_run:
                    pytest.skip(step.not_run)
                await _run(step, served, _checkout(tmp_path / "checkout"))


def test_a_page_is_taken_apart_into_what_can_be_run() -> None:
    page = (
        "```console\n$ a --b \\\n    c\nout 1\nout 2\n$ d\n```\n\n<!-- not run: no engine -->\n```bash\ne\n```\n"
        "```json\n{}\n```\n```python\nprint(1)\n```\n"
    )

    steps = list(steps_of(page))

    assert [(step.line, step.argv[-1], step.shown, step.not_run) for step in steps] == [
        (2, "a --b \\\n    c", "out 1\nout 2\n", ""),
        (6, "d", None, ""),
        (11, "e\n", None, "no engine"),
        (17, "print(1)\n", None, ""),
    ]


def steps_of(text: str) -> Iterator[Step]:
    """What the page's blocks hold, in order."""
    for block in BLOCK.finditer(text):
        first = text.count("\n", 0, block.start("body")) + 1
        not_run = block["reason"] or ""
        if block["language"] == "console":
            yield from _commands(block["body"], first, not_run)
        elif block["language"] == "bash":
            yield Step(first, ("bash", "-euo", "pipefail", "-c", block["body"]), None, not_run)
        else:
            yield Step(first, (sys.executable, "-c", block["body"]), None, not_run)


def _steps_in(page: Path) -> list[Step]:
    return list(steps_of(page.read_text()))


def _commands(body: str, first: int, not_run: str) -> Iterator[Step]:
    """Each command after `$ `, with its continuation lines and what is shown below it."""
    lines = body.splitlines(keepends=True)
    starts = [number for number, line in enumerate(lines) if line.startswith("$ ")]
    for start, end in zip(starts, [*starts[1:], len(lines)], strict=True):
        last = start
        while lines[last].endswith("\\\n"):
            last += 1
        command = "".join(lines[start : last + 1])[2:].rstrip("\n")
        shown = "".join(lines[last + 1 : end]) or None
        yield Step(first + start, ("bash", "-euo", "pipefail", "-c", command), shown, not_run)


async def _run(step: Step, served: Served, checkout: Path) -> None:
    argv = [part.replace("127.0.0.1:50051", served.grpc).replace("127.0.0.1:4000", served.http) for part in step.argv]
    process = await asyncio.create_subprocess_exec(
        *argv,
        cwd=checkout,
        env=_environment(served),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    async with asyncio.timeout(COMMAND_S):
        printed = (await process.communicate())[0].decode()
    assert process.returncode == 0, printed
    if step.shown is not None:
        assert settled(step.shown) in settled(printed), printed


def settled(output: str) -> str:
    """The output without what differs from run to run."""
    for pattern, word in VOLATILE:
        output = pattern.sub(word, output)
    return output.strip()


def _checkout(path: Path) -> Path:
    """A place that looks like the repository, where commands can leave files."""
    path.mkdir(exist_ok=True)
    for entry in ROOT.iterdir():
        if entry.name not in {".venv", "data"} and not path.joinpath(entry.name).exists():
            path.joinpath(entry.name).symlink_to(entry)
    if not path.joinpath(".venv").exists():
        path.joinpath(".venv").symlink_to(sys.prefix)
    return path


def _environment(served: Served) -> Mapping[str, str]:
    own = {name: value for name, value in os.environ.items() if not name.startswith("COHERENCE_")}
    return own | {
        "COHERENCE_GRPC": served.grpc,
        "COHERENCE_HTTP": served.http,
        "COHERENCE_DATA": str(served.directory),
        "COLUMNS": "200",
        "NO_COLOR": "1",
        "PATH": f"{Path(sys.prefix) / 'bin'}:{own['PATH']}",
    }

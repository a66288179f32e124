"""The command `coherence` as a person or a script runs it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from tests.serving import READY_S, Spoken, spoken

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from tests.serving import Served


async def run(served: Served | None, *arguments: str, stdin: str | bytes = b"", within_s: float = READY_S) -> Spoken:
    """What the command says to a served instance; no traceback, whatever happens."""
    # Wide, so that the path of a test's directory does not break a sentence into lines.
    environment = {"COLUMNS": "200"} if served is None else {"COLUMNS": "200", "COHERENCE_GRPC": served.grpc}
    given = stdin.encode() if isinstance(stdin, str) else stdin
    said = await spoken(*arguments, environment=environment, stdin=given, within_s=within_s)
    assert "Traceback" not in said.stdout + said.stderr
    return said


async def records(served: Served, *arguments: str, stdin: str | bytes = b"", exit_code: int = 0) -> list[Any]:
    """The JSON objects that the command prints."""
    said = await run(served, *arguments, "--json", stdin=stdin)
    assert said.exit_code == exit_code, said
    return [json.loads(line) for line in said.stdout.splitlines()]


async def record(served: Served, *arguments: str, stdin: str | bytes = b"") -> Any:  # noqa: ANN401 - JSON
    """The only JSON object that the command prints."""
    (only,) = await records(served, *arguments, stdin=stdin)
    return only


def json_lines(rows: Iterable[object]) -> str:
    """The rows as JSON lines."""
    return "".join(f"{json.dumps(row)}\n" for row in rows)


def lines_of(path: Path) -> list[Any]:
    """The JSON objects in a file."""
    return [json.loads(line) for line in path.read_text().splitlines()]

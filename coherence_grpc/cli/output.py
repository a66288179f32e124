"""What commands print: tables for people, one JSON object a line for programs."""

from __future__ import annotations

import json
import os
import sys
from functools import cache
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

# Without a terminal nothing is cut to a width that isn't there.
PIPED_WIDTH: Final = 160
STYLE: Final = {"HEALTHY": "green", "WARN": "yellow", "CRITICAL": "bold red", "UNKNOWN": "dim"}
NOTHING: Final = "–"


@cache
def screen() -> Console:
    """The console on stdout; NO_COLOR, COLUMNS and TERM are obeyed."""
    return _console(stderr=False)


@cache
def notes() -> Console:
    """The console on stderr, for progress and remarks."""
    return _console(stderr=True)


def _console(*, stderr: bool) -> Console:
    from rich.console import Console

    stream = sys.stderr if stderr else sys.stdout
    width = None if stream.isatty() or "COLUMNS" in os.environ else PIPED_WIDTH
    return Console(stderr=stderr, width=width, highlight=False, markup=False, emoji=False)


def say_json(record: Mapping[str, object]) -> None:
    """One JSON object on a line of its own, at once."""
    print(json.dumps(record, ensure_ascii=False, allow_nan=False), flush=True)


def a_table(*columns: str, right: tuple[str, ...] = (), title: str | None = None) -> Table:
    """An empty table; `right` names the columns of numbers. Cells are never cut: a narrow terminal folds them."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    table = Table(box=SIMPLE_HEAD, pad_edge=False, title=title, title_justify="left", title_style="bold")
    for column in columns:
        table.add_column(column, justify="right" if column in right else "left", overflow="fold")
    return table


def status_text(status: str) -> Text:
    """The status in its colour."""
    from rich.text import Text

    return Text(status, style=STYLE.get(status, ""), no_wrap=True)


def plain(text: str) -> Text:
    """Text that no markup is read from, with control characters made visible."""
    from rich.text import Text

    from coherence_grpc.cli.failure import printable

    return Text(printable(text))

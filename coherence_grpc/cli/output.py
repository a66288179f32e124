"""What commands print: tables for people, one JSON object a line for programs."""

from __future__ import annotations

import json
import os
import sys
from functools import cache
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping, Sequence

    from rich.console import Console, ConsoleOptions, RenderableType, RenderResult
    from rich.table import Table
    from rich.text import Text

# Without a terminal nothing is cut to a width that isn't there.
PIPED_WIDTH: Final = 1_000
ENDLESS: Final = 10_000
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


def on_terminal() -> bool:
    """Somebody watches stdout: what changes may be drawn anew. FORCE_COLOR alone makes no terminal."""
    return sys.stdout.isatty() and os.environ.get("TERM") != "dumb"


def say_json(record: Mapping[str, object]) -> None:
    """One JSON object on a line of its own, at once."""
    ascii_only = "utf" not in sys.stdout.encoding.lower()
    print(json.dumps(record, ensure_ascii=ascii_only, allow_nan=False), flush=True)


class Grid:
    """A table that goes without its optional columns, in the order in which they are named, where there is no room.

    Columns in `right` hold numbers; these and those in `whole` are never folded or cut.
    """

    def __init__(
        self,
        *columns: str,
        right: Collection[str] = (),
        whole: Collection[str] = (),
        optional: Sequence[str] = (),
        title: str | None = None,
    ) -> None:
        self._columns = columns
        self._right = right
        self._whole = {*right, *whole}
        self._optional = optional
        self._title = title
        self._rows: list[Sequence[RenderableType]] = []

    def add(self, *cells: RenderableType) -> None:
        """One more row, with a cell for every column."""
        self._rows.append(cells)

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        from rich.measure import Measurement

        # Measured as on a screen without end: the least width would come back as the screen's.
        endless = options.update_width(ENDLESS)

        def width_of(cell: RenderableType) -> int:
            return Measurement.get(console, endless, cell).maximum

        table = self._table((), width_of)
        for number in range(len(self._optional)):
            if Measurement.get(console, endless, table).minimum <= options.max_width:
                break
            table = self._table(self._optional[: number + 1], width_of)
        yield table

    def _table(self, without: Collection[str], width_of: Callable[[RenderableType], int]) -> Table:
        from rich.box import SIMPLE_HEAD
        from rich.table import Table

        table = Table(
            box=SIMPLE_HEAD,
            pad_edge=False,
            show_edge=False,
            title=self._title,
            title_justify="left",
            title_style="bold",
        )
        kept = [place for place, column in enumerate(self._columns) if column not in without]
        for place in kept:
            column = self._columns[place]
            whole = column in self._whole
            table.add_column(
                column,
                justify="right" if column in self._right else "left",
                overflow="fold",
                no_wrap=whole,
                # rich takes the longest word for the least width, also of what must not be wrapped.
                min_width=max(width_of(cell) for cell in (column, *(row[place] for row in self._rows)))
                if whole
                else None,
            )
        for row in self._rows:
            table.add_row(*(row[place] for place in kept))
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


def counted(number: int, noun: str) -> str:
    """`1 tenant`, `2 tenants`."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"

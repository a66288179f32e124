"""The progress bar of an import, on stderr; without a terminal there is none."""

from __future__ import annotations

import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING

from coherence_grpc.cli.output import notes

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from coherence_grpc.cli.importing.rows import Source


@contextmanager
def progress_bar(source: Source) -> Iterator[Callable[[], None]]:
    """A bar that follows the source's position whenever the function that comes back is called."""
    if not sys.stderr.isatty():
        yield lambda: None
        return
    from rich.progress import (
        BarColumn,
        Progress,
        TaskProgressColumn,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    columns = (TextColumn("importing"), BarColumn(), TaskProgressColumn(), TimeElapsedColumn(), TimeRemainingColumn())
    with Progress(*columns, console=notes()) as progress:
        task = progress.add_task("", total=source.total)
        yield lambda: progress.update(task, completed=source.position)

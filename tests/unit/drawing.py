"""What a command would print, without colours."""

from __future__ import annotations

from io import StringIO
from typing import TYPE_CHECKING

from rich.console import Console

if TYPE_CHECKING:
    from rich.console import RenderableType


def drawn(*pictures: RenderableType, width: int = 120) -> list[str]:
    """The lines, without what fills them up to the right."""
    written = StringIO()
    console = Console(file=written, width=width, color_system=None, force_terminal=True, legacy_windows=False)
    for picture in pictures:
        console.print(picture)
    return [line.rstrip() for line in written.getvalue().splitlines()]

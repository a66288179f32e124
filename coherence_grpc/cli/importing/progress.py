"""How far an import has come, kept beside its input so that it can go on where it stopped."""

from __future__ import annotations

import json
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from pathlib import Path

VERSION: Final = 1


@dataclass(slots=True)
class Counts:
    """What became of the rows so far."""

    stored: int = 0
    duplicate: int = 0
    rejected: int = 0
    batches: int = 0
    replaced: int = 0

    @property
    def rows(self) -> int:
        """All of them."""
        return self.stored + self.duplicate + self.replaced + self.rejected


@dataclass(slots=True)
class Witness:
    """A revision that the server gave after one of our batches: whoever knows it has what we sent."""

    tenant_id: str
    token: str


@dataclass(slots=True)
class Progress:
    """Batches that were answered: all below `through`, and those in `beyond`.

    `key` names the import: the input's content, how it is read, and how it is stored. `rejects_bytes` is how long the
    file of rejects was, and `lines` how many lines had been read, when this was written.
    """

    key: str
    through: int = 0
    beyond: set[int] = field(default_factory=set)
    lines: int = 0
    rejects_bytes: int = 0
    counts: Counts = field(default_factory=Counts)
    witness: Witness | None = None

    def answered(self, number: int) -> bool:
        """The batch need not be sent again."""
        return number < self.through or number in self.beyond

    def note(self, number: int) -> None:
        """The batch was answered."""
        self.beyond.add(number)
        while self.through in self.beyond:
            self.beyond.remove(self.through)
            self.through += 1

    @property
    def begun(self) -> bool:
        """There is something to go on from."""
        return bool(self.through or self.beyond)


class ProgressFile:
    """Where a Progress is kept while its import is unfinished."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def read(self, key: str) -> Progress:
        """What was kept for this import; a fresh start when there is nothing, or it belongs to another one."""
        with suppress(OSError, ValueError, TypeError, KeyError):
            kept: dict[str, Any] = json.loads(self.path.read_text("utf-8"))
            if kept.pop("version") == VERSION and kept["key"] == key:
                witness = kept.pop("witness")
                return Progress(
                    beyond=set(kept.pop("beyond")),
                    counts=Counts(**kept.pop("counts")),
                    witness=witness and Witness(**witness),
                    **kept,
                )
        return Progress(key)

    def write(self, progress: Progress) -> None:
        """Keep it, whole or not at all."""
        record = {"version": VERSION, **asdict(progress), "beyond": sorted(progress.beyond)}
        fresh = self.path.with_name(f"{self.path.name}.new")
        fresh.write_text(json.dumps(record), "utf-8")
        fresh.replace(self.path)

    def remove(self) -> None:
        """Nothing is left to go on with."""
        self.path.unlink(missing_ok=True)

"""What a backend is: where its program comes from, how it is set up and started, and when it answers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple, Protocol

if TYPE_CHECKING:
    import signal
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    Say = Callable[[str], None]

NAMES: Final = ("postgres", "redis", "neo4j")


class Missing(Exception):
    """The machine has no such server and it can't be installed from here; the text is one line with the remedy."""

    def __init__(self, part: str, lacks: str, remedy: str) -> None:
        super().__init__(f"{part}: {lacks}; {remedy}")
        self.part, self.lacks, self.remedy = part, lacks, remedy


class Launch(NamedTuple):
    """A server's command line, what it adds to the environment, and the user it runs as (None: ours)."""

    command: Sequence[str]
    environment: Mapping[str, str]
    user: str | None = None


class Part(Protocol):
    """One kind of server. Each module of this package that is named like a part is one."""

    STOP: signal.Signals
    """Ends the server soonest: its data is thrown away."""

    def prepare(self, say: Say) -> None:
        """See that the program is there, installing it where we may.

        Raises:
            Missing: it is not there, and naming the remedy.
        """
        ...

    def create(self, home: Path, password: str) -> None:
        """Fill an empty directory with what a new server needs."""
        ...

    def launch(self, home: Path, port: int) -> Launch:
        """How a server over that directory is started, for the first time or again."""
        ...

    def answers(self, port: int, password: str) -> bool:
        """The server takes a client's request."""
        ...

    def variables(self, port: int, password: str) -> Mapping[str, str]:
        """How clients find it."""
        ...

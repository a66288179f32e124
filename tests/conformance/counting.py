"""How many cases of each port's conformance suite each adapter is put to, without running any."""

from __future__ import annotations

from collections import defaultdict
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

# The fixture that brings the port, and each adapter's home by the name of its parameter.
PORTS: Final[Mapping[str, tuple[str, Sequence[str]]]] = {
    "SignalStore": ("signal_home", ("embedded", "neo4j")),
    "ScoreStore": ("score_home", ("embedded", "postgres")),
    "Doorbell": ("doorbell", ("local", "redis")),
    "RateLimiter": ("making", ("local", "redis")),
}
# Every test in these is a case of a store, whose name is none of an adapter.
SUITES: Final = frozenset(
    f"test_{name}.py"
    for name in (
        "append",
        "heads",
        "lost_stores",
        "own_entries",
        "policies",
        "prune",
        "reads",
        "replace",
        "replace_prune",
        "scores",
        "window_parts",
        "windows",
    )
)


class Collected:
    """A plugin of pytest that takes down what is collected."""

    def __init__(self) -> None:
        self.cases: dict[str, dict[str, set[str]]] = defaultdict(lambda: defaultdict(set))
        self.homeless: list[str] = []

    def pytest_collection_modifyitems(self, items: Sequence[pytest.Item]) -> None:
        """Take each case down under its port and its home; a case of two ports counts for both."""
        for item in items:
            spec = getattr(item, "callspec", None)
            ports = [port for port, (fixture, _) in PORTS.items() if spec is not None and fixture in spec.params]
            for port in ports:
                home, name = _told_apart(item, PORTS[port][0])
                self.cases[port][home].add(name)
            if not ports and item.path.name in SUITES:
                self.homeless.append(item.nodeid)


def _told_apart(item: pytest.Item, fixture: str) -> tuple[str, str]:
    """The home of a case, and the name that the case has in every home."""
    given = item.callspec  # type: ignore[attr-defined] # of a function with parameters
    place = list(given.params).index(fixture)
    words = list(given._idlist)
    home = words.pop(place)
    return home, f"{item.path.name}::{item.originalname}[{'-'.join(words)}]"  # type: ignore[attr-defined] # the same


def collected() -> Collected:
    """The cases of each port, by the home of the adapter."""
    counter = Collected()
    arguments = ["--collect-only", "-p", "no:randomly", "-p", "no:xdist", str(Path(__file__).parent)]
    with redirect_stdout(StringIO()) as said:
        ended = pytest.main(arguments, plugins=[counter])
    if ended is not pytest.ExitCode.OK:
        raise RuntimeError(said.getvalue())
    return counter


def summary(cases: Mapping[str, Mapping[str, set[str]]]) -> Iterator[str]:
    """One line for each port."""
    for port, (_, homes) in PORTS.items():
        counts = ", ".join(f"{len(cases.get(port, {}).get(home, ()))} on {home}" for home in homes)
        yield f"{port:12} {counts}"


def problems(found: Collected) -> Iterator[str]:
    """A port without cases, a home that is not put to all of them, and a test of a suite that has no home."""
    for port, (_, homes) in PORTS.items():
        there = found.cases[port]
        every = set().union(*there.values())
        if not every:
            yield f"no conformance case for {port} was collected"
        for home in sorted({*homes, *there}):
            for name in sorted(every - there[home]):
                yield f"{port} on {home} is not put to {name}"
    yield from (f"{name} is put to one adapter alone; give it a home" for name in found.homeless)

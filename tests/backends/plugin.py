"""The pytest side of the servers: fixtures, markers, and what a run says of those that are missing."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Final

import pytest
from _pytest.nodeid import coerce_node_id

from tests.backends import fixtures
from tests.backends.parts import NAMES

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tests.backends.fixtures import Neo4jAuth

BY_FIXTURE: Final = {
    "postgres_uri": (fixtures.POSTGRES,),
    "redis_url": (fixtures.REDIS,),
    "neo4j_auth": fixtures.NEO4J,
}


@pytest.fixture(scope="session")
def postgres_uri() -> str:
    """A PostgreSQL server."""
    return fixtures.postgres_uri()


@pytest.fixture(scope="session")
def redis_url() -> str:
    """A Redis server."""
    return fixtures.redis_url()


@pytest.fixture(scope="session")
def neo4j_auth() -> Neo4jAuth:
    """A Neo4j server."""
    return fixtures.neo4j_auth()


def pytest_configure() -> None:
    """Refuse to require a server that doesn't exist: it would never be missed."""
    unknown = fixtures.unknown_requirements()
    if unknown:
        message = f"{fixtures.REQUIRED} names {', '.join(unknown)}; there are {', '.join(NAMES)}"
        raise pytest.UsageError(message)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: Sequence[pytest.Item]) -> None:
    """Mark by its fixtures what needs a server, before -m and --dist look at the marks."""
    for item in items:
        for name in BY_FIXTURE.keys() & set(getattr(item, "fixturenames", ())):
            for mark in BY_FIXTURE[name]:
                item.add_marker(mark)
    if getattr(config.option, "loadgroup", False):
        for item in items:
            _group(item)


def _group(item: pytest.Item) -> None:
    """Name the item's group in its id, where pytest-xdist looks for it.

    pytest-xdist 3.8 writes it to an attribute that pytest 9.2 no longer reads, and spreads a group over all workers.
    """
    for mark in item.iter_markers("xdist_group"):
        item._id = coerce_node_id(f"{item.nodeid}@{mark.args[0]}")
        break


def pytest_collection_finish(session: pytest.Session) -> None:
    """Prepare what the chosen tests need before the first of them begins: a download takes longer than a test may."""
    if not session.config.option.collectonly:
        for part in sorted({mark.args[0] for item in session.items for mark in item.iter_markers("external")}):
            fixtures.prepare(part)


def pytest_unconfigure() -> None:
    """Let the servers end with the run."""
    fixtures.leave()


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """One line for each server that tests were skipped for."""
    reports = terminalreporter.stats.get("skipped", ())
    reasons = Counter(report.longrepr[2] for report in reports if isinstance(report.longrepr, tuple))
    for reason, count in sorted(reasons.items()):
        if fixtures.ABSENT in reason:
            terminalreporter.write_line(f"{count} tests skipped: {reason.removeprefix('Skipped: ')}", yellow=True)

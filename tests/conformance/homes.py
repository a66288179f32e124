"""Where the stores of each adapter live: what is opened there again finds what was committed."""

from __future__ import annotations

from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING, Protocol

from coherence_grpc.adapters.embedded import open_score_store, open_signal_store
from tests.backends.fixtures import NEO4J, POSTGRES, postgres_uri
from tests.builders import ManualClock
from tests.conformance.on_neo4j import a_migrated_graph
from tests.conformance.on_postgres import PostgresHome, a_migrated_schema

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Mapping, Sequence
    from contextlib import AbstractAsyncContextManager
    from pathlib import Path

    import pytest

    from coherence_grpc.ports import Clock, ScoreStore, SignalStore


class SignalHome(Protocol):
    """One adapter's signal store."""

    def signals(self, clock: Clock) -> AbstractAsyncContextManager[SignalStore]: ...

    def lost_signals(self) -> AbstractAsyncContextManager[SignalStore]:
        """A store that can't be reached."""
        ...


class ScoreHome(Protocol):
    """One adapter's score store."""

    def scores(self) -> AbstractAsyncContextManager[ScoreStore]: ...

    def lost_scores(self) -> AbstractAsyncContextManager[ScoreStore]:
        """A store that can't be reached."""
        ...


class EmbeddedHome:
    """A data directory."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def signals(self, clock: Clock) -> AbstractAsyncContextManager[SignalStore]:
        return open_signal_store(self._directory, clock)

    def scores(self) -> AbstractAsyncContextManager[ScoreStore]:
        return open_score_store(self._directory)

    @asynccontextmanager
    async def lost_signals(self) -> AsyncIterator[SignalStore]:
        async with AsyncExitStack() as stack:
            store = await stack.enter_async_context(self.signals(ManualClock()))
        yield store

    @asynccontextmanager
    async def lost_scores(self) -> AsyncIterator[ScoreStore]:
        async with AsyncExitStack() as stack:
            store = await stack.enter_async_context(self.scores())
        yield store


@asynccontextmanager
async def embedded_home(directory: Path) -> AsyncIterator[EmbeddedHome]:
    """In an empty directory."""
    yield EmbeddedHome(directory)


@asynccontextmanager
async def postgres_home(_: Path) -> AsyncIterator[ScoreHome]:
    """In an empty schema."""
    async with a_migrated_schema(postgres_uri()) as schema:
        yield PostgresHome(schema)


@asynccontextmanager
async def neo4j_home(_: Path) -> AsyncIterator[SignalHome]:
    """In an emptied database."""
    async with a_migrated_graph() as home:
        yield home


SIGNAL_HOMES: Mapping[str, Callable[[Path], AbstractAsyncContextManager[SignalHome]]] = {
    "embedded": embedded_home,
    "neo4j": neo4j_home,
}
SCORE_HOMES: Mapping[str, Callable[[Path], AbstractAsyncContextManager[ScoreHome]]] = {
    "embedded": embedded_home,
    "postgres": postgres_home,
}
MARKS: Mapping[str, Sequence[pytest.MarkDecorator]] = {"neo4j": NEO4J, "postgres": [POSTGRES]}

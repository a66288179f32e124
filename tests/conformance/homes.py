"""Where the stores of each adapter live: what is opened there again finds what was committed."""

from __future__ import annotations

from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING, Protocol
from uuid import uuid4

from coherence_grpc.adapters import postgres
from coherence_grpc.adapters.embedded import open_score_store, open_signal_store
from tests.builders import ManualClock

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Mapping
    from contextlib import AbstractAsyncContextManager
    from pathlib import Path

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


class PostgresHome:
    """A schema of its own on the server of the run."""

    def __init__(self) -> None:
        from tests.backends.fixtures import postgres_uri

        self.uri = postgres_uri()
        self.namespace = f"test_{uuid4().hex}"

    @asynccontextmanager
    async def scores(self) -> AsyncIterator[ScoreStore]:
        await postgres.migrate(self.uri, namespace=self.namespace)
        async with postgres.open_score_store(self.uri, namespace=self.namespace) as store:
            yield store

    @asynccontextmanager
    async def lost_scores(self) -> AsyncIterator[ScoreStore]:
        async with AsyncExitStack() as stack:
            store = await stack.enter_async_context(self.scores())
        yield store


SIGNAL_HOMES: Mapping[str, Callable[[Path], SignalHome]] = {"embedded": EmbeddedHome}
SCORE_HOMES: Mapping[str, Callable[[Path], ScoreHome]] = {
    "embedded": EmbeddedHome,
    "postgres": lambda _: PostgresHome(),
}

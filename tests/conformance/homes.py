"""Where the stores of each adapter live: what is opened there again finds what was committed."""

from __future__ import annotations

from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING, Protocol

from coherence_grpc.adapters.embedded import open_score_store, open_signal_store
from tests.builders import ManualClock

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping
    from contextlib import AbstractAsyncContextManager
    from pathlib import Path

    from coherence_grpc.ports import Clock, ScoreStore, SignalStore


class Home(Protocol):
    """One adapter's stores."""

    def signals(self, clock: Clock) -> AbstractAsyncContextManager[SignalStore]: ...

    def scores(self) -> AbstractAsyncContextManager[ScoreStore]: ...

    def lost_signals(self) -> AbstractAsyncContextManager[SignalStore]:
        """A store that can't be reached."""
        ...

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


HOMES: Mapping[str, type[EmbeddedHome]] = {"embedded": EmbeddedHome}

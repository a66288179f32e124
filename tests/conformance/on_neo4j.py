"""The run's Neo4j, emptied: the signal store on it, and a way to look behind the store's back."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

from neo4j import AsyncGraphDatabase

from coherence_grpc.adapters import neo4j
from tests.backends.fixtures import emptied, neo4j_auth
from tests.builders import ManualClock
from tests.faultproxy import fault_proxy

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from contextlib import AbstractAsyncContextManager

    from coherence_grpc.ports import Clock, SignalStore
    from tests.backends.fixtures import Neo4jAuth
    from tests.faultproxy import FaultProxy

# What a store does is tested by many at once, on few cores; what it does in time is tested behind a proxy.
PATIENCE: Final = 10.0


class Neo4jHome:
    """The server's one database."""

    def __init__(self, auth: Neo4jAuth, *, patience: float = 1.0) -> None:
        self.auth = auth
        self._patience = patience

    def signals(self, clock: Clock) -> AbstractAsyncContextManager[SignalStore]:
        return neo4j.open_signal_store(*self.auth, clock, patience=self._patience)

    @asynccontextmanager
    async def lost_signals(self) -> AsyncIterator[SignalStore]:
        async with self.behind_a_proxy() as (proxy, through), through.signals(ManualClock()) as store:
            proxy.refuse()
            yield store

    @asynccontextmanager
    async def behind_a_proxy(self) -> AsyncIterator[tuple[FaultProxy, Neo4jHome]]:
        """A proxy before the server, and the way through it."""
        port = urlsplit(self.auth.uri).port
        assert port
        async with fault_proxy(port) as proxy:
            yield proxy, Neo4jHome(self.auth._replace(uri=f"bolt://127.0.0.1:{proxy.port}"))

    async def look(self, query: str, **parameters: object) -> list[list[Any]]:
        """The records that a query finds, or makes, without the store."""
        async with AsyncGraphDatabase.driver(self.auth.uri, auth=(self.auth.user, self.auth.password)) as driver:
            found = await driver.execute_query(query, parameters)
            return [list(record.values()) for record in found.records]

    async def plan(self, query: str, parameters: dict[str, object]) -> list[tuple[str, str]]:
        """The operators of the query's plan, each with its details."""
        async with AsyncGraphDatabase.driver(self.auth.uri, auth=(self.auth.user, self.auth.password)) as driver:
            found = await driver.execute_query(f"EXPLAIN {query}", parameters)
            return list(_operators(found.summary.plan))


def _operators(plan: Any) -> Any:  # noqa: ANN401 - as the driver has it
    yield plan["operatorType"].partition("@")[0], plan["args"].get("Details", "")
    for child in plan.get("children", ()):
        yield from _operators(child)


@asynccontextmanager
async def a_migrated_graph() -> AsyncIterator[Neo4jHome]:
    """Without nodes but for what the migrations make."""
    auth = await emptied(neo4j_auth())
    await neo4j.migrate(*auth)
    yield Neo4jHome(auth, patience=PATIENCE)

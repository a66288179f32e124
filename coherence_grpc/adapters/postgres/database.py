"""The pool of connections: what is begun on one goes on without a caller that left, and has an end."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Final, TypeVar

from psycopg_pool import AsyncConnectionPool, PoolClosed, PoolTimeout, TooManyRequests

from coherence_grpc.adapters.postgres.connecting import alive, answering, connected, conninfo
from coherence_grpc.adapters.postgres.failures import TITLE, late, lost
from coherence_grpc.breaker import Breaker
from coherence_grpc.deadline import within
from coherence_grpc.errors import Concurrency, StoreDown
from coherence_grpc.owning import Owner
from coherence_grpc.silence import Watch

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence

    from coherence_grpc.adapters.postgres.connecting import Connection
    from coherence_grpc.deadline import Limit

# A row by its key takes a millisecond; who reads has another place to look.
READ_S: Final = 2.0
# Few calls are made where scores are kept in memory, and each of a silent server takes seconds: the first ones tell.
BREAKER_WINDOW_S: Final = 4.0
BREAKER_MINIMUM: Final = 3
POOL_S: Final = 1.0
MAX_WAITING: Final = 256
CONNECTIONS: Final = 8
# The pool waits twice as long after each attempt: given up soon, the next call makes it try at once.
_RECONNECT_S: Final = 2.0
_CLOSE_S: Final = 1.0

T = TypeVar("T")


class Database:
    """Runs statements of one schema; each commits by itself unless the work begins a transaction."""

    def __init__(self, uri: str, namespace: str, *, connections: int = CONNECTIONS) -> None:
        self._pool: AsyncConnectionPool[Connection] = AsyncConnectionPool(
            conninfo(uri, namespace),
            min_size=1,
            max_size=connections,
            open=False,
            kwargs={"autocommit": True},
            timeout=POOL_S,
            max_waiting=MAX_WAITING,
            reconnect_timeout=_RECONNECT_S,
            name="coherence",
        )
        self.breaker = Breaker(TITLE, window_s=BREAKER_WINDOW_S, minimum=BREAKER_MINIMUM)
        self._watch = Watch(lambda: _knock(uri, namespace), self.breaker.trip)
        self._busy = 0
        self.owner = Owner()
        self._closed = False

    async def open(self) -> None:
        """Connects in the background."""
        await self._pool.open()

    async def close(self) -> None:
        """Waits for what was begun and lets go of the connections."""
        self._closed = True
        await self.owner.settle()
        await self._watch.close()
        await self._pool.close(_CLOSE_S)

    async def rows(self, query: str, parameters: Mapping[str, object], *, limit_s: float = READ_S) -> Sequence[Any]:
        """What the query finds."""

        async def work(connection: Connection) -> Sequence[Any]:
            return await fetch(connection, query, parameters)

        return await self.run(work, limit_s=limit_s, writes=False)

    async def run(self, work: Callable[[Connection], Awaitable[T]], *, limit_s: float, writes: bool) -> T:
        """The work's result, after at most `limit_s`; when the caller is cancelled the work goes on.

        Raises:
            OutcomeUnknown: the work `writes`, and the server was lost before it answered.
        """
        if self._closed:
            message = f"the {TITLE} is closed because the server is shutting down; nothing was stored"
            raise StoreDown(message)
        return await self.owner.owned(self._run(work, within(limit_s), writes=writes))

    async def _run(self, work: Callable[[Connection], Awaitable[T]], limit: Limit, *, writes: bool) -> T:
        with self.breaker.call(), limit.kept():
            deadline = asyncio.get_running_loop().time() + limit.seconds
            async with self._connection() as connection, answering(connection, deadline, sent=writes) as cut_off:
                with self._watch.over(cut_off):
                    return await work(connection)

    @asynccontextmanager
    async def _connection(self) -> AsyncIterator[Connection]:
        connection = await self._take()
        self._busy += 1
        try:
            yield connection
        finally:
            self._busy -= 1
            await self._pool.putconn(connection)

    async def _take(self) -> Connection:
        """A connection that its server has not left: a restart leaves as many dead ones as there were."""
        try:
            async with asyncio.timeout(POOL_S):
                while True:
                    connection = await self._pool.getconn()
                    if alive(connection):
                        return connection
                    await connection.close()
                    await self._pool.putconn(connection)
        except TooManyRequests:
            message = f"{MAX_WAITING} calls wait for the {TITLE} already; retry"
            raise Concurrency(message, retry_after_s=POOL_S) from None
        except (PoolTimeout, PoolClosed, TimeoutError):
            # With connections at work the server is slow; else it gives none.
            raise (late if self._busy else lost)(sent=False) from None


async def _knock(uri: str, namespace: str) -> None:
    """Asks whether the server is there: one that lets somebody in is."""
    async with connected(uri, namespace):
        pass


async def fetch(connection: Connection, query: str, parameters: Mapping[str, object]) -> Sequence[Any]:
    """All rows of one statement, which the server prepares the first time."""
    async with connection.cursor(binary=True) as cursor:
        await cursor.execute(query, parameters, prepare=True)
        return await cursor.fetchall()

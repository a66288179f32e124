"""The server, asked in time: each query and each transaction has an end, and fails in the domain's words."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from random import uniform
from typing import TYPE_CHECKING, Any, Final, TypeVar

from neo4j import AsyncGraphDatabase, Query

from coherence_grpc.adapters.neo4j.failures import (
    FAILURES,
    TITLE,
    late,
    lost,
    no_address,
    passing,
    refusal_of,
    refusal_of_connecting,
    rolled_back,
    severed,
    unsure,
)
from coherence_grpc.breaker import Breaker
from coherence_grpc.deadline import within
from coherence_grpc.errors import StoreDown
from coherence_grpc.owning import Owner
from coherence_grpc.silence import ANSWER_S, Watch

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Sequence

    from neo4j import AsyncDriver, AsyncTransaction

SCHEMES: Final = ("bolt://", "bolt+s://", "bolt+ssc://", "neo4j://", "neo4j+s://", "neo4j+ssc://")
OPERATION_S: Final = 5.0
# Some rows by an index take a millisecond; the first query of its kind is planned for longer.
QUICK_S: Final = 2.0
# The server's own limit: a client that stops inside a transaction holds others up for so long, and up to two seconds
# more until the server looks.
TRANSACTION_S: Final = 2.0
# Ten times what a row takes when nothing else runs.
ROW_S: Final = 0.001
# Half a second away, a connection takes two; that nobody is there is found out sooner, by asking.
CONNECT_S: Final = 2.0
POOL_S: Final = 3.0
# One lane of writing makes few calls: a server that stops answering is told by the first ones that fail.
BREAKER_WINDOW_S: Final = 2.5
BREAKER_MINIMUM: Final = 2
CONNECTIONS: Final = 50
# A transaction that met another one is tried again, after longer and longer pauses.
TRIES: Final = 8
PAUSE_S: Final = 0.01
# A connection that breaks sooner than this was dead before: the server was restarted since it was made.
STALE_S: Final = 0.5
# For a limit that ends at once; no deadline is so early.
_NOW: Final = 0.0

T = TypeVar("T")


class Statements:
    """The queries of one transaction, which is committed when one of them was a `change`."""

    def __init__(self, transaction: AsyncTransaction) -> None:
        self._transaction = transaction
        self.changed = False

    async def ask(self, query: str, **parameters: object) -> Sequence[Any]:
        """The values of the one record that the query finds; empty when it finds none."""
        result = await self._transaction.run(query, parameters)
        record = await result.single()
        return () if record is None else record.values()

    async def change(self, query: str, **parameters: object) -> None:
        """Runs a query that is to be kept."""
        self.changed = True
        await (await self._transaction.run(query, parameters)).consume()


class Graph:
    """One database of a server. What it owns goes on without a caller that left, and is waited for at the end."""

    def __init__(self, driver: AsyncDriver, other: AsyncDriver, database: str, *, patience: float = 1.0) -> None:
        """`other` is asked whether the server is there while calls on `driver` wait."""
        self._driver = driver
        self._other = other
        self._database = database
        self._patience = patience
        self.breaker = Breaker(TITLE, window_s=BREAKER_WINDOW_S, minimum=BREAKER_MINIMUM)
        self._watch = Watch(self._knock, self.breaker.trip, answer_s=ANSWER_S * patience)
        self._owner = Owner()
        self._closing = False
        self._closed = False

    async def close(self) -> None:
        """Waits for what was begun, and begins nothing new."""
        self._closing = True
        await self._owner.settle()
        self._closed = True
        await self._watch.close()

    def check_open(self) -> None:
        """Raises StoreDown once the store is being closed."""
        _check(open_=not self._closing)

    async def owned(self, work: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """The work's result; when the caller is cancelled the work goes on."""
        self.check_open()
        return await self._owner.owned(work())

    def spawn(self, work: Coroutine[Any, Any, None]) -> None:
        """Begins work that nobody waits for but `close`."""
        self._owner.spawn(work)

    async def ask(self, query: str, *, limit_s: float = QUICK_S, **parameters: object) -> Sequence[Any]:
        """The values of the one record that the query finds; empty when it finds none."""
        limit = within(limit_s * self._patience)

        async def once() -> Sequence[Any]:
            async with self._driver.session(database=self._database, fetch_size=-1) as session:
                result = await session.run(Query(query, timeout=limit.seconds), parameters)
                record = await result.single()
                return () if record is None else record.values()

        _check(open_=not self._closed)
        with self.breaker.call(), limit.kept():
            return await self._persist(once, limit.seconds)

    async def transact(self, work: Callable[[Statements], Awaitable[T]], *, rows: int = 0) -> T:
        """The work's result, once what it changed is committed; the work may run again when others were in the way.

        A work of many `rows` has more time, here and on the server.

        Raises:
            OutcomeUnknown: the server was lost after the commit was sent.
        """
        _check(open_=not self._closed)
        on_server, here = (self._patience * (limit_s + rows * ROW_S) for limit_s in (TRANSACTION_S, OPERATION_S))
        limit = within(here)
        with self.breaker.call(), limit.kept():
            return await self._persist(lambda: self._transact(work, min(on_server, limit.seconds)), limit.seconds)

    async def _transact(self, work: Callable[[Statements], Awaitable[T]], limit_on_server: float) -> T:
        async with self._driver.session(database=self._database, fetch_size=-1) as session:
            transaction = await session.begin_transaction(timeout=limit_on_server)
            statements = Statements(transaction)
            result = await work(statements)
            if statements.changed:
                await _commit(transaction)
            else:
                await transaction.rollback()
            return result

    async def _persist(self, once: Callable[[], Awaitable[T]], limit_s: float) -> T:
        loop = asyncio.get_running_loop()
        begun = loop.time()
        deadline = begun + limit_s
        for attempt in range(TRIES):
            try:
                return await self._in_time(once, deadline)
            except FAILURES as error:
                refusal = refusal_of(error)
                if refusal is None:
                    raise
                stale = severed(error) and not attempt and loop.time() - begun < STALE_S
                pause = uniform(0, PAUSE_S * 2**attempt)  # noqa: S311 - spread, not secret
                if not (stale or passing(error)) or loop.time() + pause >= deadline:
                    raise refusal from error
            await asyncio.sleep(pause)
        raise late()

    async def _in_time(self, once: Callable[[], Awaitable[T]], deadline: float) -> T:
        """Until the deadline, or until the server is found to say nothing."""
        limit = asyncio.timeout_at(deadline)
        try:
            async with limit:
                with self._watch.over(lambda: limit.reschedule(_NOW)):
                    return await once()
        except TimeoutError as error:
            refusal = lost() if limit.when() == _NOW else late()
            raise refusal from error

    async def _knock(self) -> None:
        """Asks whether the server is there; a connection that broke before says nothing about it.

        Raises:
            StoreDown: nobody is.
        """
        for _ in range(2):
            try:
                async with self._other.session(database=self._database) as session:
                    await (await session.run("RETURN 1")).consume()
            except FAILURES as error:
                if not severed(error):
                    return
            else:
                return
        raise lost()


def _check(*, open_: bool) -> None:
    if not open_:
        message = f"the {TITLE} is closed because the server is shutting down; nothing was stored"
        raise StoreDown(message)


async def _commit(transaction: AsyncTransaction) -> None:
    try:
        await transaction.commit()
    except asyncio.CancelledError as error:
        # Only the limit on its time cancels it.
        raise unsure() from error
    except FAILURES as error:
        if rolled_back(error):
            raise
        raise unsure() from error


@asynccontextmanager
async def connected(
    uri: str, user: str, password: str, *, database: str = "neo4j", patience: float = 1.0
) -> AsyncIterator[Graph]:
    """A server that answers; `patience` multiplies every limit of time.

    Raises:
        SettingsInvalid: the address, the user or the password is wrong.
        StoreDown, StoreTimeout: it can't be reached.
    """
    async with (
        _driver(uri, user, password, connections=CONNECTIONS) as driver,
        _driver(uri, user, password, connections=1) as other,
    ):
        await _greet(driver, database)
        # A server that has just started takes long to let somebody in: not when it is asked whether it is there.
        await _greet(other, database)
        graph = Graph(driver, other, database, patience=patience)
        try:
            yield graph
        finally:
            await graph.close()


async def _greet(driver: AsyncDriver, database: str) -> None:
    try:
        async with asyncio.timeout(OPERATION_S), driver.session(database=database) as session:
            await (await session.run("RETURN 1")).consume()
    except TimeoutError as error:
        raise late() from error
    except FAILURES as error:
        raise refusal_of_connecting(error) from error


@asynccontextmanager
async def _driver(uri: str, user: str, password: str, *, connections: int) -> AsyncIterator[AsyncDriver]:
    if not uri.startswith(SCHEMES):
        raise no_address()
    try:
        driver = AsyncGraphDatabase.driver(
            uri,
            auth=(user, password),
            connection_timeout=CONNECT_S,
            connection_acquisition_timeout=POOL_S,
            max_connection_pool_size=connections,
            max_transaction_retry_time=0,
            keep_alive=True,
            notifications_min_severity="OFF",
            telemetry_disabled=True,
            user_agent="coherence",
        )
    except (*FAILURES, ValueError):
        # The driver quotes the address, and somebody may have put a password into it.
        raise no_address() from None
    try:
        yield driver
    finally:
        try:
            async with asyncio.timeout(CONNECT_S):
                await driver.close()
        except (TimeoutError, *FAILURES):
            # It says goodbye to a server that is gone.
            pass

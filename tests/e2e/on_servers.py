"""Services on real servers: a database, a graph and keys of the test's own."""

from __future__ import annotations

import secrets
from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING
from urllib.parse import urlsplit, urlunsplit

from psycopg import AsyncConnection
from psycopg.sql import SQL, Identifier
from redis.asyncio import Redis

from coherence_grpc.adapters import neo4j, postgres
from tests.backends.fixtures import VARIABLES, emptied, neo4j_auth, postgres_uri, redis_url
from tests.serving import spoken

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping
    from contextlib import AbstractAsyncContextManager

    from tests.backends.sharing import Own

# As many as Redis has unless it is told otherwise.
DATABASES = 16
CURSOR_KEYS = f"1:{secrets.token_hex(32)}"


@asynccontextmanager
async def fresh_servers(own: Own | None = None) -> AsyncIterator[Mapping[str, str]]:
    """The environment of a service on an emptied Neo4j, an empty database of PostgreSQL and an emptied one of Redis.

    A server of the test's `own` takes the place of the shared one of its kind, as it is.
    """
    environment = {"COHERENCE_CURSOR_KEYS": CURSOR_KEYS} | (dict(own.variables) if own else {})
    async with AsyncExitStack() as stack:
        if "POSTGRES_URI" not in environment:
            environment["POSTGRES_URI"] = await stack.enter_async_context(fresh_database(postgres_uri()))
        if "NEO4J_URI" not in environment:
            auth = await emptied(neo4j_auth())
            environment |= {"NEO4J_URI": auth.uri, "NEO4J_USER": auth.user, "NEO4J_PASSWORD": auth.password}
        if "REDIS_URL" not in environment:
            environment["REDIS_URL"] = fresh_keys(redis_url())
            async with Redis.from_url(environment["REDIS_URL"]) as redis:
                await redis.flushdb()
        await postgres.migrate(environment["POSTGRES_URI"])
        await neo4j.migrate(*(environment[name] for name in VARIABLES["neo4j"]))
        yield environment


def fresh_keys(url: str) -> str:
    """The address of a database of the server other than that of tests with a prefix of their own."""
    number = 1 + secrets.randbelow(DATABASES - 1)
    return urlunsplit(urlsplit(url)._replace(path=f"/{number}"))


@asynccontextmanager
async def fresh_database(uri: str, *, template: str = "template1") -> AsyncIterator[str]:
    """The address of a new database, a copy of the template's; it is dropped with all that is in it."""
    name = f"t{secrets.token_hex(8)}"
    create = SQL("CREATE DATABASE {} TEMPLATE {}").format(Identifier(name), Identifier(template))
    async with await AsyncConnection.connect(uri, autocommit=True) as connection:
        await connection.execute(create)
    try:
        yield urlunsplit(urlsplit(uri)._replace(path=f"/{name}"))
    finally:
        async with await AsyncConnection.connect(uri, autocommit=True) as connection:
            await connection.execute(SQL("DROP DATABASE {} WITH (FORCE)").format(Identifier(name)))


def copied_database(uri: str) -> AbstractAsyncContextManager[str]:
    """The address of a copy of that database, which nobody may use meanwhile."""
    return fresh_database(postgres_uri(), template=urlsplit(uri).path.removeprefix("/"))


async def migrated(environment: Mapping[str, str]) -> None:
    """Bring the servers' schemas up to date, as whoever runs the service does."""
    said = await spoken("migrate", "up", environment=environment)
    assert said.exit_code == 0, said

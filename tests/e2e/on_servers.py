"""Services on real servers: a database, a graph and keys of the test's own."""

from __future__ import annotations

import secrets
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING
from urllib.parse import urlsplit, urlunsplit

from psycopg import AsyncConnection
from psycopg.sql import SQL, Identifier
from redis.asyncio import Redis

from tests.backends.fixtures import emptied, neo4j_auth, postgres_uri, redis_url
from tests.serving import spoken

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

CURSOR_KEYS = f"1:{secrets.token_hex(32)}"


@asynccontextmanager
async def fresh_servers() -> AsyncIterator[Mapping[str, str]]:
    """The environment of a service on an emptied Neo4j, an empty database of PostgreSQL and an emptied Redis."""
    async with fresh_database(postgres_uri()) as uri:
        auth = await emptied(neo4j_auth())
        async with Redis.from_url(redis_url()) as redis:
            await redis.flushall()
        environment = {
            "NEO4J_URI": auth.uri,
            "NEO4J_USER": auth.user,
            "NEO4J_PASSWORD": auth.password,
            "POSTGRES_URI": uri,
            "REDIS_URL": redis_url(),
            "COHERENCE_CURSOR_KEYS": CURSOR_KEYS,
        }
        await migrated(environment)
        yield environment


@asynccontextmanager
async def fresh_database(uri: str) -> AsyncIterator[str]:
    """The address of a new database, which is dropped with all that is in it."""
    name = f"t{secrets.token_hex(8)}"
    async with await AsyncConnection.connect(uri, autocommit=True) as connection:
        await connection.execute(SQL("CREATE DATABASE {}").format(Identifier(name)))
    try:
        yield urlunsplit(urlsplit(uri)._replace(path=f"/{name}"))
    finally:
        async with await AsyncConnection.connect(uri, autocommit=True) as connection:
            await connection.execute(SQL("DROP DATABASE {} WITH (FORCE)").format(Identifier(name)))


async def migrated(environment: Mapping[str, str]) -> None:
    """Bring the servers' schemas up to date, as whoever runs the service does."""
    said = await spoken("migrate", "up", environment=environment)
    assert said.exit_code == 0, said

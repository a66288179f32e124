"""What a test asks for when it needs a real server, and how it gets a corner of its own there.

A test says which servers it needs by a marker, `POSTGRES`, `REDIS` or `NEO4J` (as `pytestmark`, decorator or mark of a
parameter), or by the fixture `postgres_uri`, `redis_url` or `neo4j_auth`, which brings the marker. A server that is
missing is a skip that names the remedy, and an error when COHERENCE_REQUIRE_BACKENDS names it.
"""

from __future__ import annotations

import os
import secrets
from contextlib import asynccontextmanager, contextmanager, suppress
from typing import TYPE_CHECKING, Final, NamedTuple

import pytest
from neo4j import AsyncGraphDatabase
from psycopg import AsyncConnection
from psycopg.sql import SQL, Identifier

from tests.backends.parts import NAMES, Missing
from tests.backends.server import DidNotStart
from tests.backends.sharing import PREPARE_S, Connection, own_server

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator, Mapping, Sequence

    from tests.backends.sharing import Own

POSTGRES: Final = pytest.mark.external("postgres")
REDIS: Final = pytest.mark.external("redis")
# One database for all: its tests run one after the other.
NEO4J: Final = (pytest.mark.external("neo4j"), pytest.mark.xdist_group("neo4j"))
VARIABLES: Final[Mapping[str, Sequence[str]]] = {
    "postgres": ("POSTGRES_URI",),
    "redis": ("REDIS_URL",),
    "neo4j": ("NEO4J_URI", "NEO4J_USER", "NEO4J_PASSWORD"),
}
REQUIRED: Final = "COHERENCE_REQUIRE_BACKENDS"
MAY_EMPTY: Final = "COHERENCE_TESTS_EMPTY_NEO4J"
ABSENT: Final = "missing server"
DROP_S: Final = 10

_connections: list[Connection] = []


class Neo4jAuth(NamedTuple):
    """How a client reaches Neo4j."""

    uri: str
    user: str
    password: str


def postgres_uri() -> str:
    """A PostgreSQL server whose user may do everything; keep to a schema of `fresh_schema`."""
    return _variables("postgres")["POSTGRES_URI"]


def redis_url() -> str:
    """A Redis server; keep to keys that begin with a `fresh_prefix`."""
    return _variables("redis")["REDIS_URL"]


def neo4j_auth() -> Neo4jAuth:
    """A Neo4j server; its tests carry the marks `NEO4J` and begin with `emptied`."""
    variables = _variables("neo4j")
    return Neo4jAuth(*(variables[name] for name in VARIABLES["neo4j"]))


@contextmanager
def an_own_server(part: str) -> Iterator[Own]:
    """A server that the test may kill, freeze and start again; a skip or an error when there is none."""
    with _absence_told(part), own_server(part) as own:
        yield own


@asynccontextmanager
async def fresh_schema(uri: str) -> AsyncIterator[str]:
    """The name of a new SQL schema, which is dropped with all that is in it."""
    schema = f"t{secrets.token_hex(8)}"
    name = Identifier(schema)
    async with await AsyncConnection.connect(uri, autocommit=True) as connection:
        await connection.execute(SQL("CREATE SCHEMA {}").format(name))
    try:
        yield schema
    finally:
        async with await AsyncConnection.connect(uri, autocommit=True) as connection:
            # A connection that a test leaked must not hang the rest.
            await connection.execute(SQL("SET lock_timeout = {}").format(f"{DROP_S}s"))
            await connection.execute(SQL("DROP SCHEMA {} CASCADE").format(name))


def fresh_prefix() -> str:
    """Begins the names of keys that no other test uses."""
    return f"t{secrets.token_hex(8)}:"


async def emptied(auth: Neo4jAuth) -> Neo4jAuth:
    """The same server without nodes; constraints and indexes stay.

    Signals go first: to delete a tenant with all its relations in one transaction takes too much memory.
    """
    async with (
        AsyncGraphDatabase.driver(auth.uri, auth=(auth.user, auth.password)) as driver,
        driver.session() as session,
    ):
        for which in ("n:!Tenant", "n"):
            text = f"MATCH ({which}) CALL (n) {{ DETACH DELETE n }} IN TRANSACTIONS OF 1000 ROWS"
            await (await session.run(text)).consume()
    return auth


def prepare(part: str) -> None:
    """Install or download what that server lacks, outside of any test's time, and begin to start it."""
    if not _given(part):
        with suppress(Missing, DidNotStart):  # each test that needs it says so
            _connection().ask("prepare", within_s=PREPARE_S, part=part)


def leave() -> None:
    """Let go of the shared servers; the last process of the run ends them."""
    while _connections:
        _connections.pop().leave()


def required() -> frozenset[str]:
    """The servers that must be there."""
    return frozenset(filter(None, os.environ.get(REQUIRED, "").split(",")))


def unknown_requirements() -> Sequence[str]:
    """What the variable names beside the servers there are."""
    return sorted(required().difference(NAMES))


def _variables(part: str) -> Mapping[str, str]:
    given = _given(part)
    if given:
        return given
    with _absence_told(part):
        variables: Mapping[str, str] = _connection().ask("share", part=part)["variables"]
        return variables


def _given(part: str) -> Mapping[str, str]:
    """The variables that the environment sets. Neo4j only with leave to empty it: it may hold somebody's work."""
    if part == "neo4j" and os.environ.get(MAY_EMPTY) != "1":
        return {}
    found = {name: os.environ[name] for name in VARIABLES[part] if os.environ.get(name)}
    return found if len(found) == len(VARIABLES[part]) else {}


def _connection() -> Connection:
    if not _connections:
        _connections.append(Connection())
    return _connections[0]


@contextmanager
def _absence_told(part: str) -> Iterator[None]:
    outcome: BaseException
    try:
        yield
    except Missing as missing:
        outcome = _absent(part, str(missing))
    except DidNotStart as failure:
        outcome = pytest.fail.Exception(str(failure), pytrace=False)
    else:
        return
    raise outcome


def _absent(part: str, missing: str) -> BaseException:
    if part in required():
        return pytest.fail.Exception(f"{REQUIRED} names {part}: {missing}", pytrace=False)
    return pytest.skip.Exception(f"{ABSENT}: {missing}")

"""A lost reply of a commit, on the real servers: the client can't know, and the commit stands."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import psycopg
import pytest
from neo4j import AsyncGraphDatabase
from neo4j.exceptions import DriverError

from tests.backends.fixtures import emptied, fresh_schema
from tests.faultproxy import BOLT_COMMIT, POSTGRES_COMMIT, fault_proxy

if TYPE_CHECKING:
    from tests.backends.fixtures import Neo4jAuth

pytestmark = pytest.mark.anyio


def port_of(uri: str) -> int:
    port = urlsplit(uri).port
    assert port
    return port


async def test_a_commit_whose_reply_is_lost_stands_in_postgresql(postgres_uri: str) -> None:
    port = port_of(postgres_uri)
    async with fresh_schema(postgres_uri) as schema, fault_proxy(port) as proxy:
        through = postgres_uri.replace(str(port), str(proxy.port))
        options = f"-c search_path={schema}"
        connection = await psycopg.AsyncConnection.connect(through, options=options)
        await connection.execute("CREATE TABLE t (n int)")
        proxy.drop_reply(POSTGRES_COMMIT)

        with pytest.raises(psycopg.OperationalError):
            await connection.commit()
        await connection.close()

        async with await psycopg.AsyncConnection.connect(postgres_uri, options=options) as direct:
            rows = await (await direct.execute("SELECT count(*) FROM t")).fetchall()
        assert rows == [(0,)]
        assert proxy.lost == 1


async def test_a_commit_whose_reply_is_lost_stands_in_neo4j(neo4j_auth: Neo4jAuth) -> None:
    uri, user, password = await emptied(neo4j_auth)
    async with fault_proxy(port_of(uri)) as proxy:
        through = f"bolt://127.0.0.1:{proxy.port}"
        async with AsyncGraphDatabase.driver(through, auth=(user, password)) as driver, driver.session() as session:
            transaction = await session.begin_transaction()
            await (await transaction.run("CREATE (:Tried)")).consume()
            proxy.drop_reply(BOLT_COMMIT)

            with pytest.raises(DriverError):
                await transaction.commit()

        assert proxy.lost == 1
    async with AsyncGraphDatabase.driver(uri, auth=(user, password)) as driver:
        found = await driver.execute_query("MATCH (n:Tried) RETURN count(n) AS n")
    assert found.records[0]["n"] == 1
    await emptied(neo4j_auth)

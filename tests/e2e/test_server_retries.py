"""Retries on Neo4j: marks in Redis answer them sooner, and nothing depends on that."""

from __future__ import annotations

import asyncio
import json
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Final

import pytest
from neo4j import AsyncGraphDatabase

from coherence_grpc.client import Client, connect
from tests.backends.fixtures import NEO4J, POSTGRES, REDIS, an_own_server
from tests.e2e.on_servers import fresh_servers
from tests.e2e.reading import assert_log_is_whole, clock_us
from tests.e2e.rows import a_row, batch_of
from tests.e2e.ways import GrpcBatch, GrpcSingle, all_ways
from tests.serving import Served, serving

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from contextlib import AbstractAsyncContextManager
    from pathlib import Path

    from tests.e2e.rows import Row
    from tests.e2e.ways import Answer, Way

pytestmark = [pytest.mark.anyio, pytest.mark.slow, pytest.mark.timeout(120), POSTGRES, REDIS, *NEO4J]

TENANT: Final = "acme"
ROWS: Final = 20
AT_ONCE: Final = 16
COUNT: Final = "MATCH (s:Signal) RETURN count(*)"


async def replayed(ways: Sequence[Way], rows: Sequence[Row]) -> list[tuple[Row, Answer]]:
    """What each way says of each row, which is stored already."""
    places = asyncio.Semaphore(AT_ONCE)

    async def once(way: Way, row: Row) -> tuple[Row, Answer]:
        async with places:
            return row, await way.publish(row)

    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(once(way, row)) for row in rows for way in ways]
    return [task.result() for task in tasks]


def with_marks(directory: Path, servers: Mapping[str, str], *, marks: bool) -> AbstractAsyncContextManager[Served]:
    directory.mkdir()
    switches = {"dedupe_mode": "redis" if marks else "store"}
    (directory / "runtime.json").write_text(json.dumps({"switches": switches}))
    return serving(directory, environment=servers, http=marks)


async def signals_in(servers: Mapping[str, str]) -> int:
    auth = servers["NEO4J_USER"], servers["NEO4J_PASSWORD"]
    async with AsyncGraphDatabase.driver(servers["NEO4J_URI"], auth=auth) as driver:
        (record,) = (await driver.execute_query(COUNT)).records
        count: int = record[0]
        return count


async def test_ac_ing_04_replays_over_every_way_store_nothing_twice_with_marks_without_redis_and_without_marks(
    tmp_path: Path,
) -> None:
    with an_own_server("redis") as redis:
        async with fresh_servers(redis) as servers, AsyncExitStack() as stack:
            marking = await stack.enter_async_context(with_marks(tmp_path / "marking", servers, marks=True))
            plain = await stack.enter_async_context(with_marks(tmp_path / "plain", servers, marks=False))
            client: Client = await stack.enter_async_context(connect(marking.grpc))
            other: Client = await stack.enter_async_context(connect(plain.grpc))
            ways = await stack.enter_async_context(all_ways(marking))
            ts = await clock_us(client)
            rows = [a_row(TENANT, ts=ts + number) for number in range(ROWS)]
            stored = await client.ingest.PublishSignals(batch_of(rows, TENANT))
            first = {row["signal_id"]: result for row, result in zip(rows, stored.results, strict=True)}

            answers = await replayed(ways, rows)
            answers += await replayed([GrpcSingle(other), GrpcBatch(other)], rows)
            await asyncio.to_thread(redis.kill)
            answers += await replayed(ways, rows)
            nodes, head = await signals_in(servers), await assert_log_is_whole(client, TENANT)

    assert (stored.stored_count, nodes, head) == (ROWS, ROWS, ROWS)
    assert len(answers) == 12 * ROWS
    for row, answer in answers:
        named = first[row["signal_id"]]
        # The mutation that answers with a Boolean says no more than that it is there.
        if answer.outcome != "STORED or DUPLICATE":
            assert answer[:3] == ("DUPLICATE", named.seq, named.provenance_id)

"""The score store on PostgreSQL: what its tables hold, and what several processes do to them at once."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING

import pytest

from coherence_grpc.adapters import postgres
from coherence_grpc.adapters.postgres.connecting import IDLE_IN_TRANSACTION_S, connected
from coherence_grpc.errors import StoreDown
from coherence_grpc.model import SECOND
from tests.builders import NOON, TENANT, a_score
from tests.faults import eventually

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from coherence_grpc.ports import ScoreStore
    from tests.conformance.on_postgres import Schema

pytestmark = pytest.mark.anyio


@pytest.fixture
async def pair(schema: Schema) -> AsyncIterator[Sequence[ScoreStore]]:
    """The same store as two processes have it."""
    async with AsyncExitStack() as stack:
        yield [await stack.enter_async_context(schema.scores()) for _ in range(2)]


@pytest.mark.parametrize("score_ppm", [0, 1, 499_999, 500_000, 749_999, 750_000, 999_999, 1_000_000, None])
@pytest.mark.parametrize("weight_q", [0, 2**63 - 1, 2**63, 10**21 + 1, 10**37 + 1])
async def test_ac_data_04_exact_numbers_survive_a_round_trip(
    schema: Schema, score_ppm: int | None, weight_q: int
) -> None:
    row = replace(a_score(score_ppm=score_ppm), weight_q=weight_q)
    async with schema.scores() as scores:
        await scores.publish([row])

        assert await scores.get([TENANT]) == {TENANT: row}
        assert list(await scores.history(TENANT, after_version=0, limit=1)) == [row]


async def test_ac_data_04_other_readers_find_the_four_columns_they_know(schema: Schema) -> None:
    instant = NOON + 1
    async with schema.scores() as scores:
        await scores.publish([a_score(score_ppm=749_600, window_end=instant), a_score(tenant_id="b", score_ppm=None)])

    found = await schema.rows("SELECT tenant_id, score, status, updated_at FROM coherence_scores ORDER BY tenant_id")

    # Two decimals would make 0.75 of it, and the status would be wrong.
    told = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=instant)
    assert found[0] == (TENANT, Decimal("0.749600"), "WARN", told)
    assert found[1][1:3] == (None, "UNKNOWN")


async def test_r7_a_late_publisher_changes_nothing(pair: Sequence[ScoreStore], schema: Schema) -> None:
    late, other = pair
    await late.publish([a_score(as_of_seq=5)])
    await other.publish([a_score(version=2, as_of_seq=6, window_end=NOON + SECOND)])
    there = await other.get([TENANT])

    won = [list(await late.publish([a_score(version=version, as_of_seq=5, score_ppm=1)])) for version in (1, 2, 3)]

    assert won == [[False]] * 3
    assert await late.get([TENANT]) == there
    assert [score.version for score in await late.history(TENANT, after_version=0, limit=9)] == [1, 2]


async def test_r7_of_two_publishers_at_once_no_version_is_lost_or_told_twice(pair: Sequence[ScoreStore]) -> None:
    async def publish(scores: ScoreStore, own: int) -> int:
        wins = 0
        for step in range(100):
            there = (await scores.get([TENANT])).get(TENANT)
            version = 1 if there is None else there.version + 1
            row = a_score(version=version, window_end=NOON + step, score_ppm=own)
            wins += (await scores.publish([row]))[0]
        return wins

    async with asyncio.TaskGroup() as group:
        calls = [group.create_task(publish(scores, own)) for own, scores in enumerate(pair)]

    shown = await pair[0].history(TENANT, after_version=0, limit=1000)
    assert [score.version for score in shown] == list(range(1, len(shown) + 1))
    assert sorted(score.window_end for score in shown) == [score.window_end for score in shown]
    # Both may write one version; the history has it once.
    assert 50 <= len(shown) <= sum(call.result() for call in calls) <= 200


async def test_publishers_of_the_same_tenants_in_any_order_don_t_wait_for_each_other(
    pair: Sequence[ScoreStore],
) -> None:
    tenants = [f"tenant-{n}" for n in range(200)]

    async def publish(scores: ScoreStore, order: Sequence[str]) -> list[bool]:
        won: list[bool] = []
        for _ in range(10):
            won += await scores.publish([a_score(tenant_id=tenant_id) for tenant_id in order])
        return won

    async with asyncio.timeout(20), asyncio.TaskGroup() as group:
        calls = [group.create_task(publish(pair[0], tenants)), group.create_task(publish(pair[1], tenants[::-1]))]

    assert all(won for call in calls for won in call.result())
    assert len(await pair[0].get(tenants)) == 200


async def lock_the_rows(schema: Schema, locked: asyncio.Event, over: asyncio.Event) -> None:
    """What a process does that is stopped inside a transaction."""
    async with connected(schema.uri, schema.name) as connection, connection.transaction():
        await connection.execute("SELECT FROM coherence_scores FOR UPDATE")
        locked.set()
        await over.wait()


async def test_a_client_that_stops_inside_a_transaction_holds_a_publication_up_for_its_limit(schema: Schema) -> None:
    locked, over = asyncio.Event(), asyncio.Event()
    async with schema.scores() as scores:
        await scores.publish([a_score()])
        stopped = asyncio.create_task(lock_the_rows(schema, locked, over))
        await locked.wait()

        async with asyncio.timeout(IDLE_IN_TRANSACTION_S + 1):
            won = await scores.publish([a_score(version=2)])

        assert list(won) == [True]
        over.set()
        with pytest.raises(StoreDown):
            await stopped


async def test_a_rebuild_forgets_the_scores_and_raises_the_epoch(schema: Schema) -> None:
    async with schema.scores() as scores:
        await scores.publish([a_score(version=1), a_score(version=2)])

    epochs = [await postgres.rebuild(schema.uri, namespace=schema.name, at_least=least) for least in (0, 2, 9, 5)]

    assert epochs == [2, 3, 9, 10]
    async with schema.scores() as scores:
        assert scores.epoch == 10
        assert await scores.get([TENANT]) == {}
        assert list(await scores.history(TENANT, after_version=0, limit=1)) == []
        assert list(await scores.publish([a_score(score_epoch=10)])) == [True]


async def test_a_store_that_was_open_during_a_rebuild_goes_on_in_the_new_epoch(
    pair: Sequence[ScoreStore], schema: Schema
) -> None:
    publisher, reader = pair
    await publisher.publish([a_score()])
    epoch = await postgres.rebuild(schema.uri, namespace=schema.name, at_least=0)

    old = await publisher.publish([a_score(version=1), a_score(version=2)])
    new = await publisher.publish([a_score(version=1, score_epoch=publisher.epoch)])
    await reader.next_due()

    assert (list(old), list(new)) == ([False, False], [True])
    assert publisher.epoch == reader.epoch == epoch


async def test_a_row_of_a_release_that_did_not_say_its_shard_is_due_to_everybody(
    pair: Sequence[ScoreStore], schema: Schema
) -> None:
    scores, _ = pair
    await scores.publish([a_score(valid_until=NOON)])
    await schema.rows("UPDATE coherence_scores SET shard = DEFAULT")

    before = await scores.due(before=NOON, limit=1, shards=()), await scores.next_due(shards=())
    await scores.publish([a_score(valid_until=NOON, version=1)])
    after = await scores.due(before=NOON, limit=1, shards=()), await scores.next_due(shards=())

    assert (before, after) == (([TENANT], NOON), ([], None))


async def test_a_publication_that_waited_for_a_rebuild_loses(schema: Schema) -> None:
    async with schema.scores() as scores:
        # What was prepared has a plan that is kept: it too must look at the epoch after the wait.
        for version in range(1, 10):
            await scores.publish([a_score(version=version)])
        async with schema.connection() as rebuilding, rebuilding.transaction():
            await rebuilding.execute("TRUNCATE coherence_scores, coherence_score_history")
            waiting = asyncio.create_task(scores.publish([a_score(version=1)]))
            await eventually(lambda: waiters(schema), lambda count: count == 1)
            await rebuilding.execute("UPDATE coherence_meta SET epoch = epoch + 1")

        assert list(await waiting) == [False]
        assert scores.epoch == 2
        assert await scores.get([TENANT]) == {}


async def waiters(schema: Schema) -> int:
    """Connections of the schema that wait for a lock."""
    query = "SELECT count(*) FROM pg_stat_activity WHERE application_name = %(name)s AND wait_event_type = 'Lock'"
    return int((await schema.rows(query, name=schema.name))[0][0])


async def test_a_rebuild_that_stops_half_way_changes_nothing(schema: Schema) -> None:
    async with schema.scores() as scores:
        await scores.publish([a_score()])
        async with schema.connection() as reading, reading.transaction():
            await reading.execute("SELECT FROM coherence_scores")
            rebuilding = asyncio.create_task(postgres.rebuild(schema.uri, namespace=schema.name, at_least=0))
            await eventually(lambda: waiters(schema), lambda count: count == 1)
            await schema.rows(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                " WHERE application_name = %(name)s AND wait_event_type = 'Lock'",
                name=schema.name,
            )
            with pytest.raises(StoreDown):
                await rebuilding

        assert await scores.get([TENANT]) == {TENANT: a_score()}
        assert list(await scores.publish([a_score(version=2)])) == [True]

"""Several processes on the same stores: who publishes, and how each hears of the others."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from coherence_grpc.errors import StoreDown
from coherence_grpc.materialize import following, publisher
from coherence_grpc.model import SECOND, WINDOW
from coherence_grpc.ports import News
from tests.builders import NOON, TENANT, a_write, an_item
from tests.faults import eventually, until
from tests.unit.sharing import open_shared

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from tests.unit.sharing import Shared

pytestmark = pytest.mark.anyio


@pytest.fixture
async def shared(tmp_path: Path) -> AsyncIterator[Shared]:
    async with open_shared(tmp_path) as opened:
        yield opened


async def test_only_the_holder_of_a_tenant_publishes_it(shared: Shared) -> None:
    await shared.store(an_item(value=0.4))
    await shared.store(an_item(value=0.6), tenant_id="other")

    async with shared.running(TENANT) as one, shared.running("other") as two:
        await eventually(shared.row, lambda row: row is not None)
        await eventually(lambda: shared.row("other"), lambda row: row is not None)

    assert {score.tenant_id for score in one.announced} == {TENANT}
    assert {score.tenant_id for score in two.announced} == {"other"}


async def test_who_wins_a_shard_brings_up_to_date_what_its_holder_left_behind(shared: Shared) -> None:
    async with shared.running() as process:
        await shared.store(an_item(value=0.4))
        process.materializer.moved(TENANT, 1)
        assert await shared.row() is None

        process.leases.give(TENANT)

        row = await eventually(shared.row, lambda row: row is not None)
        assert row is not None
        assert row.score_ppm == 400_000


async def test_who_loses_a_shard_stops_publishing_it(shared: Shared) -> None:
    async with shared.running(TENANT) as process:
        await shared.store(an_item(value=0.4))
        await eventually(shared.row, lambda row: row is not None)
        process.leases.give()
        await shared.store(an_item(value=0.8), tenant_id=TENANT)
        process.materializer.moved(TENANT, 2)
        async with shared.running(TENANT) as successor:
            await eventually(shared.row, lambda row: row is not None and row.as_of_seq == 2)

    assert [score.version for score in process.announced] == [1]
    assert [score.version for score in successor.announced] == [2]


async def test_rows_that_a_stuck_holder_leaves_due_hold_up_no_other_shard(
    shared: Shared, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(publisher, "BATCH", 2)
    stuck = [f"stuck-{n}" for n in range(5)]
    async with shared.running(*stuck, TENANT):
        for tenant_id in stuck:
            await shared.store(an_item(value=0.4, ts=NOON - 1), tenant_id=tenant_id)
        await shared.store(an_item(value=0.4, ts=NOON))
        await eventually(lambda: shared.scores.get((*stuck, TENANT)), lambda rows: len(rows) == 6)

    async with shared.running(TENANT, following=False):
        shared.clock.advance(WINDOW + 1)
        await eventually(shared.row, lambda row: row is not None and row.signal_count == 0)

        assert all(row.signal_count == 1 for row in (await shared.scores.get(stuck)).values())


async def test_rows_of_a_shard_that_was_won_are_watched_as_well(shared: Shared) -> None:
    async with shared.running(TENANT):
        await shared.store(an_item(value=0.4, ts=NOON))
        await eventually(shared.row, lambda row: row is not None)

    async with shared.running("other", following=False) as process:
        await until(lambda: process.materializer.keeping_up and shared.scores.answers["next_due"] > 0)
        process.leases.give(TENANT)
        await until(lambda: process.materializer.keeping_up)
        shared.clock.advance(WINDOW + 1)

        await eventually(shared.row, lambda row: row is not None and row.signal_count == 0)


async def test_what_another_process_stored_is_found_without_a_doorbell(shared: Shared) -> None:
    async with shared.running(TENANT):
        await shared.store(an_item(value=0.4))

        row = await eventually(shared.row, lambda row: row is not None)

    assert row is not None
    assert row.score_ppm == 400_000


async def test_a_window_in_memory_follows_what_another_process_stored(shared: Shared) -> None:
    async with shared.running(TENANT) as process:
        await shared.store(an_item(value=0.4))
        await process.materializer.evaluate(TENANT)
        await shared.store(an_item(value=0.8))

        score = await eventually(lambda: process.materializer.evaluate(TENANT), lambda score: score.as_of_seq == 2)

    assert score.score_ppm == 600_000


async def test_news_that_come_while_a_window_is_being_loaded_are_not_forgotten(shared: Shared) -> None:
    await shared.store(an_item(value=0.4))
    shared.signals.hold_answers("window")
    async with shared.running(TENANT, following=False) as process:
        await until(lambda: shared.signals.answers["window"] == 1)
        await shared.store(an_item(value=0.6))
        process.materializer.moved(TENANT, 2)
        shared.signals.release()

        row = await eventually(shared.row, lambda row: row is not None)

        assert row is not None
        assert (row.as_of_seq, row.score_ppm) == (2, 500_000)


async def test_a_doorbell_is_heard_at_once(shared: Shared, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(following, "POLL_S", 600.0)
    async with shared.running(TENANT) as process:
        await until(lambda: shared.signals.answers["moved"] == 1)
        await shared.store(an_item(value=0.4))

        process.bell.ring(News(TENANT, 1, 1))

        await eventually(shared.row, lambda row: row is not None)


async def test_a_doorbell_that_says_only_that_something_moved_has_the_store_asked(
    shared: Shared, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(following, "POLL_S", 600.0)
    async with shared.running(TENANT) as process:
        await until(lambda: shared.signals.answers["moved"] == 1)
        await shared.store(an_item(value=0.4))

        process.bell.ring(News(TENANT, 0, 0))

        await eventually(shared.row, lambda row: row is not None)


async def test_a_published_version_moves_no_log_so_none_is_asked_for(
    shared: Shared, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(following, "POLL_S", 600.0)
    async with shared.running(TENANT) as process:
        await until(lambda: shared.signals.answers["moved"] == 1)

        process.bell.ring(News(TENANT, 0, 0, version=1))
        await shared.store(an_item(value=0.4))
        process.bell.ring(News(TENANT, 1, 1))
        await eventually(shared.row, lambda row: row is not None)

    assert shared.signals.calls["moved"] == 1


async def test_news_of_a_process_whose_clock_is_behind_is_found(shared: Shared) -> None:
    async with shared.running(TENANT):
        shared.clock.advance(30 * SECOND)
        late = shared.clock.now() - 10 * SECOND
        await shared.signals.append([a_write(an_item(value=0.4))], now=late)

        await eventually(shared.row, lambda row: row is not None)


async def test_following_goes_on_after_the_store_was_away(shared: Shared, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(following, "BACK_OFF_S", 0.01)
    shared.signals.failures["moved"] = StoreDown("gone")
    async with shared.running(TENANT):
        await until(lambda: shared.signals.calls["moved"] > 2)
        await shared.store(an_item(value=0.4))
        shared.signals.failures.clear()

        await eventually(shared.row, lambda row: row is not None)

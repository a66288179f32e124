"""Publication goes on: past failing stores, many tenants, and idle ones."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from coherence_grpc.errors import OutcomeUnknown, StoreDown
from coherence_grpc.materialize import publisher, windows
from coherence_grpc.model import WINDOW, Status
from tests.builders import NOON, TENANT, a_write, an_item, fresh
from tests.faults import eventually, until
from tests.unit.materializing import World, covers, open_world

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence
    from pathlib import Path

    from coherence_grpc.model import Score


pytestmark = pytest.mark.anyio


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with open_world(tmp_path) as opened:
        yield opened


async def test_a_failing_score_store_is_asked_again_and_scores_are_still_read(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(publisher, "BACK_OFF_S", 0.01)

    def fail(_: Sequence[Score]) -> None:
        message = "down"
        raise StoreDown(message)

    world.scores.before = fail
    await world.store(an_item(value=0.9), backfill=True)
    await until(lambda: world.scores.calls["publish"] >= 2)
    assert (await world.evaluate()).score_ppm == 900_000
    assert not world.materializer.keeping_up
    world.scores.before = lambda _: None

    row = await world.row_that(covers(1))

    assert (row.version, row.backfill) == (1, True)
    assert world.signals.calls["window"] == 1
    await until(lambda: world.materializer.keeping_up)


async def test_a_publication_of_unknown_outcome_is_not_repeated_as_another_version(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(publisher, "BACK_OFF_S", 0.01)

    def fail(_: Sequence[Score]) -> None:
        world.scores.after = lambda _: None
        message = "lost"
        raise OutcomeUnknown(message)

    world.scores.after = fail
    await world.store(an_item(value=0.9))
    await until(lambda: world.scores.calls["publish"] == 1)
    await world.store(an_item(value=0.8))
    row = await world.row_that(covers(2))

    assert [score.version for score in await world.history()] == [1, 2]
    assert row.score_ppm == 850_000


async def test_a_window_that_cannot_be_loaded_is_loaded_later(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(publisher, "BACK_OFF_S", 0.01)
    world.signals.failures["window"] = StoreDown("down")
    await world.store(an_item(value=0.9))
    await until(lambda: world.signals.calls["window"] >= 2)

    world.signals.failures.clear()

    assert (await world.row_that(covers(1))).score_ppm == 900_000


async def test_more_tenants_than_are_loaded_at_once_all_get_their_turn(world: World) -> None:
    tenants = [fresh("tenant") for _ in range(3 * publisher.LOADS)]
    world.signals.hold("window")
    for tenant_id in tenants:
        await world.store(an_item(), tenant_id=tenant_id)
    await until(lambda: len(world.materializer._publisher._parked) == 2 * publisher.LOADS)
    await until(lambda: world.signals.calls["window"] == publisher.LOADS)

    world.signals.release()

    await eventually(lambda: world.scores.get(tenants), lambda rows: len(rows) == len(tenants))


async def test_a_touch_that_changes_nothing_writes_nothing(world: World) -> None:
    await world.store(an_item())
    await world.row_that(covers(1))
    await until(lambda: bool(world.announced))
    world.materializer._publisher.touch(TENANT)

    await until(lambda: not world.materializer._publisher._behind)

    assert world.scores.calls["publish"] == 1


async def test_closing_while_the_score_store_fails_leaves_the_rest_to_the_next_start(tmp_path: Path) -> None:
    async with open_world(tmp_path) as world:
        world.scores.failures["publish"] = StoreDown("down")
        await world.store(an_item())
        await world.evaluate()

    async with open_world(tmp_path) as world:
        await world.row_that(covers(1))


async def test_closing_ends_what_is_still_loading(tmp_path: Path) -> None:
    async with open_world(tmp_path) as world:
        await world.store(an_item(), tell=False)
        world.signals.hold("window")
        reading = asyncio.create_task(world.evaluate())
        await until(lambda: world.signals.calls["window"] == 1)

    with pytest.raises(asyncio.CancelledError):
        await reading


async def test_a_listener_that_fails_stops_nothing(world: World) -> None:
    def fail(_: Score) -> None:
        raise ValueError

    async with world.another(fail) as materializer:
        materializer.appended(await world.store(an_item(), tenant_id="other", tell=False))
        await until(lambda: [score.tenant_id for score in world.announced] == ["other"])


async def test_a_thousand_tenants_get_their_rows_and_the_loop_goes_on(tmp_path: Path) -> None:
    tenants = [fresh("tenant") for _ in range(1000)]
    async with open_world(tmp_path, running=False) as world:
        writes = [a_write(tenant_id=tenant_id) for tenant_id in tenants]
        await world.signals.append(writes, now=NOON)

    async with open_world(tmp_path) as world:
        await eventually(lambda: world.scores.get(tenants), lambda rows: len(rows) == 1000, timeout_s=20)
        world.clock.advance(WINDOW + 1)
        await eventually(
            lambda: world.scores.get(tenants),
            lambda rows: all(row.status is Status.UNKNOWN for row in rows.values()),
            timeout_s=20,
        )

        await until(lambda: len(world.announced) == 2000)


async def test_idle_tenants_are_let_go_but_not_those_behind(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    await world.store(an_item())
    await world.store(an_item(), tenant_id="behind")
    await world.row_that(covers(1))
    await world.row_that(covers(1), "behind")
    monkeypatch.setattr(windows, "IDLE_S", -1.0)

    world.materializer._windows.evict(keep={"behind"})

    assert world.materializer._windows.peek(TENANT) is None
    assert world.materializer._windows.peek("behind") is not None
    assert (await world.evaluate()).signal_count == 1


async def test_history_is_thinned_now_and_then(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(publisher, "HOUSEKEEPING_S", 0.0)
    async with open_world(tmp_path) as world:
        await eventually(lambda: world.scores.history(TENANT, after_version=0, limit=1), lambda _: True)
        await until(lambda: world.scores.calls["thin"] >= 1)

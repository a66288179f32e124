"""The first signal after a window that will count."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from coherence_grpc.materialize import upcoming
from coherence_grpc.materialize.upcoming import next_counting
from coherence_grpc.model import SECOND, WINDOW
from coherence_grpc.policy import DEFAULT, ScorePolicy
from tests.builders import NOON, TENANT, an_item
from tests.unit.materializing import open_world

if TYPE_CHECKING:
    from pathlib import Path

    from coherence_grpc.model import Item
    from tests.unit.materializing import World

pytestmark = pytest.mark.anyio
MUTING = ScorePolicy(type_weights=(("noise", 0),))


async def first(world: World, policy: ScorePolicy) -> int | None:
    columns = await world.signals.window(TENANT, start=NOON - WINDOW, end=NOON, grouped=True)
    found = await next_counting(world.signals.port, TENANT, columns, policy)
    return found.upcoming


def noise(count: int, every: int) -> list[Item]:
    return [an_item(type="noise", ts=NOON + n * every) for n in range(1, count + 1)]


async def test_signals_of_muted_types_are_passed_over(tmp_path: Path) -> None:
    async with open_world(tmp_path, running=False) as world:
        await world.store(*noise(50, 97 * SECOND), an_item(ts=NOON + 10_000 * SECOND), an_item(ts=NOON + WINDOW))

        assert await first(world, MUTING) == NOON + 10_000 * SECOND
        assert await first(world, DEFAULT) == NOON + 97 * SECOND


async def test_where_only_muted_ones_follow_none_will_count(tmp_path: Path) -> None:
    async with open_world(tmp_path, running=False) as world:
        await world.store(*noise(3, 3600 * SECOND))

        assert await first(world, MUTING) is None


async def test_behind_very_many_it_is_earlier_than_need_be(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(upcoming, "_ENOUGH", 10)
    async with open_world(tmp_path, running=False) as world:
        await world.store(*noise(100, SECOND), an_item(ts=NOON + 200 * SECOND))

        found = await first(world, MUTING)

    assert found is not None
    assert NOON + 10 * SECOND < found <= NOON + 200 * SECOND

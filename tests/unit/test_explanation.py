"""Why a score is what it is."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from coherence_grpc.errors import FilterInvalid
from coherence_grpc.materialize import Exclusion
from coherence_grpc.model import SECOND, WINDOW, Status
from tests.builders import NOON, a_score, an_item
from tests.unit.reading_scores import World, exact, open_world

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence
    from pathlib import Path

    from coherence_grpc.model import Item

pytestmark = pytest.mark.anyio


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with open_world(tmp_path) as opened:
        yield opened


async def test_an_explanation_puts_the_strongest_push_first_and_all_pushes_add_up(world: World) -> None:
    items = [
        an_item(value=0.0, weight=1, source="a", type="x"),
        an_item(value=0.5, weight=5, source="a", type="y"),
        an_item(value=1.0, weight=9, source="b", type="y"),
        an_item(value=0.3, weight=0, source="b", type="y"),
    ]
    await world.publish(*items)

    explanation = await world.explain()

    score, _ = await world.get()
    assert [part.signal.item for part in explanation.contributions] == [items[1], items[0], items[2]]
    assert explanation.score.score_ppm == score.score_ppm == round(exact(items) * 10**6)
    assert explanation.score.valid_until == score.valid_until
    assert (explanation.score.status, explanation.score.as_of_seq) == (score.status, 4)
    below_one = float(exact(items) - 1)
    for parts in (explanation.contributions, explanation.sources, explanation.types):
        assert sum(part.push for part in parts) == pytest.approx(below_one, abs=1e-9)
        assert sum(part.weight_share for part in parts) == pytest.approx(1, abs=1e-9)


async def test_an_explanation_groups_by_source_and_type_the_strongest_push_first(world: World) -> None:
    await world.publish(
        an_item(value=1.0, weight=2, source="a", type="x"),
        an_item(value=0.5, weight=1, source="a", type="y"),
        an_item(value=0.2, weight=1, source="b", type="y"),
    )

    explanation = await world.explain()

    assert [(group.name, group.signal_count) for group in explanation.sources] == [("b", 1), ("a", 2)]
    assert [(group.name, group.signal_count) for group in explanation.types] == [("y", 2), ("x", 1)]
    assert explanation.sources[1].mean == pytest.approx(2.5 / 3)
    assert explanation.sources[1].weight_share == 0.75
    assert explanation.types[0].push == pytest.approx(-0.5 / 4 - 0.8 / 4)


async def test_an_explanation_says_by_how_much_each_signal_moves_the_score(world: World) -> None:
    items = [an_item(value=0.1, weight=3), an_item(value=0.9, weight=1), an_item(value=0.7, weight=2)]
    await world.publish(*items)

    explanation = await world.explain()

    for part in explanation.contributions:
        rest = [item for item in items if item is not part.signal.item and item != part.signal.item]
        assert part.delta_if_removed == (rounded(rest) - rounded(items)) / 10**6


def rounded(items: Sequence[Item]) -> int:
    return round(exact(items) * 10**6)


async def test_without_its_only_signal_nothing_would_remain(world: World) -> None:
    await world.publish(an_item())

    (part,) = (await world.explain()).contributions

    assert part.delta_if_removed is None


async def test_an_explanation_is_cut_to_the_strongest(world: World) -> None:
    await world.publish(*(an_item(value=n / 10, source=f"s{n}", type=f"t{n}") for n in range(9)))

    explanation = await world.explain(top_n=2)

    assert [part.signal.item.source for part in explanation.contributions] == ["s0", "s1"]
    assert [group.name for group in explanation.sources] == ["s0", "s1"]
    assert [group.name for group in explanation.types] == ["t0", "t1"]
    assert explanation.score.signal_count == 9


async def test_an_explanation_counts_what_does_not_count_and_says_why(world: World) -> None:
    await world.publish(
        an_item(weight=0),
        an_item(ts=NOON + SECOND),
        an_item(ts=NOON - WINDOW - 1),
        an_item(ts=NOON - WINDOW),
        an_item(),
    )

    explanation = await world.explain()

    assert explanation.excluded == {
        Exclusion.MUTED: 1,
        Exclusion.TYPE_MUTED: 0,
        Exclusion.NOT_YET_DUE: 1,
        Exclusion.AGED_OUT: 1,
    }
    assert explanation.score.signal_count == 2
    assert explanation.score.valid_until == (await world.get())[0].valid_until == NOON + 1


async def test_an_explanation_as_of_a_past_instant_explains_that_score(world: World) -> None:
    await world.publish(an_item(value=0.2, ts=NOON - SECOND), an_item(value=0.4))
    world.clock.advance(WINDOW + 1)

    explanation = await world.explain(as_of=NOON - 1)

    assert explanation.score == (await world.get(as_of=NOON - 1))[0]
    assert [part.signal.item.value_q for part in explanation.contributions] == [200_000_000]


async def test_an_explanation_of_nothing_is_unknown_and_empty(world: World) -> None:
    explanation = await world.explain()

    assert explanation.score.status is Status.UNKNOWN
    assert explanation.score.valid_until is None
    assert [*explanation.contributions, *explanation.sources, *explanation.types] == []
    assert "half-even" in explanation.formula


async def test_an_explanation_ahead_of_the_clock_is_refused(world: World) -> None:
    with pytest.raises(FilterInvalid):
        await world.explain(as_of=NOON + 1)


async def test_an_explanation_does_not_go_behind_the_published_row(world: World) -> None:
    row = a_score(window_end=NOON + 60 * SECOND, score_epoch=world.store.epoch)
    await world.store.publish([row])

    explanation = await world.explain()

    assert explanation.score.window_end == NOON + 60 * SECOND
    assert explanation.score.version == 1


async def test_a_large_window_is_explained_beside_the_loop(world: World) -> None:
    await world.publish(*(an_item(value=n / 2000, ts=NOON - n) for n in range(1000)))
    await world.publish(*(an_item(value=n / 2000, ts=NOON - n) for n in range(1000, 2000)))

    explanation = await world.explain(top_n=1)

    assert explanation.score.score_ppm == 499_750
    assert explanation.contributions[0].signal.item.value_q == 0

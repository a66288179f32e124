"""ScoreStore: rows that say which status is held, what was shown at an instant, and when the held status changed."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from coherence_grpc.model import DAY, SECOND, Held, Score, Status
from tests.builders import NOON, TENANT, a_score

if TYPE_CHECKING:
    from collections.abc import Sequence

    from coherence_grpc.ports import ScoreStore
    from tests.conformance.homes import ScoreHome

pytestmark = pytest.mark.anyio

PENDING = Held(Status.HEALTHY, NOON - 5, ((Status.WARN, NOON - 3), (Status.CRITICAL, NOON - 1)))


async def publish(scores: ScoreStore, rows: Sequence[Score]) -> None:
    for row in rows:
        assert list(await scores.publish([row])) == [True]


async def versions(scores: ScoreStore) -> list[int]:
    return [score.version for score in await scores.history(TENANT, after_version=0, limit=1000)]


@pytest.mark.parametrize("held", [PENDING, Held(Status.UNKNOWN, 0), Held(Status.WARN, None)])
async def test_what_is_held_is_read_back_as_it_was(score_home: ScoreHome, held: Held) -> None:
    row = a_score(score_ppm=400_000, held=held)
    async with score_home.scores() as scores:
        await publish(scores, [row])

    async with score_home.scores() as scores:
        assert await scores.get([TENANT]) == {TENANT: row}
        assert list(await scores.history(TENANT, after_version=0, limit=1)) == [row]


async def test_a_row_that_does_not_say_what_is_held_holds_its_status_since_nobody_knows_when(
    score_home: ScoreHome,
) -> None:
    async with score_home.scores() as scores:
        await publish(scores, [replace(a_score(score_ppm=400_000), held=None)])

    async with score_home.scores() as scores:
        assert (await scores.get([TENANT]))[TENANT].held == Held(Status.CRITICAL, None)


async def test_a_row_with_the_version_in_place_replaces_what_is_held(score_home: ScoreHome) -> None:
    row = a_score(held=PENDING)
    async with score_home.scores() as scores:
        await publish(scores, [row, replace(row, held=Held(Status.HEALTHY, NOON - 5))])

    async with score_home.scores() as scores:
        assert (await scores.get([TENANT]))[TENANT].held == Held(Status.HEALTHY, NOON - 5)
        assert [score.held for score in await scores.history(TENANT, after_version=0, limit=9)] == [PENDING]


async def test_thinning_keeps_every_row_whose_held_status_differs_from_its_predecessors(scores: ScoreStore) -> None:
    held = [Status.HEALTHY, Status.HEALTHY, Status.WARN, Status.WARN, Status.HEALTHY, Status.HEALTHY]
    await publish(
        scores,
        [
            a_score(version=version, window_end=NOON + version * SECOND, held=Held(status, NOON))
            for version, status in enumerate(held, start=1)
        ],
    )

    dropped = await scores.thin(now=NOON + 8 * DAY, limit=100)

    # The first has no predecessor, the last is that of its minute.
    assert await versions(scores) == [1, 3, 5, 6]
    assert dropped == 2


async def test_thinning_takes_a_row_that_does_not_say_what_is_held_for_one_that_holds_its_status(
    scores: ScoreStore,
) -> None:
    silent = [replace(a_score(version=version, window_end=NOON + version), held=None) for version in (1, 2)]
    said = [a_score(version=version, window_end=NOON + version) for version in (3, 4)]
    await publish(scores, [*silent, *said])

    await scores.thin(now=NOON + 8 * DAY, limit=100)

    assert await versions(scores) == [1, 4]


async def test_shown_is_the_row_published_last_with_its_window_end_at_or_before_the_instant(
    scores: ScoreStore,
) -> None:
    rows = [a_score(version=version, window_end=NOON + at) for version, at in enumerate((1, 2, 2, 4), start=1)]
    other = a_score(tenant_id="b", window_end=NOON)
    await publish(scores, [*rows, other])
    asked = [(TENANT, NOON + at) for at in range(6)]

    found = await scores.shown_at([*asked, ("b", NOON), ("nobody", NOON), (TENANT, NOON + 1)])

    assert list(found) == [None, rows[0], rows[2], rows[2], rows[3], rows[3], other, None, rows[0]]
    assert list(await scores.shown_at([])) == []


async def test_shown_is_the_row_of_the_history_not_what_became_of_it(scores: ScoreStore) -> None:
    row = a_score()
    await publish(scores, [row, replace(row, window_end=NOON + 9, as_of_seq=7)])

    assert list(await scores.shown_at([(TENANT, NOON + 9)])) == [row]


async def test_changes_are_the_rows_that_say_so_after_the_start_and_up_to_the_end_ascending(scores: ScoreStore) -> None:
    changed = {1, 3, 4, 6}
    rows = [
        a_score(version=version, window_end=NOON + version // 2, status_changed=version in changed)
        for version in range(1, 8)
    ]
    await publish(scores, [*rows, a_score(tenant_id="b", window_end=NOON + 1, status_changed=True)])

    found = await scores.changes(TENANT, start=NOON, end=NOON + 2, limit=10)
    all_of_them = await scores.changes(TENANT, start=NOON - 1, end=NOON + 9, limit=10)
    first_two = await scores.changes(TENANT, start=NOON - 1, end=NOON + 9, limit=2)

    assert [row.version for row in found] == [3, 4]
    assert list(found) == rows[2:4]
    assert [row.version for row in all_of_them] == [1, 3, 4, 6]
    assert [row.version for row in first_two] == [1, 3]
    assert list(await scores.changes("nobody", start=0, end=NOON, limit=2)) == []

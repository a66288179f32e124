"""ScoreStore, sentence by sentence."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from coherence_grpc.model import DAY, SECOND, Score, ScoreSource, Status
from coherence_grpc.ports import ScoreQuery
from tests.builders import NOON, TENANT, a_score
from tests.conformance.holding import one_of_each

if TYPE_CHECKING:
    from collections.abc import Sequence

    from coherence_grpc.ports import ScoreStore
    from tests.conformance.homes import ScoreHome

pytestmark = pytest.mark.anyio


async def one(scores: ScoreStore, tenant_id: str = TENANT) -> Score | None:
    return (await scores.get([tenant_id])).get(tenant_id)


async def history(scores: ScoreStore, tenant_id: str = TENANT) -> Sequence[Score]:
    return await scores.history(tenant_id, after_version=0, limit=10_000)


def full() -> Score:
    """Every field another than its default, and beyond a database's integers where it may be."""
    return replace(
        a_score(score_ppm=499_999, signal_count=10**7, valid_until=NOON + 5, status_changed=True, backfill=True),
        weight_q=10**12 * 10**7,
        data_time=NOON - 3,
        computed_at=NOON + 1,
        source=ScoreSource.COMPUTED,
        policy_etag="etag",
    )


async def test_a_published_row_is_read_back_as_it_was(score_home: ScoreHome) -> None:
    unknown = a_score(tenant_id="b", score_ppm=None)
    async with score_home.scores() as scores:
        won = await scores.publish([full(), unknown])
        before = await scores.get([TENANT, "b", "nobody"])

    async with score_home.scores() as scores:
        assert list(won) == [True, True]
        assert before == await scores.get(["nobody", "b", TENANT]) == {TENANT: full(), "b": unknown}
        assert list(await history(scores)) == [full()]


async def test_versions_rise_by_one_from_one(scores: ScoreStore) -> None:
    skipped = await scores.publish([a_score(version=2)])
    zeroth = await scores.publish([a_score(version=0)])
    won = [await scores.publish([a_score(version=version)]) for version in (1, 2, 4, 3, 1)]

    assert (list(skipped), list(zeroth)) == ([False], [False])
    assert [list(one) for one in won] == [[True], [True], [False], [True], [False]]
    assert [score.version for score in await history(scores)] == [1, 2, 3]


# Signal epoch, as_of_seq and window_end of a row against (2, 5, NOON).
@pytest.mark.parametrize("fence", [(1, 9, NOON + 9), (2, 4, NOON + 9), (2, 5, NOON - 1)])
@pytest.mark.parametrize("version", [1, 2])
async def test_ac_data_04_a_row_below_the_one_in_place_loses_and_changes_nothing(
    scores: ScoreStore, fence: tuple[int, int, int], version: int
) -> None:
    there = a_score(signal_epoch=2, as_of_seq=5)
    await scores.publish([there])
    epoch, seq, window_end = fence

    won = await scores.publish(
        [a_score(score_ppm=1, version=version, signal_epoch=epoch, as_of_seq=seq, window_end=window_end)]
    )

    assert list(won) == [False]
    assert await one(scores) == there
    assert list(await history(scores)) == [there]


@pytest.mark.parametrize("fence", [(3, 1, NOON - 9), (2, 6, NOON - 9), (2, 5, NOON)])
async def test_a_row_at_or_above_the_one_in_place_wins(scores: ScoreStore, fence: tuple[int, int, int]) -> None:
    await scores.publish([a_score(signal_epoch=2, as_of_seq=5)])
    epoch, seq, window_end = fence
    row = a_score(version=2, signal_epoch=epoch, as_of_seq=seq, window_end=window_end)

    won = await scores.publish([row])

    assert list(won) == [True]
    assert await one(scores) == row


async def test_a_row_with_the_version_in_place_replaces_the_other_columns_and_adds_no_history(
    scores: ScoreStore,
) -> None:
    first = a_score(as_of_seq=5)
    await scores.publish([first])
    refreshed = replace(first, as_of_seq=7, window_end=NOON + 9, valid_until=NOON + 99, head_hash=b"\x07" * 32)

    won = await scores.publish([refreshed])

    assert list(won) == [True]
    assert await one(scores) == refreshed
    assert list(await history(scores)) == [first]


async def test_rows_of_one_call_are_decided_in_order(scores: ScoreStore) -> None:
    rows = [a_score(version=1), a_score(version=2), a_score(version=2), a_score(version=1), a_score(tenant_id="b")]

    won = await scores.publish(rows)

    assert list(won) == [True, True, True, False, True]
    assert [score.version for score in await history(scores)] == [1, 2]


async def test_of_two_publishers_of_one_version_both_may_write_it_and_history_has_it_once(scores: ScoreStore) -> None:
    calls = [asyncio.ensure_future(scores.publish([a_score(version=1, score_ppm=n)])) for n in range(20)]

    won = [list(await call) for call in calls]

    assert won == [[True]] * 20
    assert len(await history(scores)) == 1


async def test_a_portfolio_ascends_by_score_and_tenant_with_unknown_last(scores: ScoreStore) -> None:
    rows = {"d": 500_000, "c": None, "b": 1_000_000, "a": None, "e": 0, "f": 500_000}
    await scores.publish([a_score(tenant_id=tenant_id, score_ppm=ppm) for tenant_id, ppm in rows.items()])

    found = await scores.portfolio(ScoreQuery(), tenants=None, after=None, limit=10)

    assert [score.tenant_id for score in found] == ["e", "d", "f", "b", "a", "c"]


async def test_a_portfolio_goes_on_beyond_the_position(scores: ScoreStore) -> None:
    rows = {"d": 500_000, "c": None, "b": 1_000_000, "a": None, "e": 0, "f": 500_000}
    await scores.publish([a_score(tenant_id=tenant_id, score_ppm=ppm) for tenant_id, ppm in rows.items()])
    seen: list[str] = []
    after: tuple[int, str] | None = None

    while page := await scores.portfolio(ScoreQuery(), tenants=None, after=after, limit=2):
        seen += [score.tenant_id for score in page]
        ppm = page[-1].score_ppm
        after = (1_000_001 if ppm is None else ppm, page[-1].tenant_id)

    assert seen == ["e", "d", "f", "b", "a", "c"]


@pytest.mark.parametrize(
    ("query", "tenants", "expected"),
    [
        (ScoreQuery(statuses=[Status.CRITICAL]), None, ["low"]),
        (ScoreQuery(statuses=[Status.UNKNOWN, Status.HEALTHY]), None, ["high", "none"]),
        (ScoreQuery(min_ppm=500_000), None, ["mid", "high"]),
        (ScoreQuery(max_ppm=500_000), None, ["low", "mid"]),
        (ScoreQuery(min_ppm=500_001, max_ppm=749_999), None, []),
        (ScoreQuery(), ["none", "low", "nobody"], ["low", "none"]),
        (ScoreQuery(), [], []),
        (ScoreQuery(statuses=[Status.WARN], min_ppm=500_000), ["mid", "high"], ["mid"]),
    ],
)
async def test_a_portfolio_is_narrowed_by_what_is_named(
    scores: ScoreStore, query: ScoreQuery, tenants: list[str] | None, expected: list[str]
) -> None:
    rows = {"high": 750_000, "mid": 500_000, "low": 499_999, "none": None}
    await scores.publish([a_score(tenant_id=tenant_id, score_ppm=ppm) for tenant_id, ppm in rows.items()])

    found = await scores.portfolio(query, tenants=tenants, after=None, limit=10)

    assert [score.tenant_id for score in found] == expected


async def test_due_are_the_tenants_whose_row_is_valid_no_longer_earliest_first(scores: ScoreStore) -> None:
    valid_until = {"a": NOON + 3, "b": NOON + 1, "c": NOON + 2, "d": None, "e": NOON + 4}
    await scores.publish([a_score(tenant_id=name, valid_until=instant) for name, instant in valid_until.items()])

    assert list(await scores.due(before=NOON, limit=10)) == []
    assert list(await scores.due(before=NOON + 3, limit=10)) == ["b", "c", "a"]
    assert list(await scores.due(before=NOON + 3, limit=2)) == ["b", "c"]


async def test_next_due_is_the_earliest_of_all(scores: ScoreStore) -> None:
    nothing = await scores.next_due()
    await scores.publish([a_score(tenant_id="a")])
    still_nothing = await scores.next_due()
    await scores.publish([a_score(tenant_id="b", valid_until=NOON + 2), a_score(tenant_id="c", valid_until=NOON + 1)])
    earliest = await scores.next_due()
    await scores.publish([a_score(tenant_id="c", valid_until=NOON + 5)])

    assert (nothing, still_nothing, earliest, await scores.next_due()) == (None, None, NOON + 1, NOON + 2)


async def test_due_and_next_due_of_some_shards_leave_the_others_out(scores: ScoreStore) -> None:
    first, second, third = tenants = one_of_each()[:3]
    await scores.publish([a_score(tenant_id=name, valid_until=NOON + n) for n, name in enumerate(tenants)])

    assert list(await scores.due(before=NOON + 9, limit=10, shards={2, 0})) == [first, third]
    assert list(await scores.due(before=NOON + 9, limit=1, shards={1, 2})) == [second]
    assert list(await scores.due(before=NOON, limit=10, shards={1, 2})) == []
    assert list(await scores.due(before=NOON + 9, limit=10, shards=set())) == []
    assert await scores.next_due(shards={1, 2}) == NOON + 1
    assert await scores.next_due(shards={7}) is None


async def test_history_follows_a_version_and_keeps_what_was_a_change(scores: ScoreStore) -> None:
    rows = [
        a_score(version=version, window_end=NOON + version, status_changed=version == 2) for version in (1, 2, 3, 4)
    ]
    for row in rows:
        await scores.publish([row])

    assert list(await scores.history(TENANT, after_version=1, limit=2)) == rows[1:3]
    assert list(await scores.history(TENANT, after_version=4, limit=2)) == []
    assert list(await scores.history("nobody", after_version=0, limit=2)) == []


async def test_version_at_is_the_last_one_published_before_the_instant(scores: ScoreStore) -> None:
    for version, seconds in enumerate((1, 2, 2, 4), start=1):
        await scores.publish([a_score(version=version, window_end=NOON + seconds)])

    found = [await scores.version_at(TENANT, NOON + seconds) for seconds in range(6)]

    assert found == [0, 0, 1, 3, 3, 4]
    assert await scores.version_at("nobody", NOON) == 0


async def publish_every(scores: ScoreStore, step: int, ppms: Sequence[int | None], tenant_id: str = TENANT) -> None:
    before: Status | None = None
    for version, ppm in enumerate(ppms, start=1):
        row = a_score(tenant_id=tenant_id, version=version, score_ppm=ppm, window_end=NOON + version * step)
        await scores.publish([replace(row, status_changed=before is not None and row.status is not before)])
        before = row.status


async def test_thinning_keeps_the_last_of_each_minute_and_status_changes(scores: ScoreStore) -> None:
    ppms = [800_000, 810_000, 820_000, 400_000, 410_000, 420_000, 800_000, 830_000]
    await publish_every(scores, 20 * SECOND, ppms)

    dropped = await scores.thin(now=NOON + 8 * DAY, limit=100)

    # Minutes end after the second, fifth and eighth; the first has no predecessor, the fourth and seventh changed.
    assert [score.version for score in await history(scores)] == [1, 2, 4, 5, 7, 8]
    assert dropped == 2
    assert await scores.thin(now=NOON + 8 * DAY, limit=100) == 0


async def test_thinning_spares_the_last_seven_days(scores: ScoreStore) -> None:
    await publish_every(scores, SECOND, [800_000] * 10)

    early = await scores.thin(now=NOON + 7 * DAY, limit=100)
    half = await scores.thin(now=NOON + 7 * DAY + 6 * SECOND, limit=100)

    assert early == 0
    assert half == 4
    assert [score.version for score in await history(scores)] == [1, 6, 7, 8, 9, 10]


async def test_thinning_goes_on_where_its_limit_stopped_it(scores: ScoreStore) -> None:
    await publish_every(scores, SECOND, [800_000] * 10)
    await publish_every(scores, SECOND, [400_000] * 10, tenant_id="b")

    dropped = [await scores.thin(now=NOON + 8 * DAY, limit=7) for _ in range(4)]

    assert dropped == [7, 7, 2, 0]
    assert [score.version for score in await history(scores)] == [1, 10]
    assert [score.version for score in await history(scores, "b")] == [1, 10]


async def test_thinning_leaves_the_rows_in_place_alone(scores: ScoreStore) -> None:
    await publish_every(scores, SECOND, [800_000] * 10)

    await scores.thin(now=NOON + 8 * DAY, limit=100)
    won = await scores.publish([a_score(version=11, window_end=NOON + 9 * DAY)])

    assert list(won) == [True]


async def test_a_cancelled_publisher_does_not_cancel_the_commit(scores: ScoreStore) -> None:
    row = a_score()
    call = asyncio.ensure_future(scores.publish([row]))
    await asyncio.sleep(0)
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call

    # It queues behind the commit that nobody waits for any more.
    won = await scores.publish([a_score(version=2)])

    assert list(won) == [True]


async def test_the_epoch_stays_across_a_restart(score_home: ScoreHome) -> None:
    async with score_home.scores() as scores:
        epoch = scores.epoch

    async with score_home.scores() as scores:
        assert scores.epoch == epoch >= 1

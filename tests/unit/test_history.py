"""A score's history: what was shown at each instant, and when the held status changed."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from coherence_grpc.adapters.embedded import open_score_store, open_signal_store
from coherence_grpc.errors import FilterInvalid
from coherence_grpc.materialize import RecomputedHistory, Sweeps, history
from coherence_grpc.materialize.course import Span
from coherence_grpc.materialize.history import History, HistoryQuery
from coherence_grpc.model import DAY, SECOND, Held, Status
from tests.builders import NOON, TENANT, ManualClock, a_score

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence
    from pathlib import Path

    from coherence_grpc.materialize.history import HistoryPage, Point
    from coherence_grpc.model import Score
    from coherence_grpc.ports import ScoreStore

pytestmark = pytest.mark.anyio

HOUR = 3600 * SECOND
HEALTHY, WARN, CRITICAL, UNKNOWN = Status.HEALTHY, Status.WARN, Status.CRITICAL, Status.UNKNOWN


@pytest.fixture
async def scores(tmp_path: Path) -> AsyncIterator[ScoreStore]:
    async with open_score_store(tmp_path) as store:
        yield store


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(NOON + 10 * DAY)


@pytest.fixture
async def shown(scores: ScoreStore, clock: ManualClock, tmp_path: Path) -> AsyncIterator[History]:
    async with open_signal_store(tmp_path, clock) as signals:
        yield History(scores, clock, RecomputedHistory(signals, Sweeps(signals)))


async def publish(scores: ScoreStore, *rows: tuple[int, int | None] | tuple[int, int | None, Status]) -> list[Score]:
    """At each instant (after NOON) a score, holding its status or another."""
    published: list[Score] = []
    before = UNKNOWN
    for version, (instant, ppm, *named) in enumerate(rows, start=1):
        row = a_score(version=version, window_end=NOON + instant, score_ppm=ppm)
        held = named[0] if named else row.status
        row = a_score(
            version=version,
            window_end=NOON + instant,
            score_ppm=ppm,
            held=Held(held, None),
            status_changed=held is not before,
        )
        assert list(await scores.publish([row])) == [True]
        published.append(row)
        before = held
    return published


def asked(start: int, end: int, step: int | None = None) -> HistoryQuery:
    return HistoryQuery(TENANT, NOON + start, NOON + end, step)


def figures(points: Sequence[Point]) -> list[tuple[int, int | None]]:
    return [(point.instant - NOON, point.score_ppm) for point in points]


async def every_page(shown: History, query: HistoryQuery, limit: int) -> list[HistoryPage]:
    pages = [await shown.page(query, None, limit)]
    while (following := pages[-1].next) is not None:
        pages.append(await shown.page(query, following, limit))
    return pages


async def test_without_a_step_every_published_score_of_the_range_is_a_point(shown: History, scores: ScoreStore) -> None:
    await publish(scores, (0, 900_000), (1, 600_000), (5, 100_000), (9, None), (10, 800_000))

    page = await shown.page(asked(1, 9), None, 100)

    assert figures(page.points) == [(1, 600_000), (5, 100_000), (9, None)]
    assert [point.version for point in page.points] == [2, 3, 4]
    assert page.points[1].status is page.points[1].held is CRITICAL
    assert page.next is None


async def test_with_a_step_a_point_is_what_was_shown_last_at_or_before_its_instant(
    shown: History, scores: ScoreStore
) -> None:
    await publish(scores, (3, 900_000), (4, 600_000), (6, 100_000))

    page = await shown.page(asked(0, 9, 2), None, 100)

    assert figures(page.points) == [(0, None), (2, None), (4, 600_000), (6, 100_000), (8, 100_000)]
    assert [(point.status, point.version, point.signal_count) for point in page.points[:3]] == [
        (UNKNOWN, 0, 0),
        (UNKNOWN, 0, 0),
        (WARN, 2, 1),
    ]


async def test_a_point_says_what_was_held_beside_its_status(shown: History, scores: ScoreStore) -> None:
    await publish(scores, (0, 900_000), (1, 600_000, HEALTHY))

    page = await shown.page(asked(0, 1), None, 100)

    assert [(point.status, point.held) for point in page.points] == [(HEALTHY, HEALTHY), (WARN, HEALTHY)]


async def test_the_range_is_cut_where_the_held_status_changed_whatever_the_step(
    shown: History, scores: ScoreStore
) -> None:
    await publish(
        scores, (2, 900_000), (3, 600_000, HEALTHY), (5, 600_000), (6, 650_000), (7, 100_000), (9, 900_000), (12, None)
    )

    page = await shown.page(asked(0, 10, SECOND), None, 100)
    middle = await shown.page(asked(5, 7), None, 1)

    assert [(span.status, span.start - NOON, span.end - NOON) for span in page.spans] == [
        (UNKNOWN, 0, 2),
        (HEALTHY, 2, 5),
        (WARN, 5, 7),
        (CRITICAL, 7, 9),
        (HEALTHY, 9, 10),
    ]
    assert page.change_count == 4
    assert [(span.status, span.start - NOON, span.end - NOON) for span in middle.spans] == [
        (WARN, 5, 7),
        (CRITICAL, 7, 7),
    ]
    assert middle.change_count == 1


async def test_a_change_at_the_start_is_not_one_of_the_range(shown: History, scores: ScoreStore) -> None:
    await publish(scores, (0, 900_000))

    page = await shown.page(asked(0, 5), None, 100)

    assert page.spans == [Span(HEALTHY, NOON, NOON + 5)]
    assert page.change_count == 0


async def test_of_changes_at_one_instant_the_last_is_what_was_held(shown: History, scores: ScoreStore) -> None:
    await publish(scores, (1, 900_000), (3, 100_000), (3, 600_000))

    page = await shown.page(asked(1, 5), None, 100)

    assert [(span.status, span.start - NOON) for span in page.spans] == [(HEALTHY, 1), (WARN, 3)]
    assert page.change_count == 2


async def test_a_tenant_never_heard_of_was_unknown(shown: History) -> None:
    page = await shown.page(asked(0, 5), None, 100)
    sampled = await shown.page(asked(0, 4, 2), None, 100)

    assert list(page.points) == []
    assert page.spans == [Span(UNKNOWN, NOON, NOON + 5)]
    assert [point.status for point in sampled.points] == [UNKNOWN] * 3


@pytest.mark.parametrize("step", [None, 3])
@pytest.mark.parametrize("limit", [1, 2, 7])
async def test_pages_add_up_to_the_whole_and_the_first_has_the_spans(
    shown: History, scores: ScoreStore, step: int | None, limit: int
) -> None:
    await publish(scores, *[(instant, 100_000 * (instant % 10)) for instant in range(20)])
    query = asked(2, 17, step)
    whole = await shown.page(query, None, 100)

    pages = await every_page(shown, query, limit)

    assert [point for page in pages for point in page.points] == list(whole.points)
    assert all(len(page.points) <= limit for page in pages)
    assert pages[0].spans == whole.spans
    assert pages[0].change_count == whole.change_count > 0
    assert not any(page.spans or page.change_count for page in pages[1:])


async def test_by_default_it_is_the_day_up_to_now_and_later_pages_keep_to_it(
    shown: History, scores: ScoreStore, clock: ManualClock
) -> None:
    await publish(scores, (0, 100_000), (9 * DAY, 200_000), (10 * DAY - 1, 300_000), (10 * DAY + 1, 400_000))

    first = await shown.page(HistoryQuery(TENANT), None, 1)
    clock.advance(2 * DAY)
    rest = await shown.page(HistoryQuery(TENANT), first.next, 100)

    assert figures([*first.points, *rest.points]) == [(9 * DAY, 200_000), (10 * DAY - 1, 300_000)]
    assert (first.spans[0].start, first.spans[-1].end) == (NOON + 9 * DAY, NOON + 10 * DAY)


@pytest.mark.parametrize(
    ("query", "path"),
    [
        (HistoryQuery(TENANT, end=NOON + 10 * DAY + 1), "end_time"),
        (HistoryQuery(TENANT, start=NOON + 1, end=NOON), "start_time"),
        (HistoryQuery(TENANT, start=NOON - 400 * DAY - 1, end=NOON), "start_time"),
        (HistoryQuery(TENANT, policy_etag="default"), "policy_etag"),
    ],
)
async def test_a_range_that_cannot_be_shown_is_refused_with_its_field(
    shown: History, query: HistoryQuery, path: str
) -> None:
    with pytest.raises(FilterInvalid) as refused:
        await shown.page(query, None, 100)

    assert [field.path for field in refused.value.fields] == [path]


async def test_a_range_of_one_instant_and_one_of_400_days_can_be_shown(shown: History, scores: ScoreStore) -> None:
    await publish(scores, (0, 900_000))

    instant = await shown.page(asked(0, 0, HOUR), None, 100)
    longest = await shown.page(asked(-400 * DAY, 0, DAY), None, 1000)

    assert figures(instant.points) == [(0, 900_000)]
    assert (len(longest.points), longest.points[-1].score_ppm) == (401, 900_000)


async def test_more_changes_than_are_read_at_once_are_all_counted_and_the_first_spans_listed(
    shown: History, scores: ScoreStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(history, "_CHANGES", 3)
    monkeypatch.setattr(history, "MOST_SPANS", 4)
    # Two of three changes share their instant.
    words = (900_000, 100_000, 600_000)
    await publish(scores, *[(number * 2 // 3, words[number % 3]) for number in range(3, 33)])

    page = await shown.page(asked(0, 50), None, 1)

    assert page.change_count == 30
    assert [(span.status, span.start - NOON, span.end - NOON) for span in page.spans] == [
        (UNKNOWN, 0, 2),
        (CRITICAL, 2, 3),
        (WARN, 3, 4),
        (CRITICAL, 4, 5),
    ]


async def test_what_changed_and_changed_back_at_one_instant_lasted_on(shown: History, scores: ScoreStore) -> None:
    await publish(scores, (1, 900_000), (3, 100_000), (3, 900_000))

    page = await shown.page(asked(1, 5), None, 100)

    assert page.spans == [Span(HEALTHY, NOON + 1, NOON + 5)]
    assert page.change_count == 2

"""A score's history as the signals make it: points, spans and changes of an oracle, page by page."""

from __future__ import annotations

from random import Random
from typing import TYPE_CHECKING

import pytest

from coherence_grpc.errors import FilterInvalid, ScorePolicyUnknown, WindowIncomplete
from coherence_grpc.ingest import Records
from coherence_grpc.materialize import History, RecomputedHistory, Sweeps, sweeping
from coherence_grpc.materialize.course import Span
from coherence_grpc.materialize.history import Basis, HistoryQuery
from coherence_grpc.model import DAY, SECOND, EntryKind, Retention, Status, Tags
from coherence_grpc.policy import ScorePolicy, encode_policy
from tests import generated
from tests.builders import NOON, TENANT, a_provenance, an_item
from tests.faults import Grants
from tests.oracle import held_over, segments, truth
from tests.unit.materializing import open_world

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from coherence_grpc.materialize.history import HistoryPage, Point
    from coherence_grpc.policy import PolicyVersion
    from coherence_grpc.ports import WindowColumns
    from tests.unit.materializing import World

pytestmark = pytest.mark.anyio
HOUR = 3600 * SECOND
HEALTHY, CRITICAL, UNKNOWN = Status.HEALTHY, Status.CRITICAL, Status.UNKNOWN


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with open_world(tmp_path, running=False) as opened:
        yield opened


def a_history(world: World) -> History:
    signals = world.signals.port
    return History(world.scores.port, world.clock, RecomputedHistory(signals, Sweeps(signals)))


def asked(start: int, end: int, step: int | None = None, policy_etag: str = "") -> HistoryQuery:
    return HistoryQuery(TENANT, start, end, step, Basis.RECOMPUTED, policy_etag)


async def pages(world: World, query: HistoryQuery, limit: int) -> list[HistoryPage]:
    history = a_history(world)
    found = [await history.page(query, None, limit)]
    while found[-1].next is not None:
        found.append(await history.page(query, found[-1].next, limit))
    return found


async def adopt(world: World, policy: ScorePolicy) -> str:
    await world.signals.append_own(
        TENANT, EntryKind.POLICY, encode_policy(policy), a_provenance(), now=world.clock.now()
    )
    version: PolicyVersion = await world.signals.policy(TENANT)
    return version.etag


async def test_a_history_follows_the_signals_and_not_what_was_shown(world: World) -> None:
    await world.store(an_item(value=0.1, ts=NOON - 30 * HOUR), an_item(value=0.9, ts=NOON - 5 * HOUR))

    (page,) = await pages(world, asked(NOON - 36 * HOUR, NOON, 12 * HOUR), 100)

    assert [(point.instant, point.score_ppm, point.status, point.signal_count) for point in page.points] == [
        (NOON - 36 * HOUR, None, UNKNOWN, 0),
        (NOON - 24 * HOUR, 100_000, CRITICAL, 1),
        (NOON - 12 * HOUR, 100_000, CRITICAL, 1),
        (NOON, 900_000, HEALTHY, 1),
    ]
    assert page.spans == [
        Span(UNKNOWN, NOON - 36 * HOUR, NOON - 30 * HOUR),
        Span(CRITICAL, NOON - 30 * HOUR, NOON - 6 * HOUR + 1),
        Span(UNKNOWN, NOON - 6 * HOUR + 1, NOON - 5 * HOUR),
        Span(HEALTHY, NOON - 5 * HOUR, NOON),
    ]
    assert page.change_count == 3
    assert world.scores.calls["shown_at"] == 0


@pytest.mark.parametrize("seed", range(30))
async def test_pages_of_any_size_are_the_history_of_an_oracle(world: World, seed: int) -> None:
    random = Random(seed)  # noqa: S311 - test data
    policy = generated.a_policy(random, plain=seed % 3 == 0)
    start, end = NOON - 2 * policy.window_us, NOON
    items = [item for item in generated.items_from(random, start, policy.window_us, most=30) if item.ts <= NOON]
    await world.store(*(items or [an_item(weight=0)]))
    await adopt(world, policy)

    found = await pages(world, asked(start, end, policy.window_us // 7), random.choice((1, 2, 5, 100)))

    held = held_over(segments(items, policy, start, end), end)
    points: list[Point] = [point for page in found for point in page.points]
    assert [point.instant for point in points] == list(range(start, end + 1, policy.window_us // 7))
    for point in points:
        expected = truth(items, policy, point.instant)
        assert (point.score_ppm, point.status, point.signal_count) == expected[:3]
        assert point.held is held[max(since for since in held if since <= point.instant)]
    assert {span.start: span.status for span in found[0].spans} == held
    assert found[0].change_count == len(held) - 1
    assert all(not page.spans and not page.change_count for page in found[1:])


async def test_another_page_reads_no_more_than_it_shows(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    await world.store(*(an_item(ts=NOON - n * HOUR) for n in range(1, 400)))
    history, query = a_history(world), asked(NOON - 15 * DAY, NOON, HOUR)
    first = await history.page(query, None, 100)
    read: list[tuple[int, int]] = []
    window = world.signals.window

    async def noted(tenant_id: str, *, start: int, end: int, grouped: bool) -> WindowColumns:
        read.append((start, end))
        columns: WindowColumns = await window(tenant_id, start=start, end=end, grouped=grouped)
        return columns

    monkeypatch.setattr(world.signals, "window", noted, raising=False)

    second = await history.page(query, first.next, 100)

    last = first.points[-1].instant
    assert (min(start for start, _ in read), max(end for _, end in read)) == (last - DAY, second.points[-1].instant)


async def test_a_version_of_the_policy_can_be_named(world: World) -> None:
    await world.store(an_item(value=0.6, ts=NOON - HOUR))
    strict = await adopt(world, ScorePolicy(warn_ppm=700_000))
    lax = await adopt(world, ScorePolicy(warn_ppm=100_000, healthy_ppm=100_000))

    said = [
        (page.points[0].status, page.points[0].policy_etag)
        for etag in ("", strict, "default")
        for page in await pages(world, asked(NOON, NOON, SECOND, etag), 10)
    ]

    assert said == [(Status.HEALTHY, lax), (Status.CRITICAL, strict), (Status.WARN, "")]
    with pytest.raises(ScorePolicyUnknown):
        await pages(world, asked(NOON, NOON, SECOND, "7-none"), 10)


async def test_all_pages_are_under_the_policy_of_the_first(world: World) -> None:
    await world.store(an_item(value=0.6, ts=NOON - HOUR))
    history, query = a_history(world), asked(NOON - 4, NOON, 1)
    first = await history.page(query, None, 2)
    await adopt(world, ScorePolicy(warn_ppm=700_000))

    second = await history.page(query, first.next, 100)

    assert [point.status for point in second.points] == [Status.WARN] * 3


async def test_a_hundred_steps_are_the_default(world: World) -> None:
    await world.store(an_item(ts=NOON - HOUR))

    (page,) = await pages(world, asked(NOON - DAY, NOON), 1000)

    assert [point.instant for point in page.points[:2]] == [NOON - DAY, NOON - DAY + DAY // 100]
    assert len(page.points) == 101


async def test_a_range_over_too_many_signals_is_refused_by_its_field(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    await world.store(*(an_item(ts=NOON - n * HOUR) for n in range(100)))
    monkeypatch.setattr(sweeping, "MOST_PLAIN", 60)
    monkeypatch.setattr(sweeping, "MOST_RULED", 30)

    with pytest.raises(FilterInvalid, match="start_time reaches over more than 60 signals"):
        await pages(world, asked(NOON - 10 * DAY, NOON), 10)
    assert (await pages(world, asked(NOON - 10 * HOUR, NOON, HOUR), 100))[0].points[-1].signal_count == 25
    await adopt(world, ScorePolicy(source_cap_ppm=500_000))
    with pytest.raises(FilterInvalid, match="30 signals, the most that one call recomputes under a policy that tells"):
        await pages(world, asked(NOON - 10 * HOUR, NOON), 10)


async def test_a_range_over_erased_signals_is_refused(world: World) -> None:
    await world.store(an_item(value=0.1), tags=Tags(retention=Retention.SHORT))
    world.clock.advance(32 * DAY)
    async for _ in Records(world.signals.port, world.clock, Grants()).prune(TENANT, dry_run=False):
        pass

    assert (await pages(world, asked(NOON + DAY + 1, NOON + 2 * DAY), 1000))[0].change_count == 0
    with pytest.raises(WindowIncomplete):
        await pages(world, asked(NOON + DAY, NOON + 2 * DAY), 10)


async def test_many_signals_are_swept_in_a_thread_as_exactly(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    items = [an_item(value=n % 10 / 9, ts=NOON - n * 97 * SECOND) for n in range(1000)]
    await world.store(*items)
    query = asked(NOON - 2 * DAY, NOON, HOUR)
    inline = await pages(world, query, 1000)
    monkeypatch.setattr(sweeping, "FEW_PLAIN", 0)
    monkeypatch.setattr(sweeping, "TURNS", 7)
    monkeypatch.setattr(sweeping, "_PART", 50)

    assert await pages(world, query, 1000) == inline

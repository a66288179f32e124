"""Scores follow signals and time, and rows follow scores."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from dataclasses import replace
from random import Random
from typing import TYPE_CHECKING

import pytest

from coherence_grpc.adapters.embedded import open_score_store, open_signal_store
from coherence_grpc.errors import OutcomeUnknown, StoreDown
from coherence_grpc.ingest import Records
from coherence_grpc.materialize import Materializer, publisher, windows
from coherence_grpc.model import DAY, SECOND, WINDOW, Appended, Retention, ScoreSource, Status, Tags
from tests.builders import NOON, TENANT, ManualClock, a_score, a_write, an_item, fresh
from tests.faults import Grants, InterposedScores, InterposedSignals, eventually, until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Sequence
    from pathlib import Path

    from coherence_grpc.model import Item, Score

pytestmark = pytest.mark.anyio


class World:
    """A materialiser on real stores that can be held up, and what it published."""

    def __init__(self, signals: InterposedSignals, scores: InterposedScores, clock: ManualClock) -> None:
        self.signals = signals
        self.scores = scores
        self.clock = clock
        self.enabled = True
        self.announced: list[Score] = []
        self.materializer = self.another()

    def another(self, *on_published: Callable[[Score], None]) -> Materializer:
        return Materializer(
            self.signals.port,
            self.scores.port,
            self.clock,
            enabled=lambda: self.enabled,
            on_published=[*on_published, self.announced.append],
        )

    async def store(
        self,
        *items: Item,
        tenant_id: str = TENANT,
        backfill: bool = False,
        tags: Tags | None = None,
        tell: bool = True,
    ) -> Appended:
        write = a_write(*items, tenant_id=tenant_id, backfill=backfill, tags=tags)
        (appended,) = await self.signals.append([write], now=self.clock.now())
        assert isinstance(appended, Appended)
        if tell:
            self.materializer.appended(appended)
        return appended

    async def evaluate(self, tenant_id: str = TENANT, *, seq: int = 0) -> Score:
        return await self.materializer.evaluate(tenant_id, seq=seq)

    async def row(self, tenant_id: str = TENANT) -> Score | None:
        rows: dict[str, Score] = await self.scores.get((tenant_id,))
        return rows.get(tenant_id)

    async def row_that(self, done: Callable[[Score], bool], tenant_id: str = TENANT) -> Score:
        row = await eventually(lambda: self.row(tenant_id), lambda found: found is not None and done(found))
        assert row is not None
        return row

    async def history(self, tenant_id: str = TENANT) -> Sequence[Score]:
        found: Sequence[Score] = await self.scores.history(tenant_id, after_version=0, limit=1000)
        return found


@asynccontextmanager
async def open_world(
    directory: Path, *, clock: ManualClock | None = None, running: bool = True
) -> AsyncIterator[World]:
    clock = clock or ManualClock()
    async with open_signal_store(directory, clock) as signals, open_score_store(directory) as scores:
        world = World(InterposedSignals(signals), InterposedScores(scores), clock)
        try:
            if running:
                async with world.materializer:
                    yield world
            else:
                yield world
        finally:
            world.signals.release()


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with open_world(tmp_path) as opened:
        yield opened


@pytest.fixture
def long_hold(monkeypatch: pytest.MonkeyPatch) -> None:
    """A tenant's next publication never comes, unless its status changes."""
    monkeypatch.setattr(publisher, "HOLD_S", 3600.0)


def shown(score: Score) -> tuple[int | None, Status, int, int | None, int]:
    return score.score_ppm, score.status, score.signal_count, score.valid_until, score.as_of_seq


def covers(seq: int) -> Callable[[Score], bool]:
    return lambda row: row.as_of_seq == seq


# Evaluating


async def test_a_tenant_never_heard_of_is_unknown_and_leaves_no_trace(world: World) -> None:
    score = await world.evaluate("nobody")

    assert (score.score_ppm, score.status, score.signal_count, score.version) == (None, Status.UNKNOWN, 0, 0)
    assert (score.window_start, score.window_end, score.data_time) == (NOON - WINDOW, NOON, None)
    assert world.materializer._windows.peek("nobody") is None
    assert await world.row("nobody") is None


async def test_a_commit_is_in_the_next_evaluation(world: World) -> None:
    await world.store(an_item(value=0.2, weight=3))
    await world.evaluate()

    await world.store(an_item(value=1.0, weight=1, ts=NOON - SECOND))
    score = await world.evaluate()

    assert (score.score_ppm, score.status, score.signal_count) == (400_000, Status.CRITICAL, 2)
    assert (score.weight_q, score.data_time, score.as_of_seq) == (4 * 10**9, NOON, 2)
    assert (score.source, score.stale) == (ScoreSource.MATERIALIZED, False)
    assert score.head_hash == (await world.signals.head(TENANT)).head_hash


async def test_a_window_is_loaded_from_the_store_when_first_needed(tmp_path: Path) -> None:
    async with open_world(tmp_path) as world:
        await world.store(an_item(value=0.2), an_item(ts=NOON - WINDOW - 1), an_item(weight=0))

    async with open_world(tmp_path) as world:
        score = await world.evaluate()

        assert (score.score_ppm, score.signal_count, score.as_of_seq) == (200_000, 1, 3)


async def test_a_large_window_is_loaded_as_exactly_as_a_small_one(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    await world.store(*(an_item(value=n / 100, ts=NOON - n) for n in range(100)), tell=False)
    monkeypatch.setattr(windows, "LARGE", 10)

    score = await world.evaluate()

    assert (score.score_ppm, score.signal_count) == (495_000, 100)


async def test_many_readers_share_one_loading(world: World) -> None:
    await world.store(an_item(), tell=False)

    async with asyncio.TaskGroup() as readers:
        for _ in range(50):
            readers.create_task(world.evaluate())

    assert world.signals.calls["window"] == 1


async def test_what_is_committed_while_a_window_loads_counts_once(world: World) -> None:
    await world.store(an_item(value=0.0), tell=False)
    world.signals.hold_answers("window")
    reading = asyncio.create_task(world.evaluate())
    await until(lambda: world.signals.answers["window"] == 1)

    await world.store(an_item(value=1.0))
    await world.store(an_item(value=1.0))
    world.signals.release()
    score = await reading

    assert (score.signal_count, score.as_of_seq, score.score_ppm) == (3, 3, 666_667)


async def test_what_is_committed_before_the_snapshot_and_told_after_counts_once(world: World) -> None:
    world.signals.hold("window")
    await world.store(an_item(), tell=False)
    reading = asyncio.create_task(world.evaluate())
    await until(lambda: world.signals.calls["window"] == 1)
    await world.store(an_item())
    world.signals.release()

    score = await reading

    assert (score.signal_count, score.as_of_seq) == (2, 2)


async def test_a_cancelled_reader_leaves_the_loading_to_the_others(world: World) -> None:
    await world.store(an_item(), tell=False)
    world.signals.hold("window")
    leaving, staying = asyncio.create_task(world.evaluate()), asyncio.create_task(world.evaluate())
    await until(lambda: world.signals.calls["window"] == 1)

    leaving.cancel()
    world.signals.release()

    assert (await staying).signal_count == 1


async def test_entries_that_nobody_announced_are_read_from_the_log(world: World) -> None:
    await world.store(an_item(value=0.0))
    await world.evaluate()
    await world.store(an_item(value=1.0), tell=False)

    await world.store(an_item(value=1.0))
    score = await world.evaluate()

    assert (score.signal_count, score.as_of_seq, score.score_ppm) == (3, 3, 666_667)


async def test_an_evaluation_reaches_the_entry_asked_for_though_it_moves_no_score(world: World) -> None:
    await world.store(an_item(), tags=Tags(retention=Retention.SHORT))
    world.clock.advance(32 * DAY)
    await world.store(an_item(value=0.3, ts=world.clock.now()))
    assert (await world.evaluate()).as_of_seq == 2
    async for _ in Records(world.signals.port, world.clock, Grants()).prune(TENANT, dry_run=False):
        pass

    score = await world.evaluate(seq=3)

    assert (score.as_of_seq, score.score_ppm) == (3, 300_000)
    assert score.head_hash == (await world.signals.head(TENANT)).head_hash


async def test_a_loading_that_fails_is_the_readers_error_and_the_next_one_loads_anew(world: World) -> None:
    await world.store(an_item(), tell=False)
    world.signals.failures["window"] = StoreDown("down")
    with pytest.raises(StoreDown):
        await world.evaluate()
    world.signals.failures.clear()

    assert (await world.evaluate()).signal_count == 1


async def test_ac_data_03_evaluating_computing_and_the_row_agree_over_any_history(world: World) -> None:
    random = Random(7)  # noqa: S311 - test data
    known: list[Item] = []
    for _ in range(40):
        now = world.clock.now()
        items = [
            an_item(
                value=random.choice((0.0, 1.0, random.random())),
                weight=random.choice((0.0, 1000.0, 999.999999999, 1000 * random.random())),
                ts=now - random.randrange(-300 * SECOND, WINDOW + 3600 * SECOND),
            )
            for _ in range(random.randrange(1, 30))
        ]
        # Some come again, some of those with another value: neither moves a score.
        again = random.sample(known, min(len(known), 5))
        await world.store(*items, *again, *(item._replace(value_q=1) for item in again), *items[:3])
        known += items
        world.clock.advance(random.choice((1, SECOND, 3600 * SECOND, WINDOW // 3)))

        live = await world.evaluate()
        computed = await world.materializer.as_of(TENANT, world.clock.now())

        assert replace(live, source=ScoreSource.COMPUTED, version=0) == replace(computed, version=0)
    last = await world.evaluate()
    assert shown(await world.row_that(lambda row: shown(row) == shown(last))) == shown(last)


# Publishing


async def test_the_first_publication_is_version_1_and_told_once(world: World) -> None:
    await world.store(an_item(value=0.2))

    row = await world.row_that(covers(1))

    assert (row.version, row.status, row.status_changed) == (1, Status.CRITICAL, True)
    assert shown(row) == shown(await world.evaluate())
    await until(lambda: bool(world.announced))
    assert world.announced == [row]
    assert await world.signals.published() == {TENANT: (row.score_epoch, 1)}
    assert (await world.evaluate()).version == 1


async def test_a_burst_is_published_in_fewer_rows_and_the_last_one_is_right(world: World) -> None:
    for n in range(200):
        await world.store(an_item(value=0.8 + n / 1000))

    row = await world.row_that(covers(200))

    history = await world.history()
    assert [score.version for score in history] == list(range(1, row.version + 1))
    assert row.version < 100
    assert shown(row) == shown(await world.evaluate())
    await until(lambda: [score.version for score in world.announced] == [score.version for score in history])


@pytest.mark.usefixtures("long_hold")
async def test_a_change_of_status_is_published_at_once_and_other_changes_wait(world: World) -> None:
    await world.store(an_item(value=0.9))
    await world.row_that(covers(1))

    await world.store(an_item(value=0.8), tenant_id=TENANT)
    await world.store(an_item(), tenant_id="other")
    await world.row_that(covers(1), "other")
    waiting = await world.row()
    await world.store(an_item(value=0.0))
    row = await world.row_that(covers(3))

    assert waiting is not None
    assert waiting.version == 1
    assert (row.version, row.status, row.status_changed) == (2, Status.WARN, True)


async def test_the_same_score_and_status_keep_the_version_and_are_not_told(world: World) -> None:
    await world.store(an_item(value=0.9))
    first = await world.row_that(covers(1))

    await world.store(an_item(value=0.9, ts=NOON - SECOND))
    row = await world.row_that(covers(2))

    assert (row.version, row.signal_count) == (1, 2)
    assert row.valid_until == NOON - SECOND + WINDOW + 1
    assert row.status_changed == first.status_changed
    assert len(await world.history()) == 1
    await until(lambda: world.announced == [first])


async def test_ac_data_05_ageing_out_moves_the_row_though_nothing_arrives(world: World) -> None:
    await world.store(an_item(value=0.2, ts=NOON - SECOND), an_item(value=1.0))
    await world.row_that(covers(1 + 1))

    world.clock.advance(WINDOW - SECOND + 1)
    half = await world.row_that(lambda row: row.signal_count == 1)
    world.clock.advance(SECOND)
    none = await world.row_that(lambda row: row.signal_count == 0)

    assert (half.score_ppm, half.status, half.status_changed) == (1_000_000, Status.HEALTHY, True)
    assert (none.score_ppm, none.status, none.valid_until) == (None, Status.UNKNOWN, None)
    await until(lambda: [score.version for score in world.announced] == [1, 2, 3])


async def test_a_signal_dated_ahead_moves_the_row_when_its_time_comes(world: World) -> None:
    await world.store(an_item(value=0.2, ts=NOON + 300 * SECOND))
    before = await world.row_that(covers(1))

    world.clock.advance(300 * SECOND)
    after = await world.row_that(lambda row: row.signal_count == 1)

    assert (before.status, before.version, before.valid_until) == (Status.UNKNOWN, 1, NOON + 300 * SECOND)
    assert (after.score_ppm, after.version) == (200_000, 2)


async def test_a_row_that_fell_due_while_nobody_ran_is_brought_up_to_date(tmp_path: Path) -> None:
    async with open_world(tmp_path) as world:
        await world.store(an_item())
        await world.row_that(covers(1))

    async with open_world(tmp_path, clock=ManualClock(NOON + 2 * WINDOW)) as world:
        row = await world.row_that(lambda row: row.status is Status.UNKNOWN)

        assert row.version == 2


async def test_a_crash_between_commit_and_publication_is_made_up_for_at_the_start(tmp_path: Path) -> None:
    async with open_world(tmp_path, running=False) as world:
        await world.store(an_item(), tell=False)
        await world.store(an_item(), tenant_id="other", tell=False)

    async with open_world(tmp_path) as world:
        await world.row_that(covers(1))
        await world.row_that(covers(1), "other")
        assert world.materializer.keeping_up


async def test_closing_publishes_what_is_behind(tmp_path: Path) -> None:
    async with open_world(tmp_path) as world:
        await world.store(an_item(value=0.1))
        await world.row_that(covers(1))
        await world.store(an_item(value=0.2))

    async with open_world(tmp_path, running=False) as world:
        row = await world.row()

        assert row is not None
        assert row.as_of_seq == 2


async def test_r7_who_loses_the_fence_stays_silent_and_goes_on_from_the_newer_row(world: World) -> None:
    appended = await world.store(an_item(value=0.9))
    await world.row_that(covers(1))
    for version in range(2, 6):
        foreign = a_score(
            version=version, head_hash=appended.head.head_hash, score_ppm=version, score_epoch=world.scores.epoch
        )
        assert await world.scores._publish([foreign]) == [True]

    await world.store(an_item(value=0.7))
    row = await world.row_that(covers(2))

    assert (row.version, row.score_ppm) == (6, 800_000)
    await until(lambda: [score.version for score in world.announced] == [1, 6])


async def test_r22_a_row_never_goes_back_in_time_though_the_clock_does(tmp_path: Path) -> None:
    ahead = NOON + 600 * SECOND
    async with open_world(tmp_path) as world:
        await world.store(an_item(value=0.9))
        world.clock.advance(ahead - NOON)
        await world.store(an_item(value=0.8, ts=NOON), tenant_id="other")
        world.materializer._publisher.touch(TENANT)
        await world.store(an_item(value=0.9, ts=NOON + 1))
        await world.row_that(lambda row: row.window_end == ahead)

    clock = ManualClock(NOON)
    async with open_signal_store(tmp_path, ManualClock()) as signals, open_score_store(tmp_path) as scores:
        world = World(InterposedSignals(signals), InterposedScores(scores), clock)
        async with world.materializer:
            await world.store(an_item(value=0.1, ts=NOON))
            row = await world.row_that(covers(3))

            assert (await world.evaluate()).window_end == ahead
        assert (row.window_end, row.version) == (ahead, 2)


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


@pytest.mark.parametrize(
    ("backfills", "expected"), [([True], True), ([True, True], True), ([False], False), ([True, False], False)]
)
async def test_a_row_that_only_backfilled_signals_moved_says_so(
    world: World, backfills: Sequence[bool], expected: bool
) -> None:
    world.scores.hold("publish")
    await world.store(an_item(value=0.1), tenant_id="first")
    await until(lambda: world.scores.calls["publish"] == 1)
    for backfill in backfills:
        await world.store(an_item(value=0.2), backfill=backfill)
    world.scores.release()

    row = await world.row_that(covers(len(backfills)))

    assert row.backfill is expected
    await world.store(an_item(value=0.9), backfill=True)
    assert (await world.row_that(covers(len(backfills) + 1))).backfill


async def test_a_row_that_time_moved_too_is_not_backfilled(world: World) -> None:
    await world.store(an_item(value=0.9), backfill=True)
    await world.row_that(covers(1))
    world.scores.hold("due")
    asked = world.scores.calls["due"]
    world.clock.advance(WINDOW + 1)
    await until(lambda: world.scores.calls["due"] > asked)
    await world.store(an_item(value=0.1, ts=NOON + WINDOW), backfill=True)
    world.scores.release()

    row = await world.row_that(covers(2))

    assert (row.version, row.backfill) == (2, False)


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


# The switch


async def test_switched_off_nothing_is_published_and_scores_are_computed(world: World) -> None:
    await world.store(an_item(value=0.2))
    await world.row_that(covers(1))
    world.enabled = False
    tries = world.scores.calls["publish"]

    await world.store(an_item(value=1.0))
    score = await world.evaluate()
    world.clock.advance(WINDOW + 1)
    later = await world.evaluate()

    assert (score.source, score.score_ppm, score.as_of_seq, score.version) == (ScoreSource.COMPUTED, 600_000, 2, 1)
    assert (later.source, later.status) == (ScoreSource.COMPUTED, Status.UNKNOWN)
    assert world.scores.calls["publish"] == tries
    assert not world.materializer.keeping_up


async def test_switched_on_again_it_catches_up(world: World) -> None:
    world.enabled = False
    await world.store(an_item(value=0.2))
    await world.evaluate()

    world.enabled = True

    assert (await world.row_that(covers(1))).score_ppm == 200_000
    assert (await world.evaluate()).source is ScoreSource.MATERIALIZED


async def test_switched_off_a_computed_score_never_goes_behind_the_row(world: World) -> None:
    world.clock.advance(600 * SECOND)
    await world.store(an_item(ts=NOON))
    await world.row_that(covers(1))
    world.enabled = False
    behind = World(world.signals, world.scores, ManualClock(NOON))
    behind.enabled = False

    assert (await behind.evaluate()).window_end == NOON + 600 * SECOND


async def test_computed_scores_are_shared_but_never_older_than_the_call(world: World) -> None:
    world.enabled = False
    await world.store(an_item())
    world.signals.hold_answers("totals")
    first = asyncio.create_task(world.evaluate())
    await until(lambda: world.signals.answers["totals"] == 1)
    await world.store(an_item())
    later = [asyncio.create_task(world.evaluate()) for _ in range(20)]
    await asyncio.sleep(0)
    world.signals.release()

    assert (await first).as_of_seq == 1
    assert {(await task).as_of_seq for task in later} == {2}
    assert world.signals.calls["totals"] == 2

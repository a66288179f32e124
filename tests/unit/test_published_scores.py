"""Reading what was published: when a row will do, when it is computed, and what is said while a store is away."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from coherence_grpc.errors import StoreDown
from coherence_grpc.materialize import heard, published
from coherence_grpc.model import DAY, SECOND, ScoreSource
from coherence_grpc.tokens import Revision
from tests.builders import NOON, TENANT, an_item
from tests.faults import eventually, until
from tests.unit.sharing import open_shared

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping, Sequence
    from pathlib import Path

    from coherence_grpc.model import Appended, Score
    from tests.unit.sharing import Process, Shared

pytestmark = pytest.mark.anyio
DOWN = StoreDown("the store is away")


class Cache:
    """Keeps whatever it is given."""

    def __init__(self) -> None:
        self.rows: dict[str, Score] = {}

    async def get(self, tenant_ids: Sequence[str]) -> Mapping[str, Score]:
        return {name: self.rows[name] for name in tenant_ids if name in self.rows}

    async def put(self, scores: Sequence[Score]) -> None:
        self.rows.update({score.tenant_id: score for score in scores})


@pytest.fixture
async def shared(tmp_path: Path) -> AsyncIterator[Shared]:
    async with open_shared(tmp_path) as opened:
        yield opened


@pytest.fixture
async def reader(shared: Shared) -> Process:
    """A process that holds nothing, on a published score of 0.4 that a signal of 0.4 made."""
    async with shared.running(TENANT):
        await shared.store(an_item(value=0.4, ts=NOON))
        await eventually(shared.row, lambda row: row is not None)
    return shared.process()


async def get(process: Process, at_least: Appended | None = None) -> Score:
    revision = None
    if at_least is not None:
        head = at_least.head
        revision = Revision(head.epoch, head.seq, head.head_hash[:8])
    score, _ = await process.scores.get(TENANT, at_least=revision, timeout_s=5)
    return score


async def test_who_does_not_hold_a_tenant_answers_with_its_row(shared: Shared, reader: Process) -> None:
    score = await get(reader)

    assert (score.score_ppm, score.source, score.version) == (400_000, ScoreSource.MATERIALIZED, 1)
    assert not shared.signals.calls["totals"]


@pytest.mark.parametrize("mode", ["cache", "postgres", "graph"])
async def test_adr_001_every_read_mode_gives_the_same_score(shared: Shared, reader: Process, mode: str) -> None:
    reader.read_mode = mode

    score = await get(reader)

    assert (score.score_ppm, score.signal_count, score.as_of_seq) == (400_000, 1, 1)
    assert score.source is (ScoreSource.COMPUTED if mode == "graph" else ScoreSource.MATERIALIZED)


@pytest.mark.parametrize("mode", ["cache", "postgres", "graph"])
async def test_a_read_at_least_as_fresh_as_a_revision_has_seen_it_in_every_mode(
    shared: Shared, reader: Process, mode: str
) -> None:
    reader.read_mode = mode
    appended = await shared.store(an_item(value=0.8, ts=NOON))

    score = await get(reader, appended)

    assert (score.score_ppm, score.as_of_seq) == (600_000, 2)


async def test_a_row_that_comes_while_a_read_waits_for_it_is_the_answer(
    shared: Shared, reader: Process, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(published, "PATIENCE_S", 60.0)
    appended = await shared.store(an_item(value=0.8, ts=NOON))
    reading = asyncio.create_task(get(reader, appended))

    async with shared.running(TENANT):
        score = await reading

    assert (score.score_ppm, score.source) == (600_000, ScoreSource.MATERIALIZED)


async def test_a_row_that_time_has_passed_is_computed(shared: Shared, reader: Process) -> None:
    shared.clock.advance(DAY + SECOND)

    score = await get(reader)

    assert (score.score_ppm, score.signal_count, score.source) == (None, 0, ScoreSource.COMPUTED)


async def test_a_tenant_without_a_row_is_computed(shared: Shared) -> None:
    await shared.store(an_item(value=0.4))

    score = await get(shared.process())

    assert (score.score_ppm, score.source) == (400_000, ScoreSource.COMPUTED)


async def test_r9_without_the_score_store_the_last_row_is_answered_and_says_that_it_is_stale(
    shared: Shared, reader: Process
) -> None:
    await get(reader)
    shared.scores.failures["get"] = DOWN

    kept = await get(reader)
    shared.clock.advance(DAY + SECOND)
    computed = await get(reader)

    assert (kept.score_ppm, kept.source, kept.stale) == (400_000, ScoreSource.MATERIALIZED, True)
    assert (computed.score_ppm, computed.source, computed.stale) == (None, ScoreSource.COMPUTED, False)


async def test_r9_a_row_that_was_published_here_is_remembered_though_nobody_read_it(shared: Shared) -> None:
    async with shared.running(TENANT) as process:
        await shared.store(an_item(value=0.4, ts=NOON))
        await until(lambda: bool(process.announced))
        process.leases.give()
        shared.scores.failures["get"] = DOWN

        score = await get(process)

    assert (score.score_ppm, score.stale, shared.signals.calls["totals"]) == (400_000, True, 0)


async def test_a_row_that_the_log_has_left_behind_says_that_it_is_stale(
    shared: Shared, reader: Process, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = await get(reader)
    await shared.store(an_item(value=0.8, ts=NOON))

    reader.materializer.moved(TENANT, 2)
    at_once = await get(reader)
    monkeypatch.setattr(heard, "SETTLED_S", 0.0)
    later = await get(reader)

    assert [score.as_of_seq for score in (before, at_once, later)] == [1, 1, 1]
    assert [score.stale for score in (before, at_once, later)] == [False, False, True]


async def test_r9_a_row_that_was_remembered_for_more_than_a_minute_is_computed(
    shared: Shared, reader: Process, monkeypatch: pytest.MonkeyPatch
) -> None:
    await get(reader)
    await shared.store(an_item(value=0.8, ts=NOON))
    shared.scores.failures["get"] = DOWN
    monkeypatch.setattr(published, "MAX_STALE_S", 0.0)

    score = await get(reader)

    assert (score.score_ppm, score.source, score.stale) == (600_000, ScoreSource.COMPUTED, False)


async def test_r9_without_the_signal_store_a_row_past_its_time_is_stale_for_a_minute(
    shared: Shared, reader: Process
) -> None:
    await get(reader)
    shared.signals.failures["totals"] = DOWN
    fresh = await get(reader)
    shared.clock.advance(DAY + SECOND)
    stale = await get(reader)
    shared.clock.advance(60 * SECOND)

    with pytest.raises(StoreDown):
        await get(reader)

    assert (fresh.stale, stale.stale, stale.score_ppm) == (False, True, 400_000)


async def test_a_stale_row_never_stands_for_a_revision_it_has_not_seen(shared: Shared, reader: Process) -> None:
    appended = await shared.store(an_item(value=0.8, ts=NOON))
    shared.signals.failures["totals"] = DOWN

    with pytest.raises(StoreDown):
        await get(reader, appended)


async def test_while_too_many_scores_are_computed_a_read_is_answered_with_a_stale_row(
    shared: Shared, reader: Process, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(published, "COMPUTING", 1)
    crowded = shared.process()
    shared.clock.advance(DAY + SECOND)
    shared.signals.hold("totals")
    first = asyncio.create_task(crowded.scores.get("other", timeout_s=5))
    await until(lambda: shared.signals.calls["totals"] == 1)

    second = await get(crowded)
    shared.signals.release()

    assert (second.stale, second.score_ppm) == (True, 400_000)
    assert (await first)[0].source is ScoreSource.COMPUTED


async def test_ac_api_08_a_cached_row_is_answered_while_it_is_fresh_enough(shared: Shared, reader: Process) -> None:
    row = await shared.row()
    assert row is not None
    cache = Cache()
    await cache.put([row])
    cached = shared.process(cache=cache)
    shared.scores.failures["get"] = DOWN

    score = await get(cached)
    appended = await shared.store(an_item(value=0.8, ts=NOON))
    shared.scores.failures.clear()
    newer = await get(cached, appended)

    assert (score.score_ppm, score.source) == (400_000, ScoreSource.CACHE)
    assert (newer.score_ppm, newer.as_of_seq) == (600_000, 2)


async def test_a_holder_that_cannot_read_its_window_answers_with_the_row(shared: Shared, reader: Process) -> None:
    holder = shared.process(TENANT)
    shared.signals.failures["window"] = DOWN

    score = await get(holder)

    assert (score.score_ppm, score.source) == (400_000, ScoreSource.MATERIALIZED)


async def test_ac_api_08_of_100_misses_at_once_one_computes(shared: Shared) -> None:
    await shared.store(an_item(value=0.4))
    process = shared.process()
    shared.signals.hold("totals")
    reading = [asyncio.create_task(get(process)) for _ in range(100)]
    await until(lambda: shared.signals.calls["totals"] == 1)
    shared.signals.release()

    scores = [await one for one in reading]

    assert {score.score_ppm for score in scores} == {400_000}
    assert shared.signals.calls["totals"] == 1

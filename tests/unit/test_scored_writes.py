"""Writes that wait for their score."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from coherence_grpc.errors import PolicyDenied, ScopeMissing, StoreDown
from coherence_grpc.materialize import ScoredWrites
from coherence_grpc.model import Head
from tests.builders import TENANT, a_caller, an_item
from tests.faults import Grants
from tests.unit.reading_scores import World, open_world

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

pytestmark = pytest.mark.anyio


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with open_world(tmp_path) as opened:
        yield opened


@pytest.fixture
def scored(world: World) -> ScoredWrites:
    return ScoredWrites(world.scores, Grants())


@pytest.mark.parametrize("enabled", [True, False])
async def test_the_score_has_seen_the_write(world: World, scored: ScoredWrites, enabled: bool) -> None:
    world.enabled = enabled
    await world.publish(an_item(value=0.2))
    appended = await world.publish(an_item(value=0.6))

    score = await scored.after(TENANT, appended.head, timeout_s=10)

    assert score is not None
    assert (score.score_ppm, score.as_of_seq) == (400_000, 2)


async def test_a_score_that_takes_too_long_is_not_waited_for(world: World, scored: ScoredWrites) -> None:
    world.enabled = False
    appended = await world.publish(an_item())
    world.signals.hold("totals")

    pending = await scored.after(TENANT, appended.head, timeout_s=0.1)
    world.signals.release()
    score = await scored.after(TENANT, appended.head, timeout_s=10)

    assert pending is None
    assert score is not None


@pytest.mark.parametrize("failure", [StoreDown("away"), RuntimeError("a bug")])
async def test_a_score_that_cannot_be_had_is_no_error(world: World, scored: ScoredWrites, failure: Exception) -> None:
    world.enabled = False
    appended = await world.publish(an_item())
    world.signals.failures["totals"] = failure

    assert await scored.after(TENANT, appended.head, timeout_s=10) is None


async def test_of_a_log_that_is_another_by_now_there_is_no_score(world: World, scored: ScoredWrites) -> None:
    head = (await world.publish(an_item())).head

    assert await scored.after(TENANT, Head(head.epoch, head.seq, b"other".ljust(32)), timeout_s=10) is None
    assert await scored.after(TENANT, Head(head.epoch, 7, head.head_hash), timeout_s=10) is None


async def test_without_time_there_is_no_score(world: World, scored: ScoredWrites) -> None:
    world.enabled = False
    appended = await world.publish(an_item())

    assert await scored.after(TENANT, appended.head, timeout_s=0) is None


async def test_who_may_not_read_the_score_is_refused_before(scored: ScoredWrites) -> None:
    await scored.admit(TENANT, a_caller(scopes=["coherence:write", "coherence:read"]))

    with pytest.raises(ScopeMissing):
        await scored.admit(TENANT, a_caller(scopes=["coherence:write"]))
    with pytest.raises(PolicyDenied):
        await scored.admit(TENANT, a_caller(tenants=["other"]))

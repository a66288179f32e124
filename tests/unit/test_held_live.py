"""What a running process holds, over changes of the rules."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from coherence_grpc.model import SECOND, EntryKind, Held, Status
from coherence_grpc.policy import ScorePolicy, encode_policy
from tests.builders import NOON, TENANT, a_provenance, an_item
from tests.unit.materializing import open_world

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from tests.unit.materializing import World

pytestmark = pytest.mark.anyio
SLOW = ScorePolicy(dwell_us=3600 * SECOND)


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with open_world(tmp_path, running=False) as opened:
        yield opened


async def adopt(world: World, policy: ScorePolicy) -> None:
    entry = await world.signals.append_own(
        TENANT, EntryKind.POLICY, encode_policy(policy), a_provenance(), now=world.clock.now()
    )
    world.materializer.moved(TENANT, entry.seq)


async def test_what_changed_under_the_rules_before_stays_changed_under_new_ones(world: World) -> None:
    await world.store(an_item(value=1.0, ts=NOON), an_item(value=0.0, weight=9, ts=NOON + 100 * SECOND))
    assert (await world.evaluate()).held == Held(Status.HEALTHY, NOON)
    world.clock.advance(200 * SECOND)

    await adopt(world, SLOW)

    held = (await world.evaluate()).held
    assert held is not None
    assert (held.status, held.pending) == (Status.CRITICAL, ())


async def test_what_was_held_back_counts_from_when_it_began(world: World) -> None:
    await adopt(world, SLOW)
    await world.store(an_item(value=1.0, ts=NOON), an_item(value=0.0, weight=9, ts=NOON + 100 * SECOND))
    await world.evaluate()
    world.clock.advance(200 * SECOND)

    await adopt(world, ScorePolicy(dwell_us=300 * SECOND))
    soon = await world.evaluate()
    world.clock.advance(200 * SECOND)

    assert soon.held == Held(
        Status.HEALTHY, NOON, ((Status.WARN, NOON + 100 * SECOND), (Status.CRITICAL, NOON + 100 * SECOND))
    )
    assert (await world.evaluate()).held == Held(Status.CRITICAL, NOON + 400 * SECOND)

"""An answer may be given again for 10 ms, unless something has changed it."""

from __future__ import annotations

import pytest

from coherence_grpc.model import Appended, Head
from coherence_grpc.servicers import RecentScores, recent
from tests.builders import NOON, TENANT, ManualClock, a_score, a_write

pytestmark = pytest.mark.anyio

ANSWER = b"answer"


class World:
    """Recent answers on a clock that stands still; machine time is out of the way unless a test is about it."""

    def __init__(self) -> None:
        self.clock = ManualClock()
        self.enabled = True
        self.recent = RecentScores(self.clock, lambda: self.enabled)

    def put(self, *, valid_until: int | None = None) -> None:
        self.recent.put(a_score(valid_until=valid_until), ANSWER, self.recent.mark())

    def change(self, how: str, tenant_id: str) -> None:
        if how == "appended":
            self.recent.appended(Appended(a_write(tenant_id=tenant_id), [], 1, [], [], NOON, Head(1, 1, b"\x01" * 32)))
        else:
            self.recent.published(a_score(tenant_id=tenant_id))


@pytest.fixture
async def world(monkeypatch: pytest.MonkeyPatch) -> World:
    monkeypatch.setattr(recent, "FRESH_S", 60.0)
    return World()


async def test_an_answer_is_given_again(world: World) -> None:
    world.put()

    assert world.recent.get(TENANT) == ANSWER
    assert world.recent.get("other") is None


@pytest.mark.parametrize("end", ["appended", "published"])
async def test_a_write_or_a_publication_ends_it_for_its_tenant_alone(world: World, end: str) -> None:
    world.put()

    world.change(end, "other")
    assert world.recent.get(TENANT) == ANSWER
    world.change(end, TENANT)
    assert world.recent.get(TENANT) is None


async def test_what_was_evaluated_before_a_change_is_not_kept_after_it(world: World) -> None:
    mark = world.recent.mark()
    world.change("appended", TENANT)

    world.recent.put(a_score(), ANSWER, mark)

    assert world.recent.get(TENANT) is None


async def test_it_ends_when_time_changes_the_score(world: World) -> None:
    world.put(valid_until=NOON + 5)

    world.clock.advance(4)
    assert world.recent.get(TENANT) == ANSWER
    world.clock.advance(1)
    assert world.recent.get(TENANT) is None


async def test_it_ends_10_ms_later_by_either_clock(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.put()
    world.clock.advance(recent.FRESH_US)
    assert world.recent.get(TENANT) == ANSWER
    world.clock.advance(1)
    assert world.recent.get(TENANT) is None

    world = World()
    world.put()
    monkeypatch.setattr(recent, "FRESH_S", -1.0)
    assert world.recent.get(TENANT) is None


async def test_nothing_is_given_again_while_the_materialiser_is_off(world: World) -> None:
    world.put()
    world.enabled = False

    assert world.recent.get(TENANT) is None


async def test_only_so_many_are_kept(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recent, "MANY", 2)
    for tenant_id in ("a", "b", "c"):
        world.recent.put(a_score(tenant_id=tenant_id), ANSWER, world.recent.mark())

    assert [world.recent.get(tenant_id) for tenant_id in ("a", "b", "c")] == [None, None, ANSWER]

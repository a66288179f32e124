"""How far a log had come a moment ago, as far as one was told."""

from __future__ import annotations

import pytest

from coherence_grpc.materialize import heard
from coherence_grpc.materialize.heard import Heard
from tests.builders import TENANT


class World:
    """What was heard, on a clock that stands still."""

    def __init__(self) -> None:
        self.now = 100.0
        self.heard = Heard(monotonic=lambda: self.now)

    def due_after(self, seconds: float) -> int:
        self.now += seconds
        return self.heard.due(TENANT)


@pytest.fixture
def world() -> World:
    return World()


def test_nothing_is_due_of_a_log_that_nobody_spoke_of(world: World) -> None:
    assert world.due_after(10.0) == 0


def test_an_entry_is_due_a_moment_after_it_was_heard_of_and_stays_so(world: World) -> None:
    world.heard.moved(TENANT, 3)

    assert [world.due_after(seconds) for seconds in (0.0, 0.9, 1.2, 1.0, 60.0)] == [0, 0, 3, 3, 3]


def test_of_a_log_that_moves_all_the_time_what_is_due_is_one_to_two_moments_old(world: World) -> None:
    ages = []
    for tenth in range(100):
        world.heard.moved(TENANT, tenth + 1)
        ages.append((tenth + 1 - world.due_after(0.1)) / 10)

    assert all(1.0 <= age <= 2.1 for age in ages[20:])


def test_news_that_come_late_take_nothing_back(world: World) -> None:
    world.heard.moved(TENANT, 5)
    world.heard.moved(TENANT, 2)

    assert world.due_after(5.0) == 5


def test_many_logs_do_not_fill_the_memory(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(heard, "MANY", 2)
    for name in ("a", "b", "c"):
        world.heard.moved(name, 1)
    world.now += 5.0

    assert [world.heard.due(name) for name in ("a", "b", "c")] == [0, 0, 1]

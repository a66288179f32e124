"""A response is given again, with the times of now, until something has changed the score."""

from __future__ import annotations

from dataclasses import replace

import pytest

from coherence.v1.score_pb2 import GetScoreResponse
from coherence_grpc.convert.instants import microseconds
from coherence_grpc.convert.scores import score as encoded_score
from coherence_grpc.model import SECOND, WINDOW, Appended, Head, Score, ScoreSource
from coherence_grpc.servicers import UnchangedScores, unchanged
from tests.builders import NOON, TENANT, ManualClock, a_score, a_write


class World:
    """Unchanged scores on a clock that stands still."""

    def __init__(self) -> None:
        self.clock = ManualClock()
        self.enabled = True
        self.unchanged = UnchangedScores(self.clock, lambda: self.enabled)

    def put(self, score: Score, *, mark: int | None = None) -> None:
        response = GetScoreResponse(score=encoded_score(score))
        self.unchanged.put(score, response, self.unchanged.mark() if mark is None else mark)

    def get(self, tenant_id: str = TENANT) -> GetScoreResponse | None:
        encoded = self.unchanged.get(tenant_id)
        return None if encoded is None else GetScoreResponse.FromString(encoded)

    def change(self, how: str, tenant_id: str) -> None:
        if how == "appended":
            write = a_write(tenant_id=tenant_id)
            self.unchanged.appended(Appended(write, [], 1, [], [], NOON, Head(1, 1, b"\x01" * 32)))
        else:
            self.unchanged.published(a_score(tenant_id=tenant_id))


@pytest.fixture
def world() -> World:
    return World()


def test_it_is_given_again_as_an_evaluation_of_now_would_have_it(world: World) -> None:
    world.put(a_score())
    world.clock.advance(3 * SECOND + 17)
    now = NOON + 3 * SECOND + 17

    again = world.get()

    expected = replace(a_score(), window_start=now - WINDOW, window_end=now, computed_at=now)
    assert again == GetScoreResponse(score=encoded_score(expected))
    assert world.get("other") is None


def test_a_window_does_not_end_before_that_of_the_row(world: World) -> None:
    world.put(a_score(window_end=NOON + SECOND))

    again = world.get()

    assert again is not None
    assert microseconds(again.score.window_end_time) == NOON + SECOND
    assert microseconds(again.score.computed_time) == NOON


@pytest.mark.parametrize("end", ["appended", "published"])
def test_a_write_or_a_publication_ends_it_for_its_tenant_alone(world: World, end: str) -> None:
    world.put(a_score())

    world.change(end, "other")
    assert world.get() is not None
    world.change(end, TENANT)
    assert world.get() is None


def test_r9_a_stale_score_is_not_kept(world: World) -> None:
    world.put(replace(a_score(), stale=True))

    assert world.get() is None


def test_what_was_evaluated_before_a_change_is_not_kept_after_it(world: World) -> None:
    mark = world.unchanged.mark()
    world.change("appended", TENANT)

    world.put(a_score(), mark=mark)

    assert world.get() is None


def test_it_ends_when_time_changes_the_score(world: World) -> None:
    world.put(a_score(valid_until=NOON + 5))

    world.clock.advance(4)
    assert world.get() is not None
    world.clock.advance(1)
    assert world.get() is None


def test_nothing_is_given_again_while_the_materialiser_is_off(world: World) -> None:
    world.put(a_score())
    world.enabled = False

    assert world.get() is None


def test_what_was_computed_while_it_was_off_is_not_kept(world: World) -> None:
    world.put(replace(a_score(), source=ScoreSource.COMPUTED))

    assert world.get() is None


def test_only_so_many_are_kept(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(unchanged, "MANY", 2)
    for tenant_id in ("a", "b", "c"):
        world.put(a_score(tenant_id=tenant_id))

    assert [world.get(tenant_id) is not None for tenant_id in ("a", "b", "c")] == [False, False, True]

"""Clock, sentence by sentence, and the clock file of a data directory."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from coherence_grpc.adapters.embedded import SimulatedClock, SystemClock, open_clock, open_signal_store
from coherence_grpc.errors import DataRefused
from coherence_grpc.model import SECOND
from tests.builders import NOON, ManualClock

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from coherence_grpc.ports import Clock

WALL = 1_700_000_000_000_000


class Wall:
    """The system's time in the test's hands."""

    def __init__(self) -> None:
        self.us = WALL

    def __call__(self) -> int:
        return self.us


@pytest.fixture
def wall() -> Wall:
    return Wall()


CLOCKS: dict[str, Callable[[Wall], Clock]] = {
    "system": SystemClock,
    "simulated": lambda wall: SimulatedClock(NOON, speed=600, wall=wall),
}


@pytest.fixture(params=list(CLOCKS))
def clock(request: pytest.FixtureRequest, wall: Wall) -> Clock:
    return CLOCKS[request.param](wall)


def test_r22_now_never_goes_back_when_the_systems_time_does(clock: Clock, wall: Wall) -> None:
    before = clock.now()

    wall.us -= 600 * SECOND
    during = clock.now()
    wall.us += 601 * SECOND

    assert during == before
    assert clock.now() > before


def test_now_is_at_least_every_instant_observed(clock: Clock, wall: Wall) -> None:
    ahead = clock.now() + 3600 * SECOND

    clock.observe(ahead)
    clock.observe(ahead - 5)

    assert clock.now() == ahead
    wall.us += 3601 * SECOND
    assert clock.now() > ahead


def test_a_new_clock_takes_up_what_it_observes(clock: Clock) -> None:
    clock.observe(WALL + 10**12)

    assert clock.now() == WALL + 10**12


def test_the_systems_clock_is_the_systems_time(wall: Wall) -> None:
    clock = SystemClock(wall)

    assert (clock.now(), clock.speed, clock.simulated) == (WALL, 1, False)
    assert clock.machine_seconds(1_500_000) == 1.5


def test_a_simulated_clock_runs_at_its_speed(wall: Wall) -> None:
    clock = SimulatedClock(NOON, speed=600, wall=wall)
    begin = clock.now()

    wall.us += 2 * SECOND

    assert (begin, clock.now()) == (NOON, NOON + 1200 * SECOND)
    assert (clock.speed, clock.simulated) == (600, True)
    assert clock.machine_seconds(600 * SECOND) == 1.0


def test_a_directory_without_a_start_has_the_systems_clock(tmp_path: Path, wall: Wall) -> None:
    clock = open_clock(tmp_path / "data", start_us=None, speed=1, wall=wall)

    assert (clock.now(), clock.simulated) == (WALL, False)


def test_a_simulated_clock_runs_on_while_nothing_serves(tmp_path: Path, wall: Wall) -> None:
    open_clock(tmp_path, start_us=NOON, speed=60, wall=wall)
    wall.us += 10 * SECOND

    again = open_clock(tmp_path, start_us=NOON, speed=600, wall=wall)
    reopened = again.now()
    wall.us += SECOND

    assert reopened == NOON + 600 * SECOND
    assert again.now() == NOON + 1200 * SECOND


def test_a_later_start_moves_a_simulated_clock_ahead(tmp_path: Path, wall: Wall) -> None:
    open_clock(tmp_path, start_us=NOON, speed=1, wall=wall)

    assert open_clock(tmp_path, start_us=NOON + 77, speed=1, wall=wall).now() == NOON + 77


def test_a_simulated_directory_is_refused_under_the_systems_clock(tmp_path: Path) -> None:
    open_clock(tmp_path, start_us=NOON, speed=1)

    with pytest.raises(DataRefused, match="--clock-start"):
        open_clock(tmp_path, start_us=None, speed=1)


@pytest.mark.anyio
async def test_a_directory_of_the_systems_clock_is_refused_under_a_simulated_one(tmp_path: Path) -> None:
    async with open_signal_store(tmp_path, ManualClock()):
        pass

    with pytest.raises(DataRefused, match="without `--clock-start`"):
        open_clock(tmp_path, start_us=NOON, speed=1)


@pytest.mark.parametrize("content", ["", "{}", "[]", '{"domain_anchor": "x", "speed": 1, "wall_anchor": null}'])
def test_a_damaged_clock_file_is_refused(tmp_path: Path, content: str) -> None:
    (tmp_path / "clock.json").write_text(content)

    with pytest.raises(DataRefused, match=r"clock\.json"):
        open_clock(tmp_path, start_us=NOON, speed=1)

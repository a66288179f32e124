"""Domain time: the system's, or a simulated one that a data directory remembers."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Final

from coherence_grpc.adapters.embedded.directory import make_directory, replace_file
from coherence_grpc.errors import DataRefused
from coherence_grpc.model import SECOND

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from coherence_grpc.ports import Clock

FILE: Final = "clock.json"
_STORE: Final = "signals.db"


def wall_us() -> int:
    """The system's time: the one place that asks for it."""
    return time.time_ns() // 1000


class SystemClock:
    """The system's time, held where it was while the system's goes back."""

    speed: float = 1.0
    simulated = False

    def __init__(self, wall: Callable[[], int] = wall_us) -> None:
        self._wall = wall
        self._latest = 0

    def now(self) -> int:
        """The system's time, or the latest instant known if that is later."""
        self._latest = max(self._latest, self._wall())
        return self._latest

    def observe(self, instant: int) -> None:
        """Moves the latest instant known."""
        self._latest = max(self._latest, instant)

    def machine_seconds(self, domain_us: int) -> float:
        """Seconds, one for one."""
        return domain_us / SECOND


class SimulatedClock:
    """Time that was `start_us` when the wall said `wall_anchor` and has run at `speed` since."""

    simulated = True

    def __init__(
        self, start_us: int, *, speed: float = 1.0, wall_anchor: int | None = None, wall: Callable[[], int] = wall_us
    ) -> None:
        self.speed = speed
        self.start_us = start_us
        self.wall_anchor = wall() if wall_anchor is None else wall_anchor
        self._wall = wall
        self._latest = start_us

    def now(self) -> int:
        """Simulated time, or the latest instant known if that is later."""
        simulated = self.start_us + int((self._wall() - self.wall_anchor) * self.speed)
        self._latest = max(self._latest, simulated)
        return self._latest

    def observe(self, instant: int) -> None:
        """Moves the latest instant known."""
        self._latest = max(self._latest, instant)

    def machine_seconds(self, domain_us: int) -> float:
        """Seconds divided by the speed."""
        return domain_us / SECOND / self.speed


def open_clock(directory: Path, *, start_us: int | None, speed: float, wall: Callable[[], int] = wall_us) -> Clock:
    """The clock of a data directory: the system's, or with `start_us` a simulated one.

    A simulated clock runs on while nothing serves: opened again, it continues from its own present, or from
    `start_us` if that is later, at the speed now asked for.

    Raises:
        DataRefused: the directory was made under the other kind of clock.
    """
    make_directory(directory)
    path = directory / FILE
    if start_us is None:
        _refuse_simulated(path)
        return SystemClock(wall)
    _refuse_real(directory, path)
    if path.exists():
        start_us = max(start_us, _present(path, wall))
    clock = SimulatedClock(start_us, speed=speed, wall=wall)
    anchors = {"wall_anchor": clock.wall_anchor, "domain_anchor": clock.start_us, "speed": speed}
    replace_file(path, json.dumps(anchors).encode())
    return clock


def _present(path: Path, wall: Callable[[], int]) -> int:
    try:
        anchors = json.loads(path.read_bytes())
        start_us, anchor, speed = (anchors[name] for name in ("domain_anchor", "wall_anchor", "speed"))
        return SimulatedClock(int(start_us), speed=float(speed), wall_anchor=int(anchor), wall=wall).now()
    except (ValueError, KeyError, TypeError) as error:
        message = f"{path} is damaged; restore it from a backup, or choose another data directory"
        raise DataRefused(message) from error


def _refuse_simulated(path: Path) -> None:
    if path.exists():
        message = (
            f"{path.parent} was made under a simulated clock; serve it with `--clock-start`,"
            " or choose another data directory"
        )
        raise DataRefused(message)


def _refuse_real(directory: Path, path: Path) -> None:
    if not path.exists() and (directory / _STORE).exists():
        message = (
            f"{directory} was made under the system's clock; serve it without `--clock-start`,"
            " or choose another data directory"
        )
        raise DataRefused(message)

"""Domain time."""

from __future__ import annotations

from typing import Protocol


class Clock(Protocol):
    """Domain time, in microseconds; it never goes back."""

    @property
    def speed(self) -> float:
        """Domain seconds per machine second; 1 in production."""
        ...

    @property
    def simulated(self) -> bool:
        """Domain time is not the system's time."""
        ...

    def now(self) -> int:
        """The present instant: at least every instant issued or observed before."""
        ...

    def observe(self, instant: int) -> None:
        """`now` is at least `instant` from here on: what was recorded before a restart is not in the future."""
        ...

    def machine_seconds(self, domain_us: int) -> float:
        """How long `domain_us` of domain time takes on the machine."""
        ...

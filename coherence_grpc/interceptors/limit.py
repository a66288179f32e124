"""How many calls may be in flight: one bound per service, so that streams can't keep health checks or reads out."""

from __future__ import annotations

from typing import TYPE_CHECKING

from coherence_grpc.errors import Concurrency

if TYPE_CHECKING:
    from collections.abc import Mapping


class Pool:
    """Counts the calls of one service that are in flight."""

    __slots__ = ("capacity", "in_flight", "name")

    def __init__(self, name: str, capacity: int) -> None:
        self.name = name
        self.capacity = capacity
        self.in_flight = 0

    def enter(self) -> None:
        """Count one more; waiting for a place would only move the queue in here.

        Raises:
            Concurrency: the pool is full.
        """
        if self.in_flight >= self.capacity:
            message = f"{self.capacity} {self.name} calls are in flight; try again in a moment"
            raise Concurrency(message, metadata={"limit": str(self.capacity)})
        self.in_flight += 1

    def leave(self) -> None:
        """Count one less."""
        self.in_flight -= 1


def pools(capacities: Mapping[str, int]) -> dict[str, Pool]:
    """Empty pools of these capacities."""
    return {name: Pool(name, capacity) for name, capacity in capacities.items()}

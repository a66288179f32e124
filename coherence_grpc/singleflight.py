"""One computation for all who ask for the same thing at the same time."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Generic, TypeVar

from coherence_grpc.deadline import unhurried

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Hashable

K = TypeVar("K", bound="Hashable")
V = TypeVar("V")


class _Flight(Generic[V]):
    """A computation under way and how many wait for it."""

    __slots__ = ("riders", "task")

    def __init__(self, task: asyncio.Task[V]) -> None:
        self.task = task
        self.riders = 0


class SingleFlight(Generic[K, V]):
    """Computes a key once for everybody who asks while it is being computed.

    Nobody owns the computation: who asked first can be cancelled without harm to the others, and only when the last of
    them is gone it is cancelled too. An error reaches all of them; the next to ask afterwards computes anew.
    """

    def __init__(self) -> None:
        self._flights: dict[K, _Flight[V]] = {}

    async def do(self, key: K, compute: Callable[[], Awaitable[V]]) -> V:
        """What `compute` returns or raises, here or for somebody who asked before."""
        flight = self._flights.get(key)
        if flight is None:
            task = asyncio.create_task(_awaited(compute), name=f"single-flight-{key}", context=unhurried())
            flight = self._flights[key] = _Flight(task)
            flight.task.add_done_callback(lambda _: self._land(key, flight))
        flight.riders += 1
        try:
            return await asyncio.shield(flight.task)
        finally:
            flight.riders -= 1
            if not flight.riders and not flight.task.done():
                self._land(key, flight)
                flight.task.cancel()

    def _land(self, key: K, flight: _Flight[V]) -> None:
        if self._flights.get(key) is flight:
            del self._flights[key]


async def _awaited(compute: Callable[[], Awaitable[V]]) -> V:
    return await compute()

"""How many calls may be in flight: one bound per service, so that streams can't keep health checks or reads out."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from coherence_grpc.errors import Concurrency

if TYPE_CHECKING:
    from collections.abc import Mapping

    from coherence_grpc.convert.calls import Context
    from coherence_grpc.interceptors.methods import Handler


class Pool:
    """Counts the calls of one service that are in flight."""

    __slots__ = ("capacity", "in_flight", "name")

    def __init__(self, name: str, capacity: int) -> None:
        self.name = name
        self.capacity = capacity
        self.in_flight = 0


def pools(capacities: Mapping[str, int]) -> dict[str, Pool]:
    """Empty pools of these capacities."""
    return {name: Pool(name, capacity) for name, capacity in capacities.items()}


def limiting(pool: Pool, inner: Handler) -> Handler:
    """The method, refused at once when its pool is full: waiting would only move the queue in here."""

    async def limited(request: Any, context: Context) -> Any:  # noqa: ANN401 - any request and response
        if pool.in_flight >= pool.capacity:
            message = f"{pool.capacity} {pool.name} calls are in flight; try again in a moment"
            raise Concurrency(message, metadata={"limit": str(pool.capacity)})
        pool.in_flight += 1
        try:
            return await inner(request, context)
        finally:
            pool.in_flight -= 1

    return limited

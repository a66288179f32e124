"""How much is measured: the whole, or just enough to see that the harness works."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from bench.worker import working
from coherence_grpc.adapters.embedded import SystemClock

if TYPE_CHECKING:
    from pathlib import Path

    from bench.worker import Job

PUBLISH_S = 180.0


@dataclass(frozen=True, slots=True)
class Plan:
    """Sizes of a run, and a directory for its data."""

    quick: bool
    directory: Path

    def either(self, full: int, quick: int) -> int:
        """The size for this run."""
        return quick if self.quick else full

    def fresh(self, name: str) -> Path:
        """A data directory that is not there yet."""
        number = sum(1 for _ in self.directory.glob(f"{name}-*"))
        path = self.directory / f"{name}-{number}"
        path.mkdir()
        return path


def past_us(signals: int) -> int:
    """The instant from which `signals` signals, a millisecond apart, end about now."""
    return SystemClock().now() - signals * 1_000


async def published(address: str, *, size: int, count: int, callers: int, tenants: int, first: int = 0) -> Job:
    """`count` requests of `size` signals, sent by a process of their own; what it found."""
    job = {
        "kind": "publish",
        "address": address,
        "size": size,
        "count": count,
        "callers": callers,
        "tenants": tenants,
        "first": first,
        "start_us": past_us(first + size * count),
    }
    async with working("bench.load", job) as load:
        return await load.run(PUBLISH_S)

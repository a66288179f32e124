"""What the fault runs have in common: how long they are, and what they say."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from tests.e2e.reading import assert_log_is_whole, assert_score_is_exact

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from coherence_grpc.client import Client


@dataclass(frozen=True, slots=True)
class Length:
    """How many times the fault is injected, and where the data goes."""

    runs: int
    directory: Path

    def fresh(self, name: str) -> Path:
        """A data directory that is not there yet."""
        path = self.directory / f"{name}-{sum(1 for _ in self.directory.glob(f'{name}-*'))}"
        path.mkdir()
        return path


@dataclass(frozen=True, slots=True)
class Finding:
    """What a run demands, whether that held, and its figures.

    `in_time` is whether its timing demand was met: on a busy machine that says little, so it doesn't count as failed.
    """

    demand: str
    held: bool
    figures: Mapping[str, object]
    in_time: bool | None = None


async def flaw_of(client: Client, tenant_id: str) -> str:
    """Why the tenant's log or score is not what it should be; empty when all is well."""
    try:
        await assert_log_is_whole(client, tenant_id)
        await assert_score_is_exact(client, tenant_id)
    except AssertionError as flaw:
        return f"{tenant_id}: {flaw}"[:500] or f"{tenant_id}: not whole"
    return ""

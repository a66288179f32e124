"""Histories at random on Neo4j and PostgreSQL: every way to a score says what fractions say."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Final

from bench.faults.run import Finding
from bench.report import progress
from bench.servers import servers
from coherence_grpc.adapters import neo4j, postgres
from tests.histories import live

if TYPE_CHECKING:
    from bench.faults.run import Length

DEMAND: Final = (
    "signals, replacements, policies, clock moves and restarts: the incremental engine, a full recompute, the score as"
    " of now, an explanation's parts and a simulation of nothing say the same score and status"
)
BATCH: Final = 100


async def lived_on_servers(length: Length) -> Finding:
    """As many histories as runs, a hundred tenants at a time; the process and its connections end half-way."""
    flaws: list[str] = []
    async with servers("postgres", "neo4j") as environment:
        graph = (environment["NEO4J_URI"], environment["NEO4J_USER"], environment["NEO4J_PASSWORD"])
        open_signals = partial(neo4j.open_signal_store, *graph, patience=10.0)
        open_scores = partial(postgres.open_score_store, environment["POSTGRES_URI"])
        for first in range(0, length.runs, BATCH):
            seeds = range(first, min(first + BATCH, length.runs))
            try:
                await live(open_signals, open_scores, seeds)
            except* AssertionError as broken:
                flaws += [f"{seeds}: {flaw}"[:300] for flaw in broken.exceptions]
            progress(f"  {seeds.stop:,} histories lived through, {len(flaws)} flaws")
    return Finding(DEMAND, not flaws, {"histories": length.runs, "flaws": flaws})

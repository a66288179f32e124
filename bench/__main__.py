"""`python -m bench`: figures of this machine beside their references, as a table and as JSON.

Nothing here is an assertion: a figure is printed with its target, and who reads it judges.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from time import monotonic, strftime
from typing import TYPE_CHECKING, Final

from rich.console import Console

from bench import (
    fanout,
    flights,
    graph,
    history,
    ingest,
    publisher,
    reads,
    recorded,
    rows,
    saved,
    startup,
    streaming,
    window,
)
from bench.plan import Plan
from bench.report import RESULTS, Figure, document, progress, table, written

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Sequence


@dataclass(frozen=True, slots=True)
class Group:
    """Figures that are measured together."""

    figures: Sequence[str]
    measure: Callable[[Plan], AsyncIterator[Figure]]
    limit_s: float


GROUPS: Final = {
    "startup": Group(startup.FIGURES, startup.start_up, 400),
    "window": Group(window.FIGURES, window.materialise, 300),
    "ingest": Group(ingest.FIGURES, ingest.durable_ingest, 400),
    "streams": Group(streaming.FIGURES, streaming.streamed_ingest, 400),
    "publisher": Group(publisher.FIGURES, publisher.published_by_client, 300),
    "getscore": Group(reads.GET_SCORE_FIGURES, reads.get_score, 200),
    "graphql": Group(reads.HTTP_FIGURES, reads.tenant_coherence, 200),
    "neo4j": Group(graph.FIGURES, graph.ingest_on_neo4j, 500),
    "postgres": Group(rows.FIGURES, rows.read_rows, 200),
    "redis": Group(saved.FIGURES, saved.what_redis_saves, 400),
    "recorded": Group(recorded.FIGURES, recorded.recorded, 300),
    "flights-policy": Group(flights.FIGURES, flights.flights_policy, 500),
    "history": Group(history.FIGURES, history.read_history, 550),
    "fanout": Group((*fanout.FIGURES, fanout.LOST), fanout.fan_out, 500),
}


async def measured(name: str, plan: Plan) -> Sequence[Figure]:
    """The group's figures; those that could not be measured say why."""
    group, found = GROUPS[name], dict[str, Figure]()
    progress(f"{name} ...")
    reason = "the group ended without it"
    try:
        async with asyncio.timeout(group.limit_s):
            async for figure in group.measure(plan):
                found[figure.name] = figure
    except TimeoutError:
        reason = f"not finished within {group.limit_s:.0f} s"
    except Exception as broken:  # noqa: BLE001 - one broken figure must not take the others along
        reason = _reason(broken)
    return [found.get(figure) or Figure(figure, not_run=reason) for figure in group.figures]


def _reason(broken: BaseException) -> str:
    while isinstance(broken, BaseExceptionGroup):
        broken = broken.exceptions[0]
    return " ".join(f"{type(broken).__name__}: {broken}".split())[:300]


async def run(names: Sequence[str], *, quick: bool) -> dict[str, object]:
    """Measure the named groups one after the other, print the table, return the report."""
    begun = monotonic()
    figures: list[Figure] = []
    for name in names:
        with tempfile.TemporaryDirectory(prefix="coherence-bench-") as scratch:
            figures += await measured(name, Plan(quick, Path(scratch)))
    Console(stderr=True, width=None if sys.stderr.isatty() else 160).print(table(figures))
    return document(figures, quick=quick, elapsed_s=monotonic() - begun)


def main() -> int:
    """The command."""
    parser = argparse.ArgumentParser(prog="python -m bench", description="Figures beside their references.")
    parser.add_argument("--only", action="append", choices=GROUPS, help="measure this group (may be repeated)")
    parser.add_argument("--quick", action="store_true", help="tiny sizes: shows that the harness works, no more")
    parser.add_argument("--json", action="store_true", help="print the whole report as JSON")
    parser.add_argument("--results", type=Path, default=RESULTS, help="where the JSON is kept (default %(default)s)")
    options = parser.parse_args()
    report = asyncio.run(run(options.only or list(GROUPS), quick=options.quick))
    kept = written(report, options.results, strftime("%Y-%m-%d-%H%M%S"))
    progress(f"kept in {kept}")
    if options.json:
        print(json.dumps(report, ensure_ascii=False))
    return 0


if __name__ == "__main__":
    sys.exit(main())

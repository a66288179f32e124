"""`python -m bench.faults`: the long fault runs; prints what each demands, whether it held, and its figures as JSON."""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path
from time import gmtime, monotonic, strftime
from typing import TYPE_CHECKING, Final, NamedTuple

from bench.faults.audience import cut, frozen
from bench.faults.crash import killed
from bench.faults.drain import drained
from bench.faults.flapping import flapped
from bench.faults.hearing import heard
from bench.faults.histories import lived_on_servers
from bench.faults.pairs import clocks, replies_lost_on_servers, same_key_on_two, stopped
from bench.faults.places import killed_at_each_place
from bench.faults.publisher import published_through_restarts
from bench.faults.replies import replies_lost, same_key
from bench.faults.run import Finding, Length
from bench.faults.servers import killed_on_servers, without_neo4j, without_postgresql, without_redis
from bench.faults.streams import streamed, streamed_on_servers
from bench.report import RESULTS, machine, progress, written

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence


class Fault(NamedTuple):
    """A run, and how many times, or for how many seconds, the fault is injected unless told otherwise."""

    inject: Callable[[Length], Awaitable[Finding]]
    runs: int
    limit_s: float


FAULTS: Final = {
    "r3-kill": Fault(killed, 200, 1800),
    "r3-servers": Fault(killed_on_servers, 200, 3600),
    "r4-failpoints": Fault(killed_at_each_place, 3, 1800),
    "r5-replies": Fault(replies_lost, 1000, 700),
    "r5-servers": Fault(replies_lost_on_servers, 1000, 700),
    "r6-same-key": Fault(same_key, 200, 300),
    "r6-two": Fault(same_key_on_two, 200, 600),
    "r7-stopped": Fault(stopped, 2, 600),
    "r8-redis": Fault(without_redis, 30, 900),
    "r9-postgresql": Fault(without_postgresql, 30, 900),
    "r10-neo4j": Fault(without_neo4j, 30, 900),
    "r11-flapping": Fault(flapped, 60, 600),
    "r12-audience": Fault(heard, 4, 900),
    "r13-frozen": Fault(frozen, 3, 900),
    "r14-drain": Fault(drained, 10, 600),
    "r22-clocks": Fault(clocks, 5, 900),
    "cut": Fault(cut, 500, 900),
    "histories": Fault(lived_on_servers, 2000, 3600),
    "streams": Fault(streamed, 50, 900),
    "streams-servers": Fault(streamed_on_servers, 25, 900),
    "publisher": Fault(published_through_restarts, 3, 900),
}


async def found(name: str, runs: int | None) -> dict[str, object]:
    """What one run found; `not_run` with the reason when it broke."""
    fault, begun = FAULTS[name], monotonic()
    count = runs or fault.runs
    progress(f"{name}, {count} times or seconds ...")
    try:
        with tempfile.TemporaryDirectory(prefix="coherence-faults-") as scratch:
            async with asyncio.timeout(fault.limit_s):
                finding = await fault.inject(Length(count, Path(scratch)))
    except TimeoutError:
        return {"name": name, "not_run": f"not finished within {fault.limit_s:.0f} s"}
    except Exception as broken:  # noqa: BLE001 - one broken run must not take the others along
        return {"name": name, "not_run": _reason(broken)}
    progress(f"  {'held' if finding.held else 'DID NOT HOLD'}: {finding.demand}")
    return {"name": name, "seconds": round(monotonic() - begun, 1)} | asdict(finding)


def _reason(broken: BaseException) -> str:
    while isinstance(broken, BaseExceptionGroup):
        broken = broken.exceptions[0]
    return " ".join(f"{type(broken).__name__}: {broken}".split())[:500]


async def run(names: Sequence[str], runs: int | None) -> dict[str, object]:
    """All named runs, one after the other."""
    at = strftime("%Y-%m-%dT%H:%M:%SZ", gmtime())
    return {"at": at, "machine": machine(), "faults": [await found(name, runs) for name in names]}


def main() -> int:
    """The command; 1 when a demand did not hold or a run broke."""
    parser = argparse.ArgumentParser(prog="python -m bench.faults", description="Long fault runs, figures as JSON.")
    parser.add_argument("--only", action="append", choices=FAULTS, help="this run (may be repeated)")
    parser.add_argument("--runs", type=int, help="how many times, or for how many seconds, each fault is injected")
    options = parser.parse_args()
    report = asyncio.run(run(options.only or list(FAULTS), options.runs))
    progress(f"kept in {written(report, RESULTS, strftime('faults-%Y-%m-%d-%H%M%S'))}")
    print(json.dumps(report, indent=1, ensure_ascii=False))
    faults = report["faults"]
    return 0 if isinstance(faults, list) and all(fault.get("held") for fault in faults) else 1


if __name__ == "__main__":
    sys.exit(main())

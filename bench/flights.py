"""A year of real flights under other rules: status changes, the blizzard with a veto, and a history recomputed by day.

SimulateScore foretells both for each of the ten big carriers and must leave nothing; then the rules are really put in
force, and the recomputed history has to say the same.
"""

from __future__ import annotations

from statistics import median
from typing import TYPE_CHECKING, Final

from bench.report import Figure, Target, progress
from coherence_grpc.cli.importing.archive import cache_directory, flight_archive
from coherence_grpc.client import connect
from tests.e2e.commanding import run
from tests.e2e.policing_flights import TEN, do, foretell
from tests.serving import serving

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

    from bench.plan import Plan
    from tests.e2e.policing_flights import Foretold, Happened

IMPORT_S: Final = 300.0
CHANGES: Final = "flights 2013: status changes of ten carriers, hysteresis 0.02 and dwell 3 h"
EARLIER: Final = "flights 2013: hours the blizzard is CRITICAL earlier by a veto, median"
FORETOLD: Final = "flights 2013: carriers of which SimulateScore foretold both"
YEAR: Final = "flights 2013: history recomputed by day, slowest carrier"
STEADY_YEAR: Final = "flights 2013: the same with hysteresis and dwell"
SIMULATED: Final = "flights 2013: SimulateScore over a year, slowest carrier"
FIGURES: Final = (CHANGES, EARLIER, FORETOLD, YEAR, STEADY_YEAR, SIMULATED)


async def flights_policy(plan: Plan) -> AsyncIterator[Figure]:
    """All flights are imported as backfill into the embedded store."""
    cache = cache_directory(None)
    flight_archive(cache, progress)
    carriers = TEN[-plan.either(len(TEN), 1) :]
    foretold: dict[str, Foretold] = {}
    happened: dict[str, Happened] = {}
    async with serving(plan.fresh("flights"), http=False, drain=True) as service:
        arguments = ("import", "nycflights13", "--retention", "unlimited", "--cache", str(cache))
        imported = await run(service, *arguments, within_s=IMPORT_S)
        if imported.exit_code:
            raise RuntimeError(imported.stderr)
        async with connect(service.grpc) as client:
            for name in carriers:
                foretold[name] = await foretell(client, name)
                happened[name] = await do(client, name)
                progress(_line(name, foretold[name], happened[name]))
    yield _changes(foretold, happened)
    yield _earlier(foretold)
    yield _agreement(foretold, happened)
    yield _slowest(YEAR, {name: one.plain_year_s for name, one in happened.items()}, Target(1000, at_most=True))
    yield _slowest(STEADY_YEAR, {name: one.steady_year_s for name, one in happened.items()})
    yield _slowest(SIMULATED, {name: one.year_s for name, one in foretold.items()})


def _line(name: str, foretold: Foretold, happened: Happened) -> str:
    share = 1 - foretold.steady_changes / foretold.plain_changes
    earlier = "never CRITICAL" if foretold.earlier_h is None else f"CRITICAL {foretold.earlier_h:.1f} h earlier"
    return (
        f"  {name}: {foretold.plain_changes} status changes ({happened.plain_lasting} of them last longer than 1 µs,"
        f" {happened.plain_hourly} are seen at full hours), {foretold.steady_changes} held ({share:.0%} fewer;"
        f" {happened.steady_hourly} seen at full hours),"
        f" {happened.steady_changes} in the history; {earlier} with the veto; a year by day in"
        f" {happened.plain_year_s * 1000:.0f} ms"
    )


def _changes(foretold: Mapping[str, Foretold], happened: Mapping[str, Happened]) -> Figure:
    plain, steady = (
        {name: getattr(one, f"{kind}_changes") for name, one in foretold.items()} for kind in ("plain", "steady")
    )
    lasting = {name: one.plain_lasting for name, one in happened.items()}
    hourly = {name: {"plain": one.plain_hourly, "held": one.steady_hourly} for name, one in happened.items()}
    fewer = {name: round(1 - steady[name] / plain[name], 4) for name in plain}
    return Figure(
        CHANGES,
        value=sum(steady.values()),
        unit="changes",
        reference=sum(plain.values()),
        reference_name="without them",
        details={"plain": plain, "plain_lasting": lasting, "held": steady, "fewer": fewer, "at_full_hours": hourly},
    )


def _earlier(foretold: Mapping[str, Foretold]) -> Figure:
    hours = {name: one.earlier_h for name, one in foretold.items()}
    known = [one for one in hours.values() if one is not None]
    return Figure(EARLIER, value=median(known), unit="h", details={"hours": hours})


def _agreement(foretold: Mapping[str, Foretold], happened: Mapping[str, Happened]) -> Figure:
    agree = {
        name: one.steady_changes == happened[name].steady_changes and list(one.vetoed) == list(happened[name].vetoed)
        for name, one in foretold.items()
    }
    return Figure(
        FORETOLD, value=sum(agree.values()), unit="carriers", targets=[Target(len(agree))], details={"agree": agree}
    )


def _slowest(name: str, took_s: Mapping[str, float], *targets: Target) -> Figure:
    took_ms = {carrier: round(took * 1000, 1) for carrier, took in took_s.items()}
    return Figure(name, value=max(took_ms.values()), unit="ms", targets=targets, details={"ms": took_ms})

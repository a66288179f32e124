"""What Redis saves two processes on Neo4j and PostgreSQL: no targets, since everything works without it."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from statistics import median
from time import monotonic
from typing import TYPE_CHECKING, Final, NamedTuple

from bench.load import connected
from bench.plan import past_us, published
from bench.reads import GET_SCORE, SIGNALS, TENANTS
from bench.report import Figure, progress
from bench.requests import BATCHES, ONE_BY_ONE, signal, tenant
from bench.rows import from_rows, requests
from bench.servers import servers, switched
from bench.worker import cpu_seconds, working
from coherence.v1.ingest_pb2 import PublishSignalRequest, PublishSignalResponse, PublishSignalsRequest
from coherence.v1.score_pb2 import GetScoreRequest, GetScoreResponse
from tests.serving import serving

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping, Sequence

    from bench.load import Call
    from bench.plan import Plan
    from bench.worker import Job
    from tests.serving import Served

KNOWN: Final = 100
CALLERS: Final = 8
RUN_S: Final = 60.0
SEEN_S: Final = 20.0
LOOK_S: Final = 0.005
MARKS: Final = f"Redis: known batches of {KNOWN} again, by marks"
CACHE: Final = "Redis: GetScore where another process keeps it, cached"
DOORBELL: Final = "Redis: a write's score in the other process"
FIGURES: Final = (MARKS, CACHE, DOORBELL)
# A run that takes longer than a cached row lives would compare two reads of the rows.
KEPT: Final = {"COHERENCE_CACHE_TTL_S": "3600", "COHERENCE_CURSOR_KEYS": f"1:{'5a' * 32}"}


class Pair(NamedTuple):
    """Two processes on the same servers; the first started first, and turned on what Redis offers."""

    one: Served
    other: Served


@asynccontextmanager
async def _pair(plan: Plan, environment: Mapping[str, str], *, read_mode: str) -> AsyncIterator[Pair]:
    one, other = plan.fresh("one"), plan.fresh("other")
    await switched(one, cache="on", dedupe_mode="redis", read_mode=read_mode)
    await switched(other, read_mode=read_mode)
    async with serving(one, http=False, environment=environment) as first:
        # All scores are published, and so cached, by the only process there is.
        await published(first.grpc, size=SIGNALS, count=TENANTS, callers=2, tenants=TENANTS)
        if read_mode == "postgres" and "REDIS_URL" in environment:
            await from_rows(first.grpc, "SCORE_SOURCE_CACHE")
        async with serving(other, http=False, environment=environment) as second:
            yield Pair(first, second)


async def what_redis_saves(plan: Plan) -> AsyncIterator[Figure]:
    """The same calls with it and without it, in turns."""
    async with servers("neo4j", "postgres", "redis") as found:
        environment = {**found, **KEPT}
        async with _pair(plan, environment, read_mode="postgres") as pair:
            known = _known()
            await _sent(pair.one, known)
            yield await _in_turns(plan, pair, MARKS, BATCHES, known, per_call=KNOWN, unit="signals/s", beside="store")
            yield await _in_turns(plan, pair, CACHE, GET_SCORE, requests(), unit="calls/s", beside="rows")
        delays: dict[str, list[float]] = {}
        without = {name: value for name, value in environment.items() if name != "REDIS_URL"}
        for name, where in (("doorbell", environment), ("polling", without)):
            async with _pair(plan, where, read_mode="cache") as pair:
                delays[name] = [await _seen_ms(pair, n) for n in range(plan.either(48, 4))]
            progress(f"  {name}: {median(delays[name]):.0f} ms until the other process has it")
    yield Figure(
        DOORBELL,
        value=median(delays["doorbell"]),
        unit="ms",
        reference=median(delays["polling"]),
        reference_name="polling",
        samples=delays,
    )


def _known() -> Sequence[bytes]:
    """Batches without a request id: by what they hold alone can it be told that they are known."""
    start_us = past_us(TENANTS * KNOWN)
    return [
        PublishSignalsRequest(
            tenant_id=tenant(n),
            signals=[signal(n * KNOWN + at + 50_000_000, start_us - 50_000_000_000) for at in range(KNOWN)],
        ).SerializeToString()
        for n in range(4)
    ]


async def _sent(service: Served, bodies: Sequence[bytes]) -> None:
    async with connected(service.grpc) as channel:
        call: Call = channel.unary_unary(BATCHES)
        for body in bodies:
            await call(body)


async def _in_turns(
    plan: Plan,
    pair: Pair,
    name: str,
    method: str,
    bodies: Sequence[bytes],
    *,
    unit: str,
    beside: str,
    per_call: int = 1,
) -> Figure:
    rounds: list[dict[str, Job]] = []
    for _ in range(plan.either(6, 1)):
        rounds.append({"redis": await _calls(plan, pair.one, method, bodies)})
        rounds[-1][beside] = await _calls(plan, pair.other, method, bodies)
        progress(f"  {name}: " + " beside ".join(f"{found['per_second']:,.0f}" for found in rounds[-1].values()))
    samples = {which: [found[which]["per_second"] * per_call for found in rounds] for which in rounds[0]}
    return Figure(
        name,
        value=median(samples["redis"]),
        unit=unit,
        reference=median(samples[beside]),
        reference_name=beside,
        samples=samples,
        details={"callers": CALLERS, "rounds": rounds},
    )


async def _calls(plan: Plan, service: Served, method: str, bodies: Sequence[bytes]) -> Job:
    job = {
        "kind": "closed",
        "address": service.grpc,
        "method": method,
        "bodies": [body.hex() for body in bodies],
        "callers": CALLERS,
        "seconds": plan.either(3, 1),
    }
    async with working("bench.load", job) as load:
        before = cpu_seconds(service.process.pid)
        found = await load.run(RUN_S)
    if found["failures"]:
        message = f"{method}: {found['failures']}"
        raise RuntimeError(message)
    return found | {"cpu_us_a_call": round((cpu_seconds(service.process.pid) - before) / max(1, found["calls"]) * 1e6)}


async def _seen_ms(pair: Pair, number: int) -> float:
    """From the answer to a write in one process until the other's score has it."""
    name = tenant(number % TENANTS)
    async with connected(pair.one.grpc) as one, connected(pair.other.grpc) as other:
        publish: Call = one.unary_unary(ONE_BY_ONE)
        read: Call = other.unary_unary(GET_SCORE)
        asked = GetScoreRequest(tenant_id=name).SerializeToString()
        await read(asked)
        body = PublishSignalRequest(signal=signal(90_000_000 + number, past_us(0) - 90_000_000_000, name))
        stored = PublishSignalResponse.FromString(await publish(body.SerializeToString()))
        begun = monotonic()
        async with asyncio.timeout(SEEN_S):
            while GetScoreResponse.FromString(await read(asked)).score.as_of_seq < stored.seq:  # noqa: ASYNC110 - another process's score sets no event
                await asyncio.sleep(LOOK_S)
        return (monotonic() - begun) * 1000

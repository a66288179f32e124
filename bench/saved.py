"""What Redis saves two processes on Neo4j and PostgreSQL: no targets, since everything works without it."""

from __future__ import annotations

from contextlib import asynccontextmanager
from functools import partial
from itertools import count
from statistics import median
from typing import TYPE_CHECKING, Final, NamedTuple

from bench.load import connected
from bench.plan import past_us, published
from bench.reads import GET_SCORE, SIGNALS, TENANTS
from bench.report import Figure, progress
from bench.requests import BATCHES, STEP_US, signal, tenant
from bench.rows import requests
from bench.rung import delivered_ms, scored_ms
from bench.servers import servers, switched
from bench.worker import cpu_seconds, working
from coherence.v1.ingest_pb2 import PublishSignalsRequest
from coherence.v1.score_pb2 import SCORE_SOURCE_CACHE, GetScoreResponse
from tests.serving import eventually, serving

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence

    from bench.load import Call
    from bench.plan import Plan
    from bench.worker import Job
    from tests.serving import Served

KNOWN: Final = 100
FIRST_NEW: Final = 100_000_000
CALLERS: Final = 8
RUN_S: Final = 60.0
MARKS: Final = f"Redis: known batches of {KNOWN} again, by marks"
MARKING: Final = f"Redis: new batches of {KNOWN}, marked"
CACHE: Final = "Redis: GetScore where another process keeps it, cached"
SCORED: Final = "Redis: a write's score in the other process"
DELIVERED: Final = "Redis: a write's event at a subscriber of the other process"
FIGURES: Final = (MARKS, MARKING, CACHE, SCORED, DELIVERED)
# Of signals: what is sent twice is not stored.
_NUMBERS: Final = count()
_TURNS: Final = count()
# A run that takes longer than a cached row lives would compare two reads of the rows.
KEPT: Final = {"COHERENCE_CACHE_TTL_S": "3600", "COHERENCE_CURSOR_KEYS": f"1:{'5a' * 32}"}


class Pair(NamedTuple):
    """Two processes on the same servers; the first started first, and turned on what Redis offers."""

    one: Served
    other: Served


@asynccontextmanager
async def _pair(plan: Plan, environment: Mapping[str, str], *, other_reads: str) -> AsyncIterator[Pair]:
    one, other = plan.fresh("one"), plan.fresh("other")
    await switched(one, cache="on", dedupe_mode="redis")
    await switched(other, read_mode=other_reads)
    async with serving(one, http=False, environment=environment) as first:
        # All scores are published, and so cached, by the only process there is.
        await published(first.grpc, size=SIGNALS, count=TENANTS, callers=2, tenants=TENANTS)
        async with serving(other, http=False, environment=environment) as second:
            yield Pair(first, second)


async def what_redis_saves(plan: Plan) -> AsyncIterator[Figure]:
    """The same calls with it and without it, in turns."""
    async with servers("neo4j", "postgres", "redis") as found:
        environment = {**found, **KEPT}
        async with _pair(plan, environment, other_reads="postgres") as pair:
            known = _known()
            await _sent(pair.one, known)
            calls = partial(_calls, plan, method=BATCHES, bodies=known)
            yield await _in_turns(plan, pair, MARKS, calls, per_call=KNOWN, unit="signals/s", beside="store")
            new = partial(_new, plan, past_us(0))
            yield await _in_turns(plan, pair, MARKING, new, unit="signals/s", beside="store")
            calls = partial(_calls, plan, method=GET_SCORE, bodies=await _cached(pair.one))
            yield await _in_turns(plan, pair, CACHE, calls, unit="calls/s", beside="rows")
        delays: dict[str, dict[str, list[float]]] = {SCORED: {}, DELIVERED: {}}
        without = {name: value for name, value in environment.items() if name != "REDIS_URL"}
        for name, where in (("doorbell", environment), ("polling", without)):
            async with _pair(plan, where, other_reads="cache") as pair:
                for figure, measure in ((SCORED, scored_ms), (DELIVERED, delivered_ms)):
                    delays[figure][name] = await _delays(plan, pair, measure)
                    progress(f"  {figure}, {name}: {median(delays[figure][name]):.0f} ms")
    for figure, samples in delays.items():
        yield Figure(
            figure,
            value=median(samples["doorbell"]),
            unit="ms",
            reference=median(samples["polling"]),
            reference_name="polling",
            samples=samples,
        )


async def _delays(plan: Plan, pair: Pair, measure: Callable[[str, str, str, int], Awaitable[float]]) -> list[float]:
    numbers = [next(_NUMBERS) for _ in range(plan.either(48, 4))]
    return [await measure(pair.one.grpc, pair.other.grpc, tenant(n % TENANTS), n) for n in numbers]


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
    calls: Callable[[Served], Awaitable[Job]],
    *,
    unit: str,
    beside: str,
    per_call: int = 1,
) -> Figure:
    rounds: list[dict[str, Job]] = []
    for _ in range(plan.either(6, 1)):
        rounds.append({"redis": await calls(pair.one), beside: await calls(pair.other)})
        progress(f"  {name}: " + " beside ".join(f"{found['per_second']:,.0f}" for found in rounds[-1].values()))
    samples = {which: [found[which]["per_second"] * per_call for found in rounds] for which in rounds[0]}
    # The machine is not equally quick all the time: a round is judged by what stood beside it.
    pairs = sorted(zip(samples["redis"], samples[beside], strict=True), key=lambda pair: pair[0] / pair[1])
    value, reference = pairs[len(pairs) // 2]
    return Figure(
        name,
        value=value,
        unit=unit,
        reference=reference,
        reference_name=beside,
        samples=samples,
        details={"callers": CALLERS, "rounds": rounds},
    )


async def _new(plan: Plan, begin_us: int, service: Served) -> Job:
    """Batches that nobody sent before, in order, each turn where the last one ended: 3 min ahead of now at the end."""
    batches = plan.either(160, 8)
    first = FIRST_NEW + next(_TURNS) * batches * KNOWN
    job = {
        "kind": "publish",
        "address": service.grpc,
        "size": KNOWN,
        "count": batches,
        "callers": CALLERS,
        "tenants": 4,
        "first": first,
        "start_us": begin_us - FIRST_NEW * STEP_US,
    }
    async with working("bench.load", job) as load:
        before = cpu_seconds(service.process.pid)
        found = await load.run(RUN_S)
    used_s = cpu_seconds(service.process.pid) - before
    return found | {"cpu_us_a_call": round(used_s / max(1, found["calls"]) * 1e6)}


async def _cached(service: Served) -> Sequence[bytes]:
    """Requests for the scores that this process finds in the cache, because the other one keeps them."""

    async def found() -> Sequence[bytes]:
        async with connected(service.grpc) as channel:
            call: Call = channel.unary_unary(GET_SCORE)
            replies = [(body, GetScoreResponse.FromString(await call(body))) for body in requests()]
        return [body for body, reply in replies if reply.score.source == SCORE_SOURCE_CACHE]

    return await eventually(found, lambda bodies: 0 < len(bodies) < TENANTS, within_s=RUN_S)


async def _calls(plan: Plan, service: Served, *, method: str, bodies: Sequence[bytes]) -> Job:
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

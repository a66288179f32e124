"""Reads on Neo4j, PostgreSQL and Redis: every read mode gives the same answer, and /metrics says where it came from."""

from __future__ import annotations

import asyncio
import json
import time
from collections import Counter
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeVar

import httpx
import pytest
from grpc.aio import AioRpcError
from prometheus_client.parser import text_string_to_metric_families
from redis.asyncio import Redis

from coherence.v1.ingest_pb2 import PublishSignalsRequest
from coherence.v1.score_pb2 import (
    SCORE_SOURCE_CACHE,
    SCORE_SOURCE_COMPUTED,
    SCORE_SOURCE_MATERIALIZED,
    STATUS_CRITICAL,
    GetScoreRequest,
    Score,
)
from coherence.v1.signal_pb2 import Signal
from coherence_grpc.client import Client, connect
from coherence_grpc.telemetry.metrics import METRICS
from tests.backends.fixtures import NEO4J, POSTGRES, REDIS, an_own_server, redis_url
from tests.e2e.on_servers import fresh_keys, fresh_servers
from tests.e2e.reading import timestamp
from tests.serving import Served, eventually, serving

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Coroutine, Iterable, Mapping
    from pathlib import Path

    from coherence.v1.ingest_pb2 import PublishSignalsResponse

pytestmark = [pytest.mark.anyio, pytest.mark.slow, pytest.mark.timeout(120), POSTGRES, REDIS, *NEO4J]

PATIENCE_S: Final = 10.0
NOW: Final = time.time_ns() // 1000
# So many that each of two processes holds some of them.
TENANTS: Final = [f"t{number}" for number in range(16)]
MODES: Final[Mapping[str, Mapping[str, str]]] = {
    "cache": {"read_mode": "cache", "cache": "on", "dedupe_mode": "redis"},
    "cache, switched off": {"read_mode": "cache", "cache": "off"},
    "postgres": {"read_mode": "postgres", "cache": "on"},
    "graph": {"read_mode": "graph"},
}
CACHE: Final = ("coherence_cache_lookups_total",)
MARKS: Final = ("coherence_marks_lookups_total",)
COMPUTED: Final = ("coherence_score_computations_total",)
# What is shown before anything has happened: names, and values of labels.
GOLDEN: Final = {
    (*CACHE, "hit"),
    (*CACHE, "miss"),
    (*MARKS, "hit"),
    (*MARKS, "miss"),
    ("coherence_doorbell_news_total", "heard"),
    ("coherence_doorbell_news_total", "told"),
    ("coherence_doorbell_news_total", "dropped"),
    ("coherence_polls_total",),
    ("coherence_redis_failures_total", "cache"),
    ("coherence_redis_failures_total", "marks"),
    ("coherence_redis_failures_total", "doorbell"),
    ("coherence_breaker_state", "neo4j", "closed"),
    ("coherence_breaker_state", "postgres", "closed"),
    ("coherence_breaker_state", "redis", "closed"),
    ("coherence_signal_streams",),
    *(("coherence_signal_streams_total", event) for event in ("opened", "batches", "signals", "acks", "throttles")),
    COMPUTED,
}


T = TypeVar("T")


async def together(work: Iterable[Coroutine[Any, Any, T]]) -> list[T]:
    """What each of them returns, begun at the same time."""
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(one) for one in work]
    return [task.result() for task in tasks]


class Reader(NamedTuple):
    """A process in one read mode."""

    served: Served
    client: Client

    async def score(self, tenant_id: str, at_least: str = "") -> Score:
        request = GetScoreRequest(tenant_id=tenant_id)
        if at_least:
            request.consistency.at_least_as_fresh.token = at_least
        return (await self.client.score.GetScore(request, timeout=PATIENCE_S)).score

    async def scores(self, at_least: Mapping[str, str] | None = None) -> list[Score]:
        """Of all tenants, one by one: only four may be computed at a time."""
        return [await self.score(one, (at_least or {}).get(one, "")) for one in TENANTS]

    async def metrics(self) -> dict[tuple[str, ...], float]:
        """The numbers by the metric's name and the values of its labels, in the order of the table."""
        async with httpx.AsyncClient(trust_env=False) as http:
            page = await http.get(f"http://{self.served.metrics}/metrics")
        orders = {metric.name: list(metric.labels) for metric in METRICS}
        return {
            (sample.name, *(sample.labels[label] for label in orders[sample.name])): sample.value
            for family in text_string_to_metric_families(page.text)
            for sample in family.samples
        }


@asynccontextmanager
async def reading(servers: Mapping[str, str], directory: Path, *modes: str) -> AsyncIterator[Mapping[str, Reader]]:
    """A process in each of the modes, all on the same servers."""
    async with AsyncExitStack() as stack, asyncio.TaskGroup() as starting:

        async def start(mode: str) -> Reader:
            home = directory / mode.replace(", ", "-").replace(" ", "-")
            home.mkdir()
            (home / "runtime.json").write_text(json.dumps({"switches": dict(MODES[mode])}))
            flags = ("--metrics", "127.0.0.1:0")
            served = await stack.enter_async_context(serving(home, *flags, environment=servers, http=False))
            return Reader(served, await stack.enter_async_context(connect(served.grpc)))

        tasks = {mode: starting.create_task(start(mode)) for mode in modes}
        yield {mode: await task for mode, task in tasks.items()}


async def publish(reader: Reader, tenant_id: str, *values: float) -> PublishSignalsResponse:
    signals = [
        Signal(source="ci", signal_id=f"{index}", type="build", value=value, ts=timestamp(NOW))
        for index, value in enumerate(values)
    ]
    request = PublishSignalsRequest(tenant_id=tenant_id, signals=signals, request_id=f"of {tenant_id}")

    async def once() -> PublishSignalsResponse | None:
        # A Neo4j that has just started may take longer than a call has; the request id makes a retry safe.
        with suppress(AioRpcError):
            return await reader.client.ingest.PublishSignals(request, timeout=PATIENCE_S)
        return None

    reply = await eventually(once, within_s=3 * PATIENCE_S)
    assert reply is not None
    return reply


async def in_each(
    readers: Mapping[str, Reader], scores: Callable[[Reader], Coroutine[Any, Any, list[Score]]]
) -> Mapping[str, list[Score]]:
    return dict(zip(readers, await together(map(scores, readers.values())), strict=True))


def lookups(metrics: Mapping[tuple[str, ...], float]) -> float:
    return metrics[*CACHE, "hit"] + metrics[*CACHE, "miss"]


def told(score: Score) -> tuple[Any, ...]:
    return score.score, score.status, score.signal_count, score.weight_sum, score.as_of_seq


async def test_adr_001_every_read_mode_gives_equal_answers_also_without_postgresql(tmp_path: Path) -> None:
    with an_own_server("postgres") as postgres:
        async with fresh_servers(postgres) as servers, reading(servers, tmp_path, *MODES) as readers:
            stored = await together(
                publish(readers["cache"], tenant_id, 0.2, number / 100) for number, tenant_id in enumerate(TENANTS)
            )
            await publish(readers["cache"], "unread", 0.25)
            revisions = {one: said.revision.token for one, said in zip(TENANTS, stored, strict=True)}
            fresh = await in_each(readers, lambda reader: reader.scores(revisions))
            rows = await eventually(
                readers["postgres"].scores, lambda found: all(row.version and row.as_of_seq == 2 for row in found)
            )
            calm = await in_each(readers, Reader.scores)

            await asyncio.to_thread(postgres.kill)
            alone = await in_each(readers, Reader.scores)
            # No process remembers a row of it.
            unread = await together(reader.score("unread") for reader in readers.values())

    expected = [told(row) for row in rows]
    for scores in (fresh, calm, alone):
        assert {mode: list(map(told, found)) for mode, found in scores.items()} == dict.fromkeys(MODES, expected)
    assert [told(score)[:3] for score in unread] == [(0.25, STATUS_CRITICAL, 1)] * len(MODES)
    sources = {mode: {score.source for score in scores} for mode, scores in calm.items()}
    assert SCORE_SOURCE_CACHE not in sources["cache, switched off"]
    assert sources["postgres"] == {SCORE_SOURCE_MATERIALIZED}
    assert sources["graph"] == {SCORE_SOURCE_COMPUTED}


async def test_ac_api_08_metrics_tell_how_often_redis_had_what_was_looked_for(tmp_path: Path) -> None:
    async with fresh_servers() as servers, reading(servers, tmp_path, "cache", "postgres") as readers:
        # Both put the rows that they publish into the cache; one of them looks there for what the other keeps.
        reader, other = readers["cache"], readers["postgres"]
        start = await reader.metrics()
        await together(publish(other, tenant_id, 0.4) for tenant_id in TENANTS)
        await eventually(reader.scores, lambda found: SCORE_SOURCE_CACHE in {score.source for score in found})
        cold = await reader.metrics()
        sources = Counter(score.source for score in await reader.scores())
        warm = await reader.metrics()
        async with Redis.from_url(servers["REDIS_URL"]) as redis:
            await redis.flushdb()
        emptied = Counter(score.source for score in await reader.scores())
        end = await reader.metrics()
        await reader.client.score.GetScore(GetScoreRequest(tenant_id=TENANTS[0], as_of_time=timestamp(NOW)))
        computed = await reader.metrics()

    assert start.keys() == GOLDEN
    assert sources[SCORE_SOURCE_CACHE] > 0
    assert warm[*CACHE, "hit"] - cold[*CACHE, "hit"] == sources[SCORE_SOURCE_CACHE]
    assert (emptied[SCORE_SOURCE_CACHE], end[*CACHE, "hit"]) == (0, warm[*CACHE, "hit"])
    # What it does not keep itself it looks for each time.
    assert end[*CACHE, "miss"] - warm[*CACHE, "miss"] == lookups(warm) - lookups(cold)
    assert end["coherence_doorbell_news_total", "heard"] >= len(TENANTS)
    assert end["coherence_polls_total",] > start["coherence_polls_total",]
    assert computed[COMPUTED] == end[COMPUTED] + 1


async def test_ac_ing_04_metrics_tell_how_many_retries_the_marks_knew(tmp_path: Path) -> None:
    redis = {"REDIS_URL": fresh_keys(redis_url())}
    async with reading(redis, tmp_path, "cache") as readers:
        reader = readers["cache"]
        await publish(reader, "acme", 0.4, 0.6)
        first = await reader.metrics()

        async def retried() -> float:
            assert (await publish(reader, "acme", 0.4, 0.6)).duplicate_count == 2
            return (await reader.metrics())[*MARKS, "hit"]

        hits = await eventually(retried)

    # A request has one mark, whatever it stores.
    assert (first[*MARKS, "hit"], first[*MARKS, "miss"], hits) == (0, 1, 1)
    assert first.keys() == GOLDEN - {("coherence_breaker_state", name, "closed") for name in ("neo4j", "postgres")}

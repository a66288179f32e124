"""ScoreCache, sentence by sentence."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from coherence_grpc.adapters.local import NoCache
from coherence_grpc.adapters.redis import Counts
from coherence_grpc.adapters.redis.cache import _row, _score
from coherence_grpc.model import Held, Score, ScoreSource, Status
from tests.backends.fixtures import fresh_prefix
from tests.builders import NOON, a_score
from tests.conformance.sharing_redis import a_process, asking, keys_of
from tests.faults import eventually

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from coherence_grpc.adapters.redis import RedisParts
    from coherence_grpc.ports import ScoreCache

pytestmark = pytest.mark.anyio

instants = st.integers(0, 2**63 - 1)
numbers = st.integers(0, 2**63 - 1)
rows = st.builds(
    Score,
    tenant_id=st.from_regex(r"[a-z0-9][a-z0-9_-]{0,63}", fullmatch=True),
    score_ppm=st.none() | st.integers(0, 1_000_000),
    status=st.sampled_from(Status),
    signal_count=numbers,
    weight_q=st.integers(0, 2**80),
    window_start=st.integers(-(2**62), 2**62),
    window_end=instants,
    data_time=st.none() | instants,
    valid_until=st.none() | instants,
    as_of_seq=numbers,
    head_hash=st.binary(min_size=32, max_size=32),
    signal_epoch=numbers,
    score_epoch=numbers,
    version=numbers,
    computed_at=instants,
    source=st.sampled_from(ScoreSource),
    policy_etag=st.text(max_size=20),
    stale=st.booleans(),
    backfill=st.booleans(),
    status_changed=st.booleans(),
    held=st.none()
    | st.builds(
        Held,
        status=st.sampled_from(Status),
        since=st.none() | instants,
        pending=st.lists(st.tuples(st.sampled_from(Status), instants), max_size=2).map(tuple),
    ),
)


@pytest.fixture
def prefix() -> str:
    return fresh_prefix()


@pytest.fixture
async def parts(redis_url: str, prefix: str) -> AsyncIterator[RedisParts]:
    async with a_process(redis_url, prefix) as parts:
        yield parts


@pytest.fixture
def cache(parts: RedisParts) -> ScoreCache:
    return parts.cache


@given(row=rows)
@settings(suppress_health_check=[HealthCheck.too_slow])
def test_a_row_comes_back_as_it_was_put_to_the_last_digit(row: Score) -> None:
    assert _score(_row(row)) == row


async def test_ac_api_08_rows_that_were_put_are_there_for_every_process(
    cache: ScoreCache, parts: RedisParts, redis_url: str, prefix: str
) -> None:
    acme = a_score(tenant_id="acme", valid_until=NOON + 1)
    umbrella = replace(a_score(tenant_id="umbrella", score_ppm=None), weight_q=10**21)
    await cache.put([acme, umbrella])

    async with a_process(redis_url, prefix) as other:
        assert await other.cache.get(["acme", "umbrella", "nobody"]) == {"acme": acme, "umbrella": umbrella}
        assert other.counts()["cache"] == Counts(2, 1, 0)
    assert await cache.get(["umbrella"]) == {"umbrella": umbrella}
    assert parts.counts()["cache"] == Counts(1, 0, 0)


@pytest.mark.parametrize(
    "loser",
    [
        {"as_of_seq": 4, "version": 4},
        {"window_end": NOON - 1, "version": 4},
        {"signal_epoch": 1, "as_of_seq": 9, "version": 4},
        {"version": 2},
        {"as_of_seq": 6, "version": 2},
        {"score_epoch": 1, "version": 9},
    ],
)
async def test_a_row_that_would_lose_in_the_store_changes_nothing(cache: ScoreCache, loser: dict[str, Any]) -> None:
    there = a_score(signal_epoch=2, score_epoch=2, as_of_seq=5, version=3)
    await cache.put([there])

    await cache.put([replace(there, **loser)])

    assert await cache.get(["acme"]) == {"acme": there}


@pytest.mark.parametrize(
    "winner",
    [
        {"score_ppm": 1},
        {"as_of_seq": 6},
        {"window_end": NOON + 1},
        {"version": 4},
        {"version": 6, "as_of_seq": 10},
        {"signal_epoch": 3, "as_of_seq": 1},
        {"score_epoch": 3, "version": 1},
    ],
)
async def test_a_row_that_would_not_lose_takes_its_place(cache: ScoreCache, winner: dict[str, Any]) -> None:
    there = a_score(signal_epoch=2, score_epoch=2, as_of_seq=5, version=3)
    await cache.put([there])
    newer = replace(there, **winner)

    await cache.put([newer])

    assert await cache.get(["acme"]) == {"acme": newer}


async def test_numbers_beyond_what_lua_counts_exactly_are_compared_exactly(cache: ScoreCache) -> None:
    newer = a_score(as_of_seq=2**53 + 2, version=2**53 + 2)
    await cache.put([newer])

    await cache.put([replace(newer, as_of_seq=2**53 + 1, version=2**53 + 1)])

    assert await cache.get(["acme"]) == {"acme": newer}


async def test_of_two_rows_put_together_the_newer_one_stays(cache: ScoreCache) -> None:
    older, newer = a_score(version=1), a_score(version=2, as_of_seq=2)

    await cache.put([newer, older])

    assert await cache.get(["acme"]) == {"acme": newer}


async def test_processes_that_put_at_once_leave_the_newest_row(cache: ScoreCache, redis_url: str, prefix: str) -> None:
    scores = [a_score(version=number, as_of_seq=number) for number in range(1, 201)]
    async with a_process(redis_url, prefix) as other, asyncio.TaskGroup() as group:
        for number, score in enumerate(reversed(scores)):
            group.create_task((cache, other.cache)[number % 2].put([score]))

    assert await cache.get(["acme"]) == {"acme": scores[-1]}


async def test_nothing_asked_or_put_is_nothing_found(cache: ScoreCache) -> None:
    await cache.put([])

    assert await cache.get([]) == {}


async def test_rows_go_after_their_time(redis_url: str, prefix: str) -> None:
    async with a_process(redis_url, prefix, cache_ttl_s=0.05) as parts:
        await parts.cache.put([a_score()])

        await eventually(lambda: parts.cache.get(["acme"]), lambda rows: not rows)


async def test_each_row_stands_under_the_prefix_for_half_a_minute(
    cache: ScoreCache, redis_url: str, prefix: str
) -> None:
    await cache.put([a_score()])

    async with asking(redis_url) as ask:
        (name,) = await keys_of(ask, prefix)
        assert 29_000 < await ask("PTTL", name) <= 30_000


@pytest.mark.parametrize("damaged", [b"", b"short", b"9" * 99, b"x" * 300])
async def test_a_damaged_row_is_not_there_and_the_next_one_heals_it(
    cache: ScoreCache, redis_url: str, prefix: str, damaged: bytes
) -> None:
    await cache.put([a_score()])
    async with asking(redis_url) as ask:
        (name,) = await keys_of(ask, prefix)
        await ask("SET", name, damaged, "PX", 60_000)
    assert await cache.get(["acme"]) == {}

    await cache.put([a_score()])

    assert await cache.get(["acme"]) == {"acme": a_score()}


async def test_without_a_cache_no_row_is_there() -> None:
    cache: ScoreCache = NoCache()
    await cache.put([a_score()])

    assert await cache.get(["acme"]) == {}


async def test_a_row_of_a_release_that_did_not_know_what_is_held_is_not_read(
    parts: RedisParts, redis_url: str, prefix: str
) -> None:
    row = a_score()
    await parts.cache.put([row])

    async with asking(redis_url) as ask:
        (key,) = await keys_of(ask, prefix)
        await ask("RENAME", key, key.replace(b"score:2:", b"score:1:"))

    assert b"score:2:" in key
    assert await parts.cache.get([row.tenant_id]) == {}

"""What becomes of each role while Redis is dead, silent, read-only, full or wrong, and after it is back."""

from __future__ import annotations

import asyncio
import logging
from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING

import pytest

from coherence_grpc.adapters.local import LocalRateLimiter
from coherence_grpc.adapters.redis import check, open_redis
from coherence_grpc.adapters.redis.link import CONNECTIONS
from coherence_grpc.adapters.redis.opening import CALL_S
from coherence_grpc.errors import SettingsInvalid, StoreDown, StoreTimeout
from coherence_grpc.ports import News
from tests.backends.fixtures import an_own_server, fresh_prefix
from tests.builders import a_score, an_item, key_of, payload_of
from tests.conformance.sharing_redis import a_process, asking, keys_of
from tests.faultproxy import fault_proxy
from tests.faults import eventually, tasks_end, until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from coherence_grpc.adapters.redis import RedisParts
    from coherence_grpc.ports import RateLimiter
    from tests.backends.sharing import Own
    from tests.faultproxy import FaultProxy

pytestmark = [pytest.mark.anyio, pytest.mark.external("redis")]

ITEM = an_item()
KEYS, PAYLOADS = [key_of(ITEM)], [payload_of(ITEM)]
# Twenty times what is promised, for a busy machine; the driver alone would wait for ever.
SOON_S = 20 * CALL_S


@pytest.fixture
def server() -> Iterator[Own]:
    with an_own_server("redis") as server:
        yield server


@pytest.fixture
def url(server: Own) -> str:
    return server.variables["REDIS_URL"]


@pytest.fixture
async def parts(url: str) -> AsyncIterator[RedisParts]:
    async with reached(url) as parts:
        yield parts


@asynccontextmanager
async def reached(url: str, *, call_s: float = 5 * CALL_S) -> AsyncIterator[RedisParts]:
    """A process that has reached its Redis; it may be slow a little longer than promised, for a busy machine."""
    async with open_redis(url, call_s=call_s) as parts:
        await until(lambda: parts.up)
        yield parts


@asynccontextmanager
async def proxied(server: Own) -> AsyncIterator[tuple[FaultProxy, str]]:
    """Something that fails as networks do, and the address of the server behind it."""
    port = server.server.port
    async with fault_proxy(port) as proxy:
        yield proxy, server.variables["REDIS_URL"].replace(f":{port}/", f":{proxy.port}/")


@asynccontextmanager
async def a_black_hole() -> AsyncIterator[str]:
    """The address of something that takes connections and says nothing."""
    async with AsyncExitStack() as stack:

        async def swallow(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            stack.callback(writer.close)
            await reader.read()

        server = await asyncio.start_server(swallow, "127.0.0.1", 0)
        async with server:
            yield f"redis://:secret@127.0.0.1:{server.sockets[0].getsockname()[1]}/0"


def a_limiter(parts: RedisParts, *, away: RateLimiter | None = None) -> RateLimiter:
    """Two requests of a tenant at once; one when it counts alone."""
    return parts.limiter(0.001, None, burst_s=2000, away=away or LocalRateLimiter(0.001, None))


async def goes_on_without(parts: RedisParts) -> None:
    """Each role does what its port says of a Redis that can't be had, soon."""
    limiter = a_limiter(parts)
    heard: list[News] = []
    parts.doorbell.listen(heard.append)
    async with asyncio.timeout(5 * SOON_S):
        assert await parts.marks.known(1, KEYS, PAYLOADS) == [0]
        await parts.marks.mark(1, KEYS, PAYLOADS, [7])
        assert await parts.cache.get(["acme"]) == {}
        await parts.cache.put([a_score()])
        assert [await limiter.admit("acme") == 0 for _ in range(2)] == [True, False]
    parts.doorbell.ring(News("acme", 3, 5))
    assert heard == [News("acme", 3, 5)]


async def works(parts: RedisParts) -> None:
    """Each role remembers in Redis."""
    item = an_item()
    await parts.marks.mark(1, [key_of(item)], [payload_of(item)], [7])
    assert await parts.marks.known(1, [key_of(item)], [payload_of(item)]) == [7]
    score = a_score(tenant_id=item.signal_id)
    await parts.cache.put([score])
    assert await parts.cache.get([score.tenant_id]) == {score.tenant_id: score}
    assert await a_limiter(parts).admit(score.tenant_id) == 0


async def again(parts: RedisParts) -> None:
    """Returns when Redis is used again, which somebody has to ask for."""
    await eventually(lambda: parts.cache.get(["acme"]), lambda _: parts.up)


async def test_without_redis_from_the_start_everything_goes_on() -> None:
    async with open_redis("redis://127.0.0.1:1/0") as parts:
        await goes_on_without(parts)

        assert not parts.up
        assert {role: count.errors > 0 for role, count in parts.counts().items()} == {
            "doorbell": True,
            "marks": True,
            "cache": True,
            "limiter": True,
        }


async def test_r8_a_black_hole_holds_nobody_up() -> None:
    async with asyncio.timeout(10 * SOON_S), a_black_hole() as url, open_redis(url) as parts:
        await goes_on_without(parts)

        assert not parts.up


async def test_r8_once_it_is_known_to_be_a_black_hole_nobody_waits_at_all() -> None:
    async with a_black_hole() as url, open_redis(url) as parts:
        for _ in range(3):
            await parts.cache.get(["acme"])
        loop = asyncio.get_running_loop()
        begun = loop.time()

        for _ in range(100):
            await parts.cache.get(["acme"])

        # One of them may be the one that tries.
        assert loop.time() - begun < 100 * CALL_S / 4


async def test_r8_many_at_once_wait_no_longer_than_one_in_a_black_hole() -> None:
    async with a_black_hole() as url, open_redis(url) as parts:
        async with asyncio.timeout(SOON_S), asyncio.TaskGroup() as group:
            asked = [group.create_task(parts.cache.get(["acme"])) for _ in range(500)]

        assert all(task.result() == {} for task in asked)


@pytest.mark.slow
async def test_r8_a_frozen_redis_is_used_again_when_it_goes_on(server: Own, parts: RedisParts) -> None:
    await works(parts)

    server.freeze()
    await goes_on_without(parts)
    await until(lambda: not parts.up)
    server.thaw()

    await again(parts)
    await works(parts)


async def test_r8_a_killed_redis_is_used_again_when_it_is_back(server: Own, parts: RedisParts) -> None:
    await works(parts)

    await asyncio.to_thread(server.kill)
    await goes_on_without(parts)
    await until(lambda: not parts.up)
    await asyncio.to_thread(server.start_again)

    await again(parts)
    await works(parts)


async def test_r8_after_flushall_everything_is_unknown_and_is_remembered_anew(url: str, parts: RedisParts) -> None:
    limiter = a_limiter(parts)
    assert [await limiter.admit("acme") == 0 for _ in range(3)] == [True, True, False]
    await parts.marks.mark(1, KEYS, PAYLOADS, [7])
    await parts.cache.put([a_score()])

    async with asking(url) as ask:
        await ask("FLUSHALL")
        await ask("SCRIPT", "FLUSH")

    assert await parts.marks.known(1, KEYS, PAYLOADS) == [0]
    assert await parts.cache.get(["acme"]) == {}
    assert await limiter.admit("acme") == 0
    await works(parts)
    assert parts.up


async def test_r8_a_redis_half_a_second_away_holds_nobody_up(server: Own) -> None:
    async with proxied(server) as (proxy, url), reached(url, call_s=CALL_S) as parts:
        proxy.delay(0.5)
        await goes_on_without(parts)

        proxy.heal()

        await again(parts)


async def test_r8_a_redis_that_comes_and_goes_never_says_what_is_not_so(server: Own) -> None:
    async with proxied(server) as (proxy, url), reached(url) as parts:
        limiter = a_limiter(parts, away=LocalRateLimiter(None, None))
        scores = [a_score(version=number, as_of_seq=number) for number in range(1, 41)]

        for score in scores:
            if score.version % 3 == 0:
                proxy.cut()
            await parts.cache.put([score])
            await parts.marks.mark(1, KEYS, PAYLOADS, [score.version])
            await limiter.admit("acme")
            (seq,) = await parts.marks.known(1, KEYS, PAYLOADS)
            rows = await parts.cache.get(["acme"])

            assert 0 <= seq <= score.version
            assert all(row in scores[: score.version] for row in rows.values())

        await again(parts)
        await works(parts)


async def test_a_call_whose_answer_is_lost_is_done_without(server: Own) -> None:
    async with proxied(server) as (proxy, url), reached(url) as parts:
        await works(parts)
        away = LocalRateLimiter(0.001, None)
        proxy.drop_reply(b"EVALSHA", silently=True)

        assert await a_limiter(parts, away=away).admit("acme") == 0

        assert await away.admit("acme") > 0
        assert proxy.lost == 1
        await works(parts)


async def test_a_read_only_redis_keeps_what_it_has(url: str, parts: RedisParts) -> None:
    await parts.marks.mark(1, KEYS, PAYLOADS, [7])
    async with asking(url) as ask:
        await ask("REPLICAOF", "127.0.0.1", "1")

        await parts.marks.mark(1, KEYS, PAYLOADS, [8])

        assert await parts.marks.known(1, KEYS, PAYLOADS) == [7]
        with pytest.raises(StoreDown, match="is read-only, a replica for example; name the primary in REDIS_URL"):
            await check(url)


async def test_a_full_redis_is_gone_on_without(url: str, parts: RedisParts) -> None:
    async with asking(url) as ask:
        await ask("CONFIG", "SET", "maxmemory", 1)

        await parts.cache.put([a_score()])

        assert await parts.cache.get(["acme"]) == {}
        assert parts.counts()["cache"].errors == 1
        with pytest.raises(StoreDown, match="has no memory left"):
            await check(url)


async def test_a_wrong_password_is_told_without_saying_it(server: Own, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "coherence_grpc")
    url = f"redis://:swordfish@127.0.0.1:{server.server.port}/0"
    async with open_redis(url) as parts:
        await goes_on_without(parts)
        assert not parts.up

    with pytest.raises(StoreDown, match="refuses user or password; check REDIS_URL") as refused:
        await check(url)

    assert "swordfish" not in str(refused.value)
    assert "swordfish" not in " ".join(f"{record.getMessage()} {record.__dict__}" for record in caplog.records)


async def test_a_password_left_out_is_told(server: Own) -> None:
    with pytest.raises(StoreDown, match="refuses user or password; check REDIS_URL"):
        await check(f"redis://127.0.0.1:{server.server.port}/0")


async def test_a_user_who_may_not_write_is_told(server: Own, url: str) -> None:
    async with asking(url) as ask:
        await ask("ACL", "SETUSER", "reader", "on", ">word", "~*", "+@read")

    with pytest.raises(StoreDown, match="does not let this user do what is needed"):
        await check(f"redis://reader:word@127.0.0.1:{server.server.port}/0")


async def test_a_wrong_port_and_a_black_hole_are_told() -> None:
    with pytest.raises(StoreDown, match="can't be reached; check that it runs"):
        await check("redis://127.0.0.1:1/0")
    async with a_black_hole() as url:
        with pytest.raises(StoreTimeout, match="did not answer in time"):
            await check(url)


async def test_a_redis_that_can_be_used_passes_the_check_and_keeps_nothing(url: str) -> None:
    await check(url, prefix="checked:")

    async with asking(url) as ask:
        assert all([0 < await ask("PTTL", name) <= 1000 for name in await keys_of(ask, "checked:")])


@pytest.mark.parametrize(
    "url",
    [
        "",
        "http://:swordfish@localhost/",
        "redis://:swordfish@localhost:port/0",
        "redis://:swordfish@localhost/0?socket_timeout=x",
        "redis://:swordfish@localhost/0?no_such_option=x",
    ],
)
async def test_what_is_no_address_is_refused_without_saying_it(url: str) -> None:
    with pytest.raises(SettingsInvalid, match="REDIS_URL is not an address of Redis") as refused:
        await open_redis(url).__aenter__()

    assert "swordfish" not in str(refused.value)
    assert refused.value.__cause__ is None


@pytest.mark.parametrize("url", ["unix:///nowhere.sock", "rediss://localhost:1/0", "redis://[::1]:1/3"])
async def test_other_ways_to_redis_go_on_without_it_too(url: str) -> None:
    async with open_redis(url) as parts:
        await goes_on_without(parts)


async def test_options_in_the_url_take_none_of_our_promises_back() -> None:
    async with a_black_hole() as url, asyncio.timeout(5 * SOON_S):
        options = "socket_timeout=100&socket_connect_timeout=100&decode_responses=True&max_connections=1"
        async with open_redis(f"{url}?{options}") as parts:
            await goes_on_without(parts)


async def test_each_change_is_one_line_in_the_log(
    server: Own, parts: RedisParts, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "coherence_grpc")

    await asyncio.to_thread(server.kill)
    for _ in range(50):
        await parts.cache.get(["acme"])
        parts.doorbell.ring(News("acme", 3, 5))
    await until(lambda: not parts.up)
    await asyncio.to_thread(server.start_again)
    await again(parts)

    assert sorted(record.getMessage() for record in caplog.records) == [
        "a store answers again",
        "a store fails and is asked only now and then",
        "what other processes store is heard of again",
        "what other processes store is not heard of, only found by asking",
    ]


async def test_a_cancelled_caller_leaves_the_next_one_its_own_answer(parts: RedisParts) -> None:
    scores = {name: a_score(tenant_id=name) for name in ("acme", "umbrella")}
    await parts.cache.put(list(scores.values()))

    for turns in range(60):
        leaving = asyncio.create_task(parts.cache.get(["acme"]))
        for _ in range(turns // 4):
            await asyncio.sleep(0)
        leaving.cancel()
        await asyncio.wait((leaving,))
        assert leaving.cancelled() or leaving.result() == {"acme": scores["acme"]}
        assert await parts.cache.get(["umbrella"]) == {"umbrella": scores["umbrella"]}

    assert parts.counts()["cache"].errors == 0


async def test_many_at_once_share_a_few_connections_and_leave_none(url: str) -> None:
    tasks = asyncio.all_tasks()
    async with asking(url) as ask:
        async with a_process(url, fresh_prefix()) as parts:
            await parts.cache.put([a_score()])

            async with asyncio.TaskGroup() as group:
                asked = [group.create_task(parts.cache.get(["acme"])) for _ in range(500)]
            connections = await ask("CLIENT", "LIST")

            assert all(task.result() for task in asked)
            assert connections.count(b"\n") <= CONNECTIONS + 2

        await tasks_end(tasks)
        await eventually(lambda: ask("CLIENT", "LIST"), lambda listed: listed.count(b"\n") == 1)

"""ShardLeases on PostgreSQL, sentence by sentence."""

from __future__ import annotations

import asyncio
import signal
import sys
from contextlib import AsyncExitStack, asynccontextmanager
from math import ceil
from time import monotonic
from typing import TYPE_CHECKING

import pytest

from coherence_grpc.adapters.postgres import migrate, open_leases
from tests.backends.fixtures import POSTGRES, an_own_server
from tests.conformance.holding import SHARDS, one_of_each
from tests.faults import eventually, until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from contextlib import AbstractAsyncContextManager

    from coherence_grpc.ports import ShardLeases
    from tests.conformance.on_postgres import Schema

pytestmark = pytest.mark.anyio

TENANTS = one_of_each()
# Short, so that a test need not wait long; the default is 4 s.
TTL_S = 1.0
TAKEOVER_S = 5.0


def held(leases: ShardLeases) -> set[int]:
    """The shards that it says it holds."""
    return {shard for shard, tenant_id in enumerate(TENANTS) if leases.holds(tenant_id)}


def opened(schema: Schema, holder: str, ttl_s: float = TTL_S) -> AbstractAsyncContextManager[ShardLeases]:
    return open_leases(schema.uri, namespace=schema.name, holder=holder, ttl_s=ttl_s)


@asynccontextmanager
async def a_process(schema: Schema, holder: str) -> AsyncIterator[asyncio.subprocess.Process]:
    """Another process with leases of 4 s, which holds all of them when it is alone."""
    arguments = ("-m", "tests.conformance.holding", schema.uri, schema.name, holder)
    process = await asyncio.create_subprocess_exec(sys.executable, *arguments, stdout=asyncio.subprocess.PIPE)
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


async def says(process: asyncio.subprocess.Process) -> int:
    """How many shards the process holds now."""
    assert process.stdout
    async with asyncio.timeout(20):
        return int(await process.stdout.readline())


async def test_who_is_alone_holds_every_shard_at_once(schema: Schema) -> None:
    async with opened(schema, "a") as leases:
        assert held(leases) == set(range(SHARDS))


@pytest.mark.parametrize("holders", [2, 3, 5])
async def test_holders_share_the_shards_fairly_and_each_has_one_holder(schema: Schema, holders: int) -> None:
    async with AsyncExitStack() as stack:
        everyone = [await stack.enter_async_context(opened(schema, f"holder-{n}")) for n in range(holders)]

        def shared() -> bool:
            sizes = [len(held(leases)) for leases in everyone]
            return sum(sizes) == SHARDS and max(sizes) <= ceil(SHARDS / holders)

        await until(shared)

        assert set().union(*map(held, everyone)) == set(range(SHARDS))


async def test_what_a_holder_releases_at_its_end_is_taken_before_the_next_renewal(schema: Schema) -> None:
    # Renewals are 15 s apart.
    async with opened(schema, "stays", ttl_s=60) as stays:
        async with opened(schema, "leaves", ttl_s=60) as leaves:
            await until(lambda: (len(held(stays)), len(held(leaves))) == (32, 32))

        await until(lambda: held(stays) == set(range(SHARDS)))

        assert held(leaves) == set()
        assert await schema.rows("SELECT holder FROM shard_holders") == [("stays",)]


async def test_r7_a_shard_that_changes_hands_has_one_holder_at_a_time_and_soon_the_new_one(schema: Schema) -> None:
    async with opened(schema, "first", ttl_s=60) as first, opened(schema, "second", ttl_s=60) as second:
        both: list[set[int]] = []

        def shared() -> bool:
            both.append(held(first) & held(second))
            return (len(held(first)), len(held(second))) == (32, 32)

        await until(shared)

        assert not any(both)


async def test_a_lease_that_somebody_holds_is_not_taken(schema: Schema) -> None:
    async with opened(schema, "gone"):
        pass
    await schema.rows("UPDATE shard_leases SET holder = 'silent', expires_at = now() + INTERVAL '1 minute'")

    async with opened(schema, "here", ttl_s=60) as here:
        await here.renew()  # type: ignore[attr-defined] # the adapter's own

        assert held(here) == set()


async def test_holders_are_told_when_shards_are_won_or_lost(schema: Schema) -> None:
    told: list[int] = []
    async with opened(schema, "first") as first:
        first.listen(lambda: told.append(len(held(first))))
        async with opened(schema, "second"):
            await until(lambda: told == [32])
        await until(lambda: told == [32, 64])

    assert told == [32, 64, 0]


@pytest.mark.slow
async def test_the_shards_of_a_killed_process_are_taken_over_within_5_s(schema: Schema) -> None:
    async with a_process(schema, "other") as other:
        assert await says(other) == SHARDS
        async with opened(schema, "here", ttl_s=4.0) as here:
            await until(lambda: len(held(here)) == SHARDS // 2)
            other.send_signal(signal.SIGKILL)
            killed = monotonic()

            await until(lambda: len(held(here)) == SHARDS, timeout_s=TAKEOVER_S)

            assert monotonic() - killed < TAKEOVER_S


@pytest.mark.slow
async def test_r7_a_stopped_process_that_goes_on_knows_that_its_shards_are_gone(schema: Schema) -> None:
    async with a_process(schema, "other") as other:
        assert await says(other) == SHARDS
        other.send_signal(signal.SIGSTOP)
        async with opened(schema, "here", ttl_s=4.0) as here:
            await until(lambda: len(held(here)) == SHARDS, timeout_s=TAKEOVER_S)

            other.send_signal(signal.SIGCONT)

            # It loses all before it is given its share.
            assert await says(other) == 0
            assert await says(other) == SHARDS // 2
            await until(lambda: len(held(here)) == SHARDS // 2)


@POSTGRES
async def test_a_lease_that_can_t_be_renewed_is_not_held_beyond_its_time() -> None:
    told: list[int] = []
    with an_own_server("postgres") as server:
        uri = server.variables["POSTGRES_URI"]
        await migrate(uri)
        async with open_leases(uri, holder="a", ttl_s=TTL_S) as leases:
            leases.listen(lambda: told.append(len(held(leases))))
            assert held(leases) == set(range(SHARDS))
            # Nothing answers from here on.
            server.freeze()
            frozen = monotonic()
            await until(lambda: not held(leases))
            lasted = monotonic() - frozen
            server.thaw()

            await until(lambda: len(held(leases)) == SHARDS)

    assert lasted <= TTL_S + 0.5
    assert told[:2] == [0, SHARDS]


@POSTGRES
async def test_leases_come_back_with_a_server_that_was_killed_and_end_without_one() -> None:
    with an_own_server("postgres") as server:
        uri = server.variables["POSTGRES_URI"]
        await migrate(uri)
        async with open_leases(uri, holder="a", ttl_s=TTL_S) as leases:
            server.kill()
            await until(lambda: not held(leases))
            await asyncio.to_thread(server.start_again)
            await until(lambda: len(held(leases)) == SHARDS)
            server.kill()

        assert held(leases) == set()


async def test_a_holder_that_never_said_goodbye_is_forgotten(schema: Schema) -> None:
    await schema.rows("INSERT INTO shard_holders VALUES ('gone', now() - INTERVAL '2 minutes')")
    await schema.rows("INSERT INTO shard_holders VALUES ('dead', now() - INTERVAL '1 second')")

    async with opened(schema, "a") as leases:
        assert held(leases) == set(range(SHARDS))

        left = await eventually(lambda: schema.rows("SELECT holder FROM shard_holders ORDER BY 1"), bool)

    assert left == [("a",), ("dead",)]

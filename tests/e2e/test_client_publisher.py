"""Publishers while servers and networks fail: nothing that was accepted is lost, and nothing is stored twice."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Final

import pytest

from coherence_grpc.client import PublishIncomplete, Signal, connect
from tests.backends.ports import free_port
from tests.builders import fresh
from tests.e2e.reading import all_signals, assert_log_is_whole
from tests.faultproxy import fault_proxy
from tests.serving import serving

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from coherence_grpc.client import Client, Publisher
    from tests.serving import Served

pytestmark = [pytest.mark.anyio, pytest.mark.slow]
SIGNALS: Final = 6_000
PENDING: Final = 2_000


def signals(count: int = SIGNALS) -> Iterator[Signal]:
    for number in range(count):
        yield Signal("ci", "build", 0.5, signal_id=f"n{number}")


async def stored_ids(client: Client, tenant: str) -> list[str]:
    """The ids of all stored signals, in the order of the log."""
    found = await all_signals(client, tenant)
    await assert_log_is_whole(client, tenant, found)
    return [each.signal.signal_id for each in sorted(found, key=lambda each: each.seq)]


async def put_watched(publisher: Publisher, most: list[int]) -> None:
    for signal in signals():
        await publisher.put(signal)
        most[0] = max(most[0], publisher.stats.pending)


async def test_a_server_that_is_killed_costs_no_signal_and_doubles_none(tmp_path: Path) -> None:
    address, most = f"127.0.0.1:{free_port()}", [0]
    async with AsyncExitStack() as servers, connect(address) as client:
        served = await _started(servers, tmp_path, address)
        async with client.publisher("acme", max_pending=PENDING) as publisher:
            putting = asyncio.create_task(put_watched(publisher, most))
            await _accepted(publisher, SIGNALS // 4)
            await served.kill()
            await _started(servers, tmp_path, address)
            await putting
        ids = await stored_ids(client, "acme")

    assert ids == [signal.signal_id for signal in signals()]
    assert most[0] <= PENDING
    assert publisher.stats.connections >= 2
    assert publisher.stats.stored + publisher.stats.duplicate == SIGNALS


async def _started(servers: AsyncExitStack, directory: Path, address: str) -> Served:
    return await servers.enter_async_context(serving(directory / "data", "--grpc", address, http=False))


async def _accepted(publisher: Publisher, count: int) -> None:
    async with asyncio.timeout(20):
        while publisher.stats.accepted - publisher.stats.pending < count:  # noqa: ASYNC110 - an ack sets no event of ours
            await asyncio.sleep(0.001)


async def test_a_network_that_cuts_and_falls_silent_costs_no_signal_and_doubles_none(service: Served) -> None:
    tenant = fresh("publisher")
    async with (
        fault_proxy(int(service.grpc.rpartition(":")[2])) as proxy,
        connect(f"127.0.0.1:{proxy.port}") as client,
        connect(service.grpc) as direct,
    ):
        async with client.publisher(tenant, max_pending=PENDING) as publisher:
            putting = asyncio.create_task(publisher.put_all(signals()))
            for run, fault in enumerate([proxy.cut, proxy.black_hole, proxy.refuse, proxy.cut]):
                await _accepted(publisher, (run + 1) * SIGNALS // 6)
                fault()
                await asyncio.wait([putting], timeout=0.2)
                proxy.cut()
                proxy.heal()
            await putting
        ids = await stored_ids(direct, tenant)

    assert ids == [signal.signal_id for signal in signals()]
    assert publisher.stats.connections >= 2


async def test_a_lost_ack_stores_nothing_twice(service: Served) -> None:
    tenant = fresh("publisher")
    async with (
        fault_proxy(int(service.grpc.rpartition(":")[2])) as proxy,
        connect(f"127.0.0.1:{proxy.port}") as client,
        client.publisher(tenant) as publisher,
    ):
        proxy.drop_reply(b"the-last-of-them")
        await publisher.put_all(signals(100))
        await publisher.put(Signal("ci", "build", 0.5, signal_id="the-last-of-them"))
        await publisher.flush()
        ids = await stored_ids(client, tenant)

    assert ids == [*(signal.signal_id for signal in signals(100)), "the-last-of-them"]
    assert proxy.lost == 1
    assert publisher.stats.duplicate == 101


async def test_what_cannot_be_handed_over_is_named_and_can_be_put_again(service: Served) -> None:
    tenant = fresh("publisher")
    async with fault_proxy(int(service.grpc.rpartition(":")[2])) as proxy, connect(f"127.0.0.1:{proxy.port}") as client:
        publisher = await client.publisher(tenant, close_s=0.5).__aenter__()
        await publisher.put_all(signals(3))
        await publisher.flush(timeout_s=10)
        proxy.refuse()
        await publisher.put_all(list(signals(5))[3:])
        with pytest.raises(PublishIncomplete) as told:
            await publisher.close()
    async with connect(service.grpc) as client:
        async with client.publisher(tenant) as publisher:
            await publisher.put_all(told.value.unacked)
        ids = await stored_ids(client, tenant)

    assert [signal.signal_id for signal in told.value.unacked] == ["n3", "n4"]
    assert all(signal.ts is not None for signal in told.value.unacked)
    assert ids == [signal.signal_id for signal in signals(5)]


async def test_refused_signals_are_told_and_the_others_stored(service: Served) -> None:
    tenant = fresh("publisher")
    async with connect(service.grpc) as client:
        async with client.publisher(tenant) as publisher:
            await publisher.put(Signal("ci", "build", 0.5, signal_id="good"))
            await publisher.put(Signal("ci", "build", 1.5, signal_id="bad"))
            await publisher.put(Signal("ci", "build", 0.6, signal_id="fine"))
        score = await client.get_score(tenant, at_least=publisher.revision)

    assert score.score == 0.55
    assert [(each.signal.signal_id, each.refusal.reason) for each in publisher.rejected] == [("bad", "SIGNAL_INVALID")]
    assert "value" in publisher.rejected[0].refusal.fields[0].path

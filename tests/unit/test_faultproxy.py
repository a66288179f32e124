from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING

import pytest

from tests.faultproxy import FaultProxy, fault_proxy
from tests.faults import tasks_end
from tests.serving import until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

pytestmark = pytest.mark.anyio
WITHIN_S = 10.0


class Client:
    """Says lines and hears what comes back."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    async def say(self, text: bytes) -> None:
        self.writer.write(text)
        await self.writer.drain()

    async def hear(self) -> bytes:
        async with asyncio.timeout(WITHIN_S):
            return await self.reader.readline()

    async def ask(self, text: bytes) -> bytes:
        await self.say(text)
        return await self.hear()


class Echo:
    """A server that answers every line with itself, and remembers what it was told."""

    def __init__(self) -> None:
        self.told: list[bytes] = []
        self.gone = 0

    async def attend(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError):
            while line := await reader.readline():
                self.told.append(line)
                writer.write(line)
                await writer.drain()
        self.gone += 1
        writer.close()


@pytest.fixture
async def echo() -> AsyncIterator[tuple[Echo, int]]:
    server = Echo()
    async with await asyncio.start_server(server.attend, "127.0.0.1", 0) as listening:
        yield server, listening.sockets[0].getsockname()[1]


@pytest.fixture
async def proxy(echo: tuple[Echo, int]) -> AsyncIterator[FaultProxy]:
    async with fault_proxy(echo[1]) as proxy:
        yield proxy


@asynccontextmanager
async def a_client(proxy: FaultProxy) -> AsyncIterator[Client]:
    reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
    try:
        yield Client(reader, writer)
    finally:
        writer.close()
        with suppress(ConnectionError):
            await writer.wait_closed()


async def test_without_a_fault_everything_passes_both_ways_and_so_does_the_end(
    proxy: FaultProxy, echo: tuple[Echo, int]
) -> None:
    async with a_client(proxy) as client:
        large = b"x" * 60_000 + b"\n"

        answers = [await client.ask(b"one\n"), await client.ask(large)]

    assert answers == [b"one\n", large]
    await until(lambda: echo[0].gone)
    await until(lambda: not proxy.open)
    assert proxy.accepted == 1


async def test_refused_connections_fail_at_once_and_open_ones_are_reset(proxy: FaultProxy) -> None:
    async with a_client(proxy) as client:
        await client.ask(b"one\n")

        proxy.refuse()

        with pytest.raises(ConnectionResetError):
            await client.hear()
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_connection("127.0.0.1", proxy.port)


async def test_a_healed_proxy_takes_connections_on_the_same_port(proxy: FaultProxy) -> None:
    port = proxy.port
    proxy.refuse()

    proxy.heal()

    async with a_client(proxy) as client:
        assert await client.ask(b"one\n") == b"one\n"
    assert proxy.port == port


async def test_in_a_black_hole_connections_stand_and_what_was_sent_arrives_after_it(
    proxy: FaultProxy, echo: tuple[Echo, int]
) -> None:
    async with a_client(proxy) as old:
        await old.ask(b"one\n")
        proxy.black_hole()
        async with a_client(proxy) as new:
            await old.say(b"two\n")
            await new.say(b"three\n")
            await until(lambda: proxy.accepted == 2)

            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.05):
                    await old.reader.readline()
            told = list(echo[0].told)
            proxy.heal()

            assert told == [b"one\n"]
            assert (await old.hear(), await new.hear()) == (b"two\n", b"three\n")


async def test_latency_holds_in_both_directions_and_does_not_add_up_over_what_is_on_its_way(proxy: FaultProxy) -> None:
    loop = asyncio.get_running_loop()
    async with a_client(proxy) as client:
        proxy.delay(0.1)
        begun = loop.time()

        for number in range(10):
            await client.say(b"%d\n" % number)
        first = (await client.hear(), loop.time() - begun)
        rest = [await client.hear() for _ in range(9)]
        took = loop.time() - begun

    assert first[0] == b"0\n"
    assert first[1] >= 0.2
    assert rest == [b"%d\n" % number for number in range(1, 10)]
    assert took < 10 * 0.2


async def test_a_connection_is_reset_after_so_many_bytes_of_replies(proxy: FaultProxy) -> None:
    async with a_client(proxy) as client:
        await client.ask(b"before\n")
        proxy.reset_after(6)

        await client.ask(b"abc\n")
        await client.say(b"defg\n")

        with pytest.raises(ConnectionResetError):
            await client.hear()
    async with a_client(proxy) as new:
        assert await new.ask(b"h\n") == b"h\n"


async def test_the_reply_of_the_next_matching_request_is_lost_after_the_server_was_told(
    proxy: FaultProxy, echo: tuple[Echo, int]
) -> None:
    async with a_client(proxy) as client, a_client(proxy) as other:
        proxy.drop_reply(b"COMMIT")
        passed = await client.ask(b"INSERT\n")

        await client.say(b"COM")
        await client.say(b"MIT\n")

        with pytest.raises(ConnectionResetError):
            await client.hear()
        assert passed == b"INSERT\n"
        assert echo[0].told == [b"INSERT\n", b"COMMIT\n"]
        assert await other.ask(b"COMMIT\n") == b"COMMIT\n"
    assert proxy.lost == 1


async def test_a_reply_can_be_lost_without_a_word(proxy: FaultProxy, echo: tuple[Echo, int]) -> None:
    async with a_client(proxy) as client:
        proxy.drop_reply(b"COMMIT", silently=True)

        await client.say(b"COMMIT\n")
        await until(lambda: proxy.lost == 1)

        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05):
                await client.reader.readline()
        assert echo[0].told == [b"COMMIT\n"]


async def test_a_server_that_is_gone_resets_the_client() -> None:
    async with await asyncio.start_server(Echo().attend, "127.0.0.1", 0) as listening:
        port = listening.sockets[0].getsockname()[1]

    async with fault_proxy(port) as proxy, a_client(proxy) as client:
        with pytest.raises(ConnectionResetError):
            await client.hear()


async def test_nothing_is_left_of_a_closed_proxy(echo: tuple[Echo, int]) -> None:
    before = asyncio.all_tasks()
    async with fault_proxy(echo[1]) as proxy, a_client(proxy) as client:
        await client.ask(b"one\n")
        proxy.black_hole()
        await client.say(b"two\n")

    await until(lambda: echo[0].gone == 1)
    await tasks_end(before)

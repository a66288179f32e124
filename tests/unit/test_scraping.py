"""Answering GET /metrics, and nothing else, to nobody beyond this machine."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING

import httpx
import pytest

from coherence_grpc.app import scraping as module
from coherence_grpc.app.scraping import scraping
from coherence_grpc.errors import SettingsInvalid
from tests.faults import until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

pytestmark = pytest.mark.anyio
ANY = "127.0.0.1:0"


def page(accept: str) -> tuple[bytes, str]:
    return f"asked for {accept}\n".encode(), "text/plain"


@asynccontextmanager
async def a_client() -> AsyncIterator[httpx.AsyncClient]:
    async with (
        scraping(ANY, page) as address,
        httpx.AsyncClient(base_url=f"http://{address}", trust_env=False) as client,
    ):
        yield client


@asynccontextmanager
async def a_connection(address: str) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    host, _, port = address.rpartition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    try:
        yield reader, writer
    finally:
        writer.close()


async def test_the_page_is_answered_as_the_accept_header_asks() -> None:
    async with a_client() as client:
        answers = [await client.get("/metrics?x=1", headers={"accept": "a/b"}) for _ in range(2)]

    assert [(answer.status_code, answer.text) for answer in answers] == [(200, "asked for a/b\n")] * 2
    assert answers[0].headers["content-type"] == "text/plain"


@pytest.mark.parametrize(
    ("method", "path", "host", "status"),
    [
        ("GET", "/", "127.0.0.1:9", 404),
        ("GET", "/metrics/more", "127.0.0.1:9", 404),
        ("POST", "/metrics", "127.0.0.1:9", 405),
        ("GET", "/metrics", "evil.example:9", 421),
        ("GET", "/metrics", "evil.example", 421),
        ("GET", "/metrics", "localhost", 200),
        ("GET", "/metrics", "[::1]", 200),
        ("GET", "/metrics", "[::1]:9", 200),
    ],
)
async def test_anything_else_is_refused(method: str, path: str, host: str, status: int) -> None:
    async with a_client() as client:
        answer = await client.request(method, path, headers={"host": host})

    assert answer.status_code == status


@pytest.mark.parametrize(
    "sent", [b"", b"\r\n\r\n", b"\xff\x00\r\n\r\n", b"GET\r\n\r\n", b"GET /metrics HTTP/1.1\r\nh" * 9999]
)
async def test_what_is_no_request_gets_no_page(sent: bytes) -> None:
    async with scraping(ANY, page) as address, a_connection(address) as (reader, writer):
        answer = b""
        with suppress(ConnectionError):  # it need not be read to its end
            writer.write(sent)
            writer.write_eof()

            async with asyncio.timeout(10):
                answer = await reader.read()

    assert b"asked for" not in answer


async def test_who_says_nothing_is_let_go(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "REQUEST_S", 0.05)
    async with scraping(ANY, page) as address, a_connection(address) as (reader, _):
        async with asyncio.timeout(10):
            assert await reader.read() == b""


async def test_closing_ends_with_a_connection_open_and_leaves_no_task() -> None:
    before = asyncio.all_tasks()
    async with asyncio.timeout(10):
        async with scraping(ANY, page) as address:
            connection = a_connection(address)
            await connection.__aenter__()
            await until(lambda: len(asyncio.all_tasks()) > len(before))
        await connection.__aexit__(None, None, None)

    assert asyncio.all_tasks() == before


async def test_without_an_address_nothing_listens() -> None:
    async with scraping(None, page) as address:
        assert address == ""


async def test_an_address_that_is_taken_is_refused_with_the_next_step() -> None:
    async with scraping(ANY, page) as address:
        with pytest.raises(SettingsInvalid, match=r"metrics: .*; choose another address with --metrics"):
            async with scraping(address, page):
                pass

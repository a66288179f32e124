"""What the HTTP half of the local principal demands: a loopback Host, and no foreign Origin."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Final

import httpx
import pytest
from websockets.exceptions import WebSocketException

from tests.e2e.reading import all_signals
from tests.e2e.rows import a_row, json_of
from tests.e2e.subscriptions import EVENTS, socket_to
from tests.e2e.ways import PUSH, browser

if TYPE_CHECKING:
    from collections.abc import Mapping

    from coherence_grpc.client import Client
    from tests.serving import Served

pytestmark = pytest.mark.anyio

FOREIGN: Final[list[Mapping[str, str]]] = [
    {"host": "example.org"},
    {"host": "127.0.0.1.example.org:4000"},
    {"host": "192.0.2.1:4000"},
    {"origin": "https://example.org"},
    {"origin": "null"},
    {"origin": "http://127.0.0.1.example.org"},
]
LOCAL: Final[list[Mapping[str, str]]] = [
    {"host": "localhost:4000"},
    {"host": "127.0.0.1"},
    {"host": "[::1]:4000"},
    {"origin": "http://localhost:3000"},
    {"origin": "http://127.0.0.1:4000"},
]


@pytest.mark.parametrize("headers", FOREIGN, ids=json.dumps)
async def test_a_foreign_page_can_neither_publish_nor_read(
    service: Served, client: Client, tenant: str, headers: Mapping[str, str]
) -> None:
    body = {"documentId": "pq_tenant_coherence_v1", "variables": {"tenantId": tenant}}

    async with browser(service) as http:
        pushed = await http.post(PUSH, json=json_of(a_row(tenant)), headers=headers)
        read = await http.post("/graphql", json=body, headers=headers)

    assert {pushed.status_code, read.status_code} <= {401, 403, 421}
    assert "data" not in read.text
    assert next(iter(headers)) in pushed.text.lower()
    assert not await all_signals(client, tenant)


@pytest.mark.parametrize("headers", LOCAL, ids=json.dumps)
async def test_a_local_page_can_publish_and_read(service: Served, tenant: str, headers: Mapping[str, str]) -> None:
    body = {"documentId": "pq_tenant_coherence_v1", "variables": {"tenantId": tenant}}

    async with browser(service) as http:
        pushed = await http.post(PUSH, json=json_of(a_row(tenant)), headers=headers)
        read = await http.post("/graphql", json=body, headers=headers)

    assert pushed.status_code == httpx.codes.ACCEPTED
    assert read.json()["data"]["tenantCoherence"]["status"] == "HEALTHY"


@pytest.mark.parametrize("origin", ["https://example.org", "null"])
async def test_a_foreign_page_gets_no_socket(service: Served, tenant: str, origin: str) -> None:
    with pytest.raises(WebSocketException):
        async with socket_to(service.http, headers={"origin": origin}):
            pass


async def test_a_socket_must_introduce_itself_before_it_subscribes(service: Served, tenant: str) -> None:
    async with socket_to(service.http, introduced=False) as socket, asyncio.timeout(10):
        await socket.send(json.dumps({"id": "1", "type": "subscribe", "payload": {"documentId": EVENTS}}))
        await socket.wait_closed()

        assert socket.close_code == 4401

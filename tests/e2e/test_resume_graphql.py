"""GraphQL subscribers that lose their connection miss nothing either, over WebSocket and over server-sent events."""

from __future__ import annotations

from contextlib import aclosing
from typing import TYPE_CHECKING, Any, Final

import httpx
import pytest
from websockets.exceptions import WebSocketException

from coherence_grpc.client import connect
from tests.e2e.cutting import cut_while_followed, earliest
from tests.e2e.reading import all_signals
from tests.e2e.rows import a_row, publish_of
from tests.e2e.subscriptions import (
    EVENTS,
    SCORES,
    event_stream_connect,
    over_event_stream,
    over_socket,
    socket_connect,
    socket_to,
)
from tests.e2e.ways import browser
from tests.e2e.wire import wire_to
from tests.serving import Served, serving

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from coherence_grpc.client import Client
    from tests.e2e.following import Connect

pytestmark = pytest.mark.anyio

LOST: Final = (WebSocketException, httpx.HTTPError, OSError)
CONNECTS: Final = {"websocket": socket_connect, "sse": event_stream_connect}
each_transport = pytest.mark.parametrize("connect_over", CONNECTS.values(), ids=CONNECTS)


@pytest.mark.slow
@each_transport
async def test_ac_api_03_a_graphql_subscriber_cut_off_sees_every_signal_once_and_in_order(
    service: Served, client: Client, tenant: str, connect_over: Callable[[str, str, str], Connect]
) -> None:
    async with wire_to(service.http) as wire:
        connect_again = connect_over(wire.address, tenant, EVENTS)
        cut = await cut_while_followed(client, tenant, wire, connect_again, LOST, cuts=15)

    assert cut.follower.signals == list(range(1, cut.head + 1))
    assert cut.follower.connections >= 15


@pytest.mark.slow
@each_transport
async def test_a_graphql_subscriber_cut_off_sees_every_change_of_status(
    service: Served, client: Client, tenant: str, connect_over: Callable[[str, str, str], Connect]
) -> None:
    async with wire_to(service.http) as wire:
        connect_again = connect_over(wire.address, tenant, SCORES)
        cut = await cut_while_followed(client, tenant, wire, connect_again, LOST, cuts=8)

    assert cut.follower.statuses == cut.statuses


@pytest.mark.parametrize("cursor", ["garbage", "é", "other"])
async def test_a_foreign_cursor_gets_its_own_error(service: Served, client: Client, tenant: str, cursor: str) -> None:
    foreign = await earliest(client, f"{tenant}-other") if cursor == "other" else cursor

    for errors in [await _by_socket(service, tenant, foreign), await _by_event_stream(service, tenant, foreign)]:
        assert [error["extensions"]["code"] for error in errors] == ["BAD_USER_INPUT"]
        assert errors[0]["extensions"]["reason"] == "CURSOR_FOREIGN"
        assert "get a new one" in errors[0]["message"]


@pytest.mark.slow
async def test_a_drained_service_ends_subscriptions_with_a_resume_cursor(tmp_path: Path, tenant: str) -> None:
    async with serving(tmp_path) as served, connect(served.grpc) as client, socket_to(served.http) as socket:
        messages = over_socket(socket, EVENTS, {"tenantId": tenant, "after": await earliest(client, tenant)})
        async with aclosing(messages):
            await client.ingest.PublishSignal(publish_of(a_row(tenant)))
            first = await anext(messages)
            served.process.terminate()
            last = await anext(messages)

        assert first["data"]["coherenceEvents"]["signalId"]
        extensions = last["errors"][0]["extensions"]
        assert extensions["code"] == "SERVICE_UNAVAILABLE"
        assert extensions["resumeCursor"]
        assert extensions["retryAfterMs"] >= 0
        assert await served.ended() == 0

    async with serving(tmp_path) as served, connect(served.grpc) as client, browser(served) as http:
        await client.ingest.PublishSignal(publish_of(a_row(tenant)))
        variables = {"tenantId": tenant, "after": extensions["resumeCursor"]}
        async with aclosing(over_event_stream(http, EVENTS, variables)) as resumed:
            message = await anext(resumed)
        newest = (await all_signals(client, tenant))[0]
        assert message["data"]["coherenceEvents"]["signalId"] == newest.signal.signal_id


async def _by_socket(service: Served, tenant: str, cursor: str) -> list[Mapping[str, Any]]:
    async with socket_to(service.http) as socket:
        return await _errors(over_socket(socket, EVENTS, {"tenantId": tenant, "after": cursor}))


async def _by_event_stream(service: Served, tenant: str, cursor: str) -> list[Mapping[str, Any]]:
    async with browser(service) as http:
        return await _errors(over_event_stream(http, EVENTS, {"tenantId": tenant, "after": cursor}))


async def _errors(messages: Any) -> list[Mapping[str, Any]]:  # noqa: ANN401 - a generator of JSON
    async with aclosing(messages):
        return [error async for message in messages for error in message["errors"]]

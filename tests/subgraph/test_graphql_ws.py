"""GraphQL over WebSocket: the protocol, its breaches, and operations that mind their own business."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest
from websockets.exceptions import InvalidStatus

from coherence.v1.score_pb2 import ScorePolicy, UpdateScorePolicyRequest
from coherence_grpc.client import connect
from subgraph import graphql_ws
from tests.subgraph.running import PUSH, Running, Socket, a_pushed_signal, acknowledged, an_input, opened

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

pytestmark = pytest.mark.anyio


@pytest.fixture
async def socket(subgraph: Running) -> AsyncIterator[Socket]:
    async with acknowledged(subgraph) as found:
        yield found


@pytest.mark.parametrize("payload", [None, {}, {"connectionParams": {"authorization": "Bearer x"}}, "words", [1]])
async def test_any_connection_init_is_acknowledged(subgraph: Running, payload: object) -> None:
    async with opened(subgraph) as socket:
        await socket.say(type="connection_init", payload=payload)

        assert await socket.hear() == {"type": "connection_ack"}


async def test_queries_mutations_and_subscriptions_share_a_socket(
    subgraph: Running, socket: Socket, tenant: str
) -> None:
    after = await subgraph.position(tenant)
    await socket.subscribe("events", "pq_coherence_events_v1", tenantId=tenant, after=after)
    await socket.subscribe("write", "pq_publish_signal_v1", input=an_input(tenant, value=0.9, signalId="s"))
    said = [await socket.hear() for _ in range(3)]
    await socket.subscribe("read", "pq_tenant_coherence_v1", tenantId=tenant)
    said += [await socket.hear() for _ in range(2)]

    def of(name: str) -> list[Any]:
        return [message for message in said if message["id"] == name]

    assert [message["type"] for message in of("write")] == ["next", "complete"]
    assert of("read")[0]["payload"]["data"]["tenantCoherence"]["score"] == 0.9
    assert [message["payload"]["data"]["coherenceEvents"]["signalId"] for message in of("events")] == ["s"]


async def test_a_replaced_signal_is_sent_and_a_policy_is_passed_over(
    subgraph: Running, socket: Socket, tenant: str
) -> None:
    after = await subgraph.position(tenant)
    now = (await subgraph.ask("pq_tenant_coherence_v2", tenantId=tenant))["data"]["tenantCoherence"]["updatedAt"]
    key = {"signal_id": "s", "ts": now}
    await socket.subscribe("events", "pq_coherence_events_v1", tenantId=tenant, after=after)

    await subgraph.publish(tenant, value=0.2, **key)
    async with connect(subgraph.grpc) as client:
        await client.score.UpdateScorePolicy(
            UpdateScorePolicyRequest(tenant_id=tenant, policy=ScorePolicy(minimum_signals=2))
        )
    await subgraph.http.post(f"{PUSH}?on_conflict=replace", json=a_pushed_signal(tenant, value=0.9, **key))
    said = [await socket.hear() for _ in range(2)]

    assert [message["payload"]["data"]["coherenceEvents"]["value"] for message in said] == [0.2, 0.9]


async def test_ac_api_07_the_list_holds_on_the_socket_too_and_an_error_never_closes_it(
    socket: Socket, tenant: str
) -> None:
    refused = {
        "PERSISTED_QUERY_NOT_IN_LIST": {"id": "pq_unknown"},
        "PERSISTED_QUERY_ID_REQUIRED": {"query": "subscription { coherenceEvents(tenantId: 1) { id } }"},
        "CANNOT_SEND_PQ_ID_AND_BODY": {"id": "pq_tenant_coherence_v1", "query": "{ __typename }"},
        "BAD_USER_INPUT": {"id": "pq_coherence_events_v1", "variables": {"tenantId": tenant, "after": "bad"}},
        "BAD_REQUEST": {"id": "pq_tenant_coherence_v1", "variables": "words"},
    }
    for code, payload in refused.items():
        await socket.say(id="1", type="subscribe", payload=payload)
        message = await socket.hear()
        assert (message["type"], message["id"]) == ("error", "1")
        assert message["payload"][0]["extensions"]["code"] == code

    await socket.subscribe("1", "pq_tenant_coherence_v1", tenantId=tenant)
    assert (await socket.hear())["type"] == "next"


async def test_a_completed_operation_sends_no_more_and_frees_its_id_and_its_stream(
    subgraph: Running, socket: Socket, tenant: str
) -> None:
    after = await subgraph.position(tenant)
    await socket.subscribe("1", "pq_coherence_events_v1", tenantId=tenant, after=after)
    await subgraph.publish(tenant)
    await socket.hear()

    await socket.say(id="1", type="complete")
    await socket.say(id="unknown", type="complete")
    async with asyncio.timeout(5):
        await subgraph.subgraph.services.followers.idle.wait()
    await subgraph.publish(tenant, value=0.1)
    await socket.subscribe("1", "pq_tenant_coherence_v1", tenantId=tenant)

    assert "tenantCoherence" in (await socket.hear())["payload"]["data"]


async def test_a_socket_that_is_cut_takes_its_streams_along(subgraph: Running, tenant: str) -> None:
    after = await subgraph.position(tenant)
    async with acknowledged(subgraph) as socket:
        await socket.subscribe("1", "pq_coherence_events_v1", tenantId=tenant, after=after)
        await subgraph.publish(tenant)
        await socket.hear()
        socket.connection.transport.abort()

    async with asyncio.timeout(5):
        await subgraph.subgraph.services.followers.idle.wait()


async def test_more_streams_than_a_connection_carries_are_served_beside_reads(subgraph: Running, tenant: str) -> None:
    after = await subgraph.position(tenant)
    async with acknowledged(subgraph) as first, acknowledged(subgraph) as second:
        for n in range(65):
            for socket in (first, second):
                await socket.subscribe(str(n), "pq_coherence_events_v1", tenantId=tenant, after=after)
        await subgraph.publish(tenant, signal_id="for-all")

        for socket in (first, second):
            heard = [await socket.hear() for _ in range(65)]
            assert {message["payload"]["data"]["coherenceEvents"]["signalId"] for message in heard} == {"for-all"}
        assert "errors" not in await subgraph.ask("pq_tenant_coherence_v1", tenantId=tenant)


async def test_a_socket_carries_a_hundred_operations(socket: Socket, tenant: str) -> None:
    for n in range(graphql_ws.MOST_OPERATIONS + 1):
        await socket.subscribe(str(n), "pq_coherence_events_v1", tenantId=tenant)

    message = await socket.hear()

    assert (message["id"], message["payload"][0]["extensions"]["code"]) == ("100", "RATE_LIMITED")


@pytest.mark.parametrize(
    ("message", "code"),
    [
        ('{"type":"subscribe","id":"1","payload":{"id":"pq_tenant_coherence_v1"}}', 4401),
        ('{"type":"complete","id":"1"}', 4400),
        ('{"type":"surprise"}', 4400),
        ("{", 4400),
        ("[" * 100_000, 4400),
        ('{"type":7}', 4400),
        (b"{}", 4400),
    ],
)
async def test_a_breach_before_the_introduction_closes_the_socket(
    subgraph: Running, message: str | bytes, code: int
) -> None:
    async with opened(subgraph) as socket:
        await socket.connection.send(message)

        assert await socket.close_code() == code


@pytest.mark.parametrize(
    ("message", "code"),
    [
        ({"type": "connection_init"}, 4429),
        ({"type": "subscribe", "payload": {}}, 4400),
        ({"type": "subscribe", "id": "", "payload": {}}, 4400),
        ({"type": "surprise"}, 4400),
    ],
)
async def test_a_breach_later_closes_it_too(socket: Socket, message: dict[str, object], code: int) -> None:
    await socket.say(**message)

    assert await socket.close_code() == code


async def test_an_id_in_use_closes_the_socket(socket: Socket, tenant: str) -> None:
    await socket.subscribe("1", "pq_coherence_events_v1", tenantId=tenant)
    await socket.subscribe("1", "pq_coherence_events_v1", tenantId=tenant)

    assert await socket.close_code() == 4409


async def test_another_protocol_is_refused(subgraph: Running) -> None:
    async with opened(subgraph, "graphql-ws") as socket:
        assert await socket.close_code() == 4406


async def test_a_page_from_elsewhere_gets_no_socket(subgraph: Running) -> None:
    with pytest.raises(InvalidStatus, match="403"):
        async with opened(subgraph, origin="https://evil.example"):
            pass


async def test_a_ping_is_answered_and_the_server_pings_too(subgraph: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(graphql_ws, "PING_S", 0.01)
    async with acknowledged(subgraph) as socket:
        assert "ping" in str(await socket.connection.recv())

        await socket.say(type="pong")
        await socket.say(type="ping")

        assert await socket.hear() == {"type": "pong"}


async def test_who_does_not_introduce_itself_is_let_go(subgraph: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(graphql_ws, "INIT_S", 0.01)
    async with opened(subgraph) as socket:
        assert await socket.close_code() == 4408

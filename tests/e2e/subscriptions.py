"""GraphQL subscriptions, followed over WebSocket (graphql-transport-ws) and over server-sent events."""

from __future__ import annotations

import json
from contextlib import aclosing, asynccontextmanager
from typing import TYPE_CHECKING, Any, Final

import httpx
from websockets.asyncio.client import ClientConnection
from websockets.asyncio.client import connect as open_socket
from websockets.typing import Subprotocol

from tests.e2e.following import Sighting

if TYPE_CHECKING:
    import socket as socket_
    from collections.abc import AsyncGenerator, AsyncIterator, Mapping

    from tests.e2e.following import Connect

PROTOCOL: Final = Subprotocol("graphql-transport-ws")
EVENTS: Final = "pq_coherence_events_v1"
SCORES: Final = "pq_score_changes_v1"
EVENT_STREAM: Final = {"accept": "text/event-stream"}


class Ended(Exception):
    """The service ended the subscription with these errors."""


@asynccontextmanager
async def socket_to(
    address: str,
    *,
    headers: Mapping[str, str] | None = None,
    introduced: bool = True,
    sock: socket_.socket | None = None,
) -> AsyncIterator[ClientConnection]:
    """A graphql-transport-ws socket, acknowledged unless it is not to introduce itself."""
    async with open_socket(
        f"ws://{address}/graphql",
        subprotocols=[PROTOCOL],
        additional_headers=headers,
        proxy=None,
        compression=None,
        ping_interval=None,
        sock=sock,
    ) as socket:
        if introduced:
            await socket.send(json.dumps({"type": "connection_init"}))
            assert json.loads(await socket.recv())["type"] == "connection_ack"
        yield socket


async def over_socket(
    socket: ClientConnection, operation: str, variables: Mapping[str, Any]
) -> AsyncGenerator[Mapping[str, Any], None]:
    """The subscription's messages (`next` payloads; an `error` comes as {"errors": [...]}) until it is complete."""
    await ask(socket, operation, variables)
    async with aclosing(answers(socket)) as messages:
        async for message in messages:
            yield message


async def ask(socket: ClientConnection, operation: str, variables: Mapping[str, Any]) -> None:
    """Send the operation."""
    payload = {"documentId": operation, "variables": variables}
    await socket.send(json.dumps({"id": "1", "type": "subscribe", "payload": payload}))


async def answers(socket: ClientConnection) -> AsyncGenerator[Mapping[str, Any], None]:
    """What comes back, as `over_socket` gives it."""
    async for raw in socket:
        message = json.loads(raw)
        match message["type"]:
            case "next":
                yield message["payload"]
            case "error":
                yield {"errors": message["payload"]}
                return
            case "complete":
                return
            case "ping":
                await socket.send(json.dumps({"type": "pong"}))


async def over_event_stream(
    http: httpx.AsyncClient, operation: str, variables: Mapping[str, Any]
) -> AsyncGenerator[Mapping[str, Any], None]:
    """The same over server-sent events."""
    body = {"documentId": operation, "variables": variables}
    async with http.stream("POST", "/graphql", json=body, headers=EVENT_STREAM) as answer:
        assert answer.headers["content-type"].startswith("text/event-stream")
        event = ""
        async for line in answer.aiter_lines():
            name, _, value = line.partition(":")
            if name == "event":
                event = value.strip()
            if name == "data" and event == "next":
                yield json.loads(value)


def socket_connect(address: str, tenant: str, operation: str) -> Connect:
    """Subscribe over WebSocket, after a cursor."""

    @asynccontextmanager
    async def connect(cursor: str) -> AsyncIterator[AsyncIterator[Sighting]]:
        async with socket_to(address) as socket:
            messages = over_socket(socket, operation, {"tenantId": tenant, "after": cursor})
            async with aclosing(_sightings(messages)) as sightings:
                yield sightings

    return connect


def event_stream_connect(address: str, tenant: str, operation: str) -> Connect:
    """Subscribe over server-sent events, after a cursor."""

    @asynccontextmanager
    async def connect(cursor: str) -> AsyncIterator[AsyncIterator[Sighting]]:
        async with httpx.AsyncClient(base_url=f"http://{address}", trust_env=False, timeout=10) as http:
            messages = over_event_stream(http, operation, {"tenantId": tenant, "after": cursor})
            async with aclosing(_sightings(messages)) as sightings:
                yield sightings

    return connect


async def _sightings(messages: AsyncGenerator[Mapping[str, Any], None]) -> AsyncGenerator[Sighting, None]:
    """What the messages show; the publisher's signal ids are their numbers."""
    yield Sighting("")
    async with aclosing(messages):
        async for message in messages:
            if "errors" in message:
                raise Ended(message["errors"])
            data = message["data"]
            if signal := data.get("coherenceEvents"):
                yield Sighting(signal["cursor"], seq=int(signal["signalId"]))
            if score := data.get("coherenceScoreChanges"):
                yield Sighting(score["cursor"], version=int(score["version"]), status=score["status"])

"""A subgraph served by uvicorn on a free port, over a real backbone, in this process."""

from __future__ import annotations

import asyncio
import json
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import httpx
from websockets.asyncio.client import ClientConnection, connect
from websockets.typing import Subprotocol

from coherence_grpc.app import open_backbone
from coherence_grpc.config import edit_switches, load_settings
from subgraph.app import Subgraph, open_subgraph
from subgraph.config import Config
from subgraph.server import Server, address_of, listen

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping
    from pathlib import Path

    from coherence_grpc.ports import Clock

WITHIN_S: Final = 10.0
PUSH: Final = "/v1/coherence/signals"
EVENT_STREAM: Final = {"accept": "text/event-stream"}


@dataclass(frozen=True, slots=True)
class Running:
    """A served subgraph and an HTTP client of it."""

    subgraph: Subgraph
    address: str
    grpc: str
    http: httpx.AsyncClient

    async def ask(self, operation: str, /, **variables: object) -> Any:  # noqa: ANN401 - JSON
        """The answer to a persisted operation by POST."""
        answer = await self.http.post("/graphql", json={"id": operation, "variables": variables})
        assert answer.status_code == 200, answer.text
        return answer.json()

    async def position(self, tenant_id: str) -> str:
        """The cursor after everything that has happened to the tenant."""
        said = await self.ask("pq_tenant_coherence_v2", tenantId=tenant_id)
        cursor: str = said["data"]["tenantCoherence"]["cursor"]
        return cursor

    async def publish(self, tenant_id: str, **fields: object) -> Any:  # noqa: ANN401 - JSON
        """Push one signal and return its result."""
        answer = await self.http.post(PUSH, json=a_pushed_signal(tenant_id, **fields))
        assert answer.status_code == 202, answer.text
        return answer.json()["results"][0]


@asynccontextmanager
async def running(directory: Path, *, free_text: bool = False, clock: Clock | None = None) -> AsyncIterator[Running]:
    """A served subgraph over a backbone of its own."""
    edit_switches(directory / "runtime.json", {"free_text": "on" if free_text else "off"})
    flags = {
        "grpc": "127.0.0.1:0",
        "http": "off",
        "data": str(directory / "data"),
        "runtime_file": str(directory / "runtime.json"),
    }
    async with (
        open_backbone(load_settings(flags, {}), clock=clock) as backbone,
        served(Config(grpc=backbone.grpc_address, port=0)) as found,
    ):
        await found.subgraph.switches.refresh()
        yield found


@asynccontextmanager
async def served(config: Config) -> AsyncIterator[Running]:
    """A served subgraph over the backbone that the configuration names."""
    listener = listen(config)
    async with open_subgraph(config) as subgraph:
        server = Server(subgraph)
        task = asyncio.create_task(server.serve(sockets=[listener]))
        address = address_of(listener)
        await server.listening.wait()
        try:
            async with httpx.AsyncClient(base_url=f"http://{address}", trust_env=False, timeout=WITHIN_S) as http:
                yield Running(subgraph, address, config.grpc, http)
        finally:
            subgraph.drain()
            server.should_exit = True
            await task


def a_pushed_signal(tenant_id: str, **fields: object) -> dict[str, object]:
    """A signal as HTTP push takes it."""
    return {"tenant_id": tenant_id, "source": "ci", "type": "build", "value": 0.5, **fields}


def an_input(tenant_id: str, **fields: object) -> dict[str, object]:
    """A signal as the mutations take it."""
    return {"tenantId": tenant_id, "source": "ci", "type": "build", "value": 0.5, **fields}


def code_of(said: Mapping[str, Any]) -> str:
    """The code of the only error."""
    (error,) = said["errors"]
    code: str = error["extensions"]["code"]
    return code


@asynccontextmanager
async def event_stream(found: Running, body: Mapping[str, object], **headers: str) -> AsyncIterator[Events]:
    """The server-sent events that a request is answered with."""
    async with found.http.stream("POST", "/graphql", json=body, headers={**EVENT_STREAM, **headers}) as response:
        assert response.status_code == 200
        yield Events(response)


class Events:
    """Server-sent events, read one by one."""

    def __init__(self, response: httpx.Response) -> None:
        self._chunks = response.aiter_bytes()
        self._rest = b""
        self.raw = b""

    async def next(self) -> tuple[str, str, Any]:
        """The next event that is not a comment: its kind, its id and its data."""
        async with asyncio.timeout(WITHIN_S):
            while True:
                block = await self._block()
                lines = dict(line.split(b":", 1) for line in block.split(b"\n") if line and not line.startswith(b":"))
                if lines:
                    fields = {name.decode(): value.strip().decode() for name, value in lines.items()}
                    data = fields["data"]
                    return fields["event"], fields.get("id", ""), json.loads(data) if data else None

    async def heard(self, part: bytes) -> None:
        """Return once this has come over the wire."""
        async with asyncio.timeout(WITHIN_S):
            while part not in self.raw:
                await self._read()

    async def _read(self) -> None:
        chunk = await anext(self._chunks)
        self._rest += chunk
        self.raw += chunk

    async def _block(self) -> bytes:
        while b"\n\n" not in self._rest:
            await self._read()
        block, _, self._rest = self._rest.partition(b"\n\n")
        return block


class Socket:
    """A graphql-transport-ws client, message by message."""

    def __init__(self, connection: ClientConnection) -> None:
        self.connection = connection

    async def say(self, **message: object) -> None:
        """Send a message."""
        await self.connection.send(json.dumps(message))

    async def hear(self) -> Any:  # noqa: ANN401 - JSON
        """The next message that is no ping."""
        async with asyncio.timeout(WITHIN_S):
            while True:
                message = json.loads(await self.connection.recv())
                if message["type"] != "ping":
                    return message

    async def subscribe(self, name: str, operation: str, **variables: object) -> None:
        """Start a persisted operation."""
        await self.say(id=name, type="subscribe", payload={"id": operation, "variables": variables})

    async def close_code(self) -> int | None:
        """The code with which the server closes."""
        async with asyncio.timeout(WITHIN_S):
            await self.connection.wait_closed()
        return self.connection.close_code


@asynccontextmanager
async def opened(found: Running, *protocols: str, **headers: str) -> AsyncIterator[Socket]:
    """A socket that has not introduced itself."""
    async with connect(
        f"ws://{found.address}/graphql",
        subprotocols=[Subprotocol(each) for each in protocols or ("graphql-transport-ws",)],
        additional_headers=headers,
        proxy=None,
    ) as connection:
        yield Socket(connection)


@asynccontextmanager
async def acknowledged(found: Running) -> AsyncIterator[Socket]:
    """A socket on which operations can be started."""
    async with opened(found) as socket:
        await socket.say(type="connection_init")
        assert await socket.hear() == {"type": "connection_ack"}
        yield socket

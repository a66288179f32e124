"""GraphQL over WebSocket: the graphql-transport-ws protocol, any number of operations on one socket."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final

import msgspec

from subgraph.backbone import caller_of
from subgraph.bodies import headers_of
from subgraph.operation import Operation
from subgraph.refusals import Refused
from subgraph.requests import RequestRefused, malformed, read_request
from subgraph.strict_json import JsonInvalid, decode

if TYPE_CHECKING:
    from collections.abc import Mapping

    from litestar.types import Receive, Scope, Send

    from subgraph.graphql import GraphQL

PROTOCOL: Final = "graphql-transport-ws"
INIT_S: Final = 5.0
PING_S: Final = 12.0
MOST_OPERATIONS: Final = 100
_LONGEST_REASON: Final = 100
# Gateways put their parameters one level down.
_NESTED: Final = ("connectionParams", "headers")
_encode: Final = msgspec.json.Encoder().encode


class _Over(Exception):
    """The socket is to be closed with this code, or is closed already (no code)."""

    def __init__(self, code: int | None = None, reason: str = "") -> None:
        super().__init__(reason)
        self.code = code
        self.reason = reason[:_LONGEST_REASON]


class GraphQLOverWebSocket:
    """Serves sockets; an operation's errors are its own, only a breach of the protocol closes the socket."""

    def __init__(self, graphql: GraphQL) -> None:
        self._graphql = graphql

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one socket to its end."""
        if (await receive())["type"] != "websocket.connect":
            return
        offered = scope["subprotocols"]  # type: ignore[typeddict-item]  # a websocket scope has them
        socket = _Socket(self._graphql, headers_of(scope), receive, send)
        try:
            await socket.accept(PROTOCOL if PROTOCOL in offered else None)
            await socket.serve()
        except* _Over as group:
            over = next(each for each in _leaves(group) if isinstance(each, _Over))
            if over.code is not None:
                await send({"type": "websocket.close", "code": over.code, "reason": over.reason})


def _leaves(group: BaseExceptionGroup[BaseException]) -> list[BaseException]:
    return [
        leaf
        for each in group.exceptions
        for leaf in (_leaves(each) if isinstance(each, BaseExceptionGroup) else (each,))
    ]


class _Socket:
    """One accepted socket and the operations that run on it."""

    def __init__(self, graphql: GraphQL, headers: Mapping[str, str], receive: Receive, send: Send) -> None:
        self._graphql = graphql
        self._headers = headers
        self._receive = receive
        self._send = send
        self._operations: dict[str, asyncio.Task[None]] = {}

    async def accept(self, protocol: str | None) -> None:
        await self._send({"type": "websocket.accept", "subprotocol": protocol, "headers": []})
        if protocol is None:
            raise _Over(4406, f"speak {PROTOCOL}")

    async def serve(self) -> None:
        """Until the socket is over, which is always an exception."""
        try:
            async with asyncio.timeout(INIT_S):
                while (message := await self._message())["type"] != "connection_init":
                    await self._before_init(message)
        except TimeoutError:
            raise _Over(4408, "connection_init did not come in time") from None
        self._introduce(message.get("payload"))
        await self._say({"type": "connection_ack"})
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._ping())
            while True:
                await self._obey(await self._message(), tasks)

    async def _message(self) -> dict[str, Any]:
        event = await self._receive()
        if event["type"] == "websocket.disconnect":
            raise _Over
        text = event.get("text")
        try:
            message = decode(text.encode(), "the message") if isinstance(text, str) else None
        except JsonInvalid as exc:
            raise _Over(4400, str(exc)) from None
        if not isinstance(message, dict) or not isinstance(message.get("type"), str):
            raise _Over(4400, "a message is a JSON object with a type, sent as text")
        return message

    async def _before_init(self, message: Mapping[str, Any]) -> None:
        if message["type"] == "subscribe":
            raise _Over(4401, "send connection_init first")
        await self._answer_ping(message)

    async def _answer_ping(self, message: Mapping[str, Any]) -> None:
        if message["type"] == "ping":
            await self._say({"type": "pong"})
        elif message["type"] != "pong":
            raise _Over(4400, f"there is no message {message['type'][:32]!r}")

    async def _obey(self, message: Mapping[str, Any], tasks: asyncio.TaskGroup) -> None:
        match message["type"]:
            case "subscribe":
                await self._subscribe(_id_of(message), message.get("payload"), tasks)
            case "complete":
                operation = self._operations.pop(_id_of(message), None)
                if operation is not None:
                    operation.cancel()
            case "connection_init":
                raise _Over(4429, "connection_init came twice")
            case _:
                await self._answer_ping(message)

    def _introduce(self, payload: object) -> None:
        """Take the authorization that the client could not send as a header."""
        places = [payload, *(payload.get(name) for name in _NESTED)] if isinstance(payload, dict) else []
        for place in places:
            for name, value in place.items() if isinstance(place, dict) else ():
                if isinstance(name, str) and name.lower() == "authorization" and isinstance(value, str):
                    self._headers = {**self._headers, "authorization": value}

    async def _subscribe(self, name: str, payload: object, tasks: asyncio.TaskGroup) -> None:
        if name in self._operations:
            raise _Over(4409, f"subscriber for {name[:32]} already exists")
        if len(self._operations) >= MOST_OPERATIONS:
            message = f"a socket carries at most {MOST_OPERATIONS} operations; open another"
            await self._error(name, RequestRefused("RATE_LIMITED", message))
            return
        self._operations[name] = tasks.create_task(self._operate(name, payload))

    async def _operate(self, name: str, payload: object) -> None:
        try:
            finished = await self._answers(name, payload)
        except RequestRefused as refused:
            self._forget(name)
            await self._error(name, refused)
        else:
            # Forgotten first: with `complete` the client may use the id again.
            self._forget(name)
            if finished:
                await self._say({"id": name, "type": "complete"})

    async def _answers(self, name: str, payload: object) -> bool:
        """Send the operation's answers; false when the last one was its error."""
        asked = read_request(payload)
        chosen = self._graphql.choose(asked)
        try:
            caller = caller_of(self._headers, "graphql")
        except Refused as refused:
            raise malformed(refused.refusal.message) from refused
        operation = Operation(self._graphql.services, caller, asked_revision=asked.revision)
        answers = self._graphql.answers(chosen, asked, operation)
        try:
            async for answer in answers:
                if not answer.executed:
                    await self._say({"id": name, "type": "error", "payload": answer.payload["errors"]})
                    return False
                await self._say({"id": name, "type": "next", "payload": answer.payload})
        finally:
            await answers.aclose()
        return True

    def _forget(self, name: str) -> None:
        if self._operations.get(name) is asyncio.current_task():
            del self._operations[name]

    async def _error(self, name: str, refused: RequestRefused) -> None:
        await self._say({"id": name, "type": "error", "payload": refused.errors})

    async def _ping(self) -> None:
        # Load balancers cut sockets that are silent; readers learn that the server is still there.
        while True:
            await asyncio.sleep(PING_S)
            await self._say({"type": "ping"})

    async def _say(self, message: Mapping[str, object]) -> None:
        try:
            await self._send({"type": "websocket.send", "text": _encode(message).decode(), "bytes": None})
        except OSError:
            # What servers raise when the client has gone.
            raise _Over from None


def _id_of(message: Mapping[str, Any]) -> str:
    name = message.get("id")
    if not isinstance(name, str) or not name:
        raise _Over(4400, "id must be a string of at least one character")
    return name

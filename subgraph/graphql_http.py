"""GraphQL over HTTP: GET and POST, answered as JSON or as server-sent events."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final
from urllib.parse import parse_qsl

import msgspec
from graphql import OperationType

from subgraph.backbone import caller_of
from subgraph.bodies import JSON, LARGEST_BODY, BodyCut, BodyTooLarge, headers_of, media_type, read_body
from subgraph.operation import Operation
from subgraph.refusals import Refused
from subgraph.requests import BAD_REQUEST, Asked, RequestRefused, malformed, read_request
from subgraph.server_sent_events import EVENT_STREAM, send_events
from subgraph.strict_json import JsonInvalid, decode

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Mapping

    from litestar.types import Receive, Scope, Send

    from subgraph.engine import Answer
    from subgraph.graphql import GraphQL

GRAPHQL_RESPONSE: Final = "application/graphql-response+json"
REVISION_HEADER: Final = "coherence-revision"
_PARAMETERS: Final = frozenset({"query", "id", "documentId", "operationName"})
_JSON_PARAMETERS: Final = ("variables", "extensions")
_encode: Final = msgspec.json.Encoder().encode


@dataclass(frozen=True, slots=True)
class Accepted:
    """What the client can read: `events` and `json`; `strict` when it asked for GraphQL's own media type."""

    events: bool
    json: bool
    strict: bool


def accepted(header: str) -> Accepted:
    """What an Accept header allows."""
    weights: dict[str, float] = {}
    for part in header.lower().split(","):
        kind, *parameters = (piece.strip() for piece in part.split(";"))
        weights[kind] = next((_weight(p[2:]) for p in parameters if p.startswith("q=")), 1.0)
    strict = weights.get(GRAPHQL_RESPONSE, 0.0)
    plain = max(weights.get(kind, 0.0) for kind in (JSON, "application/*", "*/*", ""))
    events = weights.get(EVENT_STREAM, 0.0) > 0
    # Who accepts nothing that we have gets JSON all the same.
    return Accepted(events, max(strict, plain) > 0 or not events, strict > 0 and strict >= plain)


def _weight(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return 0.0


class GraphQLOverHttp:
    """One request, one answer or one stream of them.

    A well-formed request is answered with 200 whatever became of it, because gateways throw other bodies away; who
    asks for application/graphql-response+json gets 400 when nothing was executed.
    """

    def __init__(self, graphql: GraphQL) -> None:
        self._graphql = graphql

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer the request."""
        headers = headers_of(scope)
        accepts = accepted(headers.get("accept", ""))
        try:
            await self._answer(scope, headers, accepts, receive, send)
        except BodyCut:
            return
        except BodyTooLarge:
            message = f"the request is larger than {LARGEST_BODY} bytes; send less at once"
            await _send(send, 413, accepts, RequestRefused(BAD_REQUEST, message).payload())
        except _Unusable as refused:
            await _send(send, refused.status, accepts, refused.payload(), refused.headers)
        except RequestRefused as refused:
            if not accepts.json and not refused.malformed:
                await send_events(_only(refused.payload()), None, receive, send)
            else:
                status = 400 if refused.malformed or accepts.strict else 200
                await _send(send, status, accepts, refused.payload())

    async def _answer(
        self, scope: Scope, headers: Mapping[str, str], accepts: Accepted, receive: Receive, send: Send
    ) -> None:
        asked = await _asked(scope, headers, receive)
        chosen = self._graphql.choose(asked)
        _refuse_misuse(scope["method"], chosen.kind, accepts)  # type: ignore[typeddict-item]  # an http scope has one
        operation = self._operation(headers, asked)
        if chosen.kind is OperationType.SUBSCRIPTION or not accepts.json:
            answers = self._graphql.answers(chosen, asked, operation)
            await send_events(answers, operation, receive, send)
            return
        answer = await self._graphql.engine.execute(chosen, asked.variables, operation)
        status = 400 if accepts.strict and not answer.executed else 200
        await _send(send, status, accepts, answer.payload, _revision_header(operation))

    def _operation(self, headers: Mapping[str, str], asked: Asked) -> Operation:
        try:
            caller = caller_of(headers, "graphql")
        except Refused as refused:
            raise malformed(refused.refusal.message) from refused
        return Operation(
            self._graphql.services,
            caller,
            asked_revision=asked.revision or headers.get(REVISION_HEADER, ""),
            resume_from=headers.get("last-event-id", ""),
        )


class _Unusable(RequestRefused):
    """The request can't be taken as HTTP: `status` says so to everyone."""

    def __init__(self, status: int, message: str, headers: Mapping[str, str]) -> None:
        super().__init__(BAD_REQUEST, message)
        self.status = status
        self.headers = headers


async def _asked(scope: Scope, headers: Mapping[str, str], receive: Receive) -> Asked:
    method: str = scope["method"]  # type: ignore[typeddict-item]  # an http scope has one
    if method == "GET":
        return read_request(_parameters(scope["query_string"]))
    if method != "POST":
        message = "GraphQL is asked for by GET or POST"
        raise _Unusable(405, message, {"allow": "GET, POST"})
    if media_type(headers) != JSON:
        message = "content-type must be application/json in UTF-8"
        raise _Unusable(415, message, {"accept": JSON})
    if headers.get("content-encoding", "identity") != "identity":
        message = "send the body as it is, without content-encoding"
        raise _Unusable(415, message, {"accept-encoding": "identity"})
    try:
        return read_request(decode(await read_body(headers, receive)))
    except JsonInvalid as exc:
        raise malformed(str(exc)) from None


def _parameters(query_string: bytes) -> Mapping[str, object]:
    payload: dict[str, object] = {}
    try:
        pairs = parse_qsl(query_string.decode("ascii"), keep_blank_values=True, errors="strict")
        for name, text in pairs:
            if name in payload:
                message = f"the parameter {name!r} stands twice; give it once"
                raise malformed(message)
            if name in _JSON_PARAMETERS:
                payload[name] = decode(text.encode(), f"the parameter {name}") if text else None
            elif name in _PARAMETERS:
                payload[name] = text
    except JsonInvalid as exc:
        raise malformed(str(exc)) from None
    except ValueError:
        message = "the query string is not percent-encoded UTF-8"
        raise malformed(message) from None
    return payload


def _refuse_misuse(method: str, kind: OperationType, accepts: Accepted) -> None:
    if method == "GET" and kind is OperationType.MUTATION:
        message = "a mutation is sent by POST, never by GET"
        raise _Unusable(405, message, {"allow": "POST"})
    if kind is OperationType.SUBSCRIPTION and not accepts.events:
        message = "a subscription needs Accept: text/event-stream, or a WebSocket (graphql-transport-ws)"
        raise RequestRefused(BAD_REQUEST, message)


def _revision_header(operation: Operation) -> Mapping[str, str]:
    return {REVISION_HEADER: next(iter(operation.seen.values()))} if len(operation.seen) == 1 else {}


async def _send(
    send: Send, status: int, accepts: Accepted, payload: object, headers: Mapping[str, str] | None = None
) -> None:
    body = _encode(payload)
    fields = {
        "content-type": f"{GRAPHQL_RESPONSE if accepts.strict else JSON}; charset=utf-8",
        "content-length": str(len(body)),
        "cache-control": "no-store",
        "x-content-type-options": "nosniff",
        **(headers or {}),
    }
    encoded = [(name.encode(), value.encode("latin-1")) for name, value in fields.items()]
    await send({"type": "http.response.start", "status": status, "headers": encoded})
    await send({"type": "http.response.body", "body": body, "more_body": False})


async def _only(payload: dict[str, object]) -> AsyncGenerator[Answer, None]:
    from subgraph.engine import Answer

    yield Answer(payload, executed=False)

"""The ways in, each as one caller would use it, with answers in the same words."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Protocol

import grpc.aio
import httpx

from coherence.v1.ingest_pb2 import Outcome
from coherence_grpc.client import Client, Refusal, connect, refusal_of, refusal_of_status
from tests.e2e.rows import Row, batch_of, input_of, json_of, publish_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping, Sequence

    from tests.serving import Served

PUSH: Final = "/v1/coherence/signals"
TIMEOUT_S: Final = 30.0


class Answer(NamedTuple):
    """What became of one signal. `code` is '' unless refused, else a gRPC code, an HTTP status or a GraphQL code.

    The mutation that answers with a Boolean shows no outcome, seq or provenance id.
    """

    outcome: str = ""
    seq: int = 0
    provenance_id: str = ""
    code: str = ""
    reason: str = ""
    message: str = ""
    fields: tuple[str, ...] = ()


class Way(Protocol):
    """A way in for one signal."""

    conflict: str

    async def publish(self, row: Row, request_id: str = "") -> Answer:
        """Publish the row."""
        ...


class GrpcSingle:
    """PublishSignal."""

    conflict = "ALREADY_EXISTS"

    def __init__(self, client: Client) -> None:
        self._client = client

    async def publish(self, row: Row, request_id: str = "") -> Answer:
        try:
            reply = await self._client.ingest.PublishSignal(publish_of(row, request_id))
        except grpc.aio.AioRpcError as error:
            return _refused(refusal_of(error))
        return Answer(_word(reply.outcome), reply.seq, reply.provenance_id)


class GrpcBatch:
    """PublishSignals with one signal."""

    conflict = "ALREADY_EXISTS"

    def __init__(self, client: Client) -> None:
        self._client = client

    async def publish(self, row: Row, request_id: str = "") -> Answer:
        try:
            reply = await self._client.ingest.PublishSignals(batch_of([row], row["tenant_id"], request_id))
        except grpc.aio.AioRpcError as error:
            return _refused(refusal_of(error))
        (result,) = reply.results
        if result.HasField("error"):
            return _refused(refusal_of_status(result.error))
        return Answer(_word(result.outcome), result.seq, result.provenance_id)


class Push:
    """POST /v1/coherence/signals with one object."""

    conflict = "409"

    def __init__(self, http: httpx.AsyncClient) -> None:
        self._http = http

    async def publish(self, row: Row, request_id: str = "") -> Answer:
        headers = {"idempotency-key": request_id} if request_id else {}
        return pushed(await self._http.post(PUSH, json=json_of(row), headers=headers))


class Mutation:
    """The mutation publishCoherenceSignal."""

    conflict = "CONFLICT"

    def __init__(self, http: httpx.AsyncClient) -> None:
        self._http = http

    async def publish(self, row: Row, request_id: str = "") -> Answer:
        given = input_of(row) | ({"idempotencyKey": request_id} if request_id else {})
        return mutated(await operate(self._http, "pq_publish_signal_v1", {"input": given}))


class MutationOfMany:
    """The mutation publishCoherenceSignals with one signal."""

    conflict = "CONFLICT"

    def __init__(self, http: httpx.AsyncClient) -> None:
        self._http = http

    async def publish(self, row: Row, request_id: str = "") -> Answer:
        given = input_of(row) | ({"idempotencyKey": request_id} if request_id else {})
        return mutated(await operate(self._http, "pq_publish_signals_v1", {"inputs": [given]}))


@asynccontextmanager
async def all_ways(served: Served) -> AsyncIterator[Sequence[Way]]:
    """Every way into the service."""
    async with connect(served.grpc) as client, browser(served) as http:
        yield [GrpcSingle(client), GrpcBatch(client), Push(http), Mutation(http), MutationOfMany(http)]


@asynccontextmanager
async def browser(served: Served) -> AsyncIterator[httpx.AsyncClient]:
    """An HTTP client of the service."""
    async with httpx.AsyncClient(base_url=served.url, timeout=TIMEOUT_S, trust_env=False) as http:
        yield http


async def operate(http: httpx.AsyncClient, operation: str, variables: Mapping[str, Any]) -> Any:  # noqa: ANN401 - JSON
    """The answer to a persisted operation."""
    answer = await http.post("/graphql", json={"documentId": operation, "variables": variables})
    assert answer.status_code < httpx.codes.INTERNAL_SERVER_ERROR, answer.text
    return answer.json()


def pushed(answer: httpx.Response) -> Answer:
    """What HTTP push says of its only signal."""
    said = answer.json()
    if answer.status_code != httpx.codes.ACCEPTED:
        problems = said.get("errors", [])
        fields = tuple(problem.get("pointer", "") for problem in problems)
        message = "; ".join([said.get("detail", ""), *(problem.get("detail", "") for problem in problems)])
        reason = problems[0].get("reason", "") if problems else ""
        return Answer(code=str(answer.status_code), reason=reason, message=message, fields=fields)
    (result,) = said["results"]
    return Answer(result["outcome"], int(result["seq"]), result["provenance_id"])


def mutated(said: Mapping[str, Any]) -> Answer:
    """What a publishing mutation says of its only signal."""
    for error in said.get("errors", ()):
        extensions = error.get("extensions", {})
        fields = tuple(field.get("path", "") for field in extensions.get("fields", ()))
        return Answer(
            code=extensions.get("code", ""),
            reason=extensions.get("reason") or "",
            message=error["message"],
            fields=fields,
        )
    data = said["data"]
    if data.get("publishCoherenceSignal"):
        return Answer("STORED or DUPLICATE")
    (result,) = data["publishCoherenceSignals"]["results"]
    if error := result.get("error"):
        fields = tuple(field["path"] for field in error["fields"])
        return Answer(code=error["code"], reason=error["reason"] or "", message=error["message"], fields=fields)
    return Answer(result["outcome"], int(result["seq"]), result["provenanceId"])


def _refused(refusal: Refusal) -> Answer:
    fields = tuple(field.path for field in refusal.fields)
    return Answer(code=refusal.code, reason=refusal.reason, message=refusal.message, fields=fields)


def _word(outcome: Outcome.ValueType) -> str:
    return Outcome.Name(outcome).removeprefix("OUTCOME_")

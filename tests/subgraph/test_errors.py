"""Every gRPC code as GraphQL and HTTP callers see it: a backbone that refuses as it is told to."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Final, NoReturn

import grpc.aio
import pytest
from google.protobuf.duration_pb2 import Duration
from google.rpc.error_details_pb2 import BadRequest, ErrorInfo, RetryInfo
from google.rpc.status_pb2 import Status
from grpc import StatusCode

from coherence.v1 import events_pb2, ingest_pb2_grpc, meta_pb2_grpc, score_pb2_grpc
from coherence.v1.events_pb2_grpc import EventsServiceServicer, add_EventsServiceServicer_to_server
from coherence.v1.meta_pb2 import GetServerInfoResponse
from subgraph.backbone import Backbone
from subgraph.config import Config
from tests.subgraph.running import PUSH, Running, a_pushed_signal, an_input, code_of, event_stream, opened, served

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

pytestmark = pytest.mark.anyio

DETAILS: Final = "grpc-status-details-bin"
CODES: Final = {
    StatusCode.INVALID_ARGUMENT: ("BAD_USER_INPUT", 400),
    StatusCode.OUT_OF_RANGE: ("BAD_USER_INPUT", 400),
    StatusCode.UNAUTHENTICATED: ("UNAUTHENTICATED", 401),
    StatusCode.PERMISSION_DENIED: ("FORBIDDEN", 403),
    StatusCode.NOT_FOUND: ("NOT_FOUND", 404),
    StatusCode.ALREADY_EXISTS: ("CONFLICT", 409),
    StatusCode.ABORTED: ("CONFLICT", 409),
    StatusCode.RESOURCE_EXHAUSTED: ("RATE_LIMITED", 429),
    StatusCode.UNAVAILABLE: ("SERVICE_UNAVAILABLE", 503),
    StatusCode.DEADLINE_EXCEEDED: ("TIMEOUT", 504),
    StatusCode.INTERNAL: ("INTERNAL_SERVER_ERROR", 500),
    StatusCode.UNKNOWN: ("INTERNAL_SERVER_ERROR", 500),
    StatusCode.FAILED_PRECONDITION: ("INTERNAL_SERVER_ERROR", 500),
}


class Refusing(
    score_pb2_grpc.ScoreServiceServicer,
    ingest_pb2_grpc.IngestServiceServicer,
    meta_pb2_grpc.MetaServiceServicer,
    EventsServiceServicer,
):
    """Answers nothing but this status; its stream sends these frames first."""

    def __init__(self) -> None:
        self.code = StatusCode.UNKNOWN
        self.status: Status | None = None
        self.frames: list[events_pb2.SubscribeResponse] = []
        self.seen: list[dict[str, str | bytes]] = []

    def refuse(self, code: StatusCode, *details: Any, message: str = "a reason") -> None:  # noqa: ANN401 - messages
        self.code = code
        self.status = Status(code=code.value[0], message=message)
        for detail in details:
            self.status.details.add().Pack(detail)

    async def _refuse(self, context: Any) -> NoReturn:  # noqa: ANN401 - a servicer's context
        self.seen.append(dict(context.invocation_metadata()))
        # A pushback below zero keeps the client from trying again.
        trailing: list[tuple[str, str | bytes]] = [("grpc-retry-pushback-ms", "-1")]
        if self.status is not None:
            trailing.append((DETAILS, self.status.SerializeToString()))
        await context.abort(self.code, self.status.message if self.status else "driver text", tuple(trailing))
        raise AssertionError

    async def GetServerInfo(self, request: Any, context: Any) -> GetServerInfoResponse:  # noqa: ANN401, ARG002, N802 - the signature is grpc's
        return GetServerInfoResponse()

    async def Subscribe(self, request: Any, context: Any) -> AsyncIterator[Any]:  # noqa: ANN401, ARG002, N802 - the signature is grpc's
        for frame in self.frames:
            yield frame
        await self._refuse(context)

    async def _any(self, request: Any, context: Any) -> Any:  # noqa: ANN401, ARG002 - the signature is grpc's
        await self._refuse(context)

    WatchScore = Subscribe
    GetScore = BatchGetScores = ListScores = ExplainScore = _any
    PublishSignal = PublishSignals = GetSignal = ListSignals = GetProvenance = VerifyLedger = _any
    PullEvents = GetCursor = _any
    ListScoreHistory = SimulateScore = RecomputeScore = _any
    GetScorePolicy = ListScorePolicyVersions = UpdateScorePolicy = _any
    StreamSignals: Any = Subscribe


@pytest.fixture
async def backbone() -> Refusing:
    return Refusing()


@pytest.fixture
async def found(backbone: Refusing) -> AsyncIterator[Running]:
    async with _serving(backbone) as address, served(Config(grpc=address, port=0)) as running:
        yield running


@asynccontextmanager
async def _serving(backbone: Refusing) -> AsyncIterator[str]:
    server = grpc.aio.server()
    score_pb2_grpc.add_ScoreServiceServicer_to_server(backbone, server)
    ingest_pb2_grpc.add_IngestServiceServicer_to_server(backbone, server)
    meta_pb2_grpc.add_MetaServiceServicer_to_server(backbone, server)
    add_EventsServiceServicer_to_server(backbone, server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        yield f"127.0.0.1:{port}"
    finally:
        await server.stop(None)


@pytest.mark.parametrize("code", CODES, ids=lambda code: code.name)
async def test_ac_api_05_each_grpc_code_has_its_word_and_its_status(
    backbone: Refusing, found: Running, code: StatusCode
) -> None:
    word, status = CODES[code]
    retry = RetryInfo(retry_delay=Duration(seconds=1, nanos=500_000_000))
    info = ErrorInfo(reason="SOME_REASON", metadata={"error_id": "abc", "secret_word": "x"})
    backbone.refuse(code, info, retry, message="a reason")

    read = await found.ask("pq_tenant_coherence_v1", tenantId="acme")
    write = await found.ask("pq_publish_signal_v1", input=an_input("acme"))
    pushed = await found.http.post(PUSH, json=a_pushed_signal("acme"))

    assert {code_of(read), code_of(write)} == {word}
    assert (pushed.status_code, pushed.headers["content-type"]) == (status, "application/problem+json")
    extensions = read["errors"][0]["extensions"]
    assert extensions["errorId"] == "abc"
    if word == "INTERNAL_SERVER_ERROR":
        assert "a reason" not in str(read) + pushed.text
        assert "secretWord" not in extensions
    else:
        assert read["errors"][0]["message"] == "a reason"
        assert (extensions["reason"], extensions["retryAfterMs"]) == ("SOME_REASON", 1500)
        assert pushed.headers["retry-after"] == "2"
        assert pushed.json()["errors"][0]["retry_after_ms"] == 1500


@pytest.mark.parametrize(
    ("reason", "status"), [("STORAGE_FULL", 507), ("MESSAGE_TOO_LARGE", 413), ("CONCURRENCY", 429)]
)
async def test_what_has_run_out_shows_in_the_status_of_a_push(
    backbone: Refusing, found: Running, reason: str, status: int
) -> None:
    backbone.refuse(StatusCode.RESOURCE_EXHAUSTED, ErrorInfo(reason=reason))

    assert (await found.http.post(PUSH, json=a_pushed_signal("acme"))).status_code == status


@pytest.mark.parametrize("place", ["header", "payload", "connectionParams", "headers"])
async def test_the_callers_token_and_trace_are_forwarded_as_they_are(
    backbone: Refusing, found: Running, place: str
) -> None:
    backbone.refuse(StatusCode.UNAUTHENTICATED)
    trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    token = {"Authorization": "Bearer abc"}
    payload = {
        "header": {},
        "payload": token,
        "connectionParams": {"connectionParams": token},
        "headers": {place: token},
    }
    headers = {"authorization": "Bearer abc"} if place == "header" else {}

    async with opened(found, traceparent=trace, **headers) as socket:
        await socket.say(type="connection_init", payload=payload[place])
        await socket.hear()
        await socket.subscribe("1", "pq_tenant_coherence_v1", tenantId="acme")
        assert (await socket.hear())["payload"]["errors"][0]["extensions"]["code"] == "UNAUTHENTICATED"

    (seen,) = backbone.seen
    assert (seen["authorization"], seen["traceparent"], seen["x-coherence-transport"]) == (
        "Bearer abc",
        trace,
        "graphql",
    )


async def test_a_caller_without_a_token_borrows_none_from_the_environment(
    backbone: Refusing, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COHERENCE_TOKEN", "of-the-service")
    backbone.refuse(StatusCode.UNAUTHENTICATED)

    async with _serving(backbone) as address, served(Config(grpc=address, port=0)) as running:
        await running.ask("pq_tenant_coherence_v1", tenantId="acme")

    assert backbone.seen
    assert not [seen for seen in backbone.seen if "authorization" in seen]


async def test_a_token_that_no_header_may_hold_goes_nowhere(backbone: Refusing, found: Running) -> None:
    headers = [(b"authorization", b"Bearer \xe9"), (b"content-type", b"application/json")]

    asked = await found.http.post("/graphql", content=b'{"id":"pq_tenant_coherence_v1"}', headers=headers)
    pushed = await found.http.post(PUSH, content=b"{}", headers=headers)

    assert (asked.status_code, pushed.status_code) == (400, 400)
    assert backbone.seen == []


async def test_a_fault_of_ours_is_masked_and_has_an_id(
    found: Running, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def broken(*_: object) -> NoReturn:
        message = "postgres://user:secret@db"
        raise RuntimeError(message)

    monkeypatch.setattr(Backbone, "list_scores", broken)
    monkeypatch.setattr(Backbone, "publish_signals", broken)

    asked = await found.ask("pq_portfolio_v1")
    pushed = await found.http.post(PUSH, json=a_pushed_signal("acme"))

    assert code_of(asked) == "INTERNAL_SERVER_ERROR"
    assert pushed.status_code == 500
    assert "secret" not in str(asked) + pushed.text
    assert asked["errors"][0]["extensions"]["errorId"] in str([record.__dict__ for record in caplog.records])


async def test_the_words_of_grpc_itself_reach_nobody(backbone: Refusing, found: Running) -> None:
    for backbone.code in (StatusCode.UNAVAILABLE, StatusCode.UNKNOWN, StatusCode.RESOURCE_EXHAUSTED):
        said = await found.ask("pq_tenant_coherence_v1", tenantId="acme")

        assert "driver text" not in str(said)


async def test_a_backbone_that_is_gone_is_unavailable_and_never_a_5xx(found: Running) -> None:
    async with served(Config(grpc="127.0.0.1:1", port=0)) as orphan:
        answer = await orphan.http.post(
            "/graphql", json={"id": "pq_tenant_coherence_v1", "variables": {"tenantId": "a"}}
        )
        pushed = await orphan.http.post(PUSH, json=a_pushed_signal("acme"))

    assert (answer.status_code, code_of(answer.json())) == (200, "SERVICE_UNAVAILABLE")
    assert answer.json()["errors"][0]["extensions"]["retryAfterMs"] == 1000
    assert "127.0.0.1:1" not in answer.text + pushed.text
    assert (pushed.status_code, pushed.headers["retry-after"]) == (503, "1")


async def test_field_paths_are_those_of_the_caller(backbone: Refusing, found: Running) -> None:
    violations = [
        BadRequest.FieldViolation(field=field, description="must be otherwise")
        for field in ("signal.signal_id", "tags.retention", "request_id")
    ]
    backbone.refuse(
        StatusCode.INVALID_ARGUMENT, ErrorInfo(reason="SIGNAL_INVALID"), BadRequest(field_violations=violations)
    )

    said = await found.ask("pq_publish_signal_v1", input=an_input("acme"))

    paths = [field["path"] for field in said["errors"][0]["extensions"]["fields"]]
    assert paths == ["input.signalId", "input.tags.retention", "input.idempotencyKey"]
    assert said["errors"][0]["message"].startswith("input.signalId must be otherwise; ")


CLOSING: Final = {
    events_pb2.CLOSING_REASON_DRAINING: ("SERVICE_UNAVAILABLE", "DRAINING"),
    events_pb2.CLOSING_REASON_LAGGED: ("RATE_LIMITED", "SUBSCRIBER_LAGGED"),
    events_pb2.CLOSING_REASON_MAX_AGE: ("SERVICE_UNAVAILABLE", "MAX_AGE"),
}


@pytest.mark.parametrize("reason", CLOSING)
async def test_ac_api_03_a_stream_that_the_server_closes_ends_with_where_to_resume(
    backbone: Refusing, found: Running, reason: events_pb2.ClosingReason.ValueType
) -> None:
    closing = events_pb2.Closing(reason=reason, resume_cursor="here", retry_delay=Duration(nanos=250_000_000))
    backbone.frames = [
        events_pb2.SubscribeResponse(opened=events_pb2.Opened(cursor="start")),
        events_pb2.SubscribeResponse(closing=closing),
    ]

    extensions = await _ending(found)

    assert (extensions["code"], extensions["reason"]) == CLOSING[reason]
    assert (extensions["resumeCursor"], extensions["retryAfterMs"]) == ("here", 250)


async def test_a_gap_ends_the_operation_with_what_is_missing(backbone: Refusing, found: Running) -> None:
    gap = events_pb2.Gap(from_seq=3, to_seq=9, cursor="behind", reason="retention")
    backbone.frames = [events_pb2.SubscribeResponse(gap=gap)]

    extensions = await _ending(found)

    assert (extensions["code"], extensions["resumeCursor"], extensions["retryAfterMs"]) == ("EVENTS_GAP", "behind", 0)
    assert (extensions["fromSeq"], extensions["toSeq"]) == ("3", "9")


async def test_a_stream_that_breaks_ends_with_the_last_position(backbone: Refusing, found: Running) -> None:
    backbone.frames = [
        events_pb2.SubscribeResponse(opened=events_pb2.Opened(cursor="start")),
        events_pb2.SubscribeResponse(bookmark=events_pb2.Bookmark(cursor="later")),
    ]
    backbone.refuse(StatusCode.UNAVAILABLE, ErrorInfo(reason="STORE_DOWN"))

    extensions = await _ending(found)

    assert (extensions["code"], extensions["reason"]) == ("SERVICE_UNAVAILABLE", "STORE_DOWN")
    assert extensions["resumeCursor"] == "later"


async def test_a_stream_that_is_refused_has_nothing_to_resume(backbone: Refusing, found: Running) -> None:
    backbone.refuse(StatusCode.OUT_OF_RANGE, ErrorInfo(reason="CURSOR_EXPIRED", metadata={"earliest_cursor": "e"}))

    extensions = await _ending(found)

    assert (extensions["code"], extensions["reason"]) == ("BAD_USER_INPUT", "CURSOR_EXPIRED")
    assert (extensions["earliestCursor"], "resumeCursor" in extensions) == ("e", False)


async def _ending(found: Running) -> Any:  # noqa: ANN401 - JSON
    body = {"id": "pq_coherence_events_v1", "variables": {"tenantId": "acme"}}
    async with event_stream(found, body) as events:
        _, _, said = await events.next()
        assert (await events.next())[0] == "complete"
    return said["errors"][0]["extensions"]

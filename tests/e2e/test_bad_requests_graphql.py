"""R17: what is malformed as a whole, over GraphQL."""

from __future__ import annotations

import asyncio
import hashlib
import json
from typing import TYPE_CHECKING, Final, NamedTuple

import pytest
from websockets.exceptions import ConnectionClosed

from tests.e2e.reading import all_signals, entry_count
from tests.e2e.rows import a_row, input_of
from tests.e2e.subscriptions import socket_to
from tests.e2e.ways import operate

if TYPE_CHECKING:
    import httpx

    from coherence_grpc.client import Client
    from tests.serving import Served

pytestmark = pytest.mark.anyio

GRAPHQL: Final = "/graphql"
JSON: Final = {"content-type": "application/json"}
PUBLISH: Final = "pq_publish_signal_v1"
SCORE: Final = "pq_tenant_coherence_v1"
INPUT: Final = (
    '{"documentId":"pq_publish_signal_v1","variables":{"input":{"tenantId":"acme","type":"t","source":"s",%s}}}'
)
DEEP: Final = 100_000
TEXT: Final = "query($tenantId:ID!){ tenantCoherence(tenantId:$tenantId){ score status updatedAt } }"
REFUSED: Final = {
    "BAD_USER_INPUT",
    "BAD_REQUEST",
    "GRAPHQL_VALIDATION_FAILED",
    "GRAPHQL_PARSE_FAILED",
    "PERSISTED_QUERY_NOT_IN_LIST",
    "PERSISTED_QUERY_ID_REQUIRED",
    "CANNOT_SEND_PQ_ID_AND_BODY",
}


class BadInput(NamedTuple):
    """Variables of the publishing mutation that can't be taken, as raw JSON, and what the answer must name."""

    name: str
    raw: str
    names: str


BAD_INPUTS: Final = [
    BadInput("NaN", '"value":NaN', "value|NaN"),
    BadInput("beyond double", '"value":1e999', "value"),
    BadInput("number as text", '"value":"0.5"', "value"),
    BadInput("number as true", '"value":true', "value"),
    BadInput("null value", '"value":null', "value"),
    BadInput("no value", '"weight":1', "value"),
    BadInput("unknown field", '"value":0.5,"valeu":1', "valeu"),
    BadInput("duplicate key", '"value":0.5,"value":0.6', "value"),
    BadInput("naive ts", '"value":0.5,"ts":"2013-02-08T00:00:00"', "offset"),
    BadInput("ts as number", '"value":0.5,"ts":1360281600', "DateTime|ts"),
    BadInput("ts in words", '"value":0.5,"ts":"yesterday"', "RFC 3339"),
    BadInput("lone surrogate", '"value":0.5,"signalId":"\\ud800"', "surrogate"),
    BadInput("unknown tag", '"value":0.5,"tags":{"purpose":"fun"}', "purpose"),
    BadInput("100k nested arrays", '"value":' + "[" * DEEP + "]" * DEEP, "nested"),
]

BAD_FRAMES: Final = [
    "",
    "words",
    "[]",
    "7",
    '{"type": 7}',
    '{"type": "nonsense"}',
    '{"type": "subscribe"}',
    '{"type": "subscribe", "id": 7, "payload": {}}',
    '{"type": "subscribe", "id": "1", "id": "2"}',
    '{"type": "connection_init"}',
    "[" * DEEP,
    b"bytes",
]
NOT_PERSISTED: Final[list[tuple[object, set[str]]]] = [
    ({"documentId": "pq_nothing_v1"}, {"PERSISTED_QUERY_NOT_IN_LIST"}),
    ({"id": "pq_nothing_v1"}, {"PERSISTED_QUERY_NOT_IN_LIST"}),
    ({"extensions": {"persistedQuery": {"version": 1, "sha256Hash": "0" * 64}}}, {"PERSISTED_QUERY_NOT_IN_LIST"}),
    ({"documentId": "../../etc/passwd"}, {"PERSISTED_QUERY_NOT_IN_LIST"}),
    ({"documentId": 7}, REFUSED),
    ({"documentId": SCORE, "query": "{ __typename }"}, {"CANNOT_SEND_PQ_ID_AND_BODY"}),
    ({"query": "{ __schema { types { name } } }"}, {"PERSISTED_QUERY_ID_REQUIRED", "PERSISTED_QUERY_NOT_IN_LIST"}),
    (
        {"query": f"{TEXT} ", "variables": {"tenantId": "acme"}},
        {"PERSISTED_QUERY_ID_REQUIRED", "PERSISTED_QUERY_NOT_IN_LIST"},
    ),
    ({}, {"PERSISTED_QUERY_ID_REQUIRED", "BAD_REQUEST"}),
    ([], REFUSED),
    ([{"documentId": SCORE}] * 100, REFUSED),
    ("words", REFUSED),
    ({"documentId": SCORE, "variables": "t"}, REFUSED),
    ({"documentId": SCORE, "variables": [1]}, REFUSED),
    ({"documentId": SCORE}, REFUSED),
    ({"documentId": SCORE, "operationName": "NoSuchOperation"}, REFUSED),
]


@pytest.mark.parametrize("bad", BAD_INPUTS, ids=lambda bad: bad.name)
async def test_r17_bad_variables_are_refused_by_name(client: Client, http: httpx.AsyncClient, bad: BadInput) -> None:
    before = await entry_count(client)

    answer = await http.post(GRAPHQL, content=INPUT % bad.raw, headers=JSON)

    _assert_refused(answer, REFUSED)
    assert any(name in answer.text for name in bad.names.split("|")), answer.text
    assert await entry_count(client) == before


@pytest.mark.parametrize(("body", "codes"), NOT_PERSISTED, ids=range(len(NOT_PERSISTED)))
async def test_r17_ac_api_07_what_is_not_a_persisted_operation_is_refused(
    http: httpx.AsyncClient,
    body: object,
    codes: set[str],
) -> None:
    answer = await http.post(GRAPHQL, json=body)

    _assert_refused(answer, codes)


async def test_r17_ac_api_07_the_hash_of_a_text_with_another_text_is_refused(http: httpx.AsyncClient) -> None:
    known = hashlib.sha256(TEXT.encode()).hexdigest()
    body = {"query": "{ __typename }", "extensions": {"persistedQuery": {"version": 1, "sha256Hash": known}}}

    answer = await http.post(GRAPHQL, json=body)

    _assert_refused(answer, REFUSED)


async def test_r17_a_mutation_by_get_is_refused(client: Client, http: httpx.AsyncClient, tenant: str) -> None:
    variables = json.dumps({"input": input_of(a_row(tenant))})

    answer = await http.get(GRAPHQL, params={"documentId": PUBLISH, "variables": variables})

    assert answer.status_code in {400, 405}
    assert "POST" in answer.text
    assert not await all_signals(client, tenant)


async def test_r17_a_query_by_get_is_answered(http: httpx.AsyncClient, tenant: str) -> None:
    answer = await http.get(GRAPHQL, params={"documentId": SCORE, "variables": json.dumps({"tenantId": tenant})})

    assert answer.status_code == 200
    assert answer.json()["data"]["tenantCoherence"]["status"] == "UNKNOWN"


@pytest.mark.parametrize(
    "body", [b"", b"{", b"\xff\xfe", b"[" * DEEP + b"]" * DEEP, b'{"a":' * DEEP + b"1" + b"}" * DEEP]
)
async def test_r17_a_body_that_is_not_json_is_refused(http: httpx.AsyncClient, body: bytes) -> None:
    answer = await http.post(GRAPHQL, content=body, headers=JSON)

    _assert_refused(answer, REFUSED)


async def test_r17_a_body_of_5_mb_is_too_large(http: httpx.AsyncClient) -> None:
    body = {"documentId": SCORE, "variables": {"tenantId": "x" * 5_000_000}}

    answer = await http.post(GRAPHQL, json=body)

    assert answer.status_code == 413
    assert "Traceback" not in answer.text


@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x"])
async def test_r17_what_a_form_can_send_is_refused(http: httpx.AsyncClient, kind: str) -> None:
    body = json.dumps({"documentId": SCORE, "variables": {"tenantId": "acme"}})

    answer = await http.post(GRAPHQL, content=body, headers={"content-type": kind})

    assert answer.status_code == 415


async def test_r17_one_bad_input_of_many_is_named_and_the_others_are_stored(
    client: Client, http: httpx.AsyncClient, tenant: str
) -> None:
    inputs = [input_of(a_row(tenant, value=7.0 if n == 2 else 0.5)) for n in range(4)]

    report = (await operate(http, "pq_publish_signals_v1", {"inputs": inputs}))["data"]["publishCoherenceSignals"]

    assert (report["storedCount"], report["refusedCount"]) == (3, 1)
    error = report["results"][2]["error"]
    assert (error["code"], error["reason"]) == ("BAD_USER_INPUT", "SIGNAL_INVALID")
    assert [field["path"] for field in error["fields"]] == ["inputs[2].value"]
    assert len(await all_signals(client, tenant)) == 3


@pytest.mark.parametrize("size", [0, 1001])
async def test_r17_no_input_and_1001_inputs_are_refused_whole(
    client: Client, http: httpx.AsyncClient, tenant: str, size: int
) -> None:
    said = await operate(http, "pq_publish_signals_v1", {"inputs": [input_of(a_row(tenant))] * size})

    (error,) = said["errors"]
    assert error["extensions"]["code"] == "BAD_USER_INPUT"
    assert "1000" in error["message"]
    assert not await all_signals(client, tenant)


@pytest.mark.parametrize("frame", BAD_FRAMES, ids=range(len(BAD_FRAMES)))
async def test_r17_a_frame_against_the_protocol_closes_the_socket(service: Served, frame: str | bytes) -> None:
    async with socket_to(service.http) as socket, asyncio.timeout(10):
        await socket.send(frame)
        await socket.wait_closed()

        assert socket.close_code in {4400, 4429, 1009}


@pytest.mark.parametrize(("body", "codes"), NOT_PERSISTED, ids=range(len(NOT_PERSISTED)))
async def test_r17_ac_api_07_what_is_not_a_persisted_operation_is_refused_on_a_socket(
    service: Served, body: object, codes: set[str]
) -> None:
    async with socket_to(service.http) as socket, asyncio.timeout(10):
        await socket.send(json.dumps({"id": "1", "type": "subscribe", "payload": body}))
        try:
            said = json.loads(await socket.recv())
        except ConnectionClosed:
            assert socket.close_code == 4400
        else:
            errors = said["payload"] if said["type"] == "error" else said["payload"]["errors"]
            assert {error["extensions"]["code"] for error in errors} <= codes


def _assert_refused(answer: httpx.Response, codes: set[str]) -> None:
    """GraphQL-shaped, with one of the codes and no sign of our insides."""
    assert answer.status_code in {200, 400}, answer.text[:500]
    errors = answer.json()["errors"]
    assert {error["extensions"]["code"] for error in errors} <= codes, answer.text[:500]
    assert all(error["message"] for error in errors)
    assert "Traceback" not in answer.text
    assert len(answer.content) < 10_000

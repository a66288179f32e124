"""GraphQL over HTTP: forms of requests, statuses, media types, server-sent events."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any, Final

import pytest

from subgraph import server_sent_events
from subgraph.documents import OPERATIONS, sha256_of
from tests.subgraph.running import EVENT_STREAM, Running, a_pushed_signal, an_input, code_of, event_stream

if TYPE_CHECKING:
    from collections.abc import Mapping

pytestmark = pytest.mark.anyio

READ: Final = "pq_tenant_coherence_v1"
STRICT: Final = {"accept": "application/graphql-response+json"}
HASH: Final = sha256_of((OPERATIONS / f"{READ}.graphql").read_text())


@pytest.mark.parametrize(
    "form",
    [
        {"id": READ},
        {"documentId": READ},
        {"documentId": HASH},
        {"documentId": f"sha256:{HASH}"},
        {"extensions": {"persistedQuery": {"version": 1, "sha256Hash": HASH}}},
    ],
)
async def test_ac_api_07_each_form_of_a_persisted_id_is_answered_by_post_get_and_sse(
    subgraph: Running, tenant: str, form: Mapping[str, Any]
) -> None:
    body = {**form, "variables": {"tenantId": tenant}}
    parameters = {name: part if isinstance(part, str) else json.dumps(part) for name, part in body.items()}

    by_post = (await subgraph.http.post("/graphql", json=body)).json()
    by_get = (await subgraph.http.get("/graphql", params=parameters)).json()
    async with event_stream(subgraph, body) as events:
        by_sse, complete = (await events.next())[2], await events.next()

    for said in (by_post, by_get, by_sse):
        assert said["data"]["tenantCoherence"]["status"] == "UNKNOWN"
    assert complete == ("complete", "", None)


async def test_contradictions_11_12_15_an_unknown_tenant_is_unknown_and_never_critical(
    subgraph: Running, tenant: str
) -> None:
    said = await subgraph.ask("pq_tenants_coherence_v1", tenantIds=[tenant])

    (score,) = said["data"]["tenantsCoherence"]
    assert (score["score"], score["status"], score["signalCount"]) == (0, "UNKNOWN", 0)
    assert score["updatedAt"].endswith("Z")


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ({"id": "pq_unknown"}, "PERSISTED_QUERY_NOT_IN_LIST"),
        ({"query": "{ __typename }"}, "PERSISTED_QUERY_ID_REQUIRED"),
        ({"id": READ, "query": "{ __typename }"}, "CANNOT_SEND_PQ_ID_AND_BODY"),
        ({"id": READ}, "BAD_USER_INPUT"),
    ],
)
async def test_contradiction_16_a_refused_request_is_200_for_gateways_and_400_for_who_asks_for_graphql(
    subgraph: Running, body: Mapping[str, Any], code: str
) -> None:
    plain = await subgraph.http.post("/graphql", json=body)
    strict = await subgraph.http.post("/graphql", json=body, headers=STRICT)
    async with event_stream(subgraph, body) as events:
        _, _, streamed = await events.next()

    assert (plain.status_code, strict.status_code) == (200, 400)
    assert plain.headers["content-type"] == "application/json; charset=utf-8"
    assert strict.headers["content-type"] == "application/graphql-response+json; charset=utf-8"
    assert {code_of(plain.json()), code_of(strict.json()), code_of(streamed)} == {code}
    assert ("error" in plain.json()) is code.endswith(("LIST", "REQUIRED", "BODY"))


async def test_an_executed_operation_with_an_error_is_200_also_for_who_asks_for_graphql(
    subgraph: Running, tenant: str
) -> None:
    body = {"id": "pq_provenance_v1", "variables": {"tenantId": tenant, "provenanceId": "none"}}

    answer = await subgraph.http.post("/graphql", json=body, headers=STRICT)

    assert (answer.status_code, answer.json()["data"]) == (200, {"provenance": None})
    assert code_of(answer.json()) == "NOT_FOUND"


@pytest.mark.parametrize(
    ("accept", "kind"),
    [
        ("", "application/json"),
        ("*/*", "application/json"),
        ("text/html", "application/json"),
        ("application/json;q=0.9, application/graphql-response+json", "application/graphql-response+json"),
        ("application/json, application/graphql-response+json;q=0.9", "application/json"),
        ("text/event-stream, application/json", "application/json"),
        ("text/event-stream", "text/event-stream"),
    ],
)
async def test_the_answer_comes_in_the_media_type_that_is_asked_for(
    subgraph: Running, tenant: str, accept: str, kind: str
) -> None:
    body = {"id": READ, "variables": {"tenantId": tenant}}

    answer = await subgraph.http.post("/graphql", json=body, headers={"accept": accept})

    assert (answer.status_code, answer.headers["content-type"]) == (200, f"{kind}; charset=utf-8")


@pytest.mark.parametrize("headers", [{}, STRICT, EVENT_STREAM])
async def test_a_mutation_by_get_is_refused(subgraph: Running, tenant: str, headers: Mapping[str, str]) -> None:
    parameters = {"id": "pq_publish_signal_v1", "variables": json.dumps({"input": an_input(tenant)})}

    answer = await subgraph.http.get("/graphql", params=parameters, headers=headers)

    assert (answer.status_code, answer.headers["allow"]) == (405, "POST")
    assert code_of(answer.json()) == "BAD_REQUEST"
    assert (await subgraph.ask("pq_tenant_v1", tenantId=tenant))["data"]["tenant"]["signals"]["nodes"] == []


async def test_a_subscription_as_a_plain_request_says_what_it_needs(subgraph: Running, tenant: str) -> None:
    said = await subgraph.ask("pq_coherence_events_v1", tenantId=tenant)

    assert "text/event-stream" in said["errors"][0]["message"]


@pytest.mark.parametrize(
    ("method", "headers", "status"),
    [("PUT", {}, 405), ("POST", {"content-type": "text/plain"}, 415), ("POST", {"content-encoding": "gzip"}, 415)],
)
async def test_what_is_no_graphql_over_http_is_refused_by_its_status(
    subgraph: Running, method: str, headers: Mapping[str, str], status: int
) -> None:
    answer = await subgraph.http.request(method, "/graphql", json={"id": READ}, headers=headers)

    assert (answer.status_code, code_of(answer.json())) == (status, "BAD_REQUEST")


@pytest.mark.parametrize("query", ["id=%ff", "id=a&id=b", "id=a&variables={", "id=a&extensions=[]", "variables={}"])
async def test_a_query_string_that_cannot_be_read_is_refused(subgraph: Running, query: str) -> None:
    answer = await subgraph.http.get(f"/graphql?{query}")

    assert (answer.status_code, code_of(answer.json())) == (400, "BAD_REQUEST")


@pytest.mark.parametrize("size", [1024 * 1024 + 1, 5_000_000])
async def test_a_body_beyond_a_mebibyte_is_413(subgraph: Running, size: int) -> None:
    answer = await subgraph.http.post("/graphql", content=b" " * size, headers={"content-type": "application/json"})

    assert (answer.status_code, code_of(answer.json())) == (413, "BAD_REQUEST")


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"origin": "http://localhost:3000"}, 200),
        ({"origin": "https://evil.example"}, 403),
        ({"origin": "null"}, 403),
        ({"host": "evil.example"}, 403),
    ],
)
async def test_the_local_principal_is_not_for_pages_from_elsewhere(
    subgraph: Running, tenant: str, headers: Mapping[str, str], status: int
) -> None:
    body = {"id": READ, "variables": {"tenantId": tenant}}

    answer = await subgraph.http.post("/graphql", json=body, headers=headers)

    assert answer.status_code == status


async def test_ac_api_03_events_are_framed_with_line_feeds_and_carry_their_cursor(
    subgraph: Running, tenant: str
) -> None:
    body = {"id": "pq_coherence_events_v1", "variables": {"tenantId": tenant}}

    async with event_stream(subgraph, body) as events:
        await subgraph.publish(tenant, signal_id="first")
        kind, position, said = await events.next()

    signal = said["data"]["coherenceEvents"]
    assert (kind, signal["signalId"]) == ("next", "first")
    assert signal["cursor"] == position == said["extensions"]["coherence"]["cursor"]
    assert b"\r" not in events.raw


@pytest.mark.parametrize("by", ["after", "last-event-id"])
async def test_ac_api_03_a_stream_resumes_after_its_cursor_or_its_last_event_id(
    subgraph: Running, tenant: str, by: str
) -> None:
    body = {"id": "pq_coherence_events_v1", "variables": {"tenantId": tenant}}
    async with event_stream(subgraph, body) as events:
        await subgraph.publish(tenant, signal_id="seen")
        _, position, _ = await events.next()
    await subgraph.publish(tenant, signal_id="missed")

    variables = {"tenantId": tenant, "after": position} if by == "after" else {"tenantId": tenant}
    headers = {} if by == "after" else {by: position}
    async with event_stream(subgraph, {**body, "variables": variables}, **headers) as events:
        _, _, said = await events.next()

    assert said["data"]["coherenceEvents"]["signalId"] == "missed"


async def test_score_changes_come_with_each_published_score(subgraph: Running, tenant: str) -> None:
    body = {"id": "pq_score_changes_v1", "variables": {"tenantId": tenant}}

    async with event_stream(subgraph, body) as events:
        await subgraph.publish(tenant, value=0.9)
        _, position, said = await events.next()

    score = said["data"]["coherenceScoreChanges"]
    assert (score["score"], score["status"], score["cursor"]) == (0.9, "HEALTHY", position)


async def test_a_quiet_stream_gets_comments(subgraph: Running, tenant: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server_sent_events, "HEARTBEAT_S", 0.01)
    body = {"id": "pq_coherence_events_v1", "variables": {"tenantId": tenant}}

    async with event_stream(subgraph, body) as events:
        await events.heard(b":\n\n:\n\n:\n\n")
        await subgraph.publish(tenant, signal_id="late")
        _, _, said = await events.next()

    assert said["data"]["coherenceEvents"]["signalId"] == "late"


async def test_a_reader_that_leaves_takes_its_stream_along(subgraph: Running, tenant: str) -> None:
    body = {"id": "pq_coherence_events_v1", "variables": {"tenantId": tenant}}
    followers = subgraph.subgraph.services.followers

    async with event_stream(subgraph, body) as events:
        await subgraph.publish(tenant)
        await events.next()
        assert not followers.idle.is_set()

    async with asyncio.timeout(5):
        await followers.idle.wait()


async def test_paths_health_and_openapi(subgraph: Running) -> None:
    unknown = await subgraph.http.get("/nothing")
    openapi = (await subgraph.http.get("/schema/openapi.json")).json()

    assert (unknown.status_code, unknown.headers["content-type"]) == (404, "application/problem+json")
    assert [(await subgraph.http.get(path)).status_code for path in ("/healthz", "/readyz")] == [200, 200]
    push = openapi["paths"]["/v1/coherence/signals"]["post"]
    assert {"application/json", "application/x-ndjson"} == push["requestBody"]["content"].keys()
    assert {"202", "400", "409", "413", "415", "429", "503"} <= push["responses"].keys()
    assert "Idempotency-Key" in {parameter["name"] for parameter in push["parameters"]}


async def test_ac_api_02_every_operation_file_is_answered(subgraph: Running, tenant: str) -> None:
    pushed = await subgraph.publish(tenant, value=0.25, ts=None)
    asked: dict[str, dict[str, object]] = {
        "pq_tenant_coherence_v1": {"tenantId": tenant},
        "pq_tenant_coherence_v2": {"tenantId": tenant},
        "pq_tenant_coherence_as_of_v1": {"tenantId": tenant, "asOf": pushed["key"]["ts"]},
        "pq_tenants_coherence_v1": {"tenantIds": [tenant, "nobody"]},
        "pq_portfolio_v1": {"filter": {"statuses": ["CRITICAL"], "maxScore": 0.5}, "first": 10},
        "pq_explain_v1": {"tenantId": tenant, "top": 3},
        "pq_tenant_v1": {"tenantId": tenant, "first": 1, "filter": {"sources": ["ci"]}},
        "pq_provenance_v1": {"tenantId": tenant, "provenanceId": pushed["provenance_id"]},
        "pq_publish_signal_v1": {"input": an_input(tenant)},
        "pq_publish_signals_v1": {"inputs": [an_input(tenant, value=0.75)]},
        "pq_publish_signals_v2": {"inputs": [an_input(tenant, value=0.75)]},
        "pq_tenant_coherence_v3": {"tenantId": tenant, "asOf": pushed["key"]["ts"], "policyEtag": "default"},
        "pq_portfolio_v2": {"filter": {"tenantIdPrefix": tenant}, "order": "BEST_FIRST"},
        "pq_explain_v2": {"tenantId": tenant, "top": 3},
        "pq_coherence_history_v1": {"tenantId": tenant},
        "pq_simulate_v1": {"tenantId": tenant, "signals": [{"source": "ci", "type": "build", "value": 1}]},
        "pq_policy_v1": {"tenantId": tenant},
        "pq_policy_versions_v1": {"tenantId": tenant},
        "pq_update_policy_v1": {"tenantId": tenant, "policy": {"hysteresis": 0.02}, "etag": "default"},
        "pq_recompute_v1": {"tenantId": tenant},
    }
    subscriptions = {"pq_coherence_events_v1", "pq_score_changes_v1"}

    said = {operation: await subgraph.ask(operation, **variables) for operation, variables in asked.items()}

    assert asked.keys() | subscriptions == {path.stem for path in OPERATIONS.glob("*.graphql")}
    assert [operation for operation, each in said.items() if "errors" in each] == []
    assert said["pq_tenant_coherence_v2"]["data"]["tenantCoherence"]["score"] == 0.25
    assert said["pq_explain_v1"]["data"]["tenantCoherence"]["explanation"]["contributions"][0]["push"] == -0.75
    assert said["pq_provenance_v1"]["data"]["provenance"]["transport"] == "http"


async def test_contradiction_34_the_id_of_a_signal_stands_for_all_four_parts_of_its_key(
    subgraph: Running, tenant: str
) -> None:
    rows = [a_pushed_signal(each, signal_id="same", ts="2026-01-01T00:00:00Z") for each in (tenant, f"{tenant}-b")]
    answer = await subgraph.http.post("/v1/coherence/signals", json=rows)
    assert answer.json()["stored_count"] == 2

    ids = set()
    for each in (tenant, f"{tenant}-b"):
        (signal,) = (await subgraph.ask("pq_tenant_v1", tenantId=each))["data"]["tenant"]["signals"]["nodes"]
        assert (signal["signalId"], signal["weight"]) == ("same", 1)
        ids.add(signal["id"])
    assert len(ids) == 2

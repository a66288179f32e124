"""R17 over GraphQL: what can't be taken is refused by field and remedy, and nothing of it is stored."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from tests.subgraph.running import Running, an_input, code_of

if TYPE_CHECKING:
    from collections.abc import Mapping

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize(
    ("fields", "names"),
    [
        ({"value": -0.1}, "input.value"),
        ({"value": 1.1}, "input.value"),
        ({"weight": -1}, "input.weight"),
        ({"weight": 1001}, "input.weight"),
        ({"source": ""}, "input.source"),
        ({"source": "x" * 10_000}, "input.source"),
        ({"type": "bell\u0007"}, "input.type"),
        ({"signalId": "x" * 10_000}, "input.signalId"),
        ({"signalId": "right\u202eto-left"}, "input.signalId"),
        ({"tenantId": "Not A Tenant"}, "input.tenantId"),
        ({"idempotencyKey": "x" * 129}, "input.idempotencyKey"),
        ({"tags": {"purpose": "fun"}}, "input.tags.purpose"),
        ({"ts": "9999-01-01T00:00:00Z"}, "input.ts"),
        ({"ts": "1960-01-01T00:00:00Z"}, "input.ts"),
    ],
    ids=range(14),
)
async def test_r17_what_the_backbone_refuses_is_named_by_field(
    subgraph: Running, tenant: str, fields: Mapping[str, object], names: str
) -> None:
    said = await subgraph.ask("pq_publish_signal_v1", input={**an_input(tenant), **fields})

    assert code_of(said) == "BAD_USER_INPUT"
    assert said["data"] is None
    assert [field["path"] for field in said["errors"][0]["extensions"]["fields"]] == [names]
    assert said["errors"][0]["message"].startswith(names)
    assert await _stored(subgraph, tenant) == []


@pytest.mark.parametrize(
    ("field", "names"),
    [
        ('"value": "0.5"', "input.value"),
        ('"value": true', "input.value"),
        ('"value": 1e999', "input.value"),
        (f'"value": {"9" * 400}', "input.value"),
        ('"value": null', "input.value"),
        ('"valeu": 1', "valeu"),
        ('"ts": "2013-02-08T00:00:00"', "no offset"),
        ('"ts": "2013-02-30T00:00:00Z"', "no such day"),
        ('"ts": 1360281600', "must be a string"),
        ('"source": ["ci"]', "input.source"),
    ],
)
async def test_r17_what_is_of_another_type_is_refused_before_the_backbone(
    subgraph: Running, tenant: str, field: str, names: str
) -> None:
    given = f'{{"tenantId":"{tenant}","source":"ci","type":"build","value":0.5}}'
    body = given.replace('"value":0.5', field) if '"value"' in field else given[:-1] + f",{field}}}"
    if '"source":' in field:
        body = body.replace('"source":"ci",', "")

    answer = await subgraph.http.post(
        "/graphql",
        content=f'{{"id":"pq_publish_signal_v1","variables":{{"input":{body}}}}}',
        headers={"content-type": "application/json"},
    )

    assert (answer.status_code, code_of(answer.json())) == (200, "BAD_USER_INPUT")
    assert names in answer.text
    assert answer.json()["errors"][0]["extensions"]["fields"][0]["path"].startswith("input")
    assert await _stored(subgraph, tenant) == []


@pytest.mark.parametrize(
    "body",
    [
        b'{"id":"pq_publish_signal_v1","id":"pq_publish_signal_v1"}',
        b'{"id":"pq_publish_signal_v1","variables":{"input":{"value":NaN}}}',
        b'{"id":"pq_publish_signal_v1","variables":{"input":{"source":"\\ud800"}}}',
        b'{"id":"pq_publish_signal_v1","variables":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
        b"\xff",
        b"[]",
        b"7",
    ],
    ids=["twice", "nan", "half", "deep", "utf8", "list", "number"],
)
async def test_r17_a_body_that_is_no_request_is_400(subgraph: Running, body: bytes) -> None:
    answer = await subgraph.http.post("/graphql", content=body, headers={"content-type": "application/json"})

    assert (answer.status_code, code_of(answer.json())) == (400, "BAD_REQUEST")


@pytest.mark.parametrize(
    ("operation", "variables", "names"),
    [
        ("pq_tenant_coherence_v1", {"tenantId": "Not A Tenant"}, "tenantId"),
        ("pq_tenant_coherence_as_of_v1", {"tenantId": "a", "asOf": "9999-01-01T00:00:00Z"}, "asOf"),
        ("pq_explain_v1", {"tenantId": "a", "top": 101}, "top"),
        ("pq_tenant_v1", {"tenantId": "a", "first": 1001}, "first"),
        ("pq_portfolio_v1", {"first": -1}, "first"),
        ("pq_portfolio_v1", {"filter": {"minScore": 2}}, "filter.minScore"),
        ("pq_portfolio_v1", {"filter": {"statuses": ["FINE"]}}, "filter.statuses"),
        ("pq_publish_signals_v1", {"inputs": []}, "inputs"),
        ("pq_publish_signals_v1", {"inputs": [an_input("a")] * 1001}, "inputs"),
    ],
)
async def test_r17_a_bad_argument_is_named(
    subgraph: Running, operation: str, variables: Mapping[str, Any], names: str
) -> None:
    said = await subgraph.ask(operation, **variables)

    assert code_of(said) == "BAD_USER_INPUT"
    assert [field["path"] for field in said["errors"][0]["extensions"]["fields"]] == [names]


async def test_r17_a_page_token_of_another_request_is_refused(subgraph: Running, tenant: str) -> None:
    said = await subgraph.ask("pq_tenant_v1", tenantId=tenant, after="bad")

    assert said["errors"][0]["extensions"]["reason"] == "PAGE_TOKEN_INVALID"


async def _stored(subgraph: Running, tenant: str) -> list[Any]:
    said = await subgraph.ask("pq_tenant_v1", tenantId=tenant)
    assert "errors" not in said, json.dumps(said)
    nodes: list[Any] = said["data"]["tenant"]["signals"]["nodes"]
    return nodes

"""POST /v1/coherence/signals: statuses, results, pointers, terms."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final

import pytest

from tests.subgraph.running import PUSH, Running, a_pushed_signal, an_input

if TYPE_CHECKING:
    from collections.abc import Mapping

    import httpx

pytestmark = pytest.mark.anyio

TS: Final = "2026-01-01T00:00:00Z"
LINES: Final = {"content-type": "application/x-ndjson"}


async def push(found: Running, body: object, query: str = "", **headers: str) -> httpx.Response:
    return await found.http.post(f"{PUSH}{query}", json=body, headers=headers)


def problem_of(answer: httpx.Response, status: int) -> Any:  # noqa: ANN401 - JSON
    assert (answer.status_code, answer.headers["content-type"]) == (status, "application/problem+json")
    assert answer.json()["status"] == status
    return answer.json()


async def test_ac_ing_01_one_signal_an_array_and_lines_are_taken(subgraph: Running, tenant: str) -> None:
    rows = [a_pushed_signal(tenant, signal_id=str(n), ts=TS) for n in range(5)]

    one = await push(subgraph, rows[0])
    array = await push(subgraph, rows[1:3])
    lines = await subgraph.http.post(PUSH, content="\n".join(map(json.dumps, rows[3:])) + "\n", headers=LINES)

    assert [answer.status_code for answer in (one, array, lines)] == [202, 202, 202]
    results = [result for answer in (one, array, lines) for result in answer.json()["results"]]
    assert [result["outcome"] for result in results] == ["STORED"] * 5
    assert [result["seq"] for result in results] == [1, 2, 3, 4, 5]
    assert [result["index"] for result in results] == [0, 0, 1, 0, 1]
    assert results[4]["key"] == {"tenant_id": tenant, "source": "ci", "signal_id": "4", "ts": TS}


async def test_ac_ing_01_a_batch_of_several_tenants_comes_back_in_its_order(subgraph: Running, tenant: str) -> None:
    names = [f"{tenant}-{n % 3}" for n in range(9)]
    rows = [a_pushed_signal(name, signal_id=str(n)) for n, name in enumerate(names)]
    rows[4]["value"] = 2

    said = (await push(subgraph, rows)).json()

    assert (said["stored_count"], said["duplicate_count"], said["refused_count"]) == (8, 0, 1)
    assert [result["index"] for result in said["results"]] == list(range(9))
    assert [result["key"]["tenant_id"] for result in said["results"] if "key" in result] == names[:4] + names[5:]
    assert said["results"][4]["error"]["pointer"] == "/4/value"
    assert said["revisions"].keys() == set(names)


async def test_ac_ing_01_when_none_is_good_each_has_an_entry_with_a_pointer(subgraph: Running, tenant: str) -> None:
    rows = [
        a_pushed_signal(tenant, value="0.5"),
        a_pushed_signal(tenant, weight=1001),
        a_pushed_signal(tenant, ts="9999-01-01T00:00:00Z"),
        a_pushed_signal(tenant, ts="1960-01-01T00:00:00Z"),
        a_pushed_signal("Not A Tenant"),
        {**a_pushed_signal(tenant), "a/b~c": 1},
    ]

    said = problem_of(await push(subgraph, rows), 400)

    assert [error["pointer"] for error in said["errors"]] == [
        "/0/value",
        "/1/weight",
        "/2/ts",
        "/3/ts",
        "/4/tenant_id",
        "/5/a~1b~0c",
    ]
    assert [error["code"] for error in said["errors"]].count("OUT_OF_RANGE") == 1
    assert problem_of(await push(subgraph, rows[0]), 400)["errors"][0]["pointer"] == "/value"


async def test_ac_ing_03_the_same_content_is_a_duplicate_and_another_a_conflict(subgraph: Running, tenant: str) -> None:
    row = a_pushed_signal(tenant, signal_id="s", ts=TS)
    (first,) = (await push(subgraph, row)).json()["results"]

    (again,) = (await push(subgraph, row)).json()["results"]
    said = await subgraph.ask("pq_publish_signals_v1", inputs=[an_input(tenant, signalId="s", ts=TS)])
    other = problem_of(await push(subgraph, {**row, "value": 0.6}), 409)
    mixed = problem_of(await push(subgraph, [{**row, "value": 0.6}, {**row, "value": 7}]), 400)

    (over_graphql,) = said["data"]["publishCoherenceSignals"]["results"]
    assert again == {**first, "outcome": "DUPLICATE"}
    assert (over_graphql["outcome"], over_graphql["seq"]) == ("DUPLICATE", first["seq"])
    assert over_graphql["provenanceId"] == first["provenance_id"]
    assert [error["reason"] for error in other["errors"]] == ["SIGNAL_KEY_CONFLICT"]
    assert [error["code"] for error in mixed["errors"]] == ["ALREADY_EXISTS", "INVALID_ARGUMENT"]


async def test_contradictions_2_5_an_idempotency_key_makes_a_signal_without_ts_safe_to_send_again(
    subgraph: Running, tenant: str
) -> None:
    rows = [a_pushed_signal(tenant), a_pushed_signal(f"{tenant}-b")]
    first = (await push(subgraph, rows, **{"idempotency-key": "k"})).json()

    again = (await push(subgraph, rows, **{"idempotency-key": "k"})).json()
    without = (await push(subgraph, rows)).json()
    other = await push(subgraph, [{**row, "value": 0.9} for row in rows], **{"idempotency-key": "k"})

    assert [result["seq"] for result in again["results"]] == [result["seq"] for result in first["results"]] == [1, 1]
    assert [result["key"] for result in again["results"]] == [result["key"] for result in first["results"]]
    assert again["duplicate_count"] == 2
    assert without["stored_count"] == 2
    assert {error["reason"] for error in problem_of(other, 409)["errors"]} == {"REQUEST_ID_REUSED"}


async def test_contradiction_3_the_mutations_take_a_signal_id_and_an_idempotency_key(
    subgraph: Running, tenant: str
) -> None:
    for _ in range(2):
        said = await subgraph.ask("pq_publish_signal_v1", input=an_input(tenant, idempotencyKey="k"))
        assert said["data"]["publishCoherenceSignal"] is True
    inputs = [an_input(tenant, signalId="s", ts=TS), an_input(tenant, idempotencyKey="k", value=0.9)]
    report = (await subgraph.ask("pq_publish_signals_v1", inputs=inputs))["data"]["publishCoherenceSignals"]

    signals = (await subgraph.ask("pq_tenant_v1", tenantId=tenant))["data"]["tenant"]["signals"]["nodes"]
    assert [result["outcome"] for result in report["results"]] == ["STORED", None]
    assert report["results"][1]["error"]["code"] == "CONFLICT"
    assert len(signals) == 2


async def test_ac_ing_02_the_terms_of_a_request_are_in_its_provenance(subgraph: Running, tenant: str) -> None:
    query = "?purpose=demo&retention=short-30d&license=Restricted-TOS&residency=US&backfill=1"

    (result,) = (await push(subgraph, a_pushed_signal(tenant), query, **{"idempotency-key": "k"})).json()["results"]

    ask = {"tenantId": tenant, "provenanceId": result["provenance_id"]}
    record = (await subgraph.ask("pq_provenance_v1", **ask))["data"]["provenance"]
    assert (record["purpose"], record["retention"], record["backfill"]) == ("demo", "short-30d", True)
    assert (record["requestId"], record["transport"]) == ("k", "http")
    assert [link["seq"] for link in record["links"]] == [1]


async def test_a_dry_run_answers_as_if_stored_and_stores_nothing(subgraph: Running, tenant: str) -> None:
    rows = [a_pushed_signal(tenant), a_pushed_signal(tenant, value=-1)]

    said = (await push(subgraph, rows, "?validate=1")).json()

    assert (said["dry_run"], said["stored_count"], said["refused_count"]) == (True, 1, 1)
    assert said["results"][0]["seq"] == 0
    assert (await subgraph.ask("pq_tenant_v1", tenantId=tenant))["data"]["tenant"]["signals"]["nodes"] == []


@pytest.mark.parametrize(
    "query", ["?validate=perhaps", "?colour=red", "?purpose=fun", "?validate=1&validate=0", "?purpose=%ff"]
)
async def test_a_parameter_that_is_not_known_is_refused(subgraph: Running, tenant: str, query: str) -> None:
    said = problem_of(await push(subgraph, a_pushed_signal(tenant), query), 400)

    assert said["type"] == "urn:coherence:problem:parameter-invalid"


@pytest.mark.parametrize(
    ("headers", "body", "status"),
    [
        ({"content-type": "text/plain"}, b"{}", 415),
        ({"content-type": "application/json; charset=latin-1"}, b"{}", 415),
        ({"content-type": "application/json", "content-encoding": "gzip"}, b"{}", 415),
        ({"content-type": "application/json"}, b"[]", 400),
        ({"content-type": "application/json"}, b"[" * 100_000, 400),
        ({"content-type": "application/x-ndjson"}, b"\n" * 10, 400),
        ({"content-type": "application/x-ndjson"}, b"{}\n" * 1001, 400),
        ({"content-type": "application/json"}, b" " * 5_000_000, 413),
        ({"content-type": "application/json", "host": "evil.example"}, b"{}", 403),
    ],
)
async def test_a_request_that_cannot_be_taken_is_a_problem(
    subgraph: Running, headers: Mapping[str, str], body: bytes, status: int
) -> None:
    problem_of(await subgraph.http.post(PUSH, content=body, headers=headers), status)


async def test_another_method_is_a_problem_that_names_the_right_one(subgraph: Running) -> None:
    answer = await subgraph.http.get(PUSH)

    problem_of(answer, 405)
    assert "POST" in answer.headers["allow"]


async def test_a_write_is_seen_by_the_next_read_whichever_way_it_came(subgraph: Running, tenant: str) -> None:
    for n in range(1, 6):
        answer = await push(subgraph, a_pushed_signal(tenant, signal_id=str(n)))
        said = await subgraph.ask("pq_tenant_coherence_v2", tenantId=tenant)

        assert said["data"]["tenantCoherence"]["signalCount"] == n
        assert answer.headers["coherence-revision"] == answer.json()["revision"]
        assert said["extensions"]["coherence"]["revision"] == answer.json()["revision"]

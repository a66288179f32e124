"""POST /v1/coherence/signals: on_conflict=replace and durability=scored."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import pytest

from tests.subgraph.running import PUSH, Running, a_pushed_signal

if TYPE_CHECKING:
    import httpx

pytestmark = pytest.mark.anyio

TS: Final = "2026-01-01T00:00:00Z"


async def push(found: Running, body: object, query: str = "", **headers: str) -> httpx.Response:
    return await found.http.post(f"{PUSH}{query}", json=body, headers=headers)


async def test_a_signal_takes_the_place_of_another_payload_where_that_is_asked_for(
    subgraph: Running, tenant: str
) -> None:
    rows = [a_pushed_signal(tenant, signal_id=str(n), ts=TS, value=0.2) for n in range(2)]
    await push(subgraph, rows)
    rows[0]["value"] = 0.9

    rejected = (await push(subgraph, rows, "?on_conflict=reject")).json()
    replaced = (await push(subgraph, [*rows, a_pushed_signal(tenant)], "?on_conflict=replace")).json()

    assert rejected["results"][0]["error"]["reason"] == "SIGNAL_KEY_CONFLICT"
    assert [result["outcome"] for result in replaced["results"]] == ["REPLACED", "DUPLICATE", "STORED"]
    assert [result["seq"] for result in replaced["results"]] == [3, 2, 4]
    counts = {name: count for name, count in replaced.items() if name.endswith("_count")}
    assert counts == {"stored_count": 1, "replaced_count": 1, "duplicate_count": 1, "refused_count": 0}


async def test_a_retry_with_its_idempotency_key_replaces_nothing_again(subgraph: Running, tenant: str) -> None:
    def row(value: float) -> object:
        return a_pushed_signal(tenant, signal_id="one", ts=TS, value=value)

    first = await push(subgraph, row(0.2), "?on_conflict=replace", **{"idempotency-key": "r"})
    await push(subgraph, row(0.9), "?on_conflict=replace")
    again = await push(subgraph, row(0.2), "?on_conflict=replace", **{"idempotency-key": "r"})

    assert first.json()["results"][0]["outcome"] == "STORED"
    assert [(r["outcome"], r["seq"]) for r in again.json()["results"]] == [("DUPLICATE", 1)]


async def test_the_answer_has_a_score_of_each_tenant_that_has_seen_its_signals(subgraph: Running, tenant: str) -> None:
    other = f"{tenant}-other"

    said = (await push(subgraph, [a_pushed_signal(tenant), a_pushed_signal(other)], "?durability=scored")).json()
    without = (await push(subgraph, a_pushed_signal(tenant), "?durability=stored")).json()

    assert said["scores"].keys() | set(said.get("scores_pending", ())) == {tenant, other}
    for score in said["scores"].values():
        assert (score["signal_count"], score["as_of_seq"]) == (1, 1)
        assert score["status"] in {"HEALTHY", "WARN", "CRITICAL"}
    assert "scores" not in without
    assert "scores_pending" not in without


@pytest.mark.parametrize("query", ["?on_conflict=REPLACE", "?on_conflict=", "?durability=1", "?durability=none"])
async def test_a_word_that_is_none_is_refused_with_those_that_are(subgraph: Running, tenant: str, query: str) -> None:
    answer = await push(subgraph, a_pushed_signal(tenant), query)

    assert answer.status_code == 400
    name, words = ("on_conflict", "reject or replace") if "conflict" in query else ("durability", "stored or scored")
    assert answer.json()["detail"].startswith(f"{name} must be {words}, not ")


async def test_openapi_tells_of_both_parameters_and_the_counts(subgraph: Running) -> None:
    described = (await subgraph.http.get("/schema/openapi.json")).json()

    operation = described["paths"][PUSH]["post"]
    words = {one["name"]: one["schema"].get("enum") for one in operation["parameters"]}
    assert words["on_conflict"] == ["reject", "replace"]
    assert words["durability"] == ["stored", "scored"]
    report = described["components"]["schemas"]["PushReport"]["properties"]
    assert {"replaced_count", "scores", "scores_pending"} <= report.keys()

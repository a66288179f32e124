"""The free_text switch: for triage, within limits."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from coherence_grpc.config import edit_switches
from subgraph import switches
from tests.subgraph.running import Running, acknowledged, code_of, running

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.anyio


async def test_free_text_is_answered_on_http_and_on_a_socket_while_the_switch_is_on(
    open_subgraph: Running, tenant: str
) -> None:
    text = "query($t: ID!) { tenantCoherence(tenantId: $t) { status } }"
    body = {"query": text, "variables": {"t": tenant}}

    by_post = (await open_subgraph.http.post("/graphql", json=body)).json()
    async with acknowledged(open_subgraph) as socket:
        await socket.say(id="1", type="subscribe", payload=body)
        by_socket = (await socket.hear())["payload"]

    assert by_post["data"] == by_socket["data"] == {"tenantCoherence": {"status": "UNKNOWN"}}


async def test_ac_api_04_a_gateway_finds_the_sdl_and_developers_the_schema(open_subgraph: Running) -> None:
    sdl = (await open_subgraph.ask("pq_service_sdl_v1"))["data"]["_service"]["sdl"]
    schema = await open_subgraph.http.post("/graphql", json={"query": "{ __schema { queryType { name } } }"})

    assert "federation/v2.9" in sdl
    assert schema.json()["data"]["__schema"]["queryType"]["name"] == "Query"


@pytest.mark.parametrize("text", ["{ a: b: c }", "{ nothing }", "{ __typename @nowhere }"])
async def test_a_bad_document_is_one_short_error(open_subgraph: Running, text: str) -> None:
    answer = await open_subgraph.http.post("/graphql", json={"query": text})

    assert answer.status_code == 200
    assert code_of(answer.json()).startswith("GRAPHQL_")


@pytest.mark.slow
async def test_the_switch_is_heard_of_while_the_subgraph_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(switches, "POLL_S", 0.01)
    async with running(tmp_path) as found:
        before = await found.http.post("/graphql", json={"query": "{ __typename }"})
        edit_switches(tmp_path / "runtime.json", {"free_text": "on"})
        after = before
        while "errors" in after.json():
            # The backbone reads its file every five seconds.
            after = await found.http.post("/graphql", json={"query": "{ __typename }"})

    assert code_of(before.json()) == "PERSISTED_QUERY_ID_REQUIRED"
    assert after.json() == {"data": {"__typename": "Query"}}

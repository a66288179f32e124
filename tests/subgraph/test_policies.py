"""Policies, history, what-if and replacement in GraphQL: the numbers of gRPC, and refusals that name the field."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import pytest
from google.protobuf.json_format import MessageToDict

from coherence.v1 import score_pb2
from coherence_grpc.client import connect
from tests.faults import eventually
from tests.subgraph.running import Running, an_input, code_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from coherence_grpc.client import Client

pytestmark = pytest.mark.anyio


@asynccontextmanager
async def backbone(subgraph: Running) -> AsyncIterator[Client]:
    async with connect(subgraph.grpc) as client:
        yield client


async def filled(subgraph: Running, tenant: str) -> None:
    for source, value in (("a", 0.9), ("a", 0.8), ("b", 0.1)):
        await subgraph.publish(tenant, source=source, value=value, type="check")


def names(said: Any) -> list[str]:  # noqa: ANN401 - JSON
    (error,) = said["errors"]
    return [field["path"] for field in error["extensions"].get("fields", ())]


async def test_a_policy_is_changed_read_and_kept_in_versions(subgraph: Running, tenant: str) -> None:
    await filled(subgraph, tenant)
    policy = {
        "hysteresis": 0.02,
        "dwellSeconds": 3600,
        "windowSeconds": 7200.5,
        "vetoes": [{"type": "check", "below": 0.2, "capStatus": "WARN"}],
        "typeWeights": [{"type": "check", "weight": 2.5}],
    }

    before = (await subgraph.ask("pq_policy_v1", tenantId=tenant))["data"]["coherencePolicy"]
    changed = (await subgraph.ask("pq_update_policy_v1", tenantId=tenant, policy=policy, etag=before["etag"]))["data"]
    again = await subgraph.ask(
        "pq_update_policy_v1",
        tenantId=tenant,
        policy={"hysteresis": None},
        etag=changed["updateCoherencePolicy"]["etag"],
    )
    versions = (await subgraph.ask("pq_policy_versions_v1", tenantId=tenant))["data"]["coherencePolicyVersions"]
    score = (await subgraph.ask("pq_tenant_coherence_v3", tenantId=tenant))["data"]["tenantCoherence"]

    assert (before["etag"], before["seq"], before["windowSeconds"]) == ("default", 0, 86400)
    found = changed["updateCoherencePolicy"]
    assert {key: found[key] for key in policy} == policy
    latest = again["data"]["updateCoherencePolicy"]
    assert (latest["hysteresis"], latest["dwellSeconds"]) == (0, 3600)
    assert [version["policy"]["etag"] for version in versions["nodes"]] == [latest["etag"], found["etag"]]
    assert (score["policyEtag"], score["weightSum"]) == (latest["etag"], 7.5)


async def test_r20_graphql_says_what_grpc_says(subgraph: Running, tenant: str) -> None:
    await filled(subgraph, tenant)
    changed = await subgraph.ask(
        "pq_update_policy_v1", tenantId=tenant, policy={"sourceShareCap": 0.5, "hysteresis": 0.02}
    )
    etag = changed["data"]["updateCoherencePolicy"]["etag"]

    async with backbone(subgraph) as client:
        explained = await client.score.ExplainScore(score_pb2.ExplainScoreRequest(tenant_id=tenant))
        simulated = await client.score.SimulateScore(
            score_pb2.SimulateScoreRequest(tenant_id=tenant, policy=score_pb2.ScorePolicy(healthy_threshold=0.5))
        )
        policy = (await client.score.GetScorePolicy(score_pb2.GetScorePolicyRequest(tenant_id=tenant))).policy
    mine = await subgraph.ask("pq_explain_v2", tenantId=tenant)
    what_if = await subgraph.ask("pq_simulate_v1", tenantId=tenant, policy={"healthyThreshold": 0.5})
    listed = await eventually(
        lambda: subgraph.ask("pq_portfolio_v2", first=1000, filter={"tenantIdPrefix": tenant}, order="LAST_CHANGED"),
        lambda page: [row["policyEtag"] for row in page["data"]["coherencePortfolio"]["nodes"]] == [etag],
    )

    explanation = mine["data"]["tenantCoherence"]["explanation"]
    told = MessageToDict(explained, always_print_fields_with_no_presence=True)
    assert explanation["score"]["score"] == explained.score.score
    assert explanation["policy"]["etag"] == policy.etag == etag
    for part in ("sources", "types", "provenances"):
        assert [(g["name"], g["push"], g["deltaIfRemoved"], g["capped"]) for g in explanation[part]] == [
            (g["name"], g["push"], g.get("deltaIfRemoved"), g["capped"]) for g in told[part]
        ]
    assert [c["deltaIfRemoved"] for c in explanation["contributions"]] == [
        c.delta_if_removed for c in explained.contributions
    ]
    assert [rule["detail"] for rule in explanation["rules"]] == [rule.detail for rule in explained.rules]
    assert len(explanation["nextMoves"]) == len(explained.next_moves) > 0
    simulation = what_if["data"]["simulateCoherence"]
    assert simulation["actual"]["score"] == simulated.actual.score
    assert simulation["simulated"]["status"] == "HEALTHY"
    assert simulation["scoreDelta"] == simulated.score_delta
    (row,) = listed["data"]["coherencePortfolio"]["nodes"]
    assert (row["score"], row["heldStatus"], row["trend"]) == (explained.score.score, "WARN", None)


async def test_a_history_is_paged_and_cut_into_spans(subgraph: Running, tenant: str) -> None:
    await filled(subgraph, tenant)
    now = (await subgraph.ask("pq_tenant_coherence_v3", tenantId=tenant))["data"]["tenantCoherence"]["updatedAt"]

    first = await subgraph.ask(
        "pq_coherence_history_v1", tenantId=tenant, to=now, stepSeconds=21600, basis="RECOMPUTED", first=3
    )
    page = first["data"]["coherenceHistory"]
    second = await subgraph.ask(
        "pq_coherence_history_v1",
        tenantId=tenant,
        to=now,
        stepSeconds=21600,
        basis="RECOMPUTED",
        first=3,
        after=page["endCursor"],
    )
    rest = second["data"]["coherenceHistory"]
    async with backbone(subgraph) as client:
        request = score_pb2.ListScoreHistoryRequest(tenant_id=tenant, basis=score_pb2.HISTORY_BASIS_RECOMPUTED)
        request.end_time.FromJsonString(now)
        request.step.FromSeconds(21600)
        told = await client.score.ListScoreHistory(request)

    points = page["points"] + rest["points"]
    assert [point["score"] for point in points] == [p.score if p.HasField("score") else None for p in told.points]
    assert (points[0]["status"], points[-1]["status"]) == ("UNKNOWN", "WARN")
    assert page["spans"][0]["heldStatus"] == "UNKNOWN"
    assert (len(page["spans"]), page["statusChangeCount"]) == (len(told.spans), told.status_change_count)
    assert (rest["spans"], rest["hasNextPage"]) == ([], False)


async def test_a_signal_takes_the_place_of_another_when_asked(subgraph: Running, tenant: str) -> None:
    mine = an_input(tenant, signalId="s", ts="2013-02-08T12:00:00Z", tags={"retention": "unlimited"})

    said = [
        await subgraph.ask("pq_publish_signals_v2", inputs=[mine | {"value": value, "onConflict": "REPLACE"}])
        for value in (0.25, 0.75)
    ]
    one = await subgraph.ask("pq_publish_signal_v1", input=mine | {"value": 0.5, "onConflict": "REPLACE"})
    refused = await subgraph.ask("pq_publish_signal_v1", input=mine | {"value": 0.1})

    reports = [answer["data"]["publishCoherenceSignals"] for answer in said]
    assert [(report["storedCount"], report["replacedCount"]) for report in reports] == [(1, 0), (0, 1)]
    assert reports[1]["results"][0]["outcome"] == "REPLACED"
    assert one["data"]["publishCoherenceSignal"] is True
    assert code_of(refused) == "CONFLICT"


async def test_an_etag_that_is_not_the_current_one_changes_nothing_and_names_it(subgraph: Running, tenant: str) -> None:
    first = await subgraph.ask("pq_update_policy_v1", tenantId=tenant, policy={"hysteresis": 0.1}, etag="default")

    second = await subgraph.ask("pq_update_policy_v1", tenantId=tenant, policy={"hysteresis": 0.2}, etag="default")

    assert code_of(second) == "CONFLICT"
    extensions = second["errors"][0]["extensions"]
    assert extensions["reason"] == "ETAG_MISMATCH"
    assert first["data"]["updateCoherencePolicy"]["etag"] in second["errors"][0]["message"]


@pytest.mark.parametrize(
    ("policy", "path"),
    [
        ({"windowSeconds": 1}, "policy.windowSeconds"),
        ({"windowSeconds": 1e300}, "policy.windowSeconds"),
        ({"dwellSeconds": -1}, "policy.dwellSeconds"),
        ({"halfLifeSeconds": 1}, "policy.halfLifeSeconds"),
        ({"staleAfterSeconds": 90000}, "policy.staleAfterSeconds"),
        ({"healthyThreshold": 2}, "policy.healthyThreshold"),
        ({"warnThreshold": 0.9}, "policy.warnThreshold"),
        ({"hysteresis": 0.6}, "policy.hysteresis"),
        ({"minimumSignals": 0}, "policy.minimumSignals"),
        ({"minimumSignals": -1}, "policy.minimumSignals"),
        ({"sourceShareCap": 0.001}, "policy.sourceShareCap"),
        ({"vetoes": [{"type": "x", "below": 0, "capStatus": "WARN"}]}, "policy.vetoes[0].below"),
        ({"vetoes": [{"type": "x", "below": 1, "capStatus": "HEALTHY"}]}, "policy.vetoes[0].capStatus"),
        ({"typeWeights": [{"type": "x", "weight": 1}] * 2}, "policy.typeWeights[1].type"),
    ],
)
async def test_a_rule_that_makes_no_sense_is_named(
    subgraph: Running, tenant: str, policy: dict[str, object], path: str
) -> None:
    changed = await subgraph.ask("pq_update_policy_v1", tenantId=tenant, policy=policy)
    tried = await subgraph.ask("pq_simulate_v1", tenantId=tenant, policy=policy)

    for said in (changed, tried):
        assert code_of(said) == "BAD_USER_INPUT"
        assert names(said) == [path]


@pytest.mark.parametrize(
    ("operation", "variables", "path"),
    [
        ("pq_coherence_history_v1", {"stepSeconds": 0.5}, "stepSeconds"),
        ("pq_coherence_history_v1", {"basis": "GUESSED"}, "basis"),
        ("pq_coherence_history_v1", {"from": "2013-02-08T12:00:00Z", "to": "2013-02-08T11:00:00Z"}, "from"),
        ("pq_coherence_history_v1", {"to": "9999-01-01T00:00:00Z"}, "to"),
        ("pq_simulate_v1", {"lookbackSeconds": -1}, "lookbackSeconds"),
        ("pq_simulate_v1", {"signals": [{"source": "s", "type": "t", "value": 7}]}, "signals[0].value"),
        ("pq_tenant_coherence_v3", {"policyEtag": "default"}, "policyEtag"),
        ("pq_portfolio_v2", {"order": "UPSIDE_DOWN"}, "order"),
        ("pq_portfolio_v2", {"filter": {"heldStatuses": ["PINK"]}}, "filter.heldStatuses"),
    ],
)
async def test_what_is_asked_wrongly_is_named(
    subgraph: Running, tenant: str, operation: str, variables: dict[str, object], path: str
) -> None:
    if not operation.startswith("pq_portfolio"):
        variables = {"tenantId": tenant} | variables

    said = await subgraph.ask(operation, **variables)

    assert code_of(said) == "BAD_USER_INPUT"
    assert names(said) == [path]


async def test_a_version_that_never_was_is_not_found(subgraph: Running, tenant: str) -> None:
    said = await subgraph.ask("pq_policy_v1", tenantId=tenant, etag="1-00")

    assert code_of(said) == "NOT_FOUND"


async def test_a_recomputation_is_an_entry_that_the_next_read_has_seen(subgraph: Running, tenant: str) -> None:
    await filled(subgraph, tenant)

    said = await subgraph.ask("pq_recompute_v1", tenantId=tenant)
    score = (await subgraph.ask("pq_tenant_coherence_v3", tenantId=tenant))["data"]["tenantCoherence"]

    assert said["data"]["recomputeCoherence"] == 4
    assert (score["asOfSeq"], score["score"]) == (4, 0.6)

"""How many calls a read costs, and which revision it asks for."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

import pytest

from coherence.v1.signal_pb2 import Signal
from coherence_grpc.client import connect
from subgraph.backbone import Backbone, Caller
from subgraph.documents import Documents
from subgraph.engine import Engine
from subgraph.following import Followers
from subgraph.loading import ScoreBatcher
from subgraph.operation import Operation, Services
from subgraph.publishing import Submitted, Terms, publish
from subgraph.requests import Asked
from subgraph.revisions import REMEMBERED_MAX, Revisions
from subgraph.schema import build_schema

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from coherence.v1.score_pb2 import BatchGetScoresRequest, BatchGetScoresResponse
    from tests.subgraph.running import Running

pytestmark = pytest.mark.anyio

ENTITIES = "query($r:[_Any!]!){ _entities(representations:$r){ ... on Tenant { tenantId coherence { status } } } }"
SCORES = "query($t:[ID!]!){ tenantsCoherence(tenantIds:$t){ status } }"


class Counting(Backbone):
    """The real backbone, keeping the batches that were asked for."""

    def __init__(self, *given: Any) -> None:  # noqa: ANN401 - what a Backbone is made of
        super().__init__(*given)
        self.batches: list[tuple[BatchGetScoresRequest, Caller]] = []
        self.asked = asyncio.Event()

    async def batch_get_scores(self, request: BatchGetScoresRequest, caller: Caller) -> BatchGetScoresResponse:
        self.batches.append((request, caller))
        self.asked.set()
        return await super().batch_get_scores(request, caller)

    @property
    def sizes(self) -> list[int]:
        return [len(request.tenant_ids) for request, _ in self.batches]


class Counted:
    """Operations over a counted backbone."""

    def __init__(self, backbone: Counting, address: str) -> None:
        self.backbone = backbone
        self.services = Services(backbone, ScoreBatcher(backbone), Followers(address), Revisions())
        self._engine = Engine()
        self._documents = Documents(build_schema().core, (), introspection=False)

    async def ask(self, query: str, *, token: str = "", revision: str = "", **variables: object) -> Any:  # noqa: ANN401 - JSON
        chosen = self._documents.choose(Asked(query=query), free_text=True)
        operation = Operation(self.services, Caller("graphql", token), asked_revision=revision)
        answer = await self._engine.execute(chosen, variables, operation)
        return json.loads(json.dumps(answer.payload, default=list))

    async def write(self, *tenants: str, token: str = "") -> dict[str, str]:
        caller = Caller("graphql", token)
        signals = [
            Submitted(n, Signal(tenant_id=tenant, source="ci", type="build", value=0.5), Terms())
            for n, tenant in enumerate(tenants)
        ]
        report = await publish(self.backbone, caller, signals)
        for tenant_id, revision in report.revisions.items():
            self.services.revisions.wrote(caller, tenant_id, revision)
        return report.revisions


@pytest.fixture
async def counted(subgraph: Running) -> AsyncIterator[Counted]:
    async with connect(subgraph.grpc) as client:
        yield Counted(Counting(client), subgraph.grpc)


@pytest.mark.parametrize(("tenants", "sizes"), [(1, [1]), (100, [100]), (101, [100, 1]), (250, [100, 100, 50])])
async def test_ac_api_04_n_tenants_cost_a_call_for_each_hundred(
    counted: Counted, tenant: str, tenants: int, sizes: list[int]
) -> None:
    names = [f"{tenant}-{n}" for n in range(tenants)]

    entities = await counted.ask(ENTITIES, r=[{"__typename": "Tenant", "tenantId": name} for name in names * 2])
    assert counted.backbone.sizes == sizes
    scores = await counted.ask(SCORES, t=names)

    assert counted.backbone.sizes == sizes * 2
    assert [each["tenantId"] for each in entities["data"]["_entities"]] == names * 2
    assert len(scores["data"]["tenantsCoherence"]) == tenants


async def test_operations_of_one_token_share_a_call_and_those_of_another_do_not(counted: Counted, tenant: str) -> None:
    async with asyncio.TaskGroup() as tasks:
        for token, name in (("a", "1"), ("a", "2"), ("a", "1"), ("b", "1")):
            tasks.create_task(counted.ask(SCORES, token=token, t=[f"{tenant}-{name}"]))

    asked = {caller.authorization: list(request.tenant_ids) for request, caller in counted.backbone.batches}
    assert asked == {"a": [f"{tenant}-1", f"{tenant}-2"], "b": [f"{tenant}-1"]}


async def test_nothing_is_kept_from_one_operation_to_the_next(counted: Counted, tenant: str) -> None:
    for _ in range(2):
        await counted.ask(SCORES, t=[tenant])

    assert counted.backbone.sizes == [1, 1]


async def test_an_operation_that_is_given_up_leaves_the_answer_to_the_others(counted: Counted, tenant: str) -> None:
    given_up = asyncio.create_task(counted.ask(SCORES, t=[tenant]))
    kept = asyncio.create_task(counted.ask(SCORES, t=[tenant]))
    await counted.backbone.asked.wait()

    given_up.cancel()

    assert (await kept)["data"]["tenantsCoherence"][0]["status"] == "UNKNOWN"
    assert counted.backbone.sizes == [1]


async def test_a_read_asks_for_what_its_caller_wrote_and_nobody_elses(counted: Counted, tenant: str) -> None:
    revisions = await counted.write(tenant, token="")

    await counted.ask(SCORES, t=[tenant])
    await counted.ask(SCORES, token="", t=[f"{tenant}-other"])

    mine, other = (request.consistency for request, _ in counted.backbone.batches)
    assert mine.at_least_as_fresh.token == revisions[tenant]
    assert not other.WhichOneof("requirement")


async def test_a_read_of_several_written_tenants_asks_for_everything_in_one_call(counted: Counted, tenant: str) -> None:
    names = [f"{tenant}-{n}" for n in range(3)]
    await counted.write(*names)

    said = await counted.ask(SCORES, t=names)

    ((request, _),) = counted.backbone.batches
    assert request.consistency.WhichOneof("requirement") == "fully_consistent"
    assert said["extensions"]["coherence"]["revisions"].keys() == set(names)


async def test_a_revision_that_the_request_brings_is_asked_for_and_checked(counted: Counted, tenant: str) -> None:
    revision = (await counted.write(tenant))[tenant]

    taken = await counted.ask(SCORES, revision=revision, t=[tenant])
    foreign = await counted.ask(SCORES, revision=revision, t=[f"{tenant}-other"])

    assert taken["data"]["tenantsCoherence"] == [{"status": "WARN"}]
    assert foreign["errors"][0]["extensions"]["reason"] == "CURSOR_FOREIGN"


async def test_one_refused_tenant_does_not_sink_the_others(counted: Counted, tenant: str) -> None:
    said = await counted.ask(SCORES, t=[tenant, "Not A Tenant"])

    assert said["data"]["tenantsCoherence"] == [{"status": "UNKNOWN"}, None]
    (error,) = said["errors"]
    assert (error["path"], error["extensions"]["code"]) == (["tenantsCoherence", 1], "BAD_USER_INPUT")
    assert [field["path"] for field in error["extensions"]["fields"]] == ["tenantId"]


async def test_ac_api_04_a_bad_representation_is_an_error_of_its_place(counted: Counted, tenant: str) -> None:
    good = {"__typename": "Tenant", "tenantId": tenant, "undeclared": {"deep": [1]}}
    bad: list[object] = [
        {"__typename": "Tenant"},
        {"__typename": "Signal", "id": 1},
        {"tenantId": tenant},
        "words",
        {"__typename": "Tenant", "tenantId": [tenant]},
        {"__typename": "Tenant", "tenantId": "Not A Tenant"},
    ]

    said = await counted.ask(ENTITIES, r=[good, *bad, {"__typename": "Tenant", "tenantId": 7}])

    answers = said["data"]["_entities"]
    assert [answer and answer["tenantId"] for answer in answers] == [tenant, *[None] * len(bad), "7"]
    assert sorted(error["path"][1] for error in said["errors"]) == list(range(1, len(bad) + 1))
    assert {error["extensions"]["code"] for error in said["errors"]} == {"BAD_USER_INPUT"}


async def test_lists_have_a_limit(counted: Counted, tenant: str) -> None:
    many = [{"__typename": "Tenant", "tenantId": tenant}] * 1001

    for said in (await counted.ask(ENTITIES, r=many), await counted.ask(SCORES, t=[tenant] * 1001)):
        assert said["errors"][0]["extensions"]["code"] == "BAD_USER_INPUT"
    assert counted.backbone.batches == []


def test_remembered_writes_are_bounded() -> None:
    revisions, caller = Revisions(), Caller("graphql")
    for n in range(REMEMBERED_MAX + 1):
        revisions.wrote(caller, str(n), "token")

    assert revisions.last_written(caller, "0") == ""
    assert revisions.last_written(caller, "1") == "token"

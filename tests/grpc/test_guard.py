"""What is around every call: errors, deadlines, policy, limits."""

from __future__ import annotations

import asyncio
import logging
from base64 import b64encode
from itertools import pairwise
from typing import TYPE_CHECKING
from urllib.parse import quote

import grpc.aio
import pytest
from grpc_health.v1.health_pb2 import HealthCheckRequest, HealthCheckResponse

from coherence.v1 import errors_pb2, ingest_pb2, meta_pb2, score_pb2
from coherence.v1.admin_pb2 import PruneRequest
from coherence.v1.events_pb2 import GetCursorRequest
from coherence.v1.ingest_pb2_grpc import IngestServiceStub
from coherence.v1.score_pb2_grpc import ScoreServiceStub
from coherence_grpc import errors
from coherence_grpc.adapters.local import CarriedGrants
from coherence_grpc.app import backbone
from coherence_grpc.client import refusal_of_status
from coherence_grpc.convert.refusals import ANSWERS, MAX_FIELDS, MAX_MESSAGE, cut, status_of
from coherence_grpc.errors import CoherenceError, FieldError, PolicyDenied, ScopeMissing
from coherence_grpc.ingest import Ingest
from coherence_grpc.interceptors import connections, deadline, methods
from coherence_grpc.interceptors.connections import Connections
from coherence_grpc.materialize import Scores
from tests.builders import TENANT, a_caller
from tests.grpc.running import a_signal, raw, refused, unaware, world

if TYPE_CHECKING:
    from pathlib import Path

    from tests.grpc.running import World

pytestmark = pytest.mark.anyio

AT_START_ONLY = {errors.SettingsInvalid, errors.DataRefused}


def leaves(error: type[CoherenceError] = CoherenceError) -> set[type[CoherenceError]]:
    below = set(error.__subclasses__())
    return below.union(*map(leaves, below))


def test_every_error_has_its_status_and_a_reason_that_the_contract_knows() -> None:
    known = {name.removeprefix("ERROR_REASON_") for name in errors_pb2.ErrorReason.keys()}  # noqa: SIM118 - not a dict

    assert leaves() - AT_START_ONLY == set(ANSWERS)
    assert {error.reason for error in ANSWERS} <= known


@pytest.mark.parametrize("error", ANSWERS, ids=lambda error: error.__name__)
async def test_an_error_reaches_the_caller_with_reason_metadata_and_both_retry_hints(
    served: World, monkeypatch: pytest.MonkeyPatch, error: type[CoherenceError]
) -> None:
    async def fail(*_: object, **__: object) -> None:
        message = "what is wrong and what to do"
        raise error(message, metadata={"key": "value"})

    monkeypatch.setattr(Scores, "get", fail)
    async with unaware(served.client) as channel:
        call = ScoreServiceStub(channel).GetScore(score_pb2.GetScoreRequest(tenant_id=TENANT))
        refusal = await refused(call)
        trailing = dict(await call.trailing_metadata())

    answer = ANSWERS[error]
    assert (refusal.code, refusal.reason) == (answer.code.name, error.reason)
    assert refusal.message == "what is wrong and what to do"
    assert refusal.metadata["key"] == "value"
    assert refusal.retry_after_s == answer.retry_after_s
    hint = trailing.get("grpc-retry-pushback-ms")
    assert hint == (None if answer.retry_after_s is None else str(round(answer.retry_after_s * 1000)))


async def test_a_lost_commit_says_that_its_outcome_is_unknown(served: World, monkeypatch: pytest.MonkeyPatch) -> None:
    async def lose(*_: object, **__: object) -> None:
        message = "the store was lost after the commit was sent"
        raise errors.OutcomeUnknown(message)

    monkeypatch.setattr(Ingest, "publish", lose)
    request = ingest_pb2.PublishSignalRequest(signal=a_signal(tenant_id=TENANT))
    async with unaware(served.client) as channel:
        refusal = await refused(IngestServiceStub(channel).PublishSignal(request))

    assert (refusal.code, refusal.metadata["outcome"]) == ("UNAVAILABLE", "unknown")


async def test_a_read_is_tried_again_after_the_hint_and_not_before(
    served: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried: list[float] = []
    get = Scores.get

    async def recover(self: Scores, *args: object, **options: object) -> object:
        tried.append(asyncio.get_running_loop().time())
        if len(tried) < 3:
            message = "the store can't be reached"
            raise errors.StoreDown(message, retry_after_s=0.3)
        return await get(self, *args, **options)  # type: ignore[arg-type]  # passed on

    monkeypatch.setattr(Scores, "get", recover)
    score = await served.score()

    assert score.status == score_pb2.STATUS_UNKNOWN
    assert all(later - earlier >= 0.29 for earlier, later in pairwise(tried))


async def test_a_fault_of_ours_shows_an_id_that_the_log_has_and_nothing_else(
    served: World, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def break_down(*_: object, **__: object) -> None:
        message = "dsn=postgres://secret"
        raise ValueError(message)

    monkeypatch.setattr(Scores, "get", break_down)
    refusal = await refused(served.score())

    assert (refusal.code, refusal.reason) == ("INTERNAL", "INTERNAL")
    assert "secret" not in refusal.message
    (record,) = [r for r in caplog.records if r.message == "internal error"]
    assert record.__dict__["fields"]["error_id"] == refusal.metadata["error_id"]
    assert "secret" in str(record.exc_info)


def test_the_details_of_an_error_fit_in_the_metadata_that_peers_accept() -> None:
    wrong = [FieldError(f"signals[{n}].{'x' * 200}", "é" * 500) for n in range(1000)]

    status = status_of(errors.SignalInvalid("é" * 10_000, fields=wrong, metadata={"key": "é" * 5000}))

    sent = len(b64encode(status.SerializeToString())) + len(quote(cut("é" * 10_000, MAX_MESSAGE)))
    assert sent < 8192
    assert len(refusal_of_status(status).fields) == MAX_FIELDS


async def test_a_method_without_a_policy_entry_is_denied_to_everyone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delitem(methods.METHODS, "/coherence.v1.ScoreService/GetScore")
    async with world(tmp_path) as served:
        refusal = await refused(served.score())

    assert (refusal.code, refusal.reason) == ("PERMISSION_DENIED", "POLICY_DENIED")


async def test_carried_grants_ask_for_the_scope_first_and_then_for_the_tenant() -> None:
    grants = CarriedGrants()
    reader = a_caller(scopes=["coherence:read"], tenants=["mine"])

    await grants.decide(reader, "coherence:read", "mine")
    await grants.decide(reader, "coherence:read", None)
    for scope, tenant_id, expected in (
        ("coherence:write", "mine", ScopeMissing),
        ("coherence:read", "yours", PolicyDenied),
    ):
        with pytest.raises(expected):
            await grants.decide(reader, scope, tenant_id)
    assert await grants.visible_tenants(reader) == frozenset({"mine"})
    assert await grants.visible_tenants(a_caller()) is None


async def test_a_restricted_caller_is_refused_per_item_and_sees_its_own_tenants_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    restricted = a_caller(scopes=["coherence:read", "coherence:write"], tenants=["mine"])
    monkeypatch.setattr(backbone, "local", lambda _: restricted)
    async with world(tmp_path) as served:
        stored = await served.publish(a_signal(), tenant_id="mine")
        denied = await refused(served.publish(a_signal(), tenant_id="yours"))
        missing = await refused(served.client.events.GetCursor(GetCursorRequest(tenant_id="mine")))
        batch = await served.client.score.BatchGetScores(score_pb2.BatchGetScoresRequest(tenant_ids=["mine", "yours"]))
        info = await served.client.meta.GetServerInfo(meta_pb2.GetServerInfoRequest())

    assert stored == ["STORED"]
    assert (denied.code, denied.reason) == ("PERMISSION_DENIED", "POLICY_DENIED")
    assert (missing.code, missing.reason) == ("PERMISSION_DENIED", "SCOPE_MISSING")
    assert [refusal_of_status(item.error).reason for item in batch.results] == ["", "POLICY_DENIED"]
    assert info.tenant_count == 1


async def test_pruning_all_tenants_takes_a_caller_who_may_see_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    restricted = a_caller(scopes=["coherence:admin"], tenants=["mine"])
    monkeypatch.setattr(backbone, "local", lambda _: restricted)
    async with world(tmp_path) as served:
        everywhere = await refused(anext(aiter(served.client.admin.Prune(PruneRequest()))))
        at_home = [frame async for frame in served.client.admin.Prune(PruneRequest(tenant_id="mine"))]

    assert (everywhere.code, everywhere.reason) == ("PERMISSION_DENIED", "POLICY_DENIED")
    assert at_home[-1].done


async def test_a_full_pool_refuses_with_a_retry_hint_and_health_still_answers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(methods.POOLS, "score", 1)
    entered, leave = asyncio.Event(), asyncio.Event()
    get = Scores.get

    async def slowly(self: Scores, *args: object, **options: object) -> object:
        entered.set()
        await leave.wait()
        return await get(self, *args, **options)  # type: ignore[arg-type]  # passed on

    async with world(tmp_path) as served:
        monkeypatch.setattr(Scores, "get", slowly)
        first = asyncio.create_task(served.score())
        await entered.wait()
        second = await refused(served.score("other"))
        health = await served.client.health.Check(HealthCheckRequest())
        leave.set()
        await first

    assert (second.code, second.reason) == ("RESOURCE_EXHAUSTED", "CONCURRENCY")
    assert second.retry_after_s is not None
    assert health.status == HealthCheckResponse.SERVING


async def test_a_call_without_a_deadline_ends_by_itself(served: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(deadline, "DEFAULT_S", 0.1)
    monkeypatch.setattr(Scores, "get", lambda *_, **__: asyncio.Event().wait())

    request = score_pb2.GetScoreRequest(tenant_id=TENANT).SerializeToString()
    refusal = await refused(raw(served, "ScoreService/GetScore")(request))

    assert (refusal.code, refusal.reason) == ("DEADLINE_EXCEEDED", "STORE_TIMEOUT")
    assert refusal.retry_after_s is not None


async def test_a_long_deadline_is_capped(served: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(deadline, "CAP_S", 0.1)
    monkeypatch.setattr(Scores, "get", lambda *_, **__: asyncio.Event().wait())

    request = score_pb2.GetScoreRequest(tenant_id=TENANT).SerializeToString()
    refusal = await refused(raw(served, "ScoreService/GetScore")(request, timeout=3600))

    assert (refusal.code, refusal.reason) == ("DEADLINE_EXCEEDED", "STORE_TIMEOUT")


async def test_stores_are_told_how_long_the_caller_still_waits(served: World, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[float] = []
    get = Scores.get

    async def listening(self: Scores, *args: object, timeout_s: float, **options: object) -> object:
        told.append(timeout_s)
        return await get(self, *args, timeout_s=timeout_s, **options)  # type: ignore[arg-type]  # passed on

    monkeypatch.setattr(Scores, "get", listening)
    request = score_pb2.GetScoreRequest(tenant_id=TENANT)
    await served.client.score.GetScore(request, timeout=1.5)

    assert 1.0 < told[0] <= 1.48


async def test_refused_calls_are_logged_with_their_reason(served: World, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, logger="coherence_grpc")
    await served.score()

    await refused(served.score("No!"))

    # Other backbones of this process are called meanwhile.
    noted = [(r.message, r.__dict__["fields"]) for r in caplog.records if "fields" in r.__dict__]
    lines = [(message, fields) for message, fields in noted if fields["method"].endswith("/GetScore")]
    assert [message for message, _ in lines] == ["call", "call refused"]
    assert (lines[1][1]["reason"], lines[1][1]["principal"]) == ("FILTER_INVALID", "local")


def test_a_connection_is_remembered_until_its_address_must_be_another_ones() -> None:
    seen = Connections()

    assert seen.seen("a", 100.0) == 100.0
    assert seen.seen("a", 400.0) == 100.0
    assert seen.seen("a", 461.0) == 461.0


def test_addresses_that_are_long_gone_are_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "_MANY", 3)
    seen = Connections()
    for number in range(3):
        seen.seen(f"old-{number}", 0.0)

    seen.seen("new", 1000.0)

    assert len(seen._first_seen) == 1


async def test_a_cancelled_call_is_cancelled_and_not_refused(served: World, monkeypatch: pytest.MonkeyPatch) -> None:
    entered, ended = asyncio.Event(), asyncio.Event()

    async def wait(*_: object, **__: object) -> None:
        entered.set()
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    monkeypatch.setattr(Scores, "get", wait)
    call = served.client.score.GetScore(score_pb2.GetScoreRequest(tenant_id=TENANT))
    async with asyncio.timeout(10):
        await entered.wait()
        call.cancel()
        await ended.wait()

    assert await call.code() is grpc.StatusCode.CANCELLED

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from coherence.v1 import ingest_pb2 as pb
from coherence.v1 import signal_pb2
from coherence_grpc.client import connect
from coherence_grpc.convert.instants import microseconds, timestamp
from coherence_grpc.model import DAY, SECOND
from tests.builders import NOON, TENANT
from tests.grpc.running import a_signal, refused, world

if TYPE_CHECKING:
    from pathlib import Path

    from tests.grpc.running import World

pytestmark = pytest.mark.anyio

TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


def one(signal: signal_pb2.Signal, **options: object) -> pb.PublishSignalRequest:
    signal.tenant_id = signal.tenant_id or TENANT
    return pb.PublishSignalRequest(signal=signal, **options)  # type: ignore[arg-type]  # fields by name


async def test_a_new_signal_is_stored_under_its_complete_key(served: World) -> None:
    reply = await served.client.ingest.PublishSignal(one(a_signal(signal_id="a")))

    assert (reply.outcome, reply.seq) == (pb.OUTCOME_STORED, 1)
    assert (reply.key.tenant_id, reply.key.source, reply.key.signal_id) == (TENANT, "ci", "a")
    assert microseconds(reply.key.ts) == NOON
    assert reply.provenance_id
    assert reply.revision.token


async def test_ac_ing_03_the_same_key_with_the_same_payload_names_the_first_entry(served: World) -> None:
    signal = a_signal(signal_id="a", ts=NOON)
    first = await served.client.ingest.PublishSignal(one(signal))

    again = await served.client.ingest.PublishSignal(one(signal))

    assert again.outcome == pb.OUTCOME_DUPLICATE
    assert (again.seq, again.provenance_id) == (first.seq, first.provenance_id)


async def test_ac_ing_03_the_same_key_with_another_payload_is_a_conflict_and_changes_nothing(served: World) -> None:
    await served.publish(a_signal(signal_id="a", ts=NOON, value=0.2))

    refusal = await refused(served.client.ingest.PublishSignal(one(a_signal(signal_id="a", ts=NOON, value=0.9))))

    assert (refusal.code, refusal.reason) == ("ALREADY_EXISTS", "SIGNAL_KEY_CONFLICT")
    assert (await served.score()).score == 0.2


async def test_ac_ing_03_of_50_callers_at_once_one_stores_and_all_name_its_entry(served: World) -> None:
    signal = a_signal(signal_id="a", ts=NOON)

    async with asyncio.TaskGroup() as callers:
        calls = [callers.create_task(call(served, signal)) for _ in range(50)]

    replies = [call.result() for call in calls]
    assert sorted(reply.outcome for reply in replies) == [pb.OUTCOME_STORED] + [pb.OUTCOME_DUPLICATE] * 49
    assert len({(reply.seq, reply.provenance_id) for reply in replies}) == 1


async def call(served: World, signal: signal_pb2.Signal) -> pb.PublishSignalResponse:
    return await served.client.ingest.PublishSignal(one(signal))


async def test_the_same_signal_id_in_two_tenants_is_two_signals(served: World) -> None:
    mine = await served.publish(a_signal(signal_id="a", ts=NOON), tenant_id="mine")
    yours = await served.publish(a_signal(signal_id="a", ts=NOON), tenant_id="yours")

    assert (mine, yours) == (["STORED"], ["STORED"])


async def test_r5_a_retry_without_ts_under_its_request_id_stores_nothing_twice(served: World) -> None:
    request = one(a_signal(signal_id=""), request_id="r-1")
    first = await served.client.ingest.PublishSignal(request)
    served.clock.advance(5 * SECOND)

    again = await served.client.ingest.PublishSignal(request)

    assert again.outcome == pb.OUTCOME_DUPLICATE
    assert (again.key, again.seq) == (first.key, first.seq)


async def test_a_request_id_used_for_something_else_is_refused(served: World) -> None:
    await served.client.ingest.PublishSignal(one(a_signal(signal_id="a"), request_id="r-1"))

    refusal = await refused(served.client.ingest.PublishSignal(one(a_signal(signal_id="b"), request_id="r-1")))

    assert (refusal.code, refusal.reason) == ("ALREADY_EXISTS", "REQUEST_ID_REUSED")


async def test_in_a_batch_a_bad_item_is_refused_by_itself(served: World) -> None:
    signals = [a_signal(), a_signal(value=1.1), a_signal()]

    reply = await served.client.ingest.PublishSignals(pb.PublishSignalsRequest(tenant_id=TENANT, signals=signals))

    assert (reply.stored_count, reply.duplicate_count, reply.refused_count) == (2, 0, 1)
    assert [result.index for result in reply.results] == [0, 1, 2]
    assert [result.seq for result in reply.results] == [1, 0, 2]
    assert "signals[1].value" in reply.results[1].error.message


async def test_r12_a_batch_tells_the_keys_that_the_server_filled_in_and_only_those(served: World) -> None:
    signals = [a_signal(signal_id="a", ts=NOON), a_signal(signal_id="", ts=NOON), a_signal(signal_id="c")]

    reply = await served.client.ingest.PublishSignals(pb.PublishSignalsRequest(tenant_id=TENANT, signals=signals))

    assert [result.HasField("key") for result in reply.results] == [False, True, True]
    assert len(reply.results[1].key.signal_id) > 8
    assert reply.results[2].key.signal_id == "c"


async def test_an_item_of_another_tenant_is_refused_by_itself(served: World) -> None:
    outcomes = await served.publish(a_signal(tenant_id="other"), a_signal(tenant_id=TENANT), a_signal())

    assert outcomes == ["SIGNAL_INVALID", "STORED", "STORED"]


async def test_validate_only_answers_as_if_stored_and_writes_nothing(served: World) -> None:
    reply = await served.client.ingest.PublishSignal(one(a_signal(), validate_only=True))

    assert (reply.outcome, reply.seq) == (pb.OUTCOME_STORED, 0)
    assert (await served.score()).signal_count == 0


async def test_ac_ing_02_provenance_keeps_who_published_what_how_and_why(served: World) -> None:
    metadata = (("x-coherence-transport", "graphql"), ("traceparent", TRACE))
    tags = signal_pb2.Tags(purpose=signal_pb2.PURPOSE_DEMO, retention=signal_pb2.RETENTION_LONG_1825D)
    request = one(a_signal(), request_id="r-1", tags=tags, backfill=True)
    published = await served.client.ingest.PublishSignal(request, metadata=metadata)

    reply = await served.client.ingest.GetProvenance(
        pb.GetProvenanceRequest(tenant_id=TENANT, provenance_id=published.provenance_id)
    )

    record = reply.provenance
    assert (record.principal, record.transport, record.traceparent) == ("local", "graphql", TRACE)
    assert (record.request_id, record.backfill) == ("r-1", True)
    assert (record.tags.purpose, record.tags.retention) == (signal_pb2.PURPOSE_DEMO, signal_pb2.RETENTION_LONG_1825D)
    assert (record.tags.license, record.tags.residency) == (signal_pb2.LICENSE_RESTRICTED_TOS, signal_pb2.RESIDENCY_US)
    assert [link.seq for link in reply.links] == [1]


@pytest.mark.parametrize("claimed", ["system", "kafka", "HTTP"])
async def test_a_transport_that_nobody_may_claim_is_recorded_as_grpc(served: World, claimed: str) -> None:
    metadata = (("x-coherence-transport", claimed), ("traceparent", "not a trace"))
    published = await served.client.ingest.PublishSignal(one(a_signal()), metadata=metadata)

    reply = await served.client.ingest.GetProvenance(
        pb.GetProvenanceRequest(tenant_id=TENANT, provenance_id=published.provenance_id)
    )

    assert (reply.provenance.transport, reply.provenance.traceparent) == ("grpc", "")


async def test_the_ledger_of_what_was_published_verifies(served: World) -> None:
    await served.publish(a_signal(), a_signal(), a_signal())

    whole = await served.client.ingest.VerifyLedger(pb.VerifyLedgerRequest(tenant_id=TENANT))
    witnessed = await served.client.ingest.VerifyLedger(
        pb.VerifyLedgerRequest(tenant_id=TENANT, from_seq=2, expected_head_hash=b"\x01" * 32)
    )

    assert (whole.valid, whole.checked_count, whole.complete, whole.head_seq) == (True, 3, True, 3)
    assert (witnessed.valid, witnessed.first_bad_seq) == (False, 2)


async def test_a_stored_signal_is_read_back_as_it_was_normalised(served: World) -> None:
    stored = await served.client.ingest.PublishSignal(one(a_signal(value=0.1234567891, weight=None, ts=NOON)))

    reply = await served.client.ingest.GetSignal(pb.GetSignalRequest(key=stored.key))

    signal = reply.signal.signal
    assert (signal.value, signal.weight, microseconds(signal.ts)) == (0.123456789, 1.0, NOON)
    assert (reply.signal.seq, reply.signal.provenance_id) == (stored.seq, stored.provenance_id)
    assert reply.revision.token


async def test_listed_signals_come_newest_first_page_by_page(served: World) -> None:
    await served.publish(*(a_signal(signal_id=f"s{n}", ts=NOON - n * SECOND) for n in range(5)))

    seen, token = [], ""
    for size in (2, 2, 2):
        page = await served.client.ingest.ListSignals(
            pb.ListSignalsRequest(tenant_id=TENANT, page_size=size, page_token=token)
        )
        seen += [stored.signal.signal_id for stored in page.signals]
        token = page.next_page_token

    assert seen == ["s0", "s1", "s2", "s3", "s4"]
    assert not token


async def test_a_page_token_of_another_request_is_refused(served: World) -> None:
    await served.publish(a_signal(), a_signal())
    page = await served.client.ingest.ListSignals(pb.ListSignalsRequest(tenant_id=TENANT, page_size=1))

    narrowed = pb.ListSignalsRequest(
        tenant_id=TENANT, page_token=page.next_page_token, filter=pb.SignalFilter(sources=["ci"])
    )
    refusal = await refused(served.client.ingest.ListSignals(narrowed))

    assert (refusal.code, refusal.reason) == ("INVALID_ARGUMENT", "PAGE_TOKEN_INVALID")


async def test_listed_signals_are_narrowed_by_source_type_and_time(served: World) -> None:
    await served.publish(
        a_signal(signal_id="a", ts=NOON),
        a_signal(signal_id="b", ts=NOON, source="other"),
        a_signal(signal_id="c", ts=NOON, type="other"),
        a_signal(signal_id="d", ts=NOON - DAY),
    )

    narrow = pb.SignalFilter(sources=["ci"], types=["build"], start_time=timestamp(NOON), end_time=timestamp(NOON))
    page = await served.client.ingest.ListSignals(pb.ListSignalsRequest(tenant_id=TENANT, filter=narrow))

    assert [stored.signal.signal_id for stored in page.signals] == ["a"]


async def test_unlimited_retention_is_refused_where_it_is_not_allowed(tmp_path: Path) -> None:
    tags = signal_pb2.Tags(retention=signal_pb2.RETENTION_UNLIMITED)
    async with world(tmp_path, allow_unlimited="false") as served:
        refusal = await refused(served.client.ingest.PublishSignal(one(a_signal(), tags=tags)))

    assert (refusal.code, refusal.reason) == ("INVALID_ARGUMENT", "SIGNAL_INVALID")
    assert [path for path, _ in refusal.fields] == ["tags.retention"]


async def test_a_publish_without_request_id_gets_one_from_the_client(served: World) -> None:
    request = one(a_signal())
    async with connect(served.backbone.grpc_address, transport="import") as client:
        published = await client.ingest.PublishSignal(request)

    reply = await served.client.ingest.GetProvenance(
        pb.GetProvenanceRequest(tenant_id=TENANT, provenance_id=published.provenance_id)
    )
    assert len(reply.provenance.request_id) == 32
    assert reply.provenance.transport == "import"
    assert not request.request_id

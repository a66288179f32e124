"""R17: what is malformed as a whole, over gRPC."""

from __future__ import annotations

from operator import attrgetter
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import grpc.aio
import pytest
from google.protobuf.duration_pb2 import Duration

from coherence.v1.events_pb2 import EventFilter, PullEventsRequest, Start, SubscribeRequest
from coherence.v1.ingest_pb2 import (
    OUTCOME_STORED,
    GetProvenanceRequest,
    GetSignalRequest,
    ListSignalsRequest,
    PublishSignalRequest,
    VerifyLedgerRequest,
)
from coherence.v1.score_pb2 import (
    BatchGetScoresRequest,
    Consistency,
    ExplainScoreRequest,
    GetScoreRequest,
    ListScoresRequest,
    WatchScoreRequest,
)
from coherence.v1.signal_pb2 import Revision, SignalKey, Tags
from coherence_grpc.client import Refusal, refusal_of, refusal_of_status
from tests.e2e.reading import all_signals, entry_count, timestamp
from tests.e2e.rows import a_row, batch_of, publish_of

if TYPE_CHECKING:
    from google.protobuf.message import Message

    from coherence_grpc.client import Client

pytestmark = pytest.mark.anyio

SERVICE: Final = "/coherence.v1.IngestService/"
MIB: Final = 1 << 20
GARBAGE: Final = [b"\xff" * 40, b"\x0a\xff\xff\xff\xff\x0f", b"\x0a\x05abc", b"\x0a\x03\xff\xfe\xfd", b"\x07"]


@pytest.mark.parametrize("garbage", GARBAGE, ids=[str(n) for n in range(len(GARBAGE))])
@pytest.mark.parametrize("method", ["PublishSignal", "PublishSignals", "ListSignals"])
async def test_r17_undecodable_bytes_are_an_invalid_argument(client: Client, method: str, garbage: bytes) -> None:
    refusal = await _raw(client, SERVICE + method, garbage)

    assert refusal.code == "INVALID_ARGUMENT"
    assert refusal.reason in {"SIGNAL_INVALID", "FILTER_INVALID"}
    assert refusal.message


@pytest.mark.parametrize("method", ["PublishSignal", "PublishSignals"])
async def test_r17_a_message_of_5_mb_is_too_large(client: Client, tenant: str, method: str) -> None:
    before = await entry_count(client)

    refusal = await _raw(client, SERVICE + method, b"\x0a" + _varint(5 * MIB) + b"x" * (5 * MIB))

    assert (refusal.code, refusal.reason) == ("RESOURCE_EXHAUSTED", "MESSAGE_TOO_LARGE")
    assert await entry_count(client) == before


async def test_r17_a_batch_beyond_its_bytes_is_too_large(client: Client, tenant: str) -> None:
    rows = [a_row(tenant, source="é" * 1000) for _ in range(1000)]

    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await client.ingest.PublishSignals(batch_of(rows, tenant))

    refusal = refusal_of(caught.value)
    assert (refusal.code, refusal.reason) == ("RESOURCE_EXHAUSTED", "MESSAGE_TOO_LARGE")
    assert "smaller" in refusal.message
    assert not await all_signals(client, tenant)


@pytest.mark.parametrize("size", [0, 1001])
async def test_r17_a_batch_of_none_or_1001_is_refused_whole(client: Client, tenant: str, size: int) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await client.ingest.PublishSignals(batch_of([a_row(tenant) for _ in range(size)], tenant))

    refusal = refusal_of(caught.value)
    assert (refusal.code, refusal.reason) == ("INVALID_ARGUMENT", "SIGNAL_INVALID")
    assert "signals" in {field.path for field in refusal.fields}
    assert "1000" in refusal.message or size == 0
    assert not await all_signals(client, tenant)


async def test_r17_one_bad_item_is_named_by_index_and_field_and_the_others_are_stored(
    client: Client, tenant: str
) -> None:
    rows = [a_row(tenant, value=7.0 if n in {3, 997} else 0.5) for n in range(1000)]

    reply = await client.ingest.PublishSignals(batch_of(rows, tenant))

    assert (reply.stored_count, reply.refused_count) == (998, 2)
    assert [result.index for result in reply.results] == list(range(1000))
    for index in (3, 997):
        refusal = refusal_of_status(reply.results[index].error)
        assert (refusal.code, refusal.reason) == ("INVALID_ARGUMENT", "SIGNAL_INVALID")
        assert [field.path for field in refusal.fields] == [f"signals[{index}].value"]
    assert {r.outcome for r in reply.results if r.index not in {3, 997}} == {OUTCOME_STORED}
    assert len(await all_signals(client, tenant)) == 998


async def test_r17_an_item_of_another_tenant_is_refused_by_itself(client: Client, tenant: str) -> None:
    reply = await client.ingest.PublishSignals(batch_of([a_row(tenant), a_row("other")], tenant))

    refusal = refusal_of_status(reply.results[1].error)
    assert refusal.code == "INVALID_ARGUMENT"
    assert [field.path for field in refusal.fields] == ["signals[1].tenant_id"]
    assert reply.stored_count == 1


async def test_r17_a_publish_without_signal_or_with_bad_options_is_refused(client: Client, tenant: str) -> None:
    unknown_tag = publish_of(a_row(tenant))
    unknown_tag.tags.CopyFrom(Tags(retention=77))  # type: ignore[arg-type]  # a number that the enum lacks
    bad = {
        "signal": PublishSignalRequest(),
        "request_id": publish_of(a_row(tenant), "r" * 10_000),
        "tags.retention": unknown_tag,
    }

    for field, request in bad.items():
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await client.ingest.PublishSignal(request)
        refusal = refusal_of(caught.value)
        assert (refusal.code, refusal.reason) == ("INVALID_ARGUMENT", "SIGNAL_INVALID")
        assert field in {path for path, _ in refusal.fields}
    assert not await all_signals(client, tenant)


class BadRead(NamedTuple):
    """A read that can't be answered, and the field and reason of its refusal."""

    method: str
    request: Message
    field: str
    reason: str = "FILTER_INVALID"


NOT_OURS: Final = "AAAA"
FAR: Final = timestamp(253_402_300_000 * 10**6)
ODD_KEY: Final = SignalKey(tenant_id="acme", source="ci", signal_id="a\x00", ts=timestamp(0))
UNSEEN: Final = Consistency(at_least_as_fresh=Revision(token=NOT_OURS))
BAD_READS: Final = [
    BadRead("score.GetScore", GetScoreRequest(), "tenant_id"),
    BadRead("score.GetScore", GetScoreRequest(tenant_id="A B"), "tenant_id"),
    BadRead("score.GetScore", GetScoreRequest(tenant_id="acme", as_of_time=FAR), "as_of_time"),
    BadRead("score.GetScore", GetScoreRequest(tenant_id="acme", consistency=UNSEEN), "", "CURSOR_FOREIGN"),
    BadRead("score.BatchGetScores", BatchGetScoresRequest(), "tenant_ids"),
    BadRead("score.BatchGetScores", BatchGetScoresRequest(tenant_ids=["acme"] * 101), "tenant_ids"),
    BadRead("score.ListScores", ListScoresRequest(page_size=1001), "page_size"),
    BadRead("score.ListScores", ListScoresRequest(page_token=NOT_OURS), "", "PAGE_TOKEN_INVALID"),
    BadRead("score.ExplainScore", ExplainScoreRequest(tenant_id="acme", top_n=-1), "top_n"),
    BadRead("score.WatchScore", WatchScoreRequest(), "tenant_ids"),
    BadRead("ingest.ListSignals", ListSignalsRequest(tenant_id="acme", page_size=-1), "page_size"),
    BadRead("ingest.ListSignals", ListSignalsRequest(tenant_id="acme", page_token=NOT_OURS), "", "PAGE_TOKEN_INVALID"),
    BadRead("ingest.GetSignal", GetSignalRequest(key=ODD_KEY), "key.signal_id"),
    BadRead("ingest.GetProvenance", GetProvenanceRequest(tenant_id="acme"), "provenance_id"),
    BadRead(
        "ingest.VerifyLedger", VerifyLedgerRequest(tenant_id="acme", expected_head_hash=b"x" * 33), "expected_head_hash"
    ),
    BadRead(
        "events.Subscribe",
        SubscribeRequest(tenant_id="acme", heartbeat_interval=Duration(nanos=1)),
        "heartbeat_interval",
    ),
    BadRead("events.PullEvents", PullEventsRequest(tenant_id="acme", start=Start(cursor="x" * 513)), "start.cursor"),
    BadRead(
        "events.PullEvents", PullEventsRequest(tenant_id="acme", filter=EventFilter(min_value=2.0)), "filter.min_value"
    ),
]


@pytest.mark.parametrize("bad", BAD_READS, ids=[f"{n}-{bad.method}" for n, bad in enumerate(BAD_READS)])
async def test_r17_a_read_that_can_not_be_answered_says_why(client: Client, bad: BadRead) -> None:
    call = attrgetter(bad.method)(client)(bad.request)

    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await (call.read() if isinstance(call, grpc.aio.UnaryStreamCall) else call)

    refusal = refusal_of(caught.value)
    assert (refusal.code, refusal.reason) == ("INVALID_ARGUMENT", bad.reason)
    assert not bad.field or bad.field in {path for path, _ in refusal.fields}
    assert refusal.message


async def _raw(client: Client, path: str, request: bytes) -> Refusal:
    """How the server refuses these bytes."""
    unary: Any = client.channel.unary_unary(path)  # bytes in, bytes out
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await unary(request, timeout=20)
    return refusal_of(caught.value)


def _varint(number: int) -> bytes:
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*out, number])

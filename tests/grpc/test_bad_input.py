"""What is malformed gets its code, a reason, the field and a remedy; nothing of it is stored."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import grpc
import pytest

from coherence.v1 import events_pb2, ingest_pb2, score_pb2, signal_pb2
from coherence_grpc.client import refusal_of_status
from coherence_grpc.convert.refusals import MAX_FIELDS
from coherence_grpc.model import DAY, SECOND
from tests.builders import NOON, fresh
from tests.grpc.running import a_signal, raw, raw_stream, refused

if TYPE_CHECKING:
    from google.protobuf.message import Message

    from tests.grpc.running import World

pytestmark = pytest.mark.anyio

YEAR_9999 = 253_402_300_799 * SECOND
YEAR_1960 = -315_619_200 * SECOND
LONG = "x" * 10_000

BAD_SIGNALS = {
    "no value": ("value", a_signal(value=None)),
    "value nan": ("value", a_signal(value=math.nan)),
    "value inf": ("value", a_signal(value=math.inf)),
    "value -inf": ("value", a_signal(value=-math.inf)),
    "value -0.1": ("value", a_signal(value=-0.1)),
    "value 1.1": ("value", a_signal(value=1.1)),
    "weight -1": ("weight", a_signal(weight=-1)),
    "weight 1001": ("weight", a_signal(weight=1001)),
    "weight nan": ("weight", a_signal(weight=math.nan)),
    "source empty": ("source", a_signal(source="")),
    "source long": ("source", a_signal(source=LONG)),
    "source nul": ("source", a_signal(source="a\0b")),
    "signal_id long": ("signal_id", a_signal(signal_id=LONG)),
    "signal_id newline": ("signal_id", a_signal(signal_id="a\nb")),
    "signal_id bidi": ("signal_id", a_signal(signal_id="a\u202eb")),
    "type empty": ("type", a_signal(type="")),
    "type long": ("type", a_signal(type="x" * 65)),
    "type escape": ("type", a_signal(type="\x1b[31m")),
    "ts 9999": ("ts", a_signal(ts=YEAR_9999)),
    "ts ahead": ("ts", a_signal(ts=NOON + 301 * SECOND)),
}
OLD_SIGNALS = {
    "ts 1960": a_signal(ts=YEAR_1960),
    "ts 366 days ago": a_signal(ts=NOON - 366 * DAY),
}


@pytest.mark.parametrize(("field", "signal"), BAD_SIGNALS.values(), ids=BAD_SIGNALS)
async def test_a_malformed_signal_is_named_by_field_with_a_remedy(
    shared: World, tenant: str, field: str, signal: signal_pb2.Signal
) -> None:
    alone = signal_pb2.Signal()
    alone.CopyFrom(signal)
    alone.tenant_id = tenant

    refusal = await refused(shared.client.ingest.PublishSignal(ingest_pb2.PublishSignalRequest(signal=alone)))

    assert (refusal.code, refusal.reason) == ("INVALID_ARGUMENT", "SIGNAL_INVALID")
    assert [path for path, _ in refusal.fields] == [f"signal.{field}"]
    assert all(problem for _, problem in refusal.fields)
    assert (await shared.score(tenant)).as_of_seq == 0


@pytest.mark.parametrize(("field", "signal"), BAD_SIGNALS.values(), ids=BAD_SIGNALS)
async def test_in_a_batch_only_the_malformed_signal_is_refused(
    shared: World, tenant: str, field: str, signal: signal_pb2.Signal
) -> None:
    request = ingest_pb2.PublishSignalsRequest(tenant_id=tenant, signals=[a_signal(), signal, a_signal()])

    reply = await shared.client.ingest.PublishSignals(request)

    assert [result.outcome for result in reply.results] == [1, 0, 1]
    refusal = refusal_of_status(reply.results[1].error)
    assert [path for path, _ in refusal.fields] == [f"signals[1].{field}"]
    assert (await shared.score(tenant)).as_of_seq == 2


@pytest.mark.parametrize("signal", OLD_SIGNALS.values(), ids=OLD_SIGNALS)
async def test_a_signal_older_than_its_retention_is_out_of_range(
    shared: World, tenant: str, signal: signal_pb2.Signal
) -> None:
    alone = signal_pb2.Signal()
    alone.CopyFrom(signal)
    alone.tenant_id = tenant

    refusal = await refused(shared.client.ingest.PublishSignal(ingest_pb2.PublishSignalRequest(signal=alone)))

    assert (refusal.code, refusal.reason) == ("OUT_OF_RANGE", "TS_OUTSIDE_RETENTION")
    assert [path for path, _ in refusal.fields] == ["signal.ts"]


@pytest.mark.parametrize(("seconds", "nanos"), [(253_402_300_800, 0), (-62_135_596_801, 0), (0, -1), (0, 10**9)])
async def test_a_timestamp_that_is_none_is_refused(shared: World, tenant: str, seconds: int, nanos: int) -> None:
    signal = a_signal(tenant_id=tenant)
    signal.ts.seconds, signal.ts.nanos = seconds, nanos

    refusal = await refused(shared.client.ingest.PublishSignal(ingest_pb2.PublishSignalRequest(signal=signal)))

    assert (refusal.code, [path for path, _ in refusal.fields]) == ("INVALID_ARGUMENT", ["signal.ts"])


@pytest.mark.parametrize("tenant_id", ["", "Acme", "-acme", "acme!", "a" * 65, "ac me", "acmé"])
async def test_a_malformed_tenant_is_refused(shared: World, tenant_id: str) -> None:
    one = ingest_pb2.PublishSignalRequest(signal=a_signal(tenant_id=tenant_id))
    many = ingest_pb2.PublishSignalsRequest(tenant_id=tenant_id, signals=[a_signal()])

    alone = await refused(shared.client.ingest.PublishSignal(one))
    batch = await refused(shared.client.ingest.PublishSignals(many))
    read = await refused(shared.client.score.GetScore(score_pb2.GetScoreRequest(tenant_id=tenant_id)))

    assert [path for path, _ in alone.fields] == ["signal.tenant_id"]
    assert [path for path, _ in batch.fields] == ["tenant_id"]
    assert (read.code, read.reason) == ("INVALID_ARGUMENT", "FILTER_INVALID")


@pytest.mark.parametrize("count", [0, 1001])
async def test_a_batch_of_none_or_of_1001_is_refused_whole(shared: World, tenant: str, count: int) -> None:
    request = ingest_pb2.PublishSignalsRequest(tenant_id=tenant, signals=[a_signal() for _ in range(count)])

    refusal = await refused(shared.client.ingest.PublishSignals(request))

    assert (refusal.code, refusal.reason) == ("INVALID_ARGUMENT", "SIGNAL_INVALID")
    assert [path for path, _ in refusal.fields] == ["signals"]
    assert (await shared.score(tenant)).as_of_seq == 0


async def test_half_a_million_empty_signals_are_refused_without_looking_at_each(shared: World, tenant: str) -> None:
    request = ingest_pb2.PublishSignalsRequest(tenant_id=tenant, signals=[signal_pb2.Signal()] * 500_000)

    refusal = await refused(shared.client.ingest.PublishSignals(request, timeout=2))

    assert [path for path, _ in refusal.fields] == ["signals"]


@pytest.mark.parametrize(
    ("method", "size"), [("PublishSignals", 1_100_000), ("PublishSignal", 1_100_000), ("ListSignals", 5_000_000)]
)
async def test_a_message_beyond_its_limit_is_refused_with_the_limit(shared: World, method: str, size: int) -> None:
    refusal = await refused(raw(shared, f"IngestService/{method}")(b"\x00" * size))

    assert (refusal.code, refusal.reason) == ("RESOURCE_EXHAUSTED", "MESSAGE_TOO_LARGE")
    assert int(refusal.metadata["max_bytes"]) < size
    assert "smaller" in refusal.message


METHODS = [
    "IngestService/PublishSignal",
    "IngestService/PublishSignals",
    "IngestService/GetSignal",
    "IngestService/ListSignals",
    "IngestService/GetProvenance",
    "IngestService/VerifyLedger",
    "ScoreService/GetScore",
    "ScoreService/BatchGetScores",
    "ScoreService/ListScores",
    "ScoreService/ExplainScore",
    "EventsService/PullEvents",
    "EventsService/GetCursor",
    "MetaService/GetServerInfo",
]
STREAMS = ["ScoreService/WatchScore", "EventsService/Subscribe", "AdminService/Prune"]


@pytest.mark.parametrize("method", METHODS)
async def test_undecodable_bytes_are_an_invalid_argument_to_every_method(shared: World, method: str) -> None:
    refusal = await refused(raw(shared, method)(b"\xff\xff"))

    assert refusal.code == "INVALID_ARGUMENT"
    assert refusal.reason in {"SIGNAL_INVALID", "FILTER_INVALID"}


@pytest.mark.parametrize("method", STREAMS)
async def test_undecodable_bytes_are_an_invalid_argument_to_every_stream(shared: World, method: str) -> None:
    refusal = await refused(drained(shared, method))

    assert refusal.code == "INVALID_ARGUMENT"


async def drained(shared: World, method: str) -> None:
    async for _ in raw_stream(shared, method)(b"\xff\xff"):
        pass


BAD_READS = {
    "page too large": ("ListSignals", ingest_pb2.ListSignalsRequest(tenant_id="a", page_size=1001), "page_size"),
    "NUL in a filter": (
        "ListSignals",
        ingest_pb2.ListSignalsRequest(tenant_id="a", filter=ingest_pb2.SignalFilter(sources=["ci", "\x00"])),
        "filter.sources[1]",
    ),
    "page negative": ("ListSignals", ingest_pb2.ListSignalsRequest(tenant_id="a", page_size=-1), "page_size"),
    "no key": ("GetSignal", ingest_pb2.GetSignalRequest(), "key"),
    "no id": ("GetProvenance", ingest_pb2.GetProvenanceRequest(tenant_id="a"), "provenance_id"),
    "beyond the head": ("VerifyLedger", ingest_pb2.VerifyLedgerRequest(tenant_id="a", to_seq=9), "to_seq"),
}


@pytest.mark.parametrize(("method", "request_", "field"), BAD_READS.values(), ids=BAD_READS)
async def test_a_malformed_read_is_named_by_field(shared: World, method: str, request_: Message, field: str) -> None:
    refusal = await refused(getattr(shared.client.ingest, method)(request_))

    assert (refusal.code, refusal.reason) == ("INVALID_ARGUMENT", "FILTER_INVALID")
    assert [path for path, _ in refusal.fields] == [field]


async def test_malformed_filters_of_scores_and_events_are_named_by_field(shared: World) -> None:
    scores = score_pb2.ListScoresRequest(filter=score_pb2.ScoreFilter(min_score=math.nan))
    kinds = events_pb2.PullEventsRequest(tenant_id="a", filter=events_pb2.EventFilter(kinds=[99]))  # type: ignore[list-item]  # no such kind
    beat = events_pb2.SubscribeRequest(tenant_id="a")
    beat.heartbeat_interval.seconds = 61

    assert [path for path, _ in (await refused(shared.client.score.ListScores(scores))).fields] == ["filter.min_score"]
    assert [path for path, _ in (await refused(shared.client.events.PullEvents(kinds))).fields] == ["filter.kinds[0]"]
    refusal = await refused(shared.client.events.Subscribe(beat).read())
    assert [path for path, _ in refusal.fields] == ["heartbeat_interval"]


async def test_what_is_wrong_with_a_large_request_still_fits_in_the_reply(shared: World, tenant: str) -> None:
    tenant_ids = [f"{fresh('?')}{'x' * 60}" for _ in range(100)]

    refusal = await refused(anything(shared, tenant_ids))

    assert (refusal.code, refusal.reason) == ("INVALID_ARGUMENT", "FILTER_INVALID")
    assert 0 < len(refusal.fields) <= MAX_FIELDS


async def anything(shared: World, tenant_ids: list[str]) -> object:
    return await shared.client.score.WatchScore(score_pb2.WatchScoreRequest(tenant_ids=tenant_ids)).read()


async def test_a_method_that_is_not_there_is_unimplemented(shared: World) -> None:
    refusal = await refused(raw(shared, "ScoreService/Nothing")(b""))

    assert refusal.code == grpc.StatusCode.UNIMPLEMENTED.name

"""StreamSignals over a connection: frames, refusals, and how a stream ends."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from coherence.v1 import ingest_pb2 as pb
from coherence.v1.ingest_pb2 import StreamSignalsRequest as Frame
from coherence.v1.meta_pb2 import GetServerInfoRequest
from coherence_grpc.app import backbone
from coherence_grpc.client import refusal_of_status
from coherence_grpc.convert import calls, streaming
from coherence_grpc.errors import StoreDown
from coherence_grpc.ingest import streaming as use_case
from coherence_grpc.ingest.committer import Committer
from coherence_grpc.interceptors import methods
from tests.builders import NOON, TENANT, a_caller
from tests.grpc.running import World, a_signal, refused, world
from tests.grpc.test_event_streams import leaving

if TYPE_CHECKING:
    from pathlib import Path

    import grpc.aio

    from coherence.v1.signal_pb2 import Signal
    from coherence_grpc.client import Client, Refusal

    Call = grpc.aio.StreamStreamCall[bytes | Frame, pb.StreamSignalsResponse]

pytestmark = pytest.mark.anyio

METHOD = "/coherence.v1.IngestService/StreamSignals"


def opening(tenant_id: str = TENANT, *, stream_id: str = "s", acked_through: int = 0, **more: object) -> Frame:
    """The first frame."""
    return Frame(
        open=pb.StreamOpen(tenant_id=tenant_id, stream_id=stream_id, acked_through=acked_through, **more)  # type: ignore[arg-type]  # its fields
    )


def batch(sequence: int, *signals: Signal) -> Frame:
    """The next signals, one fresh one if none is named."""
    return Frame(batch=pb.StreamBatch(sequence=sequence, signals=signals or [a_signal()]))


def call_of(client: Client) -> Call:
    """An open call; what is written to it are frames, or bytes that may be none."""
    method: grpc.aio.StreamStreamMultiCallable[bytes | Frame, pb.StreamSignalsResponse]
    method = client.channel.stream_stream(
        METHOD,
        lambda frame: frame if isinstance(frame, bytes) else frame.SerializeToString(),
        pb.StreamSignalsResponse.FromString,
    )
    return method()


async def ended(client: Client, *frames: Frame | bytes) -> Refusal:
    """What a stream of these frames is refused with."""

    async def read() -> None:
        call = call_of(client)
        for frame in frames:
            await call.write(frame)
        async for _ in call:
            pass

    async with asyncio.timeout(10):
        return await refused(read())


async def to_the_end(client: Client, *frames: Frame) -> list[pb.StreamSignalsResponse]:
    """All that is answered to these frames."""
    call = call_of(client)
    async with asyncio.timeout(10):
        for frame in frames:
            await call.write(frame)
        await call.done_writing()
        return [frame async for frame in call]


async def test_a_stream_opens_takes_batches_acknowledges_and_closes(served: World) -> None:
    first, *rest = await to_the_end(served.client, opening(), batch(1), batch(2, a_signal(), a_signal()))

    acks = [frame.ack for frame in rest[:-1]]
    assert (first.opened.acked_through, first.opened.credits) == (0, use_case.CREDITS)
    assert (first.opened.max_batch_signals, first.opened.max_batch_bytes) == (1000, 1024 * 1024)
    assert (acks[-1].acked_through, sum(ack.stored_count for ack in acks)) == (2, 3)
    assert rest[-1].closing.acked_through == 2
    assert rest[-1].closing.reason == pb.STREAM_CLOSING_REASON_COMPLETE
    assert (await served.score(seen=acks[-1].revision)).signal_count == 3


async def test_a_signal_of_a_stream_is_recorded_under_the_streams_batch_and_tags(served: World) -> None:
    await to_the_end(served.client, opening(stream_id="ci", backfill=True), batch(1))

    listed = await served.client.ingest.ListSignals(pb.ListSignalsRequest(tenant_id=TENANT))
    request = pb.GetProvenanceRequest(tenant_id=TENANT, provenance_id=listed.signals[0].provenance_id)
    record = (await served.client.ingest.GetProvenance(request)).provenance

    assert (record.request_id, record.backfill, record.transport) == ("ci:1", True, "grpc")


async def test_what_is_refused_is_named_with_its_fields_and_the_stream_goes_on(served: World) -> None:
    *_, ack, _ = await to_the_end(
        served.client,
        opening(),
        batch(1, a_signal(), a_signal(value=7), a_signal(tenant_id="other"), a_signal(ts=NOON + 10**9)),
    )

    refusals = [(r.sequence, r.index, refusal_of_status(r.error)) for r in ack.ack.rejections]
    assert [(sequence, index, refusal.reason) for sequence, index, refusal in refusals] == [
        (1, 1, "SIGNAL_INVALID"),
        (1, 2, "SIGNAL_INVALID"),
        (1, 3, "SIGNAL_INVALID"),
    ]
    paths = [refusal.fields[0].path for _, _, refusal in refusals]
    assert paths == ["signals[1].value", "signals[2].tenant_id", "signals[3].ts"]
    assert ack.ack.stored_count == 1


async def test_a_stream_that_is_opened_again_goes_on_behind_the_last_ack(served: World) -> None:
    second = batch(2)
    await to_the_end(served.client, opening(), batch(1), second)

    *_, ack, closing = await to_the_end(served.client, opening(acked_through=1), second, batch(3))

    assert closing.closing.acked_through == 3
    assert (ack.ack.stored_count, ack.ack.duplicate_count) in {(1, 1), (1, 0)}
    assert (await served.score()).signal_count == 3


async def test_under_replace_a_later_signal_takes_the_place_of_an_earlier_one(served: World) -> None:
    *_, ack, _ = await to_the_end(
        served.client,
        opening(on_conflict=pb.ON_CONFLICT_REPLACE),
        batch(1, a_signal(signal_id="one", value=0.1, ts=NOON), a_signal(signal_id="one", value=0.9, ts=NOON)),
    )

    assert (ack.ack.stored_count, ack.ack.replaced_count) == (1, 1)
    assert (await served.score()).score == 0.9


@pytest.mark.parametrize(
    ("frames", "said"),
    [
        ([batch(1)], "first frame must be open"),
        ([Frame()], "first frame must be open"),
        ([opening("No!")], "open.tenant_id must be"),
        ([opening(stream_id="")], "open.stream_id"),
        ([opening(stream_id="x" * 101)], "open.stream_id"),
        ([opening(on_conflict=9)], "open.on_conflict"),
        ([opening(), opening()], "must be batch or flush"),
        ([opening(), Frame()], "frame is empty"),
        ([opening(), Frame(batch=pb.StreamBatch(sequence=1))], "signals"),
        ([opening(), batch(0)], "sequence"),
        ([opening(), batch(1, *[a_signal()] * 1001)], "signals"),
        ([b"\xff\xff"], "does not decode"),
        ([opening(), b"\xff\xff"], "does not decode"),
    ],
)
async def test_a_frame_that_is_malformed_or_out_of_turn_ends_the_stream(
    shared: World, frames: list[Frame | bytes], said: str
) -> None:
    refusal = await ended(shared.client, *frames)

    assert (refusal.code, refusal.reason) == ("INVALID_ARGUMENT", "STREAM_INVALID")
    assert said in refusal.message


async def test_a_stream_without_a_first_frame_is_not_waited_for(served: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streaming, "OPEN_S", 0.05)

    waiting = await ended(served.client)
    over = await refused(to_the_end(served.client))

    assert (waiting.reason, "no frame came" in waiting.message) == ("STREAM_INVALID", True)
    assert (over.reason, "ended before its first frame" in over.message) == ("STREAM_INVALID", True)


async def test_a_frame_that_is_too_large_ends_the_stream_with_where_it_stood(served: World) -> None:
    call = call_of(served.client)
    await call.write(opening())
    await call.write(batch(1))
    await call.read()
    ack = await call.read()
    large = batch(2).SerializeToString() + b"\xfa\x07" + (1 << 20).to_bytes(3, "little") + bytes(1 << 20)

    async def rest() -> None:
        await call.write(large)
        while await call.read():
            pass

    refusal = await refused(rest())

    assert isinstance(ack, pb.StreamSignalsResponse)
    assert ack.ack.acked_through == 1
    assert (refusal.code, refusal.reason) == ("RESOURCE_EXHAUSTED", "MESSAGE_TOO_LARGE")
    assert refusal.metadata["acked_through"] == "1"


async def test_a_gap_and_too_much_at_once_say_what_was_expected(served: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(use_case, "CREDITS", 10)
    monkeypatch.setattr(use_case, "LEAST_CREDITS", 10)

    gap = await ended(served.client, opening(acked_through=4), batch(6))
    too_much = await ended(served.client, opening(), batch(1, *(a_signal() for _ in range(11))))

    assert (gap.code, gap.reason) == ("FAILED_PRECONDITION", "STREAM_SEQUENCE_GAP")
    assert gap.metadata == {"expected": "5", "acked_through": "4"}
    assert (too_much.code, too_much.reason) == ("RESOURCE_EXHAUSTED", "CREDIT_EXCEEDED")
    assert too_much.metadata == {"credits": "10", "acked_through": "0"}


async def test_the_scope_is_asked_for_before_anything_is_read_and_the_tenant_when_it_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    callers = iter(
        [
            a_caller(scopes=["coherence:read"]),
            a_caller(scopes=["coherence:write"], tenants=["mine"]),
            a_caller(scopes=["coherence:write"], tenants=["mine"]),
        ]
    )
    monkeypatch.setattr(backbone, "local", lambda _: next(callers))
    async with world(tmp_path) as served:
        without_scope = await ended(served.client)
        of_another = await ended(served.client, opening("yours"))
        own = await to_the_end(served.client, opening("mine"), batch(1))

    assert (without_scope.code, without_scope.reason) == ("PERMISSION_DENIED", "SCOPE_MISSING")
    assert (of_another.code, of_another.reason) == ("PERMISSION_DENIED", "POLICY_DENIED")
    assert own[-1].closing.acked_through == 1


async def test_open_streams_take_no_places_of_unary_calls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(methods.POOLS, "signal stream", 1)
    monkeypatch.setitem(methods.POOLS, "ingest", 1)
    async with world(tmp_path) as served:
        call = call_of(served.client)
        await call.write(opening())
        await call.read()
        second = await ended(served.client, opening())
        stored = await served.publish()
        call.cancel()

    assert (second.code, second.reason) == ("RESOURCE_EXHAUSTED", "CONCURRENCY")
    assert second.retry_after_s is not None
    assert stored == ["STORED"]


async def test_a_client_is_asked_to_wait_while_the_store_is_away(
    served: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    submit = Committer.submit
    away = [True]

    def sometimes(self: Committer, *args: object) -> object:
        if away.pop() if away else False:
            message = "the store can't be reached"
            raise StoreDown(message)
        return submit(self, *args)  # type: ignore[arg-type]  # passed on

    monkeypatch.setattr(Committer, "submit", sometimes)
    _, throttle, ack, _ = await to_the_end(served.client, opening(), batch(1))

    assert throttle.throttle.reason == "the store can't be reached"
    assert throttle.throttle.retry_delay.ToMilliseconds() > 0
    assert ack.ack.stored_count == 1


async def test_a_drain_closes_a_stream_after_what_it_had_was_acknowledged(tmp_path: Path) -> None:
    async with leaving(tmp_path) as (client, leave):
        call = call_of(client)
        await call.write(opening())
        await call.write(batch(1))
        frames = aiter(call)
        await anext(frames)
        await anext(frames)

        leave.set()
        rest = [frame async for frame in frames]

    assert [frame.closing.reason for frame in rest] == [pb.STREAM_CLOSING_REASON_DRAINING]
    assert rest[0].closing.acked_through == 1


async def test_a_stream_on_an_old_connection_is_closed_by_us(served: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(calls, "_STREAMS_END_S", 0.0)
    monkeypatch.setattr(calls, "_LATE_STREAM_S", 0.2)
    call = call_of(served.client)
    await call.write(opening())

    frames = [frame async for frame in call]

    assert frames[-1].closing.reason == pb.STREAM_CLOSING_REASON_MAX_AGE


async def test_a_client_that_goes_leaves_nothing_behind(served: World) -> None:
    call = call_of(served.client)
    await call.write(opening())
    await call.write(batch(1))
    await call.read()
    await call.read()
    call.cancel()

    *_, closing = await to_the_end(served.client, opening(acked_through=1), batch(2))

    assert closing.closing.acked_through == 2


async def test_a_server_says_that_it_takes_streams(shared: World) -> None:
    info = await shared.client.meta.GetServerInfo(GetServerInfoRequest())

    assert "stream_signals" in info.capabilities

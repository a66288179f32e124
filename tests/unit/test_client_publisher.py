from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

import grpc
import pytest
from google.rpc.error_details_pb2 import ErrorInfo
from google.rpc.status_pb2 import Status

from coherence.v1 import ingest_pb2 as pb
from coherence_grpc.client import (
    Forbidden,
    Invalid,
    NotAuthenticated,
    PublishIncomplete,
    Refused,
    Rejection,
    Signal,
    TimedOut,
    Unavailable,
    connect,
    signal_stream,
)
from coherence_grpc.convert.refusals import status_of
from coherence_grpc.errors import CoherenceError, Concurrency, ScopeMissing, SignalInvalid
from tests.faults import until
from tests.serving import until as eventually
from tests.speaking import ack, opened, speaking

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.speaking import Context, Frames

pytestmark = pytest.mark.anyio
FIXED: Final = "fixed"
DETAILS: Final = "grpc-status-details-bin"


@pytest.fixture(scope="module", autouse=True)
async def one_loop(anyio_backend: str) -> AsyncIterator[None]:
    """One loop for all tests of this module: gRPC may still have a word on a call of the test before."""
    yield  # noqa: PT022 - the loop lasts as long as the generator


def a_signal(name: str = "") -> Signal:
    return Signal("ci", "build", 0.5, signal_id=name)


async def refuse(context: Context, error: CoherenceError, code: grpc.StatusCode) -> None:
    """End the call as the backbone does."""
    details = ((DETAILS, status_of(error).SerializeToString()),)
    await context.abort(code, error.message, trailing_metadata=details)


async def plain(frames: Frames, context: Context) -> AsyncIterator[pb.StreamSignalsResponse]:
    """Acknowledges every batch."""
    async for frame in frames:
        kind = frame.WhichOneof("frame")
        if kind == "open":
            yield opened(frame)
        elif kind == "batch":
            yield ack(frame)
    yield pb.StreamSignalsResponse(closing=pb.StreamClosing(reason=pb.STREAM_CLOSING_REASON_COMPLETE))


async def test_a_signal_gets_an_id_and_an_instant_when_it_is_put() -> None:
    seen = list[pb.StreamSignalsRequest]()

    async def streams(frames: Frames, context: Context) -> AsyncIterator[pb.StreamSignalsResponse]:
        async def noted() -> Frames:
            async for frame in frames:
                seen.append(frame)
                yield frame

        async for response in plain(noted(), context):
            yield response

    async with (
        speaking(streams=streams) as address,
        connect(address) as client,
        client.publisher("acme", backfill=True, replace=True) as publisher,
    ):
        await publisher.put_all([a_signal(), a_signal(), a_signal("mine")])

    opening, batch = seen[0].open, seen[1].batch
    assert (opening.tenant_id, opening.backfill, opening.on_conflict) == ("acme", True, pb.ON_CONFLICT_REPLACE)
    assert len({signal.signal_id for signal in batch.signals}) == 3
    assert batch.signals[2].signal_id == "mine"
    assert all(signal.ts.seconds and signal.ts.nanos % 1000 == 0 for signal in batch.signals)


async def test_what_cannot_be_sent_is_refused_by_put_and_harms_nothing() -> None:
    async with (
        speaking(streams=plain) as address,
        connect(address) as client,
        client.publisher("acme") as publisher,
    ):
        with pytest.raises(TypeError):
            await publisher.put(Signal("ci", "build", "much"))  # type: ignore[arg-type]  # what is tested
        with pytest.raises(ValueError):  # noqa: PT011 - the words are protobuf's
            await publisher.put(Signal("ci", "\ud800", 0.5))
        await publisher.put(a_signal())

    assert (publisher.stats.accepted, publisher.stats.stored) == (1, 1)


async def test_put_waits_while_too_many_signals_are_pending() -> None:
    acks = asyncio.Event()

    async def streams(frames: Frames, context: Context) -> AsyncIterator[pb.StreamSignalsResponse]:
        async for frame in frames:
            if frame.HasField("open"):
                yield opened(frame)
            elif frame.HasField("batch"):
                await acks.wait()
                yield ack(frame)

    async with (
        speaking(streams=streams) as address,
        connect(address) as client,
        client.publisher("acme", max_pending=3) as publisher,
        asyncio.TaskGroup() as tasks,
    ):
        putting = tasks.create_task(publisher.put_all([a_signal() for _ in range(5)]))
        await until(lambda: publisher.stats.pending == 3)
        stuck = not putting.done()

        acks.set()

    assert stuck
    assert publisher.stats.stored == 5


async def test_no_more_is_sent_than_the_credits_allow() -> None:
    most = 0

    async def streams(frames: Frames, context: Context) -> AsyncIterator[pb.StreamSignalsResponse]:
        nonlocal most
        outstanding = asyncio.Queue[pb.StreamSignalsRequest]()
        yield opened(await anext(frames), credits=10, batch=4)

        async def take() -> None:
            async for frame in frames:
                if frame.HasField("batch"):
                    outstanding.put_nowait(frame)

        taking = asyncio.create_task(take())
        while not (taking.done() and outstanding.empty()):
            # Time to send more than it may.
            await asyncio.wait([taking], timeout=0.01)
            most = max(most, 4 * outstanding.qsize())
            if not outstanding.empty():
                yield ack(outstanding.get_nowait())

    async with (
        speaking(streams=streams) as address,
        connect(address) as client,
        client.publisher("acme") as publisher,
    ):
        await publisher.put_all([a_signal() for _ in range(40)])

    assert publisher.stats.stored == 40
    assert most == 8


async def test_a_throttle_is_obeyed() -> None:
    times = list[float]()

    async def streams(frames: Frames, context: Context) -> AsyncIterator[pb.StreamSignalsResponse]:
        async for frame in frames:
            if frame.HasField("open"):
                yield opened(frame)
            elif frame.HasField("batch"):
                times.append(asyncio.get_running_loop().time())
                throttle = pb.StreamThrottle(reason="busy")
                throttle.retry_delay.FromMilliseconds(200)
                yield pb.StreamSignalsResponse(throttle=throttle)
                yield ack(frame)

    async with (
        speaking(streams=streams) as address,
        connect(address) as client,
        client.publisher("acme") as publisher,
    ):
        await publisher.put(a_signal())
        await publisher.flush()
        await publisher.put(a_signal())

    assert times[1] - times[0] > 0.1


async def test_what_an_ack_did_not_reach_is_sent_again_under_its_number() -> None:
    openings, batches = list[int](), list[pb.StreamBatch]()

    async def streams(frames: Frames, context: Context) -> AsyncIterator[pb.StreamSignalsResponse]:
        async for frame in frames:
            if frame.HasField("open"):
                openings.append(frame.open.acked_through)
                yield opened(frame, batch=2)
            elif frame.HasField("batch"):
                batches.append(frame.batch)
                if len(batches) == 2:
                    await context.abort(grpc.StatusCode.UNAVAILABLE, "gone")
                yield ack(frame)

    async with (
        speaking(streams=streams) as address,
        connect(address) as client,
        client.publisher("acme") as publisher,
    ):
        await publisher.put_all([a_signal() for _ in range(6)])

    assert openings == [0, 1]
    assert [batch.sequence for batch in batches] == [1, 2, 2, 3]
    assert batches[1] == batches[2]
    assert publisher.stats.stored == 6


async def test_a_stream_that_the_server_ends_is_opened_again() -> None:
    opens = 0

    async def streams(frames: Frames, context: Context) -> AsyncIterator[pb.StreamSignalsResponse]:
        nonlocal opens
        opens += 1
        if opens == 1:
            yield opened(await anext(frames))
            yield ack(await anext(frames))
            yield pb.StreamSignalsResponse(closing=pb.StreamClosing(reason=pb.STREAM_CLOSING_REASON_MAX_AGE))
            return
        async for response in plain(frames, context):
            yield response

    async with (
        speaking(streams=streams) as address,
        connect(address) as client,
        client.publisher("acme") as publisher,
    ):
        await publisher.put(a_signal())
        await until(lambda: opens == 2)
        await publisher.put(a_signal())

    assert publisher.stats.stored == 2


async def test_an_overloaded_server_is_asked_again_after_its_hint() -> None:
    opens = 0

    async def streams(frames: Frames, context: Context) -> AsyncIterator[pb.StreamSignalsResponse]:
        nonlocal opens
        opens += 1
        if opens == 1:
            error = Concurrency("too many", retry_after_s=0.05)
            await refuse(context, error, grpc.StatusCode.RESOURCE_EXHAUSTED)
        async for response in plain(frames, context):
            yield response

    async with (
        speaking(streams=streams) as address,
        connect(address) as client,
        client.publisher("acme") as publisher,
    ):
        await publisher.put(a_signal())

    assert (opens, publisher.stats.stored) == (2, 1)


async def test_a_refusal_for_good_is_raised_by_whoever_opens() -> None:
    async def streams(frames: Frames, context: Context) -> AsyncIterator[pb.StreamSignalsResponse]:
        await refuse(context, ScopeMissing("not yours"), grpc.StatusCode.PERMISSION_DENIED)
        yield pb.StreamSignalsResponse()

    async with speaking(streams=streams) as address, connect(address) as client:
        with pytest.raises(Forbidden, match="not yours"):
            await client.publisher("acme").__aenter__()


async def test_a_refusal_for_good_ends_it_and_what_is_unacked_is_named() -> None:
    async def streams(frames: Frames, context: Context) -> AsyncIterator[pb.StreamSignalsResponse]:
        yield opened(await anext(frames))
        await anext(frames)
        await refuse(context, SignalInvalid("the frame is wrong"), grpc.StatusCode.INVALID_ARGUMENT)

    async with speaking(streams=streams) as address, connect(address) as client:
        publisher = await client.publisher("acme").__aenter__()
        await publisher.put(a_signal("lost"))
        with pytest.raises(PublishIncomplete) as flushed:
            await publisher.flush()
        with pytest.raises(Invalid, match="the frame is wrong"):
            await publisher.put(a_signal())
        with pytest.raises(PublishIncomplete) as closed:
            await publisher.close()

    assert isinstance(flushed.value.__cause__, Invalid)
    assert [signal.signal_id for signal in closed.value.unacked] == ["lost"]
    assert "ci/lost" in str(closed.value)


async def test_a_server_that_never_acknowledges_is_told_by_closing() -> None:
    async with speaking(streams=_silent) as address, connect(address) as client:
        with pytest.raises(PublishIncomplete, match=r"2 accepted .* no ack within 0\.2 s") as told:
            async with client.publisher("acme", close_s=0.2) as publisher:
                await publisher.put_all([a_signal("one"), a_signal("two")])

    assert [signal.signal_id for signal in told.value.unacked] == ["one", "two"]


async def test_a_refused_signal_is_told_and_ends_nothing() -> None:
    async def streams(frames: Frames, context: Context) -> AsyncIterator[pb.StreamSignalsResponse]:
        async for frame in frames:
            if frame.HasField("open"):
                yield opened(frame)
            elif frame.HasField("batch"):
                response = ack(frame)
                response.ack.stored_count -= 1
                error = status_of(SignalInvalid("too hot"))
                response.ack.rejections.add(sequence=frame.batch.sequence, index=1, error=error)
                yield response

    told = list[Rejection]()
    async with (
        speaking(streams=streams) as address,
        connect(address) as client,
        client.publisher("acme", on_rejected=told.append) as publisher,
    ):
        await publisher.put_all([a_signal("good"), a_signal("bad"), a_signal("fine")])

    assert [(each.signal.signal_id, each.refusal.message) for each in told] == [("bad", "too hot")]
    assert publisher.rejected == tuple(told)
    assert (publisher.stats.stored, publisher.stats.rejected, publisher.stats.pending) == (2, 1, 0)


async def test_a_server_that_stays_away_longer_than_patience_lasts_ends_it() -> None:
    async with speaking(streams=_stuck) as address, connect(address, patience_s=0.3) as client:
        publisher = await client.publisher("acme", close_s=5).__aenter__()
        await publisher.put(a_signal())

        with pytest.raises(PublishIncomplete) as told:
            await publisher.close()

    assert isinstance(told.value.__cause__, Unavailable)


async def _stuck(frames: Frames, context: Context) -> AsyncIterator[pb.StreamSignalsResponse]:
    """Takes a stream and loses it with the first batch."""
    async for frame in frames:
        if frame.HasField("batch"):
            await context.abort(grpc.StatusCode.UNAVAILABLE, "gone")
        yield opened(frame)


async def test_a_server_that_falls_silent_is_left_for_a_new_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(signal_stream, "SILENCE_S", 0.1)
    monkeypatch.setattr(signal_stream, "LOOK_S", 0.05)
    opens = 0

    async def streams(frames: Frames, context: Context) -> AsyncIterator[pb.StreamSignalsResponse]:
        nonlocal opens
        opens += 1
        async for frame in frames:
            if frame.HasField("open"):
                yield opened(frame)
            elif frame.HasField("batch") and opens > 1:
                yield ack(frame)

    async with (
        speaking(streams=streams) as address,
        connect(address) as client,
        client.publisher("acme") as publisher,
    ):
        await publisher.put(a_signal())

    assert (opens, publisher.stats.stored) == (2, 1)


async def test_a_token_that_is_a_function_is_asked_for_with_every_connection() -> None:
    tokens = iter(["old", "new", "newer"])
    seen = list[str]()

    async def token() -> str:
        return next(tokens)

    async def streams(frames: Frames, context: Context) -> AsyncIterator[pb.StreamSignalsResponse]:
        seen.append(str(dict(context.invocation_metadata() or ())["authorization"]))
        if len(seen) == 1:
            yield opened(await anext(frames))
            await context.abort(grpc.StatusCode.UNAUTHENTICATED, "the token has expired")
        async for response in plain(frames, context):
            yield response

    async with (
        speaking(streams=streams) as address,
        connect(address, token=token) as client,
        client.publisher("acme") as publisher,
    ):
        await publisher.put(a_signal())

    assert seen == ["Bearer old", "Bearer new"]


async def test_a_token_that_cannot_be_renewed_ends_it() -> None:
    async def streams(frames: Frames, context: Context) -> AsyncIterator[pb.StreamSignalsResponse]:
        yield opened(await anext(frames))
        await context.abort(grpc.StatusCode.UNAUTHENTICATED, "the token has expired")

    async with speaking(streams=streams) as address, connect(address, token=FIXED) as client:
        publisher = await client.publisher("acme").__aenter__()
        await eventually(lambda: publisher._failure is not None)

        with pytest.raises(NotAuthenticated):
            await publisher.put(a_signal())
        await publisher.close()


async def test_nothing_is_accepted_outside_its_context() -> None:
    async with speaking(streams=plain) as address, connect(address) as client:
        publisher = client.publisher("acme")
        with pytest.raises(RuntimeError, match="not open"):
            await publisher.put(a_signal())
        async with publisher:
            await publisher.put(a_signal())

        with pytest.raises(RuntimeError, match="not open"):
            await publisher.put(a_signal())


async def test_a_fault_in_what_is_called_back_ends_it_and_is_told() -> None:
    def broken(_: Rejection) -> None:
        message = "the caller's fault"
        raise LookupError(message)

    async def streams(frames: Frames, context: Context) -> AsyncIterator[pb.StreamSignalsResponse]:
        yield opened(await anext(frames))
        response = ack(await anext(frames))
        error = Status(code=3)
        error.details.add().Pack(ErrorInfo(reason="SIGNAL_INVALID"))
        response.ack.rejections.add(sequence=1, index=0, error=error)
        yield response
        await asyncio.Event().wait()

    async with speaking(streams=streams) as address, connect(address) as client:
        publisher = await client.publisher("acme", on_rejected=broken).__aenter__()
        await publisher.put(a_signal())

        with pytest.raises(PublishIncomplete, match="the caller's fault"):
            await publisher.close()


async def test_signals_that_wait_for_room_get_ids_of_their_own() -> None:
    names = list[str]()
    acks = asyncio.Event()

    async def streams(frames: Frames, context: Context) -> AsyncIterator[pb.StreamSignalsResponse]:
        async for frame in frames:
            if frame.HasField("open"):
                yield opened(frame)
            elif frame.HasField("batch"):
                names.extend(signal.signal_id for signal in frame.batch.signals)
                await acks.wait()
                yield ack(frame)

    async with (
        speaking(streams=streams) as address,
        connect(address) as client,
        client.publisher("acme", max_pending=1) as publisher,
        asyncio.TaskGroup() as tasks,
    ):
        for _ in range(4):
            tasks.create_task(publisher.put(a_signal()))
        await until(lambda: bool(names))
        acks.set()

    assert len(set(names)) == len(names) == 4


async def test_a_client_that_is_closed_before_its_publisher_ends_it() -> None:
    async with speaking(streams=plain) as address:
        async with connect(address) as client:
            publisher = await client.publisher("acme").__aenter__()
        await eventually(lambda: publisher._failure is not None)

        with pytest.raises(Refused, match="closed before its Publisher"):
            await publisher.put(a_signal())
        await publisher.close()


async def test_a_token_that_never_comes_does_not_hold_the_opening_up_for_ever() -> None:
    async def token() -> str:
        await asyncio.Event().wait()
        return ""

    async with speaking(streams=plain) as address, connect(address, token=token, timeout_s=0.1) as client:
        with pytest.raises(TimedOut):
            await client.publisher("acme").__aenter__()


async def test_who_is_cancelled_while_leaving_is_not_held_and_hears_what_is_left() -> None:
    async def leave() -> None:
        async with client.publisher("acme", close_s=0.2) as publisher:
            await publisher.put(a_signal("left"))
            putting.set()
            await asyncio.Event().wait()

    putting = asyncio.Event()
    async with speaking(streams=_silent) as address, connect(address) as client:
        leaving = asyncio.create_task(leave())
        await putting.wait()

        leaving.cancel()
        with pytest.raises(PublishIncomplete) as told:
            await leaving

    assert [signal.signal_id for signal in told.value.unacked] == ["left"]


async def _silent(frames: Frames, context: Context) -> AsyncIterator[pb.StreamSignalsResponse]:
    """Takes everything and acknowledges nothing."""
    async for frame in frames:
        if frame.HasField("open"):
            yield opened(frame)

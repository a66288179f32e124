from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING

import grpc.aio
import pytest
from google.protobuf.duration_pb2 import Duration

from coherence.v1 import events_pb2 as pb
from coherence.v1 import ingest_pb2, score_pb2
from coherence.v1.events_pb2_grpc import EventsServiceStub
from coherence_grpc.app import backbone, listening, open_backbone
from coherence_grpc.client import Client, Refusal, connect, refusal_of
from coherence_grpc.config import load_settings
from coherence_grpc.convert import calls
from coherence_grpc.convert.instants import microseconds, timestamp
from coherence_grpc.errors import StoreDown
from coherence_grpc.events import Hub
from coherence_grpc.events.reader import Reader
from coherence_grpc.model import SECOND
from tests.builders import NOON, TENANT, ManualClock
from tests.grpc.running import a_signal, refused, unaware, world
from tests.serving import eventually

if TYPE_CHECKING:
    from collections.abc import AsyncIterable, AsyncIterator, Awaitable
    from pathlib import Path

    from tests.grpc.running import World

pytestmark = pytest.mark.anyio

EARLIEST = pb.Start(position=pb.POSITION_EARLIEST)
SIGNALS = pb.EventFilter(kinds=[pb.EVENT_KIND_SIGNAL_STORED])


def subscribe(served: World, start: pb.Start | None = None, **wanted: object) -> AsyncIterator[pb.SubscribeResponse]:
    request = pb.SubscribeRequest(tenant_id=TENANT, start=start, **wanted)  # type: ignore[arg-type]  # fields by name
    return aiter(served.client.events.Subscribe(request))


async def signals(frames: AsyncIterator[pb.SubscribeResponse], count: int) -> list[pb.Event]:
    """The next stored signals of the stream."""
    found: list[pb.Event] = []
    async with asyncio.timeout(10):
        while len(found) < count:
            frame = await anext(frames)
            found += [event for event in frame.batch.events if event.HasField("signal")]
    return found


async def pulled(served: World, start: pb.Start, **wanted: object) -> pb.PullEventsResponse:
    request = pb.PullEventsRequest(tenant_id=TENANT, start=start, **wanted)  # type: ignore[arg-type]  # fields by name
    return await served.client.events.PullEvents(request)


async def test_r6_a_subscriber_gets_opened_then_what_was_stored_then_what_is_stored(served: World) -> None:
    await served.publish(a_signal(signal_id="a"))
    frames = subscribe(served, EARLIEST, filter=SIGNALS)
    opened = await anext(frames)

    (first,) = await signals(frames, 1)
    await served.publish(a_signal(signal_id="b"))
    (second,) = await signals(frames, 1)

    assert opened.opened.cursor == opened.opened.earliest_cursor
    assert [event.signal.signal.signal_id for event in (first, second)] == ["a", "b"]
    assert (first.kind, first.tenant_id, first.signal.seq) == (pb.EVENT_KIND_SIGNAL_STORED, TENANT, 1)
    assert first.signal.cursor == first.cursor
    assert microseconds(first.occurred_time) == NOON


async def test_r6_resuming_from_any_cursor_gives_what_comes_after_it(served: World) -> None:
    await served.publish(*(a_signal(signal_id=f"s{n}") for n in range(5)))
    everything = await signals(subscribe(served, EARLIEST, filter=SIGNALS), 5)

    for seen, event in enumerate(everything, start=1):
        rest = await pulled(served, pb.Start(cursor=event.cursor), filter=SIGNALS)

        assert [e.signal.seq for e in rest.events] == list(range(seen + 1, 6))


async def test_events_can_be_pulled_from_the_cursor_of_a_listed_signal(served: World) -> None:
    await served.publish(*(a_signal(signal_id=f"s{n}", ts=NOON - n * SECOND) for n in range(3)))
    listed = await served.client.ingest.ListSignals(ingest_pb2.ListSignalsRequest(tenant_id=TENANT))

    rest = await pulled(served, pb.Start(cursor=listed.signals[0].cursor), filter=SIGNALS)

    assert [event.signal.signal.signal_id for event in rest.events] == ["s1", "s2"]


async def test_a_change_of_status_is_an_event_after_the_entries_it_covers(served: World) -> None:
    frames = subscribe(served, EARLIEST)
    await served.publish(a_signal(value=0.1))

    events: list[pb.Event] = []
    async with asyncio.timeout(10):
        while len(events) < 2:
            events += (await anext(frames)).batch.events

    assert [event.kind for event in events] == [pb.EVENT_KIND_SIGNAL_STORED, pb.EVENT_KIND_SCORE_STATUS_CHANGED]
    assert (events[1].score.status, events[1].score.as_of_seq) == (score_pb2.STATUS_CRITICAL, 1)
    assert events[1].score.cursor == events[1].cursor


async def test_events_are_narrowed_and_the_cursor_moves_over_the_rest(served: World) -> None:
    await served.publish(
        a_signal(signal_id="a", source="x", value=0.2),
        a_signal(signal_id="b", source="y", value=0.2),
        a_signal(signal_id="c", source="x", value=0.9),
        a_signal(signal_id="d", source="x", value=0.2, type="other"),
    )
    narrow = pb.EventFilter(
        kinds=[pb.EVENT_KIND_SIGNAL_STORED], sources=["x"], types=["build"], min_value=0.1, max_value=0.2
    )

    reply = await pulled(served, EARLIEST, filter=narrow)

    assert [event.signal.signal.signal_id for event in reply.events] == ["a"]
    assert not (await pulled(served, pb.Start(cursor=reply.next_cursor), filter=narrow)).events


async def test_a_pull_waits_for_the_first_event(served: World) -> None:
    start = pb.Start(position=pb.POSITION_LATEST)
    pull = asyncio.ensure_future(pulled(served, start, filter=SIGNALS, wait=Duration(seconds=8)))
    await asyncio.sleep(0)

    await served.publish(a_signal(signal_id="a"))

    assert [event.signal.signal.signal_id for event in (await pull).events] in (["a"], [])


async def test_a_start_time_gives_what_was_recorded_at_or_after_it(served: World) -> None:
    await served.publish(a_signal(signal_id="a"))
    served.clock.advance(SECOND)
    await served.publish(a_signal(signal_id="b"))

    reply = await pulled(served, pb.Start(time=timestamp(NOON + SECOND)), filter=SIGNALS)

    assert [event.signal.signal.signal_id for event in reply.events] == ["b"]


async def test_a_cursor_for_a_place_comes_with_the_range_that_can_be_read(served: World) -> None:
    await served.publish(a_signal(), a_signal())

    reply = await served.client.events.GetCursor(pb.GetCursorRequest(tenant_id=TENANT, start=EARLIEST))

    assert (reply.earliest_seq, reply.latest_seq) == (1, 2)
    assert reply.cursor == reply.earliest_cursor != reply.latest_cursor


async def test_r6_a_foreign_cursor_and_an_expired_one_have_each_their_own_error(served: World, tmp_path: Path) -> None:
    await served.publish()
    other = await served.client.events.GetCursor(pb.GetCursorRequest(tenant_id="other"))
    ahead = await of_a_longer_log(tmp_path, served)

    foreign = await refused(pulled(served, pb.Start(cursor=other.cursor)))
    made_up = await refused(pulled(served, pb.Start(cursor="AAAA")))
    expired = await refused(pulled(served, pb.Start(cursor=ahead)))
    streamed = await refused(first_of(served, pb.Start(cursor=ahead)))

    assert (foreign.code, foreign.reason) == (made_up.code, made_up.reason) == ("INVALID_ARGUMENT", "CURSOR_FOREIGN")
    assert (expired.code, expired.reason) == (streamed.code, streamed.reason) == ("OUT_OF_RANGE", "CURSOR_EXPIRED")
    assert (expired.metadata["earliest_seq"], expired.metadata["latest_seq"]) == ("1", "1")


async def of_a_longer_log(tmp_path: Path, served: World) -> str:
    """A cursor of another directory with the same signing key, which has more entries."""
    longer = tmp_path / "longer"
    longer.mkdir()
    longer.joinpath("cursor.key").write_bytes(served.data.joinpath("cursor.key").read_bytes())
    async with world(longer) as other:
        await other.publish(a_signal(), a_signal(), a_signal())
        return (await other.client.events.GetCursor(pb.GetCursorRequest(tenant_id=TENANT))).cursor


async def first_of(served: World, start: pb.Start) -> pb.SubscribeResponse:
    return await anext(subscribe(served, start))


@pytest.mark.slow
async def test_r6_a_quiet_stream_gets_bookmarks(served: World) -> None:
    frames = subscribe(served, heartbeat_interval=Duration(seconds=1))
    await anext(frames)

    frame = await anext(frames)

    assert frame.HasField("bookmark")
    assert microseconds(frame.bookmark.server_time) == NOON


async def test_r6_a_subscriber_that_never_reads_ends_with_a_resume_cursor(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(backbone, "Hub", partial(Hub, lag_s=0.3))
    long = "x" * 128
    async with world(tmp_path) as served:
        frozen = served.client.events.Subscribe(pb.SubscribeRequest(tenant_id=TENANT, start=EARLIEST))
        await frozen.initial_metadata()
        # More than what sockets and flow control hold for a reader that doesn't read.
        for batch in range(25):
            await served.publish(*(a_signal(signal_id=f"{long[:100]}-{batch}-{n}", source=long) for n in range(1000)))
        for _ in range(3):
            await asyncio.sleep(0.2)
        seen, refusal = await to_the_end(frozen)
        rest = await pulled(served, pb.Start(cursor=refusal.metadata["resume_cursor"]), filter=SIGNALS, max_events=1)

    assert (refusal.code, refusal.reason) == ("RESOURCE_EXHAUSTED", "SUBSCRIBER_LAGGED")
    assert seen == list(range(1, len(seen) + 1))
    assert 0 < rest.events[0].signal.seq <= len(seen) + 1


async def to_the_end(stream: AsyncIterable[pb.SubscribeResponse]) -> tuple[list[int], Refusal]:
    """The numbers of the signals that came, and how the stream ended."""
    seen: list[int] = []

    async def read() -> None:
        async for frame in stream:
            seen.extend(event.signal.seq for event in frame.batch.events if event.HasField("signal"))

    return seen, await refused(read())


async def test_r14_a_stream_whose_store_goes_down_ends_with_where_it_stood(
    served: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    await served.publish(*(a_signal() for _ in range(3)))

    async def fail(*_: object) -> None:
        message = "the store can't be reached"
        raise StoreDown(message)

    frames = subscribe(served, EARLIEST, filter=SIGNALS, max_batch=1)
    await anext(frames)
    # The server may have sent some of them by now, or all.
    monkeypatch.setattr(Reader, "advance", fail)
    seen, refusal = await to_the_end(frames)
    monkeypatch.undo()
    rest = await pulled(served, pb.Start(cursor=refusal.metadata["resume_cursor"]), filter=SIGNALS)

    assert (refusal.code, refusal.reason) == ("UNAVAILABLE", "STORE_DOWN")
    assert sorted({*seen, *(event.signal.seq for event in rest.events)}) == [1, 2, 3]


async def test_a_drain_closes_every_stream_with_a_cursor_and_a_retry_hint(tmp_path: Path) -> None:
    async with leaving(tmp_path) as (client, leave):
        frames = aiter(client.events.Subscribe(pb.SubscribeRequest(tenant_id=TENANT)))
        watch = client.score.WatchScore(score_pb2.WatchScoreRequest(tenant_ids=[TENANT]))
        await anext(frames)
        await anext(aiter(watch))

        leave.set()
        closing = [frame.closing async for frame in frames if frame.HasField("closing")]
        ended = await refused(last_of(watch))

    assert [frame.reason for frame in closing] == [pb.CLOSING_REASON_DRAINING]
    assert closing[0].resume_cursor
    assert (ended.code, ended.reason) == ("UNAVAILABLE", "DRAINING")
    assert ended.retry_after_s is not None


async def test_a_draining_server_refuses_new_calls_with_a_retry_hint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listening, "LINGER_S", 1.0)
    async with leaving(tmp_path) as (client, leave), unaware(client) as channel:
        stub = EventsServiceStub(channel)
        request = pb.GetCursorRequest(tenant_id=TENANT)
        await stub.GetCursor(request)

        leave.set()
        refusal = await eventually(lambda: refusal_or_none(stub.GetCursor(request)))

    assert refusal is not None
    assert (refusal.code, refusal.reason) == ("UNAVAILABLE", "DRAINING")
    assert refusal.retry_after_s is not None


async def refusal_or_none(call: Awaitable[object]) -> Refusal | None:
    try:
        await call
    except grpc.aio.AioRpcError as error:
        return refusal_of(error)
    return None


@asynccontextmanager
async def leaving(data: Path) -> AsyncIterator[tuple[Client, asyncio.Event]]:
    """A client of a backbone that is left once the event is set."""
    settings = load_settings({"data": data, "grpc": "127.0.0.1:0"}, {})
    opened: asyncio.Future[str] = asyncio.get_running_loop().create_future()
    leave = asyncio.Event()

    async def serve() -> None:
        async with open_backbone(settings, clock=ManualClock()) as served:
            opened.set_result(served.grpc_address)
            await leave.wait()

    async with asyncio.TaskGroup() as group:
        group.create_task(serve())
        async with connect(await opened) as client:
            yield client, leave


async def last_of(watch: grpc.aio.UnaryStreamCall[score_pb2.WatchScoreRequest, score_pb2.WatchScoreResponse]) -> None:
    async for _ in watch:
        pass


async def test_a_stream_on_an_old_connection_is_closed_by_us_before_grpc_cuts_it(
    served: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(calls, "_STREAMS_END_S", 0.0)
    monkeypatch.setattr(calls, "_LATE_STREAM_S", 0.2)
    frames = subscribe(served)
    watch = served.client.score.WatchScore(score_pb2.WatchScoreRequest(tenant_ids=[TENANT]))

    closing = [frame.closing async for frame in frames if frame.HasField("closing")]
    ended = await refused(last_of(watch))

    assert [frame.reason for frame in closing] == [pb.CLOSING_REASON_MAX_AGE]
    assert closing[0].resume_cursor
    assert (ended.code, ended.reason) == ("UNAVAILABLE", "DRAINING")

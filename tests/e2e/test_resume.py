"""A subscriber that loses its connection misses nothing and sees nothing twice; a cursor is good where it came from."""

from __future__ import annotations

import asyncio
import shutil
from typing import TYPE_CHECKING

import grpc.aio
import pytest

from coherence.v1.events_pb2 import (
    POSITION_EARLIEST,
    POSITION_LATEST,
    GetCursorRequest,
    PullEventsRequest,
    Start,
    SubscribeRequest,
    SubscribeResponse,
)
from coherence_grpc.client import Client, Refusal, connect, refusal_of
from tests.e2e.cutting import FLIPS, cut_while_followed
from tests.e2e.following import over_grpc
from tests.e2e.rows import a_row, batch_of, publish_of
from tests.e2e.wire import wire_to
from tests.serving import Served, serving
from tests.validators import Truth, check, seen_on_the_wire

if TYPE_CHECKING:
    from collections.abc import Awaitable
    from pathlib import Path

pytestmark = pytest.mark.anyio


@pytest.mark.slow
@pytest.mark.timeout(120)
async def test_a_subscriber_cut_fifty_times_sees_every_signal_and_status_change_once(
    service: Served, client: Client, tenant: str
) -> None:
    history: list[SubscribeResponse] = []

    async with wire_to(service.grpc) as wire:
        connect_again = over_grpc(wire.address, tenant, history)
        cut = await cut_while_followed(client, tenant, wire, connect_again, (grpc.aio.AioRpcError,), cuts=50)

    check(seen_on_the_wire(history), Truth(cut.head, cut.changes, cut.version))
    assert cut.follower.signals == list(range(1, cut.head + 1))
    assert cut.follower.statuses == cut.statuses
    assert len(cut.changes) > len(FLIPS) // 3
    assert cut.follower.connections >= 50


@pytest.mark.slow
async def test_a_quiet_stream_gets_bookmarks_to_resume_from(client: Client, tenant: str) -> None:
    request = SubscribeRequest(tenant_id=tenant)
    request.heartbeat_interval.FromSeconds(1)

    stream = client.events.Subscribe(request)
    frames = [await _next(stream) for _ in range(3)]
    stream.cancel()

    assert [frame.WhichOneof("frame") for frame in frames] == ["opened", "bookmark", "bookmark"]
    reply = await client.ingest.PublishSignal(publish_of(a_row(tenant)))
    pulled = await client.events.PullEvents(_pull(tenant, frames[-1].bookmark.cursor))
    assert pulled.events[0].signal.seq == reply.seq


async def test_a_cursor_of_another_tenant_is_foreign(client: Client, tenant: str) -> None:
    other = await client.events.GetCursor(GetCursorRequest(tenant_id=f"{tenant}-other"))

    for refusal in await _refusals(client, tenant, other.cursor):
        assert (refusal.code, refusal.reason) == ("INVALID_ARGUMENT", "CURSOR_FOREIGN")
        assert tenant in refusal.message
        assert "get a new one" in refusal.message


@pytest.mark.parametrize("garbage", ["x", "AAAA" * 20, "é" * 10, "a b", "=" * 40, "A" * 512])
async def test_a_cursor_that_is_none_is_foreign(client: Client, tenant: str, garbage: str) -> None:
    for refusal in await _refusals(client, tenant, garbage):
        assert (refusal.code, refusal.reason) == ("INVALID_ARGUMENT", "CURSOR_FOREIGN")


@pytest.mark.slow
async def test_a_cursor_ahead_of_a_restored_log_has_expired(tmp_path: Path, tenant: str) -> None:
    cursor = await _cursor_of_a_log_that_was_rolled_back(tmp_path, tenant)

    async with serving(tmp_path / "data", http=False) as served, connect(served.grpc) as client:
        for refusal in await _refusals(client, tenant, cursor):
            _assert_expired(refusal)


@pytest.mark.slow
async def test_a_cursor_into_another_history_of_the_same_length_has_expired(tmp_path: Path, tenant: str) -> None:
    cursor = await _cursor_of_a_log_that_was_rolled_back(tmp_path, tenant)

    async with serving(tmp_path / "data", http=False) as served, connect(served.grpc) as client:
        await client.ingest.PublishSignals(batch_of([a_row(tenant) for _ in range(10)], tenant))
        for refusal in await _refusals(client, tenant, cursor):
            _assert_expired(refusal)


@pytest.mark.slow
async def test_a_cursor_of_a_replaced_data_directory_is_refused(tmp_path: Path, tenant: str) -> None:
    async with serving(tmp_path / "old", http=False) as served, connect(served.grpc) as client:
        await client.ingest.PublishSignal(publish_of(a_row(tenant)))
        cursor = (await client.events.GetCursor(GetCursorRequest(tenant_id=tenant))).cursor

    async with serving(tmp_path / "new", http=False) as served, connect(served.grpc) as client:
        for refusal in await _refusals(client, tenant, cursor):
            assert refusal.reason in {"CURSOR_FOREIGN", "CURSOR_EXPIRED"}


async def test_resuming_at_latest_and_at_a_time_starts_where_they_say(client: Client, tenant: str) -> None:
    first = await client.ingest.PublishSignal(publish_of(a_row(tenant)))
    latest = (await client.events.GetCursor(GetCursorRequest(tenant_id=tenant, start=_at_latest()))).cursor
    second = await client.ingest.PublishSignal(publish_of(a_row(tenant)))

    pulled = await client.events.PullEvents(_pull(tenant, latest))
    from_start = await client.events.PullEvents(
        PullEventsRequest(tenant_id=tenant, start=Start(position=POSITION_EARLIEST))
    )

    assert [e.signal.seq for e in pulled.events if e.HasField("signal")] == [second.seq]
    assert [e.signal.seq for e in from_start.events if e.HasField("signal")] == [first.seq, second.seq]


async def _cursor_of_a_log_that_was_rolled_back(directory: Path, tenant: str) -> str:
    """A cursor after entry 10 of a log that then is put back to where it had 3."""
    async with serving(directory / "data", http=False, drain=True) as served, connect(served.grpc) as client:
        await client.ingest.PublishSignals(batch_of([a_row(tenant) for _ in range(3)], tenant))
    shutil.copytree(directory / "data", directory / "backup")
    async with serving(directory / "data", http=False) as served, connect(served.grpc) as client:
        await client.ingest.PublishSignals(batch_of([a_row(tenant) for _ in range(7)], tenant))
        cursor = (await client.events.GetCursor(GetCursorRequest(tenant_id=tenant, start=_at_latest()))).cursor
    shutil.rmtree(directory / "data")
    shutil.move(directory / "backup", directory / "data")
    return cursor


def _assert_expired(refusal: Refusal) -> None:
    assert (refusal.code, refusal.reason) == ("OUT_OF_RANGE", "CURSOR_EXPIRED")
    assert refusal.metadata


async def _refusals(client: Client, tenant: str, cursor: str) -> list[Refusal]:
    """What Subscribe, PullEvents and GetCursor say to the cursor."""
    start = Start(cursor=cursor)
    return [
        await _refusal(_next(client.events.Subscribe(SubscribeRequest(tenant_id=tenant, start=start)))),
        await _refusal(client.events.PullEvents(PullEventsRequest(tenant_id=tenant, start=start))),
        await _refusal(client.events.GetCursor(GetCursorRequest(tenant_id=tenant, start=start))),
    ]


async def _refusal(call: Awaitable[object]) -> Refusal:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    return refusal_of(caught.value)


async def _next(stream: grpc.aio.UnaryStreamCall[SubscribeRequest, SubscribeResponse]) -> SubscribeResponse:
    """The stream's next frame."""
    async with asyncio.timeout(10):
        frame = await stream.read()
    assert isinstance(frame, SubscribeResponse)
    return frame


def _pull(tenant: str, cursor: str) -> PullEventsRequest:
    return PullEventsRequest(tenant_id=tenant, start=Start(cursor=cursor))


def _at_latest() -> Start:
    return Start(position=POSITION_LATEST)

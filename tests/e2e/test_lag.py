"""A subscriber that is slow is its own problem: nobody waits for it, and it can resume."""

from __future__ import annotations

import asyncio
import socket as socket_
from contextlib import AsyncExitStack, asynccontextmanager
from time import monotonic
from typing import TYPE_CHECKING, Final

import grpc.aio
import pytest

from coherence.v1.admin_pb2 import PruneRequest
from coherence.v1.events_pb2 import (
    CLOSING_REASON_LAGGED,
    EVENT_KIND_SIGNAL_STORED,
    POSITION_EARLIEST,
    EventFilter,
    GetCursorRequest,
    PullEventsRequest,
    Start,
    SubscribeRequest,
    SubscribeResponse,
)
from coherence.v1.events_pb2_grpc import EventsServiceStub
from coherence.v1.signal_pb2 import RETENTION_SHORT_30D, Tags
from coherence_grpc.client import Client, connect, refusal_of
from tests.e2e.cutting import earliest
from tests.e2e.reading import WINDOW_US, assert_score_is_exact, clock_us
from tests.e2e.rows import a_row, batch_of
from tests.e2e.subscriptions import EVENTS, answers, ask, socket_to
from tests.e2e.wire import wire_to
from tests.serving import Served, eventually, serving

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from websockets.asyncio.client import ClientConnection

pytestmark = [pytest.mark.anyio, pytest.mark.slow]

LAGGED_S: Final = 30
BATCH: Final = 500
BATCHES: Final = 50
FRAME: Final = 100
NARROW: Final = 64 * 1024
# Four bytes each: the events outgrow the 20 MB and more that sockets and flow control hold for who doesn't read.
LONG: Final = "\N{GRINNING FACE}" * 100

Stream = grpc.aio.UnaryStreamCall[SubscribeRequest, SubscribeResponse]


@pytest.mark.timeout(200)
async def test_r13_a_subscriber_that_never_reads_slows_nobody_and_ends_with_a_resume_cursor(
    service: Served, client: Client, tenant: str
) -> None:
    variables = {"tenantId": tenant, "after": await earliest(client, tenant)}
    async with _alone(service.grpc) as idle, _unread_socket(service.http) as socket:
        frozen = idle.Subscribe(_from_the_beginning(tenant))
        await frozen.initial_metadata()
        await ask(socket, EVENTS, variables)
        readers = [asyncio.create_task(_signals_until(client, tenant, BATCH * BATCHES)) for _ in range(5)]
        begun = monotonic()
        await _publish(client, tenant)
        seen = [await reader for reader in readers]
        took = monotonic() - begun

        # They take no frame for longer than the server bears with that, while the others are long done.
        await asyncio.sleep(LAGGED_S + 15)
        received, cursor = await _read_to_the_end(frozen)
        rest = await _pulled_after(client, tenant, cursor)
        heard, resume_cursor = await _heard_to_the_end(socket)
        unheard = await _pulled_after(client, tenant, resume_cursor)

    whole = list(range(1, BATCH * BATCHES + 1))
    assert seen == [whole] * 5
    assert took < LAGGED_S
    assert received == whole[: len(received)]
    # The frame that was under way when the stream was ended may come again; nothing is left out.
    assert rest == whole[-len(rest) :]
    assert 0 <= len(received) + len(rest) - len(whole) <= FRAME
    assert unheard == whole[heard:]


async def test_subscribers_that_leave_without_having_read_are_no_fault_of_the_service(
    tmp_path: Path, tenant: str
) -> None:
    async with serving(tmp_path, http=False) as served, connect(served.grpc) as client:
        await _publish(client, tenant)
        async with wire_to(served.grpc) as wire, AsyncExitStack() as stack:
            for _ in range(5):
                leaving = await stack.enter_async_context(_alone(wire.address))
                await leaving.Subscribe(_from_the_beginning(tenant)).initial_metadata()
            await wire.stalled()

            wire.cut()

        await assert_score_is_exact(client, tenant)
        assert "internal error" not in served.stderr


async def test_r21_erased_signals_are_an_explicit_gap_to_a_subscriber(tmp_path: Path, tenant: str) -> None:
    # A day passes in a second, so that retention and the day's grace end while the test waits.
    flags = ("--clock-start", "2013-02-08T00:00:00Z", "--clock-speed", "86400")
    async with serving(tmp_path, *flags, http=False) as served, connect(served.grpc) as client:
        old = await clock_us(client) - 30 * WINDOW_US + WINDOW_US // 2
        request = batch_of([a_row(tenant, ts=old) for _ in range(10)], tenant)
        request.tags.CopyFrom(Tags(retention=RETENTION_SHORT_30D))
        await client.ingest.PublishSignals(request)
        start = (await client.events.GetCursor(GetCursorRequest(tenant_id=tenant, start=_earliest()))).cursor
        await client.ingest.PublishSignals(batch_of([a_row(tenant)], tenant))

        await eventually(lambda: _erased(client), lambda erased: erased == 10)

        stream = client.events.Subscribe(SubscribeRequest(tenant_id=tenant, start=Start(cursor=start)))
        frames = [frame async for frame in _until_signal(stream)]
        stream.cancel()
        gap = next(frame.gap for frame in frames if frame.HasField("gap"))
        assert (gap.from_seq, gap.to_seq) == (1, 10)
        assert gap.reason
        after_gap = await _pulled_after(client, tenant, gap.cursor)
        assert after_gap == [11]
        pulled = await client.events.PullEvents(PullEventsRequest(tenant_id=tenant, start=Start(cursor=start)))
        assert [(g.from_seq, g.to_seq) for g in pulled.gaps] == [(1, 10)]


async def _publish(client: Client, tenant: str) -> None:
    for number in range(BATCHES):
        words = {"source": LONG, "type": LONG[:64], "weight": 0.0}
        rows = [a_row(tenant, signal_id=f"{LONG}{number}-{n}", **words) for n in range(BATCH)]
        await client.ingest.PublishSignals(batch_of(rows, tenant))


@asynccontextmanager
async def _unread_socket(address: str) -> AsyncIterator[ClientConnection]:
    """A socket with little room on its way, so that not reading is noticed."""
    host, _, port = address.rpartition(":")
    narrow = socket_.socket()
    narrow.setsockopt(socket_.SOL_SOCKET, socket_.SO_RCVBUF, NARROW)
    narrow.connect((host, int(port)))
    async with socket_to(address, sock=narrow) as socket:
        yield socket


async def _heard_to_the_end(socket: ClientConnection) -> tuple[int, str]:
    """How many signals were under way to a socket that lagged, and where it can resume."""
    heard = 0
    async with asyncio.timeout(30):
        async for message in answers(socket):
            if errors := message.get("errors"):
                assert errors[0]["extensions"]["reason"] == "SUBSCRIBER_LAGGED"
                return heard, errors[0]["extensions"]["resumeCursor"]
            heard += 1
    pytest.fail("the socket was not told that it lagged")


@asynccontextmanager
async def _alone(address: str) -> AsyncIterator[EventsServiceStub]:
    """A stub over a connection of its own, whose window is full when it doesn't read."""
    options = [("grpc.use_local_subchannel_pool", 1), ("grpc.enable_http_proxy", 0)]
    async with grpc.aio.insecure_channel(address, options=options) as channel:
        yield EventsServiceStub(channel)


def _earliest() -> Start:
    return Start(position=POSITION_EARLIEST)


def _from_the_beginning(tenant: str) -> SubscribeRequest:
    kinds = EventFilter(kinds=[EVENT_KIND_SIGNAL_STORED])
    return SubscribeRequest(tenant_id=tenant, start=_earliest(), filter=kinds)


async def _signals_until(client: Client, tenant: str, last: int) -> list[int]:
    seen: list[int] = []
    stream = client.events.Subscribe(_from_the_beginning(tenant))
    async for frame in stream:
        seen += [event.signal.seq for event in frame.batch.events]
        if last in seen[-1:]:
            stream.cancel()
            break
    return seen


async def _read_to_the_end(stream: Stream) -> tuple[list[int], str]:
    """What was still under way to a subscriber that lagged, and where it can resume."""
    seen: list[int] = []
    cursor = ""
    try:
        async with asyncio.timeout(20):
            async for frame in stream:
                seen += [event.signal.seq for event in frame.batch.events]
                if frame.HasField("closing"):
                    assert frame.closing.reason == CLOSING_REASON_LAGGED
                    cursor = frame.closing.resume_cursor
    except grpc.aio.AioRpcError as error:
        refusal = refusal_of(error)
        assert (refusal.code, refusal.reason) == ("RESOURCE_EXHAUSTED", "SUBSCRIBER_LAGGED")
        cursor = cursor or refusal.metadata["resume_cursor"]
    return seen, cursor


async def _pulled_after(client: Client, tenant: str, cursor: str) -> list[int]:
    seen: list[int] = []
    request = PullEventsRequest(
        tenant_id=tenant,
        start=Start(cursor=cursor),
        filter=EventFilter(kinds=[EVENT_KIND_SIGNAL_STORED]),
        max_events=1000,
    )
    while (page := await client.events.PullEvents(request)).events or page.has_more:
        seen += [event.signal.seq for event in page.events]
        request.start.cursor = page.next_cursor
    return seen


async def _erased(client: Client) -> int:
    """How many signals a pruning of all tenants has erased."""
    progress = [step async for step in client.admin.Prune(PruneRequest())]
    return progress[-1].erased_count


async def _until_signal(stream: Stream) -> AsyncIterator[SubscribeResponse]:
    """The frames up to the first signal."""
    async with asyncio.timeout(10):
        async for frame in stream:
            yield frame
            if any(event.HasField("signal") for event in frame.batch.events):
                return

"""Event streams of the client, over a server that ends them in every way there is."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration

from coherence.v1 import events_pb2 as pb
from coherence_grpc.client import Event, Gap, NotAuthenticated, Refused, Status, Unavailable, connect, following
from tests.speaking import refuse, speaking

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from coherence_grpc.client import EventStream
    from tests.speaking import Context

pytestmark = pytest.mark.anyio


@pytest.fixture(scope="module", autouse=True)
async def one_loop(anyio_backend: str) -> AsyncIterator[None]:
    """One loop for all tests of this module: gRPC may still have a word on a call of the test before."""
    yield  # noqa: PT022 - the loop lasts as long as the generator


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(following, "FIRST_PAUSE_S", 0.02)


def events(*cursors: str, kind: pb.EventKind.ValueType = pb.EVENT_KIND_SIGNAL_STORED) -> pb.SubscribeResponse:
    """A batch of events with these cursors."""
    return pb.SubscribeResponse(batch=pb.EventBatch(events=[pb.Event(cursor=cursor, kind=kind) for cursor in cursors]))


OPENED = pb.SubscribeResponse(opened=pb.Opened(cursor="opened"))


class Server:
    """Answers one stream after the other with these frames, then ends it; keeps where each was to start."""

    def __init__(self, *streams: list[pb.SubscribeResponse | grpc.StatusCode]) -> None:
        self._streams = iter(streams)
        self.requests: list[pb.SubscribeRequest] = []

    @property
    def starts(self) -> list[str]:
        return [request.start.cursor for request in self.requests]

    async def subscribe(self, request: pb.SubscribeRequest, context: Context) -> AsyncIterator[pb.SubscribeResponse]:
        self.requests.append(request)
        for frame in next(self._streams, [grpc.StatusCode.UNAVAILABLE]):
            if isinstance(frame, grpc.StatusCode):
                await refuse(context, frame, "no")
            else:
                yield frame


async def cursors_of(stream: EventStream, count: int) -> list[str]:
    async with asyncio.timeout(10):
        return [(await anext(stream)).cursor for _ in range(count)]


async def test_a_stream_goes_on_after_the_last_event_that_was_handed_out() -> None:
    server = Server(
        [OPENED, events("a", "b"), grpc.StatusCode.UNAVAILABLE],
        [grpc.StatusCode.UNAVAILABLE],
        [OPENED, events("c")],
        [OPENED, events("d")],
    )
    lost = list[Refused]()
    async with speaking(events=server.subscribe) as address, connect(address) as client:
        stream = client.events("acme", after="start", on_lost=lost.append)
        found = await cursors_of(stream, 4)
        await stream.aclose()

    assert found == ["a", "b", "c", "d"]
    assert server.starts == ["start", "b", "b", "c"]
    assert [each.code for each in lost] == ["UNAVAILABLE"]


async def test_a_quiet_stream_moves_its_cursor_with_the_bookmarks() -> None:
    bookmark = pb.SubscribeResponse(bookmark=pb.Bookmark(cursor="quiet"))
    server = Server([OPENED, bookmark], [OPENED, events("a")])
    async with speaking(events=server.subscribe) as address, connect(address) as client:
        stream = client.events("acme")
        before = stream.cursor
        found = await cursors_of(stream, 1)
        await stream.aclose()

    assert before == ""
    assert found == ["a"]
    assert server.starts == ["", "quiet"]


async def test_a_stream_that_the_server_closes_is_taken_up_where_it_says() -> None:
    closing = pb.Closing(reason=pb.CLOSING_REASON_DRAINING, resume_cursor="here", retry_delay=Duration(nanos=1000))
    server = Server([OPENED, pb.SubscribeResponse(closing=closing)], [OPENED, events("a")])
    async with speaking(events=server.subscribe) as address, connect(address) as client:
        stream = client.events("acme")
        found = await cursors_of(stream, 1)
        await stream.aclose()

    assert found == ["a"]
    assert server.starts == ["", "here"]


async def test_a_gap_is_an_item_and_what_a_later_version_sends_is_passed_over() -> None:
    gap = pb.SubscribeResponse(gap=pb.Gap(from_seq=1, to_seq=7, cursor="after", reason="erased"))
    unheard_of: pb.EventKind.ValueType = 99  # type: ignore[assignment]  # what is tested
    server = Server([OPENED, gap, events("new", kind=unheard_of), events("a")])
    async with speaking(events=server.subscribe) as address, connect(address) as client:
        stream = client.events("acme")
        async with asyncio.timeout(10):
            first, second = await anext(stream), await anext(stream)
        await stream.aclose()

    assert first == Gap(1, 7, "after", "erased")
    assert isinstance(second, Event)
    assert second.cursor == "a"


async def test_a_service_that_stays_away_is_given_up_when_patience_ends() -> None:
    server = Server([OPENED, events("a"), grpc.StatusCode.UNAVAILABLE])
    async with speaking(events=server.subscribe) as address, connect(address, patience_s=0.1) as client:
        stream = client.events("acme")
        found = await cursors_of(stream, 1)
        with pytest.raises(Unavailable):
            await cursors_of(stream, 1)

    assert found == ["a"]
    assert len(server.requests) > 2


async def test_a_token_that_expired_is_replaced_when_it_can_be() -> None:
    tokens = iter(["old", "new"])
    expired: list[pb.SubscribeResponse | grpc.StatusCode] = [OPENED, grpc.StatusCode.UNAUTHENTICATED]
    server, other = Server(expired, [OPENED, events("a")]), Server(expired)
    async with speaking(events=server.subscribe) as address, connect(address, token=lambda: next(tokens)) as client:
        stream = client.events("acme")
        found = await cursors_of(stream, 1)
        await stream.aclose()
    async with speaking(events=other.subscribe) as address, connect(address, token="fixed") as client:  # noqa: S106 - no secret
        with pytest.raises(NotAuthenticated):
            await cursors_of(client.events("acme"), 1)

    assert found == ["a"]
    assert list(tokens) == []


async def test_the_filters_are_sent() -> None:
    server = Server([OPENED, events("a")])
    at = datetime(2013, 2, 8, tzinfo=UTC)
    async with speaking(events=server.subscribe) as address, connect(address) as client:
        stream = client.events(
            "acme", start=at, sources=["ci"], types=["build"], min_value=0.1, max_value=0.9, statuses=[Status.WARN]
        )
        await cursors_of(stream, 1)
        await stream.aclose()

    wanted = server.requests[0]
    assert wanted.start.time.ToDatetime(UTC) == at
    assert (list(wanted.filter.sources), list(wanted.filter.types)) == (["ci"], ["build"])
    assert (wanted.filter.min_value, wanted.filter.max_value) == (0.1, 0.9)

"""The client for code without an event loop."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest

from coherence_grpc.client import (
    Event,
    EventKind,
    Invalid,
    Published,
    PublishIncomplete,
    Signal,
    Status,
    Unavailable,
    connect_sync,
)
from tests.backends.ports import free_port

if TYPE_CHECKING:
    from collections.abc import Iterator

    from coherence_grpc.client import SyncClient
    from tests.serving import Served

pytestmark = pytest.mark.slow


@pytest.fixture
def waiting(service: Served) -> Iterator[SyncClient]:
    """A client of the shared service."""
    with connect_sync(service.grpc) as client:
        yield client


def test_calls_wait_for_their_answers(waiting: SyncClient, tenant: str) -> None:
    published = waiting.publish(tenant, source="ci", type="build", value=0.9)
    (more,) = waiting.publish_all(tenant, [Signal("ci", "build", 0.7)])
    score = waiting.get_score(tenant, at_least=published.revision)

    assert isinstance(more, Published)
    assert (score.score, score.status) == (0.8, Status.HEALTHY)
    assert [stored.seq for stored in waiting.list_signals(tenant)] == [2, 1]
    assert waiting.explain(tenant).score.signal_count == 2


def test_refusals_are_raised_where_the_call_was_made(waiting: SyncClient, tenant: str) -> None:
    with pytest.raises(Invalid) as invalid:
        waiting.publish(tenant, source="ci", type="build", value=2)

    assert invalid.value.fields[0].path == "signal.value"


def test_a_server_that_is_not_there_is_unavailable() -> None:
    with connect_sync(f"127.0.0.1:{free_port()}", timeout_s=5) as client, pytest.raises(Unavailable):
        client.get_score("acme")


def test_a_publisher_hands_over_everything_when_it_is_left(waiting: SyncClient, tenant: str) -> None:
    with waiting.publisher(tenant) as publisher:
        publisher.put(Signal("ci", "build", 0.5))
        publisher.put_all(Signal("ci", "build", 0.5) for _ in range(2_000))
        publisher.flush()
        flushed = publisher.stats.stored
        publisher.put(Signal("ci", "build", 7.0))

    assert flushed == 2_001
    assert [each.refusal.reason for each in publisher.rejected] == ["SIGNAL_INVALID"]
    assert waiting.get_score(tenant, at_least=publisher.revision).signal_count == 2_001


def test_a_publisher_that_cannot_be_opened_says_why(waiting: SyncClient) -> None:
    with pytest.raises(Invalid, match="tenant_id"), waiting.publisher("No Tenant"):
        pass


def test_iterators_are_plain_ones_and_can_be_left_at_any_time(waiting: SyncClient, tenant: str) -> None:
    waiting.publish_all(tenant, [Signal("ci", "build", 0.9), Signal("ci", "build", 0.5)])

    seqs, events = list[int](), waiting.events(tenant, start="earliest", kinds=[EventKind.SIGNAL_STORED])
    for item in events:
        assert isinstance(item, Event)
        assert item.signal is not None
        seqs.append(item.signal.seq)
        if len(seqs) == 2:
            break
    with waiting.watch(tenant) as updates:
        first = next(updates)

    assert seqs == [1, 2]
    assert events.cursor
    assert (first.initial, first.score.score) == (True, 0.7)


def test_threads_share_a_client(waiting: SyncClient, tenant: str) -> None:
    with ThreadPoolExecutor(4) as threads:
        answers = list(threads.map(lambda _: waiting.publish(tenant, source="ci", type="build", value=0.5), range(20)))

    assert sorted(answer.seq for answer in answers) == list(range(1, 21))


def test_leaving_ends_its_thread_and_what_was_left_open(service: Served, tenant: str) -> None:
    with connect_sync(service.grpc) as client:
        client.publish(tenant, source="ci", type="build", value=0.5)
        next(client.watch(tenant))

    assert not [thread for thread in threading.enumerate() if thread.name == "coherence client"]


def test_what_is_pending_when_time_is_up_is_named(service: Served, tenant: str) -> None:
    with (
        connect_sync(service.grpc) as client,
        pytest.raises(PublishIncomplete) as told,
        client.publisher(tenant, close_s=0) as publisher,
    ):
        publisher.put(Signal("ci", "build", 0.5, signal_id="left"))

    assert [signal.signal_id for signal in told.value.unacked] == ["left"]

"""Streams of signals: acks that follow the commit, credits, and what ends a stream."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING

import pytest

from coherence_grpc import failpoints
from coherence_grpc.errors import (
    CoherenceError,
    CreditExceeded,
    Draining,
    OutcomeUnknown,
    RequestIdReused,
    SignalInvalid,
    StorageFull,
    StoreDown,
    StoreTimeout,
    StreamInvalid,
    StreamSequenceGap,
)
from coherence_grpc.ingest import streamed, streaming
from coherence_grpc.ingest.streamed import Ack, Closing, ClosingReason, Credit, Opened, Throttle
from coherence_grpc.ingest.streaming import ALL_CREDITS, CREDITS, LEAST_CREDITS
from coherence_grpc.model import DAY, OnConflict
from tests.builders import NOON, a_caller, a_draft, a_publication
from tests.faults import eventually, tasks_end, until
from tests.unit.streaming import World, acked, open_world, taken, the_next

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Sequence
    from pathlib import Path

    from coherence_grpc.ingest import Published
    from coherence_grpc.ingest.streaming import SignalStream
    from coherence_grpc.model import Write

pytestmark = pytest.mark.anyio


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with open_world(tmp_path) as opened:
        yield opened


def failing(world: World, error: Exception, *, times: int) -> Callable[[Sequence[Write]], None]:
    """Fails so many commits, and none after them."""
    left = [times]

    def fail(_: Sequence[Write]) -> None:
        if left[0]:
            left[0] -= 1
            raise error

    return fail


async def refused(stream: SignalStream) -> CoherenceError:
    """What the stream ends with."""
    with pytest.raises(CoherenceError) as caught:
        await the_next(stream, Closing)
    return caught.value


async def test_a_stream_opens_with_what_was_acknowledged_and_its_credits(world: World) -> None:
    async with world.open(acked_through=7) as (stream, _):
        assert await taken(stream) == Opened(7, CREDITS)


async def test_acks_are_cumulative_and_count_since_the_ack_before(world: World) -> None:
    twice = a_draft(signal_id="twice")
    async with world.opened() as (stream, feed):
        feed.batch(a_draft(), twice)
        first = await the_next(stream, Ack)
        feed.batch(twice, a_draft())
        second = await the_next(stream, Ack)

    assert (first.acked_through, first.stored, first.duplicates) == (1, 2, 0)
    assert (second.acked_through, second.stored, second.duplicates) == (2, 1, 1)
    assert second.head is not None
    assert second.head.seq == 3


async def test_an_ack_never_comes_before_its_commit(world: World) -> None:
    world.store.hold_answers("append")
    async with world.opened() as (stream, feed):
        waiting = asyncio.create_task(taken(stream))
        feed.batch()
        # It is in the file by now, and nobody has been told.
        await until(lambda: world.store.answers["append"] == 1)
        before = waiting.done()
        world.store.release()
        ack = await waiting

    assert not before
    assert isinstance(ack, Ack)


async def test_many_small_batches_share_a_commit_and_an_ack(world: World) -> None:
    world.store.hold("append")
    async with world.opened() as (stream, feed):
        feed.batch()
        await until(lambda: world.store.calls["append"] == 1)
        for _ in range(400):
            feed.batch()
        await until(lambda: feed.read)
        world.store.release()
        acks = await acked(stream, 401)

    assert world.store.groups == [1, 400]
    assert len(acks) <= 2
    assert sum(ack.stored for ack in acks) == 401


async def test_what_nothing_follows_is_acknowledged_at_once(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streaming, "ACK_S", 3600.0)
    async with world.opened() as (stream, feed):
        feed.batch()

        ack = await the_next(stream, Ack)

    assert ack.acked_through == 1


async def test_an_ack_does_not_wait_for_what_is_sent_after_it(world: World) -> None:
    async with world.opened() as (stream, feed):

        def hold_the_second(writes: Sequence[Write]) -> None:
            if writes[0].provenance.request_id.endswith(":1"):
                world.store.hold("append")

        world.store.after = hold_the_second
        feed.batch()
        await until(lambda: world.store.calls["append"] == 1)
        feed.batch()

        ack = await the_next(stream, Ack)

    assert ack.acked_through == 1


async def test_a_signal_that_is_refused_is_named_and_does_not_end_the_stream(world: World) -> None:
    conflicting = a_draft(signal_id="taken", value=0.1)
    async with world.opened() as (stream, feed):
        feed.batch(a_draft(signal_id="taken", value=0.9))
        await acked(stream, 1)
        feed.batch(a_draft(), conflicting, a_draft(ts=NOON + DAY), refused={3: SignalInvalid("signals[3] is none")})
        ack = await the_next(stream, Ack)
        feed.batch()
        after = await the_next(stream, Ack)

    named = [(rejection.sequence, rejection.position, rejection.error.reason) for rejection in ack.rejections]
    assert named == [(2, 1, "SIGNAL_KEY_CONFLICT"), (2, 2, "SIGNAL_INVALID"), (2, 3, "SIGNAL_INVALID")]
    assert (ack.stored, ack.duplicates) == (1, 0)
    assert (after.acked_through, after.rejections) == (3, [])


async def test_very_many_refusals_are_told_in_several_acks(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streamed, "ACK_REJECTIONS", 2)
    none = {0: SignalInvalid("no"), 2: SignalInvalid("no")}
    world.store.hold("append")
    async with world.opened() as (stream, feed):
        for _ in range(3):
            feed.batch(refused=none)
        await until(lambda: feed.read)
        world.store.release()
        acks = await acked(stream, 3)

    assert [(ack.acked_through, len(ack.rejections)) for ack in acks] == [(1, 2), (2, 2), (3, 2)]


async def test_under_replace_a_signal_takes_the_place_of_another_and_is_counted(world: World) -> None:
    async with world.opened(on_conflict=OnConflict.REPLACE) as (stream, feed):
        feed.batch(a_draft(signal_id="one", value=0.1))
        feed.batch(a_draft(signal_id="one", value=0.2), a_draft())
        acks = await acked(stream, 2)

    assert (sum(ack.stored for ack in acks), sum(ack.replaced for ack in acks)) == (2, 1)


async def test_a_flush_is_answered_though_nothing_is_new(world: World) -> None:
    async with world.opened(acked_through=3) as (stream, feed):
        feed.flush()
        nothing = await taken(stream)
        feed.batch()
        feed.flush()
        ack = await the_next(stream, Ack)

    assert nothing == Ack(3, 0, 0, 0, (), None)
    assert (ack.acked_through, ack.stored) == (4, 1)


async def test_a_flood_of_flushes_is_one_answer(world: World) -> None:
    world.store.hold("append")
    async with world.opened() as (stream, feed):
        feed.batch()
        for _ in range(100):
            feed.flush()
        feed.end()
        await until(lambda: feed.read)
        world.store.release()
        rest = [frame async for frame in stream]

    assert [type(frame) for frame in rest] == [Ack, Closing]


@pytest.mark.parametrize("sequence", [1, 2, 4])
async def test_a_batch_that_does_not_follow_ends_the_stream(world: World, sequence: int) -> None:
    async with world.opened() as (stream, feed):
        feed.batch()
        feed.batch()
        await acked(stream, 2)
        feed.batch(sequence=sequence)

        error = await refused(stream)

    assert isinstance(error, StreamSequenceGap)
    assert error.metadata == {"expected": "3", "acked_through": "2"}
    assert len(await world.stored()) == 2


async def test_a_client_that_ignores_its_credits_is_refused(world: World) -> None:
    world.store.hold("append")
    batch = [a_draft() for _ in range(1000)]
    async with world.opened() as (stream, feed):
        for _ in range(CREDITS // 1000):
            feed.batch(*batch)
        await until(lambda: feed.read)
        within = asyncio.create_task(refused(stream))
        await asyncio.sleep(0)
        before = within.done()
        feed.batch()

        error = await within

    assert not before
    assert isinstance(error, CreditExceeded)
    assert error.metadata == {"credits": str(CREDITS), "acked_through": "0"}


async def test_a_client_that_takes_no_acks_runs_out_of_credits_though_all_is_stored(world: World) -> None:
    async with world.opened() as (stream, feed):
        for _ in range(CREDITS // 1000):
            feed.batch(*(a_draft() for _ in range(1000)))
        await eventually(world.stored, lambda stored: len(stored) == CREDITS)
        feed.batch()
        await until(lambda: feed.read)

        ack = await the_next(stream, Ack)
        error = await refused(stream)

    assert ack.stored == 1000 * ack.acked_through > 0
    assert isinstance(error, CreditExceeded)
    assert error.metadata["acked_through"] == str(ack.acked_through)


async def test_credits_come_back_with_the_ack(world: World) -> None:
    async with world.opened() as (stream, feed):
        for _ in range(2):
            for _ in range(CREDITS // 1000):
                feed.batch(*(a_draft() for _ in range(1000)))
            await acked(stream, feed.next - 1)

    assert world.streams.counts["signals"] == 2 * CREDITS


@pytest.mark.parametrize("error", [StoreDown("down"), StoreTimeout("slow")])
async def test_what_was_sent_is_stored_once_the_store_is_back_and_the_client_is_asked_to_wait(
    world: World, error: CoherenceError
) -> None:
    drafts = [a_draft() for _ in range(3)]
    world.store.before = failing(world, error, times=3)
    async with world.opened() as (stream, feed):
        for draft in drafts:
            feed.batch(draft)
        throttle = await taken(stream)
        acks = await acked(stream, 3)

    assert isinstance(throttle, Throttle)
    assert (throttle.reason, throttle.retry_delay_s > 0) == (error.message, True)
    assert sum(ack.stored for ack in acks) == 3
    assert await world.stored() == [draft.signal_id for draft in drafts]


async def test_a_commit_whose_answer_was_lost_is_not_made_twice(world: World) -> None:
    world.store.after = failing(world, OutcomeUnknown("lost"), times=1)
    async with world.opened() as (stream, feed):
        feed.batch(a_draft(signal_id="a"), a_draft(signal_id="b"))
        (ack,) = await acked(stream, 1)

    assert (ack.stored, ack.duplicates, ack.rejections) == (0, 2, [])
    assert await world.stored() == ["a", "b"]


async def test_r4_an_ack_that_was_not_sent_costs_nothing_but_sending_the_batch_again(world: World) -> None:
    draft = a_draft(signal_id="a")
    failpoints.arm("ack.before=error", profile="dev")
    async with world.opened() as (stream, feed):
        feed.batch(draft)
        error = await refused(stream)
    async with world.opened() as (stream, feed):
        feed.batch(draft)
        (ack,) = await acked(stream, 1)

    assert isinstance(error, OutcomeUnknown)
    assert error.metadata["acked_through"] == "0"
    assert (ack.stored, ack.duplicates) == (0, 1)
    assert await world.stored() == ["a"]


async def test_patience_ends_with_the_error_after_what_was_stored_is_acknowledged(tmp_path: Path) -> None:
    async with open_world(tmp_path, patience_s=0.2) as world, world.opened() as (stream, feed):
        feed.batch()
        await acked(stream, 1)
        world.store.before = failing(world, StoreDown("down"), times=10**6)
        feed.batch()

        error = await refused(stream)

    assert isinstance(error, StoreDown)
    assert error.metadata["acked_through"] == "1"


async def test_a_commit_that_does_not_come_back_ends_the_stream_in_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(streaming, "STUCK_S", 0.1)
    async with open_world(tmp_path, patience_s=0.4) as world, world.opened() as (stream, feed):
        world.store.hold("append")
        feed.batch()

        throttle = await the_next(stream, Throttle)
        error = await refused(stream)
        world.store.release()

    assert "takes long" in throttle.reason
    assert isinstance(error, StoreTimeout)
    assert error.metadata["acked_through"] == "0"


@pytest.mark.parametrize("error", [StorageFull("full"), ValueError("no such data")])
async def test_what_does_not_pass_ends_the_stream_at_once(world: World, error: Exception) -> None:
    world.store.before = failing(world, error, times=1)
    async with world.opened() as (stream, feed):
        feed.batch()

        with pytest.raises(type(error)):
            await taken(stream)


async def test_a_batch_whose_number_was_used_for_another_ends_the_stream_after_those_before_it(world: World) -> None:
    async with world.opened() as (stream, feed):
        feed.batch()
        feed.batch()
        await acked(stream, 2)
    async with world.opened(acked_through=1) as (stream, feed):
        feed.batch(a_draft())

        error = await refused(stream)

    assert isinstance(error, RequestIdReused)
    assert error.metadata["acked_through"] == "1"


async def test_a_batch_that_is_sent_again_is_a_duplicate_with_the_same_refusals(world: World) -> None:
    drafts = [a_draft(), a_draft(ts=NOON + DAY), a_draft(ts=None)]
    async with world.opened() as (stream, feed):
        feed.batch(*drafts)
        (first,) = await acked(stream, 1)
    async with world.opened() as (stream, feed):
        feed.batch(*drafts)
        feed.batch()
        again = await acked(stream, 2)

    assert (first.stored, first.duplicates) == (2, 0)
    assert (sum(ack.stored for ack in again), sum(ack.duplicates for ack in again)) == (1, 2)
    assert [r.position for ack in again for r in ack.rejections] == [r.position for r in first.rejections] == [1]


async def test_a_client_that_ends_its_side_is_told_that_all_is_stored(world: World) -> None:
    async with world.opened() as (stream, feed):
        feed.batch()
        feed.batch()
        feed.end()
        rest = [frame async for frame in stream]

    assert rest[-1] == Closing(2, ClosingReason.COMPLETE)
    assert sum(ack.stored for ack in rest if isinstance(ack, Ack)) == 2


async def test_a_drain_acknowledges_what_has_come_and_stores_no_more(world: World) -> None:
    world.store.hold("append")
    async with world.opened() as (stream, feed):
        feed.batch(a_draft(signal_id="before"))
        await until(lambda: feed.read)
        world.streams.drain()
        feed.batch(a_draft(signal_id="after"))
        world.store.release()
        rest = [frame async for frame in stream]
        with pytest.raises(Draining):
            async with world.open():
                pass

    assert rest[-1] == Closing(1, ClosingReason.DRAINING)
    assert await world.stored() == ["before"]


@pytest.mark.parametrize("ended", [False, True])
async def test_a_drain_does_not_wait_for_a_store_that_is_away(
    world: World, monkeypatch: pytest.MonkeyPatch, *, ended: bool
) -> None:
    monkeypatch.setattr(streaming, "FINISH_S", 0.05)
    world.store.before = failing(world, StoreDown("down"), times=10**6)
    async with world.opened() as (stream, feed):
        feed.batch()
        if ended:
            feed.end()
        await until(lambda: feed.read)
        world.streams.drain()

        error = await refused(stream)

    assert isinstance(error, Draining)
    assert error.retry_after_s is not None
    assert error.metadata["acked_through"] == "0"


async def test_a_stream_ends_by_itself_when_it_is_old(world: World) -> None:
    async with world.opened(max_age_s=0.1) as (stream, feed):
        feed.batch()
        rest = [frame async for frame in stream]

    assert rest[-1] == Closing(1, ClosingReason.MAX_AGE)


async def test_a_consumer_that_is_stuck_hears_of_the_end_another_way(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(streaming, "HEAR_S", 0.02)
    async with world.opened() as (stream, feed):
        feed.batch()
        await acked(stream, 1)
        feed.batch(sequence=9)
        await until(lambda: bool(world.stuck))

    # The Ack was handed over, and nobody knows whether it was taken.
    assert [type(error) for error in world.stuck] == [StreamSequenceGap]
    assert world.stuck[0].metadata["acked_through"] == "0"


async def test_a_frame_that_does_not_decode_ends_the_stream_with_where_it_stood(world: World) -> None:
    async with world.opened() as (stream, feed):
        feed.batch()
        await acked(stream, 1)
        feed.breaks(StreamInvalid("the frame is empty"))

        error = await refused(stream)

    assert isinstance(error, StreamInvalid)
    assert error.metadata["acked_through"] == "1"


async def test_a_stream_that_is_left_stores_nothing_that_no_commit_had_begun_on(world: World) -> None:
    world.store.hold("append")
    before = asyncio.all_tasks()
    async with world.opened() as (_, feed):
        feed.batch(a_draft(signal_id="begun"))
        await until(lambda: world.store.calls["append"] == 1)
        feed.batch(a_draft(signal_id="waiting"))
        await until(lambda: feed.read)
    await tasks_end(before)
    world.store.release()

    await until(lambda: world.store.answers["append"] == 1)
    assert await world.stored() == ["begun"]
    assert world.streams.open_streams == 0


async def test_streams_leave_room_to_callers_who_cannot_wait_and_go_on_when_there_is_more(world: World) -> None:
    world.store.hold("append")
    others = [_publishing(world, 999) for _ in range(12)]
    await until(lambda: world.ingest.room < 1000)
    async with world.opened() as (stream, feed):
        feed.batch(*(a_draft() for _ in range(1000)))
        await until(lambda: feed.read)
        unary = _publishing(world, 1)
        await until(lambda: world.store.calls["append"] == 1)
        world.store.release()
        await acked(stream, 1)

    await asyncio.wait([*others, unary])
    assert unary.exception() is None
    assert world.store.groups[-1] == 1


def _publishing(world: World, signals: int) -> asyncio.Task[Published]:
    publication = a_publication(*(a_draft() for _ in range(signals)), tenant_id="another")
    return asyncio.create_task(world.ingest.publish(publication, a_caller(), timeout_s=30))


async def test_credits_are_shared_by_many_and_raised_when_they_go(world: World) -> None:
    most = ALL_CREDITS // LEAST_CREDITS
    async with AsyncExitStack() as others:
        for _ in range(most):
            await others.enter_async_context(world.open())
        async with world.open() as (stream, _):
            first = await taken(stream)
            await others.aclose()

            raised = await the_next(stream, Credit)

    assert isinstance(first, Opened)
    assert first.credits == LEAST_CREDITS
    assert raised.credits >= 2 * LEAST_CREDITS

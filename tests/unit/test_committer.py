"""Group commit: who shares a commit with whom, and what becomes of the others when one goes wrong."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import pytest

from coherence_grpc.adapters.embedded import open_signal_store
from coherence_grpc.errors import (
    CoherenceError,
    Concurrency,
    Draining,
    OutcomeUnknown,
    RequestIdReused,
    StorageFull,
    StoreDown,
    StoreTimeout,
)
from coherence_grpc.ingest.committer import BACKLOG_ROWS, GROUP_ROWS, Committer
from coherence_grpc.model import Outcome
from tests.builders import TENANT, ManualClock, a_write, an_item
from tests.faults import InterposedSignals, until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Sequence
    from pathlib import Path

    from coherence_grpc.model import Appended, Write

pytestmark = pytest.mark.anyio


class World:
    """A committer on a real store that can be held up, and what it announced."""

    def __init__(self, store: InterposedSignals, on_commit: Sequence[Callable[[Appended], None]]) -> None:
        self.store = store
        self.announced: list[Appended] = []
        self.committer = Committer(store.port, ManualClock(), [*on_commit, self.announced.append])

    async def commit(self, write: Write | None = None, *, timeout_s: float = 5) -> Appended:
        return await self.committer.commit(write or a_write(), timeout_s=timeout_s)

    def submit(self, write: Write | None = None, *, timeout_s: float = 5) -> asyncio.Task[Appended]:
        return asyncio.create_task(self.commit(write, timeout_s=timeout_s))

    async def in_flight(self, write: Write | None = None, *, timeout_s: float = 5) -> asyncio.Task[Appended]:
        """A commit that waits in the store."""
        self.store.hold("append")
        before = len(self.store.groups)
        task = self.submit(write, timeout_s=timeout_s)
        await until(lambda: len(self.store.groups) > before)
        return task

    async def seqs(self) -> list[int]:
        return [entry.seq for entry in await self.store.port.tail(TENANT, after=0, limit=10_000)]


@asynccontextmanager
async def open_world(directory: Path, *on_commit: Callable[[Appended], None]) -> AsyncIterator[World]:
    async with open_signal_store(directory, ManualClock()) as signals:
        world = World(InterposedSignals(signals), on_commit)
        async with world.committer:
            try:
                yield world
            finally:
                world.store.release()


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with open_world(tmp_path) as opened:
        yield opened


def raising(error: Exception, *, source: str = "") -> Callable[[Sequence[Write]], None]:
    """Fails on every group, or on those that hold a signal of the source."""

    def check(writes: Sequence[Write]) -> None:
        if not source or any(item.source == source for write in writes for item in write.items):
            raise error

    return check


async def settled(tasks: Sequence[asyncio.Task[Appended]]) -> list[Appended | BaseException]:
    await asyncio.wait(tasks, timeout=5)
    return [task.exception() or task.result() for task in tasks]


async def test_what_arrives_during_a_commit_shares_the_next_one(world: World) -> None:
    first = await world.in_flight()
    others = [world.submit() for _ in range(10)]
    await asyncio.sleep(0)

    world.store.release()
    answers = [await task for task in [first, *others]]

    assert world.store.groups == [1, 10]
    assert [answer.first_seq for answer in answers] == list(range(1, 12))


async def test_a_group_is_bounded_in_rows_and_a_write_is_never_split(world: World) -> None:
    half = [an_item(signal_id=f"s{n}") for n in range(GROUP_ROWS // 2)]
    first = await world.in_flight()
    writes = [a_write(*half, an_item()), a_write(*half), a_write(*half)]
    others = [world.submit(write) for write in writes]
    await asyncio.sleep(0)

    world.store.release()
    await asyncio.wait([first, *others])

    assert world.store.groups == [1, 1, 2]


async def test_the_same_key_across_a_group_is_decided_in_order_of_arrival(world: World) -> None:
    item = an_item()
    first = await world.in_flight()
    others = [world.submit(a_write(item)) for _ in range(3)]
    await asyncio.sleep(0)

    world.store.release()
    await first
    results = [(await task).results[0] for task in others]

    assert [result.outcome for result in results] == [Outcome.STORED, Outcome.DUPLICATE, Outcome.DUPLICATE]
    assert {result.seq for result in results} == {2}


async def test_commits_are_announced_before_their_callers_are_answered(tmp_path: Path) -> None:
    answered: list[bool] = []
    tasks: list[asyncio.Task[Appended]] = []
    async with open_world(tmp_path, lambda _: answered.append(tasks[0].done())) as world:
        tasks.append(world.submit())
        await tasks[0]

        assert answered == [False]
        assert [appended.first_seq for appended in world.announced] == [1]


async def test_a_replay_is_answered_and_not_announced(world: World) -> None:
    write = a_write()
    await world.commit(write)

    again = await world.commit(write)

    assert again.results[0].outcome is Outcome.DUPLICATE
    assert len(world.announced) == 1


async def test_a_follower_that_fails_takes_no_ack_away(tmp_path: Path) -> None:
    def fail(_: Appended) -> None:
        raise ValueError

    async with open_world(tmp_path, fail) as world:
        appended = await world.commit()

        assert appended.first_seq == 1
        assert world.announced == [appended]


async def test_a_cancelled_caller_does_not_cancel_the_commit_that_others_ride_on(world: World) -> None:
    leaving = await world.in_flight()
    leaving.cancel()
    await asyncio.wait([leaving])
    staying = world.submit()
    world.store.release()

    appended = await staying

    assert leaving.cancelled()
    assert appended.first_seq == 2
    assert await world.seqs() == [1, 2]
    assert len(world.announced) == 2


async def test_a_caller_that_leaves_before_its_commit_stores_nothing(world: World) -> None:
    first = await world.in_flight()
    leaving, staying = world.submit(), world.submit()
    await asyncio.sleep(0)
    leaving.cancel()
    world.store.release()

    await asyncio.wait([first, leaving, staying])

    assert staying.result().first_seq == 2
    assert await world.seqs() == [1, 2]


async def test_a_request_past_its_deadline_before_its_commit_is_not_stored(world: World) -> None:
    first = await world.in_flight()
    with pytest.raises(StoreTimeout, match="nothing was stored"):
        await world.commit(timeout_s=0.01)
    with pytest.raises(StoreTimeout):
        await world.commit(timeout_s=-1)
    world.store.release()

    await first

    assert (await world.commit()).first_seq == 2
    assert await world.seqs() == [1, 2]


async def test_a_request_that_comes_too_late_to_an_idle_committer_is_not_stored(world: World) -> None:
    with pytest.raises(StoreTimeout):
        await world.commit(timeout_s=-1)

    assert world.store.groups == []


async def test_a_deadline_during_the_commit_leaves_the_outcome_unknown_and_a_retry_tells_it(world: World) -> None:
    write = a_write(request_id="r1")
    late = await world.in_flight(write, timeout_s=0.01)
    with pytest.raises(OutcomeUnknown, match="send the same request again") as unknown:
        await late
    world.store.release()

    again = await world.commit(write)

    assert unknown.value.metadata == {"outcome": "unknown"}
    assert (again.results[0].outcome, again.results[0].seq) == (Outcome.DUPLICATE, 1)
    assert len(world.announced) == 1


async def test_one_requests_bad_data_fails_nobody_else(world: World) -> None:
    world.store.before = raising(ValueError("bad"), source="poison")
    first = await world.in_flight()
    tasks = [world.submit(), world.submit(a_write(an_item(source="poison"))), world.submit()]
    await asyncio.sleep(0)
    world.store.release()

    answers = await settled([first, *tasks])

    assert [type(answer).__name__ for answer in answers] == ["Appended", "Appended", "ValueError", "Appended"]
    assert world.store.groups == [1, 3, 1, 1, 1]
    assert await world.seqs() == [1, 2, 3]


async def test_a_request_that_no_longer_fits_fails_alone(world: World) -> None:
    world.store.before = raising(StorageFull("full"), source="large")
    first = await world.in_flight()
    tasks = [world.submit(a_write(an_item(source="large"))), world.submit()]
    await asyncio.sleep(0)
    world.store.release()

    _, large, small = await settled([first, *tasks])

    assert isinstance(large, StorageFull)
    assert not isinstance(small, BaseException)


async def test_a_refusal_by_the_store_is_its_requests_own(world: World) -> None:
    await world.commit(a_write(an_item(signal_id="a"), request_id="r1"))
    first = await world.in_flight()
    tasks = [world.submit(a_write(an_item(signal_id="b"), request_id="r1")), world.submit()]
    await asyncio.sleep(0)
    world.store.release()

    _, reused, other = await settled([first, *tasks])

    assert isinstance(reused, RequestIdReused)
    assert not isinstance(other, BaseException)


@pytest.mark.parametrize("error", [StoreDown("down"), StoreTimeout("slow"), OutcomeUnknown("lost")])
async def test_a_lost_store_is_told_to_every_caller_of_the_group_once(world: World, error: CoherenceError) -> None:
    first = await world.in_flight()
    tasks = [world.submit() for _ in range(3)]
    await asyncio.sleep(0)
    world.store.before = raising(error)
    world.store.release()

    answers = await settled([first, *tasks])

    assert {type(answer) for answer in answers} == {type(error)}
    assert len({id(answer) for answer in answers}) == 4
    assert world.store.groups == [1, 3]
    unknown = {"outcome": "unknown"} if isinstance(error, OutcomeUnknown) else {}
    assert all(isinstance(answer, CoherenceError) and answer.metadata == unknown for answer in answers)


async def test_after_a_failure_the_next_request_is_served(world: World) -> None:
    world.store.before = raising(StoreDown("down"))
    with pytest.raises(StoreDown):
        await world.commit()

    world.store.before = lambda _: None

    assert (await world.commit()).first_seq == 1


async def test_r2_a_long_backlog_is_refused_with_a_hint_and_what_waits_is_stored(world: World) -> None:
    items = [an_item(signal_id=f"s{n}") for n in range(1000)]
    first = await world.in_flight()
    waiting = [world.submit(a_write(*items)) for _ in range(BACKLOG_ROWS // 1000)]
    await asyncio.sleep(0)

    with pytest.raises(Concurrency) as refused:
        await world.commit()
    world.store.release()
    await asyncio.wait([first, *waiting])

    assert refused.value.retry_after_s
    assert [task.exception() for task in waiting] == [None] * len(waiting)
    assert len(await world.seqs()) == 1001
    assert (await world.commit()).results[0].outcome is Outcome.STORED


async def test_closing_stores_what_was_accepted_and_refuses_what_comes(tmp_path: Path) -> None:
    async with open_signal_store(tmp_path, ManualClock()) as signals:
        world = World(InterposedSignals(signals), [])
        async with world.committer:
            first = await world.in_flight()
            waiting = [world.submit() for _ in range(3)]
            await asyncio.sleep(0)
            world.store.release()

        with pytest.raises(Draining) as refused:
            await world.commit()

        assert refused.value.retry_after_s
        assert [task.exception() for task in [first, *waiting]] == [None] * 4
        assert await world.seqs() == [1, 2, 3, 4]

"""Lines of writes: what comes after a write that failed is not stored before it."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import pytest

from coherence_grpc.adapters.embedded import open_signal_store
from coherence_grpc.errors import CoherenceError, Concurrency, RequestIdReused, StoreDown
from coherence_grpc.ingest.committer import BACKLOG_ROWS, GROUP_WRITES, Committer, Line
from tests.builders import TENANT, ManualClock, a_write, an_item
from tests.faults import InterposedSignals, until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence
    from pathlib import Path

    from coherence_grpc.model import Appended, Write

pytestmark = pytest.mark.anyio


class World:
    """A committer on a real store that can be held up."""

    def __init__(self, store: InterposedSignals) -> None:
        self.store = store
        self.committer = Committer(store.port, ManualClock(), [])

    async def held_up(self) -> None:
        """Returns while a commit waits in the store."""
        self.store.hold("append")
        before = len(self.store.groups)
        self.another = self.committer.submit(a_write(tenant_id="another"), Line())
        await until(lambda: len(self.store.groups) > before)

    async def seqs(self) -> list[int]:
        return [entry.seq for entry in await self.store.port.tail(TENANT, after=0, limit=10_000)]


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with opened(tmp_path) as world:
        yield world


@asynccontextmanager
async def opened(directory: Path) -> AsyncIterator[World]:
    async with open_signal_store(directory, ManualClock()) as signals:
        world = World(InterposedSignals(signals))
        async with world.committer:
            try:
                yield world
            finally:
                world.store.release()


async def settled(futures: Sequence[asyncio.Future[Appended]]) -> list[Appended | BaseException | None]:
    await asyncio.wait(futures, timeout=10)
    return [future.exception() or future.result() for future in futures]


async def test_a_line_is_stored_in_its_order(world: World) -> None:
    line = Line()
    await world.held_up()

    futures = [world.committer.submit(a_write(), line) for _ in range(3)]
    world.store.release()

    answers = await settled(futures)
    assert [answer.first_seq for answer in answers if not isinstance(answer, BaseException) and answer] == [1, 2, 3]


async def test_nothing_behind_a_write_that_failed_is_stored_though_the_store_is_back(world: World) -> None:
    line = Line()
    await world.held_up()
    first = world.committer.submit(a_write(*(an_item() for _ in range(1500))), line)
    behind = world.committer.submit(a_write(*(an_item() for _ in range(1500))), line)

    def down_once(writes: Sequence[Write]) -> None:
        if writes[0].tenant_id == TENANT:
            world.store.before = lambda _: None
            message = "down"
            raise StoreDown(message)

    world.store.before = down_once
    world.store.release()
    # Together they are too many for one group: the store is back when it is the second one's turn.
    answers = await settled([first, behind])
    again = Line()
    resent = await settled([world.committer.submit(a_write(), again) for _ in range(2)])

    assert [type(answer) for answer in answers] == [StoreDown, StoreDown]
    assert isinstance(line.broken_by, StoreDown)
    assert not any(isinstance(answer, BaseException) for answer in resent)
    assert await world.seqs() == [1, 2]


async def test_a_group_is_bounded_in_writes_however_small_they_are(world: World) -> None:
    line = Line()
    await world.held_up()
    futures = [world.committer.submit(a_write(), line) for _ in range(GROUP_WRITES + 1)]

    world.store.release()
    await settled(futures)

    assert world.store.groups == [1, GROUP_WRITES, 1]


async def test_a_line_that_failed_is_no_matter_to_another(world: World) -> None:
    broken, other = Line(), Line()
    broken.broken_by = StoreDown("down")
    await world.held_up()
    futures = [world.committer.submit(a_write(), line) for line in (broken, other, broken)]
    world.store.release()

    answers = await settled(futures)

    assert [isinstance(answer, StoreDown) for answer in answers] == [True, False, True]


async def test_a_write_that_is_refused_for_good_breaks_its_line_for_what_comes_later(world: World) -> None:
    line = Line()
    (stored,) = await settled([world.committer.submit(a_write(request_id="r"), line)])

    (reused,) = await settled([world.committer.submit(a_write(request_id="r"), line)])
    (behind,) = await settled([world.committer.submit(a_write(), line)])

    assert not isinstance(stored, BaseException)
    assert isinstance(reused, RequestIdReused)
    assert isinstance(behind, RequestIdReused)


async def test_a_write_of_a_line_whose_data_breaks_the_group_keeps_those_behind_it_out(world: World) -> None:
    line = Line()
    await world.held_up()
    futures = [world.committer.submit(a_write(request_id=name), line) for name in ("a", "bad", "c")]

    def choke(writes: Sequence[Write]) -> None:
        if any(write.provenance.request_id == "bad" for write in writes):
            message = "no such data"
            raise ValueError(message)

    world.store.before = choke
    world.store.release()

    answers = await settled(futures)

    assert [isinstance(answer, ValueError) for answer in answers] == [False, True, True]
    assert await world.seqs() == [1]


async def test_a_full_backlog_breaks_the_line_at_once_and_leaves_room_to_those_who_cannot_wait(world: World) -> None:
    line = Line()
    await world.held_up()
    items = [an_item() for _ in range(1000)]
    free = world.committer.room
    waiting = [world.committer.submit(a_write(*items), Line()) for _ in range(BACKLOG_ROWS // 1000)]

    with pytest.raises(Concurrency):
        await world.committer.submit(a_write(), line)

    assert not any(future.done() for future in waiting)
    assert 0 < free < BACKLOG_ROWS
    assert world.committer.room < 0
    assert isinstance(line.broken_by, CoherenceError)

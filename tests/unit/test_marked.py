"""Requests that are answered by marks, and those that only the store can answer."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from coherence_grpc.adapters.embedded import open_signal_store
from coherence_grpc.errors import Conflict, RequestIdReused
from coherence_grpc.ingest import Ingest, Marked
from coherence_grpc.ingest.marked import LOOK_AROUND
from coherence_grpc.model import OnConflict, Outcome
from tests.builders import NOON, TENANT, ManualClock, a_caller, a_draft, a_publication
from tests.faults import InterposedSignals, until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence
    from pathlib import Path

    from coherence_grpc.ingest import Published
    from coherence_grpc.model import Draft, Item, Key

pytestmark = pytest.mark.anyio


class Marks:
    """Marks in a dict."""

    def __init__(self) -> None:
        self.marks: dict[tuple[int, Key], tuple[bytes, int]] = {}
        self.asked = 0

    async def known(self, epoch: int, keys: Sequence[Key], payloads: Sequence[bytes]) -> Sequence[int]:
        self.asked += 1
        found = [self.marks.get((epoch, key), (b"", 0)) for key in keys]
        return [seq if payload == own else 0 for (payload, seq), own in zip(found, payloads, strict=True)]

    async def mark(self, epoch: int, keys: Sequence[Key], payloads: Sequence[bytes], seqs: Sequence[int]) -> None:
        for key, payload, seq in zip(keys, payloads, seqs, strict=True):
            self.marks[epoch, key] = payload, seq


class World:
    """The ingest path with marks, and what reached the store."""

    def __init__(self, signals: InterposedSignals) -> None:
        self.signals = signals
        self.marks = Marks()
        self.enabled = True
        self.ingest = Ingest(
            signals.port,
            ManualClock(),
            on_commit=(),
            allow_unlimited=True,
            marked=Marked(signals.port, self.marks, lambda: self.enabled),
        )

    async def publish(self, *drafts: Item | Draft, request_id: str = "") -> Published:
        return await self.ingest.publish(a_publication(*drafts, request_id=request_id), a_caller(), timeout_s=5)

    async def replace(self, *drafts: Item | Draft, request_id: str = "") -> Published:
        publication = a_publication(*drafts, request_id=request_id, on_conflict=OnConflict.REPLACE)
        return await self.ingest.publish(publication, a_caller(), timeout_s=5)

    async def stored(self, *drafts: Item | Draft, request_id: str = "") -> Published:
        """Publish for the first time, and wait for the mark."""
        before = len(self.marks.marks)
        published = await self.publish(*drafts, request_id=request_id)
        await until(lambda: len(self.marks.marks) == before + 1)
        return published


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with open_signal_store(tmp_path, ManualClock()) as signals:
        opened = World(InterposedSignals(signals))
        async with opened.ingest:
            yield opened


async def test_what_is_marked_is_a_duplicate_without_a_write(world: World) -> None:
    drafts = [a_draft(signal_id=str(n)) for n in range(3)]
    first = await world.stored(*drafts)

    again = await world.publish(*drafts)

    assert world.signals.groups == [1]
    assert {result.outcome for result in again.results} == {Outcome.DUPLICATE}
    assert [r._replace(outcome=Outcome.STORED) for r in again.results] == list(first.results)
    assert again.head == first.head


async def test_for_signals_newer_than_all_that_were_stored_no_mark_is_asked(world: World) -> None:
    await world.publish(a_draft(ts=NOON - 3))
    asked = world.marks.asked

    for ts in (NOON - 2, NOON - 1, NOON):
        await world.publish(a_draft(ts=ts))
    newer = world.marks.asked
    await world.publish(a_draft(ts=NOON))

    assert (asked, newer, world.marks.asked) == (1, 1, 2)


async def test_a_request_is_marked_once_however_many_signals_it_stores(world: World) -> None:
    await world.stored(*(a_draft(signal_id=str(n)) for n in range(50)))
    await world.publish(*(a_draft(signal_id=str(n)) for n in range(40, 60)))
    await world.stored(a_draft(signal_id="last"))

    assert sorted(key.signal_id for _, key in world.marks.marks) == ["0", "last"]


async def test_the_head_of_a_repeated_request_is_the_one_after_its_last_signal(world: World) -> None:
    first = await world.stored(a_draft(signal_id="a"), a_draft(signal_id="b"))
    await world.stored(a_draft(signal_id="c"))

    again = await world.publish(a_draft(signal_id="a"), a_draft(signal_id="b"))

    assert world.signals.groups == [1, 1]
    assert again.head == first.head


async def test_a_mark_that_the_log_does_not_bear_out_is_for_the_store_to_judge(world: World) -> None:
    await world.stored(a_draft(signal_id="a"), a_draft(signal_id="b"))
    await world.stored(a_draft(signal_id="c"), a_draft(signal_id="b", ts=NOON - 1))
    (one, two) = world.marks.marks
    world.marks.marks[one] = (world.marks.marks[one][0], world.marks.marks[two][1])
    world.marks.marks[two] = (world.marks.marks[two][0], 77)

    again = await world.publish(a_draft(signal_id="a"), a_draft(signal_id="b"))
    beyond = await world.publish(a_draft(signal_id="c"), a_draft(signal_id="b", ts=NOON - 1))

    assert world.signals.groups == [1, 1, 1, 1]
    assert [[result.seq for result in one.results] for one in (again, beyond)] == [[1, 2], [3, 4]]


async def test_a_retry_with_its_request_id_is_found_by_marks(world: World) -> None:
    first = await world.stored(a_draft(signal_id="s"), request_id="r")

    again = await world.publish(a_draft(signal_id="s"), request_id="r")

    assert world.signals.groups == [1]
    assert (again.results[0].outcome, again.results[0].seq) == (Outcome.DUPLICATE, first.results[0].seq)


async def test_another_request_id_is_for_the_store_to_judge(world: World) -> None:
    await world.stored(a_draft(signal_id="s"), a_draft(signal_id="t"), request_id="r")

    with pytest.raises(RequestIdReused):
        await world.publish(a_draft(signal_id="s"), request_id="r")

    assert (await world.publish(a_draft(signal_id="s"), request_id="new")).results[0].outcome is Outcome.DUPLICATE
    assert world.signals.groups == [1, 1, 1]


async def test_a_payload_that_differs_from_its_mark_is_a_conflict(world: World) -> None:
    await world.stored(a_draft(signal_id="s", value=0.2))

    published = await world.publish(a_draft(signal_id="s", value=0.3))

    assert isinstance(published.results[0].error, Conflict)


async def test_a_wrong_mark_loses_nothing(world: World) -> None:
    await world.stored(a_draft(signal_id="s"))
    world.marks.marks = {
        (epoch, key._replace(signal_id="new")): mark for (epoch, key), mark in world.marks.marks.items()
    }

    published = await world.publish(a_draft(signal_id="new"))

    assert (published.results[0].outcome, published.results[0].seq) == (Outcome.STORED, 2)


@pytest.mark.parametrize(
    "drafts",
    [
        [a_draft(signal_id="b"), a_draft(signal_id="a")],
        [a_draft(signal_id="a"), a_draft(signal_id="never seen")],
        [a_draft(signal_id="a", ts=NOON - 10**15), a_draft(signal_id="b")],
    ],
    ids=["in another order", "with a new one", "with a bad one"],
)
async def test_any_doubt_goes_to_the_store(world: World, drafts: list[Item | Draft]) -> None:
    await world.stored(a_draft(signal_id="a"), a_draft(signal_id="b"))

    await world.publish(*drafts)

    assert world.signals.groups == [1, 1]


async def test_switched_off_nothing_is_marked_and_no_mark_is_asked(world: World) -> None:
    await world.stored(a_draft(signal_id="a"))
    world.enabled = False

    await world.publish(a_draft(signal_id="a"))
    await world.publish(a_draft(signal_id="b"))

    assert world.signals.groups == [1, 1, 1]
    assert {key.signal_id for _, key in world.marks.marks} == {"a"}
    assert {key.tenant_id for _, key in world.marks.marks} == {TENANT}


async def test_after_a_replacement_the_mark_of_the_old_payload_answers_no_more(world: World) -> None:
    drafts = [a_draft(signal_id="a"), a_draft(signal_id="b", value=0.2), a_draft(signal_id="c")]
    await world.stored(*drafts)
    await world.replace(a_draft(signal_id="b", value=0.9))

    again = await world.publish(*drafts)

    first, second, third = again.results
    assert (first.outcome, third.outcome) == (Outcome.DUPLICATE, Outcome.DUPLICATE)
    assert isinstance(second.error, Conflict)
    assert world.signals.groups == [1, 1, 1]


async def test_after_a_replacement_and_its_undoing_the_newest_entry_is_named(world: World) -> None:
    draft = a_draft(signal_id="a", value=0.2)
    await world.stored(draft)
    for value in (0.9, 0.2):
        await world.replace(a_draft(signal_id="a", value=value))

    (result,) = (await world.publish(draft)).results

    assert (result.outcome, result.seq) == (Outcome.DUPLICATE, 3)


async def test_a_retry_with_its_request_id_is_found_by_marks_also_after_a_replacement(world: World) -> None:
    await world.stored(a_draft(signal_id="s", value=0.2), request_id="r")
    await world.replace(a_draft(signal_id="s", value=0.9))

    (result,) = (await world.publish(a_draft(signal_id="s", value=0.2), request_id="r")).results

    assert (result.outcome, result.seq) == (Outcome.DUPLICATE, 1)
    assert world.signals.groups == [1, 1]


async def test_for_what_is_to_replace_no_mark_is_made_and_none_is_asked(world: World) -> None:
    await world.stored(a_draft(signal_id="a"))
    asked = world.marks.asked

    await world.replace(a_draft(signal_id="b"))
    await world.replace(a_draft(signal_id="a"), request_id="r")
    await world.stored(a_draft(signal_id="c"))

    assert world.marks.asked == asked + 1
    assert {key.signal_id for _, key in world.marks.marks} == {"a", "c"}


@pytest.mark.parametrize(("others", "groups"), [(LOOK_AROUND, [1, 1]), (LOOK_AROUND + 1, [1, 1, 1])])
async def test_a_request_among_too_many_other_signals_is_for_the_store_to_find(
    world: World, others: int, groups: list[int]
) -> None:
    drafts = [a_draft(signal_id="a", ts=NOON - 9), a_draft(signal_id="b", ts=NOON)]
    await world.stored(*drafts)
    await world.stored(*(a_draft(ts=NOON - 8) for _ in range(others)))

    again = await world.publish(*drafts)

    assert [result.seq for result in again.results] == [1, 2]
    assert world.signals.groups == groups

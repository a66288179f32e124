"""Events of entries that are more than a stored signal: replacements and policies."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from coherence_grpc.events import Batch, EventFilter, EventKind, Gap, Position
from coherence_grpc.events.runs import Harvest, Signals, entry_runs
from coherence_grpc.model import DAY, Entry, EntryKind, OnConflict, Retention, Tags
from coherence_grpc.policy import ScorePolicy, encode_policy
from coherence_grpc.tokens import Cursor
from tests.builders import NOON, TENANT, a_provenance, a_write, an_item
from tests.streams import World, open_world, opened, seqs, take_until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence
    from pathlib import Path

    from coherence_grpc.events import Event, Frame, Start, Subscription
    from coherence_grpc.model import Appended, Item

pytestmark = pytest.mark.anyio

KINDS = EventKind
TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with open_world(tmp_path) as world:
        yield world


async def replace(world: World, *items: Item, push: bool = True) -> Appended:
    """Store the items by one request that replaces."""
    write = a_write(*items, on_conflict=OnConflict.REPLACE)
    (appended,) = await world.signals.append([write], now=world.clock.now())
    assert not isinstance(appended, Exception)
    if push:
        world.hub.appended(appended)
    return appended


async def own(world: World, kind: EntryKind, *, tell: bool = True, minimum_signals: int = 2) -> Entry:
    """Put an entry of the server's own behind the log."""
    policy = encode_policy(ScorePolicy(minimum_signals=minimum_signals))
    payload = policy if kind is EntryKind.POLICY else b""
    record = a_provenance(traceparent=TRACE)
    entry = await world.signals.append_own(TENANT, kind, payload, record, now=world.clock.now())
    if tell:
        world.hub.moved(TENANT, entry.seq)
    return entry


async def story(world: World, *, told: bool = True) -> None:
    """1 stored, 2 policy, 3 recompute, 4 replaces 1, 5 stored, 6 policy, 7 policy."""
    first = an_item(value=0.2)
    await world.append(first, push=told)
    await own(world, EntryKind.POLICY, tell=told)
    await own(world, EntryKind.RECOMPUTE, tell=told)
    await replace(world, first._replace(value_q=900_000_000), an_item(), push=told)
    await own(world, EntryKind.POLICY, tell=told, minimum_signals=3)
    await own(world, EntryKind.POLICY, tell=told, minimum_signals=4)


STORY = [
    (1, KINDS.SIGNAL_STORED),
    (2, KINDS.POLICY_UPDATED),
    (4, KINDS.SIGNAL_REPLACED),
    (5, KINDS.SIGNAL_STORED),
    (6, KINDS.POLICY_UPDATED),
    (7, KINDS.POLICY_UPDATED),
]


def events_of(frames: Sequence[Frame]) -> list[Event]:
    return [event for frame in frames if isinstance(frame, Batch) for event in frame.events]


def told(events: Sequence[Event]) -> list[tuple[int, EventKind]]:
    """The entries that the events are of."""
    return [(event.cursor.seq, event.kind) for event in events]


async def take(frames: Subscription, count: int) -> list[Event]:
    return events_of(await take_until(frames, lambda taken: len(events_of(taken)) >= count))


async def pulled(world: World, start: Start = Position.EARLIEST, *kinds: EventKind) -> list[Event]:
    narrow = EventFilter(kinds=frozenset(kinds))
    return list((await world.hub.pull(TENANT, start=start, filter=narrow, max_events=100, wait_s=0)).events)


async def test_a_replacement_is_an_event_with_what_it_took_the_place_of(world: World) -> None:
    old = an_item(value=0.2)
    await world.append(old)
    async with world.subscribe(Position.LATEST) as frames:
        await opened(frames)

        await replace(world, new := old._replace(value_q=900_000_000))
        (event,) = await take(frames, 1)

    assert (event.kind, event.superseded) == (KINDS.SIGNAL_REPLACED, old)
    assert event.signal is not None
    assert (event.signal.item, event.signal.seq, event.cursor.seq) == (new, 2, 2)


async def test_a_policy_is_an_event_of_its_own(world: World) -> None:
    world.clock.advance(5)
    async with world.subscribe(Position.LATEST) as frames:
        await opened(frames)

        entry = await own(world, EntryKind.POLICY)
        (event,) = await take(frames, 1)

    assert (event.kind, event.tenant_id, event.traceparent) == (KINDS.POLICY_UPDATED, TENANT, TRACE)
    assert (event.occurred_at, event.recorded_at) == (NOON + 5, NOON + 5)
    assert event.policy == await world.signals.policy(TENANT)
    assert (event.cursor.seq, event.cursor.hash_prefix) == (1, entry.head_hash[:8])


@pytest.mark.parametrize("pushed", [True, False])
async def test_replacements_and_policies_are_sent_in_the_order_of_the_log(world: World, pushed: bool) -> None:
    async with world.subscribe(Position.LATEST) as frames:
        await opened(frames)

        await story(world, told=pushed)

        assert told(await take(frames, len(STORY))) == STORY


async def test_they_are_the_same_pushed_and_read_back(world: World) -> None:
    async with world.subscribe(Position.LATEST) as frames:
        await opened(frames)
        await story(world)
        live = await take(frames, len(STORY))

    read = await pulled(world)

    assert [contents(event) for event in read] == [contents(event) for event in live]


async def test_after_any_of_them_a_reader_resumes_with_the_next(world: World) -> None:
    await story(world)
    events = await pulled(world)

    rests = [told(await pulled(world, event.cursor)) for event in events]

    assert rests == [STORY[n + 1 :] for n in range(len(STORY))]


@pytest.mark.parametrize(
    "kinds",
    [
        {KINDS.SIGNAL_STORED},
        {KINDS.SIGNAL_REPLACED},
        {KINDS.POLICY_UPDATED},
        {KINDS.SIGNAL_STORED, KINDS.SIGNAL_REPLACED},
        {KINDS.SIGNAL_REPLACED, KINDS.POLICY_UPDATED},
        {KINDS.SCORE_UPDATED},
    ],
    ids=lambda kinds: "+".join(sorted(kinds)),
)
@pytest.mark.parametrize("live", [True, False])
async def test_a_filter_narrows_them_by_kind(world: World, kinds: set[EventKind], live: bool) -> None:
    expected = [step for step in STORY if step[1] in kinds]
    if not live:
        await story(world)
        assert told(await pulled(world, Position.EARLIEST, *kinds)) == expected
        return
    async with world.subscribe(Position.LATEST, filter=EventFilter(kinds=frozenset(kinds))) as frames:
        await opened(frames)

        await story(world)

        assert told(await take(frames, len(expected))) == expected


async def test_what_narrows_signals_leaves_policies_alone(world: World) -> None:
    await story(world)
    narrow = EventFilter(sources=frozenset({"nobody"}))

    found = await world.hub.pull(TENANT, start=Position.EARLIEST, filter=narrow, max_events=100, wait_s=0)

    assert told(found.events) == [step for step in STORY if step[1] is KINDS.POLICY_UPDATED]


async def test_a_policy_stands_between_the_scores_before_and_after_it(world: World) -> None:
    await world.append()
    await world.publish(changed=True)
    await own(world, EntryKind.POLICY)
    await world.publish(changed=True)

    events = await pulled(world)

    assert [event.kind for event in events] == [
        KINDS.SIGNAL_STORED,
        KINDS.SCORE_STATUS_CHANGED,
        KINDS.POLICY_UPDATED,
        KINDS.SCORE_STATUS_CHANGED,
    ]


@pytest.mark.parametrize("signals", [0, 2])
async def test_policies_set_before_the_first_signal_are_read_from_the_earliest_place(
    world: World, signals: int
) -> None:
    await own(world, EntryKind.RECOMPUTE)
    await own(world, EntryKind.POLICY)
    await own(world, EntryKind.POLICY, minimum_signals=3)
    for _ in range(signals):
        await world.append()

    places = await world.hub.position(TENANT, Position.EARLIEST)
    events = await pulled(world)

    assert (places.earliest.seq, places.earliest_seq) == (1, 2)
    assert [event.cursor.seq for event in events] == list(range(2, 4 + signals))


async def test_policies_outlast_the_signals_around_them(world: World) -> None:
    short = Tags(retention=Retention.SHORT)
    await world.append(an_item(), tags=short)
    await own(world, EntryKind.POLICY)
    await world.append(an_item(), tags=short)
    before = (await pulled(world))[0].cursor
    world.clock.advance(60 * DAY)
    await own(world, EntryKind.POLICY, minimum_signals=3)
    pruned = await world.signals.prune(
        TENANT, now=world.clock.now(), provenance=a_provenance(), limit=100, dry_run=False
    )

    async with world.subscribe(before) as frames:
        await opened(frames)
        taken = await take_until(frames, lambda taken: len(events_of(taken)) >= 2)

    assert pruned.erased == 2
    assert [event.cursor.seq for event in events_of(taken)] == [2, 4]
    assert [(frame.from_seq, frame.to_seq) for frame in taken if isinstance(frame, Gap)] == [(3, 3)]
    assert seqs(taken) == []
    assert [event.cursor.seq for event in await pulled(world)] == [4]


def test_a_replacement_whose_former_body_was_erased_is_one_without_it() -> None:
    base = Cursor(1, 4, b"hash 004", 1, 0)
    entry = Entry(TENANT, 5, EntryKind.REPLACED, an_item(), False, "p", NOON, b"hash 005", False, "")

    (run,) = entry_runs(base, [entry])

    assert isinstance(run, Signals)
    assert [(event.kind, event.superseded) for event in take_all(run)] == [(KINDS.SIGNAL_REPLACED, None)]


def take_all(run: Signals) -> list[Event]:
    harvest = Harvest(EventFilter(), run.size)
    run.collect(0, run.size, harvest)
    return harvest.events


def contents(event: Event) -> object:
    """All of an event but for what the edge made of it."""
    return (
        *(event.kind, event.cursor, event.occurred_at, event.recorded_at, event.signal, event.superseded),
        *(event.policy, event.traceparent),
    )

"""SignalStore: windows of weighted signals."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from coherence_grpc.model import DAY, WINDOW, Head
from coherence_grpc.score import WindowSum
from tests.builders import NOON, TENANT, a_write, an_item
from tests.conformance.asking import append, append_items, chance, entries, stored

if TYPE_CHECKING:
    from collections.abc import Iterable

    from coherence_grpc.model import Item
    from coherence_grpc.ports import SignalStore, WindowColumns

pytestmark = pytest.mark.anyio
START = NOON - WINDOW


def rows(window: WindowColumns) -> list[tuple[int, int, int]]:
    return list(zip(window.ts, window.value_q, window.weight_q, strict=True))


def summed(items: Iterable[Item]) -> WindowSum:
    sums = WindowSum()
    for item in items:
        sums = sums.plus(item.value_q, item.weight_q)
    return sums


async def test_a_window_is_the_weighted_signals_from_its_start_on_ascending(signals: SignalStore) -> None:
    before, first, muted = an_item(ts=START - 1), an_item(ts=START), an_item(weight=0.0)
    last, future = an_item(weight=2.5), an_item(ts=NOON + 300)
    appended = await append_items(signals, future, last, muted, first, before)

    window = await signals.window(TENANT, start=START)

    assert rows(window) == [(item.ts, item.value_q, item.weight_q) for item in (first, last, future)]
    assert window.head == appended.head


async def test_a_window_with_an_end_stops_there_and_tells_the_next_weighted_ts(signals: SignalStore) -> None:
    inside, last = an_item(ts=START), an_item(ts=NOON)
    muted, upcoming = an_item(ts=NOON + 1, weight=0.0), an_item(ts=NOON + 2)
    appended = await append_items(signals, upcoming, an_item(ts=NOON + 3), last, muted, inside)

    window = await signals.window(TENANT, start=START, end=NOON)
    all_of_it = await signals.window(TENANT, start=START, end=NOON + 3)
    open_ended = await signals.window(TENANT, start=START)

    assert rows(window) == [(item.ts, item.value_q, item.weight_q) for item in (inside, last)]
    assert (window.head, window.upcoming) == (appended.head, NOON + 2)
    assert all_of_it.upcoming is None
    assert rows(open_ended) == rows(all_of_it)
    assert open_ended.upcoming is None


async def test_an_empty_window_with_an_end_tells_the_next_weighted_ts_too(signals: SignalStore) -> None:
    await append_items(signals, an_item(ts=NOON + 2))

    window = await signals.window(TENANT, start=START, end=NOON)
    nobody = await signals.window("nobody", start=START, end=NOON, grouped=True)

    assert (rows(window), window.upcoming) == ([], NOON + 2)
    assert (rows(nobody), nobody.upcoming, list(nobody.group or ()), list(nobody.groups)) == ([], None, [], [])


@pytest.mark.parametrize("end", [None, NOON])
async def test_a_grouped_window_has_the_source_and_type_of_each_signal(signals: SignalStore, end: int | None) -> None:
    words = ["a", "a b", "b", "\N{SNOWMAN} 1 x", "1 1"]
    items = [
        an_item(source=source, type=type_, ts=START + 10 * index)
        for index, (source, type_) in enumerate((source, type_) for source in words for type_ in words)
    ]
    await append_items(signals, *items, *[item._replace(ts=item.ts + 1) for item in items])
    await append_items(signals, an_item(source="muted", weight=0.0), an_item(source="old", ts=START - 1))

    window = await signals.window(TENANT, start=START, end=end, grouped=True)
    plain = await signals.window(TENANT, start=START, end=end)

    assert window.group is not None
    told = [window.groups[number] for number in window.group]
    assert told == [(item.source, item.type) for item in items for _ in range(2)]
    assert len(set(window.groups)) == len(window.groups) == len(words) ** 2
    assert rows(window) == rows(plain)
    assert (plain.group or None, list(plain.groups)) == (None, [])


async def test_groups_of_a_large_window_are_those_of_its_signals(signals: SignalStore) -> None:
    dice = chance(5)
    items = [
        an_item(source=f"s{dice.randrange(40)}", type=f"t{dice.randrange(3)}", ts=START + n) for n in range(25_000)
    ]
    for begin in range(0, len(items), 1000):
        await append_items(signals, *items[begin : begin + 1000])

    window = await signals.window(TENANT, start=START, grouped=True)

    assert window.group is not None
    assert [window.groups[number] for number in window.group] == [(item.source, item.type) for item in items]
    assert len(window.groups) == len(set(window.groups)) == 120


async def test_a_window_of_nobody_is_empty(signals: SignalStore) -> None:
    window = await signals.window("nobody", start=START)

    assert rows(window) == []
    assert window.head == await signals.head("nobody")


async def test_signals_of_one_instant_are_all_in_the_window_whatever_it_is_read_in(signals: SignalStore) -> None:
    dice = chance(7)
    items = [an_item(ts=START + dice.randrange(5), value=dice.random()) for _ in range(25_000)]
    for begin in range(0, len(items), 1000):
        await append_items(signals, *items[begin : begin + 1000])

    window = await signals.window(TENANT, start=START)

    assert list(window.ts) == sorted(window.ts)
    assert sorted(rows(window)) == sorted((item.ts, item.value_q, item.weight_q) for item in items)


async def test_a_window_and_its_head_are_one_snapshot_under_concurrent_appends(signals: SignalStore) -> None:
    windows: list[WindowColumns] = []
    await append(signals, *(a_write(*[an_item() for _ in range(1000)]) for _ in range(20)))

    async def write() -> None:
        for _ in range(30):
            await append(signals, *(a_write(*[an_item() for _ in range(10)]) for _ in range(10)))

    async with asyncio.timeout(30):
        writing = asyncio.ensure_future(write())
        while not writing.done():
            windows.append(await signals.window(TENANT, start=START))
        await writing

    log = await entries(signals)
    assert len({window.head.seq for window in windows}) > 1
    for window in windows:
        assert len(window.ts) == window.head.seq
        assert window.head == Head(signals.epoch, window.head.seq, log[window.head.seq - 1].head_hash)


async def test_totals_are_the_sums_of_the_closed_window(signals: SignalStore) -> None:
    inside = [an_item(ts=START, value=0.25), an_item(value=0.5, weight=3.0), an_item(value=1.0, weight=0.0)]
    appended = await append_items(signals, an_item(ts=START - 1), *inside, an_item(ts=NOON + 1))

    totals = await signals.totals(TENANT, start=START, end=NOON)

    assert totals.sums == summed(inside)
    assert totals.head == appended.head


@pytest.mark.parametrize("weight", [1000.0, 999.999999999])
async def test_totals_are_exact_at_the_limits_of_value_and_weight(signals: SignalStore, weight: float) -> None:
    items = [an_item(value=1.0, weight=weight) for _ in range(10_000)]
    for begin in range(0, len(items), 1000):
        await append_items(signals, *items[begin : begin + 1000])

    totals = await signals.totals(TENANT, start=START, end=NOON)

    assert totals.sums == summed(items) == WindowSum(10**13 * items[0].weight_q, 10**4 * items[0].weight_q, 10**4)


async def test_totals_agree_with_the_window(signals: SignalStore) -> None:
    dice = chance(11)
    items = [
        an_item(ts=NOON - dice.randrange(2 * DAY), value=dice.random(), weight=dice.choice([0, 1, 999.9]))
        for _ in range(2000)
    ]
    await append_items(signals, *items[:1000])
    await append_items(signals, *items[1000:])

    totals = await signals.totals(TENANT, start=START, end=NOON)
    window = await signals.window(TENANT, start=START)

    assert totals.sums == summed(item for item in items if START <= item.ts <= NOON)
    assert totals.sums.count == len(window.ts)


async def test_newest_ts_is_that_of_the_newest_weighted_signal(signals: SignalStore) -> None:
    await append_items(signals, an_item(ts=NOON - 9), an_item(ts=NOON - 5, weight=0.0), an_item(ts=NOON + 5))

    totals = await signals.totals(TENANT, start=START, end=NOON)

    assert totals.newest_ts == NOON - 9


async def test_the_next_change_is_when_the_oldest_leaves_or_a_later_one_enters(signals: SignalStore) -> None:
    await append_items(signals, an_item(ts=START + 7), an_item(ts=START + 1, weight=0.0))
    leaving = await signals.totals(TENANT, start=START, end=NOON)
    await append_items(signals, an_item(ts=NOON + 4), an_item(ts=NOON + 2, weight=0.0))
    entering = await signals.totals(TENANT, start=START, end=NOON)

    assert leaving.next_change == START + 7 + WINDOW + 1
    assert entering.next_change == NOON + 4


async def test_an_empty_window_changes_when_a_signal_enters_or_never(signals: SignalStore) -> None:
    never = await signals.totals(TENANT, start=START, end=NOON)
    await append_items(signals, an_item(ts=NOON + 4), an_item(ts=START - 1))
    entering = await signals.totals(TENANT, start=START, end=NOON)

    assert (never.sums, never.newest_ts, never.next_change) == (WindowSum(), None, None)
    assert (entering.sums, entering.newest_ts, entering.next_change) == (WindowSum(), None, NOON + 4)


async def test_ac_data_03_the_log_the_window_and_the_sums_tell_one_story(signals: SignalStore) -> None:
    dice = chance(3)
    for _ in range(20):
        batch = [an_item(ts=NOON - dice.randrange(DAY), value=dice.random(), weight=7.0) for _ in range(50)]
        await append_items(signals, *batch)

    totals = await signals.totals(TENANT, start=START, end=NOON)

    assert totals.sums == summed(item for item in await stored(signals) if item is not None)

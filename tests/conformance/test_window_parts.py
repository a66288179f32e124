"""SignalStore: what a window is made of, and single signals by the numbers of their entries."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

import pytest

from coherence_grpc.errors import WindowIncomplete
from coherence_grpc.model import DAY, RETENTION_US, WINDOW, OnConflict, Retention, Tags
from coherence_grpc.ports import Group
from tests.builders import NOON, TENANT, a_provenance, a_write, an_item, key_of
from tests.conformance.asking import append, append_items, chance

if TYPE_CHECKING:
    from coherence_grpc.model import Item
    from coherence_grpc.ports import SignalStore, WindowParts

pytestmark = pytest.mark.anyio
START = NOON - WINDOW


def rows(parts: WindowParts) -> list[tuple[int, int, int, int, Group]]:
    groups = [parts.groups[number] for number in parts.group]
    return list(zip(parts.ts, parts.value_q, parts.weight_q, parts.seq, groups, strict=True))


def row(item: Item, seq: int) -> tuple[int, int, int, int, Group]:
    return item.ts, item.value_q, item.weight_q, seq, Group(item.source, item.type)


async def test_parts_are_the_signals_of_the_window_muted_ones_too_and_counts_of_the_others(
    signals: SignalStore,
) -> None:
    first, muted, last = an_item(ts=START, type="probe"), an_item(ts=START + 5, weight=0.0), an_item(ts=NOON)
    outside = [an_item(ts=START - 1), an_item(ts=NOON + 1), an_item(ts=NOON + 2)]
    appended = await append_items(signals, last, *outside, muted, first)

    parts = await signals.parts(TENANT, start=START, end=NOON, ahead=0)

    assert rows(parts) == [row(first, 6), row(muted, 5), row(last, 1)]
    assert (parts.aged_out, parts.not_yet_due) == (1, 2)
    assert parts.head == appended.head


async def test_parts_have_as_many_weighted_signals_after_the_window_as_asked_for(signals: SignalStore) -> None:
    inside, muted = an_item(ts=NOON), an_item(ts=NOON + 1, weight=0.0)
    first, second, third = (an_item(ts=NOON + later, source=f"s{later}") for later in (2, 3, 4))
    await append_items(signals, third, second, muted, first, inside)

    some = await signals.parts(TENANT, start=START, end=NOON, ahead=2)
    more = await signals.parts(TENANT, start=START, end=NOON, ahead=9)

    assert rows(some) == [row(inside, 5), row(first, 4), row(second, 2)]
    assert rows(more) == [*rows(some), row(third, 1)]
    assert some.not_yet_due == more.not_yet_due == 4


async def test_parts_of_one_request_have_the_same_record_and_others_another(signals: SignalStore) -> None:
    one = await append_items(signals, *(an_item(ts=NOON - n) for n in range(3)))
    other = await append_items(signals, an_item(ts=NOON - 9), an_item(ts=NOON + 1))

    parts = await signals.parts(TENANT, start=START, end=NOON, ahead=9)

    record = dict(zip(parts.seq, parts.record, strict=True))
    assert [record[one.first_seq + n] == record[one.first_seq] for n in range(3)] == [True] * 3
    assert record[other.first_seq] == record[other.first_seq + 1] != record[one.first_seq]


async def test_parts_have_a_replaced_signal_as_it_is_now(signals: SignalStore) -> None:
    old, kept = an_item(value=0.1), an_item(ts=NOON - 1)
    await append_items(signals, old, kept)
    new = old._replace(value_q=900_000_000, type="probe")
    await append(signals, a_write(new, on_conflict=OnConflict.REPLACE))

    parts = await signals.parts(TENANT, start=START, end=NOON, ahead=0)

    assert rows(parts) == [row(kept, 2), row(new, 3)]
    assert parts.record[0] != parts.record[1]
    assert [signal.item for signal in await signals.numbered(TENANT, [1, 2, 3])] == [old, kept, new]


async def test_parts_of_nobody_are_none(signals: SignalStore) -> None:
    parts = await signals.parts("nobody", start=START, end=NOON, ahead=9)

    assert (rows(parts), parts.not_yet_due, parts.aged_out, parts.head.seq) == ([], 0, 0, 0)


async def test_parts_of_a_large_window_are_those_of_its_signals(signals: SignalStore) -> None:
    dice = chance(7)
    items = [
        an_item(source=f"s{dice.randrange(9)}", type=f"t{dice.randrange(3)}", ts=START + dice.randrange(9_000))
        for _ in range(25_000)
    ]
    for begin in range(0, len(items), 1000):
        await append_items(signals, *items[begin : begin + 1000])

    parts = await signals.parts(TENANT, start=START, end=NOON, ahead=0)

    assert sorted(rows(parts)) == sorted(row(item, seq) for seq, item in enumerate(items, 1))
    assert list(parts.ts) == sorted(parts.ts)
    assert sorted(Counter(parts.record).values()) == [1000] * 25


async def test_parts_of_a_window_with_erased_signals_are_refused(signals: SignalStore) -> None:
    gone = an_item(ts=NOON - 40 * DAY)
    write = a_write(gone, tags=Tags(retention=Retention.SHORT))
    await append(signals, write)
    later = gone.ts + (RETENTION_US[Retention.SHORT] or 0) + 2 * DAY
    await signals.prune(TENANT, now=later, provenance=a_provenance(), limit=9, dry_run=False)

    with pytest.raises(WindowIncomplete):
        await signals.parts(TENANT, start=gone.ts, end=NOON, ahead=0)

    assert rows(await signals.parts(TENANT, start=gone.ts + 1, end=NOON, ahead=0)) == []
    assert list(await signals.numbered(TENANT, [1, 2])) == []


async def test_numbered_are_the_signals_as_listed_ascending(signals: SignalStore) -> None:
    items = [an_item(ts=NOON - n, source=f"s{n}") for n in range(4)]
    await append_items(signals, *items[:2])
    await append(signals, a_write(*items[2:], backfill=True))

    found = await signals.numbered(TENANT, [4, 1, 3, 99])

    assert [(signal.seq, signal.item) for signal in found] == [(1, items[0]), (3, items[2]), (4, items[3])]
    assert [signal.backfill for signal in found] == [False, True, True]
    assert found[0] == await signals.get(key_of(items[0]))
    assert list(await signals.numbered(TENANT, [])) == list(await signals.numbered("nobody", [1])) == []

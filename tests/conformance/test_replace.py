"""SignalStore: what becomes of keys under OnConflict.REPLACE."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from coherence_grpc.errors import Conflict, RequestIdReused
from coherence_grpc.model import WINDOW, EntryKind, OnConflict, Outcome
from coherence_grpc.ports import SignalQuery
from coherence_grpc.score import WindowSum, quantise
from tests.builders import NOON, TENANT, ManualClock, a_write, an_item, fresh, key_of, payload_of
from tests.conformance.asking import append, append_items, entries, stored, verdict
from tests.conformance.replacing import a_replacement, put, versions

if TYPE_CHECKING:
    from collections.abc import Sequence

    from coherence_grpc.model import Item
    from coherence_grpc.ports import SignalStore
    from tests.conformance.homes import SignalHome

pytestmark = pytest.mark.anyio


async def kinds(signals: SignalStore) -> list[EntryKind]:
    return [entry.kind for entry in await entries(signals)]


@pytest.mark.parametrize("change", [{"value": 0.9}, {"weight": 2.0}, {"type": "deploy"}])
async def test_a_key_with_another_payload_takes_the_next_number_and_keeps_what_it_supersedes(
    signals: SignalStore, change: dict[str, Any]
) -> None:
    old = an_item(signal_id="one", value=0.2)
    new = an_item(signal_id="one", **{"value": 0.2, **change})
    await append_items(signals, old, an_item())

    appended = await put(signals, new)

    own = appended.write.provenance.provenance_id
    assert appended.results == [(Outcome.REPLACED, 3, own, new, None)]
    assert (appended.first_seq, appended.stored, appended.superseded) == (3, [new], {0: old})
    last = (await entries(signals))[-1]
    assert (last.seq, last.kind, last.item, last.superseded) == (3, EntryKind.REPLACED, new, old)
    assert (last.erased, last.payload, last.provenance_id) == (False, b"", own)
    assert last.head_hash == appended.hashes[0] == (await signals.head(TENANT)).head_hash


async def test_the_signal_is_then_the_new_one_in_every_reading(signals: SignalStore) -> None:
    old, new = versions(0.2, 0.9)
    other = an_item(ts=NOON - 1)
    await append_items(signals, old, other)

    await put(signals, new)

    found = await signals.get(key_of(new))
    listed, _ = await signals.listing(TENANT, SignalQuery(), before=None, limit=10)
    parts = await signals.parts(TENANT, start=NOON - WINDOW, end=NOON, ahead=0)
    totals = await signals.totals(TENANT, start=NOON - WINDOW, end=NOON)
    window = await signals.window(TENANT, start=NOON - WINDOW)
    assert found is not None
    assert (found.item, found.seq) == (new, 3)
    assert [signal.item for signal in listed] == [new, other]
    assert list(parts.seq) == [2, 3]
    assert list(window.value_q) == [other.value_q, new.value_q]
    expected = WindowSum().plus(other.value_q, other.weight_q).plus(new.value_q, new.weight_q)
    assert totals.sums == expected
    assert window.head == totals.head == parts.head == await signals.head(TENANT)


async def test_a_signal_that_is_replaced_by_a_muted_one_counts_no_more_and_comes_back(signals: SignalStore) -> None:
    (old,) = versions(0.2)
    await append_items(signals, old)

    await put(signals, old._replace(weight_q=0))
    muted = await signals.window(TENANT, start=NOON - WINDOW)
    await put(signals, old)
    back = await signals.window(TENANT, start=NOON - WINDOW)

    assert (list(muted.ts), list(back.ts)) == ([], [NOON])


async def test_the_superseded_entry_stays_in_the_log_as_it_was(signals: SignalStore) -> None:
    old, new = versions(0.2, 0.9)
    await append_items(signals, old)
    (before,) = await entries(signals)

    await put(signals, new)

    assert (await entries(signals))[0] == before


async def test_a_new_key_is_stored_and_the_same_payload_is_a_duplicate_of_the_newest_entry(
    signals: SignalStore,
) -> None:
    old, new = versions(0.2, 0.9)
    first = await put(signals, old)
    second = await put(signals, new)

    again = await put(signals, new)

    assert [(r.outcome, r.seq) for r in first.results] == [(Outcome.STORED, 1)]
    assert not first.superseded
    own = second.write.provenance.provenance_id
    assert again.results == [(Outcome.DUPLICATE, 2, own, new, None)]
    assert (again.stored, again.head.seq) == ((), 2)
    assert await kinds(signals) == [EntryKind.STORED, EntryKind.REPLACED]


async def test_without_replace_the_replaced_payload_is_a_conflict_with_the_newest_entry(signals: SignalStore) -> None:
    old, new = versions(0.2, 0.9)
    await append_items(signals, old)
    await put(signals, new)

    (late,) = (await append_items(signals, old)).results

    assert isinstance(late.error, Conflict)
    assert late.error.metadata == {"seq": "2"}
    assert await stored(signals) == [old, new]


@pytest.mark.parametrize("together", [True, False])
async def test_the_same_key_again_and_again_replaces_each_time(signals: SignalStore, together: bool) -> None:
    first, second, third = versions(0.1, 0.2, 0.1)
    writes = [[first, second, third]] if together else [[first], [second], [third]]

    answers = await append(signals, *(a_replacement(*items) for items in writes))

    results = [result for answer in answers for result in answer.results]
    assert [(r.outcome, r.seq) for r in results] == [
        (Outcome.STORED, 1),
        (Outcome.REPLACED, 2),
        (Outcome.REPLACED, 3),
    ]
    assert [entry.superseded for entry in await entries(signals)] == [None, first, second]
    assert [item for answer in answers for item in answer.superseded.values()] == [first, second]
    assert (await verdict(signals)).checked == 3


@pytest.mark.parametrize("size", [3, 30])
async def test_one_write_of_every_outcome_numbers_its_entries_in_order(signals: SignalStore, size: int) -> None:
    known, old = [an_item() for _ in range(size)], [an_item(value=0.1) for _ in range(size)]
    await append_items(signals, *known, *old)
    new = [item._replace(value_q=quantise(0.9)) for item in old]
    brand_new = [an_item() for _ in range(size)]
    mixed = [item for three in zip(known, brand_new, new, strict=True) for item in three]

    appended = await put(signals, *mixed)

    first = 2 * size + 1
    expected = [
        result
        for index in range(size)
        for result in (
            (Outcome.DUPLICATE, 1 + index),
            (Outcome.STORED, first + 2 * index),
            (Outcome.REPLACED, first + 2 * index + 1),
        )
    ]
    assert [(r.outcome, r.seq) for r in appended.results] == expected
    assert appended.stored == [item for two in zip(brand_new, new, strict=True) for item in two]
    assert appended.superseded == {2 * index + 1: item for index, item in enumerate(old)}
    assert [entry.seq for entry in await entries(signals)] == list(range(1, 4 * size + 1))
    assert (await verdict(signals)).checked == 4 * size


async def test_a_replaced_entrys_hash_covers_the_superseded_payload(signals: SignalStore) -> None:
    old, new = versions(0.2, 0.9)
    await append_items(signals, old)
    await put(signals, new)

    previous, rows = await signals.ledger(TENANT, first=2, limit=1)

    (row,) = rows
    assert (row.kind, row.payload, row.superseded) == (EntryKind.REPLACED, payload_of(new), payload_of(old))
    assert (await verdict(signals)).first_bad_seq == 0
    assert previous == (await entries(signals))[0].head_hash


async def test_the_provenance_of_a_replacement_leads_to_its_entries(signals: SignalStore) -> None:
    old, new = versions(0.2, 0.9)
    await append_items(signals, old)

    record = (await put(signals, an_item(), new)).write.provenance

    assert await signals.provenance(TENANT, record.provenance_id) == record
    rows = await signals.provenance_rows(TENANT, record.provenance_id, limit=10)
    assert [(row.seq, row.kind) for row in rows] == [(2, EntryKind.STORED), (3, EntryKind.REPLACED)]


async def test_a_late_retry_by_request_id_replaces_nothing_also_after_a_second_replacement(
    signal_home: SignalHome, clock: ManualClock
) -> None:
    first, second, third = versions(0.1, 0.2, 0.3)
    fellow = an_item()
    async with signal_home.signals(clock) as signals:
        await append_items(signals, first)
        (done,) = await append(signals, a_replacement(second, fellow, request_id="r"))
        await put(signals, third)

    async with signal_home.signals(clock) as signals:
        (again,) = await append(signals, a_replacement(second, fellow, request_id="r"))

        own = done.write.provenance.provenance_id
        assert again.results == [
            (Outcome.DUPLICATE, 2, own, second, None),
            (Outcome.DUPLICATE, 3, own, fellow, None),
        ]
        assert (again.first_seq, again.stored, dict(again.superseded)) == (0, (), {})
        found = await signals.get(key_of(third))
        assert found is not None
        assert found.item == third
        assert again.head.seq == 4


async def test_a_mixed_request_that_comes_again_is_told_the_same_numbers(signals: SignalStore) -> None:
    known, old = an_item(), an_item(value=0.1)
    await append_items(signals, known, old)
    items = [known, an_item(), old._replace(value_q=quantise(0.9))]
    (first,) = await append(signals, a_replacement(*items, request_id="r"))

    (again,) = await append(signals, a_replacement(*items, request_id="r"))

    assert [r.outcome for r in again.results] == [Outcome.DUPLICATE] * 3
    assert [r[1:4] for r in again.results] == [r[1:4] for r in first.results]


async def test_the_same_request_id_under_the_other_mode_is_another_request(signals: SignalStore) -> None:
    item = an_item()
    await append(signals, a_replacement(item, request_id="r"))

    (answer,) = await signals.append([a_write(item, request_id="r")], now=NOON)

    assert isinstance(answer, RequestIdReused)


async def test_of_many_concurrent_replacements_each_supersedes_the_one_before(signals: SignalStore) -> None:
    items = versions(*(number / 100 for number in range(30)))
    calls = [asyncio.ensure_future(append(signals, a_replacement(item))) for item in items]

    for call in calls:
        await call

    log = await entries(signals)
    assert len(log) == 30
    assert [entry.superseded for entry in log[1:]] == [entry.item for entry in log[:-1]]
    found = await signals.get(key_of(items[0]))
    assert found is not None
    assert found.item == log[-1].item
    assert (await verdict(signals)).checked == 30


async def test_nothing_of_a_failed_replacement_is_visible(signals: SignalStore) -> None:
    old, new = versions(0.1, 0.2)
    await append_items(signals, old)
    bad = replace(a_write(an_item()), items=[an_item()._replace(source="\ud800")])

    with pytest.raises(Exception, match=r".+"):
        await signals.append([a_replacement(new), bad], now=NOON)

    assert await stored(signals) == [old]
    found = await signals.get(key_of(old))
    assert found is not None
    assert found.item == old


# A step is the keys and values of one write, and whether it replaces.
_STEPS = st.lists(
    st.tuples(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), min_size=1, max_size=10), st.booleans()),
    max_size=8,
)


@given(steps=_STEPS)
@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
async def test_whatever_is_written_the_signals_are_the_projection_of_the_log(
    signals: SignalStore, steps: Sequence[tuple[Sequence[tuple[int, int]], bool]]
) -> None:
    tenant_id = fresh("projected")
    now: dict[str, tuple[Item, int]] = {}
    for pairs, replacing in steps:
        items = [an_item(signal_id=f"key-{key}", value=value / 10) for key, value in pairs]
        mode = OnConflict.REPLACE if replacing else OnConflict.REJECT
        (appended,) = await append(signals, a_write(*items, tenant_id=tenant_id, on_conflict=mode))
        seq = appended.first_seq
        for item, result in zip(items, appended.results, strict=True):
            known = now.get(item.signal_id)
            if known is None or (known[0] != item and replacing):
                assert result.outcome is (Outcome.STORED if known is None else Outcome.REPLACED)
                now[item.signal_id] = item, seq
                seq += 1
            elif known[0] == item:
                assert (result.outcome, result.seq) == (Outcome.DUPLICATE, known[1])
            else:
                assert isinstance(result.error, Conflict)

    parts = await signals.parts(tenant_id, start=NOON - WINDOW, end=NOON, ahead=0)
    numbered = await signals.numbered(tenant_id, parts.seq)
    assert sorted((s.item, s.seq) for s in numbered) == sorted(now.values())
    replayed: dict[str, Item] = {}
    for entry in await entries(signals, tenant_id):
        assert entry.item is not None
        assert entry.superseded == replayed.get(entry.item.signal_id)
        replayed[entry.item.signal_id] = entry.item
    assert replayed == {signal_id: item for signal_id, (item, _) in now.items()}
    assert (await verdict(signals, tenant_id)).first_bad_seq == 0

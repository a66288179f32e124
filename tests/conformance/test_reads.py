"""SignalStore: reading the log, signals and provenance."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from coherence_grpc.ledger import provenance_digest
from coherence_grpc.model import GENESIS, EntryKind, StoredSignal
from coherence_grpc.ports import SignalQuery
from tests.builders import NOON, TENANT, a_write, an_item, key_of, payload_of
from tests.conformance.asking import append, append_items, entries

if TYPE_CHECKING:
    from coherence_grpc.model import Item
    from coherence_grpc.ports import SignalStore

pytestmark = pytest.mark.anyio


async def test_the_tail_is_what_follows_ascending_without_holes_and_at_most_the_limit(signals: SignalStore) -> None:
    items = [an_item() for _ in range(5)]
    appended = await append_items(signals, *items)

    tail = await signals.tail(TENANT, after=1, limit=3)

    assert [entry.seq for entry in tail] == [2, 3, 4]
    assert [entry.item for entry in tail] == items[1:4]
    assert [entry.head_hash for entry in tail] == list(appended.hashes[1:4])
    assert {(entry.tenant_id, entry.kind, entry.erased) for entry in tail} == {(TENANT, EntryKind.STORED, False)}


async def test_there_is_no_tail_behind_the_head_nor_of_a_log_never_written_to(signals: SignalStore) -> None:
    await append_items(signals, an_item())

    assert list(await signals.tail(TENANT, after=1, limit=10)) == []
    assert list(await signals.tail("nobody", after=0, limit=10)) == []


async def test_seq_at_is_the_last_entry_recorded_before_the_instant(signals: SignalStore) -> None:
    for seconds in (1, 1, 2, 4, 4, 4):
        await append_items(signals, an_item(), now=NOON + seconds)

    found = [await signals.seq_at(TENANT, NOON + seconds) for seconds in range(7)]

    assert found == [0, 0, 2, 3, 3, 6, 6]
    assert await signals.seq_at("nobody", NOON) == 0


async def test_first_readable_is_the_oldest_signal_entry_with_a_body(signals: SignalStore) -> None:
    before = await signals.first_readable(TENANT)
    await append_items(signals, an_item(), an_item())

    assert (before, await signals.first_readable(TENANT)) == (0, 1)


async def test_a_signal_is_found_under_its_whole_key_only(signals: SignalStore) -> None:
    item = an_item()
    appended = await append_items(signals, item, now=NOON + 3)
    key = key_of(item)

    found = await signals.get(key)

    record = appended.write.provenance.provenance_id
    assert found == StoredSignal(TENANT, item, 1, record, NOON + 3, appended.hashes[0], backfill=False)
    others = [key._replace(tenant_id="b"), key._replace(source="b"), key._replace(signal_id="b"), key._replace(ts=1)]
    assert [await signals.get(other) for other in others] == [None] * 4


def spread() -> list[Item]:
    return [
        an_item(source=source, signal_id=signal_id, type=type_, ts=NOON + ts)
        for ts, source, signal_id, type_ in [
            (1, "a", "x", "build"),
            (2, "a", "x", "build"),
            (2, "a", "y", "deploy"),
            (2, "b", "x", "build"),
            (3, "c", "x", "deploy"),
        ]
    ]


async def test_a_listing_descends_by_ts_source_and_id(signals: SignalStore) -> None:
    items = spread()
    appended = await append_items(signals, *items[::-1])

    listed, head = await signals.listing(TENANT, SignalQuery(), before=None, limit=100)

    assert [signal.item for signal in listed] == items[::-1]
    assert [signal.seq for signal in listed] == [1, 2, 3, 4, 5]
    assert head == appended.head


async def test_a_listing_goes_on_strictly_below_the_position(signals: SignalStore) -> None:
    items = spread()
    await append_items(signals, *items)
    pages: list[Item] = []
    before: tuple[int, str, str] | None = None

    while listed := (await signals.listing(TENANT, SignalQuery(), before=before, limit=2))[0]:
        pages += [signal.item for signal in listed]
        before = (listed[-1].item.ts, listed[-1].item.source, listed[-1].item.signal_id)

    assert pages == items[::-1]


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        (SignalQuery(sources=["a"]), [2, 1, 0]),
        (SignalQuery(sources=["b", "c"]), [4, 3]),
        (SignalQuery(types=["deploy"]), [4, 2]),
        (SignalQuery(sources=["a"], types=["deploy"]), [2]),
        (SignalQuery(start=NOON + 3), [4]),
        (SignalQuery(end=NOON + 1), [0]),
        (SignalQuery(start=NOON + 2, end=NOON + 2), [3, 2, 1]),
        (SignalQuery(sources=["nobody"]), []),
    ],
)
async def test_a_listing_is_narrowed_by_what_is_named(
    signals: SignalStore, query: SignalQuery, expected: list[int]
) -> None:
    items = spread()
    await append_items(signals, *items)

    listed, _ = await signals.listing(TENANT, query, before=None, limit=100)

    assert [items.index(signal.item) for signal in listed] == expected


async def test_a_provenance_record_is_its_tenants(signals: SignalStore) -> None:
    (appended,) = await append(signals, a_write(an_item(), traceparent="00-t"))
    record = appended.write.provenance

    assert await signals.provenance(TENANT, record.provenance_id) == record
    assert await signals.provenance("b", record.provenance_id) is None
    assert await signals.provenance(TENANT, "unknown") is None


async def test_provenance_rows_are_the_entries_that_the_request_stored(signals: SignalStore) -> None:
    known, items = an_item(), [an_item(), an_item(), an_item()]
    await append_items(signals, known)
    write = a_write(items[0], known, *items[1:])
    (appended, _) = await append(signals, write, a_write(an_item()))
    record = write.provenance

    rows = await signals.provenance_rows(TENANT, record.provenance_id, limit=100)

    assert [row.seq for row in rows] == [2, 3, 4]
    assert [row.payload for row in rows] == [payload_of(item) for item in items]
    assert {row.provenance_digest for row in rows} == {provenance_digest(record)}
    assert [row.head_hash for row in rows] == list(appended.hashes)
    assert len(await signals.provenance_rows(TENANT, record.provenance_id, limit=2)) == 2
    assert list(await signals.provenance_rows("b", record.provenance_id, limit=2)) == []


async def test_the_ledger_is_the_hash_before_and_the_entries_from_there(signals: SignalStore) -> None:
    appended = await append_items(signals, *[an_item() for _ in range(5)])

    previous, rows = await signals.ledger(TENANT, first=3, limit=2)
    beginning, _ = await signals.ledger(TENANT, first=1, limit=1)

    assert (previous, beginning) == (appended.hashes[1], GENESIS)
    assert [(row.seq, row.epoch, row.kind, row.superseded, row.recorded_at) for row in rows] == [
        (3, signals.epoch, EntryKind.STORED, b"", NOON),
        (4, signals.epoch, EntryKind.STORED, b"", NOON),
    ]


async def test_hash_at_is_the_chains_hash_after_the_entry(signals: SignalStore) -> None:
    appended = await append_items(signals, an_item(), an_item())

    found = [await signals.hash_at(TENANT, seq) for seq in range(4)]

    assert found == [GENESIS, *appended.hashes, None]
    assert [await signals.hash_at("nobody", seq) for seq in (0, 1)] == [GENESIS, None]


async def test_what_is_retained_is_counted_over_the_tenants_asked_for(signals: SignalStore) -> None:
    nothing = await signals.retained(None)
    await append(signals, a_write(an_item(ts=NOON), an_item(ts=NOON + 5), tenant_id="a"))
    await append(signals, a_write(an_item(ts=NOON - 5), tenant_id="b"))

    assert nothing == (0, 0, None)
    assert await signals.retained(None) == (2, 3, NOON - 5)
    assert await signals.retained(["a", "nobody"]) == (1, 2, NOON)
    assert await signals.retained(["nobody"]) == (0, 0, None)


async def test_the_log_keeps_the_order_of_many_requests(signals: SignalStore) -> None:
    items = [an_item() for _ in range(100)]
    for item in items:
        await append_items(signals, item)

    assert [entry.item for entry in await entries(signals)] == items

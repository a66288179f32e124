"""SignalStore.prune and what is left of erased signals."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from coherence_grpc.errors import WindowIncomplete
from coherence_grpc.ledger import decode_pruned
from coherence_grpc.model import DAY, EntryKind, Outcome, Retention, Tags
from coherence_grpc.ports import Pruned, SignalQuery
from tests.builders import NOON, TENANT, ManualClock, a_provenance, a_write, an_item, key_of
from tests.conformance.asking import append, append_items, entries, verdict

if TYPE_CHECKING:
    from coherence_grpc.model import Item
    from coherence_grpc.ports import SignalStore
    from tests.conformance.homes import SignalHome

pytestmark = pytest.mark.anyio

SHORT, STANDARD, LONG, UNLIMITED = (Tags(retention=retention) for retention in Retention)


async def prune(signals: SignalStore, *, now: int = NOON, limit: int = 1000, dry_run: bool = False) -> Pruned:
    provenance = a_provenance()
    return await signals.prune(TENANT, now=now, provenance=provenance, limit=limit, dry_run=dry_run)


async def publish(signals: SignalStore, *ages_in_days: int, tags: Tags = SHORT) -> list[Item]:
    items = [an_item(ts=NOON - age * DAY) for age in ages_in_days]
    await append(signals, a_write(*items, tags=tags))
    return items


@pytest.mark.parametrize(("tags", "days"), [(SHORT, 30), (STANDARD, 365), (LONG, 1825)])
async def test_a_signal_is_erased_when_it_outlived_its_own_retention_by_a_day(
    signals: SignalStore, tags: Tags, days: int
) -> None:
    (item,) = await publish(signals, days + 1, tags=tags)

    too_early = await prune(signals, now=NOON - 1)
    in_time = await prune(signals)

    assert (too_early, in_time) == (Pruned(0, more=False), Pruned(1, more=False))
    assert await signals.get(key_of(item)) is None


async def test_a_signal_of_unlimited_retention_stays(signals: SignalStore) -> None:
    await publish(signals, 4000, tags=UNLIMITED)

    assert (await prune(signals)).erased == 0


async def test_erased_entries_keep_their_hashes_and_the_chain_still_verifies(signals: SignalStore) -> None:
    await publish(signals, 40, 0, 41, 42, 1)
    before = await entries(signals)

    await prune(signals)

    after = await entries(signals)
    assert [entry.head_hash for entry in after[:5]] == [entry.head_hash for entry in before]
    assert [(entry.erased, entry.item is None) for entry in after[:5]] == [
        (True, True),
        (False, False),
        (True, True),
        (True, True),
        (False, False),
    ]
    checked = await verdict(signals)
    assert (checked.checked, checked.erased, checked.first_bad_seq) == (6, 3, 0)


async def test_a_pruned_entry_with_the_erased_ranges_joins_the_log_under_the_provenance(signals: SignalStore) -> None:
    await publish(signals, 40, 0, 41, 42, 1)
    provenance = a_provenance()

    await signals.prune(TENANT, now=NOON + 9, provenance=provenance, limit=10, dry_run=False)

    last = (await entries(signals))[-1]
    (row,) = await signals.provenance_rows(TENANT, provenance.provenance_id, limit=10)
    assert (last.seq, last.kind, last.item, last.erased) == (6, EntryKind.PRUNED, None, False)
    assert (last.provenance_id, last.recorded_at) == (provenance.provenance_id, NOON + 9)
    assert row.payload is not None
    assert decode_pruned(row.payload) == ("retention", [(1, 1), (3, 4)])
    assert await signals.provenance(TENANT, provenance.provenance_id) == provenance
    assert (await signals.head(TENANT)).head_hash == last.head_hash


async def test_at_most_the_limit_is_erased_and_more_says_that_another_batch_is_due(signals: SignalStore) -> None:
    await publish(signals, *range(40, 45))

    batches = [await prune(signals, limit=2) for _ in range(4)]

    assert batches == [Pruned(2, more=True), Pruned(2, more=True), Pruned(1, more=False), Pruned(0, more=False)]
    assert (await signals.head(TENANT)).seq == 5 + 3
    assert (await verdict(signals)).checked == 8


async def test_where_nothing_is_due_nothing_is_written(signals: SignalStore) -> None:
    await publish(signals, 0)
    provenance = a_provenance()

    pruned = await signals.prune(TENANT, now=NOON, provenance=provenance, limit=10, dry_run=False)
    nobody = await signals.prune("nobody", now=NOON, provenance=provenance, limit=10, dry_run=False)

    assert pruned == nobody == Pruned(0, more=False)
    assert (await signals.head(TENANT)).seq == 1
    assert await signals.provenance(TENANT, provenance.provenance_id) is None


async def test_a_dry_run_counts_all_of_them_and_writes_nothing(signals: SignalStore) -> None:
    items = await publish(signals, *range(40, 45))

    counted = await prune(signals, limit=2, dry_run=True)

    assert counted == Pruned(5, more=False)
    assert (await signals.head(TENANT)).seq == 5
    assert await signals.get(key_of(items[0])) is not None


async def test_erased_signals_are_gone_from_every_reading(signals: SignalStore) -> None:
    gone, kept = await publish(signals, 40, 0)

    await prune(signals)

    listed, _ = await signals.listing(TENANT, SignalQuery(), before=None, limit=10)
    parts = await signals.parts(TENANT, start=gone.ts + 1, end=NOON, ahead=0)
    assert [signal.item for signal in listed] == [kept]
    assert list(parts.ts) == [kept.ts]
    assert list((await signals.window(TENANT, start=0)).ts) == [kept.ts]
    assert (parts.aged_out, await signals.retained([TENANT])) == (0, (1, 3, kept.ts))


async def test_first_readable_moves_past_what_is_erased(signals: SignalStore) -> None:
    await publish(signals, 40, 41, 0)

    await prune(signals)
    one_left = await signals.first_readable(TENANT)
    await prune(signals, now=NOON + 40 * DAY)
    none_left = await signals.first_readable(TENANT)
    await append_items(signals, an_item(ts=NOON + 40 * DAY))

    assert (one_left, none_left, await signals.first_readable(TENANT)) == (3, 0, 6)


async def test_a_window_that_begins_at_or_before_the_highest_erased_ts_is_incomplete(
    signal_home: SignalHome, clock: ManualClock
) -> None:
    async with signal_home.signals(clock) as signals:
        newest, _ = await publish(signals, 40, 45)
        await prune(signals)

    async with signal_home.signals(clock) as signals:
        for start in (newest.ts - 1, newest.ts):
            with pytest.raises(WindowIncomplete):
                await signals.totals(TENANT, start=start, end=NOON)
            with pytest.raises(WindowIncomplete):
                await signals.parts(TENANT, start=start, end=NOON, ahead=0)
            with pytest.raises(WindowIncomplete):
                await signals.window(TENANT, start=start, end=NOON)

        assert (await signals.totals(TENANT, start=newest.ts + 1, end=NOON)).sums.count == 0
        assert list((await signals.parts(TENANT, start=newest.ts + 1, end=NOON, ahead=0)).ts) == []
        assert list((await signals.window(TENANT, start=newest.ts + 1, end=NOON)).ts) == []
        assert list((await signals.window(TENANT, start=0)).ts) == []


async def test_a_replay_of_a_request_whose_signal_was_erased_is_still_a_duplicate(signals: SignalStore) -> None:
    item = an_item(ts=NOON - 40 * DAY)
    await append(signals, a_write(item, request_id="r", tags=SHORT))
    await prune(signals)

    (again,) = await append(signals, a_write(item, request_id="r", tags=SHORT))

    assert [(r.outcome, r.seq, r.item) for r in again.results] == [(Outcome.DUPLICATE, 1, item)]


async def test_the_log_goes_on_after_a_pruning(signal_home: SignalHome, clock: ManualClock) -> None:
    async with signal_home.signals(clock) as signals:
        await publish(signals, 40)
        await prune(signals)
        appended = await append_items(signals, an_item())

    async with signal_home.signals(clock) as signals:
        assert appended.first_seq == 3
        assert (await verdict(signals)).checked == 3

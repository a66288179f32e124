"""What is stored can be read back, proven and pruned."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import apsw
import pytest

from coherence_grpc.adapters.embedded import open_signal_store
from coherence_grpc.errors import FilterInvalid, ProvenanceUnknown, SignalUnknown
from coherence_grpc.ingest import Records, records
from coherence_grpc.ledger import chain
from coherence_grpc.model import DAY, GENESIS, Appended, EntryKind, Retention, Tags
from coherence_grpc.ports import SignalQuery
from tests.builders import NOON, TENANT, ManualClock, a_caller, a_write, an_item, key_of
from tests.faults import Grants

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from coherence_grpc.model import Item
    from coherence_grpc.ports import SignalStore

pytestmark = pytest.mark.anyio


class World:
    """Records on a real store."""

    def __init__(self, signals: SignalStore, clock: ManualClock) -> None:
        self.signals = signals
        self.clock = clock
        self.records = Records(signals, clock, Grants())

    async def store(self, *items: Item, tenant_id: str = TENANT, tags: Tags | None = None) -> Appended:
        (appended,) = await self.signals.append([a_write(*items, tenant_id=tenant_id, tags=tags)], now=self.clock.now())
        assert isinstance(appended, Appended)
        return appended

    async def store_many(self, count: int) -> Appended:
        return await self.store(*(an_item() for _ in range(count)))


@asynccontextmanager
async def open_world(directory: Path) -> AsyncIterator[World]:
    clock = ManualClock()
    async with open_signal_store(directory, clock) as signals:
        yield World(signals, clock)


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with open_world(tmp_path) as opened:
        yield opened


@pytest.fixture
def small_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(records, "VERIFY_LIMIT", 10)
    monkeypatch.setattr(records, "VERIFY_PAGE", 3)


def tamper(directory: Path, statement: str) -> None:
    connection = apsw.Connection(str(directory / "signals.db"))
    connection.execute(statement)
    assert connection.changes()
    connection.close()


async def test_a_signal_is_read_back_with_a_head_that_includes_it(world: World) -> None:
    appended = await world.store(item := an_item())

    signal, head = await world.records.get(key_of(item))

    assert (signal.item, signal.seq) == (item, 1)
    assert head == appended.head


async def test_a_key_that_is_not_stored_is_unknown_by_each_of_its_parts(world: World) -> None:
    await world.store(item := an_item())
    key = key_of(item)

    for other in ({"tenant_id": "other"}, {"source": "x"}, {"signal_id": "x"}, {"ts": NOON + 1}):
        with pytest.raises(SignalUnknown, match="four parts"):
            await world.records.get(key._replace(**other))


async def test_a_listing_is_newest_first(world: World) -> None:
    items = [an_item(ts=NOON - n) for n in range(3)]
    await world.store(*items)

    signals, head = await world.records.listing(TENANT, SignalQuery(), before=None, limit=2)

    assert [signal.item for signal in signals] == items[:2]
    assert head.seq == 3


async def test_ac_ing_02_a_record_comes_with_the_links_that_chain_its_entries(world: World) -> None:
    before = await world.store_many(2)
    appended = await world.store_many(3)

    record, links = await world.records.provenance(TENANT, appended.write.provenance.provenance_id)

    assert record == appended.write.provenance
    assert [row.seq for row, _ in links] == [3, 4, 5]
    assert links[0][1] == before.head.head_hash
    assert all(chain(previous, row.entry_hash) == row.head_hash for row, previous in links)


async def test_the_first_entry_is_linked_to_the_zero_hash(world: World) -> None:
    appended = await world.store_many(1)

    _, ((_, previous),) = await world.records.provenance(TENANT, appended.write.provenance.provenance_id)

    assert previous == GENESIS


async def test_a_record_of_another_tenant_is_unknown(world: World) -> None:
    appended = await world.store(an_item(), tenant_id="other")

    with pytest.raises(ProvenanceUnknown, match="no provenance record"):
        await world.records.provenance(TENANT, appended.write.provenance.provenance_id)


async def test_an_untouched_log_verifies_to_its_head(world: World) -> None:
    appended = await world.store_many(5)

    verdict, head, next_seq = await world.records.verify(TENANT, 0, 0, None)

    assert (verdict.checked, verdict.first_bad_seq, verdict.head_hash) == (5, 0, appended.head.head_hash)
    assert (head, next_seq) == (appended.head, 0)


@pytest.mark.usefixtures("small_pages")
async def test_a_long_log_is_verified_in_calls_that_continue_each_other(world: World) -> None:
    appended = await world.store_many(23)
    expected: bytes | None = None
    next_seq, checked = 1, []

    while next_seq:
        verdict, _, next_seq = await world.records.verify(TENANT, next_seq, 0, expected)
        expected = verdict.head_hash
        checked.append(verdict.checked)
        assert not verdict.first_bad_seq

    assert checked == [10, 10, 3]
    assert expected == appended.head.head_hash


async def test_a_part_of_the_log_verifies_by_itself(world: World) -> None:
    await world.store_many(9)

    verdict, _, next_seq = await world.records.verify(TENANT, 4, 6, None)

    assert (verdict.checked, verdict.first_bad_seq, next_seq) == (3, 0, 0)
    assert verdict.head_hash == await world.signals.hash_at(TENANT, 6)


async def test_a_log_that_is_not_there_verifies_as_empty(world: World) -> None:
    verdict, head, next_seq = await world.records.verify("nobody", 0, 0, None)

    assert (verdict.checked, verdict.first_bad_seq, verdict.head_hash) == (0, 0, GENESIS)
    assert (head.seq, next_seq) == (0, 0)


async def test_a_kept_head_hash_is_a_witness_though_nothing_came_after_it(world: World) -> None:
    appended = await world.store_many(2)

    same, _, _ = await world.records.verify(TENANT, 3, 0, appended.head.head_hash)
    other, _, _ = await world.records.verify(TENANT, 3, 0, bytes(31) + b"\x01")

    assert (same.checked, same.first_bad_seq, same.head_hash) == (0, 0, appended.head.head_hash)
    assert other.first_bad_seq == 3


async def test_a_chain_other_than_the_one_expected_is_broken_where_it_was_to_continue(world: World) -> None:
    await world.store_many(5)

    verdict, _, next_seq = await world.records.verify(TENANT, 3, 0, bytes(31) + b"\x01")

    assert (verdict.first_bad_seq, next_seq) == (3, 0)
    assert "expected" in verdict.reason


@pytest.mark.parametrize(
    ("first", "last", "expected", "path"),
    [
        (1, 4, None, "to_seq"),
        (5, 0, None, "from_seq"),
        (3, 1, None, "from_seq"),
        (1, 0, b"short", "expected_head_hash"),
    ],
)
async def test_a_range_outside_the_log_names_the_field(
    world: World, first: int, last: int, expected: bytes | None, path: str
) -> None:
    await world.store_many(3)

    with pytest.raises(FilterInvalid) as refused:
        await world.records.verify(TENANT, first, last, expected)

    assert [field.path for field in refused.value.fields] == [path]


@pytest.mark.usefixtures("small_pages")
@pytest.mark.parametrize(
    ("statement", "bad", "checked"),
    [
        ("UPDATE entries SET payload = zeroblob(length(payload)) WHERE seq = 5", 5, 4),
        ("UPDATE entries SET recorded_at = recorded_at + 1 WHERE seq = 5", 5, 4),
        ("UPDATE entries SET entry_hash = zeroblob(32) WHERE seq = 5", 5, 4),
        ("UPDATE entries SET head_hash = zeroblob(32) WHERE seq = 5", 5, 4),
        ("DROP TRIGGER provenance_stays; UPDATE provenance SET principal = 'mallory'", 1, 0),
        ("DELETE FROM entries WHERE seq = 5", 5, 4),
        ("DELETE FROM entries WHERE seq = 4", 4, 3),
        ("DELETE FROM entries WHERE seq >= 7", 7, 6),
        ("DELETE FROM entries", 1, 0),
        ("UPDATE heads SET head_hash = zeroblob(32)", 8, 8),
    ],
)
async def test_r20_tampering_with_the_file_is_found_at_the_first_bad_entry(
    tmp_path: Path, statement: str, bad: int, checked: int
) -> None:
    async with open_world(tmp_path) as world:
        await world.store_many(8)
    tamper(tmp_path, statement)

    async with open_world(tmp_path) as world:
        verdict, _, next_seq = await world.records.verify(TENANT, 0, 0, None)

    assert (verdict.first_bad_seq, verdict.checked, next_seq) == (bad, checked, 0)
    assert verdict.reason


async def test_pruning_erases_what_outlived_its_retention_in_batches_and_the_chain_holds(world: World) -> None:
    tags = Tags(retention=Retention.SHORT)
    await world.store(*(an_item(ts=NOON - n) for n in range(5)), tags=tags)
    await world.store(an_item(), tags=tags, tenant_id="other")
    await world.store(an_item())
    world.clock.advance(31 * DAY + 1)

    progress = [step async for step in world.records.prune(None, dry_run=False, batch=2)]

    assert [step.erased for step in progress if step.tenant_id == TENANT] == [2, 4, 5]
    assert [step.tenants_done for step in progress] == [0, 0, 1, 2, 2]
    assert progress[-1] == ("", 6, 2, 2, True, False)
    verdict, _, _ = await world.records.verify(TENANT, 0, 0, None)
    assert (verdict.erased, verdict.first_bad_seq) == (5, 0)


async def test_a_pruned_entry_carries_a_record_of_the_server_itself(world: World) -> None:
    await world.store(an_item(), tags=Tags(retention=Retention.SHORT))
    world.clock.advance(32 * DAY)
    async for _ in world.records.prune(TENANT, dry_run=False):
        pass

    _, pruned = await world.signals.tail(TENANT, after=0, limit=10)
    record, links = await world.records.provenance(TENANT, pruned.provenance_id)

    assert pruned.kind is EntryKind.PRUNED
    assert (record.principal, record.transport) == ("system", "system")
    assert [row.seq for row, _ in links] == [2]


async def test_a_dry_run_counts_and_writes_nothing(world: World) -> None:
    await world.store(an_item(), an_item(), tags=Tags(retention=Retention.SHORT))
    world.clock.advance(32 * DAY)

    progress = [step async for step in world.records.prune(TENANT, dry_run=True)]

    assert progress == [(TENANT, 2, 1, 1, False, True), ("", 2, 1, 1, True, True)]
    assert (await world.signals.head(TENANT)).seq == 2


async def test_pruning_again_finds_nothing(world: World) -> None:
    await world.store(an_item(), tags=Tags(retention=Retention.SHORT))
    world.clock.advance(32 * DAY)
    async for _ in world.records.prune(TENANT, dry_run=False):
        pass

    progress = [step async for step in world.records.prune(TENANT, dry_run=False)]

    assert progress[-1].erased == 0
    assert (await world.signals.head(TENANT)).seq == 2


async def test_what_is_retained_is_counted_over_the_callers_tenants(world: World) -> None:
    await world.store(an_item(ts=NOON - 5), tenant_id="one")
    await world.store(an_item(ts=NOON - 9), an_item(), tenant_id="two")

    everything = await world.records.retained(a_caller())
    own = await world.records.retained(a_caller(tenants=["one"]))
    nothing = await world.records.retained(a_caller(tenants=[]))

    assert everything == (2, 3, NOON - 9)
    assert own == (1, 1, NOON - 5)
    assert nothing == (0, 0, None)

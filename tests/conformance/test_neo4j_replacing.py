"""Replaced signals in the graph, and readings of other processes that replacements overtake."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from coherence_grpc.adapters.neo4j import parts, prune, windows
from coherence_grpc.adapters.neo4j.append import append as apply
from coherence_grpc.adapters.neo4j.graph import connected
from coherence_grpc.adapters.neo4j.heads import Heads
from coherence_grpc.ledger import decode_signal
from coherence_grpc.model import DAY, EntryKind, Item, OnConflict, Retention, Tags
from coherence_grpc.policy import DEFAULT, encode_policy
from coherence_grpc.ports import Group, Pruned, SignalQuery
from coherence_grpc.score import WindowSum
from tests.backends.fixtures import NEO4J
from tests.builders import NOON, TENANT, a_provenance, a_write, an_item, key_of
from tests.conformance.asking import append, chance, entries, verdict
from tests.conformance.on_neo4j import PATIENCE
from tests.conformance.recomputing import STATEMENTS, put_together

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Sequence

    from coherence_grpc.adapters.neo4j.graph import Graph
    from coherence_grpc.model import Appended, Entry, Head, StoredSignal
    from coherence_grpc.ports import SignalStore, WindowColumns, WindowParts, WindowTotals
    from tests.builders import ManualClock
    from tests.conformance.on_neo4j import Neo4jHome

pytestmark = [pytest.mark.anyio, *NEO4J]

START = NOON - DAY
SHORT = Tags(retention=Retention.SHORT)
MANY = 12
ROUNDS = 4


def versions(*values: float, ts: int = NOON, signal_id: str = "one") -> list[Item]:
    """One signal, with one value after another."""
    return [an_item(signal_id=signal_id, value=value, ts=ts) for value in values]


async def put(signals: SignalStore, *items: Item, tags: Tags | None = None) -> Appended:
    """What a request that replaces did."""
    (appended,) = await append(signals, a_write(*items, tags=tags, on_conflict=OnConflict.REPLACE))
    return appended


async def test_ac_data_01_a_replaced_signal_is_an_entry_and_the_tenant_emits_what_took_its_place(
    migrated_graph: Neo4jHome, clock: ManualClock
) -> None:
    first, second, third, fourth = versions(0.1, 0.2, 0.3, 0.4)
    async with migrated_graph.signals(clock) as signals:
        await put(signals, first)
        await put(signals, second)
        await put(signals, third, fourth)

    found = await migrated_graph.look(
        "MATCH (e:Entry) RETURN e.seq, labels(e), e.value_q, e.superseded, e.superseded_seq,"
        " COUNT { (e)<-[:EMITS]-(:Tenant) } ORDER BY e.seq"
    )
    assert [(seq, set(labels), value_q, by, emits) for seq, labels, value_q, _, by, emits in found] == [
        (1, {"Entry", "Superseded"}, first.value_q, 2, 0),
        (2, {"Entry", "Superseded"}, second.value_q, 3, 0),
        (3, {"Entry", "Superseded"}, third.value_q, 4, 0),
        (4, {"Entry", "Signal"}, fourth.value_q, None, 1),
    ]
    assert [old and decode_signal(old) for _, _, _, old, *_ in found] == [None, first, second, third]


async def test_ac_data_03_what_was_replaced_counts_in_no_query_of_a_person(
    migrated_graph: Neo4jHome, clock: ManualClock
) -> None:
    last, other = versions(0.2, 0.9)[-1], an_item(value=0.4, weight=3.0)
    async with migrated_graph.signals(clock) as signals:
        await put(signals, *versions(0.2, 0.5), other)
        await put(signals, last)

    (row,) = await migrated_graph.look(STATEMENTS["cypher"], tenant_id=TENANT, start=START, end=NOON)
    assert put_together(row) == summed([last, other])


def summed(items: Iterable[Item]) -> WindowSum:
    sums = WindowSum()
    for item in items:
        sums = sums.plus(item.value_q, item.weight_q)
    return sums


async def test_of_an_erased_signal_that_was_replaced_every_entry_has_its_hashes_and_nothing_more(
    migrated_graph: Neo4jHome, clock: ManualClock
) -> None:
    async with migrated_graph.signals(clock) as signals:
        for item in versions(0.1, 0.2, 0.3, ts=NOON - 40 * DAY):
            await put(signals, item, tags=SHORT)
        await signals.prune(TENANT, now=NOON, provenance=a_provenance(), limit=10, dry_run=False)

    found = await migrated_graph.look("MATCH (e:Entry) WHERE e.seq < 4 RETURN labels(e), keys(e), COUNT { (e)--() }")
    assert [(labels, relations) for labels, _, relations in found] == [(["Entry"], 0)] * 3
    for _, names, _ in found:
        assert set(names) == {
            "tenant_id", "seq", "epoch", "kind", "recorded_at", "provenance_id", "entry_hash", "head_hash"
        }  # fmt: skip


async def test_a_signal_that_was_replaced_more_often_than_a_batch_holds_is_erased_in_several(
    migrated_graph: Neo4jHome, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(prune, "BATCH_ROWS", 5)
    often, other = versions(*(n / MANY for n in range(MANY)), ts=NOON - 41 * DAY), an_item(ts=NOON - 40 * DAY)
    async with migrated_graph.signals(clock) as signals:
        await put(signals, *often, other, tags=SHORT)

        batches = [
            await signals.prune(TENANT, now=NOON, provenance=a_provenance(), limit=10, dry_run=False) for _ in range(4)
        ]

        log = await entries(signals)
        checked = await verdict(signals)
    assert batches == [Pruned(0, more=True), Pruned(0, more=True), Pruned(2, more=False), Pruned(0, more=False)]
    assert {entry.erased for entry in log[: MANY + 1]} == {True}
    assert (checked.checked, checked.first_bad_seq) == (MANY + 1 + 3, 0)


async def test_before_the_first_signal_of_a_tenant_is_replaced_readers_are_told(
    migrated_graph: Neo4jHome, clock: ManualClock
) -> None:
    first, second = versions(0.1, 0.2)
    write = a_write(second, on_conflict=OnConflict.REPLACE)
    query = "MATCH (t:Tenant) RETURN t.replacing, t.head_seq"
    async with migrated_graph.signals(clock) as signals, connected(*migrated_graph.auth, patience=PATIENCE) as graph:
        await put(signals, first)

        done = await graph.transact(lambda one: apply(one, [write], epoch=1, now=NOON, lock="untold"))
        untold = await migrated_graph.look(query)
        await append(signals, write)

    assert (done.unannounced, untold) == ([TENANT], [[None, 1]])
    assert await migrated_graph.look(query) == [[True, 2]]


async def test_a_policy_is_an_entry_of_its_own_label_and_a_recomputation_is_none(
    migrated_graph: Neo4jHome, clock: ManualClock
) -> None:
    async with migrated_graph.signals(clock) as signals:
        for kind, payload in ((EntryKind.POLICY, encode_policy(DEFAULT)), (EntryKind.RECOMPUTE, b"")):
            await signals.append_own(TENANT, kind, payload, a_provenance(), now=NOON)

    found = await migrated_graph.look("MATCH (e:Entry) RETURN labels(e), e.kind, e.payload ORDER BY e.seq")
    assert [(set(labels), kind, payload) for labels, kind, payload in found] == [
        ({"Entry", "Policy"}, EntryKind.POLICY, encode_policy(DEFAULT)),
        ({"Entry"}, EntryKind.RECOMPUTE, b""),
    ]


class Overtaken(Heads):
    """Heads of a reader that is held up: once before it reads, behind a head that it saw, and once after it did."""

    def __init__(
        self, graph: Graph, before: Callable[[], Awaitable[object]], after: Callable[[], Awaitable[object]]
    ) -> None:
        super().__init__(graph, 1)
        self._before, self._after = before, after

    async def settled(self, tenant_id: str) -> Head:
        head = await super().settled(tenant_id)
        before, self._before = self._before, nothing
        await before()
        return head

    async def settle(self, tenant_id: str) -> None:
        after, self._after = self._after, nothing
        await after()
        await super().settle(tenant_id)


async def nothing() -> None:
    """What happens while nobody is held up."""


FIRST = [
    an_item(signal_id="early", ts=START - 1, value=0.1),
    an_item(signal_id="left", source="a", ts=START, value=0.2),
    an_item(signal_id="seen", source="a", type="deploy", ts=START + 5, value=0.3, weight=2.0),
    an_item(signal_id="twin", source="b", ts=START + 5, value=0.3, weight=2.0),
    an_item(signal_id="muted", source="a", ts=START + 6, value=0.9, weight=0.0),
    an_item(signal_id="stays", source="c", ts=NOON - 1, value=0.4),
    an_item(signal_id="last", source="a", ts=NOON, value=0.5),
    an_item(signal_id="late", source="d", ts=NOON + 7, value=0.6),
]


def another(item: Item) -> Item:
    """What takes the place of the item: a muted signal for a weighted one, and the other way round."""
    return item._replace(type="other", value_q=item.value_q + 1, weight_q=0 if item.weight_q else 1)


class Truth:
    """What a reading at a head must find, by the log."""

    def __init__(self, log: Sequence[Entry], head: Head) -> None:
        self._now = {entry.item[:2] + entry.item[-1:]: entry for entry in log[: head.seq] if entry.item}
        self._items = [entry.item for entry in self._now.values() if entry.item]
        self._inside = [item for item in self._items if START <= item.ts <= NOON]

    def _rows(self, items: Iterable[Item]) -> list[tuple[int, int, int, Group]]:
        return sorted((one.ts, one.value_q, one.weight_q, Group(one.source, one.type)) for one in items if one.weight_q)

    @property
    def _upcoming(self) -> int | None:
        return min((one.ts for one in self._items if one.weight_q and one.ts > NOON), default=None)

    def is_in(self, window: WindowColumns) -> bool:
        """The window from the start to noon, with groups."""
        assert window.group is not None
        groups = [window.groups[index] for index in window.group]
        rows = zip(window.ts, window.value_q, window.weight_q, groups, strict=True)
        ascending = list(window.ts) == sorted(window.ts)
        return ascending and (sorted(rows), window.upcoming) == (self._rows(self._inside), self._upcoming)

    def is_in_all(self, window: WindowColumns) -> bool:
        """The window from the start on."""
        rows = zip(window.ts, window.value_q, window.weight_q, strict=True)
        known = self._rows(one for one in self._items if one.ts >= START)
        return list(window.ts) == sorted(window.ts) and sorted(rows) == [row[:3] for row in known]

    def is_in_totals(self, totals: WindowTotals) -> bool:
        """The sums of the window from the start to noon."""
        weighted = [one for one in self._inside if one.weight_q]
        instants = [one.ts for one in weighted]
        leaving = [min(instants) + DAY + 1] if instants else []
        upcoming = [] if self._upcoming is None else [self._upcoming]
        expected = summed(weighted), max(instants, default=None), min(leaving + upcoming, default=None)
        return totals[:3] == expected

    def is_in_parts(self, parts: WindowParts) -> bool:
        """The signals from the start to noon, the first two weighted ones after it, and how many are outside."""
        groups = [parts.groups[index] for index in parts.group]
        rows = list(zip(parts.ts, parts.value_q, parts.weight_q, parts.seq, groups, strict=True))
        known = sorted(
            (one.ts, one.value_q, one.weight_q, entry.seq, Group(one.source, one.type))
            for entry in self._now.values()
            if (one := entry.item) and one.ts >= START
        )
        inside = [row for row in known if row[0] <= NOON]
        ahead = sorted((row for row in known if row[0] > NOON and row[2]), key=lambda row: (row[0], row[3]))[:2]
        outside = sum(one.ts > NOON for one in self._items), sum(one.ts < START for one in self._items)
        ascending = list(parts.ts) == sorted(parts.ts)
        return ascending and sorted(rows) == sorted(inside + ahead) and (parts.not_yet_due, parts.aged_out) == outside

    def is_listed(self, signals: Sequence[StoredSignal]) -> bool:
        """All signals."""
        return sorted(signal.item for signal in signals) == sorted(self._items)


@pytest.mark.parametrize("when", ["before", "after", "both"])
@pytest.mark.parametrize("name", ["columns", "all columns", "parts", "totals"])
async def test_a_reading_that_replacements_overtake_is_that_of_one_head(
    migrated_graph: Neo4jHome, clock: ManualClock, name: str, when: str
) -> None:
    half = len(FIRST) // 2
    before, after = {"before": (FIRST, []), "after": ([], FIRST), "both": (FIRST[:half], FIRST[half:])}[when]
    async with migrated_graph.signals(clock) as signals, connected(*migrated_graph.auth, patience=PATIENCE) as graph:

        async def replace(items: Sequence[Item]) -> None:
            await put(signals, *map(another, items), an_item(ts=START - 2), an_item(ts=NOON - 2), an_item(ts=NOON + 2))
            await put(signals, *items[::2])

        first = (await put(signals, *versions(0.1, 0.2, ts=START - 9), *FIRST)).head
        reader = windows.Windows(graph, Overtaken(graph, lambda: replace(before), lambda: replace(after)))
        if name == "totals":
            totals = await reader.totals(TENANT, start=START, end=NOON)
            exact = Truth(await entries(signals), totals.head).is_in_totals(totals)
        elif name == "parts":
            found = await parts.Parts(graph, reader).parts(TENANT, start=START, end=NOON, ahead=2)
            exact = Truth(await entries(signals), first).is_in_parts(found) and found.head == first
        elif name == "columns":
            columns = await reader.columns(TENANT, start=START, end=NOON, grouped=True)
            exact = Truth(await entries(signals), first).is_in(columns) and columns.head == first
        else:
            columns = await reader.columns(TENANT, start=START)
            exact = Truth(await entries(signals), first).is_in_all(columns) and columns.head == first
        log = await entries(signals)

    assert exact
    assert [entry.kind for entry in log].count(EntryKind.REPLACED) == 1 + len(FIRST) + half


async def test_what_another_store_reads_is_exact_while_this_one_replaces(
    migrated_graph: Neo4jHome, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(windows, "CHUNK_ROWS", 40)
    monkeypatch.setattr(parts, "CHUNK_ROWS", 40)
    dice = chance(41)
    items = [an_item(ts=NOON - 2 * DAY + dice.randrange(3 * DAY), weight=dice.choice([0, 1, 2])) for _ in range(300)]

    async def write(store: SignalStore) -> None:
        while not done.is_set():
            changed = [one._replace(value_q=dice.randrange(9), weight_q=dice.choice([0, 1, 5])) for one in items]
            await put(store, *dice.sample(changed, 30), an_item(ts=NOON - dice.randrange(DAY)))

    done = asyncio.Event()
    seen = []
    async with (
        asyncio.timeout(50),
        migrated_graph.signals(clock) as writer,
        migrated_graph.signals(clock) as reader,
        asyncio.TaskGroup() as tasks,
    ):
        await put(writer, *items)
        writing = tasks.create_task(write(writer))
        for _ in range(ROUNDS):
            all_columns = await reader.window(TENANT, start=START)
            columns = await reader.window(TENANT, start=START, end=NOON, grouped=True)
            totals = await reader.totals(TENANT, start=START, end=NOON)
            apart = await reader.parts(TENANT, start=START, end=NOON, ahead=2)
            listing = await reader.listing(TENANT, SignalQuery(), before=None, limit=100_000)
            found = [await reader.get(key_of(item)) for item in items[:9]]
            seen.append((all_columns, columns, totals, apart, listing, found))
        done.set()
        await writing
        log = await entries(reader)

    assert len({all_columns.head.seq for all_columns, *_ in seen}) > 1
    for all_columns, columns, totals, apart, (listed, listed_at), found in seen:
        assert Truth(log, all_columns.head).is_in_all(all_columns)
        assert Truth(log, columns.head).is_in(columns)
        assert Truth(log, totals.head).is_in_totals(totals)
        assert Truth(log, apart.head).is_in_parts(apart)
        assert Truth(log, listed_at).is_listed(listed)
        assert None not in found

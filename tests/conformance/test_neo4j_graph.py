"""What the log is in the graph: nodes, relations and types that people and their queries find."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING

import pytest

from coherence_grpc.ledger import verify
from coherence_grpc.model import DAY, Appended, Outcome, Retention, Tags
from coherence_grpc.ports import SignalQuery
from coherence_grpc.shards import shard_of
from tests.backends.fixtures import NEO4J
from tests.builders import NOON, TENANT, a_provenance, a_score, a_write, an_item
from tests.conformance.asking import append, append_items, chance
from tests.faults import eventually

if TYPE_CHECKING:
    from coherence_grpc.model import Result
    from coherence_grpc.ports import SignalStore
    from tests.builders import ManualClock
    from tests.conformance.on_neo4j import Neo4jHome

pytestmark = [pytest.mark.anyio, *NEO4J]

COUNTS = "MATCH (n) RETURN labels(n), count(*)"
RELATIONS = "MATCH (a)-[r]->(b) RETURN DISTINCT labels(a), type(r), labels(b)"
# Everything is in the log, but for the note of what was applied.
WHOLE = "MATCH (e:Entry {tenant_id: $tenant_id}) RETURN count(*), min(e.seq), max(e.seq), count(DISTINCT e.seq)"


async def test_ac_data_01_the_log_is_tenants_entries_signals_and_provenance(
    migrated_graph: Neo4jHome, clock: ManualClock
) -> None:
    async with migrated_graph.signals(clock) as signals:
        await append(signals, a_write(an_item(), an_item()), a_write(an_item(), tenant_id="b"))
        signals.note_published(a_score())

    counts = {frozenset(labels): count for labels, count in await migrated_graph.look(COUNTS)}
    relations = {(*begin, name, *sorted(end)) for begin, name, end in await migrated_graph.look(RELATIONS)}
    assert counts == {
        frozenset({"Tenant"}): 2,
        frozenset({"Entry", "Signal"}): 3,
        frozenset({"Provenance"}): 2,
        frozenset({"CoherenceScore"}): 1,
        frozenset({"Meta"}): 1,
    }
    assert relations == {
        ("Tenant", "EMITS", "Entry", "Signal"),
        ("Tenant", "HAS_SCORE", "CoherenceScore"),
    }


async def test_ac_data_01_a_signal_has_its_words_and_native_types(
    migrated_graph: Neo4jHome, clock: ManualClock
) -> None:
    item = an_item(source="ci", signal_id="one", type="build", value=0.8, weight=2.5, ts=NOON + 1)
    async with migrated_graph.signals(clock) as signals:
        (appended,) = await append(signals, a_write(item), now=NOON + 2)

    ((properties, ts, types),) = await migrated_graph.look(
        "MATCH (:Tenant)-[:EMITS]->(s:Signal) RETURN properties(s), toString(s.ts),"
        " [valueType(s.ts), valueType(s.recorded_at), valueType(s.value_q), valueType(s.weight_q), valueType(s.seq)]"
    )
    assert ts == "2013-02-08T00:00:00.000001Z"
    assert types == ["ZONED DATETIME NOT NULL"] * 2 + ["INTEGER NOT NULL"] * 3
    assert {name: properties[name] for name in properties.keys() - {"ts", "recorded_at", "entry_hash"}} == {
        "tenant_id": TENANT,
        "source": "ci",
        "signal_id": "one",
        "type": "build",
        "value_q": 800_000_000,
        "weight_q": 2_500_000_000,
        "retention": "standard-365d",
        "seq": 1,
        "epoch": 1,
        "kind": 1,
        "provenance_id": appended.write.provenance.provenance_id,
        "head_hash": appended.hashes[0],
    }


async def test_ac_data_01_a_tenant_says_where_its_log_stands(migrated_graph: Neo4jHome, clock: ManualClock) -> None:
    async with migrated_graph.signals(clock) as signals:
        (appended,) = await append(signals, a_write(an_item(), an_item()), now=NOON + 2)

    assert await migrated_graph.look(
        "MATCH (t:Tenant) RETURN t.tenant_id, t.head_seq, t.head_hash, t.shard, toString(t.head_time)"
    ) == [[TENANT, 2, appended.head.head_hash, shard_of(TENANT, 64), "2013-02-08T00:00:00.000002Z"]]


async def test_an_erased_signal_is_an_entry_with_its_hashes_and_nothing_more(
    migrated_graph: Neo4jHome, clock: ManualClock
) -> None:
    short = Tags(retention=Retention.SHORT)
    async with migrated_graph.signals(clock) as signals:
        await append(signals, a_write(an_item(ts=NOON - 40 * DAY), tags=short), a_write(an_item()))
        await signals.prune(TENANT, now=NOON, provenance=a_provenance(), limit=10, dry_run=False)

    ((labels, names, emits),) = await migrated_graph.look(
        "MATCH (e:Entry {seq: 1}) RETURN labels(e), keys(e), COUNT { (e)<-[:EMITS]-() }"
    )
    assert (labels, emits) == (["Entry"], 0)
    assert set(names) == {
        "tenant_id", "seq", "epoch", "kind", "recorded_at", "provenance_id", "entry_hash", "head_hash"
    }  # fmt: skip


async def test_ac_data_02_a_hundred_parallel_upserts_of_one_key_make_one_node(
    migrated_graph: Neo4jHome, clock: ManualClock
) -> None:
    item = an_item()
    async with AsyncExitStack() as stack:
        stores = [await stack.enter_async_context(migrated_graph.signals(clock)) for _ in range(10)]
        calls = [asyncio.create_task(append_items(store, item)) for store in stores for _ in range(10)]
        results = [result for call in calls for result in (await call).results]

    assert [result.outcome for result in results].count(Outcome.STORED) == 1
    assert [result.outcome for result in results].count(Outcome.DUPLICATE) == 99
    assert {(result.seq, result.provenance_id) for result in results} == {(1, results_provenance(results))}
    assert await migrated_graph.look("MATCH (s:Signal) RETURN count(*)") == [[1]]
    assert await migrated_graph.look("MATCH (:Tenant)-[:EMITS]->(s) RETURN count(*)") == [[1]]


def results_provenance(results: list[Result]) -> str:
    return next(result.provenance_id for result in results if result.outcome is Outcome.STORED)


async def test_ac_data_02_the_same_signal_id_in_two_tenants_is_two_nodes_without_a_relation_across(
    migrated_graph: Neo4jHome, clock: ManualClock
) -> None:
    item = an_item()
    async with migrated_graph.signals(clock) as signals:
        await append(signals, a_write(item, tenant_id="a"), a_write(item, tenant_id="b"))

    assert await migrated_graph.look(
        "MATCH (t:Tenant)-[:EMITS]->(s:Signal) RETURN t.tenant_id, s.tenant_id, s.signal_id ORDER BY t.tenant_id"
    ) == [["a", "a", item.signal_id], ["b", "b", item.signal_id]]


async def test_ac_data_02_four_stores_with_duplicates_and_conflicts_leave_no_hole_in_any_log(
    migrated_graph: Neo4jHome, clock: ManualClock
) -> None:
    tenants = ("a", "b", "c")
    dice = chance(17)
    known = [an_item(signal_id=f"shared-{index}", value=0.5) for index in range(60)]

    async def publish(store: SignalStore, seed: int) -> list[Appended]:
        dice = chance(seed)
        answers: list[Appended] = []
        for _ in range(12):
            writes = []
            # Some go to one tenant, some to all of them in any order.
            for tenant_id in dice.sample(tenants, dice.choice([1, 3])):
                shared = [one._replace(value_q=dice.choice([one.value_q, 1])) for one in dice.sample(known, 5)]
                writes.append(a_write(*shared, *(an_item() for _ in range(5)), tenant_id=tenant_id))
            answers += await append(store, *writes)
        return answers

    async with asyncio.timeout(50), AsyncExitStack() as stack:
        stores = [await stack.enter_async_context(migrated_graph.signals(clock)) for _ in range(4)]
        calls = [asyncio.create_task(publish(store, dice.randrange(1000))) for store in stores]
        answers = [answer for call in calls for answer in await call]
        ledgers = {tenant_id: await stores[0].ledger(tenant_id, first=1, limit=10_000) for tenant_id in tenants}

    outcomes = [result.outcome for answer in answers for result in answer.results]
    assert {Outcome.STORED, Outcome.DUPLICATE, None} == set(outcomes)
    for tenant_id, (previous, rows) in ledgers.items():
        stored = sum(len(answer.stored) for answer in answers if answer.write.tenant_id == tenant_id)
        assert await migrated_graph.look(WHOLE, tenant_id=tenant_id) == [[stored, 1, stored, stored]]
        assert (verify(tenant_id, 1, previous, rows).checked, len(rows)) == (stored, stored)


async def test_a_published_score_is_found_behind_has_score_within_two_seconds(
    migrated_graph: Neo4jHome, clock: ManualClock
) -> None:
    query = (
        "MATCH (t:Tenant)-[:HAS_SCORE]->(c:CoherenceScore)"
        " RETURN t.tenant_id, c.tenant_id, c.score, c.status, toString(c.updated_at), c.version"
    )
    async with migrated_graph.signals(clock) as signals:
        await append(signals, a_write())
        signals.note_published(a_score(score_ppm=812_345, version=3))

        found = await eventually(lambda: migrated_graph.look(query), bool, timeout_s=5)

    assert found == [[TENANT, TENANT, 0.812345, "HEALTHY", "2013-02-08T00:00:00Z", 3]]


async def test_a_score_gives_way_to_a_newer_one_only_whichever_store_writes_it(
    migrated_graph: Neo4jHome, clock: ManualClock
) -> None:
    for epoch, version, score in ((1, 7, 700_000), (1, 6, 600_000), (2, 1, 100_000), (1, 9, 900_000), (2, 1, None)):
        async with migrated_graph.signals(clock) as signals:
            signals.note_published(a_score(score_ppm=score, score_epoch=epoch, version=version))

    async with migrated_graph.signals(clock) as signals:
        assert await signals.published() == {TENANT: (2, 1)}
    assert await migrated_graph.look(
        "MATCH (:Tenant)-[:HAS_SCORE]->(c) RETURN c.score, c.status, c.score_epoch, c.version"
    ) == [[None, "UNKNOWN", 2, 1]]


async def test_what_another_store_reads_is_whole_while_this_one_writes(
    migrated_graph: Neo4jHome, clock: ManualClock
) -> None:
    async def write(store: SignalStore) -> None:
        while not done.is_set():
            await append(store, a_write(*[an_item() for _ in range(40)]), a_write(an_item(), tenant_id="b"))

    done = asyncio.Event()
    seen = []
    async with (
        asyncio.timeout(50),
        migrated_graph.signals(clock) as writer,
        migrated_graph.signals(clock) as reader,
        asyncio.TaskGroup() as tasks,
    ):
        writing = tasks.create_task(write(writer))
        for _ in range(8):
            head = await reader.head(TENANT)
            tail = await reader.tail(TENANT, after=max(head.seq - 40, 0), limit=40)
            window = await reader.window(TENANT, start=NOON)
            totals = await reader.totals(TENANT, start=NOON, end=NOON)
            listing = await reader.listing(TENANT, SignalQuery(), before=None, limit=100_000)
            heads = await reader.heads([TENANT, "b"])
            seen.append((head, tail, window, totals, listing, heads))
        done.set()
        await writing

    assert len({head.seq for head, *_ in seen}) > 3
    for head, tail, window, totals, (listed, listed_at), heads in seen:
        assert not head.seq or (tail[-1].seq, tail[-1].head_hash) == (head.seq, head.head_hash)
        assert len(window.ts) == window.head.seq
        assert totals.sums.count == totals.head.seq
        assert len(listed) == listed_at.seq
        assert heads[TENANT].seq == 40 * heads["b"].seq

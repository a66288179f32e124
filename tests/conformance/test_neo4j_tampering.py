"""What verification makes of a graph that was changed behind the store's back (R20, light)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from neo4j.exceptions import ConstraintError

from tests.backends.fixtures import NEO4J
from tests.builders import TENANT, ManualClock, a_write, an_item
from tests.conformance.asking import append, verdict

if TYPE_CHECKING:
    from coherence_grpc.ledger import Verdict
    from tests.conformance.on_neo4j import Neo4jHome

pytestmark = [pytest.mark.anyio, *NEO4J]
ENTRIES = 40
ENTRY = "MATCH (e:Entry {tenant_id: 'acme', seq: 7}) "
# What an intruder may do to one entry; a signal's own properties are what was hashed.
CHANGES = {
    "value": "SET e.value_q = e.value_q + 1",
    "weight": "SET e.weight_q = 0",
    "weight as text": "SET e.weight_q = '1'",
    "value gone": "REMOVE e.value_q",
    "type": "SET e.type = 'deploy'",
    "source": "SET e.source = 'elsewhere'",
    "signal_id": "SET e.signal_id = 'another'",
    "ts": "SET e.ts = e.ts + duration({microseconds: 1})",
    "recorded_at": "SET e.recorded_at = e.recorded_at + duration({microseconds: 1})",
    "epoch": "SET e.epoch = 2",
    "kind": "SET e.kind = 2",
    "entry_hash": "SET e.entry_hash = e.head_hash",
    "head_hash": "SET e.head_hash = e.entry_hash",
    "payload": "SET e.payload = e.entry_hash",
    "superseded": "SET e.superseded = e.entry_hash",
    "record": "MATCH (p:Provenance {tenant_id: 'b'}) WITH e, p LIMIT 1 SET e.provenance_id = p.provenance_id",
    "deleted": "DETACH DELETE e",
}


@pytest.fixture
async def log(migrated_graph: Neo4jHome) -> Neo4jHome:
    """A graph with two tenants' logs."""
    async with migrated_graph.signals(ManualClock()) as signals:
        for _ in range(ENTRIES // 4):
            await append(signals, a_write(*[an_item() for _ in range(4)]), a_write(an_item(), tenant_id="b"))
    return migrated_graph


async def verdict_of(log: Neo4jHome, tenant_id: str = TENANT) -> Verdict:
    async with log.signals(ManualClock()) as signals:
        return await verdict(signals, tenant_id)


async def test_r20_an_untouched_graph_verifies(log: Neo4jHome) -> None:
    checked = await verdict_of(log)

    assert (checked.checked, checked.first_bad_seq) == (ENTRIES, 0)


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
async def test_r20_a_changed_entry_is_found(log: Neo4jHome, change: str) -> None:
    await log.look(ENTRY + change)

    assert (await verdict_of(log)).first_bad_seq == 7


async def test_r20_swapped_entries_are_found(log: Neo4jHome) -> None:
    for old, new in ((7, 1000), (8, 7), (1000, 8)):
        await log.look("MATCH (e:Entry {tenant_id: 'acme', seq: $old}) SET e.seq = $new", old=old, new=new)

    assert (await verdict_of(log)).first_bad_seq == 7


async def test_r20_a_truncated_tail_falls_short_of_the_head(log: Neo4jHome) -> None:
    await log.look("MATCH (e:Entry {tenant_id: 'acme'}) WHERE e.seq > 30 DETACH DELETE e")

    async with log.signals(ManualClock()) as signals:
        head = await signals.head(TENANT)
        checked = await verdict(signals)

    assert (checked.checked, head.seq) == (30, ENTRIES)
    assert checked.head_hash != head.head_hash


@pytest.mark.parametrize("name", ["purpose", "principal", "traceparent", "request_hash"])
async def test_r20_a_changed_provenance_record_is_found(log: Neo4jHome, name: str) -> None:
    await log.look(f"MATCH (p:Provenance {{tenant_id: 'acme', first_seq: 5}}) SET p.{name} = '7'")

    assert (await verdict_of(log)).first_bad_seq == 5


async def test_ac_ing_02_a_provenance_record_is_not_made_twice(log: Neo4jHome) -> None:
    ((provenance_id, request_id),) = await log.look(
        "MATCH (p:Provenance {tenant_id: 'acme', first_seq: 5}) RETURN p.provenance_id, p.request_id"
    )

    with pytest.raises(ConstraintError):
        await log.look("CREATE (:Provenance {provenance_id: $id, tenant_id: 'acme'})", id=provenance_id)
    with pytest.raises(ConstraintError):
        await log.look("CREATE (:Provenance {tenant_id: 'acme', request_id: $id})", id=request_id)

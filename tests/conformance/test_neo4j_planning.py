"""What a process asks first is planned when its store is opened."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from coherence_grpc.adapters.neo4j import append, heads, notes, own, taking, windows
from coherence_grpc.model import SECOND
from tests.backends.fixtures import NEO4J
from tests.builders import NOON, a_score, a_write, an_item
from tests.conformance.asking import append as append_writes

if TYPE_CHECKING:
    from tests.builders import ManualClock
    from tests.conformance.on_neo4j import Neo4jHome

pytestmark = [pytest.mark.anyio, *NEO4J]

# What lies between a signal and the row of its score, and what is asked all the time.
STEADY = {
    "lock": append.LOCK,
    "find_signals": append.FIND_SIGNALS,
    "extend": append.EXTEND,
    "keep": notes.KEEP,
    "heads": heads.HEADS,
    "hold": heads.HOLD,
    "moved": heads.MOVED,
    "columns": windows.COLUMNS,
    "taken": taking.TAKEN,
}
# What comes by and by, and may be planned then, but once only.
LATER = {
    "announce": append.ANNOUNCE,
    "supersede": append.SUPERSEDE,
    "replace": append.REPLACE,
    "superseded": taking.SUPERSEDED,
    "grouped": windows.GROUPED,
    "add": own.ADD,
    "policies": own.POLICIES,
}
FORGET = "CALL db.clearQueryCaches() YIELD value RETURN value"


async def test_ac_data_05_from_the_first_signal_to_its_row_nothing_is_planned_any_more(
    migrated_graph: Neo4jHome, clock: ManualClock
) -> None:
    await migrated_graph.look(FORGET)
    async with migrated_graph.signals(clock):
        pass
    [[opening]] = await migrated_graph.look(FORGET)

    async with migrated_graph.signals(clock) as signals:
        for tenant_id in ("acme", "a-name-of-more-than-ten-letters"):
            for size in (1, 5, 20, 200):
                for ts in (NOON, NOON - SECOND):
                    await append_writes(signals, a_write(*(an_item(ts=ts) for _ in range(size)), tenant_id=tenant_id))
            await signals.heads((tenant_id,))
            await signals.window(tenant_id, start=0)
            signals.note_published(a_score(tenant_id=tenant_id))
    [[both]] = await migrated_graph.look(FORGET)

    assert both == opening


@pytest.mark.parametrize("name", [*STEADY, *LATER])
def test_as_the_graph_grows_no_write_waits_for_a_new_plan(name: str) -> None:
    assert (STEADY | LATER)[name].startswith("CYPHER replan=skip\n")

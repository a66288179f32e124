"""What a process asks first is planned when its store is opened."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from coherence_grpc.model import SECOND
from tests.backends.fixtures import NEO4J
from tests.builders import NOON, a_score, a_write, an_item
from tests.conformance.asking import append

if TYPE_CHECKING:
    from tests.builders import ManualClock
    from tests.conformance.on_neo4j import Neo4jHome

pytestmark = [pytest.mark.anyio, *NEO4J]

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
            for size in (1, 20):
                for ts in (NOON, NOON - SECOND):
                    await append(signals, a_write(*(an_item(ts=ts) for _ in range(size)), tenant_id=tenant_id))
            await signals.heads((tenant_id,))
            await signals.window(tenant_id, start=0)
            signals.note_published(a_score(tenant_id=tenant_id))
    [[both]] = await migrated_graph.look(FORGET)

    assert both == opening

"""What runs for long holds nothing of what is past."""

from __future__ import annotations

from contextlib import aclosing
from typing import TYPE_CHECKING, Final

import pytest

from coherence_grpc.client import connect
from tests.e2e.cutting import earliest
from tests.e2e.rows import a_row, batch_of
from tests.e2e.subscriptions import EVENTS, over_event_stream, over_socket, socket_to
from tests.e2e.ways import browser
from tests.serving import Served, command_line, resident_bytes, serving

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Mapping
    from pathlib import Path

    from coherence_grpc.client import Client

pytestmark = [pytest.mark.anyio, pytest.mark.slow, pytest.mark.timeout(150)]

EVENTS_READ: Final = 20_000
BATCH: Final = 1000
# A memo of graphql-core kept 2.6 kB an event for as long as its subscription was open: 40 MB here.
GROWTH_BYTES: Final = 15 << 20


async def test_r19_a_long_subscription_holds_nothing_of_past_events(tmp_path: Path, tenant: str) -> None:
    async with serving(tmp_path) as served, connect(served.grpc) as client:
        variables = {"tenantId": tenant, "after": await earliest(client, tenant)}
        await _publish(client, tenant)

        async with socket_to(served.http) as socket, browser(served) as http:
            grown_by_socket = await _growth(served, over_socket(socket, EVENTS, variables))
            grown_by_event_stream = await _growth(served, over_event_stream(http, EVENTS, variables))

    assert grown_by_socket < GROWTH_BYTES
    assert grown_by_event_stream < GROWTH_BYTES


async def _publish(client: Client, tenant: str) -> None:
    for _ in range(EVENTS_READ // BATCH):
        await client.ingest.PublishSignals(batch_of([a_row(tenant, weight=0.0) for _ in range(BATCH)], tenant))


async def _growth(served: Served, messages: AsyncGenerator[Mapping[str, object], None]) -> int:
    """By how much the subgraph grows from a quarter of the events to the last one."""
    (subgraph,) = [pid.number for pid in served.children() if "subgraph" in command_line(pid.number)]
    read = before = 0
    async with aclosing(messages):
        async for _ in messages:
            read += 1
            if read == EVENTS_READ // 4:
                before = resident_bytes(subgraph)
            if read == EVENTS_READ:
                break
    assert read == EVENTS_READ
    return resident_bytes(subgraph) - before

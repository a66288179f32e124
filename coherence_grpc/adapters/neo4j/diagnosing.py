"""What `coherence doctor` asks Neo4j: what time it is there, and whether nodes can be written."""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING, Final

from coherence_grpc.adapters.neo4j.graph import OPERATION_S, connected
from coherence_grpc.adapters.neo4j.migrating import epoch_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from coherence_grpc.adapters.neo4j.graph import Graph, Statements

# The first question is planned for long; the quickest one tells most.
READINGS: Final = 3
_NOW: Final = "WITH datetime.realtime() AS now RETURN now.epochMillis * 1000 + now.microsecond % 1000"
# A label and a property that are there already: names of new ones would outlive the rollback.
_WRITE: Final = "CREATE (m:Meta {name: $probe}) RETURN m.name"


async def read_clock(uri: str, user: str, password: str, wall: Callable[[], int]) -> tuple[int, int, int]:
    """When the server was asked and answered, both by `wall`, and between them its own time; in microseconds.

    Raises:
        SettingsInvalid: the address, the user or the password is wrong.
        StoreDown, StoreTimeout: the server can't be reached.
    """
    async with connected(uri, user, password) as graph:
        readings = [await _read(graph, wall) for _ in range(READINGS)]
    return min(readings, key=lambda reading: reading[1] - reading[0])


async def _read(graph: Graph, wall: Callable[[], int]) -> tuple[int, int, int]:
    asked = wall()
    (there,) = await graph.ask(_NOW, limit_s=OPERATION_S)
    return asked, wall(), int(there)


async def check_writes(uri: str, user: str, password: str) -> None:
    """Returns when the user may write; a node that it writes is rolled back.

    Raises:
        MigrationPending: the graph is behind this release.
        SettingsInvalid, StorageFull, StoreDown, StoreTimeout: the message says what keeps it from writing.
    """

    async def write(transaction: Statements) -> None:
        await transaction.ask(_WRITE, probe=f"doctor {secrets.token_hex(8)}")

    async with connected(uri, user, password) as graph:
        await epoch_of(graph)
        await graph.transact(write)

"""Bringing a graph to what this release reads and writes. Migrations only add: the release before keeps working."""

from __future__ import annotations

import asyncio
import re
from importlib.resources import files
from typing import TYPE_CHECKING, Final

from neo4j.exceptions import Neo4jError

from coherence_grpc.adapters.neo4j.failures import TITLE, word_of
from coherence_grpc.adapters.neo4j.graph import connected
from coherence_grpc.errors import DataRefused, MigrationPending

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from coherence_grpc.adapters.neo4j.graph import Graph, Statements

# An index on what is there already takes its time.
MIGRATE_S: Final = 600.0
# A server that has just started, or builds an index, is late with all its answers; and nobody waits for a migration.
PATIENCE: Final = 10.0
FIRST_EPOCH: Final = 1
_SUFFIX: Final = ".cypher"
_FOLDER: Final = "migrations"
_COMMENT: Final = re.compile(r"^\s*//.*$", re.MULTILINE)

_APPLIED: Final = "MATCH (m:Meta {name: 'signals'}) RETURN m.migrations"
# Where several processes migrate at once, one makes the node and each adds what it applied: locked before it is read.
_APPLY: Final = """
MERGE (m:Meta {name: 'signals'})
ON CREATE SET m.epoch = $first_epoch, m.migrations = []
SET m.lock = $name
WITH m
SET m.migrations = [name IN m.migrations WHERE name <> $name] + $name
"""
_ONLINE: Final = "CALL db.awaitIndexes($seconds)"
_EPOCH: Final = "MATCH (m:Meta {name: 'signals'}) RETURN m.epoch"


def migrations() -> Mapping[str, Sequence[str]]:
    """The statements of each migration by its name, in their order."""
    folder = files(__package__) / _FOLDER
    found = sorted(file.name for file in folder.iterdir() if file.name.endswith(_SUFFIX))
    return {name.removesuffix(_SUFFIX): _statements((folder / name).read_text("utf-8")) for name in found}


def _statements(text: str) -> Sequence[str]:
    return [statement.strip() for statement in _COMMENT.sub("", text).split(";") if statement.strip()]


async def migrate(uri: str, user: str, password: str, *, database: str = "neo4j") -> Sequence[str]:
    """Applies what is pending and names it; several processes may do so at once, and it can be run again.

    Raises:
        SettingsInvalid: the address, the user or the password is wrong.
        DataRefused: something else is in the graph that is in the way.
        StoreDown, StoreTimeout: the server can't be reached.
    """
    async with connected(uri, user, password, database=database, patience=PATIENCE) as graph:
        names = await _pending(graph)
        statements = await asyncio.to_thread(migrations)
        for name in names:
            try:
                await _apply(graph, name, statements[name])
            except Neo4jError as error:
                raise _not_ours(name, error) from None
        return names


def _not_ours(name: str, error: Neo4jError) -> DataRefused:
    message = (
        f"migration {name} of the {TITLE} failed ({word_of(error)}): the graph holds indexes, constraints or nodes that"
        " no migration made; remove them, or name another server"
    )
    return DataRefused(message)


async def _apply(graph: Graph, name: str, statements: Sequence[str]) -> None:
    # Each commits by itself, as a schema must; what is there already is left alone.
    for statement in statements:
        await graph.ask(statement, limit_s=MIGRATE_S)
    await graph.ask(_ONLINE, limit_s=MIGRATE_S, seconds=int(MIGRATE_S))

    async def note(transaction: Statements) -> None:
        await transaction.change(_APPLY, name=name, first_epoch=FIRST_EPOCH)

    await graph.transact(note)


async def pending(uri: str, user: str, password: str, *, database: str = "neo4j") -> Sequence[str]:
    """What `migrate` would apply.

    Raises:
        SettingsInvalid, StoreDown, StoreTimeout: as `migrate`.
    """
    async with connected(uri, user, password, database=database, patience=PATIENCE) as graph:
        return await _pending(graph)


async def _pending(graph: Graph) -> Sequence[str]:
    known = await asyncio.to_thread(migrations)
    found = await graph.ask(_APPLIED)
    # What a newer release added is no obstacle.
    return [name for name in known if name not in (found[0] if found else ())]


async def epoch_of(graph: Graph) -> int:
    """The epoch of a graph that a service of this release can run on.

    Raises:
        MigrationPending: it is behind.
    """
    names = await _pending(graph)
    if names:
        message = f"the {TITLE} lacks {', '.join(names)}; run `coherence migrate up`"
        raise MigrationPending(message)
    (epoch,) = await graph.ask(_EPOCH)
    return int(epoch)

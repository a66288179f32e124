"""Bringing a schema to what this release reads and writes. Migrations only add: the release before keeps working."""

from __future__ import annotations

import asyncio
from importlib.resources import files
from typing import TYPE_CHECKING, Final

from psycopg.errors import DuplicateTable, InsufficientPrivilege
from psycopg.sql import SQL, Identifier

from coherence_grpc.adapters.postgres.connecting import connected
from coherence_grpc.adapters.postgres.failures import TITLE
from coherence_grpc.errors import DataRefused, MigrationPending, SettingsInvalid

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from coherence_grpc.adapters.postgres.connecting import Connection

# A migration may wait for another process's, and for readers of a table.
MIGRATE_S: Final = 60.0
_SUFFIX: Final = ".sql"
_FOLDER: Final = "migrations"

# One at a time in a schema: what the first one did, the next ones find done.
_LOCK: Final = "SELECT pg_advisory_xact_lock(hashtextextended('coherence migration ' || %(namespace)s, 0))"
_SCHEMA_IS_THERE: Final = "SELECT to_regnamespace(quote_ident(%(namespace)s)) IS NOT NULL"
_TABLE_IS_THERE: Final = "SELECT to_regclass(quote_ident(%(namespace)s) || '.' || %(table)s) IS NOT NULL"
_VERSIONS: Final = """
CREATE TABLE IF NOT EXISTS schema_version (name TEXT PRIMARY KEY, applied_at TIMESTAMPTZ NOT NULL DEFAULT now())
"""
_APPLIED: Final = "SELECT name FROM schema_version"
_APPLY: Final = "INSERT INTO schema_version (name) VALUES (%(name)s)"
# Every right that roles.sql gives to a running service.
_RIGHTS: Final[Mapping[str, Sequence[str]]] = {
    "coherence_meta": ("SELECT",),
    "coherence_scores": ("SELECT", "INSERT", "UPDATE"),
    "coherence_score_history": ("SELECT", "INSERT", "DELETE"),
    "shard_leases": ("SELECT", "INSERT", "UPDATE"),
    "shard_holders": ("SELECT", "INSERT", "UPDATE", "DELETE"),
}
_LACKING: Final = """
SELECT "right", "table" FROM unnest(%(tables)s::text[], %(rights)s::text[]) AS needed ("table", "right")
WHERE NOT has_table_privilege("table", "right") LIMIT 1
"""


def migrations() -> Mapping[str, str]:
    """The statements of each migration by its name, in their order."""
    folder = files(__package__) / _FOLDER
    found = sorted(file.name for file in folder.iterdir() if file.name.endswith(_SUFFIX))
    return {name.removesuffix(_SUFFIX): (folder / name).read_text("utf-8") for name in found}


async def migrate(uri: str, *, namespace: str = "public") -> Sequence[str]:
    """Applies what is pending, all of it or nothing, and names it; several processes may do so at once.

    Raises:
        SettingsInvalid: the address or the user is wrong, or the user may not make tables.
        DataRefused: a table of that name is there already.
        StoreDown, StoreTimeout: the server can't be reached.
    """
    async with connected(uri, namespace, limit_s=MIGRATE_S) as connection:
        try:
            async with connection.transaction():
                return await _migrate(connection, namespace)
        except DuplicateTable:
            message = (
                f"schema {namespace!r} of the {TITLE} holds tables that no migration made; rename or drop them,"
                " or name another database"
            )
            raise DataRefused(message) from None
        except InsufficientPrivilege:
            message = f"the user of the {TITLE} may not make tables; migrate as the user that owns schema {namespace!r}"
            raise SettingsInvalid(message) from None


async def _migrate(connection: Connection, namespace: str) -> Sequence[str]:
    await connection.execute(_LOCK, {"namespace": namespace})
    if not await _is_there(connection, _SCHEMA_IS_THERE, namespace):
        await connection.execute(SQL("CREATE SCHEMA {}").format(Identifier(namespace)))
    await connection.execute(_VERSIONS)
    names = await _pending(connection, namespace)
    statements = await asyncio.to_thread(migrations)
    for name in names:
        await connection.execute(statements[name].encode())
        await connection.execute(_APPLY, {"name": name})
    return names


async def pending(uri: str, *, namespace: str = "public") -> Sequence[str]:
    """What `migrate` would apply.

    Raises:
        SettingsInvalid, StoreDown, StoreTimeout: as `migrate`.
    """
    async with connected(uri, namespace) as connection:
        return await _pending(connection, namespace)


async def _pending(connection: Connection, namespace: str) -> Sequence[str]:
    known = list(await asyncio.to_thread(migrations))
    if not await _is_there(connection, _TABLE_IS_THERE, namespace):
        return known
    applied = {name for (name,) in await (await connection.execute(_APPLIED)).fetchall()}
    # What a newer release added is no obstacle.
    return [name for name in known if name not in applied]


async def check(connection: Connection, namespace: str) -> None:
    """Returns when a service of this release can run on the schema.

    Raises:
        MigrationPending: it is behind.
        SettingsInvalid: the user lacks a right.
    """
    names = await _pending(connection, namespace)
    if names:
        message = f"schema {namespace!r} of the {TITLE} lacks {', '.join(names)}; run `coherence migrate up`"
        raise MigrationPending(message)
    needed = [(table, right) for table, rights in _RIGHTS.items() for right in rights]
    tables, rights = (list(column) for column in zip(*needed, strict=True))
    lacking = await (await connection.execute(_LACKING, {"tables": tables, "rights": rights})).fetchone()
    if lacking:
        message = f"the user of the {TITLE} lacks {lacking[0]} on {lacking[1]}; apply roles.sql, then start again"
        raise SettingsInvalid(message)


async def _is_there(connection: Connection, query: str, namespace: str) -> bool:
    row = await (await connection.execute(query, {"namespace": namespace, "table": "schema_version"})).fetchone()
    return row is not None and bool(row[0])

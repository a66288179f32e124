"""Opening a file: ours, of a version that this code knows, in the mode that makes a commit durable."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

import apsw

from coherence_grpc.errors import DataRefused, MigrationPending

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from coherence_grpc.adapters.embedded.schema import Schema

PAGE_BYTES: Final = 4096
# The writer's BEGIN runs on the event loop, and nobody but an intruder can make it wait.
BUSY_MS: Final = 100
_WRITER_CACHE_KIB: Final = 32 * 1024
_READER_CACHE_KIB: Final = 8 * 1024
_META: Final = "CREATE TABLE IF NOT EXISTS meta (name TEXT PRIMARY KEY, value INTEGER NOT NULL) STRICT"
_SET: Final = "INSERT INTO meta VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET value = excluded.value"
_SET_ONCE: Final = "INSERT OR IGNORE INTO meta VALUES (?, ?)"
_GET: Final = "SELECT value FROM meta WHERE name = ?"
_TABLES: Final = "SELECT count(*) FROM sqlite_schema"


def open_writer(path: Path, schema: Schema, *, max_bytes: int | None = None) -> apsw.Connection:
    """The connection that writes, on a file that was made or migrated as need be.

    Raises:
        DataRefused: the file is damaged, not ours or can't be written.
        MigrationPending: a newer version wrote it.
    """
    with refusing(path, schema):
        connection = apsw.Connection(str(path))
        try:
            _prepare_writer(connection, path, schema, max_bytes)
        except BaseException:
            connection.close(force=True)
            raise
    return connection


@contextmanager
def refusing(path: Path, schema: Schema) -> Iterator[None]:
    """Turns what the driver says of the file into a refusal to serve it."""
    try:
        yield
    except (apsw.NotADBError, apsw.CorruptError, apsw.SQLError, apsw.FormatError) as error:
        message = f"{path} is damaged or not a {schema.title}; {schema.remedy}"
        raise DataRefused(message) from error
    except apsw.Error as error:
        message = (
            f"{path} can't be opened for writing; check who owns it, that no other program has it open,"
            " and the room on its disk"
        )
        raise DataRefused(message) from error


def open_reader(path: Path) -> apsw.Connection:
    """A connection that reads the file of an open writer."""
    connection = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READWRITE)
    connection.set_busy_timeout(BUSY_MS)
    connection.pragma("query_only", value=True)
    connection.pragma("cache_size", -_READER_CACHE_KIB)
    connection.pragma("temp_store", "memory")
    return connection


def note(connection: apsw.Connection, name: str, value: int) -> None:
    """Sets a value of the file's own description unless it has one."""
    connection.execute(_SET_ONCE, (name, value))


def epoch_of(connection: apsw.Connection) -> int:
    """The file's epoch."""
    epoch: int = connection.execute(_GET, ("epoch",)).get
    return epoch


def set_epoch(connection: apsw.Connection, epoch: int) -> None:
    """Gives the file another epoch."""
    connection.execute(_SET, ("epoch", epoch))


def _prepare_writer(connection: apsw.Connection, path: Path, schema: Schema, max_bytes: int | None) -> None:
    connection.set_busy_timeout(BUSY_MS)
    version = _version(connection, path, schema)
    if version > schema.version:
        message = (
            f"{path} has version {version} and this release knows {schema.version};"
            " run the release that wrote it, or a newer one"
        )
        raise MigrationPending(message)
    if connection.pragma("journal_mode", "wal") != "wal":
        message = f"{path} can't have a write-ahead log there; choose a data directory on a local disk"
        raise DataRefused(message)
    connection.pragma("synchronous", "full")
    connection.pragma("wal_autocheckpoint", 0)
    connection.pragma("cache_size", -_WRITER_CACHE_KIB)
    connection.pragma("temp_store", "memory")
    # What is erased is overwritten.
    connection.pragma("secure_delete", value=True)
    if max_bytes is not None:
        connection.pragma("max_page_count", max(max_bytes // PAGE_BYTES, 1))
    for step in range(version, schema.version):
        _migrate(connection, schema, step)


def _version(connection: apsw.Connection, path: Path, schema: Schema) -> int:
    application = connection.pragma("application_id")
    if application == schema.application_id:
        version: int = connection.execute(_GET, ("schema",)).get
        return version
    if application or connection.execute(_TABLES).get:
        message = f"{path} is not a {schema.title}; move it away, or choose another data directory"
        raise DataRefused(message)
    return 0


def _migrate(connection: apsw.Connection, schema: Schema, step: int) -> None:
    connection.execute("BEGIN IMMEDIATE")
    connection.pragma("application_id", schema.application_id)
    connection.execute(_META)
    connection.execute(schema.migrations[step])
    connection.execute(_SET, ("schema", step + 1))
    note(connection, "epoch", 1)
    connection.execute("COMMIT")

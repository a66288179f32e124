"""One SQLite file: a connection that writes, and a few that read in threads of their own."""

from __future__ import annotations

import asyncio
import logging
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Final, TypeVar

import apsw

from coherence_grpc.adapters.embedded.failures import refusal_of_commit, translated
from coherence_grpc.adapters.embedded.opening import open_reader, open_writer
from coherence_grpc.errors import StorageFull, StoreDown
from coherence_grpc.owning import Owner

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from coherence_grpc.adapters.embedded.schema import Schema

READERS: Final = 3
# A checkpoint that only takes what no reader holds starves under load (the log grew to 244 MB); one that truncates
# takes some 25 ms between two commits.
WAL_BYTES: Final = 64 * 2**20
WAL_STEP_BYTES: Final = 16 * 2**20

_log = logging.getLogger(__name__)
T = TypeVar("T")


class Database:
    """Each read sees one snapshot and never waits for the writer; one transaction writes at a time.

    COMMIT always runs in the writer's thread: it waits for the disk.
    """

    def __init__(self, path: Path, schema: Schema, *, max_bytes: int | None = None) -> None:
        self.title = schema.title
        self.writer = open_writer(path, schema, max_bytes=max_bytes)
        self._cursor = self.writer.cursor()
        self._readers = tuple(open_reader(path) for _ in range(READERS))
        self._idle = list(self._readers)
        self._at_work: dict[object, apsw.Connection] = {}
        self._interrupting = threading.Lock()
        self._near = open_reader(path)
        self._lock = asyncio.Lock()
        self.owner = Owner()
        self._writing = ThreadPoolExecutor(1, thread_name_prefix=f"{path.stem}-writer")
        self._reading = ThreadPoolExecutor(READERS, thread_name_prefix=f"{path.stem}-reader")
        self._wal = path.with_name(path.name + "-wal")
        self._wal_limit = WAL_BYTES
        self._closed = False

    async def close(self) -> None:
        """Waits for what was begun, a commit above all, and lets go of the file."""
        self._closed = True
        await self.owner.settle()
        for reader in self._readers:
            reader.interrupt()
        await asyncio.to_thread(self._reading.shutdown)
        await asyncio.to_thread(self._writing.shutdown)
        for connection in (*self._readers, self._near, self.writer):
            connection.close(force=True)

    def check_open(self) -> None:
        """Raises StoreDown once the file is being let go of."""
        if self._closed:
            message = f"the {self.title} is closed because the server is shutting down; nothing was stored"
            raise StoreDown(message)

    async def read(self, query: Callable[..., T], *arguments: object) -> T:
        """What the query finds, in one snapshot, in a reader's thread; a caller that is cancelled ends the query."""
        self.check_open()
        ticket = object()
        loop = asyncio.get_running_loop()
        try:
            return await loop.run_in_executor(self._reading, self._read, ticket, query, arguments)
        except asyncio.CancelledError:
            self._interrupt(ticket)
            raise

    def _read(self, ticket: object, query: Callable[..., T], arguments: tuple[object, ...]) -> T:
        # There are as many connections as threads, so one is left.
        connection = self._idle.pop()
        self._at_work[ticket] = connection
        try:
            return self._snapshot(connection, query, arguments)
        finally:
            with self._interrupting:
                del self._at_work[ticket]
            self._idle.append(connection)

    def _interrupt(self, ticket: object) -> None:
        # The lock keeps the connection from being at another's work by then.
        with self._interrupting:
            connection = self._at_work.get(ticket)
            if connection is not None:
                connection.interrupt()

    def read_here(self, query: Callable[..., T], *arguments: object) -> T:
        """The same on the event loop, which waits: for a few rows by key only."""
        self.check_open()
        return self._snapshot(self._near, query, arguments)

    def _snapshot(self, connection: apsw.Connection, query: Callable[..., T], arguments: tuple[object, ...]) -> T:
        with translated(self.title, connection):
            if connection.in_transaction:
                # An interrupt that came late ended the ROLLBACK instead of the query.
                connection.execute("ROLLBACK")
            connection.execute("BEGIN")
            try:
                return query(connection, *arguments)
            finally:
                if connection.in_transaction:
                    connection.execute("ROLLBACK")

    async def transact(
        self, work: Callable[[apsw.Cursor], T], committed: Callable[[T], None], *, on_loop: bool = False
    ) -> T:
        """What the work returns, once it is committed and `committed` was told; when it raises nothing is kept.

        The work runs in the writer's thread, or on the loop: then each of its statements spares two changes of
        thread, and the loop waits for all of them.
        """
        async with self._lock:
            try:
                result, changed = self._apply(work) if on_loop else await self._in_writer(self._apply, work)
                if changed:
                    await self._in_writer(self._commit)
            except StorageFull:
                # The log may hold the room that the next write needs.
                await self._checkpoint()
                raise
            committed(result)
        self._watch_the_log()
        return result

    async def _in_writer(self, work: Callable[..., T], *arguments: object) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._writing, work, *arguments)

    def _apply(self, work: Callable[[apsw.Cursor], T]) -> tuple[T, bool]:
        with translated(self.title, self.writer):
            self._cursor.execute("BEGIN IMMEDIATE")
            before = self.writer.total_changes()
            try:
                result = work(self._cursor)
            except BaseException:
                self._undo()
                raise
            changed = self.writer.total_changes() > before
            if not changed:
                self._undo()
        return result, changed

    def _commit(self) -> None:
        try:
            self._cursor.execute("COMMIT")
        except apsw.Error as error:
            errno = self.writer.system_errno
            _log.exception("a commit of the %s failed", self.title)
            self._undo()
            refusal = refusal_of_commit(error, self.title, errno)
            if refusal is None:
                raise
            raise refusal from error

    def _undo(self) -> None:
        # After some errors SQLite has rolled back already.
        if self.writer.in_transaction:
            self._cursor.execute("ROLLBACK")

    def _watch_the_log(self) -> None:
        if self._wal_bytes() > self._wal_limit:
            self.owner.spawn(self._shorten_the_log())

    def _wal_bytes(self) -> int:
        try:
            return self._wal.stat().st_size
        except FileNotFoundError:
            return 0

    async def _shorten_the_log(self) -> None:
        async with self._lock:
            await self._checkpoint()
        size = self._wal_bytes()
        self._wal_limit = WAL_BYTES if size <= WAL_BYTES else size + WAL_STEP_BYTES

    async def _checkpoint(self) -> None:
        try:
            await self._in_writer(self.writer.wal_checkpoint, None, apsw.SQLITE_CHECKPOINT_TRUNCATE)
        except apsw.Error as error:
            # A reader in the way, or a full disk: what was committed stands, and the next commit tries again.
            _log.info("the log of the %s could not be shortened: %s", self.title, type(error).__name__)

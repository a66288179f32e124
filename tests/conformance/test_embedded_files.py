"""Opening the two files: whose they are, which version they have, and what else may hold them."""

from __future__ import annotations

import asyncio
import os
import threading
from contextlib import closing
from typing import TYPE_CHECKING

import apsw
import pytest

from coherence_grpc.adapters.embedded import open_score_store, open_signal_store
from coherence_grpc.adapters.embedded.database import READERS, Database
from coherence_grpc.adapters.embedded.opening import open_writer
from coherence_grpc.adapters.embedded.schema import SIGNALS
from coherence_grpc.errors import DataRefused, MigrationPending, StoreDown, StoreTimeout
from coherence_grpc.model import EntryKind, OnConflict
from coherence_grpc.policy import DEFAULT, encode_policy
from tests.builders import NOON, TENANT, ManualClock, a_provenance, a_score, a_write, an_item
from tests.conformance.asking import append, append_items, stored, verdict
from tests.serving import until

if TYPE_CHECKING:
    from contextlib import AbstractAsyncContextManager
    from pathlib import Path

pytestmark = pytest.mark.anyio


def opening(directory: Path, name: str) -> AbstractAsyncContextManager[object]:
    if name == "signals.db":
        return open_signal_store(directory, ManualClock())
    return open_score_store(directory)


async def made(directory: Path, name: str) -> Path:
    """A file that was used once."""
    async with opening(directory, name):
        pass
    return directory / name


def execute(path: Path, statements: str) -> None:
    with closing(apsw.Connection(str(path))) as connection:
        connection.execute(statements)


both = pytest.mark.parametrize("name", ["signals.db", "scores.db"])


@both
async def test_a_file_that_is_no_database_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"not a database, whatever its name says" * 100)

    with pytest.raises(DataRefused, match=name):
        async with opening(tmp_path, name):
            pass


@both
async def test_a_foreign_database_is_refused_and_left_alone(tmp_path: Path, name: str) -> None:
    execute(tmp_path / name, "CREATE TABLE mine (a); INSERT INTO mine VALUES (1)")
    before = (tmp_path / name).read_bytes()

    with pytest.raises(DataRefused, match=name):
        async with opening(tmp_path, name):
            pass

    assert (tmp_path / name).read_bytes() == before


async def test_the_other_stores_file_is_foreign(tmp_path: Path) -> None:
    (await made(tmp_path, "scores.db")).rename(tmp_path / "signals.db")

    with pytest.raises(DataRefused, match="not a signal store"):
        async with opening(tmp_path, "signals.db"):
            pass


@both
async def test_a_truncated_file_is_refused(tmp_path: Path, name: str) -> None:
    path = await made(tmp_path, name)
    os.truncate(path, 8192)

    with pytest.raises(DataRefused, match="damaged"):
        async with opening(tmp_path, name):
            pass


@both
async def test_a_newer_files_migration_is_pending(tmp_path: Path, name: str) -> None:
    path = await made(tmp_path, name)
    execute(path, "UPDATE meta SET value = 99 WHERE name = 'schema'")

    with pytest.raises(MigrationPending, match="99"):
        async with opening(tmp_path, name):
            pass


async def test_a_log_of_the_first_version_goes_on_with_replacements_and_policies(tmp_path: Path) -> None:
    item = an_item(signal_id="one", value=0.2)
    async with open_signal_store(tmp_path, ManualClock()) as signals:
        await append_items(signals, item)
    # What a file of the first version lacks.
    execute(
        tmp_path / "signals.db",
        "DROP TABLE supersessions; DROP TABLE policies; UPDATE meta SET value = 1 WHERE name = 'schema'",
    )

    async with open_signal_store(tmp_path, ManualClock()) as signals:
        new = an_item(signal_id="one", value=0.9)
        (replaced,) = await append(signals, a_write(new, on_conflict=OnConflict.REPLACE))
        await signals.append_own(TENANT, EntryKind.POLICY, encode_policy(DEFAULT), a_provenance(), now=NOON)

        assert dict(replaced.superseded) == {0: item}
        assert (await signals.policy(TENANT)).seq == 3
        assert (await verdict(signals)).checked == 3


async def test_an_older_file_is_migrated_and_keeps_its_rows(tmp_path: Path) -> None:
    item = an_item()
    async with open_signal_store(tmp_path, ManualClock()) as signals:
        await append_items(signals, item)
    newer = SIGNALS._replace(migrations=(*SIGNALS.migrations, "CREATE TABLE IF NOT EXISTS extra (a)"))

    for _ in range(2):
        with closing(open_writer(tmp_path / "signals.db", newer)) as connection:
            assert connection.execute("SELECT value FROM meta WHERE name = 'schema'").get == newer.version
            assert connection.table_exists("main", "extra")
            assert connection.execute("SELECT count(*) FROM entries").get == 1


async def test_a_migration_that_was_cut_short_is_done_again(tmp_path: Path) -> None:
    path = await made(tmp_path, "signals.db")
    execute(path, "UPDATE meta SET value = 0 WHERE name = 'schema'")

    async with open_signal_store(tmp_path, ManualClock()) as signals:
        await append_items(signals, an_item())

        assert (await verdict(signals)).checked == 1


async def test_an_empty_file_is_a_new_store(tmp_path: Path) -> None:
    (tmp_path / "signals.db").touch()

    async with open_signal_store(tmp_path, ManualClock()) as signals:
        assert await signals.tenants() == []


async def test_a_directory_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataRefused, match="can't be opened"):
        async with opening(tmp_path / "nowhere", "signals.db"):
            pass


async def test_a_damaged_page_takes_the_readings_that_need_it(tmp_path: Path) -> None:
    async with open_signal_store(tmp_path, ManualClock()) as signals:
        for _ in range(20):
            await append(signals, a_write(*[an_item() for _ in range(500)]))
    path = tmp_path / "signals.db"
    with path.open("r+b") as file:
        file.seek(path.stat().st_size // 3)
        file.write(b"\xff" * (path.stat().st_size // 3))

    async with open_signal_store(tmp_path, ManualClock()) as signals:
        with pytest.raises(StoreDown):
            await stored(signals)


async def test_an_intruder_that_holds_the_file_makes_writes_time_out(tmp_path: Path) -> None:
    async with open_signal_store(tmp_path, ManualClock()) as signals:
        await append_items(signals, an_item())
        with closing(apsw.Connection(str(tmp_path / "signals.db"))) as intruder:
            intruder.execute("BEGIN IMMEDIATE")
            with pytest.raises(StoreTimeout):
                await append_items(signals, an_item())
            read = await stored(signals)
            intruder.execute("ROLLBACK")

        await append_items(signals, an_item())

        assert len(read) == 1
        assert (await verdict(signals)).checked == 2


async def test_the_write_ahead_log_is_shortened_when_it_grows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("coherence_grpc.adapters.embedded.database.WAL_BYTES", 2**20)
    wal = tmp_path / "signals.db-wal"
    async with open_signal_store(tmp_path, ManualClock()) as signals:
        sizes = []
        for _ in range(40):
            await append(signals, a_write(*[an_item() for _ in range(500)]))
            sizes.append(wal.stat().st_size)

        assert max(sizes) < 3 * 2**20
        assert min(sizes[10:]) < 2**20
        assert (await verdict(signals)).checked == 20_000


async def test_a_reader_does_not_stop_the_log_from_being_shortened_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("coherence_grpc.adapters.embedded.database.WAL_BYTES", 2**20)
    monkeypatch.setattr("coherence_grpc.adapters.embedded.database.WAL_STEP_BYTES", 2**18)
    wal = tmp_path / "signals.db-wal"
    async with open_signal_store(tmp_path, ManualClock()) as signals:
        await append_items(signals, an_item())
        with closing(apsw.Connection(str(tmp_path / "signals.db"))) as reader:
            reader.execute("BEGIN")
            reader.execute("SELECT count(*) FROM heads").get  # noqa: B018 - begins the snapshot
            for _ in range(10):
                await append(signals, a_write(*[an_item() for _ in range(500)]))
            grown = wal.stat().st_size

        for _ in range(10):
            await append(signals, a_write(*[an_item() for _ in range(500)]))

        assert grown > 2**20
        assert wal.stat().st_size < grown


async def test_a_published_score_is_written_without_a_commit_to_go_with(tmp_path: Path) -> None:
    async with open_signal_store(tmp_path, ManualClock()) as signals:
        await append_items(signals, an_item())
        with closing(apsw.Connection(str(tmp_path / "signals.db"))) as reader:
            signals.note_published(a_score(score_epoch=1, version=4))

            await until(lambda: reader.execute("SELECT score_version FROM heads").get == 4, within_s=5)


async def test_a_reading_ends_with_its_caller(tmp_path: Path) -> None:
    def endless(connection: apsw.Connection) -> None:
        started.set()
        connection.execute("WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT count(*) FROM n")

    database = Database(tmp_path / "signals.db", SIGNALS)
    for _ in range(2 * READERS):
        started = threading.Event()
        call = asyncio.ensure_future(database.read(endless))
        await until(started.is_set)
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call

    assert await database.read(lambda connection: connection.execute("SELECT 1").get) == 1
    await database.close()

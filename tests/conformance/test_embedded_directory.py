"""A data directory: its lock, its keys, and whether its two files tell one story."""

from __future__ import annotations

import shutil
import stat
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING

import pytest

from coherence_grpc.adapters.embedded import (
    load_signer,
    lock_directory,
    open_score_store,
    open_signal_store,
    rebuild_scores,
)
from coherence_grpc.errors import CursorForeign, DataRefused
from coherence_grpc.materialize import check_stores
from coherence_grpc.tokens import Cursor
from tests.builders import TENANT, ManualClock, a_score, an_item
from tests.conformance.asking import append_items, verdict

if TYPE_CHECKING:
    from pathlib import Path

    from coherence_grpc.model import Head
    from coherence_grpc.ports import ScoreStore, SignalStore

pytestmark = pytest.mark.anyio
CURSOR = Cursor(1, 2, b"12345678", 3, 4)


def test_a_directory_is_held_by_one(tmp_path: Path) -> None:
    with lock_directory(tmp_path / "made" / "data"):
        with pytest.raises(DataRefused, match="made/data is in use"), lock_directory(tmp_path / "made" / "data"):
            pass
        with lock_directory(tmp_path / "other"):
            pass

    with lock_directory(tmp_path / "made" / "data"):
        pass


def test_a_directory_that_can_not_be_made_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()

    with pytest.raises(DataRefused, match="file/data"), lock_directory(tmp_path / "file" / "data"):
        pass


def test_the_signing_key_is_made_once_for_its_owner_only(tmp_path: Path) -> None:
    token = load_signer(tmp_path).cursor(TENANT, CURSOR)

    again = load_signer(tmp_path)

    assert again.read_cursor(TENANT, token) == CURSOR
    assert stat.S_IMODE((tmp_path / "cursor.key").stat().st_mode) == 0o600


def test_a_new_key_on_top_signs_and_the_old_one_is_still_accepted(tmp_path: Path) -> None:
    old = load_signer(tmp_path).cursor(TENANT, CURSOR)
    path = tmp_path / "cursor.key"
    kept = path.read_text()
    path.write_text(f"2 {'ab' * 32}\n{kept}")
    both = load_signer(tmp_path)
    new = both.cursor(TENANT, CURSOR)
    path.write_text(kept)

    assert both.read_cursor(TENANT, old) == both.read_cursor(TENANT, new) == CURSOR
    with pytest.raises(CursorForeign):
        load_signer(tmp_path).read_cursor(TENANT, new)


@pytest.mark.parametrize("content", ["", "nonsense", "1 xyz", "1 abcd", f"999 {'ab' * 32}", f"1 {'ab' * 32} more"])
def test_a_damaged_key_file_is_refused(tmp_path: Path, content: str) -> None:
    (tmp_path / "cursor.key").write_text(content)

    with pytest.raises(DataRefused, match=r"cursor\.key"):
        load_signer(tmp_path)


async def publish(signals: SignalStore, scores: ScoreStore, version: int) -> None:
    """Publishes the score of the log as it stands, as the materialiser does."""
    head = await signals.head(TENANT)
    row = a_score(version=version, as_of_seq=head.seq, head_hash=head.head_hash, score_epoch=scores.epoch)
    await scores.publish([row])
    signals.note_published(a_score(score_epoch=scores.epoch, version=version))


async def serve(directory: Path, versions: range = range(0)) -> tuple[Head, int]:
    """Checks the stores as a server does at its start, then publishes; the head and the score epoch."""
    async with AsyncExitStack() as stack:
        signals = await stack.enter_async_context(open_signal_store(directory, ManualClock()))
        scores = await stack.enter_async_context(open_score_store(directory))
        await check_stores(signals, scores)
        for version in versions:
            await append_items(signals, an_item())
            await publish(signals, scores, version)
        return await signals.head(TENANT), scores.epoch


def copy(directory: Path, name: str, to: str) -> None:
    for suffix in ("", "-wal", "-shm"):
        (directory / f"{to}{suffix}").unlink(missing_ok=True)
    shutil.copy(directory / name, directory / to)


async def test_stores_that_tell_one_story_are_served(tmp_path: Path) -> None:
    await serve(tmp_path, range(1, 4))

    head, _ = await serve(tmp_path)

    assert head.seq == 3


async def test_a_log_ahead_of_the_scores_is_served(tmp_path: Path) -> None:
    await serve(tmp_path, range(1, 4))
    async with open_signal_store(tmp_path, ManualClock()) as signals:
        await append_items(signals, an_item())

    head, _ = await serve(tmp_path)

    assert head.seq == 4


async def test_a_log_behind_the_scores_is_refused_until_they_are_rebuilt(tmp_path: Path) -> None:
    await serve(tmp_path, range(1, 3))
    copy(tmp_path, "signals.db", "old.db")
    await serve(tmp_path, range(3, 5))
    copy(tmp_path, "old.db", "signals.db")

    with pytest.raises(DataRefused, match="coherence rebuild-scores --data"):
        await serve(tmp_path)

    epochs = rebuild_scores(tmp_path)
    head, score_epoch = await serve(tmp_path, range(1, 2))
    assert epochs == (2, 2)
    assert (head.epoch, head.seq, score_epoch) == (2, 3, 2)


async def test_another_log_of_the_same_length_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    await serve(tmp_path / "a", range(1, 3))
    (tmp_path / "b").mkdir()
    await serve(tmp_path / "b", range(1, 3))
    shutil.copy(tmp_path / "b" / "signals.db", tmp_path / "a" / "signals.db")

    with pytest.raises(DataRefused, match="coherence rebuild-scores --data"):
        await serve(tmp_path / "a")


async def test_scores_behind_the_log_are_refused_until_they_are_rebuilt(tmp_path: Path) -> None:
    await serve(tmp_path, range(1, 3))
    copy(tmp_path, "scores.db", "old.db")
    await serve(tmp_path, range(3, 5))
    copy(tmp_path, "old.db", "scores.db")

    with pytest.raises(DataRefused, match="coherence rebuild-scores --data"):
        await serve(tmp_path)

    rebuild_scores(tmp_path)
    await serve(tmp_path, range(1, 2))


async def test_scores_that_are_gone_are_refused_until_they_are_rebuilt(tmp_path: Path) -> None:
    await serve(tmp_path, range(1, 3))
    (tmp_path / "scores.db").unlink()

    with pytest.raises(DataRefused, match="coherence rebuild-scores --data"):
        await serve(tmp_path)

    assert rebuild_scores(tmp_path) == (2, 2)
    await serve(tmp_path)


async def test_damaged_scores_are_replaced_when_they_are_rebuilt(tmp_path: Path) -> None:
    await serve(tmp_path, range(1, 3))
    (tmp_path / "scores.db").write_bytes(b"damaged" * 1000)
    with pytest.raises(DataRefused, match="coherence rebuild-scores --data"):
        await serve(tmp_path)

    assert rebuild_scores(tmp_path) == (2, 2)
    await serve(tmp_path, range(1, 2))


async def test_the_chain_verifies_over_a_change_of_epoch(tmp_path: Path) -> None:
    await serve(tmp_path, range(1, 3))
    rebuild_scores(tmp_path)
    await serve(tmp_path, range(1, 3))

    async with open_signal_store(tmp_path, ManualClock()) as signals:
        _, rows = await signals.ledger(TENANT, first=1, limit=10)
        assert [row.epoch for row in rows] == [1, 1, 2, 2]
        assert (await verdict(signals)).checked == 4


def test_scores_are_not_rebuilt_under_a_server(tmp_path: Path) -> None:
    with lock_directory(tmp_path), pytest.raises(DataRefused, match="in use"):
        rebuild_scores(tmp_path)


def test_scores_are_not_rebuilt_where_there_is_no_log(tmp_path: Path) -> None:
    with pytest.raises(DataRefused, match=r"holds no signals\.db"):
        rebuild_scores(tmp_path)

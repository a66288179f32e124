"""A full disk: nothing is half stored, reading goes on, and writing too once there is room."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest

from coherence_grpc.adapters.embedded import open_score_store, open_signal_store
from coherence_grpc.errors import StorageFull
from coherence_grpc.model import DAY, Retention, Tags
from tests.builders import NOON, TENANT, ManualClock, a_provenance, a_score, a_write, an_item
from tests.conformance.asking import append, append_items, entries, verdict

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from coherence_grpc.ports import SignalStore

pytestmark = pytest.mark.anyio
MIB = 2**20
OLD = NOON - 40 * DAY


@dataclass
class SmallDisk:
    """A disk that a filler keeps fuller than need be."""

    directory: Path

    @property
    def filler(self) -> Path:
        return self.directory / "filler"

    def fill(self) -> None:
        """Takes every byte that is left."""
        with self.filler.open("ab", buffering=0) as file:
            try:
                while True:
                    file.write(bytes(4096))
            except OSError:
                return

    def free(self) -> None:
        self.filler.unlink()


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[SmallDisk]:
    directory = tmp_path / "disk"
    directory.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=6m", "coherence-test", str(directory)]
    done = subprocess.run(mount, capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"mounting a small disk is not permitted here: {done.stderr.strip()}")
    try:
        yield SmallDisk(directory)
    finally:
        subprocess.run(["umount", "--lazy", str(directory)], check=True)


async def fill(signals: SignalStore) -> int:
    """Appends until there is no room; how many entries went in."""
    tags = Tags(retention=Retention.SHORT)
    while True:
        try:
            await append(signals, a_write(*[an_item(ts=OLD) for _ in range(200)], tags=tags))
        except StorageFull:
            return (await signals.head(TENANT)).seq


async def check_whole(signals: SignalStore, count: int) -> None:
    """Nothing is half stored, and everything reads."""
    checked = await verdict(signals)
    assert (checked.checked, checked.head_hash) == (count, (await signals.head(TENANT)).head_hash)
    assert len((await signals.window(TENANT, start=0)).ts) == len(await entries(signals)) == count


async def test_a_store_at_its_limit_refuses_and_stays_whole_and_readable(tmp_path: Path) -> None:
    async with open_signal_store(tmp_path, ManualClock(), max_bytes=MIB) as signals:
        count = await fill(signals)

        await check_whole(signals, count)
        with pytest.raises(StorageFull):
            await append(signals, a_write(*[an_item() for _ in range(200)], tenant_id="b"))
        assert await signals.tenants() == [TENANT]

    assert count > 0


async def test_a_store_at_its_limit_takes_writes_again_when_the_limit_is_raised(tmp_path: Path) -> None:
    async with open_signal_store(tmp_path, ManualClock(), max_bytes=MIB) as signals:
        count = await fill(signals)

    async with open_signal_store(tmp_path, ManualClock(), max_bytes=2 * MIB) as signals:
        await check_whole(signals, count)
        appended = await append_items(signals, *[an_item() for _ in range(200)])

        assert appended.first_seq == count + 1
        await check_whole(signals, count + 200)


async def test_a_store_at_its_limit_takes_writes_again_after_a_pruning(tmp_path: Path) -> None:
    async with open_signal_store(tmp_path, ManualClock(), max_bytes=MIB) as signals:
        count = await fill(signals)
        pruned = await signals.prune(TENANT, now=NOON, provenance=a_provenance(), limit=1000, dry_run=False)

        appended = await append_items(signals, *[an_item() for _ in range(200)])

        assert pruned.erased == 1000
        assert appended.first_seq == count + 2


async def test_a_full_disk_refuses_and_the_store_stays_whole_and_readable(small_disk: SmallDisk) -> None:
    async with open_signal_store(small_disk.directory, ManualClock()) as signals:
        count = await fill(signals)

        small_disk.fill()
        for _ in range(3):
            with pytest.raises(StorageFull):
                await append(signals, a_write(*[an_item() for _ in range(500)]))
        await check_whole(signals, count)

    assert count > 0


async def test_a_full_disk_takes_writes_again_once_there_is_room(small_disk: SmallDisk) -> None:
    async with open_signal_store(small_disk.directory, ManualClock()) as signals:
        await append_items(signals, *[an_item() for _ in range(200)])
        small_disk.fill()
        await fill(signals)
        small_disk.free()

        first = (await signals.head(TENANT)).seq + 1
        appended = await append_items(signals, *[an_item() for _ in range(200)])

        assert appended.first_seq == first
        await check_whole(signals, appended.head.seq)

    async with open_signal_store(small_disk.directory, ManualClock()) as signals:
        await check_whole(signals, appended.head.seq)


async def test_a_published_score_is_noted_later_when_the_disk_was_full(small_disk: SmallDisk) -> None:
    async with open_signal_store(small_disk.directory, ManualClock()) as signals:
        await append_items(signals, *[an_item() for _ in range(200)])
        small_disk.fill()
        await fill(signals)
        signals.note_published(a_score(score_epoch=1, version=3))
        small_disk.free()

    async with open_signal_store(small_disk.directory, ManualClock()) as signals:
        assert await signals.published() == {TENANT: (1, 3)}


async def test_a_full_disk_refuses_scores_and_keeps_the_row_in_place(small_disk: SmallDisk) -> None:
    async with open_score_store(small_disk.directory) as scores:
        await scores.publish([a_score()])
        small_disk.fill()
        with pytest.raises(StorageFull):
            await scores.publish([a_score(tenant_id=f"t-{n}", version=1) for n in range(1000)])
        kept = await scores.get([TENANT])
        small_disk.free()

        won = await scores.publish([a_score(version=2)])

        assert kept[TENANT].version == 1
        assert list(won) == [True]

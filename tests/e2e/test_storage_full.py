"""A full disk refuses writes, keeps what was acknowledged, still reads, and is no reason to restart."""

from __future__ import annotations

import os
import subprocess
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

import grpc.aio
import pytest

from coherence.v1.score_pb2 import ListScoresRequest
from coherence_grpc.client import Client, Refusal, connect, refusal_of
from tests.e2e.reading import Named, all_signals, assert_log_is_whole, assert_score_is_exact, clock_us, named
from tests.e2e.rows import a_row, batch_of, publish_of
from tests.e2e.ways import Answer, Way, all_ways
from tests.serving import eventually, serving

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = [pytest.mark.anyio, pytest.mark.slow]

MIB: Final = 1 << 20
DISK_BYTES: Final = 12 * MIB
BALLAST_BYTES: Final = 4 * MIB
BATCH: Final = 200
FULL: Final = ["RESOURCE_EXHAUSTED", "RESOURCE_EXHAUSTED", "507", "RATE_LIMITED", "RATE_LIMITED"]
# More than any of the limits here can hold.
MOST_BATCHES: Final = 1000


async def test_beyond_its_page_limit_the_store_refuses_and_keeps_what_it_has(tmp_path: Path, tenant: str) -> None:
    async with serving(tmp_path, "--max-store-bytes", str(2 * MIB)) as served, connect(served.grpc) as client:
        acked = await _published_until_refused(client, tenant)
        await _assert_all_there(client, tenant, acked)

        async with all_ways(served) as ways:
            refusals = [await _refused_by(way, tenant) for way in ways]

        assert [(refusal.code, refusal.reason) for refusal in refusals] == [(code, "STORAGE_FULL") for code in FULL]
        head = await assert_log_is_whole(client, tenant)
        assert not served.tracebacks

    async with (
        serving(tmp_path, "--max-store-bytes", str(8 * MIB), http=False) as served,
        connect(served.grpc) as client,
    ):
        await client.ingest.PublishSignal(publish_of(a_row(tenant)))
        assert await assert_log_is_whole(client, tenant) == head + 1


async def test_a_full_disk_refuses_writes_until_there_is_room_again(tmp_path: Path, tenant: str) -> None:
    with _small_disk(tmp_path / "disk") as disk:
        async with serving(disk / "data", http=False) as served, connect(served.grpc) as client:
            ballast = disk / "ballast"
            ballast.write_bytes(os.urandom(BALLAST_BYTES))
            acked = await _published_until_refused(client, tenant)
            await _assert_all_there(client, tenant, acked)

            ballast.unlink()

            await client.ingest.PublishSignal(publish_of(a_row(tenant)))
            assert await assert_log_is_whole(client, tenant) == len(acked) + 1
            await eventually(lambda: _published_up_to(client), lambda seq: seq == len(acked) + 1)
            assert not served.tracebacks


async def test_what_a_full_disk_acknowledged_is_there_after_a_kill(tmp_path: Path, tenant: str) -> None:
    with _small_disk(tmp_path / "disk") as disk:
        async with serving(disk / "data", http=False) as served, connect(served.grpc) as client:
            acked = await _published_until_refused(client, tenant)
            await served.kill()

        _enlarge(disk)
        async with serving(disk / "data", http=False) as served, connect(served.grpc) as client:
            await _assert_all_there(client, tenant, acked)


@contextmanager
def _small_disk(path: Path) -> Iterator[Path]:
    path.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={DISK_BYTES}", "coherence-test", str(path)]
    done = subprocess.run(mount, capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"mounting a small disk is not permitted here: {done.stderr.strip()}")
    try:
        yield path
    finally:
        subprocess.run(["umount", "--lazy", str(path)], check=True)


def _enlarge(disk: Path) -> None:
    subprocess.run(["mount", "-o", f"remount,size={2 * DISK_BYTES}", str(disk)], check=True)


async def _published_until_refused(client: Client, tenant: str) -> dict[Named, int]:
    """What was acknowledged before the store had no room left for another batch, and then for another signal."""
    acked: dict[Named, int] = {}
    now = await clock_us(client)
    for size in (BATCH, 1):
        for _ in range(MOST_BATCHES):
            rows = [a_row(tenant, ts=now, source="x" * 100) for _ in range(size)]
            try:
                reply = await client.ingest.PublishSignals(batch_of(rows, tenant))
            except grpc.aio.AioRpcError as error:
                _assert_full(refusal_of(error))
                break
            for row, result in zip(rows, reply.results, strict=True):
                acked[Named(row["source"], row["signal_id"], now)] = result.seq
        else:
            pytest.fail("the store never became full")
    return acked


async def _refused_by(way: Way, tenant: str) -> Answer:
    """What the way says once no room is left in the page where its signal would go."""
    for _ in range(MOST_BATCHES):
        answer = await way.publish(a_row(tenant, source="x" * 128))
        if answer.code:
            return answer
    pytest.fail("the store never became full")


async def _published_up_to(client: Client) -> int:
    """How far the only published score covers the log."""
    listed = (await client.score.ListScores(ListScoresRequest())).scores
    return listed[0].as_of_seq if listed else 0


def _assert_full(refusal: Refusal) -> None:
    assert (refusal.code, refusal.reason) == ("RESOURCE_EXHAUSTED", "STORAGE_FULL")
    assert "stored" in refusal.message


async def _assert_all_there(client: Client, tenant: str, acked: dict[Named, int]) -> None:
    """Exactly what was acknowledged is there: nothing of the refused batch, and the score counts it."""
    assert {named(s): s.seq for s in await all_signals(client, tenant)} == acked
    await assert_log_is_whole(client, tenant)
    await assert_score_is_exact(client, tenant)

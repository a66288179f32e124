"""Following tenants: what is shown, and over which losses."""

from __future__ import annotations

import asyncio
import json
import signal
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import pytest

from coherence_grpc.client import connect
from tests.e2e.commanding import records, run
from tests.e2e.rows import a_row, publish_of
from tests.serving import COMMAND, Served, serving

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

pytestmark = pytest.mark.anyio


class Watching:
    """A running `coherence watch --json`."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    async def next(self) -> Any:  # noqa: ANN401 - JSON
        """The next thing it shows."""
        assert self._process.stdout is not None
        async with asyncio.timeout(30):
            return json.loads(await self._process.stdout.readline())

    async def interrupted(self) -> int:
        """Ctrl-C; its exit code."""
        self._process.send_signal(signal.SIGINT)
        async with asyncio.timeout(30):
            return await self._process.wait()


@asynccontextmanager
async def watching(address: str, *arguments: str) -> AsyncIterator[Watching]:
    process = await asyncio.create_subprocess_exec(
        COMMAND,
        *("watch", "--json", "--address", address, *arguments),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        yield Watching(process)
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


async def publish(address: str, tenant: str, value: float) -> None:
    async with connect(address) as client:
        await client.ingest.PublishSignal(publish_of(a_row(tenant, value=value)))


async def test_the_current_score_comes_first_and_then_every_change(service: Served, tenant: str) -> None:
    async with watching(service.grpc, tenant) as watch:
        first = await watch.next()
        await publish(service.grpc, tenant, 0.25)
        second = await watch.next()
        exit_code = await watch.interrupted()

    assert (first["status"], first["initial"]) == ("UNKNOWN", True)
    assert (second["score"], second["status"], second["status_changed"]) == (0.25, "CRITICAL", True)
    assert exit_code == 130


async def test_events_show_signals_and_scores_from_the_beginning(service: Served, tenant: str) -> None:
    await publish(service.grpc, tenant, 0.25)

    shown = await records(service, "watch", tenant, "--events", "--from", "earliest", "--count", "2")
    rest = await records(service, "watch", tenant, "--events", "--after", shown[0]["cursor"], "--count", "1")

    assert [one["kind"] for one in shown] == ["SIGNAL_STORED", "SCORE_STATUS_CHANGED"]
    assert rest[0]["cursor"] == shown[1]["cursor"]


async def test_lines_for_people_name_tenant_score_and_signals(service: Served, tenant: str) -> None:
    await publish(service.grpc, tenant, 0.25)

    scores = await run(service, "watch", tenant, "--count", "1")
    events = await run(service, "watch", tenant, "--events", "--from", "earliest", "--count", "2")

    signal_line, score_line = events.stdout.splitlines()
    assert scores.stdout.split()[1:] == [tenant, "0.250000", "CRITICAL", "1", "signal"]
    assert f"{tenant}  #1  ci/" in signal_line
    assert "build  value 0.25  weight 1" in signal_line
    assert score_line.endswith("0.250000  CRITICAL  1 signal  status changed")


@pytest.mark.slow
@pytest.mark.parametrize("how", ["kill -9", "drain"])
async def test_a_restart_of_the_server_loses_no_event_and_repeats_none(tmp_path: Path, tenant: str, how: str) -> None:
    async with serving(tmp_path, http=False) as served:
        address = served.grpc
        await publish(address, tenant, 0.1)
        async with watching(address, tenant, "--events", "--from", "earliest") as watch:
            seqs = [(await _next_signal(watch))["seq"]]
            await (served.stop() if how == "drain" else served.kill())

            async with serving(tmp_path, "--grpc", address, http=False):
                for value in (0.2, 0.3):
                    await publish(address, tenant, value)
                seqs += [(await _next_signal(watch))["seq"] for _ in range(2)]
                await watch.interrupted()

    assert seqs == [1, 2, 3]


async def _next_signal(watch: Watching) -> Any:  # noqa: ANN401 - JSON
    while "signal" not in (shown := await watch.next()):
        pass
    return shown["signal"]

"""How a service begins, ends and refuses to begin."""

from __future__ import annotations

import asyncio
import os
import signal
from collections import Counter
from typing import TYPE_CHECKING

import grpc.aio
import pytest

from coherence.v1.events_pb2 import CLOSING_REASON_DRAINING, SubscribeRequest
from coherence_grpc.client import connect
from tests.e2e.reading import Named, all_signals, assert_log_is_whole, clock_us, named
from tests.e2e.rows import a_row, publish_of
from tests.e2e.unretried import unretried
from tests.serving import NotServing, Served, command_line, serving, spoken, until

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.anyio


@pytest.mark.slow
@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGINT], ids=["SIGTERM", "SIGINT"])
async def test_r14_a_drained_service_loses_nothing_it_accepted_and_tells_streams_where_to_resume(
    tmp_path: Path, tenant: str, how: signal.Signals
) -> None:
    acked: dict[Named, int] = {}
    refusals: Counter[grpc.StatusCode] = Counter()
    async with serving(tmp_path) as served, connect(served.grpc) as client:
        frames = aiter(client.events.Subscribe(SubscribeRequest(tenant_id=tenant)))
        await anext(frames)
        async with asyncio.TaskGroup() as callers:
            for _ in range(8):
                callers.create_task(_publish_until_refused(served, tenant, acked, refusals))
            await until(lambda: len(acked) > 200)

            os.kill(served.process.pid, how)

            closing = [frame.closing async for frame in frames if frame.HasField("closing")]
            assert await served.ended() == 0
        await served.all_gone()
        assert not served.tracebacks

    async with serving(tmp_path, http=False) as served, connect(served.grpc) as client:
        stored = {named(s): s.seq for s in await all_signals(client, tenant)}
        assert acked.items() <= stored.items()
        await assert_log_is_whole(client, tenant)
    assert [frame.reason for frame in closing] == [CLOSING_REASON_DRAINING]
    assert closing[0].resume_cursor
    assert set(refusals) <= {grpc.StatusCode.UNAVAILABLE}


@pytest.mark.slow
async def test_when_the_subgraph_dies_the_whole_service_ends_with_an_error(tmp_path: Path) -> None:
    async with serving(tmp_path) as served:
        (subgraph,) = [pid for pid in served.children() if "subgraph" in command_line(pid.number)]

        os.kill(subgraph.number, signal.SIGKILL)

        assert await served.ended() != 0
        await served.all_gone()
        assert "subgraph" in served.stderr
        assert not served.tracebacks


@pytest.mark.slow
async def test_a_data_directory_is_served_once(tmp_path: Path) -> None:
    async with serving(tmp_path, http=False) as served, connect(served.grpc) as client:
        refused = await _refused("--data", str(tmp_path), "--grpc", "127.0.0.1:0", "--http", "127.0.0.1:0")

        assert str(tmp_path) in refused
        assert await clock_us(client)


@pytest.mark.slow
async def test_a_bind_in_use_is_refused_in_one_line(tmp_path: Path, service: Served) -> None:
    grpc_taken = await _refused("--data", str(tmp_path / "a"), "--grpc", service.grpc, "--http", "127.0.0.1:0")
    http_taken = await _refused("--data", str(tmp_path / "b"), "--grpc", "127.0.0.1:0", "--http", service.http)

    assert service.grpc in grpc_taken
    assert service.http in http_taken


@pytest.mark.parametrize(
    "flags",
    [
        ("--grpc", "0.0.0.0:0"),
        ("--grpc", "[::]:0"),
        ("--grpc", "192.0.2.1:0"),
        ("--grpc", "example.org:0"),
        ("--http", "0.0.0.0:0"),
        ("--http", "[::]:0"),
    ],
    ids=" ".join,
)
async def test_a_bind_that_others_can_reach_is_refused_in_one_line(tmp_path: Path, flags: tuple[str, str]) -> None:
    other = ("--http", "127.0.0.1:0") if flags[0] == "--grpc" else ("--grpc", "127.0.0.1:0")

    refused = await _refused("--data", str(tmp_path / "data"), *flags, *other)

    assert flags[0].removeprefix("--") in refused
    assert "loopback" in refused
    assert not (tmp_path / "data").exists()


@pytest.mark.slow
async def test_data_of_a_simulated_clock_is_not_served_under_the_real_one_nor_the_other_way(tmp_path: Path) -> None:
    simulated = ("--clock-start", "2013-02-08T00:00:00Z")
    async with serving(tmp_path / "simulated", *simulated, http=False), serving(tmp_path / "real", http=False):
        pass

    real_over_simulated = await _refused("--data", str(tmp_path / "simulated"), *_binds())
    simulated_over_real = await _refused("--data", str(tmp_path / "real"), *_binds(), *simulated)

    assert "simulated" in real_over_simulated
    assert "simulated" in simulated_over_real


async def test_a_service_that_can_not_start_says_so_and_leaves_nothing(tmp_path: Path) -> None:
    tmp_path.joinpath("data").write_text("not a directory")

    with pytest.raises(NotServing) as caught:
        async with serving(tmp_path / "data"):
            pass

    assert caught.value.exit_code not in {0, None}
    assert "Traceback" not in caught.value.stderr
    assert str(tmp_path / "data") in caught.value.stderr


def _binds() -> tuple[str, ...]:
    return ("--grpc", "127.0.0.1:0", "--http", "off")


async def _refused(*flags: str) -> str:
    """The one line with which `coherence serve` refuses to start."""
    said = await spoken("serve", "--json", *flags)
    assert said.exit_code not in {0, None}
    assert not said.stdout.strip()
    assert len(said.stderr.strip().splitlines()) == 1, said.stderr
    return said.stderr


async def _publish_until_refused(
    served: Served, tenant: str, acked: dict[Named, int], refusals: Counter[grpc.StatusCode]
) -> None:
    async with unretried(served.grpc) as stub:
        try:
            while True:
                reply = await stub.PublishSignal(publish_of(a_row(tenant)))
                acked[named(reply.key)] = reply.seq
        except grpc.aio.AioRpcError as error:
            refusals[error.code()] += 1

"""Streams of signals whose connection breaks, whose server is killed, and whose client does not read."""

from __future__ import annotations

import asyncio
import random
import sys
from contextlib import suppress
from typing import TYPE_CHECKING, Final

import grpc.aio
import pytest

from coherence.v1.ingest_pb2 import StreamBatch, StreamOpen, StreamSignalsRequest
from coherence.v1.signal_pb2 import Signal
from coherence_grpc.client import connect, refusal_of
from tests.e2e.reading import assert_log_is_whole, clock_us
from tests.e2e.resuming import Streamer, missing_and_double
from tests.e2e.unretried import unretried
from tests.e2e.wire import wire_to
from tests.serving import resident_bytes, serving, until

if TYPE_CHECKING:
    from pathlib import Path

    from coherence.v1.ingest_pb2_grpc import IngestServiceStub
    from coherence_grpc.client import Refusal
    from tests.e2e.wire import Wire
    from tests.serving import Served

pytestmark = [pytest.mark.anyio, pytest.mark.slow]

CUTS: Final = 6
KILLS: Final = 3
# Their Acks would take some 20 MB.
BATCHES: Final = 60
# The frames that wait for a reader fill a connection, and no more.
GROWTH_BYTES: Final = 32 << 20


@pytest.mark.timeout(120)
async def test_over_cuts_and_kills_every_signal_of_a_stream_is_stored_once(tmp_path: Path, tenant: str) -> None:
    async with serving(tmp_path, http=False) as served, connect(served.grpc) as client:
        streamer = Streamer(tenant, await clock_us(client))
    async with wire_to("127.0.0.1:1") as wire:
        for _ in range(KILLS):
            async with serving(tmp_path, http=False) as served:
                wire.target = served.grpc
                streaming = asyncio.create_task(_over_and_over(streamer, wire))
                await _cut(wire, streamer)
                await served.kill()
                streaming.cancel()
                await asyncio.wait((streaming,))

    async with serving(tmp_path, http=False) as served, connect(served.grpc) as client:
        lost = await missing_and_double(client, tenant, streamer.acked)
        streamer.total = streamer.acked + 100
        await streamer.run(served.grpc)
        after = await missing_and_double(client, tenant, streamer.total)
        await assert_log_is_whole(client, tenant)

    sys.stdout.write(f"{streamer.connections} connections, {streamer.acked} batches acknowledged\n")
    assert (lost, after) == ((0, 0), (0, 0))
    assert streamer.done
    assert streamer.connections > KILLS * CUTS


async def _over_and_over(streamer: Streamer, wire: Wire) -> None:
    while True:
        await streamer.run(wire.address)


async def _cut(wire: Wire, streamer: Streamer) -> None:
    for _ in range(CUTS):
        begun = streamer.acked
        await until(lambda begun=begun: streamer.acked > begun)  # type: ignore[misc]  # bound for this turn
        await asyncio.sleep(random.uniform(0.0, 0.05))  # noqa: S311 - any moment will do
        wire.cut()


@pytest.mark.timeout(120)
async def test_a_client_that_never_reads_is_refused_and_does_not_grow_the_server(tmp_path: Path, tenant: str) -> None:
    async with serving(tmp_path, http=False) as served, unretried(served.grpc) as stub:
        await _without_reading(served, stub, tenant, "warm-up")
        before = resident_bytes(served.process.pid)

        refusal = await _without_reading(served, stub, tenant, "stream")

        grown = resident_bytes(served.process.pid) - before

    sys.stdout.write(f"the server grew by {grown / 2**20:.1f} MiB\n")
    assert (refusal.code, refusal.reason) == ("RESOURCE_EXHAUSTED", "CREDIT_EXCEEDED")
    assert grown < GROWTH_BYTES


async def _without_reading(served: Served, stub: IngestServiceStub, tenant: str, stream_id: str) -> Refusal:
    """Send batches whose every signal is refused, in many words, and read nothing until the server has had enough."""
    before = served.stderr.count("CREDIT_EXCEEDED")
    call = stub.StreamSignals()
    await call.write(StreamSignalsRequest(open=StreamOpen(tenant_id=tenant, stream_id=stream_id)))
    wrong = [Signal(source="ci", type="build", value=7)] * 1000

    async def send() -> None:
        with suppress(grpc.aio.AioRpcError, asyncio.InvalidStateError):
            for sequence in range(1, BATCHES + 1):
                await call.write(StreamSignalsRequest(batch=StreamBatch(sequence=sequence, signals=wrong)))

    async def read() -> None:
        async for _ in call:
            pass

    sending = asyncio.create_task(send())
    await until(lambda: served.stderr.count("CREDIT_EXCEEDED") > before, within_s=45)
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await read()
    sending.cancel()
    await asyncio.wait((sending,))
    return refusal_of(caught.value)

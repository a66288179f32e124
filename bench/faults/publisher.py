"""A Publisher hands over a million signals while its server is killed and started again."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Final

from bench.faults.run import Finding
from bench.report import progress
from bench.worker import working
from coherence.v1.ingest_pb2 import VerifyLedgerRequest
from coherence_grpc.client import Unavailable, connect
from tests.backends.ports import free_port
from tests.serving import serving

if TYPE_CHECKING:
    from pathlib import Path

    from bench.faults.run import Length
    from coherence_grpc.client import Client
    from tests.serving import Served

DEMAND: Final = "every accepted signal stored once and in order; the client's memory does not grow with their number"
TENANT: Final = "acme"
SIGNALS: Final = 1_000_000
PENDING: Final = 10_000
RUN_S: Final = 800.0
LOOK_S: Final = 0.05
# What a client may hold more at the end than after its first tenth: batches that happen to be larger, and fragments.
GROWTH_MB: Final = 32.0


async def published_through_restarts(length: Length) -> Finding:
    """Kill the server at even distances of a million signals, start it again, and compare."""
    directory, address = length.fresh("publisher"), f"127.0.0.1:{free_port()}"
    job = {"address": address, "tenant": TENANT, "count": SIGNALS, "max_pending": PENDING}
    async with AsyncExitStack() as servers, connect(address) as client:
        served = await _started(servers, directory, address)
        async with working("bench.faults.putting", job) as putting:
            await putting.go()
            for run in range(length.runs):
                await _stored(client, SIGNALS * (run + 1) // (length.runs + 1))
                await served.kill()
                served = await _started(servers, directory, address)
                progress(f"  killed {run + 1} times")
            told = await putting.answer(RUN_S)
        stored = {each.seq: each.signal.signal_id async for each in client.list_signals(TENANT)}
        intact = await _intact(client)
    ids, expected = [stored[seq] for seq in sorted(stored)], [f"n{number}" for number in range(SIGNALS)]
    figures = {
        "signals": SIGNALS,
        "kills": length.runs,
        "lost": len(set(expected) - set(ids)),
        "double": len(ids) - len(set(ids)),
        "in_order": ids == expected,
        "ledger_intact_through": intact,
    } | told
    whole = ids == expected and intact == SIGNALS
    bounded = told["rss_mb"] - told["rss_mb_after_a_tenth"] <= GROWTH_MB and told["most_pending"] <= PENDING
    return Finding(DEMAND, whole and bounded and told["connections"] > length.runs, figures)


async def _started(servers: AsyncExitStack, directory: Path, address: str) -> Served:
    return await servers.enter_async_context(serving(directory / "data", "--grpc", address, http=False))


async def _stored(client: Client, seq: int) -> None:
    """Return when that many entries are there."""
    async with asyncio.timeout(RUN_S):
        while await _head(client) < seq:  # noqa: ASYNC110 - another process's log sets no event
            await asyncio.sleep(LOOK_S)


async def _head(client: Client) -> int:
    try:
        return (await client.get_score(TENANT)).as_of_seq
    except Unavailable:
        return 0


async def _intact(client: Client) -> int:
    """Up to which entry the ledger verifies."""
    request = VerifyLedgerRequest(tenant_id=TENANT)
    while not (verdict := await client.ingest.VerifyLedger(request, timeout=10)).complete:
        request.from_seq, request.expected_head_hash = verdict.next_seq, verdict.next_head_hash
    return verdict.head_seq if verdict.valid else verdict.first_bad_seq - 1

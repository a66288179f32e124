"""A stream of signals whose client is killed and resumed, again and again, and whose server is killed as well."""

from __future__ import annotations

import asyncio
import json
import random
import subprocess
import sys
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING, Final

from bench.faults.run import Finding, flaw_of
from bench.report import ROOT, progress
from bench.servers import servers
from coherence_grpc.client import connect
from tests.backends.ports import free_port
from tests.e2e.reading import clock_us, entry_count
from tests.e2e.resuming import Streamer, missing_and_double, names
from tests.serving import serving, until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

    from bench.faults.run import Length

DEMAND: Final = "every signal of an acknowledged batch stored once; no Ack ahead of its commit; the ledger whole"
TENANT: Final = "acme"
# The server is killed twice for every five times that the client is.
SERVERS: Final = 0.4
ACK_S: Final = 30.0
EVERY: Final = 10


class Heard:
    """What all clients so far have said: the newest Ack, and how many signals came again after a cut."""

    def __init__(self, address: str, start_us: int) -> None:
        self.address = address
        self.start_us = start_us
        self.acked = 0
        self.clients = 0
        self.came_again = 0

    @asynccontextmanager
    async def client(self) -> AsyncIterator[None]:
        """A client that goes on behind the newest Ack; it is killed on leaving."""
        job = {"tenant": TENANT, "address": self.address, "start_us": self.start_us, "acked": self.acked}
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "bench.faults.streamer", json.dumps(job)), cwd=ROOT, stdout=subprocess.PIPE
        )
        self.clients += 1
        listening = asyncio.create_task(self._listen(process.stdout))
        try:
            yield
        finally:
            process.kill()
            await process.wait()
            # What it had said before is heard to the end.
            await listening

    async def _listen(self, said: asyncio.StreamReader | None) -> None:
        assert said
        again = 0
        async for line in said:
            # The last line may be cut off by the kill.
            if line.endswith(b"\n"):
                self.acked, again = map(int, line.split())
        self.came_again += again

    async def another_ack(self) -> None:
        """Return a moment after the next Ack."""
        before = self.acked
        await until(lambda: self.acked > before, within_s=ACK_S)
        await asyncio.sleep(random.uniform(0.0, 0.1))  # noqa: S311 - any moment will do


async def streamed(length: Length) -> Finding:
    """On the embedded stores."""
    return await _streamed(length, {})


async def streamed_on_servers(length: Length) -> Finding:
    """On Neo4j, PostgreSQL and Redis."""
    async with servers("postgres", "redis", "neo4j") as environment:
        return await _streamed(length, environment)


async def _streamed(length: Length, environment: Mapping[str, str]) -> Finding:
    """Kill clients and servers in any order; compare what was acknowledged with what is there."""
    directory, address = length.fresh("streams"), f"127.0.0.1:{free_port()}"
    serve = partial(serving, directory, f"--grpc={address}", http=False, environment=environment)
    kills = ["client"] * length.runs + ["server"] * round(length.runs * SERVERS)
    random.shuffle(kills)
    ahead = 0
    async with serve() as served, connect(served.grpc) as client:
        heard = Heard(address, await clock_us(client))
    async with AsyncExitStack() as stack:
        served = await stack.enter_async_context(serve())
        left = kills.copy()
        while left:
            async with heard.client():
                while left:
                    await heard.another_ack()
                    if left.pop() == "client":
                        break
                    await served.kill()
                    acked = heard.acked
                    served = await stack.enter_async_context(serve())
                    ahead += await _entries(address) < _signals(acked)
            if len(left) % EVERY == 0:
                progress(f"  {len(kills) - len(left)} kills, {heard.acked:,} batches acknowledged")
        figures = await _compared(heard) | {"kills": length.runs, "server_kills": kills.count("server"), "ahead": ahead}
    held = not (figures["missing"] or figures["double"] or figures["flaw"] or ahead)
    return Finding(DEMAND, held, figures)


async def _compared(heard: Heard) -> dict[str, object]:
    """What is missing of the acknowledged; then what the last client gets stored, and what is wrong with the whole."""
    async with connect(heard.address) as client:
        missing, double = await missing_and_double(client, TENANT, heard.acked)
        last = Streamer(TENANT, heard.start_us, acked=heard.acked, total=heard.acked + 100)
        await last.run(heard.address)
        then_missing, then_double = await missing_and_double(client, TENANT, last.total)
        return {
            "batches": last.total,
            "signals": _signals(last.total),
            "missing": missing + then_missing,
            "double": double + then_double,
            "clients": heard.clients,
            "came_again": heard.came_again + last.duplicates,
            "flaw": await flaw_of(client, TENANT),
        }


async def _entries(address: str) -> int:
    async with connect(address) as client:
        return await entry_count(client)


def _signals(batches: int) -> int:
    return sum(sum(1 for _ in names(sequence)) for sequence in range(1, batches + 1))

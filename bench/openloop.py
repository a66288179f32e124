"""HTTP requests at a rate, whatever the answers take: each latency counts from the instant it was meant to be sent.

A plain HTTP/1.1 client over kept connections: a full client library would cost more than the service does.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import dataclass, field
from time import monotonic
from typing import TYPE_CHECKING, Final

from bench.spread import spread
from bench.worker import Job, run_async, say_ready, wait_for_go

if TYPE_CHECKING:
    from collections.abc import Mapping

CALL_S: Final = 10.0
CONNECTIONS: Final = 200
OK: Final = b"200"


@dataclass(slots=True)
class Connection:
    """One kept connection."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    async def exchange(self, request: bytes) -> tuple[bytes, bytes]:
        """Status and body of the answer."""
        self.writer.write(request)
        head = await self.reader.readuntil(b"\r\n\r\n")
        status = head.split(b" ", 2)[1]
        headers = head.lower()
        at = headers.index(b"content-length:") + len(b"content-length:")
        length = int(headers[at : headers.index(b"\r\n", at)])
        return status, await self.reader.readexactly(length)


@dataclass(slots=True)
class OpenLoop:
    """Sends requests at their instants over the first free connection."""

    host: str
    port: int
    free: list[Connection] = field(default_factory=list)
    opened: list[Connection] = field(default_factory=list)
    latencies_s: list[float] = field(default_factory=list)
    failures: Counter[str] = field(default_factory=Counter)

    async def send(self, request: bytes, intended: float) -> None:
        """One request; what goes wrong is counted."""
        try:
            async with asyncio.timeout(CALL_S):
                connection = self._idle() or await self._open()
                status, body = await connection.exchange(request)
        except (OSError, TimeoutError, ValueError, asyncio.IncompleteReadError) as broken:
            self.failures[type(broken).__name__] += 1
            return
        self.free.append(connection)
        if status != OK or b'"errors"' in body or b'"data"' not in body:
            self.failures[f"{status.decode()} {body[:200].decode(errors='replace')}"] += 1
            return
        self.latencies_s.append(monotonic() - intended)

    async def run(self, requests: list[bytes], rate: float, seconds: float) -> None:
        """At `rate` for `seconds`."""
        begun = monotonic()
        async with asyncio.TaskGroup() as group:
            for number in range(int(rate * seconds)):
                intended = begun + number / rate
                await asyncio.sleep(max(0.0, intended - monotonic()))
                group.create_task(self.send(requests[number % len(requests)], intended))

    async def close(self) -> None:
        """Close what was opened."""
        for connection in self.opened:
            connection.writer.close()

    def _idle(self) -> Connection | None:
        """A connection that is free and that the server has not closed for being so."""
        while self.free:
            connection = self.free.pop()
            if not connection.reader.at_eof():
                return connection
            connection.writer.close()
            self.opened.remove(connection)
        return None

    async def _open(self) -> Connection:
        if len(self.opened) >= CONNECTIONS:
            message = f"more than {CONNECTIONS} requests are unanswered"
            raise OSError(message)
        connection = Connection(*await asyncio.open_connection(self.host, self.port))
        self.opened.append(connection)
        return connection


def post(host: str, port: int, path: str, body: bytes) -> bytes:
    """A POST of JSON as it goes over the wire."""
    head = (
        f"POST {path} HTTP/1.1\r\nHost: {host}:{port}\r\nContent-Type: application/json\r\n"
        f"Accept: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


async def work(job: Job) -> Mapping[str, object]:
    """Warm up, forget that, then measure."""
    host, _, port = job["address"].rpartition(":")
    requests = [post(host, int(port), job["path"], body.encode()) for body in job["bodies"]]
    loop = OpenLoop(host, int(port))
    await loop.run(requests, job["rate"], job["warm_up_s"])
    warm_up = len(loop.latencies_s)
    loop.latencies_s.clear()
    say_ready()
    wait_for_go()
    await loop.run(requests, job["rate"], job["seconds"])
    await loop.close()
    return {
        "warm_up": warm_up,
        "answered": len(loop.latencies_s),
        "errors": sum(loop.failures.values()),
        "failures": dict(loop.failures),
        "connections": len(loop.opened),
        "latency_ms": spread(loop.latencies_s, 0.001),
        "samples_ms": [round(latency * 1000, 2) for latency in loop.latencies_s],
    }


if __name__ == "__main__":
    run_async(work)

"""R12: two hundred subscribers at two services, one of which is killed, and Redis as well, again and again."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass, field
from itertools import cycle, islice
from time import monotonic, monotonic_ns
from typing import TYPE_CHECKING, Any, Final

import grpc.aio

from bench.faults.listener import STEADY
from bench.faults.replies import RECONNECT
from bench.faults.run import Finding, flaw_of
from bench.load import OPTIONS
from bench.report import progress
from bench.servers import environment_of, owned
from bench.worker import working
from coherence.v1.ingest_pb2_grpc import IngestServiceStub
from coherence_grpc.client import connect
from tests.backends.ports import free_port
from tests.builders import fresh
from tests.e2e.on_servers import CURSOR_KEYS
from tests.e2e.pairs import shared
from tests.e2e.rows import a_row, publish_of
from tests.serving import NotServing, serving

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from bench.faults.run import Length
    from tests.backends.sharing import Own
    from tests.serving import Served

DEMAND: Final = (
    "every subscriber sees every signal once and in order over all kills; fan-out p95 ≤ 250 ms while all is well"
)
TENANT: Final = "acme"
STREAMS: Final = 200
PROCESSES: Final = 2
RATE: Final = 100
STEADY_S: Final = 8.0
AWAY_S: Final = 4.0
SETTLE_S: Final = 3.0
# The above, and the starts of a service and of Redis.
ROUND_S: Final = 30
STARTS: Final = 4
CALL_S: Final = 5.0
AGAIN_S: Final = 0.25
WARM_UP: Final = 500
CATCH_UP_S: Final = 60.0
P95_MS: Final = 250.0


@dataclass(slots=True)
class Publisher:
    """Signals at a rate, each sent to one service after the other until it is acknowledged."""

    stubs: Sequence[IngestServiceStub]
    steady: bool = False
    failed_calls: int = 0
    acknowledged: int = 0
    waited_s: list[float] = field(default_factory=list)

    async def warm_up(self) -> None:
        """One after the other: servers that have just started compile what they are asked for."""
        for number in range(WARM_UP):
            await self._send(number)
        self.waited_s.clear()

    async def publish(self, count: int) -> None:
        """That many, in time; it returns when all are acknowledged."""
        begun = monotonic()
        async with asyncio.TaskGroup() as calls:
            for number in range(count):
                await asyncio.sleep(max(0.0, begun + number / RATE - monotonic()))
                calls.create_task(self._send(number))

    async def _send(self, number: int) -> None:
        begun, kind = monotonic(), STEADY if self.steady else "fault"
        row = a_row(TENANT, signal_id=str(monotonic_ns()), type=kind)
        request = publish_of(row, fresh("request"))
        for stub in islice(cycle(self.stubs), number % len(self.stubs), None):
            try:
                await stub.PublishSignal(request, timeout=CALL_S)
            except grpc.aio.AioRpcError:
                self.failed_calls += 1
                await asyncio.sleep(AGAIN_S)
            else:
                break
        self.acknowledged += 1
        self.waited_s.append(monotonic() - begun)


@dataclass(slots=True)
class Stage:
    """Two services at addresses that stay theirs, and the Redis that they ring each other through."""

    stack: AsyncExitStack
    environment: Mapping[str, str]
    redis: Own
    places: Sequence[tuple[Path, str]]
    services: list[Served] = field(default_factory=list)

    async def serve(self, number: int) -> Served:
        """That service, started anew: more than once when a busy server keeps it waiting, as its keeper would."""
        directory, address = self.places[number]
        for _ in range(STARTS - 1):
            with suppress(NotServing):
                return await self._start(directory, address)
        return await self._start(directory, address)

    async def _start(self, directory: Path, address: str) -> Served:
        service = serving(directory, "--grpc", address, environment=self.environment, http=False)
        return await self.stack.enter_async_context(service)

    async def suffer(self, number: int) -> None:
        """Kill that service and then Redis, and start both again."""
        await self.services[number].kill()
        await asyncio.sleep(AWAY_S)
        await asyncio.to_thread(self.redis.kill)
        await asyncio.sleep(AWAY_S)
        await asyncio.to_thread(self.redis.start_again)
        self.services[number] = await self.serve(number)
        await shared(self.environment, *self.services)
        await asyncio.sleep(SETTLE_S)


async def heard(length: Length) -> Finding:
    """Kill either service in turn, and Redis each time, while all go on."""
    count = RATE * ROUND_S * length.runs
    async with AsyncExitStack() as stack:
        stage = await _set(stack, length)
        addresses = [address for _, address in stage.places]
        job = {"addresses": addresses, "tenant": TENANT, "streams": STREAMS // PROCESSES}
        job |= {"expected": WARM_UP + count, "within_s": CATCH_UP_S}
        workers = [await stack.enter_async_context(working("bench.faults.listener", job)) for _ in range(PROCESSES)]
        channels = [
            await stack.enter_async_context(grpc.aio.insecure_channel(address, options=OPTIONS + RECONNECT))
            for address in addresses
        ]
        publisher = Publisher([IngestServiceStub(channel) for channel in channels])
        await publisher.warm_up()
        async with asyncio.TaskGroup() as tasks:
            publishing = tasks.create_task(publisher.publish(count))
            for run in range(length.runs):
                publisher.steady = True
                await asyncio.sleep(STEADY_S)
                publisher.steady = False
                await stage.suffer(run % 2)
                when = "too late" if publishing.done() else "done"
                progress(f"  round {run + 1} {when}: {publisher.acknowledged} of {WARM_UP + count} acknowledged")
        found = [await worker.run(2 * CATCH_UP_S) for worker in workers]
        async with connect(addresses[0]) as client:
            flaw = await flaw_of(client, TENANT)
    return _finding(length, count, publisher, found, flaw)


async def _set(stack: AsyncExitStack, length: Length) -> Stage:
    own = await stack.enter_async_context(owned("postgres", "redis", "neo4j"))
    environment = {**environment_of(own), "COHERENCE_CURSOR_KEYS": CURSOR_KEYS}
    places = [(length.fresh("service"), f"127.0.0.1:{free_port()}") for _ in range(2)]
    stage = Stage(stack, environment, own["redis"], places)
    stage.services += [await stage.serve(number) for number in range(len(places))]
    await shared(environment, *stage.services)
    return stage


def _finding(length: Length, count: int, publisher: Publisher, found: Sequence[dict[str, Any]], flaw: str) -> Finding:
    whole, wrong = (sum(one[name] for one in found) for name in ("whole", "out_of_order"))
    p95_ms = [one["steady_p95_ms"] for one in found]
    figures = {
        "kills": {"service": length.runs, "redis": length.runs},
        "signals": count,
        "failed_calls": publisher.failed_calls,
        "longest_until_acknowledged_s": round(max(publisher.waited_s), 3),
        "subscribers": STREAMS,
        "whole": whole,
        "out_of_order_or_twice": wrong,
        "connections": sum(one["connections"] for one in found),
        "caught_up_s": max(one["caught_up_s"] for one in found),
        "steady_p95_ms": p95_ms,
        "flaw": flaw,
    }
    held = whole == STREAMS and not wrong and not flaw
    return Finding(DEMAND, held, figures, in_time=all(p95 is not None and p95 <= P95_MS for p95 in p95_ms))

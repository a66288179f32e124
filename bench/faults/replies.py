"""R5 and R6: replies that are lost after the commit, and the same signal from many callers at once."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from itertools import cycle, islice
from time import monotonic
from typing import TYPE_CHECKING, Final

import grpc.aio

from bench.faults.run import Finding, flaw_of
from bench.load import OPTIONS
from bench.report import progress
from bench.spread import spread
from coherence.v1.ingest_pb2 import OUTCOME_DUPLICATE, OUTCOME_STORED, PublishSignalRequest
from coherence.v1.ingest_pb2_grpc import IngestServiceStub
from coherence_grpc.client import connect
from tests.builders import fresh
from tests.e2e.reading import all_events, all_signals, clock_us
from tests.e2e.rows import a_row, publish_of
from tests.e2e.wire import wire_to
from tests.serving import serving

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from bench.faults.run import Length
    from coherence.v1.ingest_pb2 import PublishSignalResponse

LOST_DEMAND: Final = "every request is stored once, however often its reply was lost"
SAME_DEMAND: Final = "one STORED a key, the rest DUPLICATE with its seq and provenance id, one event each"
TENANT: Final = "acme"
CALLERS: Final = 50
CHANNELS: Final = 6
KEYS: Final = 200
LIMIT_S: Final = 600.0
RECONNECT: Final = (("grpc.initial_reconnect_backoff_ms", 20), ("grpc.max_reconnect_backoff_ms", 100))


@dataclass(slots=True)
class Retrying:
    """Callers that send a request until it is answered."""

    stub: IngestServiceStub
    wanted: int
    lost: int = 0
    failed_calls: int = 0
    answered: list[float] = field(default_factory=list)

    async def publish_until_enough(self, now: int, end: float) -> None:
        """New requests, until enough replies got lost after their commit."""
        while self.lost < self.wanted and monotonic() < end:
            # Every other one without ts: its only identity is its request id.
            row = a_row(TENANT, ts=random.choice((now, None)))  # noqa: S311 - any mixture will do
            await self._answer_to(publish_of(row, fresh("request")))

    async def _answer_to(self, request: PublishSignalRequest) -> None:
        begun, failed = monotonic(), False
        while True:
            try:
                reply = await self.stub.PublishSignal(request, timeout=5.0, wait_for_ready=True)
            except grpc.aio.AioRpcError:
                failed = True
                self.failed_calls += 1
                continue
            self.lost += failed and reply.outcome == OUTCOME_DUPLICATE
            self.answered.append(monotonic() - begun)
            return


async def replies_lost(length: Length, environment: Mapping[str, str] | None = None) -> Finding:
    """Cut the wire between callers and service until enough replies are lost; everything is there once."""
    async with (
        serving(length.fresh("replies"), environment=environment, http=False) as served,
        wire_to(served.grpc) as wire,
        connect(served.grpc) as client,
        grpc.aio.insecure_channel(wire.address, options=OPTIONS + RECONNECT) as channel,
    ):
        now, end, cuts = await clock_us(client), monotonic() + LIMIT_S, 0
        retrying = Retrying(IngestServiceStub(channel), length.runs)
        async with asyncio.TaskGroup() as callers:
            tasks = [callers.create_task(retrying.publish_until_enough(now, end)) for _ in range(CALLERS)]
            while not all(task.done() for task in tasks):
                await asyncio.sleep(random.uniform(0.005, 0.1))  # noqa: S311 - any moment will do
                wire.cut()
                cuts += 1
        stored = len(await all_signals(client, TENANT))
        flaw = await flaw_of(client, TENANT)
    figures = {
        "cuts": cuts,
        "failed_calls": retrying.failed_calls,
        "replies_lost_after_commit": retrying.lost,
        "requests": len(retrying.answered),
        "stored": stored,
        "flaw": flaw,
        "answered_after_s": spread(retrying.answered),
    }
    held = stored == len(retrying.answered) and not flaw and retrying.lost >= length.runs
    return Finding(LOST_DEMAND, held, figures)


async def same_key(length: Length) -> Finding:
    """Fifty callers send the same signal at the same time, for many signals."""
    async with serving(length.fresh("same-key"), http=False) as served:
        return await stored_once(length, [served.grpc])


async def stored_once(length: Length, addresses: Sequence[str]) -> Finding:
    """The same for services on the same stores, with the callers spread over them."""
    wrong: Counter[str] = Counter()
    async with connect(addresses[0]) as client:
        now = await clock_us(client)
        async with AsyncExitStack() as stack:
            channels = [
                await stack.enter_async_context(grpc.aio.insecure_channel(address, options=OPTIONS))
                for address in islice(cycle(addresses), CHANNELS)
            ]
            stubs = [IngestServiceStub(channels[n % len(channels)]) for n in range(CALLERS)]
            for key in range(length.runs):
                wrong.update(await _fifty_at_once(stubs, publish_of(a_row(TENANT, ts=now))))
                if key % KEYS == KEYS - 1:
                    progress(f"  {key + 1} keys, {dict(wrong) or 'nothing wrong'}")
        events = await all_events(client, TENANT)
        flaw = await flaw_of(client, TENANT)
    wrong["events"] += len(events) != length.runs
    figures = {"keys": length.runs, "callers": CALLERS, "events": len(events), "wrong": dict(+wrong), "flaw": flaw}
    return Finding(SAME_DEMAND, not +wrong and not flaw, figures)


async def _fifty_at_once(stubs: list[IngestServiceStub], request: PublishSignalRequest) -> Counter[str]:
    """What was not as demanded."""

    async def send(stub: IngestServiceStub) -> None:
        replies.append(await stub.PublishSignal(request, timeout=10.0))

    replies: list[PublishSignalResponse] = []
    async with asyncio.TaskGroup() as callers:
        for stub in stubs:
            callers.create_task(send(stub))
    outcomes = Counter(reply.outcome for reply in replies)
    wrong: Counter[str] = Counter()
    wrong["outcomes"] = outcomes != Counter({OUTCOME_STORED: 1, OUTCOME_DUPLICATE: len(stubs) - 1})
    wrong["entries"] = len({(reply.seq, reply.provenance_id) for reply in replies}) != 1
    return wrong

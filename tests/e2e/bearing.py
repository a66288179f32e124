"""Callers and readers that go on while servers fail, and what is compared when all is well again."""

from __future__ import annotations

import asyncio
import random
import sys
import time
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from math import ceil
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING, Final, NamedTuple

import grpc.aio

from coherence.v1.ingest_pb2 import PublishSignalRequest, PublishSignalsRequest
from coherence.v1.score_pb2 import GetScoreRequest, ListScoresRequest
from coherence_grpc.client import connect, refusal_of
from tests.builders import fresh
from tests.e2e.cutting import published_up_to
from tests.e2e.reading import Named, all_signals, assert_log_is_whole, assert_score_is_exact, named
from tests.e2e.rows import a_row, batch_of, publish_of
from tests.e2e.unretried import unretried
from tests.serving import eventually, spoken

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping, Sequence

    from coherence.v1.ingest_pb2 import PublishSignalResponse, PublishSignalsResponse
    from coherence.v1.ingest_pb2_grpc import IngestServiceStub
    from coherence_grpc.client import Client

TENANTS: Final = ("north", "east", "south", "west")
CALLERS: Final = 8
BATCH: Final = 10
PAUSE_S: Final = 0.02
CALL_S: Final = 10.0
HEALED_S: Final = 30.0
PUSHBACK: Final = "grpc-retry-pushback-ms"


class Refused(NamedTuple):
    """A publish that was not acknowledged: when it was answered and after how long, and what it was told."""

    at: float
    seconds: float
    code: str
    reason: str
    retry_after_s: float | None
    pushback: bool


class Read(NamedTuple):
    """A read of a score: when it was answered and after how long; `code` '' when there was a score."""

    at: float
    seconds: float
    code: str
    stale: bool


@dataclass(slots=True)
class Bearing:
    """Publishes, each request tried until it is acknowledged, and reads; with everything that was answered.

    Half of the signals come without ts: nothing but their request id says that a second attempt is one.
    """

    acked: dict[tuple[str, Named], int] = field(default_factory=dict)
    acked_at: list[float] = field(default_factory=list)
    refused: list[Refused] = field(default_factory=list)
    reads: list[Read] = field(default_factory=list)
    stopping: bool = False
    tasks: list[asyncio.Task[None]] = field(default_factory=list)

    async def finish(self, *, within_s: float = HEALED_S) -> None:
        """Have every caller end with what it had begun acknowledged."""
        self.stopping = True
        _, busy = await asyncio.wait(self.tasks, timeout=within_s)
        assert not busy, "some request is still not acknowledged"

    async def publish(self, stub: IngestServiceStub, tenant: str, now: int) -> None:
        """Request after request, batches and single ones, until told to stop; the last one is acknowledged too."""
        while not self.stopping:
            value = random.random()  # noqa: S311 - any value will do
            rows = [a_row(tenant, ts=now - n, value=value) for n in range(BATCH)]
            batch = await self._acknowledged(stub, batch_of(rows, tenant, fresh("request")))
            for row, result in zip(rows, batch.results, strict=True):  # type: ignore[union-attr] # a batch's reply
                self.acked[tenant, Named(row["source"], row["signal_id"], row["ts"])] = result.seq
            one = await self._acknowledged(stub, publish_of(a_row(tenant, signal_id=None), fresh("request")))
            self.acked[tenant, named(one.key)] = one.seq  # type: ignore[union-attr] # a single one's reply

    async def read(self, client: Client, tenant: str) -> None:
        """Score after score, until told to stop."""
        while not self.stopping:
            begun = monotonic()
            try:
                score = (await client.score.GetScore(GetScoreRequest(tenant_id=tenant), timeout=CALL_S)).score
            except grpc.aio.AioRpcError as error:
                self.reads.append(Read(monotonic(), monotonic() - begun, error.code().name, stale=False))
            else:
                self.reads.append(Read(monotonic(), monotonic() - begun, "", stale=score.stale))
            await asyncio.sleep(PAUSE_S)

    async def acknowledges_again(self, since: float, *, times: int = CALLERS, within_s: float = HEALED_S) -> None:
        """Return when that many requests were acknowledged after the instant."""

        async def acknowledged() -> bool:
            return sum(at > since for at in self.acked_at) >= times

        await eventually(acknowledged, within_s=within_s)

    def refused_between(self, begin: float, end: float) -> list[Refused]:
        """What was refused of what was begun and answered in that time."""
        return [one for one in self.refused if begin <= one.at - one.seconds and one.at <= end]

    def read_between(self, begin: float, end: float) -> list[Read]:
        """What was read of what was asked and answered in that time."""
        return [one for one in self.reads if begin <= one.at - one.seconds and one.at <= end]

    async def _acknowledged(
        self, stub: IngestServiceStub, request: PublishSignalRequest | PublishSignalsRequest
    ) -> PublishSignalResponse | PublishSignalsResponse:
        send = stub.PublishSignals if isinstance(request, PublishSignalsRequest) else stub.PublishSignal
        while True:
            begun = monotonic()
            try:
                reply = await send(request, timeout=CALL_S)  # type: ignore[arg-type] # chosen by its type above
            except grpc.aio.AioRpcError as error:
                refusal = refusal_of(error)
                pushback = any(key == PUSHBACK for key, _ in error.trailing_metadata() or ())
                seconds = monotonic() - begun
                told = refusal.code, refusal.reason, refusal.retry_after_s
                self.refused.append(Refused(monotonic(), seconds, *told, pushback=pushback))
                await asyncio.sleep(PAUSE_S)
            else:
                self.acked_at.append(monotonic())
                return reply


@asynccontextmanager
async def bearing(address: str, *, readers: Sequence[str] = ()) -> AsyncIterator[Bearing]:
    """Callers of a service, at work whether it answers or not; `readers` are addresses too."""
    going, now = Bearing(), time.time_ns() // 1000
    async with unretried(address) as stub, asyncio.TaskGroup() as tasks:
        for number in range(CALLERS):
            going.tasks.append(tasks.create_task(going.publish(stub, TENANTS[number % len(TENANTS)], now)))
        for reader in readers:
            going.tasks.append(tasks.create_task(_read(going, reader)))
        try:
            yield going
        finally:
            going.stopping = True


async def settled(address: str, going: Bearing) -> None:
    """Return when the callers are being served and every tenant has a row: the ordinary state, before any fault."""
    await going.acknowledges_again(monotonic())
    async with connect(address) as client:

        async def tenants() -> set[str]:
            return {score.tenant_id for score in (await client.score.ListScores(ListScoresRequest())).scores}

        await eventually(tenants, lambda found: found >= set(TENANTS), within_s=HEALED_S)


async def _read(going: Bearing, address: str) -> None:
    async with connect(address) as client:
        await going.read(client, TENANTS[0])


async def assert_nothing_is_lost_or_twice(address: str, acked: Mapping[tuple[str, Named], int]) -> None:
    """What was acknowledged, and nothing else, is there once; logs are whole, rows caught up, scores exact."""
    async with connect(address) as client:
        for tenant in TENANTS:
            stored = {named(signal): signal.seq for signal in await all_signals(client, tenant)}
            assert stored == {key: seq for (owner, key), seq in acked.items() if owner == tenant}
            head = await assert_log_is_whole(client, tenant)
            await eventually(lambda: published_up_to(client, tenant, head), within_s=HEALED_S)  # noqa: B023 - awaited
            await assert_score_is_exact(client, tenant)
    said = await spoken("provenance", "verify", TENANTS[0], environment={"COHERENCE_GRPC": address})
    assert said.exit_code == 0, said


def descriptors(pid: int) -> int:
    """Files and connections that a process holds open."""
    return sum(1 for _ in Path("/proc", str(pid), "fd").iterdir())


def p99(seconds: Sequence[float]) -> float:
    """All but one in a hundred took at most that long; 0 of none."""
    return sorted(seconds)[ceil(len(seconds) * 0.99) - 1] if seconds else 0.0


def tell(figures: str) -> None:
    """Print figures with the test's output."""
    sys.stdout.write(f"{figures}\n")

"""Callers and readers that go on while servers fail, and what is compared when all is well again."""

from __future__ import annotations

import asyncio
import random
import sys
import time
from bisect import bisect_right
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from itertools import accumulate, cycle
from math import ceil
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING, Final, NamedTuple

import grpc.aio

from coherence.v1.events_pb2 import EVENT_KIND_SCORE_STATUS_CHANGED, SubscribeResponse
from coherence.v1.ingest_pb2 import PublishSignalRequest, PublishSignalsRequest
from coherence.v1.score_pb2 import GetScoreRequest, ListScoresRequest
from coherence_grpc.client import connect, refusal_of
from tests.builders import fresh
from tests.e2e.cutting import published_up_to
from tests.e2e.following import Follower, over_grpc
from tests.e2e.reading import (
    Named,
    all_events,
    all_signals,
    assert_log_is_whole,
    assert_score_is_exact,
    named,
    score_of,
)
from tests.e2e.rows import a_row, batch_of, publish_of
from tests.e2e.unretried import unretried
from tests.serving import eventually, until
from tests.validators import Truth, check, seen_on_the_wire

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence

    from coherence.v1.ingest_pb2 import PublishSignalResponse, PublishSignalsResponse
    from coherence.v1.ingest_pb2_grpc import IngestServiceStub
    from coherence_grpc.client import Client

TENANTS: Final = ("north", "east", "south", "west")
CALLERS: Final = 8
BATCH: Final = 10
PAUSE_S: Final = 0.02
CALL_S: Final = 10.0
HEALED_S: Final = 30.0
# What comes and goes with the calls of one moment.
SLACK: Final = 10
PUSHBACK: Final = "grpc-retry-pushback-ms"


class Acknowledged(NamedTuple):
    """A publish that was acknowledged: when and after how long, and the last of the numbers that it got."""

    at: float
    seconds: float
    tenant: str
    seq: int


class Refused(NamedTuple):
    """A publish that was not acknowledged: when it was answered and after how long, and what it was told."""

    at: float
    seconds: float
    code: str
    reason: str
    retry_after_s: float | None
    pushback: bool


class Read(NamedTuple):
    """A read of a score: when it was answered and after how long; `code` '' when there was one, `seq` its entry."""

    at: float
    seconds: float
    tenant: str
    code: str
    stale: bool = False
    seq: int = 0


@dataclass(slots=True)
class Bearing:
    """Publishes, each request tried until it is acknowledged, and reads; with everything that was answered.

    Half of the signals come without ts: nothing but their request id says that a second attempt is one.
    """

    acked: dict[tuple[str, Named], int] = field(default_factory=dict)
    acks: list[Acknowledged] = field(default_factory=list)
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
            begun, batch = await self._answer(stub, batch_of(rows, tenant, fresh("request")))
            results = batch.results  # type: ignore[union-attr] # a batch's reply
            for row, result in zip(rows, results, strict=True):
                self.acked[tenant, Named(row["source"], row["signal_id"], row["ts"])] = result.seq
            self._note(begun, tenant, results[-1].seq)
            begun, one = await self._answer(stub, publish_of(a_row(tenant, signal_id=None), fresh("request")))
            self.acked[tenant, named(one.key)] = one.seq  # type: ignore[union-attr] # a single one's reply
            self._note(begun, tenant, one.seq)  # type: ignore[union-attr] # as above

    def _note(self, begun: float, tenant: str, seq: int) -> None:
        now = monotonic()
        self.acks.append(Acknowledged(now, now - begun, tenant, seq))

    async def read(self, client: Client) -> None:
        """Score after score, of one tenant after the other, until told to stop."""
        for tenant in cycle(TENANTS):
            if self.stopping:
                return
            begun = monotonic()
            try:
                score = (await client.score.GetScore(GetScoreRequest(tenant_id=tenant), timeout=CALL_S)).score
            except grpc.aio.AioRpcError as error:
                self.reads.append(Read(monotonic(), monotonic() - begun, tenant, error.code().name))
            else:
                took = monotonic() - begun
                self.reads.append(Read(monotonic(), took, tenant, "", score.stale, score.as_of_seq))
            await asyncio.sleep(PAUSE_S)

    async def acknowledges_again(self, since: float, *, times: int = CALLERS, within_s: float = HEALED_S) -> None:
        """Return when that many requests were acknowledged after the instant."""

        async def acknowledged() -> bool:
            return len(self.acks) - bisect_right(self.acks, since, key=lambda one: one.at) >= times

        await eventually(acknowledged, within_s=within_s)

    def untold(self, *, grace_s: float) -> list[Read]:
        """Scores without what was acknowledged so long before they were asked for, and not said to be stale."""
        found: list[Read] = []
        for tenant in TENANTS:
            acks = [one for one in self.acks if one.tenant == tenant]
            heads = list(accumulate((one.seq for one in acks), max, initial=0))
            for read in self.reads:
                if read.tenant == tenant and not (read.code or read.stale):
                    due = bisect_right(acks, read.at - read.seconds - grace_s, key=lambda one: one.at)
                    found += [read] * (read.seq < heads[due])
        return found

    def refused_between(self, begin: float, end: float) -> list[Refused]:
        """What was refused of what was begun and answered in that time."""
        return [one for one in self.refused if begin <= one.at - one.seconds and one.at <= end]

    def read_between(self, begin: float, end: float) -> list[Read]:
        """What was read of what was asked and answered in that time."""
        return [one for one in self.reads if begin <= one.at - one.seconds and one.at <= end]

    async def _answer(
        self, stub: IngestServiceStub, request: PublishSignalRequest | PublishSignalsRequest
    ) -> tuple[float, PublishSignalResponse | PublishSignalsResponse]:
        """When the attempt began that was acknowledged, and the reply to it."""
        send = stub.PublishSignals if isinstance(request, PublishSignalsRequest) else stub.PublishSignal
        while True:
            begun = monotonic()
            try:
                return begun, await send(request, timeout=CALL_S)  # type: ignore[arg-type] # chosen by its type above
            except grpc.aio.AioRpcError as error:
                refusal = refusal_of(error)
                pushback = any(key == PUSHBACK for key, _ in error.trailing_metadata() or ())
                seconds = monotonic() - begun
                told = refusal.code, refusal.reason, refusal.retry_after_s
                self.refused.append(Refused(monotonic(), seconds, *told, pushback=pushback))
                await asyncio.sleep(PAUSE_S)


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


@asynccontextmanager
async def followed(address: str) -> AsyncIterator[Callable[[], Awaitable[None]]]:
    """A subscriber of one tenant from its beginning; what is yielded checks that it saw everything, in order, once."""
    tenant, follower, history = TENANTS[0], Follower(), list[SubscribeResponse]()
    async with asyncio.TaskGroup() as tasks, connect(address) as client:
        following = tasks.create_task(follower.follow(over_grpc(address, tenant, history), (grpc.aio.AioRpcError,)))

        async def check_events() -> None:
            head = (await score_of(client, tenant)).as_of_seq
            (published,) = await eventually(lambda: published_up_to(client, tenant, head))
            await until(lambda: follower.signals[-1:] == [head] and follower.version == published.version)
            changes = await all_events(client, tenant, EVENT_KIND_SCORE_STATUS_CHANGED)
            check(seen_on_the_wire(history), Truth(head, [e.score.version for e in changes], published.version))

        try:
            yield check_events
        finally:
            following.cancel()


async def _read(going: Bearing, address: str) -> None:
    async with connect(address) as client:
        await going.read(client)


async def assert_nothing_is_lost_or_twice(address: str, acked: Mapping[tuple[str, Named], int]) -> None:
    """What was acknowledged, and nothing else, is there once; logs are whole, rows caught up, scores exact."""
    async with connect(address) as client:
        for tenant in TENANTS:
            signals = await all_signals(client, tenant)
            stored = {named(signal): signal.seq for signal in signals}
            assert stored == {key: seq for (owner, key), seq in acked.items() if owner == tenant}
            head = await assert_log_is_whole(client, tenant, signals)
            await eventually(lambda: published_up_to(client, tenant, head), within_s=HEALED_S)  # noqa: B023 - awaited
            await assert_score_is_exact(client, tenant, signals)


def descriptors(pid: int) -> int:
    """Files and connections that a process holds open."""
    return sum(1 for _ in Path("/proc", str(pid), "fd").iterdir())


async def descriptors_fall_to(pid: int, before: int) -> None:
    """Return when a process holds no more files and connections than before, but for those of a moment."""
    await until(lambda: descriptors(pid) <= before + SLACK, within_s=15)


def p99(seconds: Sequence[float]) -> float:
    """All but one in a hundred took at most that long; 0 of none."""
    return sorted(seconds)[ceil(len(seconds) * 0.99) - 1] if seconds else 0.0


def tell(figures: str) -> None:
    """Print figures with the test's output."""
    sys.stdout.write(f"{figures}\n")

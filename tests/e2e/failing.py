"""A service that is killed at a named place, and what the same requests are answered afterwards."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from signal import SIGKILL
from typing import TYPE_CHECKING, Final

import grpc.aio

from coherence.v1.ingest_pb2 import (
    OUTCOME_DUPLICATE,
    OUTCOME_STORED,
    Outcome,
    PublishSignalRequest,
    PublishSignalsRequest,
)
from coherence_grpc.failpoints import PLACES, VARIABLE
from tests.builders import fresh
from tests.e2e.reading import all_signals, assert_log_is_whole, assert_score_is_exact
from tests.e2e.rows import a_row, batch_of, publish_of
from tests.e2e.unretried import unretried
from tests.serving import serving

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from coherence.v1.ingest_pb2_grpc import IngestServiceStub
    from coherence_grpc.client import Client

# Reached before the commit; at all the others the signals are stored.
BEFORE_THE_COMMIT: Final = ("append.before", "append.written")
EMBEDDED: Final = tuple(place for place in PLACES if place not in {"mark.before", "publish.written"})
CALL_S: Final = 10.0
DEATH_S: Final = 20.0
BATCH: Final = 3

Replies = list[tuple[Outcome.ValueType, int]]


@dataclass(frozen=True, slots=True)
class Attempt:
    """A request that stores signals of a tenant of its own."""

    tenant: str
    request: PublishSignalRequest | PublishSignalsRequest

    @property
    def signals(self) -> int:
        """How many it stores."""
        return 1 if isinstance(self.request, PublishSignalRequest) else len(self.request.signals)

    async def send(self, stub: IngestServiceStub) -> Replies:
        """What became of each signal, and its number."""
        if isinstance(self.request, PublishSignalRequest):
            reply = await stub.PublishSignal(self.request, timeout=CALL_S)
            return [(reply.outcome, reply.seq)]
        return [(one.outcome, one.seq) for one in (await stub.PublishSignals(self.request, timeout=CALL_S)).results]


def one_signal() -> Attempt:
    """By PublishSignal, without ts: only its request id says that a second attempt is one."""
    tenant = fresh("single")
    return Attempt(tenant, publish_of(a_row(tenant, signal_id=None), fresh("request")))


def a_batch() -> Attempt:
    """By PublishSignals."""
    tenant = fresh("batch")
    return Attempt(tenant, batch_of([a_row(tenant) for _ in range(BATCH)], tenant, fresh("request")))


async def killed_at(
    place: str, directory: Path, attempts: Sequence[Attempt], environment: Mapping[str, str] | None = None
) -> Mapping[str, Replies]:
    """Make the attempts at once on a service that kills itself there; what was answered before, by tenant."""
    answered: dict[str, Replies] = {}

    async def make(attempt: Attempt, stub: IngestServiceStub) -> None:
        try:
            answered[attempt.tenant] = await attempt.send(stub)
        except grpc.aio.AioRpcError as error:
            if error.code() is not grpc.StatusCode.UNAVAILABLE:
                raise

    armed = {**(environment or {}), VARIABLE: f"{place}=kill"}
    async with serving(directory, environment=armed, http=False) as served, unretried(served.grpc) as stub:
        async with asyncio.TaskGroup() as callers:
            for attempt in attempts:
                callers.create_task(make(attempt, stub))
        async with asyncio.timeout(DEATH_S):
            assert await served.process.wait() == -SIGKILL
    return answered


async def stored_once(client: Client, attempt: Attempt, answered: Replies | None) -> bool:
    """Make the attempt again, and see that its signals are there once; whether they had been stored before.

    What was `answered` before the kill, if anything, was true.
    """
    before = sorted(signal.seq for signal in await all_signals(client, attempt.tenant))
    again = await attempt.send(client.ingest)

    seqs = [seq for _, seq in again]
    assert {outcome for outcome, _ in again} == {OUTCOME_DUPLICATE if before else OUTCOME_STORED}
    assert seqs == (before or list(range(1, len(again) + 1)))
    assert [seq for _, seq in answered or []] in ([], before)
    assert sorted(signal.seq for signal in await all_signals(client, attempt.tenant)) == seqs
    await assert_log_is_whole(client, attempt.tenant)
    await assert_score_is_exact(client, attempt.tenant)
    return bool(before)

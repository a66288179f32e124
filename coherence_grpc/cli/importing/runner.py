"""Sends batches, several at a time, and keeps count: an import that can be stopped at any moment and run again."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Final

import grpc.aio

from coherence.v1.score_pb2 import Consistency, GetScoreRequest
from coherence.v1.signal_pb2 import Revision
from coherence_grpc.cli.failure import UNREACHABLE, Failure, refused, said
from coherence_grpc.cli.importing.batches import Batch, Batcher
from coherence_grpc.cli.importing.progress import Progress, ProgressFile, Witness
from coherence_grpc.cli.importing.refusals import refuses_the_content
from coherence_grpc.cli.importing.rows import Reject
from coherence_grpc.client import may_pass, refusal_of, refusal_of_status

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from coherence.v1.ingest_pb2 import PublishSignalsResponse
    from coherence_grpc.cli.importing.rejects import RejectsFile
    from coherence_grpc.cli.importing.rows import Source
    from coherence_grpc.cli.sending import Sending
    from coherence_grpc.client import Client, Refusal

IN_FLIGHT: Final = 8
# How long the server may be away before the import stops; what was stored by then need not be sent again.
PATIENCE_S: Final = 20.0
FIRST_PAUSE_S: Final = 0.2
LONGEST_PAUSE_S: Final = 2.0
KEEP_EVERY_S: Final = 0.5


class Import:
    """One input on its way to the server.

    Batches of one tenant are sent one after the other, so that the log has them in the input's order and a key that
    comes twice is decided by its first row; up to IN_FLIGHT tenants at a time.
    """

    def __init__(
        self,
        client: Client,
        source: Source,
        sending: Sending,
        progress: Progress,
        *,
        kept: ProgressFile,
        rejects: RejectsFile,
        rate: float | None,
        on_progress: Callable[[], None],
    ) -> None:
        self.progress = progress
        self._client = client
        self._source = source
        self._sending = sending
        self._kept = kept
        self._rejects = rejects
        self._pace = Pace(rate)
        self._on_progress = on_progress
        self._slots = asyncio.Semaphore(IN_FLIGHT)
        self._newest: dict[str, asyncio.Task[None]] = {}
        self._lines = 0
        self._kept_at = time.monotonic()

    async def run(self) -> None:
        """Send everything that wasn't answered before.

        Raises:
            Failure: the server is gone or full; what was answered is kept, for the next run.
        """
        finished = False
        try:
            async with asyncio.TaskGroup() as group:
                async for batch in self._batches():
                    await self._slots.acquire()
                    before = self._newest.get(batch.tenant_id)
                    self._newest[batch.tenant_id] = group.create_task(self._sent_after(before, batch))
            finished = True
        except ExceptionGroup as failed:
            # Every sender meets the same trouble; one of them tells it.
            raise failed.exceptions[0] from None
        finally:
            if not finished:
                self._keep()
        if not self._sending.dry_run:
            self._kept.remove()

    async def _batches(self) -> AsyncIterator[Batch]:
        batcher = Batcher()
        for row in self._source.rows():
            if isinstance(row, Reject):
                self._reject_unread(row)
                continue
            self._lines = row.line
            for batch in batcher.add(row):
                if not self.progress.answered(batch.number):
                    yield batch
                # Lets answers in between two batches.
                await asyncio.sleep(0)
        for batch in batcher.rest():
            if not self.progress.answered(batch.number):
                yield batch

    def _reject_unread(self, reject: Reject) -> None:
        self._lines = reject.line
        if reject.line > self.progress.lines:
            self.progress.counts.rejected += 1
            self._rejects.add(reject.line, "SIGNAL_INVALID", f"{reject.field} {reject.problem}".strip(), reject.text)

    async def _sent_after(self, before: asyncio.Task[None] | None, batch: Batch) -> None:
        try:
            if before is not None:
                await asyncio.wait([before])
            await self._pace.wait_for(len(batch.rows))
            await self._send(batch)
        finally:
            self._slots.release()
            if self._newest.get(batch.tenant_id) is asyncio.current_task():
                del self._newest[batch.tenant_id]

    async def _send(self, batch: Batch) -> None:
        signals = [row.signal for row in batch.rows]
        request_id = f"import:{self.progress.key}:{batch.number}"
        until = time.monotonic() + PATIENCE_S
        pause = FIRST_PAUSE_S
        while True:
            try:
                response = await self._sending.publish(self._client, batch.tenant_id, signals, request_id)
            except grpc.aio.AioRpcError as error:
                refusal = refusal_of(error)
            else:
                return self._note(batch, response)
            if refuses_the_content(refusal):
                return self._note_refused(batch, refusal)
            if not may_pass(refusal) or time.monotonic() > until:
                raise self._stopped(refusal)
            await asyncio.sleep(refusal.retry_after_s or pause)
            pause = min(2 * pause, LONGEST_PAUSE_S)

    def _note(self, batch: Batch, response: PublishSignalsResponse) -> None:
        counts = self.progress.counts
        counts.stored += response.stored_count
        counts.duplicate += response.duplicate_count
        counts.replaced += response.replaced_count
        counts.rejected += response.refused_count
        if response.refused_count:
            for row, result in zip(batch.rows, response.results, strict=True):
                if result.HasField("error"):
                    refusal = refusal_of_status(result.error)
                    self._rejects.add(row.line, refusal.reason, said(refusal), row.text)
        if response.revision.token:
            self.progress.witness = Witness(batch.tenant_id, response.revision.token)
        self._answered(batch)

    def _note_refused(self, batch: Batch, refusal: Refusal) -> None:
        self.progress.counts.rejected += len(batch.rows)
        for row in batch.rows:
            self._rejects.add(row.line, refusal.reason or refusal.code, said(refusal), row.text)
        self._answered(batch)

    def _answered(self, batch: Batch) -> None:
        self.progress.counts.batches += 1
        self.progress.note(batch.number)
        self._on_progress()
        if time.monotonic() - self._kept_at >= KEEP_EVERY_S:
            self._keep()

    def _keep(self) -> None:
        self._kept_at = time.monotonic()
        if self._sending.dry_run:
            return
        self.progress.lines = max(self.progress.lines, self._lines)
        self.progress.rejects_bytes = self._rejects.size()
        self._kept.write(self.progress)

    def _stopped(self, refusal: Refusal) -> Failure:
        why = refused(refusal, self._client.address)
        code = UNREACHABLE if may_pass(refusal) else why.exit_code
        counts = self.progress.counts
        return Failure(
            f"stopped after {counts.rows:,} rows: {why.message}",
            f"{why.next_step or 'see the server'}; then run the same command again, and it goes on from there",
            exit_code=code,
            refusal=refusal,
        )


class Pace:
    """Spreads signals over time: at most `rate` a second, or as fast as they go."""

    def __init__(self, rate: float | None) -> None:
        self._rate = rate
        self._next_at = time.monotonic()

    async def wait_for(self, signals: int) -> None:
        """Return when this many may be sent."""
        if self._rate is None:
            return
        now = time.monotonic()
        self._next_at = max(self._next_at, now)
        delay = self._next_at - now
        self._next_at += signals / self._rate
        await asyncio.sleep(delay)


async def still_there(client: Client, witness: Witness | None) -> bool:
    """The server has the log that an earlier run wrote to."""
    if witness is None:
        return False
    fresh = Consistency(at_least_as_fresh=Revision(token=witness.token))
    try:
        await client.score.GetScore(GetScoreRequest(tenant_id=witness.tenant_id, consistency=fresh))
    except grpc.aio.AioRpcError as error:
        if refusal_of(error).code in {"INVALID_ARGUMENT", "OUT_OF_RANGE", "NOT_FOUND", "FAILED_PRECONDITION"}:
            return False
        raise
    return True

"""Stores signals as they come and loses none that it accepted: batches, credits, retries and resumption in one."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections import deque
from dataclasses import dataclass, replace
from itertools import count, groupby
from operator import attrgetter
from typing import TYPE_CHECKING, Final

import grpc.aio

from coherence.v1 import ingest_pb2 as pb
from coherence_grpc.client.failures import PublishIncomplete, Refused, failure, failure_of
from coherence_grpc.client.instants import MICROS, since_epoch
from coherence_grpc.client.outbox import Outbox
from coherence_grpc.client.refusal import Refusal, refusal_of_status
from coherence_grpc.client.signal_stream import SignalStream

if TYPE_CHECKING:
    from collections.abc import AsyncIterable, Callable, Iterable, Sequence
    from typing import Self

    from coherence_grpc.client.credentials import Identity
    from coherence_grpc.client.model import Signal

METHOD: Final = "/coherence.v1.IngestService/StreamSignals"
FIRST_PAUSE_S: Final = 0.1
LONGEST_PAUSE_S: Final = 2.0
# How long the server may take to say goodbye once everything is acknowledged.
GOODBYE_S: Final = 1.0
KEPT_REJECTIONS: Final = 1_000
# After so many signals the stream gets a turn, also when whoever puts never waits.
BREATH: Final = 500
_NOT_PASSING: Final = frozenset(
    {
        "INVALID_ARGUMENT",
        "UNAUTHENTICATED",
        "PERMISSION_DENIED",
        "NOT_FOUND",
        "ALREADY_EXISTS",
        "FAILED_PRECONDITION",
        "OUT_OF_RANGE",
        "UNIMPLEMENTED",
    }
)
# These run out by themselves, though nobody can say when.
_FULL: Final = frozenset({"STORAGE_FULL", "BUDGET_EXHAUSTED"})


@dataclass(frozen=True, slots=True)
class Rejection:
    """A signal that the server refused; the others of its batch are stored."""

    signal: Signal
    refusal: Refusal


@dataclass(frozen=True, slots=True)
class PublisherStats:
    """What became of the accepted signals; what had to be sent again and was there already counts as duplicate.

    `connections` is how many streams it took.
    """

    accepted: int = 0
    stored: int = 0
    duplicate: int = 0
    replaced: int = 0
    rejected: int = 0
    pending: int = 0
    connections: int = 0


class Publisher:
    """Hands signals of one tenant to the backbone: what `put` has accepted is stored once, or told.

    `put` returns when the signal is accepted, and waits while `max_pending` signals are not acknowledged: that bounds
    the memory, and nothing is ever dropped. A signal without `ts` is dated now, and one without `signal_id` gets one,
    so that it stays the same signal however often it is sent. Signals go out in batches: a whole one at once, a smaller
    one `linger_s` after its first signal.

    The stream is taken up again after a restart of the server, a lost connection or an overload, for as long as
    `patience_s` without an ack; a refusal for good ends it, and `put` raises it. A single signal that is refused ends
    nothing: it goes to `on_rejected`, and the newest 1000 are in `rejected`.

    Leaving `async with` flushes, for at most `close_s`; what is not acknowledged then is named by PublishIncomplete.
    """

    def __init__(
        self,
        calls: grpc.aio.Channel,
        identity: Identity,
        opening: pb.StreamOpen,
        *,
        max_pending: int,
        linger_s: float,
        close_s: float,
        open_s: float,
        patience_s: float,
        on_rejected: Callable[[Rejection], None] | None,
    ) -> None:
        self._loop = asyncio.get_running_loop()
        if max_pending < 1:
            message = f"max_pending is {max_pending}; let at least one signal be pending"
            raise ValueError(message)
        self._streams = calls.stream_stream(METHOD, bytes, pb.StreamSignalsResponse.FromString)
        self._identity = identity
        self._opening = opening
        self._opening.stream_id = secrets.token_hex(16)
        self._max_pending = max_pending
        self._linger_s = linger_s
        self._close_s = close_s
        self._open_s = open_s
        self._patience_s = patience_s
        self._on_rejected = on_rejected
        self._outbox = Outbox()
        self._unnamed = count()
        self._rejected: deque[Rejection] = deque(maxlen=KEPT_REJECTIONS)
        self._counts = PublisherStats()
        self._task: asyncio.Task[None] | None = None
        self._failure: BaseException | None = None
        self._closed = False
        self._lingering = False
        # Set when there may be something to send.
        self._work = asyncio.Event()
        # Set when something was acknowledged, or the Publisher has ended.
        self._moved = asyncio.Event()
        self._moved_at = 0.0
        self.revision = ""

    async def __aenter__(self) -> Self:
        """Open the stream.

        Raises:
            Refused: it can't be opened, or not in the time of a call.
        """
        self._moved_at = self._loop.time()
        self._task = asyncio.create_task(self._run())
        try:
            # An attempt that is under way when the time is up may still succeed.
            await self._until(lambda: self._counts.connections > 0, within_s=2 * self._open_s)
        except BaseException:
            await self._end()
            raise
        if not self._counts.connections:
            failed = self._failure or failure(
                Refusal("DEADLINE_EXCEEDED", "", "the stream could not be opened in time")
            )
            await self._end()
            raise failed
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    @property
    def stats(self) -> PublisherStats:
        """The counts so far."""
        return replace(self._counts, accepted=self._outbox.accepted, pending=self._outbox.pending)

    @property
    def rejected(self) -> tuple[Rejection, ...]:
        """The newest signals that were refused."""
        return tuple(self._rejected)

    async def put(self, signal: Signal) -> None:
        """Accept a signal; waits while too many are pending.

        Raises:
            TypeError: a part of it is of another type.
            ValueError: a part of it can't be encoded, or `ts` has no time zone.
            Refused: the Publisher has ended for good; nothing more is accepted.
        """
        self._check_open()
        encoded = self._encoded(signal)
        while self._outbox.pending >= self._max_pending:
            self._moved.clear()
            await self._moved.wait()
            self._check_open()
        if self._take(encoded):
            await asyncio.sleep(0)

    async def put_all(self, signals: Iterable[Signal] | AsyncIterable[Signal]) -> None:
        """Accept signals, in order."""
        if hasattr(signals, "__aiter__"):
            async for signal in signals:
                await self.put(signal)
            return
        for signal in signals:
            if self._closed or self._failure is not None or self._outbox.pending >= self._max_pending:
                await self.put(signal)
            elif self._take(self._encoded(signal)):
                await asyncio.sleep(0)

    async def flush(self, timeout_s: float | None = None) -> None:
        """Return when everything that was put before is acknowledged.

        Raises:
            PublishIncomplete: it is not, after `timeout_s` (default: close_s) or because the Publisher has ended.
        """
        limit_s = self._close_s if timeout_s is None else timeout_s
        through = self._outbox.flush_through = self._outbox.accepted
        self._hurry()
        await self._until(lambda: self._outbox.settled >= through, within_s=limit_s)
        if self._outbox.settled < through:
            why = f"no ack within {limit_s:g} s" if self._failure is None else str(self._failure)
            raise PublishIncomplete(list(self._outbox.unacked()), why) from self._failure

    async def close(self) -> None:
        """Flush and end the stream; nothing is accepted any more.

        Raises:
            PublishIncomplete: not everything could be handed over in time.
        """
        if self._closed:
            return
        self._closed = True
        try:
            await self.flush()
            self._outbox.finishing = True
            self._work.set()
            if self._task is not None:
                await asyncio.wait([self._task], timeout=GOODBYE_S)
        finally:
            await self._end()

    def _check_open(self) -> None:
        if self._closed or self._task is None:
            message = "the Publisher is not open; put signals within `async with client.publisher(...)`"
            raise RuntimeError(message)
        if self._failure is not None:
            raise self._failure

    def _take(self, encoded: bytes) -> bool:
        """Accept an encoded signal; true when the stream should get a turn."""
        if not self._outbox.pending:
            self._moved_at = self._loop.time()
        if not self._lingering:
            self._lingering = True
            self._loop.call_later(self._linger_s, self._hurry)
        if self._outbox.put(encoded) % BREATH:
            return False
        self._work.set()
        return True

    def _encoded(self, signal: Signal) -> bytes:
        batch = pb.StreamBatch()
        message = batch.signals.add(
            source=signal.source,
            type=signal.type,
            value=signal.value,
            weight=None if signal.weight == 1.0 else signal.weight,
            signal_id=signal.signal_id or f"{self._opening.stream_id}-{next(self._unnamed):x}",
        )
        ts = message.ts
        ts.seconds, micros = divmod(time.time_ns() // 1000, MICROS) if signal.ts is None else since_epoch(signal.ts)
        ts.nanos = micros * 1000
        return batch.SerializeToString()

    def _hurry(self) -> None:
        self._lingering = False
        self._outbox.hurry()
        self._work.set()

    async def _until(self, condition: Callable[[], bool], *, within_s: float) -> None:
        """Return when the condition holds, when the Publisher has ended, or when the time is up.

        Without asyncio.timeout, which a task that is being cancelled can't rely on before Python 3.11.3.
        """
        late = asyncio.Event()
        timers = [self._loop.call_later(within_s, event.set) for event in (late, self._moved)]
        try:
            while not condition() and self._failure is None and not late.is_set():
                self._moved.clear()
                await self._moved.wait()
        finally:
            for timer in timers:
                timer.cancel()

    async def _run(self) -> None:
        try:
            await self._connect_for_ever()
        except Exception as failed:  # noqa: BLE001 - whoever puts, flushes or closes is told
            self._failure = failed
        except asyncio.CancelledError:
            self._failure = failure(Refusal("CANCELLED", "", "the client was closed before its Publisher"))
            raise
        finally:
            self._moved.set()

    async def _connect_for_ever(self) -> None:
        """One connection after the other, until everything is handed over or it is no use."""
        pause = 0.0
        while True:
            stream = SignalStream(self._outbox, self._work, self)
            call, acked = self._streams(metadata=await self._identity.metadata()), self._outbox.acked_through
            try:
                ended = await stream.run(call, self._opening)
            except grpc.aio.AioRpcError as error:
                why = failure_of(error)
            else:
                why = failure(Refusal("UNAVAILABLE", "", ended.value))
            if self._outbox.finished:
                return
            if not self._passes(why, opened=stream.opened):
                raise why
            if self.out_of_patience():
                raise self._impatient(why) from why
            # A server that opens every stream and stores nothing of it is not asked ten times a second.
            moved = self._outbox.acked_through > acked
            pause = FIRST_PAUSE_S if moved else min(max(2 * pause, FIRST_PAUSE_S), LONGEST_PAUSE_S)
            await asyncio.sleep(why.retry_after_s or pause)

    def on_opened(self) -> None:
        """The server has answered."""
        self._counts = replace(self._counts, connections=self._counts.connections + 1)
        self._moved.set()

    def on_ack(self, ack: pb.StreamAck) -> None:
        """Batches are stored."""
        refused = sum(
            self._reject(sequence, list(rejections))
            for sequence, rejections in groupby(ack.rejections, attrgetter("sequence"))
        )
        counts = self._counts
        self._counts = replace(
            counts,
            stored=counts.stored + ack.stored_count,
            duplicate=counts.duplicate + ack.duplicate_count,
            replaced=counts.replaced + ack.replaced_count,
            rejected=counts.rejected + refused,
        )
        self.revision = ack.revision.token or self.revision
        self._outbox.ack(ack.acked_through)
        self._moved_at = self._loop.time()
        self._moved.set()

    def _reject(self, sequence: int, rejections: Sequence[pb.StreamRejection]) -> int:
        """Tell of the refused signals of one batch; how many there are."""
        batch = self._outbox.batch(sequence)
        if batch is None:
            return 0
        signals = batch.signals()
        for rejection in rejections:
            told = Rejection(signals[rejection.index], refusal_of_status(rejection.error))
            self._rejected.append(told)
            if self._on_rejected is not None:
                self._on_rejected(told)
        return len(rejections)

    def _passes(self, why: Refused, *, opened: bool) -> bool:
        """The stream may be taken up again in a moment."""
        if why.code == "UNAUTHENTICATED":
            return opened and self._identity.renewable
        if why.code == "RESOURCE_EXHAUSTED":
            return why.retry_after_s is not None or why.reason in _FULL
        return why.code not in _NOT_PASSING

    def out_of_patience(self) -> bool:
        """Nothing has moved for too long."""
        waited_s = self._loop.time() - self._moved_at
        if not self._counts.connections:
            return waited_s > self._open_s
        return bool(self._outbox.pending) and waited_s > self._patience_s

    def _impatient(self, why: Refused) -> Refused:
        if not self._counts.connections:
            return why
        message = f"the server has acknowledged nothing for {self._patience_s:g} s; the last trouble was: {why}"
        return failure(Refusal("UNAVAILABLE", why.reason, message))

    async def _end(self) -> None:
        self._closed = True
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])

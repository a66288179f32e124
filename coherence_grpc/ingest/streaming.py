"""Streams of signals: credits in, cumulative acks out, and nothing of a stream that outlives it on the server."""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from math import inf
from typing import TYPE_CHECKING, Final

from coherence_grpc.errors import CoherenceError, CreditExceeded, Draining, StoreTimeout, StreamSequenceGap
from coherence_grpc.failpoints import failpoint
from coherence_grpc.ingest.pipeline import Pipeline
from coherence_grpc.ingest.streamed import Ack, Batch, Closing, ClosingReason, Credit, Opened, Tally, Throttle

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from typing import Self

    from coherence_grpc.ingest.publish import Ingest
    from coherence_grpc.ingest.streamed import Opening, Received, Sent
    from coherence_grpc.model import Appended, Caller, Head

# What a stream may have unacknowledged, and all of them together once there are many.
CREDITS: Final = 10_000
LEAST_CREDITS: Final = 1_000
ALL_CREDITS: Final = 200_000
# An Ack is due for so many signals, or so long after the first of them; the promise is 1000 and 100 ms.
ACK_SIGNALS: Final = 1000
ACK_S: Final = 0.04
TICK_S: Final = 0.04
# A stream is throttled when nothing was stored for so long, and told so again as often.
STUCK_S: Final = 1.0
# How long what was sent is kept while the store is away.
PATIENCE_S: Final = 30.0
# How long the last of it has when the server ends the stream, and a consumer that takes no frame to hear why.
FINISH_S: Final = 5.0
HEAR_S: Final = 1.0


class SignalStream:
    """One stream: an async iterator over what is sent, fed with what comes; leave it as a context manager.

    Opened comes first and Closing last. A batch is acknowledged after its commit and after all before it. Whatever the
    stream ends with, metadata `acked_through` says up to where an Ack was handed over: from there it can be resumed.

    Raises, when the next frame is asked for:
        StreamSequenceGap: a batch does not follow the one before.
        CreditExceeded: more was sent than there were credits for.
        RequestIdReused: a batch of that sequence was stored with other content.
        StorageFull, StoreDown, StoreTimeout: the store was away for longer than patience lasts.
        Draining: the server ends, and the store or the consumer took too long.
    """

    def __init__(
        self,
        streams: Streams,
        opening: Opening,
        incoming: AsyncIterator[Received],
        caller: Caller,
        *,
        credits: int,  # noqa: A002 - the contract's word
        max_age_s: float,
        on_stuck: Callable[[CoherenceError], None],
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._streams = streams
        self._incoming = incoming
        self._caller = caller
        self._max_age_s = max_age_s
        self._on_stuck = on_stuck
        self._pipeline = Pipeline(streams.ingest, self)
        self._next_sequence = opening.acked_through + 1
        self._acked = self._heard = opening.acked_through
        self._credits = credits
        self._unacked = 0
        self._tallies: deque[Tally] = deque()
        self._head: Head | None = None
        self._flush_through: int | None = None
        self._throttled_at = -inf
        self._notices: deque[Sent] = deque([Opened(opening.acked_through, credits)])
        self._closing: ClosingReason | None = None
        self._error: Exception | None = None
        self._busy = self._over = False
        self._waiter: asyncio.Future[None] | None = None
        self._reading: asyncio.Task[None] | None = None
        self._ticking: asyncio.TimerHandle | None = None
        self._timers: list[asyncio.TimerHandle] = []

    @property
    def credits(self) -> int:
        """How many signals may be unacknowledged."""
        return self._credits

    async def __aenter__(self) -> Self:
        self._reading = asyncio.create_task(self._read(), name="signal-stream")
        self._timers.append(self._loop.call_later(self._max_age_s, self.close, ClosingReason.MAX_AGE))
        return self

    async def __aexit__(self, *_: object) -> None:
        self._over = True
        self._streams.left(self)
        self._pipeline.stop()
        for timer in (*self._timers, self._ticking):
            if timer is not None:
                timer.cancel()
        if self._reading is not None:
            self._reading.cancel()
            await asyncio.wait((self._reading,))
        # What it held goes with it, and not when the collector comes by some day.
        self._tallies.clear()
        self._notices.clear()
        self._error = self._reading = None

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Sent:
        # Asking for more says that the frame before was taken.
        self._busy, self._heard = False, self._acked
        while not self._over:
            try:
                frame = self._frame()
            except CoherenceError as error:
                self._say_where(error)
                raise
            if frame is not None:
                self._busy = True
                return frame
            self._waiter = self._loop.create_future()
            try:
                await self._waiter
            finally:
                self._waiter = None
        raise StopAsyncIteration

    def close(self, reason: ClosingReason) -> None:
        """End the stream once what has come is acknowledged; nothing that comes from now on is stored."""
        if self._closing is None:
            self._closing = reason
        if reason is not ClosingReason.COMPLETE:
            message = "the server ends the stream, and not all of it could be acknowledged in time; open it again"
            error = Draining(message, retry_after_s=0.1)
            self._timers.append(self._loop.call_later(FINISH_S, self._fail, error))
        self._rouse()

    def raise_credits(self, most: int) -> None:
        """More signals may be unacknowledged from now on."""
        self._credits = most
        self._notices.append(Credit(most))
        self._rouse()

    # What comes.

    async def _read(self) -> None:
        try:
            async for frame in self._incoming:
                if self._closing is not None or self._error is not None:
                    return
                if isinstance(frame, Batch):
                    self._accept(frame)
                else:
                    self._flush_through = self._next_sequence - 1
                    self._rouse()
            self.close(ClosingReason.COMPLETE)
        except Exception as error:  # noqa: BLE001 - whatever ends the reading ends the stream
            self._fail(error)

    def _accept(self, batch: Batch) -> None:
        publication = batch.publication
        if batch.sequence != self._next_sequence:
            raise _gap(batch.sequence, self._next_sequence)
        size = len(publication.drafts) + len(publication.refused)
        if self._unacked + size > self._credits:
            raise _exceeded(self._unacked + size, self._credits)
        self._next_sequence += 1
        self._unacked += size
        self._pipeline.put(batch.sequence, self._streams.ingest.admitted(publication, self._caller))
        self._streams.counts["batches"] += 1
        self._streams.counts["signals"] += size
        if self._ticking is None:
            self._ticking = self._loop.call_later(TICK_S, self._tick)

    # What becomes of it.

    def stored(self, sequence: int, appended: Appended) -> None:
        """A batch is stored, and so are all before it."""
        if not self._tallies or self._tallies[-1].full:
            self._tallies.append(Tally(self._loop.time()))
        self._tallies[-1].add(sequence, appended)

    def settled(self) -> None:
        """An Ack may be due."""
        if self._waiter is not None and self._tallies and self._due(self._tallies[0]):
            self._rouse()

    def delayed(self, error: CoherenceError) -> None:
        """The store is away."""
        self._throttle(error.message)

    def failed(self, error: Exception) -> None:
        """A batch can't be stored."""
        self._fail(error)

    def _tick(self) -> None:
        self._ticking = None
        if self._pipeline.idle and not self._tallies:
            return
        self._ticking = self._loop.call_later(TICK_S, self._tick)
        self._pipeline.push()
        stuck_s = self._pipeline.stuck_s()
        if stuck_s >= self._streams.patience_s:
            message = f"nothing could be stored for {stuck_s:.0f} s; open the stream again in a moment"
            self._fail(self._pipeline.trouble or StoreTimeout(message))
        elif stuck_s >= STUCK_S:
            self._throttle("the store takes long; what was sent will be stored")
        self.settled()

    def _throttle(self, reason: str) -> None:
        now = self._loop.time()
        if now - self._throttled_at >= STUCK_S:
            self._throttled_at = now
            self._streams.counts["throttles"] += 1
            self._notices.append(Throttle(STUCK_S, reason))
            self._rouse()

    def _fail(self, error: Exception) -> None:
        if self._error is None and not self._over:
            self._error = error
            self._pipeline.stop()
            self._timers.append(self._loop.call_later(HEAR_S, self._cut, error))
            self._rouse()

    def _cut(self, error: Exception) -> None:
        """A consumer that is stuck in handing over a frame does not hear the iterator."""
        if self._busy:
            told = error if isinstance(error, CoherenceError) else CoherenceError("the stream broke")
            self._say_where(told)
            self._on_stuck(told)
        elif not self._over:
            self._timers.append(self._loop.call_later(HEAR_S, self._cut, error))

    # What goes.

    def _frame(self) -> Sent | None:
        """What is to be sent now."""
        if self._notices:
            return self._notices.popleft()
        if self._tallies and self._due(self._tallies[0]):
            return self._ack(self._tallies.popleft())
        if self._error is not None:
            raise self._error
        if self._flush_through is not None and self._flush_through <= self._acked:
            self._flush_through = None
            return Ack(self._acked, 0, 0, 0, (), self._head)
        if self._closing is not None and self._pipeline.idle:
            self._over = True
            return Closing(self._acked, self._closing)
        return None

    def _due(self, tally: Tally) -> bool:
        return (
            self._pipeline.idle
            or tally.signals >= ACK_SIGNALS
            or tally.full
            or (self._flush_through is not None and tally.through >= self._flush_through)
            or self._error is not None
            or self._loop.time() - tally.since >= ACK_S
        )

    def _ack(self, tally: Tally) -> Ack:
        failpoint("ack.before")
        if self._flush_through is not None and tally.through >= self._flush_through:
            self._flush_through = None
        self._acked, self._head = tally.through, tally.head
        # The client may see the Ack, and send more, before the write of it is known to be done.
        self._unacked -= tally.signals
        self._streams.counts["acks"] += 1
        return tally.ack()

    def _say_where(self, error: CoherenceError) -> None:
        """From there the stream can be resumed."""
        error.metadata["acked_through"] = str(self._heard)

    def _rouse(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)


class Streams:
    """Opens streams of signals, shares the credits out among them, and ends them when the server does."""

    def __init__(self, ingest: Ingest, *, patience_s: float = PATIENCE_S) -> None:
        self.ingest = ingest
        self.patience_s = patience_s
        self.counts: Counter[str] = Counter()
        self._open: set[SignalStream] = set()
        self._draining = False

    @property
    def open_streams(self) -> int:
        """How many there are."""
        return len(self._open)

    def open(
        self,
        opening: Opening,
        incoming: AsyncIterator[Received],
        caller: Caller,
        *,
        max_age_s: float,
        on_stuck: Callable[[CoherenceError], None],
    ) -> SignalStream:
        """A stream that stores what comes; enter it.

        `on_stuck` is called with what the stream ends with when its consumer takes no frame and so doesn't hear of it.

        Raises:
            Draining: the server is shutting down.
        """
        if self._draining:
            message = "the server is shutting down; open the stream elsewhere, or in a moment"
            raise Draining(message)
        stream = SignalStream(
            self,
            opening,
            incoming,
            caller,
            credits=self._share(len(self._open) + 1),
            max_age_s=max_age_s,
            on_stuck=on_stuck,
        )
        self._open.add(stream)
        self.counts["opened"] += 1
        return stream

    def left(self, stream: SignalStream) -> None:
        """The stream is over; what it could have used goes to those that have little."""
        self._open.discard(stream)
        share = self._share(len(self._open))
        # A little more each time would be a frame to every stream for each that goes.
        for other in self._open if share >= 2 * LEAST_CREDITS else ():
            if 2 * other.credits <= share:
                other.raise_credits(share)

    def drain(self) -> None:
        """End every stream with Closing(DRAINING), and refuse new ones."""
        self._draining = True
        for stream in tuple(self._open):
            stream.close(ClosingReason.DRAINING)

    @staticmethod
    def _share(streams: int) -> int:
        return max(LEAST_CREDITS, min(CREDITS, ALL_CREDITS // max(1, streams)))


def _gap(sequence: int, expected: int) -> StreamSequenceGap:
    message = (
        f"batch.sequence is {sequence}, and {expected} was to come; open the stream again with the acked_through of the"
        " last Ack and send what comes after it"
    )
    return StreamSequenceGap(message, metadata={"expected": str(expected)})


def _exceeded(unacked: int, most: int) -> CreditExceeded:
    message = (
        f"{unacked} signals would be unacknowledged, and at most {most} may be; open the stream again, and wait for"
        " Acks before sending on"
    )
    return CreditExceeded(message, metadata={"credits": str(most)})

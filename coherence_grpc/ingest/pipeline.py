"""The batches of one stream on their way into the log: in their order, however often the store goes away meanwhile."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING, Final, Protocol

from coherence_grpc.errors import CoherenceError, Concurrency, StoreDown, StoreTimeout
from coherence_grpc.ingest.committer import Line

if TYPE_CHECKING:
    from coherence_grpc.ingest.publish import Ingest
    from coherence_grpc.model import Appended, Write

# Twice what a commit takes, so that the next group is complete when the one before is stored.
HANDED_ROWS: Final = 4000
# A batch is work too, however few signals it has.
BATCH_ROWS: Final = 3
# What is worth another try: the same batch under the same request id is never stored twice.
PASSING: Final = (StoreDown, StoreTimeout, Concurrency)
_FIRST_RETRY_S: Final = 0.05
_LAST_RETRY_S: Final = 1.0


class Progress(Protocol):
    """Who wants to know what becomes of the batches."""

    def stored(self, sequence: int, appended: Appended) -> None:
        """A batch is stored, and so are all before it."""

    def settled(self) -> None:
        """Nothing more has become of any batch for now."""

    def delayed(self, error: CoherenceError) -> None:
        """Nothing can be stored at the moment; it is tried again."""

    def failed(self, error: Exception) -> None:
        """A batch can't be stored, so none behind it is."""


class _Batch:
    """A batch that is not stored yet; `future` once it is handed in."""

    __slots__ = ("future", "rows", "sequence", "write")

    def __init__(self, sequence: int, write: Write) -> None:
        self.sequence = sequence
        self.write = write
        self.rows = len(write.items) + BATCH_ROWS
        self.future: asyncio.Future[Appended] | None = None


class Pipeline:
    """Hands batches to the committer without waiting for one another, few enough to leave room to other callers.

    After a passing failure it hands in again all that is not stored, from the first one on.
    """

    def __init__(self, ingest: Ingest, progress: Progress) -> None:
        self._ingest = ingest
        self._progress = progress
        self._loop = asyncio.get_running_loop()
        self._line = Line()
        self._handed: deque[_Batch] = deque()
        self._waiting: deque[_Batch] = deque()
        self._rows = 0
        self._undone = 0
        self._trouble: CoherenceError | None = None
        self._retry_s = _FIRST_RETRY_S
        self._retry: asyncio.TimerHandle | None = None
        self._moved_at = self._loop.time()
        self._stopped = False

    @property
    def idle(self) -> bool:
        """Everything is stored."""
        return not self._handed and not self._waiting

    @property
    def trouble(self) -> CoherenceError | None:
        """Why nothing can be stored at the moment."""
        return self._trouble

    def stuck_s(self) -> float:
        """For how long something has been under way and nothing was stored."""
        return 0.0 if self.idle else self._loop.time() - self._moved_at

    def put(self, sequence: int, write: Write) -> None:
        """Stores the batch once all before it are."""
        if self.idle:
            self._moved_at = self._loop.time()
        self._waiting.append(_Batch(sequence, write))
        self.push()

    def push(self) -> None:
        """Hands in what there is room for; to be called now and then while others have taken all the room."""
        while self._waiting and self._trouble is None and self._rows < HANDED_ROWS and not self._stopped:
            batch = self._waiting[0]
            if self._ingest.room < batch.rows:
                return
            try:
                batch.future = self._ingest.submit(batch.write, self._line)
            except CoherenceError as error:
                self._fail(error)
                return
            self._handed.append(self._waiting.popleft())
            self._rows += batch.rows
            self._undone += 1
            batch.future.add_done_callback(self._done)

    def stop(self) -> None:
        """Lets go of what is not stored: what no commit has begun on is not."""
        self._stopped = True
        if self._retry is not None:
            self._retry.cancel()
        for batch in self._handed:
            if batch.future is not None:
                batch.future.cancel()
        self._handed.clear()
        self._waiting.clear()

    def _done(self, future: asyncio.Future[Appended]) -> None:
        self._undone -= 1
        if not future.cancelled():
            # That of the first is what counts, and asyncio would complain of the others.
            future.exception()
        if self._stopped:
            return
        handed = self._handed
        while handed and handed[0].future is not None and handed[0].future.done() and self._trouble is None:
            error = handed[0].future.exception()
            if error is not None:
                self._fail(error)
                break
            batch, appended = handed[0], handed[0].future.result()
            handed.popleft()
            self._rows -= batch.rows
            self._progress.stored(batch.sequence, appended)
            self._moved_at, self._retry_s = self._loop.time(), _FIRST_RETRY_S
        if self._trouble is not None and not self._undone:
            self._take_back()
        self.push()
        self._progress.settled()

    def _fail(self, error: BaseException) -> None:
        if not isinstance(error, PASSING):
            self._progress.failed(error if isinstance(error, Exception) else RuntimeError(error))
            return
        # Nothing more is handed in until all that is under way has failed as well.
        self._trouble = error
        self._progress.delayed(error)
        if not self._undone:
            self._take_back()

    def _take_back(self) -> None:
        if self._retry is not None:
            return
        self._waiting.extendleft(reversed(self._handed))
        self._handed.clear()
        self._rows = 0
        self._retry = self._loop.call_later(self._retry_s, self._again)
        self._retry_s = min(2 * self._retry_s, _LAST_RETRY_S)

    def _again(self) -> None:
        self._trouble, self._retry, self._line = None, None, Line()
        self.push()

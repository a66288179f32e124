"""Group commit: what arrives while a commit is in flight goes into the next one."""

from __future__ import annotations

import asyncio
import copy
import logging
from collections import deque
from math import inf
from typing import TYPE_CHECKING, Final, Self

from coherence_grpc.errors import CoherenceError, Concurrency, Draining, OutcomeUnknown, StoreDown, StoreTimeout
from coherence_grpc.failpoints import failpoint
from coherence_grpc.model import Appended

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from coherence_grpc.model import Write
    from coherence_grpc.ports import Clock, SignalStore

# Inserting a row blocks the event loop for some 3 µs, and what a write needs besides for 30, so a group stays short.
GROUP_ROWS: Final = 2000
GROUP_WRITES: Final = 500
# About a third of a second's work: who waits behind more than that had better come back.
BACKLOG_ROWS: Final = 20_000
RETRY_AFTER_S: Final = 0.25

_log = logging.getLogger(__name__)


class Line:
    """Writes of one source whose order counts: once one of them has failed, none of those behind it is stored.

    They fail with the same error, `broken_by`, and can be handed in again in a new line.
    """

    __slots__ = ("broken_by",)

    def __init__(self) -> None:
        self.broken_by: Exception | None = None


class _Pending:
    """A write that waits for its commit, and the future of its caller."""

    __slots__ = ("deadline", "future", "line", "rows", "started", "timer", "write")

    def __init__(
        self, write: Write, future: asyncio.Future[Appended], deadline: float, line: Line | None = None
    ) -> None:
        self.write = write
        self.future = future
        self.deadline = deadline
        self.line = line
        self.rows = len(write.items) or 1
        self.started = False
        self.timer: asyncio.TimerHandle | None = None

    def expire(self) -> None:
        """The caller's time is up: before the commit nothing is stored, during it nobody knows yet."""
        if self.started:
            self.fail(_outcome_unknown("the commit took longer than the call had time for"))
        else:
            self.fail(StoreTimeout("the call's time was up before its commit began; nothing was stored, retry"))

    def given_up(self) -> bool:
        """Nobody waits for it any more, or it would overtake one of its line that failed."""
        if self.line is not None and self.line.broken_by is not None:
            self.fail(self.line.broken_by)
        return self.future.done()

    def settle(self, appended: Appended) -> None:
        if not self.future.done():
            self.future.set_result(appended)

    def fail(self, error: Exception) -> None:
        if self.line is not None and self.line.broken_by is None:
            self.line.broken_by = error
        if self.future.done():
            return
        if isinstance(error, CoherenceError):
            # Callers raise it concurrently: one object would collect all their tracebacks.
            own = copy.copy(error)
            own.__cause__ = error
            error = own
        self.future.set_exception(error)


class Committer:
    """Commits writes in groups, in order of arrival; an async context manager that drains when it closes.

    It owns the commit: a caller that goes away or runs out of time leaves the others' commit alone. `on_commit` is
    called with what each write stored, before any of its callers is answered.
    """

    def __init__(self, signals: SignalStore, clock: Clock, on_commit: Sequence[Callable[[Appended], None]]) -> None:
        self._signals = signals
        self._clock = clock
        self._on_commit = tuple(on_commit)
        self._queue: deque[_Pending] = deque()
        self._rows = 0
        self._wake: asyncio.Future[None] | None = None
        self._closing = False
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        self._task = asyncio.create_task(self._run(), name="group-commit")
        return self

    async def __aexit__(self, *_: object) -> None:
        self._closing = True
        self._rouse()
        if self._task is not None:
            # Cancelling who closes must not cancel the commit that others wait for.
            await asyncio.shield(self._task)

    async def commit(self, write: Write, *, timeout_s: float) -> Appended:
        """What became of the write, after its commit.

        Raises:
            Draining: the committer is closing.
            Concurrency: too much is waiting already.
            StoreTimeout: the time was up before the commit began; nothing is stored.
            OutcomeUnknown: the time was up, or the store lost, while the commit was under way.
        """
        loop = asyncio.get_running_loop()
        pending = self._enqueue(write, loop.time() + timeout_s)
        pending.timer = loop.call_at(pending.deadline, pending.expire)
        try:
            return await pending.future
        finally:
            pending.timer.cancel()

    @property
    def room(self) -> int:
        """How many signals may join those that wait, of who can wait as well: half of it is left to the others."""
        return BACKLOG_ROWS // 2 - self._rows

    def submit(self, write: Write, line: Line) -> asyncio.Future[Appended]:
        """What will have become of the write, after those of its line; how long that may take is the caller's to say.

        Raises:
            Draining, Concurrency: as `commit`; so do the writes behind it in the line.
        """
        try:
            return self._enqueue(write, inf, line).future
        except CoherenceError as error:
            line.broken_by = line.broken_by or error
            raise

    def _enqueue(self, write: Write, deadline: float, line: Line | None = None) -> _Pending:
        rows = len(write.items) or 1
        if self._closing:
            message = "the server is shutting down; nothing was stored, retry"
            raise Draining(message, retry_after_s=1)
        if self._rows and self._rows + rows > BACKLOG_ROWS:
            message = f"{self._rows} signals are waiting to be stored already; nothing of this call was stored, retry"
            raise Concurrency(message, retry_after_s=RETRY_AFTER_S)
        pending = _Pending(write, asyncio.get_running_loop().create_future(), deadline, line)
        self._queue.append(pending)
        self._rows += rows
        self._rouse()
        return pending

    def _rouse(self) -> None:
        if self._wake is not None and not self._wake.done():
            self._wake.set_result(None)

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        while self._queue or not self._closing:
            if not self._queue:
                self._wake = loop.create_future()
                await self._wake
                continue
            group = self._take(loop.time())
            if group:
                await self._commit(group)

    def _take(self, now: float) -> list[_Pending]:
        group: list[_Pending] = []
        rows = 0
        while self._queue and (not group or (rows + self._queue[0].rows <= GROUP_ROWS and len(group) < GROUP_WRITES)):
            pending = self._queue.popleft()
            self._rows -= pending.rows
            if pending.deadline <= now:
                pending.expire()
            if not pending.given_up():
                pending.started = True
                rows += pending.rows
                group.append(pending)
        return group

    async def _commit(self, group: list[_Pending]) -> None:
        try:
            failpoint("append.before")
            answers = await self._signals.append([pending.write for pending in group], now=self._clock.now())
            failpoint("append.after")
        except (StoreDown, StoreTimeout) as error:
            _refuse(group, error)
        except Exception as error:  # noqa: BLE001 - whatever one request's data sets off must not stop the committer
            if len(group) == 1:
                _refuse(group, error)
                return
            # One request's data must not fail the others, and the store can't say whose it was.
            for pending in group:
                if not pending.given_up():
                    await self._commit([pending])
        else:
            self._settle(group, answers)

    def _settle(self, group: list[_Pending], answers: Sequence[Appended | CoherenceError]) -> None:
        for answer in answers:
            if isinstance(answer, Appended) and answer.stored:
                self._announce(answer)
        for pending, answer in zip(group, answers, strict=True):
            if isinstance(answer, Appended):
                pending.settle(answer)
            else:
                pending.fail(answer)

    def _announce(self, appended: Appended) -> None:
        for notify in self._on_commit:
            try:
                notify(appended)
            except Exception:  # noqa: BLE001 - logged; the commit stands and its callers must hear of it
                # It is committed: whoever follows the log catches up from the store.
                _log.exception("following tenant %s failed at entry %d", appended.write.tenant_id, appended.first_seq)


def _refuse(group: Sequence[_Pending], error: Exception) -> None:
    if isinstance(error, OutcomeUnknown):
        error.metadata.setdefault("outcome", "unknown")
    for pending in group:
        pending.fail(error)


def _outcome_unknown(message: str) -> OutcomeUnknown:
    message = f"{message}; send the same request again to learn what became of it"
    return OutcomeUnknown(message, metadata={"outcome": "unknown"})

"""Work that goes on without the caller that began it: a commit above all."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, TypeVar

from coherence_grpc.deadline import unhurried

if TYPE_CHECKING:
    from collections.abc import Coroutine

T = TypeVar("T")


class Owner:
    """Holds the tasks of a store until they are done."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[Any]] = set()

    async def owned(self, work: Coroutine[Any, Any, T]) -> T:
        """The work's result; when the caller is cancelled the work goes on."""
        return await asyncio.shield(self._task(work))

    def spawn(self, work: Coroutine[Any, Any, None]) -> None:
        """Begins work that nobody waits for but `settle`."""
        self._task(work)  # type: ignore[unused-awaitable] # kept among the tasks

    async def settle(self) -> None:
        """Returns when all that was begun is done, and what that began in turn."""
        while self._tasks:
            await asyncio.wait(self._tasks)

    def _task(self, work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        task = asyncio.create_task(work, context=unhurried())
        self._tasks.add(task)
        task.add_done_callback(self._forget)
        return task

    def _forget(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled():
            # Nobody may be left to ask for it, and asyncio would complain.
            task.exception()

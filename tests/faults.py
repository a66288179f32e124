"""What stands between a use case and a real store, to hold it up or make it fail; and grants instead of a policy."""

from __future__ import annotations

import asyncio
import inspect
from collections import Counter
from time import monotonic
from typing import TYPE_CHECKING, Any, TypeVar, cast

import pytest

from coherence_grpc.errors import CoherenceError, PolicyDenied, ScopeMissing

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Collection, Sequence

    from coherence_grpc.model import Appended, Caller, Score, Write
    from coherence_grpc.ports import ScoreStore, SignalStore

T = TypeVar("T")


class Interposed:
    """Lets every call through to a store, but for what a test puts in the way.

    `hold` keeps calls of a method waiting before they reach the store, `hold_answers` before they return, until
    `release`. `calls` counts the calls of each method, `answers` what the store has answered; `failures` are raised in
    place of a method's answer while they are there.
    """

    def __init__(self, store: Any) -> None:  # noqa: ANN401 - any store
        self._store = store
        self._before: dict[str, asyncio.Event] = {}
        self._after: dict[str, asyncio.Event] = {}
        self.calls: Counter[str] = Counter()
        self.answers: Counter[str] = Counter()
        self.failures: dict[str, Exception] = {}

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401 - whatever the store has
        method = getattr(self._store, name)
        if not inspect.iscoroutinefunction(method):
            return method

        async def call(*args: Any, **kwargs: Any) -> Any:  # noqa: ANN401 - passed on as they are
            return await self._through(name, lambda: method(*args, **kwargs))

        return call

    async def _through(self, name: str, ask: Callable[[], Awaitable[T]]) -> T:
        self.calls[name] += 1
        if name in self._before:
            await self._before[name].wait()
        answer = await ask()
        if name in self.failures:
            raise self.failures[name]
        self.answers[name] += 1
        if name in self._after:
            await self._after[name].wait()
        return answer

    def hold(self, name: str) -> None:
        self._before[name] = asyncio.Event()

    def hold_answers(self, name: str) -> None:
        self._after[name] = asyncio.Event()

    def release(self) -> None:
        for gate in (*self._before.values(), *self._after.values()):
            gate.set()
        self._before.clear()
        self._after.clear()


class InterposedSignals(Interposed):
    """`before` and `after` may raise around an append; `groups` are the sizes of what was appended."""

    def __init__(self, store: SignalStore) -> None:
        super().__init__(store)
        self.groups: list[int] = []
        self.before: Callable[[Sequence[Write]], None] = lambda _: None
        self.after: Callable[[Sequence[Write]], None] = lambda _: None
        self.port = cast("SignalStore", self)
        self._append = store.append

    async def append(self, writes: Sequence[Write], *, now: int) -> Sequence[Appended | CoherenceError]:
        self.groups.append(len(writes))

        async def answering() -> Sequence[Appended | CoherenceError]:
            self.before(writes)
            answers = await self._append(writes, now=now)
            self.after(writes)
            return answers

        return await self._through("append", answering)


class InterposedScores(Interposed):
    """`before` and `after` may raise around a publication; `published` is what was tried."""

    def __init__(self, store: ScoreStore) -> None:
        super().__init__(store)
        self.published: list[Score] = []
        self.before: Callable[[Sequence[Score]], None] = lambda _: None
        self.after: Callable[[Sequence[Score]], None] = lambda _: None
        self.port = cast("ScoreStore", self)
        self._publish = store.publish

    async def publish(self, scores: Sequence[Score]) -> Sequence[bool]:
        async def answering() -> Sequence[bool]:
            self.before(scores)
            self.published += scores
            won = await self._publish(scores)
            self.after(scores)
            return won

        return await self._through("publish", answering)


class Grants:
    """An Authoriser that believes what the caller carries."""

    async def decide(self, caller: Caller, scope: str, tenant_id: str | None) -> None:
        if scope not in caller.scopes:
            message = f"the caller lacks {scope}"
            raise ScopeMissing(message)
        if tenant_id is not None and caller.tenants is not None and tenant_id not in caller.tenants:
            message = f"the caller may not use tenant {tenant_id!r}"
            raise PolicyDenied(message)

    async def visible_tenants(self, caller: Caller) -> frozenset[str] | None:
        return caller.tenants


async def until(condition: Callable[[], bool], *, timeout_s: float = 10) -> None:
    """Return when the condition holds."""
    async with asyncio.timeout(timeout_s):
        while not condition():  # noqa: ASYNC110 - what a test looks at has no event to wait for
            await asyncio.sleep(0.001)


async def eventually(probe: Callable[[], Awaitable[T]], done: Callable[[T], bool], *, timeout_s: float = 10) -> T:
    """What the probe finds, as soon as it is what is waited for."""
    async with asyncio.timeout(timeout_s):
        while not done(found := await probe()):  # noqa: ASYNC110 - as above
            await asyncio.sleep(0.002)
    return found


async def refusal(call: Awaitable[object]) -> tuple[CoherenceError, float]:
    """What the call says when it fails, and after how long."""
    started = monotonic()
    with pytest.raises(CoherenceError) as refused:
        await call
    return refused.value, monotonic() - started


async def tasks_end(before: Collection[asyncio.Task[object]], *, within_s: float = 30) -> None:
    """Return when every task that began since is over; an AssertionError names those that go on.

    A gRPC server of the process waits for its next call in one task after the other: those are not looked at.
    """
    loop = asyncio.get_running_loop()
    until_s = loop.time() + within_s
    while going_on := {task for task in asyncio.all_tasks() - set(before) if "AioServer." not in repr(task)}:
        assert loop.time() < until_s, f"these go on: {sorted(map(repr, going_on))}"
        await asyncio.sleep(0.002)

"""What stands between a use case and a real store, to hold it up or make it fail; and grants instead of a policy."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, cast

from coherence_grpc.errors import PolicyDenied, ScopeMissing

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from coherence_grpc.errors import CoherenceError
    from coherence_grpc.model import Appended, Caller, Score, Write
    from coherence_grpc.ports import ScoreStore, SignalStore


class InterposedSignals:
    """Lets every call through to the store; `append` waits while it is held, and `refuse` may raise in its place."""

    def __init__(self, store: SignalStore) -> None:
        self._store = store
        self._open = asyncio.Event()
        self._open.set()
        self.groups: list[int] = []
        self.before: Callable[[Sequence[Write]], None] = lambda _: None
        self.after: Callable[[Sequence[Write]], None] = lambda _: None

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401 - whatever the store has
        return getattr(self._store, name)

    @property
    def port(self) -> SignalStore:
        return cast("SignalStore", self)

    def hold(self) -> None:
        self._open.clear()

    def release(self) -> None:
        self._open.set()

    async def append(self, writes: Sequence[Write], *, now: int) -> Sequence[Appended | CoherenceError]:
        self.groups.append(len(writes))
        await self._open.wait()
        self.before(writes)
        answers = await self._store.append(writes, now=now)
        self.after(writes)
        return answers


class InterposedScores:
    """Lets every call through to the store; `before` and `after` may raise around a publication."""

    def __init__(self, store: ScoreStore) -> None:
        self._store = store
        self.published: list[Score] = []
        self.before: Callable[[Sequence[Score]], None] = lambda _: None
        self.after: Callable[[Sequence[Score]], None] = lambda _: None

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401 - whatever the store has
        return getattr(self._store, name)

    @property
    def port(self) -> ScoreStore:
        return cast("ScoreStore", self)

    async def publish(self, scores: Sequence[Score]) -> Sequence[bool]:
        self.before(scores)
        won = await self._store.publish(scores)
        self.published += scores
        self.after(scores)
        return won


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

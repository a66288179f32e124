"""The client for code without an event loop: the same methods, on a loop in a thread of its own."""

from __future__ import annotations

import asyncio
import threading
from contextlib import contextmanager, suppress
from functools import wraps
from typing import TYPE_CHECKING, Concatenate, Generic, ParamSpec, TypeVar

from coherence_grpc.client.client import Client
from coherence_grpc.client.connection import PATIENCE_S, connect
from coherence_grpc.client.model import Event, Gap
from coherence_grpc.client.policy import UNARY_TIMEOUT_S

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Coroutine, Iterable, Iterator, Sequence
    from typing import Any, Self

    from coherence_grpc.client.credentials import TLS, Token
    from coherence_grpc.client.events import EventStream, Place
    from coherence_grpc.client.following import OnLost
    from coherence_grpc.client.model import EventKind, Signal, Status, Tags
    from coherence_grpc.client.publisher import Publisher, PublisherStats, Rejection

_Params = ParamSpec("_Params")
_Value = TypeVar("_Value")


class Loop:
    """An event loop in a thread; `run` waits for what it is given."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="coherence client", daemon=True)
        self._thread.start()

    def run(self, work: Coroutine[Any, Any, _Value]) -> _Value:
        """What the work returns or raises; who is interrupted while waiting has it cancelled."""
        future = asyncio.run_coroutine_threadsafe(work, self._loop)
        try:
            return future.result()
        except BaseException:
            future.cancel()
            raise

    def close(self) -> None:
        """End it, with what still runs on it."""
        with suppress(RuntimeError):
            self.run(_end_all())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


class Iteration(Generic[_Value]):
    """Iterates over what comes asynchronously; `close` ends it early."""

    def __init__(self, loop: Loop, items: AsyncGenerator[_Value, None] | EventStream) -> None:
        self._loop = loop
        self._items: Any = items

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> _Value:
        try:
            item: _Value = self._loop.run(self._next())
        except StopAsyncIteration:
            raise StopIteration from None
        return item

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Let go of what the iteration holds."""
        self._loop.run(self._items.aclose())

    async def _next(self) -> _Value:
        item: _Value = await anext(self._items)
        return item


class EventIteration(Iteration[Event | Gap]):
    """Iterates over events and gaps; `cursor` is the position reached."""

    @property
    def cursor(self) -> str:
        """Where to go on from, in another process too; '' before the first answer."""
        return str(self._items.cursor)


def _waiting(
    method: Callable[Concatenate[Client, _Params], Coroutine[Any, Any, _Value]],
) -> Callable[Concatenate[SyncClient, _Params], _Value]:
    @wraps(method)
    def wait(self: SyncClient, /, *args: _Params.args, **kwargs: _Params.kwargs) -> _Value:
        return self._loop.run(method(self._client, *args, **kwargs))

    return wait


def _iterating(
    method: Callable[Concatenate[Client, _Params], AsyncGenerator[_Value, None]],
) -> Callable[Concatenate[SyncClient, _Params], Iteration[_Value]]:
    @wraps(method)
    def iterate(self: SyncClient, /, *args: _Params.args, **kwargs: _Params.kwargs) -> Iteration[_Value]:
        return Iteration(self._loop, method(self._client, *args, **kwargs))

    return iterate


class SyncClient:
    """A Client whose methods wait and whose iterators are plain ones. It may be used from several threads."""

    def __init__(self, loop: Loop, client: Client) -> None:
        self._loop = loop
        self._client = client

    publish = _waiting(Client.publish)
    publish_all = _waiting(Client.publish_all)
    get_score = _waiting(Client.get_score)
    list_scores = _iterating(Client.list_scores)
    list_signals = _iterating(Client.list_signals)
    explain = _waiting(Client.explain)
    history = _waiting(Client.history)
    simulate = _waiting(Client.simulate)
    get_policy = _waiting(Client.get_policy)
    update_policy = _waiting(Client.update_policy)
    recompute = _waiting(Client.recompute)
    watch = _iterating(Client.watch)

    def events(
        self,
        tenant_id: str,
        *,
        after: str | None = None,
        start: Place = "latest",
        kinds: Sequence[EventKind] = (),
        sources: Sequence[str] = (),
        types: Sequence[str] = (),
        min_value: float | None = None,
        max_value: float | None = None,
        statuses: Sequence[Status] = (),
        on_lost: OnLost | None = None,
    ) -> EventIteration:
        """A tenant's events after a cursor, or from `start` on; see Events."""
        stream = self._client.events(
            tenant_id,
            after=after,
            start=start,
            kinds=kinds,
            sources=sources,
            types=types,
            min_value=min_value,
            max_value=max_value,
            statuses=statuses,
            on_lost=on_lost,
        )
        return EventIteration(self._loop, stream)

    @contextmanager
    def publisher(
        self,
        tenant_id: str,
        *,
        max_pending: int = 10_000,
        linger_s: float = 0.005,
        close_s: float = 30.0,
        replace: bool = False,
        tags: Tags | None = None,
        backfill: bool = False,
        on_rejected: Callable[[Rejection], None] | None = None,
    ) -> Iterator[SyncPublisher]:
        """Stores signals of one tenant as they come; see Publisher. `on_rejected` is called in the client's thread."""
        options: dict[str, Any] = {"max_pending": max_pending, "linger_s": linger_s, "close_s": close_s}
        options |= {"replace": replace, "tags": tags, "backfill": backfill, "on_rejected": on_rejected}
        publisher = self._loop.run(self._opened(tenant_id, options))
        try:
            yield SyncPublisher(self._loop, publisher)
        finally:
            self._loop.run(publisher.close())

    async def _opened(self, tenant_id: str, options: dict[str, Any]) -> Publisher:
        return await self._client.publisher(tenant_id, **options).__aenter__()


class SyncPublisher:
    """A Publisher whose methods wait; for many signals at once `put_all` is many times faster than `put`."""

    def __init__(self, loop: Loop, publisher: Publisher) -> None:
        self._loop = loop
        self._publisher = publisher

    @property
    def stats(self) -> PublisherStats:
        """The counts so far."""
        return self._publisher.stats

    @property
    def rejected(self) -> tuple[Rejection, ...]:
        """The newest signals that were refused."""
        return self._publisher.rejected

    @property
    def revision(self) -> str:
        """Of the newest ack: a read with it sees everything that was acknowledged."""
        return self._publisher.revision

    def put(self, signal: Signal) -> None:
        """Accept a signal; waits while too many are pending."""
        self._loop.run(self._publisher.put(signal))

    def put_all(self, signals: Iterable[Signal]) -> None:
        """Accept signals, in order. They are taken from the iterable in the client's thread."""
        self._loop.run(self._publisher.put_all(signals))

    def flush(self, timeout_s: float | None = None) -> None:
        """Return when everything that was put before is acknowledged."""
        self._loop.run(self._publisher.flush(timeout_s))


@contextmanager
def connect_sync(
    address: str | None = None,
    *,
    token: Token | None = None,
    tls: TLS | None = None,
    timeout_s: float = UNARY_TIMEOUT_S,
    patience_s: float = PATIENCE_S,
    transport: str = "grpc",
) -> Iterator[SyncClient]:
    """As `connect`, for code without an event loop."""
    loop = Loop()
    try:
        connecting = connect(
            address, token=token, tls=tls, timeout_s=timeout_s, patience_s=patience_s, transport=transport
        )
        client = loop.run(_entered(connecting))
        try:
            yield SyncClient(loop, client)
        finally:
            loop.run(_left(connecting))
    finally:
        loop.close()


async def _entered(connecting: Any) -> Client:  # noqa: ANN401 - what asynccontextmanager makes
    client: Client = await connecting.__aenter__()
    return client


async def _left(connecting: Any) -> None:  # noqa: ANN401 - what asynccontextmanager makes
    await connecting.__aexit__(None, None, None)


async def _end_all() -> None:
    """Cancel what still runs, such as an iteration that nobody finished."""
    tasks = asyncio.all_tasks() - {asyncio.current_task()}
    for task in tasks:
        task.cancel()
    if tasks:
        await asyncio.wait(tasks)
    await asyncio.get_running_loop().shutdown_asyncgens()

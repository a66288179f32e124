"""Doorbells over one pub/sub channel.

It loses what is rung while a connection is lost, without a sign. So whenever it begins to hear again it tells its
listeners News(tenant, 0, 0) for each tenant that was rung or heard of before: anything may have happened to it.
"""

from __future__ import annotations

import asyncio
import logging
import random
import secrets
from typing import TYPE_CHECKING, Any, Final, Self

import msgspec
from redis.exceptions import TimeoutError as RedisTimeoutError

from coherence_grpc.adapters.redis.link import Tally, answering
from coherence_grpc.errors import CoherenceError
from coherence_grpc.ports import News

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from redis.asyncio.client import PubSub

    from coherence_grpc.adapters.redis.link import Link

# Tenants with news that nobody was told yet; what comes on top is let go.
PENDING: Final = 10_000
# Tenants remembered, the latest, for when it hears again.
KNOWN: Final = 10_000
BATCH: Final = 500
# A channel silent for so long is asked whether it is still there, and has as long to answer.
QUIET_S: Final = 2.0
FIRST_PAUSE_S: Final = 0.05
LONGEST_PAUSE_S: Final = 2.0

_log = logging.getLogger(__name__)


class _Message(msgspec.Struct, array_like=True):
    """News of one process, which need not hear its own."""

    sender: str
    news: list[News]


_decoder: Final = msgspec.json.Decoder(_Message)


class RedisDoorbell:
    """An async context manager that tells and listens while it is open.

    What is rung while a message is on its way is told together in the next one, once per tenant.
    """

    def __init__(self, link: Link, prefix: str) -> None:
        self._link = link
        self._channel = f"{prefix}news"
        self._sender = secrets.token_hex(8)
        self._listeners: list[Callable[[News], None]] = []
        # By tenant, and by whether entries and a version are named.
        self._pending: dict[tuple[str, bool, bool], News] = {}
        self._known: dict[str, None] = {}
        self._rung = asyncio.Event()
        self._hearing = False
        self._deaf = False
        self._tasks: list[asyncio.Task[None]] = []
        self.tally = Tally()

    @property
    def hearing(self) -> bool:
        """What other processes ring is heard here."""
        return self._hearing

    async def __aenter__(self) -> Self:
        self._tasks = [
            asyncio.create_task(self._tell_others(), name="doorbell-telling"),
            asyncio.create_task(self._hear_others(), name="doorbell-hearing"),
        ]
        return self

    async def __aexit__(self, *_: object) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.wait(self._tasks)

    def ring(self, news: News) -> None:
        """Listeners of this process have heard it when this returns; others hear soon, or never."""
        self._tell(news)
        name = (news.tenant_id, news.to_seq > 0, news.version > 0)
        there = self._pending.get(name)
        if there is not None:
            first, last = min(there.from_seq, news.from_seq), max(there.to_seq, news.to_seq)
            news = News(news.tenant_id, first, last, max(there.version, news.version))
        elif len(self._pending) >= PENDING:
            self.tally.misses += 1
            return
        self._pending[name] = news
        self._rung.set()

    def listen(self, on_news: Callable[[News], None]) -> None:
        """`on_news` is called with what is rung or heard from here on."""
        self._listeners.append(on_news)

    async def _tell_others(self) -> None:
        while True:
            await self._rung.wait()
            self._rung.clear()
            while self._pending:
                await self._publish(list(self._take()))

    def _take(self) -> Iterator[News]:
        for name in list(self._pending)[:BATCH]:
            yield self._pending.pop(name)

    async def _publish(self, batch: list[News]) -> None:
        message = msgspec.json.encode(_Message(self._sender, batch))
        try:
            async with self._link.call() as ask:
                await ask("PUBLISH", self._channel, message)
            self.tally.hits += len(batch)
        except CoherenceError:
            self.tally.errors += 1
            self.tally.misses += len(batch)

    async def _hear_others(self) -> None:
        pause_s = FIRST_PAUSE_S
        while True:
            try:
                with answering():
                    await self._hear()
            except CoherenceError as error:
                self.tally.errors += 1
                self._lost(error.message)
            pause_s = FIRST_PAUSE_S if self._hearing else min(2 * pause_s, LONGEST_PAUSE_S)
            self._hearing = False
            # Processes that lost it together don't come back together.
            await asyncio.sleep(pause_s * random.uniform(0.5, 1))  # noqa: S311 - spreads load, keeps no secret

    async def _hear(self) -> None:
        """Listen until the connection is lost."""
        async with self._link.client.pubsub() as channel:
            async with asyncio.timeout(self._link.call_s):
                await channel.subscribe(self._channel)
            while True:
                await self._take_in(await _next(channel, self._link.call_s))

    async def _take_in(self, message: dict[str, Any]) -> None:  # as the driver has it
        if message["type"] == "subscribe":
            await self._hears_again()
        elif message["type"] == "message":
            try:
                heard = _decoder.decode(message["data"])
            except msgspec.MsgspecError:
                self.tally.errors += 1
                return
            if heard.sender != self._sender:
                self.tally.heard += len(heard.news)
                for news in heard.news:
                    self._tell(news)

    def _lost(self, reason: str) -> None:
        if not self._deaf:
            fields = {"reason": reason}
            _log.warning("what other processes store is not heard of, only found by asking", extra={"fields": fields})
        self._deaf = True

    async def _hears_again(self) -> None:
        if self._deaf:
            _log.info("what other processes store is heard of again")
        self._hearing, self._deaf = True, False
        for count, tenant_id in enumerate(list(self._known)):
            self._tell(News(tenant_id, 0, 0))
            if count % BATCH == 0:
                await asyncio.sleep(0)

    def _tell(self, news: News) -> None:
        self._known.pop(news.tenant_id, None)
        self._known[news.tenant_id] = None
        if len(self._known) > KNOWN:
            del self._known[next(iter(self._known))]
        for listener in self._listeners:
            try:
                listener(news)
            except Exception:  # noqa: BLE001 - logged; neither who rings nor the others fail for one who listens
                _log.exception("a listener of the doorbell failed")


async def _next(channel: PubSub, call_s: float) -> dict[str, Any]:
    """What comes next; a lost connection often gives no other sign than silence."""
    message = await _within(QUIET_S, channel, call_s)
    if message is None:
        async with asyncio.timeout(call_s):
            await channel.ping()
        message = await _within(QUIET_S, channel, call_s)
    if message is None:
        raise RedisTimeoutError
    return message


async def _within(seconds: float, channel: PubSub, call_s: float) -> dict[str, Any] | None:
    # The driver's limit is on what it reads, and it may connect anew before.
    async with asyncio.timeout(seconds + call_s):
        message: dict[str, Any] | None = await channel.get_message(timeout=seconds)
        return message
